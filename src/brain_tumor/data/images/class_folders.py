"""Published images in class folders, read as grey levels whatever their format."""

import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, Field

from brain_tumor.data.common.file_kinds import TO_IMAGE, explain
from brain_tumor.data.common.files import file_state, list_files, list_folders

logger = logging.getLogger(__name__)

CANT_BE_READ = "can't be read"

ORIENTATION = 0x0112
"""Number of the EXIF tag."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Value of that tag > transformation that makes the image upright."""

COLOURED = 20
"""Difference between the channels of a coloured pixel, of 255 levels: JPEG gives grey pixels up to 19."""

MAX_COLOURED = 0.1
"""Largest fraction of coloured pixels in an MRI slice.

Up to 0.05 in 7,023 published images, of arrows and labels drawn into them.
"""

NOTED_COLOURED = 0.01
"""Fraction of coloured pixels from which colour is noted."""

REMEDY = "give the folder that holds both with `--params classification_source=PATH`"


class NotFiniteError(ValueError):
    """An image of numbers some of which are none."""


class ImageSet(BaseModel, frozen=True, extra="forbid"):
    """A data set of images in folders: `{training or testing}/{class}/{file}`.

    Attributes:
        classes: names of the folders, in the order of their labels 0, 1, ...
        training: name of the training folder.
        testing: name of the test folder.
        healthy: the class without tumour; None if there is none.
    """

    name: str
    classes: tuple[str, ...] = Field(min_length=2)
    training: str = "Training"
    testing: str = "Testing"
    healthy: str | None = None


@dataclass(frozen=True)
class ImageFile:
    """One file where an image is expected.

    Attributes:
        path: of the file.
        folder: name of the training or the testing folder.
        kind: its class, or the folder in whose place a class is expected.
        problem: reason of exclusion; empty without one.
    """

    path: Path
    folder: str
    kind: str
    problem: str = ""

    @property
    def state(self) -> str:
        """State of the file, another one when it has changed."""
        return file_state(self.path)


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        grey: levels from 0 to 255.
        mode: Pillow's name of the file's pixel format.
        format: Pillow's name of the file's real format.
        frames: number of frames, of which this is the first.
        coloured: fraction of coloured pixels.
    """

    grey: UInt8[np.ndarray, "h w"]
    mode: str
    format: str
    frames: int = 1
    coloured: float = 0.0


def find_images(source: Path, data_set: ImageSet) -> list[ImageFile]:
    """All files in class folders, training first, in the order of their names; those of unknown classes have a problem.

    Raises:
        FileNotFoundError: if the source or one of its two folders isn't there.
        ValueError: if a class has no file in one of them.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a folder; {REMEDY}")
    folders = _find_folders(source, (data_set.training, data_set.testing))
    found = [image for name, folder in folders.items() for image in _in_folder(folder, name, data_set)]
    for folder in (data_set.training, data_set.testing):
        absent = set(data_set.classes) - {image.kind for image in found if image.folder == folder}
        if absent:
            there = sorted({image.kind for image in found if image.folder == folder and image.kind})
            raise ValueError(
                f"{source} has no image of {', '.join(sorted(absent))} in {folder}, where the folders are "
                f"{', '.join(there) or 'none'}; "
                "every class needs images in both folders: "
                f"{REMEDY}, or name its folders under `data_classification.data_set.classes`"
            )
    return found


def _find_folders(source: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """The folders of these names that lie side by side, nearest to the top."""
    # Anywhere below the source: archives often hold everything in one more folder.
    matches: dict[str, list[Path]] = {name: [] for name in names}
    for path in list_folders(source):
        for name in names:
            if path.name.casefold() == name.casefold():
                matches[name].append(path)
    missing = [name for name, paths in matches.items() if not paths]
    if missing:
        raise FileNotFoundError(f"{source} has no folder {' and no folder '.join(missing)}; {REMEDY}")
    parents = set.intersection(*({path.parent for path in paths} for paths in matches.values()))
    if not parents:
        apart = " and ".join(f"{name} in {paths[0].parent}" for name, paths in matches.items())
        raise FileNotFoundError(f"{apart} don't lie side by side, so they may be of two data sets; {REMEDY}")
    depth = min(len(parent.parts) for parent in parents)
    nearest = sorted(parent for parent in parents if len(parent.parts) == depth)
    chosen = {name: [path for path in paths if path.parent == nearest[0]] for name, paths in matches.items()}
    twice = nearest if len(nearest) > 1 else next((paths for paths in chosen.values() if len(paths) > 1), None)
    if twice:
        raise ValueError(f"{source} holds two data sets, {twice[0]} and {twice[1]}; {REMEDY}")
    unused = sorted({path.parent for paths in matches.values() for path in paths} - {nearest[0]})
    if unused:
        logger.warning(
            "images are taken from %s; %s, which holds folders of the same names, is not used", nearest[0], unused[0]
        )
    return {name: paths[0] for name, paths in chosen.items()}


def _in_folder(folder: Path, name: str, data_set: ImageSet) -> Iterator[ImageFile]:
    for path in list_files(folder):
        kind = path.relative_to(folder).parts[0] if path.parent != folder else ""
        yield ImageFile(path, name, kind, "" if kind in data_set.classes else _unknown(kind, data_set))


def _unknown(kind: str, data_set: ImageSet) -> str:
    if not kind:
        return f"lies in no class folder; move it into one of {', '.join(data_set.classes)}"
    close = get_close_matches(kind, data_set.classes, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return (
        f"'{kind}' is not a class; {hint}rename the folder, or declare the class under "
        "`data_classification.data_set.classes`"
    )


def read_image(path: Path) -> Picture:
    """The grey levels of an image.

    Colours become grey as in JPEG (0.299 R + 0.587 G + 0.114 B), transparent parts black; images of more than 8 bits
    are stretched from their darkest to their brightest pixel. It is turned as the file says that it should be shown.

    Raises:
        ValueError: if it can't be read, with the remedy.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{CANT_BE_READ} ({error.strerror}); see that you may read it") from error
    if not content:
        raise ValueError("the file is empty (0 bytes); fetch it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                mode, kind, frames = image.mode, image.format or "", getattr(image, "n_frames", 1)
                return Picture(_to_grey(_turn(image)), mode, kind, frames, _measure_colour(content))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller") from error
    except NotFiniteError as error:
        raise ValueError(f"{error}; replace them by 0 and export the image again") from error
    except UnidentifiedImageError as error:
        what = explain(path, TO_IMAGE)
        raise ValueError(
            f"not an image: it {what}" if what else "not an image in any known format; remove it or fetch it again"
        ) from error
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"damaged image ({error}); fetch the file again") from error


def _turn(image: Image.Image) -> Image.Image:
    """The image, rotated and flipped as its EXIF orientation says."""
    # Not by `ImageOps.exif_transpose`, which writes the EXIF anew and fails on entries that don't matter here.
    if image.format == "PNG":
        # Its EXIF may stand after the pixels, which getexif decodes then: their damage isn't one of the EXIF.
        image.load()
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:
        # Any error, because Pillow refuses odd EXIF in many ways. The pixels are whole without it.
        orientation = 1
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _measure_colour(content: bytes) -> float:
    """Fraction of pixels whose channels differ, in a reduced image of about 128 pixels a side."""
    # Decoded once more, because the grey levels of a JPEG are read without its colours.
    with Image.open(io.BytesIO(content)) as image:
        if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I"):
            return 0.0
        image.draft("RGB", (128, 128))
        small = image.convert("RGBA" if image.mode in ("P", "PA") else "RGB").convert("RGB")
    # Nearest neighbours, so that colours aren't averaged away.
    small.thumbnail((128, 128), Image.Resampling.NEAREST)
    difference = np.ptp(np.asarray(small, np.int16), axis=-1)
    return float((difference > COLOURED).mean())


def _to_grey(image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    transparent = "transparency" in image.info
    if image.mode in ("L", "RGB") and not transparent:
        # A JPEG holds its grey levels apart from its colours.
        image.draft("L", image.size)
        return np.asarray(image if image.mode == "L" else image.convert("L"))
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise NotFiniteError("it holds NaN or infinity")
        low, high = values.min(), values.max()
        return np.rint((values - low) * (255 / ((high - low) or 1))).astype(np.uint8)
    if transparent or image.mode in ("P", "PA", "LA", "RGBA", "RGBa"):
        visible = image.convert("RGBA")
        black = Image.new("RGBA", visible.size, "black")
        return np.asarray(Image.alpha_composite(black, visible).convert("L"))
    return np.asarray(image.convert("RGB").convert("L"))
