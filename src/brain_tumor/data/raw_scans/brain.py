"""Where the brain is: extracted from a scan with skull, or seen on a scan without one.

Source: Fisch et al. 2024, Computers in Biology and Medicine 179:108845, 10.1016/j.compbiomed.2024.108845 (deepbet).
"""

import warnings

import nibabel as nib
import numpy as np
import scipy  # its parts are imported when used
from jaxtyping import Bool, Num

from brain_tumor.data.raw_scans.atlas import AFFINE, FARTHEST_MM, centre_of, is_on_grid, load_brain
from brain_tumor.data.raw_scans.extra import require_extra
from brain_tumor.data.raw_scans.grids import Matrix, enclose, measure_ml
from brain_tumor.data.raw_scans.registration import Box
from brain_tumor.data.scans.plausibility import MOST_BRAIN

BRAIN_ML = (900.0, 1900.0)
"""Brains of adults have this volume."""

LEAST_ML = BRAIN_ML[0] / 3
"""What has less is no brain: a small child's has more."""

MOST_STRIPPED_ML = 2200.0
"""A scan in which more than this differs from the background still shows the skull: a head has 3,000 and more."""

LEAST_STRUCTURE = 0.02
"""Of what is taken for a brain: T1 and T1ce of BraTS have 0.06 and more, bottles with noise and shading 0.01."""

PREPARED, STRIPPED, SKULL = "prepared", "stripped", "skull"
"""What a scan needs: nothing; registration; brain extraction too."""


def find_state(voxels: Num[np.ndarray, "h w d"], affine: Matrix) -> str:
    """PREPARED, STRIPPED or SKULL, by the voxels that differ from the background.

    Args:
        voxels: turned to L, P, S.
    """
    shown = find_foreground(voxels)
    if shown.mean() > MOST_BRAIN or measure_ml(shown, affine) > MOST_STRIPPED_ML:
        return SKULL
    if is_on_grid(voxels.shape, affine):
        _, grid = enclose(voxels.shape, AFFINE, 1.0)
        far = np.linalg.norm(centre_of(shown, AFFINE) - centre_of(load_brain(), grid))
        if far <= FARTHEST_MM:
            return PREPARED
    return STRIPPED


def find_foreground(voxels: Num[np.ndarray, "h w d"]) -> Bool[np.ndarray, "h w d"]:
    """Where a volume differs from its background, which is the most frequent value of its outer planes."""
    planes = [np.take(voxels, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    values, counts = np.unique(np.concatenate(planes), return_counts=True)
    return voxels != values[counts.argmax()]


def take_foreground(voxels: Num[np.ndarray, "h w d"]) -> Bool[np.ndarray, "h w d"]:
    """The brain of a scan without skull: its foreground without holes, such as ventricles of 0."""
    return scipy.ndimage.binary_fill_holes(find_foreground(voxels))


def extract_brain(head: Box) -> Bool[np.ndarray, "x y z"]:
    """The brain in a volume with skull, by deepbet.

    Raises:
        ImportError: if deepbet isn't installed.
        ValueError: if no brain is found.
    """
    deepbet = require_extra("deepbet")
    image = nib.Nifti1Image(head.voxels, head.grid)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of the way in which the weights are stored
            _, mask, _ = deepbet.BrainExtraction(no_gpu=True).run(image)
        brain = np.asarray(mask.dataobj) > 0
    except (AssertionError, ValueError, IndexError) as error:  # what deepbet ends in where it marks nothing
        raise ValueError(_explain_none(0.0)) from error
    brain = _largest(brain)
    volume = measure_ml(brain, head.grid)
    if volume < LEAST_ML:
        raise ValueError(_explain_none(volume))
    if measure_structure(head.voxels, brain) < LEAST_STRUCTURE:
        raise ValueError("no brain is found: one intensity throughout, as a phantom has; give a scan of a head")
    return brain


def measure_structure(voxels: Num[np.ndarray, "x y z"], brain: Bool[np.ndarray, "x y z"]) -> float:
    """How much the inner brain varies between 1.5 and 8 mm, against its median: neither noise nor shading counts.

    Args:
        voxels: of 1 mm, of which every second is looked at.
    """
    own = brain[::2, ::2, ::2]
    inner = scipy.ndimage.binary_erosion(own, iterations=3)
    if not inner.any():
        return 0.0
    shown, weight = voxels[::2, ::2, ::2].astype(np.float32) * own, own.astype(np.float32)

    def smooth(mm: float) -> np.ndarray:
        # Of the brain alone: what lies around it would be smeared into it.
        weights = np.maximum(scipy.ndimage.gaussian_filter(weight, mm / 2), 1e-3)
        return scipy.ndimage.gaussian_filter(shown, mm / 2) / weights

    difference = (smooth(1.5) - smooth(8.0))[inner]
    return float(difference.std() / max(float(np.median(shown[inner])), 1e-6))


def _explain_none(volume: float) -> str:
    return (
        f"no brain is found ({volume:.0f} ml): another part of the body, a phantom, or a field of view that cuts it; "
        "give a scan of the whole head"
    )


def _largest(mask: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    labels, count = scipy.ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    return labels == 1 + sizes[1:].argmax()
