"""Saliency by region of a head image (inside, rim of skull and scalp, outside), and whether it lies on the tumour."""

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8

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
    regions: UInt8[np.ndarray, "s s"],
    uniform: Float[np.ndarray, "s s"],
) -> dict[str, float]:
    """Fraction of the saliency in each region, and as `{region}_uniform` that of a uniform map; NaN for an empty map.

    Args:
        regions: of `find_regions`.
        uniform: saliency of a network whose features are the same at every pixel. Not constant, because a map may not
            reach the edge of the image.
    """
    shares = dict(zip(REGIONS, _share(saliency, regions), strict=True))
    baseline = zip(REGIONS, _share(uniform, regions), strict=True)
    return shares | {f"{region}_uniform": value for region, value in baseline}


def _share(saliency: Float[np.ndarray, "s s"], regions: UInt8[np.ndarray, "s s"]) -> list[float]:
    total = float(saliency.sum())
    values = saliency.ravel().astype(np.float64)
    sums = np.bincount(regions.ravel(), values, len(REGIONS))
    shares = sums / (total if total > 0 else np.nan)
    return shares.tolist()


CENTRE = 0.25
"""Standard deviation of the centre map as a fraction of the image's side."""

ON_TUMOUR = ("tumour", "tumour_uniform", "tumour_centre", "pointing", "pointing_centre", "auc", "auc_centre")
"""Columns of `compare_with_tumour`."""


def compare_with_tumour(
    saliency: Float[np.ndarray, "s s"],
    regions: UInt8[np.ndarray, "s s"],
    tumour: UInt8[np.ndarray, "s s"],
    uniform: Float[np.ndarray, "s s"],
) -> dict[str, float]:
    """Whether the saliency lies on the tumour, beside a uniform map and a map of the head's centre.

    Args:
        tumour: mask of the tumour; all 0 where it is not known.
        regions: as for `share_regions`.
        uniform: as for `share_regions`.

    Returns:
        Fraction of the map on the tumour (`tumour`), whether its maximum is (`pointing`, the pointing game of Zhang et
        al. 2016, arXiv:1608.00507, without tolerance), and how well it ranks the tumour's pixels above those of the
        rest of the head (`auc`, area under the ROC curve; 0.5 for a uniform map). NaN for an empty map, and where the
        tumour is not known.
    """
    from sklearn.metrics import roc_auc_score  # slow to import

    inside = tumour > 0
    head = (regions > 0) | inside
    # An area needs pixels of both kinds.
    if not inside.any() or inside[head].all() or not saliency.any():
        return dict.fromkeys(ON_TUMOUR, np.nan)
    centre = _centre_map(head)
    return {
        "tumour": float(saliency[inside].sum() / saliency.sum()),
        "tumour_uniform": float(uniform[inside].sum() / uniform.sum()),
        "tumour_centre": float(centre[inside].sum() / centre.sum()),
        "pointing": float(inside.ravel()[saliency.argmax()]),
        "pointing_centre": float(inside.ravel()[centre.argmax()]),
        "auc": float(roc_auc_score(inside[head], saliency[head])),
        "auc_centre": float(roc_auc_score(inside[head], centre[head])),
    }


def _centre_map(head: Bool[np.ndarray, "s s"]) -> Float[np.ndarray, "s s"]:
    """A Gaussian around the centroid of the head: what a map is worth that ignores the image."""
    rows, columns = np.nonzero(head)
    down, across = np.indices(head.shape)
    squared = (down - rows.mean()) ** 2 + (across - columns.mean()) ** 2
    return np.exp(-squared / (2 * (CENTRE * len(head)) ** 2))


def mean_on_tumour(saliency: pd.DataFrame) -> pd.DataFrame:
    """Weighted means of `compare_with_tumour`, by class and whether the image is classified correctly.

    Args:
        saliency: rows `class`, `predicted`, `weight`, and the columns of `compare_with_tumour`.

    Returns: rows `class` ("all" too), `correct`, `images`, and ON_TUMOUR.
    """
    known = saliency.dropna(subset="tumour")
    known = known.assign(correct=known["class"] == known["predicted"])
    parts = [known.assign(**{"class": "all"}), known]
    rows = []
    for (name, correct), part in pd.concat(parts).groupby(["class", "correct"], sort=False):
        means = {column: float(np.average(part[column], weights=part["weight"])) for column in ON_TUMOUR}
        rows.append({"class": name, "correct": correct, "images": len(part), **means})
    return pd.DataFrame(rows, columns=["class", "correct", "images", *ON_TUMOUR])


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
