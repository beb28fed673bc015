"""Shape features of a tumour mask in physical units: volumes, ratios, surface, shape, extent, location."""

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
"""Smallest volume of a connected component that counts. Single voxels come and go when a mask is resampled."""

SMOOTHING_MM = 1.5
"""Standard deviation of the Gaussian that smooths a border before its surface is measured.

Finer voxels show more roughness. After smoothing, surfaces of masks of 1 mm and of 1.9 mm agree within 1.2 %
(4 to 11 % without).
"""


@dataclass(frozen=True)
class Feature:
    """One column of the table of features; features of one `group` are shown together."""

    name: str
    unit: str
    formula: str
    group: str


def _shape_features(region: str) -> list[Feature]:
    surface = f"border of {region} smoothed by {SMOOTHING_MM} mm, by Crofton's formula"
    sphericity = f"π^(1/3) (6 volume)^(2/3) / surface, of smoothed {region}"
    components = f"connected components of {region} of {MIN_COMPONENT_ML} ml or more"
    return [
        Feature(f"{region}_surface_cm2", "cm²", surface, "shape"),
        Feature(f"{region}_sphericity", "1", sphericity, "shape"),
        Feature(f"{region}_components", "1", components, "shape"),
    ]


def _volume_feature(region: str) -> Feature:
    return Feature(f"{region}_ml", "ml", f"voxels of {region} x volume of a voxel / 1000", "volume")


FEATURES = (
    *map(_volume_feature, MEASURED),
    Feature("ED_of_WT", "1", "ED_ml / WT_ml", "ratio"),
    Feature("ET_of_WT", "1", "ET_ml / WT_ml", "ratio"),
    Feature("ET_of_TC", "1", "ET_ml / TC_ml", "ratio"),
    *_shape_features("TC"),
    *_shape_features("WT"),
    Feature("WT_left_right_mm", "mm", "extent of the components of WT from left to right", "extent"),
    Feature("WT_front_back_mm", "mm", "extent of the components of WT from front to back", "extent"),
    Feature("WT_feet_head_mm", "mm", "extent of the components of WT from feet to head", "extent"),
    Feature("centre_mm", "mm", "from the centroid of WT to that of the brain", "place"),
    Feature("midline_mm", "mm", "from the centroid of WT to the midsagittal plane", "place"),
)


def measure_tumour(
    labels: UInt8[np.ndarray, "h w d"],
    affine: Float[np.ndarray, "4 4"],
    brain_centre: Float[np.ndarray, " 3"] | None,
    targets: Mapping[str, Sequence[int]],
) -> dict[str, float]:
    """FEATURES of one patient; NaN where a feature is undefined or unknown.

    Without tumour, volumes, surfaces, components and extents are 0.

    Args:
        labels: axes to the patient's left, back and head; 0 is background.
        affine: from voxel indices to millimetres, x to the right, y forward, z up.
        brain_centre: centroid of the brain in those millimetres; its x is that of the midsagittal plane. None: unknown.
        targets: NCR, ED, ET, TC and WT > their labels.
    """
    if not labels.any():
        return {feature.name: _without_tumour(feature) for feature in FEATURES}
    # Only the bounding box is measured: a tumour fills a few percent of the volume.
    tumour = (labels > 0).astype(np.uint8)
    box = scipy.ndimage.find_objects(tumour)[0]
    spacing = voxel_sizes(affine)
    inside = {name: np.isin(labels[box], parts) for name, parts in targets.items()}
    result = {f"{name}_ml": _volume_ml(inside[name], spacing) for name in MEASURED}
    for part, whole in (("ED", "WT"), ("ET", "WT"), ("ET", "TC")):
        part_ml, whole_ml = result[f"{part}_ml"], result[f"{whole}_ml"]
        result[f"{part}_of_{whole}"] = part_ml / whole_ml if whole_ml else np.nan
    for region in ("TC", "WT"):
        result |= _measure_surface(region, inside[region], spacing)
        result[f"{region}_components"], components = find_components(inside[region], spacing)
    # WT was last: extents are those of its components, without specks that would stretch them.
    result |= _measure_extents(components, spacing)
    start = [side.start for side in box]
    return result | _place(inside["WT"], start, affine, brain_centre)


def _measure_surface(
    region: str,
    inside: Bool[np.ndarray, "h w d"],
    spacing: np.ndarray,
) -> dict[str, float]:
    smooth = smooth_border(inside, spacing)
    # From mm² to cm².
    area = surface_area(smooth, spacing) / 100
    # Volume and surface of the same smoothed region: a sphere then has sphericity 1 at every voxel size.
    volume = _volume_ml(smooth, spacing)
    # Surface of a sphere of that volume.
    sphere = pi ** (1 / 3) * (6 * volume) ** (2 / 3)
    sphericity = sphere / area if area else np.nan
    return {f"{region}_surface_cm2": area, f"{region}_sphericity": sphericity}


def _measure_extents(
    components: Bool[np.ndarray, "h w d"],
    spacing: np.ndarray,
) -> dict[str, float]:
    # Each direction with the two axes across it.
    directions = {"left_right": (1, 2), "front_back": (0, 2), "feet_head": (0, 1)}
    result = {}
    for (direction, across), step in zip(directions.items(), spacing, strict=True):
        occupied = np.flatnonzero(components.any(across))
        voxels = np.ptp(occupied) + 1
        result[f"WT_{direction}_mm"] = float(voxels * step)
    return result


def _without_tumour(feature: Feature) -> float:
    undefined = feature.group in ("ratio", "place") or feature.name.endswith("sphericity")
    return np.nan if undefined else 0.0


def require_targets(targets: Mapping[str, Sequence[int]]) -> None:
    """Refuse a data set without the tissues and regions of FEATURES.

    Raises:
        ValueError: naming those that are missing.
    """
    missing = [name for name in MEASURED if name not in targets]
    if missing:
        raise ValueError(
            "survival is modelled on the tissues and regions of BraTS, but the data set declares no "
            f"{', '.join(missing)}; declare them under `data_segmentation.data_set`, or don't run survival"
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
    # Indices in the whole volume: the mask was cut to its bounding box.
    indices = np.array(np.nonzero(inside)).mean(1) + start
    away = apply_affine(affine, indices) - brain_centre
    return {
        "centre_mm": float(np.linalg.norm(away)),
        "midline_mm": float(abs(away[0])),
    }


def find_components(
    inside: Bool[np.ndarray, "h w d"],
    spacing: Sequence[float] | np.ndarray,
) -> tuple[float, Bool[np.ndarray, "h w d"]]:
    """Number and mask of the connected components of at least MIN_COMPONENT_ML; the mask of all if there is none."""
    labelled, volumes = label_components(inside, float(prod(spacing)) / 1000)
    large = volumes >= MIN_COMPONENT_ML
    mask = large[labelled] if large.any() else inside
    return float(large.sum()), mask


def smooth_border(
    inside: Bool[np.ndarray, "h w d"],
    spacing: Sequence[float] | np.ndarray,
) -> Bool[np.ndarray, "i j k"]:
    """Mask of a region with its border smoothed by SMOOTHING_MM, padded by three standard deviations."""
    deviation = SMOOTHING_MM / np.asarray(spacing)
    reach = np.ceil(3 * deviation).astype(int)
    margin = [(width, width) for width in reach]
    padded = np.pad(inside, margin).astype(np.float32)
    smooth = scipy.ndimage.gaussian_filter(padded, deviation, truncate=3)
    # Where more than half of the neighbourhood is inside.
    return smooth > 0.5


def surface_area(inside: Bool[np.ndarray, "h w d"], spacing: Sequence[float] | np.ndarray) -> float:
    """Square millimetres of the border of a region, by Crofton's formula.

    Parallel lines cross a surface in proportion to its area and to the cosine of its angle; over all directions the
    angle averages out. Voxel faces, and meshes around them, overestimate slanted surfaces.

    Source: Legland, Kiêu & Devaux 2007, Image Analysis & Stereology 26:83-92.
    """
    spacing = tuple(float(step) for step in spacing)
    directions = _directions(spacing)
    # Every line must start and end outside of the region.
    reach = max(max(map(abs, offset)) for offset, _ in directions)
    padded = np.pad(inside, reach)
    total = 0.0
    for offset, weight in directions:
        # Two views of the array, shifted against each other: a line crosses the surface wherever they differ.
        start = _shifted(padded, [-step for step in offset])
        end = _shifted(padded, offset)
        crossings = np.count_nonzero(start != end)
        length = np.linalg.norm(np.multiply(offset, spacing))
        total += weight * crossings / length
    return float(2 * total * prod(spacing))


def _shifted(array: np.ndarray, offset: Sequence[int]) -> np.ndarray:
    """The part of an array that remains when it is shifted by an offset and cut to the overlap."""
    part = []
    for step, side in zip(offset, array.shape, strict=True):
        start = max(step, 0)
        stop = side - max(-step, 0)
        part.append(slice(start, stop))
    return array[tuple(part)]


@lru_cache
def _directions(spacing: tuple[float, ...]) -> list[tuple[tuple[int, ...], float]]:
    """Offsets from a voxel to its neighbours, each with the fraction of all directions that are nearest to it.

    13 for cubic voxels. For anisotropic voxels, offsets along the short sides reach as far as the longest side.
    """
    longest = max(spacing)
    steps = [round(longest / step) for step in spacing]
    reach = [range(-step, step + 1) for step in steps]
    # One offset of each opposite pair, and none that is a multiple of another.
    half = [offset for offset in product(*reach) if offset > (0, 0, 0)]
    offsets = [offset for offset in half if gcd(*offset) == 1]
    vectors = np.multiply(offsets, spacing)
    lengths = np.linalg.norm(vectors, axis=1)
    # The diagonal of a cube as wide as the longest side, and one percent for rounding.
    near = lengths < 1.01 * 3**0.5 * longest
    offsets = [offset for offset, kept in zip(offsets, near, strict=True) if kept]
    unit = vectors[near] / lengths[near, None]
    # A line has no sign: an offset and its opposite are one direction.
    cosines = np.abs(_sphere(20_000) @ unit.T)
    nearest = cosines.argmax(1)
    shares = np.bincount(nearest, minlength=len(offsets)) / len(nearest)
    return [(offset, float(share)) for offset, share in zip(offsets, shares, strict=True) if share]


def _sphere(count: int) -> Float[np.ndarray, "n 3"]:
    """Points spread evenly over the unit sphere, along a golden-angle spiral."""
    # Even steps of height cut the sphere into bands of equal area.
    height = 1 - (2 * np.arange(count) + 1) / count
    turn = np.arange(count) * pi * (3 - 5**0.5)
    width = np.sqrt(1 - height**2)
    x = width * np.cos(turn)
    y = width * np.sin(turn)
    return np.stack([x, y, height], axis=1)
