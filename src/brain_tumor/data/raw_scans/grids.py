"""Volumes on other grids: voxels are read through the affine of each, whatever its orientation, spacing or shear."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import scipy  # its parts are imported when used
from jaxtyping import Float, Num
from nibabel.affines import apply_affine, voxel_sizes

Matrix = Float[np.ndarray, "4 4"]
"""From one space in millimetres (right, anterior, superior) to another, or from voxels to millimetres."""


def resample(
    voxels: Num[np.ndarray, "h w d"],
    affine: Matrix,
    shape: Sequence[int],
    grid: Matrix,
    transform: Matrix | None = None,
    *,
    order: int = 1,
    fill: float = 0.0,
) -> Float[np.ndarray, "x y z"]:
    """A volume on another grid. Outside of the volume it is `fill`.

    Args:
        affine: from the voxels of the volume to millimetres.
        shape: voxels of the grid.
        grid: from the voxels of the grid to millimetres.
        transform: from millimetres of the grid to millimetres of the volume; None: they are the same.
        order: of the spline; 0 is the nearest voxel, 1 linear.
    """
    to_volume = np.eye(4) if transform is None else transform
    index = np.linalg.inv(affine) @ to_volume @ grid
    smoothed = _smooth(voxels.astype(np.float32), index) if order else voxels.astype(np.float32)
    # A slab of a single slice has no neighbour to interpolate with.
    mode = "grid-constant" if order else "constant"
    return scipy.ndimage.affine_transform(
        smoothed, index[:3, :3], index[:3, 3], tuple(shape), np.float32, order, mode, fill, prefilter=order > 1
    )


def _smooth(voxels: np.ndarray, index: Matrix) -> np.ndarray:
    """Against aliasing: an axis whose voxels are finer than the grid's is blurred to the grid's resolution."""
    # Voxels of the volume that a step of the grid spans along each of its axes, at most.
    steps = np.abs(index[:3, :3]).max(1)
    for axis, step in enumerate(steps):
        if step > 1.5:
            # Full width at half maximum of the step, as of a voxel of that size.
            sigma = np.sqrt(step**2 - 1) / 2.355
            voxels = scipy.ndimage.gaussian_filter1d(voxels, sigma, axis)
    return voxels


def enclose(shape: Sequence[int], affine: Matrix, spacing: float, margin: float = 0.0) -> tuple[list[int], Matrix]:
    """Shape and affine of the smallest grid along right, anterior, superior that holds a volume.

    Args:
        spacing: of the grid, millimetres.
        margin: millimetres around the volume.
    """
    ends = [(-0.5, side - 0.5) for side in shape]
    corners = apply_affine(affine, list(product(*ends)))
    low, high = corners.min(0) - margin, corners.max(0) + margin
    sides = np.ceil((high - low) / spacing).astype(int)
    grid = np.diag([spacing, spacing, spacing, 1.0])
    # Of the centre of the first voxel.
    grid[:3, 3] = low + spacing / 2
    return sides.tolist(), grid


def measure_ml(voxels: np.ndarray, affine: Matrix) -> float:
    """Millilitres of the voxels that aren't 0."""
    return float(np.count_nonzero(voxels) * np.prod(voxel_sizes(affine)) / 1000)
