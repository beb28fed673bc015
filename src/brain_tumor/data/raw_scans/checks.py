"""Numbers that show whether a raw scan was prepared well, and what looks wrong."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool
from nibabel.affines import apply_affine

from brain_tumor.data.raw_scans.atlas import AFFINE, load_brain
from brain_tumor.data.raw_scans.brain import BRAIN_ML
from brain_tumor.data.raw_scans.grids import Matrix

FARTHEST_TURN, FARTHEST_SHIFT = 30.0, 60.0
"""Degrees and millimetres between two modalities of one visit, at most."""

LEAST_OVERLAP = 0.85
"""Dice of a brain with that of the atlas, at least."""

MOST_CUT = 0.02
"""Fraction of the brain that a modality's field of view may leave out."""


def measure_turn(matrix: Matrix) -> float:
    """Degrees of a map's rotation."""
    left, _, right = np.linalg.svd(matrix[:3, :3])
    cosine = (np.trace(left @ right) - 1) / 2
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


def measure_shift(matrix: Matrix, centre: np.ndarray) -> float:
    """Millimetres by which a map moves a point."""
    return float(np.linalg.norm(apply_affine(matrix, centre) - centre))


def measure_overlap(brain: Bool[np.ndarray, "h w d"]) -> float:
    """Dice of a brain on the grid of BraTS with that of the atlas."""
    # The atlas lies on the same voxels along right, anterior, superior.
    atlas = load_brain()[::-1, ::-1]
    both = np.count_nonzero(brain & atlas)
    total = int(np.count_nonzero(brain)) + int(np.count_nonzero(atlas))
    return 2 * int(both) / max(1, total)


def measure_cut(brain: Bool[np.ndarray, "h w d"], shape: tuple[int, ...], affine: Matrix, transform: Matrix) -> float:
    """Fraction of the brain outside of a modality's field of view.

    Args:
        shape: of the modality.
        affine: of the modality, from voxels to millimetres.
        transform: from the position of BraTS to the modality, in millimetres.
    """
    places = np.argwhere(brain)
    if not len(places):
        return 0.0
    index = apply_affine(np.linalg.inv(affine) @ transform @ AFFINE, places)
    inside = ((index >= -1) & (index <= np.array(shape))).all(1)
    return float(1 - inside.mean())


def find_warnings(
    brain_ml: float, overlap: float, cut: Mapping[str, float], moves: Mapping[str, tuple[float, float]]
) -> list[str]:
    """What looks wrong.

    Args:
        cut: modality > fraction of the brain that it doesn't show.
        moves: modality > degrees and millimetres by which it was moved onto the reference.
    """
    found = []
    low, high = BRAIN_ML
    if not low <= brain_ml <= high:
        found.append(f"the brain has {brain_ml:.0f} ml, those of adults {low:.0f} to {high:.0f}: look at its outline")
    if overlap < LEAST_OVERLAP:
        found.append(f"the brain overlaps that of the atlas by a Dice of {overlap:.2f} only: look at its position")
    for modality, fraction in cut.items():
        if fraction > MOST_CUT:
            found.append(f"{modality} doesn't show {fraction:.0%} of the brain: its field of view cuts it")
    for modality, (turn, shift) in moves.items():
        if turn > FARTHEST_TURN or shift > FARTHEST_SHIFT:
            found.append(f"{modality} was turned by {turn:.0f} degrees and moved by {shift:.0f} mm: look at it")
    return found
