"""The index of images: a row for each file, with its properties or the reason of exclusion (schema `ImageIndex`)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.images.borders import ImagePreparation, cut, find_box
from brain_tumor.data.images.class_folders import MAX_COLOURED, NOTED_COLOURED, ImageFile, Picture, read_image
from brain_tumor.data.images.duplicates import VIEW, perceptual_hash

INSPECTION = 4
"""Version of the inspection. Raise it when the same file would be described otherwise, to invalidate cached results."""

USUAL_SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "TIFF": (".tif", ".tiff")}


def inspect_images(images: Sequence[ImageFile], source: Path) -> tuple[pd.DataFrame, UInt8[np.ndarray, "n s s"]]:
    """Rows of the index, and each cropped image at VIEW pixels for the search of near-duplicates; black if excluded."""
    inspected = [_inspect(image, source) for image in images]
    rows, views = zip(*inspected, strict=True)
    return pd.DataFrame(rows), np.stack(views)


def _start_row(image: ImageFile, source: Path) -> dict:
    """A row of what is known before the file is opened."""
    return {
        "file": str(image.path.relative_to(source)),
        "folder": image.folder,
        "class": image.kind,
        "width": 0,
        "height": 0,
        "mode": "",
        "format": "",
        "hash": "",
        "perceptual_hash": "",
        **dict.fromkeys(BoundingBox._fields, 0),
        "note": "",
        "excluded": image.problem,
    }


def _inspect(image: ImageFile, source: Path) -> tuple[dict, UInt8[np.ndarray, "s s"]]:
    row = _start_row(image, source)
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
    if picture.coloured > MAX_COLOURED:
        share = f"{picture.coloured:.0%}"
        reason = f"{share} of its pixels have colour: no MRI slice; remove it, or export the slice in grey"
        return row | {"excluded": reason}, view
    box = find_box(picture.grey)
    view = cut(picture.grey, box, VIEW)
    # Of the cropped image: margins differ between copies.
    row["perceptual_hash"] = f"{perceptual_hash(view):016x}"
    row |= (box or BoundingBox(0, height, 0, width))._asdict()
    row["note"] = _note(image.path, picture, box)
    return row, view


def cut_images(rows: pd.DataFrame, source: Path, preparation: ImagePreparation) -> UInt8[np.ndarray, "n s s"]:
    """Prepared images of some rows of the index: grey, cropped, in one size."""
    boxes = rows[list(BoundingBox._fields)].to_numpy()
    images = []
    for file, sides in zip(rows["file"], boxes, strict=True):
        grey = read_image(source / file).grey
        box = BoundingBox(*map(int, sides))
        images.append(cut(grey, box, preparation.image_size, preparation.fit))
    return np.stack(images)


def pixel_hash(grey: UInt8[np.ndarray, "h w"]) -> str:
    """Hash of the decoded pixels, equal for identical images in different files."""
    # With the shape: black images of two shapes may have the same bytes.
    content = grey.tobytes() + str(grey.shape).encode()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _note(path: Path, picture: Picture, box: BoundingBox | None) -> str:
    notes = []
    suffix = path.suffix.lower()
    # Of other formats no suffix is unusual.
    if suffix not in USUAL_SUFFIXES.get(picture.format, (suffix,)):
        notes.append(f"{picture.format} named {path.suffix}")
    if picture.frames > 1:
        notes.append(f"the first of {picture.frames} frames")
    if picture.coloured > NOTED_COLOURED:
        notes.append(f"{picture.coloured:.0%} of its pixels have colour")
    if box is None:
        notes.append("too dark to find borders: kept whole")
    return "; ".join(notes)
