"""Tumour features from a mask, in physical units: volume, ratios, surface, shape, extent, position.

docs/survival.md explains the choices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import gcd, pi, prod

import numpy as np
import scipy  # its parts are imported when used
from jaxtyping import Bool, Float, UInt8
from nibabel.affines import apply_affine, voxel_sizes

from brain_tumor.data.scans.components import label_components

MEASURED = ("NCR", "ED", "ET", "TC", "WT")
"""Tissues and regions of BraTS that features are computed from."""

MIN_COMPONENT_ML = 0.1
"""Smallest connected component that is counted and that extents include.

Single voxels come and go when a mask is resampled, and networks predict some far away.
"""

SMOOTHING_MM = 1.5
"""Standard deviation of the Gaussian that smooths a border before its surface is measured.

Finer voxels show more roughness, and more of the annotator's hand. With smoothing, masks of 1 mm and of 1.9 mm agree
within 1.2 % (4 to 11 % without).
"""


@dataclass(frozen=True)
class Feature:
    """One column of the table of features.

    Attributes:
        group: features that are shown together.
    """

    name: str
    unit: str
    formula: str
    group: str


def _shape_of(region: str) -> tuple[Feature, Feature, Feature]:
    surface = f"border of {region} smoothed by {SMOOTHING_MM} mm, by Crofton's formula"
    sphericity = f"π^(1/3) (6 volume)^(2/3) / surface, of smoothed {region}"
    pieces = f"connected pieces of {region} of {MIN_COMPONENT_ML} ml or more"
    return (
        Feature(f"{region}_surface_cm2", "cm²", surface, "shape"),
        Feature(f"{region}_sphericity", "1", sphericity, "shape"),
        Feature(f"{region}_pieces", "1", pieces, "shape"),
    )


FEATURES = (
    *(Feature(f"{region}_ml", "ml", f"voxels of {region} x volume of a voxel / 1000", "volume") for region in MEASURED),
    Feature("ED_of_WT", "1", "ED_ml / WT_ml", "ratio"),
    Feature("ET_of_WT", "1", "ET_ml / WT_ml", "ratio"),
    Feature("ET_of_TC", "1", "ET_ml / TC_ml", "ratio"),
    *_shape_of("TC"),
    *_shape_of("WT"),
    Feature("WT_left_right_mm", "mm", "extent of the pieces of WT from left to right", "extent"),
    Feature("WT_front_back_mm", "mm", "extent of the pieces of WT from front to back", "extent"),
    Feature("WT_feet_head_mm", "mm", "extent of the pieces of WT from feet to head", "extent"),
    Feature("centre_mm", "mm", "from the centre of WT to that of the brain", "place"),
    Feature("midline_mm", "mm", "from the centre of WT to the plane between the hemispheres", "place"),
)


def measure_tumour(
    labels: UInt8[np.ndarray, "h w d"],
    affine: Float[np.ndarray, "4 4"],
    brain_centre: Float[np.ndarray, " 3"] | None,
    targets: Mapping[str, Sequence[int]],
) -> dict[str, float]:
    """FEATURES of one patient; NaN where one is undefined or unknown.

    Without tumour, volumes, surfaces, components and extents are 0.

    Args:
        labels: axes to the patient's left, back and head; 0 is background.
        affine: from indices to millimetres, x to the right, y forward, z up.
        brain_centre: in those millimetres; its x is the midline's. None if unknown.
        targets: NCR, ED, ET, TC and WT > their labels.
    """
    if not labels.any():
        return {feature.name: _without_tumour(feature) for feature in FEATURES}
    # Cropped to the tumour, which is a small part of the volume.
    box = scipy.ndimage.find_objects((labels > 0).astype(np.uint8))[0]
    spacing = voxel_sizes(affine)
    inside = {name: np.isin(labels[box], parts) for name, parts in targets.items()}
    result = {f"{name}_ml": _volume_ml(inside[name], spacing) for name in MEASURED}
    for part, whole in (("ED", "WT"), ("ET", "WT"), ("ET", "TC")):
        part_ml, whole_ml = result[f"{part}_ml"], result[f"{whole}_ml"]
        result[f"{part}_of_{whole}"] = part_ml / whole_ml if whole_ml else np.nan
    for region in ("TC", "WT"):
        smooth = smooth_border(inside[region], spacing)
        area = surface_area(smooth, spacing) / 100
        result[f"{region}_surface_cm2"] = area
        # Volume and surface of the same smoothed region, else sphericity could pass 1.
        sphere = pi ** (1 / 3) * (6 * _volume_ml(smooth, spacing)) ** (2 / 3)
        result[f"{region}_sphericity"] = sphere / area if area else np.nan
        result[f"{region}_pieces"], counted = find_components(inside[region], spacing)
    # WT was the last region.
    sides = [np.ptp(np.flatnonzero(counted.any(across))) + 1 for across in ((1, 2), (0, 2), (0, 1))]
    directions = ("left_right", "front_back", "feet_head")
    result |= {f"WT_{name}_mm": float(extent) for name, extent in zip(directions, sides * spacing, strict=True)}
    return result | _place(inside["WT"], [part.start for part in box], affine, brain_centre)


def _without_tumour(feature: Feature) -> float:
    undefined = feature.group in ("ratio", "place") or feature.name.endswith("sphericity")
    return np.nan if undefined else 0.0


def require_targets(targets: Mapping[str, Sequence[int]]) -> None:
    """Refuse a data set without the tissues and regions of FEATURES.

    Raises:
        ValueError: naming what it lacks.
    """
    missing = [name for name in MEASURED if name not in targets]
    if missing:
        raise ValueError(
            "survival is modelled on the tissues and regions of BraTS, but the data set declares no "
            f"{', '.join(missing)}; declare them under "
            "`data_segmentation.data_set`, or leave survival out"
        )


def _volume_ml(inside: Bool[np.ndarray, "h w d"], spacing: np.ndarray) -> float:
    return float(np.count_nonzero(inside) * prod(spacing) / 1000)


def _place(
    inside: np.ndarray,
    start: list[int],
    affine: np.ndarray,
    brain_centre: np.ndarray | None,
) -> dict[str, float]:
    if brain_centre is None:
        return {"centre_mm": np.nan, "midline_mm": np.nan}
    centre = np.array(np.nonzero(inside)).mean(1) + start
    away = apply_affine(affine, centre) - brain_centre
    return {"centre_mm": float(np.linalg.norm(away)), "midline_mm": float(abs(away[0]))}


def find_components(
    inside: Bool[np.ndarray, "h w d"], spacing: Sequence[float] | np.ndarray
) -> tuple[float, Bool[np.ndarray, "h w d"]]:
    """Number of connected components of at least MIN_COMPONENT_ML, and their mask; the whole region if none has."""
    labelled, volumes = label_components(inside, float(prod(spacing)) / 1000)
    large = volumes >= MIN_COMPONENT_ML
    return float(large.sum()), large[labelled] if large.any() else inside


def smooth_border(
    inside: Bool[np.ndarray, "h w d"], spacing: Sequence[float] | np.ndarray
) -> Bool[np.ndarray, "i j k"]:
    """A region with its border smoothed by SMOOTHING_MM, in a padded array."""
    deviation = SMOOTHING_MM / np.asarray(spacing)
    # Padded by the reach of the filter: the region touches the sides of its box.
    margins = [(width, width) for width in np.ceil(3 * deviation).astype(int)]
    padded = np.pad(inside, margins).astype(np.float32)
    return scipy.ndimage.gaussian_filter(padded, deviation, truncate=3) > 0.5


def surface_area(inside: Bool[np.ndarray, "h w d"], spacing: Sequence[float] | np.ndarray) -> float:
    """Surface area of a region in square millimetres, by Crofton's formula.

    The number of crossings of a surface with parallel lines depends on its area and angle; averaged over all directions
    the angle drops out. Unlike the faces of voxels, or a mesh around them, this doesn't overestimate slanted surfaces.

    Source: Legland, Kiêu & Devaux 2007, Image Analysis & Stereology 26:83-92.
    """
    spacing = tuple(float(step) for step in spacing)
    reach = max(max(map(abs, offset)) for offset, _ in _directions(spacing))
    padded = np.pad(inside, reach)
    total = 0.0
    for offset, weight in _directions(spacing):
        first, second = [], []
        for step, side in zip(offset, padded.shape, strict=True):
            first.append(slice(max(-step, 0), side - max(step, 0)))
            second.append(slice(max(step, 0), side - max(-step, 0)))
        # A line crosses the border between two voxels of which one is inside.
        crossings = np.count_nonzero(padded[tuple(first)] != padded[tuple(second)])
        total += weight * crossings / np.linalg.norm(np.multiply(offset, spacing))
    return float(2 * total * prod(spacing))


@lru_cache
def _directions(spacing: tuple[float, ...]) -> list[tuple[tuple[int, ...], float]]:
    """Offsets from a voxel to its neighbours, with the fraction of all directions nearest to each; 13 for cubic voxels.

    For anisotropic voxels, offsets reach as far along each axis as the longest side.
    """
    longest = max(spacing)
    reach = [range(-round(longest / step), round(longest / step) + 1) for step in spacing]
    offsets = [offset for offset in product(*reach) if offset > (0, 0, 0) and gcd(*offset) == 1]
    lengths = np.linalg.norm(np.multiply(offsets, spacing), axis=1)
    # No longer than the diagonal of a cube; 1.01 allows for rounding.
    near = lengths < 1.01 * 3**0.5 * longest
    offsets = [offset for offset, kept in zip(offsets, near, strict=True) if kept]
    unit = np.multiply(offsets, spacing) / lengths[near, None]
    nearest = np.abs(_sphere(20_000) @ unit.T).argmax(1)
    shares = np.bincount(nearest, minlength=len(offsets)) / len(nearest)
    return [(offset, float(share)) for offset, share in zip(offsets, shares, strict=True) if share]


def _sphere(count: int) -> Float[np.ndarray, "n 3"]:
    """Evenly spread points on the unit sphere, along a spiral."""
    height = 1 - (2 * np.arange(count) + 1) / count
    # The golden angle, which repeats no direction.
    turn = np.arange(count) * pi * (3 - 5**0.5)
    width = np.sqrt(1 - height**2)
    return np.stack([width * np.cos(turn), width * np.sin(turn), height], axis=1)
