"""Index of images: one row for each file, with its content or why it is excluded; `ImageIndex` is its schema."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.images.borders import ImagePreparation, cut, find_box
from brain_tumor.data.images.class_folders import MOST_COLOURED, SOME_COLOURED, ImageFile, Picture, read_image
from brain_tumor.data.images.duplicates import VIEW, perceptual_hash

INSPECTION = 4
"""Raised when the same files would be described in another way.

What is remembered of older inspections is then not used.
"""

USUAL_SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "TIFF": (".tif", ".tiff")}


def inspect_images(images: Sequence[ImageFile], source: Path) -> tuple[pd.DataFrame, UInt8[np.ndarray, "n s s"]]:
    """Rows of the index, and each image without its borders as it is compared with others (black if it is left out)."""
    rows, views = zip(*(_inspect(image, source) for image in images), strict=True)
    return pd.DataFrame(rows), np.stack(views)


def _inspect(image: ImageFile, source: Path) -> tuple[dict, UInt8[np.ndarray, "s s"]]:
    row = {
        "file": str(image.path.relative_to(source)),
        "folder": image.folder,
        "class": image.kind,
        "width": 0,
        "height": 0,
        "mode": "",
        "format": "",
    }
    row |= {
        "hash": "",
        "perceptual_hash": "",
        **dict.fromkeys(BoundingBox._fields, 0),
        "note": "",
        "excluded": image.problem,
    }
    view = np.zeros((VIEW, VIEW), np.uint8)
    if image.problem:
        return row, view
    try:
        picture = read_image(image.path)
    except ValueError as error:
        return row | {"excluded": str(error)}, view
    height, width = picture.grey.shape
    row |= {
        "width": width,
        "height": height,
        "mode": picture.mode,
        "format": picture.format,
        "hash": pixel_hash(picture.grey),
    }
    if picture.grey.min() == picture.grey.max():
        return row | {"excluded": "every pixel has the same value; remove the file or fetch it again"}, view
    if picture.coloured > MOST_COLOURED:
        return row | {
            "excluded": (
                f"{picture.coloured:.0%} of its pixels have colour: no MRI slice; remove it, or export the "
                "slice in grey"
            )
        }, view
    box = find_box(picture.grey)
    view = cut(picture.grey, box, VIEW)
    whole = BoundingBox(0, height, 0, width)
    row |= {
        "perceptual_hash": f"{perceptual_hash(view):016x}",
        **(box or whole)._asdict(),
        "note": _note(image.path, picture, box),
    }
    return row, view


def cut_images(rows: pd.DataFrame, source: Path, preparation: ImagePreparation) -> UInt8[np.ndarray, "n s s"]:
    """Images of some rows of the index, in grey, without their borders, in one size."""
    boxes = [BoundingBox(*map(int, box)) for box in rows[list(BoundingBox._fields)].to_numpy()]
    images = [
        cut(read_image(source / file).grey, box, preparation.image_size, preparation.fit)
        for file, box in zip(rows["file"], boxes, strict=True)
    ]
    return np.stack(images)


def pixel_hash(grey: UInt8[np.ndarray, "h w"]) -> str:
    """Digest of the decoded pixels: equal for identical images, whatever their files."""
    return hashlib.blake2b(grey.tobytes() + str(grey.shape).encode(), digest_size=16).hexdigest()


def _note(path: Path, picture: Picture, box: BoundingBox | None) -> str:
    notes = []
    if path.suffix.lower() not in USUAL_SUFFIXES.get(picture.format, (path.suffix.lower(),)):
        notes.append(f"{picture.format} named {path.suffix}")
    if picture.frames > 1:
        notes.append(f"the first of {picture.frames} frames")
    if picture.coloured > SOME_COLOURED:
        notes.append(f"{picture.coloured:.0%} of its pixels have colour")
    if box is None:
        notes.append("too dark to find borders: kept whole")
    return "; ".join(notes)
