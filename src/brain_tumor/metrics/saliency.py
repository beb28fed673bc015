"""Where in an image of a head a network looks: inside, at the rim that skull and scalp make, or outside."""

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

REGIONS = ("outside", "rim", "inside")

DARKEST = 12
"""Grey levels that anatomy has at least."""

RIM = 0.07
"""Thickness of the rim as a share of the image's side."""


def find_regions(image: UInt8[np.ndarray, "s s"]) -> UInt8[np.ndarray, "s s"]:
    """Number in REGIONS of each place: outside the head, within a few millimetres of its outline, or deeper."""
    outlines = cv2.findContours(
        (cv2.GaussianBlur(image, (5, 5), 0) > DARKEST).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )[0]
    head = cv2.drawContours(np.zeros(image.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
    depth = cv2.distanceTransform(np.pad(head, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return head + (depth > RIM * len(image)).astype(np.uint8)


def share_regions(
    heat: Float[np.ndarray, "s s"], image: UInt8[np.ndarray, "s s"], flat: Float[np.ndarray, "s s"]
) -> dict[str, float]:
    """Share of the heat in each region, NaN where there is no heat, and as `{region}_flat` that of a map which knows nothing.

    Args:
        flat: heat of a network to which all places say the same; not even, because a map may not reach the edge of the
            image.
    """
    regions = find_regions(image)
    shares, known_nothing = (_share(values, regions) for values in (heat, flat))
    return dict(zip(REGIONS, shares, strict=True)) | {
        f"{name}_flat": value for name, value in zip(REGIONS, known_nothing, strict=True)
    }


def _share(heat: Float[np.ndarray, "s s"], regions: UInt8[np.ndarray, "s s"]) -> list[float]:
    total = float(heat.sum())
    return (
        np.bincount(regions.ravel(), heat.ravel().astype(np.float64), len(REGIONS)) / (total if total > 0 else np.nan)
    ).tolist()


def mean_shares(looks: pd.DataFrame) -> pd.DataFrame:
    """Mean share of the heat in each region, and of the flat map's, of each class: a row for each, its name the index.

    Args:
        looks: rows `class`, what `share_regions` gives, and `weight`, how many images one stands for.
    """
    columns = [*REGIONS, *(f"{region}_flat" for region in REGIONS)]
    sums, weights = (
        table.mul(looks["weight"], axis=0).groupby(looks["class"], sort=False).sum()
        for table in (looks[columns], looks[columns].notna())
    )
    return sums / weights
