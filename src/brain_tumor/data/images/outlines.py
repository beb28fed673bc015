"""Hand-drawn outlines of tumours, published for the images of the Brain Tumor MRI Dataset that are slices of figshare.

`published/README.md` describes them. They measure whether a classifier's saliency lies on the tumour, and are
masks for segmentation (`brain_tumor.data.outlined_slices`).
"""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.images.borders import ImagePreparation, cut
from brain_tumor.data.images.patients import find_table, locate

PICTURE = 512
"""Side in pixels of the pictures that outlines were drawn on."""

Outline = Float[np.ndarray, "p 2"]
"""Corners of a polygon: x and y as fractions of the picture's width and height."""


def find_outlines(index: pd.DataFrame) -> dict[str, Outline]:
    """File > outline of its tumour, for images of a published data set; mirrored where the image is.

    Args:
        index: rows `file`, `folder`.
    """
    path = find_table(None, index)
    if path is None:
        return {}
    table = pd.read_csv(path, dtype={"file": str})
    outlines = read_outlines(path)
    file_of = pd.Series(index["file"].to_numpy(), locate(index))
    found = {}
    for row in table[table["file"].isin(file_of.index)].itertuples():
        corners = read_outline(outlines[row.figshare_image])
        if row.mirrored:
            corners[:, 0] = 1 - corners[:, 0]
        found[file_of[row.file]] = corners
    return found


def read_outlines(table: Path) -> pd.Series:
    """The outlines that belong to a published table, as text, by the number of figshare's slice."""
    return pd.read_csv(table.with_name(f"{table.stem}_outlines.csv.gz")).set_index("figshare_image")["outline"]


def read_outline(text: str) -> Outline:
    """The corners, from `x y x y ...` in pixels of the published picture."""
    return np.array(text.split(), float).reshape(-1, 2) / PICTURE


def draw_tumour(
    outline: Outline, width: int, height: int, box: BoundingBox, preparation: ImagePreparation
) -> UInt8[np.ndarray, "s s"]:
    """Mask of the tumour (0 or 1) on the prepared image.

    Args:
        width: of the image as published.
        height: of the same.
        box: what is kept of it.
    """
    mask = np.zeros((height, width), np.uint8)
    corners = np.rint(outline * (width, height)).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255)
    prepared = cut(mask, box, preparation.image_size, preparation.fit)
    # Resizing blurs the edge: a pixel is tumour if half of it is.
    return (prepared > 127).astype(np.uint8)
