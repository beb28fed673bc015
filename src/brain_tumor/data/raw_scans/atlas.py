"""The position of scans in BraTS, and an atlas that lies there."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes

from brain_tumor.data.raw_scans.grids import Matrix, enclose, resample
from brain_tumor.data.raw_scans.registration import Box
from brain_tumor.data.scans.nifti_volumes import read_volume

SHAPE = (240, 240, 155)
"""Voxels of a scan of BraTS, to the left, the back and the head."""

AFFINE: Matrix = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
"""From its voxels, which have 1 mm, to millimetres: as in the files of BraTS 2018 to 2023."""

TO_ICBM: Matrix = np.array(
    [
        [1.108, 0, 0, 131.327],
        [0, 1.041, 0.215, -145.955],
        [0, -0.217, 1.124, -50.323],
        [0, 0, 0, 1],
    ]
)
"""From the position of BraTS to that of the ICBM152 template, in millimetres.

Mean of the affine registrations of three patients of BraTS to it; the mirror axis of BraTS, 118.5 mm to the
left, lies on the template's.
"""

FARTHEST_MM = 15.0
"""Distance of a brain's centre from that of the atlas up to which a scan lies in the position of BraTS."""


@lru_cache(maxsize=1)
def load_atlas(file: str | None = None) -> Box:
    """A brain in the position of BraTS at 1 mm, without its skull.

    Args:
        file: NIfTI file of an atlas that lies in the position of BraTS, such as SRI24; None: the ICBM152 template of
            nilearn, moved there.

    Raises:
        ValueError: if the file can't be read, or its brain lies elsewhere.
    """
    shape, grid = enclose(SHAPE, AFFINE, 1.0)
    if file is None:
        from nilearn.datasets import load_mni152_template

        template = load_mni152_template(resolution=1)
        voxels = np.asarray(template.dataobj, dtype=np.float32)
        return Box(resample(voxels, template.affine, shape, grid, TO_ICBM), grid)
    voxels, affine = read_volume(Path(file).expanduser())
    atlas = Box(resample(voxels, affine, shape, grid), grid)
    far = float(np.linalg.norm(centre_of(atlas.voxels > 0, grid) - centre_of(load_brain(), grid)))
    if not far <= FARTHEST_MM:
        raise ValueError(
            f"the brain of {Path(file).name} lies {far:.0f} mm from its place in BraTS; give SRI24 as BraTS lays it "
            "(240 x 240 x 155 voxels, without skull) under `data_raw_scans.atlas`, or null"
        )
    return atlas


@lru_cache(maxsize=1)
def load_brain() -> np.ndarray:
    """Where the brain of the ICBM152 template lies on the grid of `load_atlas`."""
    shape, grid = enclose(SHAPE, AFFINE, 1.0)
    from nilearn.datasets import load_mni152_template

    template = load_mni152_template(resolution=1)
    brain = (np.asarray(template.dataobj) > 0).astype(np.float32)
    return resample(brain, template.affine, shape, grid, TO_ICBM) >= 0.5


def centre_of(mask: np.ndarray, affine: Matrix) -> np.ndarray:
    """Centre of mass of a mask in millimetres; NaN of an empty one."""
    places = np.argwhere(mask)
    return apply_affine(affine, places.mean(0)) if len(places) else np.full(3, np.nan)


def is_on_grid(shape: tuple[int, ...], affine: Matrix) -> bool:
    """Whether a volume, turned to L, P, S, has the voxels of BraTS; where its header lays them doesn't matter."""
    return tuple(shape) == SHAPE and bool(np.allclose(voxel_sizes(affine), 1.0, atol=0.01))
