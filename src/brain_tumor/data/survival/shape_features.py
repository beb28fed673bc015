"""What a mask says of a tumour, in physical units.

Volumes, ratios, surface, shape, extent, place. docs/survival.md explains the choices.
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
"""Tissues and regions of BraTS that features are made of."""

MIN_COMPONENT_ML = 0.1
"""Pieces of a region below this volume are not counted, and don't make it longer.

Single voxels come and go when a mask is resampled, and networks
find some far away."""

SMOOTHING_MM = 1.5
"""Deviation of the Gaussian by which a border is smoothed before its surface is taken.

Finer voxels show more of its roughness, and of the
annotator's hand. Masks of 1 mm and of 1.9 mm then agree within 1.2 % (4 to 11 % without)."""


@dataclass(frozen=True)
class Feature:
    """One column of the table of features. `group`: features that are shown together."""

    name: str
    unit: str
    formula: str
    group: str


FEATURES = (
    *(Feature(f"{region}_ml", "ml", f"voxels of {region} x volume of a voxel / 1000", "volume") for region in MEASURED),
    Feature("ED_of_WT", "1", "ED_ml / WT_ml", "ratio"),
    Feature("ET_of_WT", "1", "ET_ml / WT_ml", "ratio"),
    Feature("ET_of_TC", "1", "ET_ml / TC_ml", "ratio"),
    *(
        feature
        for region in ("TC", "WT")
        for feature in (
            Feature(
                f"{region}_surface_cm2",
                "cm²",
                f"border of {region} smoothed by {SMOOTHING_MM} mm, by Crofton's formula",
                "shape",
            ),
            Feature(f"{region}_sphericity", "1", f"π^(1/3) (6 volume)^(2/3) / surface, of smoothed {region}", "shape"),
            Feature(f"{region}_pieces", "1", f"connected pieces of {region} of {MIN_COMPONENT_ML} ml or more", "shape"),
        )
    ),
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
    """FEATURES of one patient; NaN where one has no meaning or isn't known.

    Without tumour, volumes, surfaces, pieces and extents are 0.

    Args:
        labels: axes to the patient's left, back and head; 0 background.
        affine: from indices to millimetres, x to the right, y forward, z up.
        brain_centre: in those millimetres; its x is the midline's. None if it isn't known.
        targets: NCR, ED, ET, TC and WT > their labels.
    """
    if not labels.any():
        return {
            f.name: np.nan if f.group in ("ratio", "place") or f.name.endswith("sphericity") else 0.0 for f in FEATURES
        }
    box = scipy.ndimage.find_objects((labels > 0).astype(np.uint8))[0]
    spacing = voxel_sizes(affine)
    inside = {name: np.isin(labels[box], parts) for name, parts in targets.items()}
    result = {f"{name}_ml": _volume_ml(inside[name], spacing) for name in MEASURED}
    for part, whole in (("ED", "WT"), ("ET", "WT"), ("ET", "TC")):
        result[f"{part}_of_{whole}"] = result[f"{part}_ml"] / result[f"{whole}_ml"] if result[f"{whole}_ml"] else np.nan
    for region in ("TC", "WT"):
        smooth = smooth_border(inside[region], spacing)
        area = surface_area(smooth, spacing) / 100
        result[f"{region}_surface_cm2"] = area
        result[f"{region}_sphericity"] = (
            pi ** (1 / 3) * (6 * _volume_ml(smooth, spacing)) ** (2 / 3) / area if area else np.nan
        )
        result[f"{region}_pieces"], largest = find_components(inside[region], spacing)
    sides = [np.ptp(np.flatnonzero(largest.any(across))) + 1 for across in ((1, 2), (0, 2), (0, 1))]
    directions = ("left_right", "front_back", "feet_head")
    result |= {f"WT_{name}_mm": float(extent) for name, extent in zip(directions, sides * spacing, strict=True)}
    return result | _place(inside["WT"], [part.start for part in box], affine, brain_centre)


def require_targets(targets: Mapping[str, Sequence[int]]) -> None:
    """Refuse a data set whose tumours can't be described by FEATURES.

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
    inside: np.ndarray, start: list[int], affine: np.ndarray, brain_centre: np.ndarray | None
) -> dict[str, float]:
    if brain_centre is None:
        return {"centre_mm": np.nan, "midline_mm": np.nan}
    away = apply_affine(affine, np.array(np.nonzero(inside)).mean(1) + start) - brain_centre
    return {"centre_mm": float(np.linalg.norm(away)), "midline_mm": float(abs(away[0]))}


def find_components(
    inside: Bool[np.ndarray, "h w d"], spacing: Sequence[float] | np.ndarray
) -> tuple[float, Bool[np.ndarray, "h w d"]]:
    """How many connected pieces have at least MIN_COMPONENT_ML, and where they are; the whole region if none has."""
    labelled, volumes = label_components(inside, float(prod(spacing)) / 1000)
    large = volumes >= MIN_COMPONENT_ML
    return float(large.sum()), large[labelled] if large.any() else inside


def smooth_border(
    inside: Bool[np.ndarray, "h w d"], spacing: Sequence[float] | np.ndarray
) -> Bool[np.ndarray, "i j k"]:
    """A region with its border smoothed over SMOOTHING_MM, in an array with room around it."""
    deviation = SMOOTHING_MM / np.asarray(spacing)
    room = [(width, width) for width in np.ceil(3 * deviation).astype(int)]
    return scipy.ndimage.gaussian_filter(np.pad(inside, room).astype(np.float32), deviation, truncate=3) > 0.5


def surface_area(inside: Bool[np.ndarray, "h w d"], spacing: Sequence[float] | np.ndarray) -> float:
    """Square millimetres of the border of a region, by Crofton's formula.

    A surface is crossed by parallel lines as often as its area and its angle to them say; averaged over all directions
    the angle drops out. Unlike the faces of voxels, or a mesh laid around them, this doesn't make a slanted surface too
    large.

    Source: Legland, Kiêu & Devaux 2007, Image Analysis & Stereology 26:83-92.
    """
    spacing = tuple(float(step) for step in spacing)
    reach = max(max(map(abs, offset)) for offset, _ in _directions(spacing))
    padded = np.pad(inside, reach)
    total = 0.0
    for offset, weight in _directions(spacing):
        here = tuple(slice(max(-step, 0), side - max(step, 0)) for step, side in zip(offset, padded.shape, strict=True))
        there = tuple(
            slice(max(step, 0), side - max(-step, 0)) for step, side in zip(offset, padded.shape, strict=True)
        )
        crossings = np.count_nonzero(padded[here] != padded[there])
        total += weight * crossings / np.linalg.norm(np.multiply(offset, spacing))
    return float(2 * total * prod(spacing))


@lru_cache
def _directions(spacing: tuple[float, ...]) -> list[tuple[tuple[int, ...], float]]:
    """Steps from a voxel to its neighbours, and the share of all directions that are nearest to each.

    13 for cubic voxels.

    Where voxels are long in one direction, the steps across it reach as far as they are long.
    """
    longest = max(spacing)
    reach = [range(-round(longest / step), round(longest / step) + 1) for step in spacing]
    offsets = [offset for offset in product(*reach) if offset > (0, 0, 0) and gcd(*offset) == 1]
    lengths = np.linalg.norm(np.multiply(offsets, spacing), axis=1)
    near = lengths < 1.01 * 3**0.5 * longest
    offsets = [offset for offset, kept in zip(offsets, near, strict=True) if kept]
    unit = np.multiply(offsets, spacing) / lengths[near, None]
    nearest = np.abs(_sphere(20_000) @ unit.T).argmax(1)
    shares = np.bincount(nearest, minlength=len(offsets)) / len(nearest)
    return [(offset, float(share)) for offset, share in zip(offsets, shares, strict=True) if share]


def _sphere(count: int) -> Float[np.ndarray, "n 3"]:
    """Points spread evenly over the unit sphere, along a spiral."""
    height = 1 - (2 * np.arange(count) + 1) / count
    turn = np.arange(count) * pi * (3 - 5**0.5)
    width = np.sqrt(1 - height**2)
    return np.stack([width * np.cos(turn), width * np.sin(turn), height], axis=1)
