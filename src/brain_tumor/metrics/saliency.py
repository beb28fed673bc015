"""Saliency by region of a head image: inside the brain, at the rim of skull and scalp, or outside the head."""

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

REGIONS = ("outside", "rim", "inside")

MAX_BACKGROUND = 12
"""Grey level up to which a pixel is background."""

RIM = 0.07
"""Thickness of the rim as a fraction of the image's side."""


def find_regions(image: UInt8[np.ndarray, "s s"]) -> UInt8[np.ndarray, "s s"]:
    """Index in REGIONS of each pixel: outside the head, within RIM of its outline, or deeper."""
    # Blurred, so that noise in the background makes no outline.
    blurred = cv2.GaussianBlur(image, (5, 5), 0)
    foreground = (blurred > MAX_BACKGROUND).astype(np.uint8)
    outlines, _ = cv2.findContours(foreground, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    # Filled outlines: ventricles and air cells are dark, but inside the head.
    empty = np.zeros(image.shape, np.uint8)
    every_outline = -1
    head = cv2.drawContours(empty, outlines, every_outline, 1, cv2.FILLED)
    # Padded, so that a head that reaches the border of the image has a rim there too.
    padded_depth = cv2.distanceTransform(np.pad(head, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    depth = padded_depth[1:-1, 1:-1]
    deep = (depth > RIM * len(image)).astype(np.uint8)
    # 0 outside, 1 in the rim, 2 inside, as in REGIONS.
    return head + deep


def share_regions(
    saliency: Float[np.ndarray, "s s"],
    image: UInt8[np.ndarray, "s s"],
    uniform: Float[np.ndarray, "s s"],
) -> dict[str, float]:
    """Fraction of the saliency in each region, and as `{region}_uniform` that of a uniform map; NaN for an empty map.

    Args:
        uniform: saliency of a network whose features are the same at every pixel. Not constant, because a map may not
            reach the edge of the image.
    """
    regions = find_regions(image)
    shares = dict(zip(REGIONS, _share(saliency, regions), strict=True))
    baseline = zip(REGIONS, _share(uniform, regions), strict=True)
    return shares | {f"{region}_uniform": value for region, value in baseline}


def _share(saliency: Float[np.ndarray, "s s"], regions: UInt8[np.ndarray, "s s"]) -> list[float]:
    total = float(saliency.sum())
    values = saliency.ravel().astype(np.float64)
    sums = np.bincount(regions.ravel(), values, len(REGIONS))
    shares = sums / (total if total > 0 else np.nan)
    return shares.tolist()


def mean_shares(saliency: pd.DataFrame) -> pd.DataFrame:
    """Weighted mean of the fractions of `share_regions` over the images of each class; the class is the index.

    Args:
        saliency: rows `class`, the columns of `share_regions`, and `weight`: how many test images one stands for.
    """
    uniform = [f"{region}_uniform" for region in REGIONS]
    shares = saliency[[*REGIONS, *uniform]]
    weighted = shares.mul(saliency["weight"], axis=0)
    # Images with an empty map have no share, and don't count.
    weights = shares.notna().mul(saliency["weight"], axis=0)
    sums = weighted.groupby(saliency["class"], sort=False).sum()
    total_weights = weights.groupby(saliency["class"], sort=False).sum()
    return sums / total_weights
