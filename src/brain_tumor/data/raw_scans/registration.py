"""Registration of brains by mutual information, with SimpleITK; the same result on every run.

Source: Mattes et al. 2003, IEEE TMI 22(1), 10.1109/TMI.2003.809072.
"""

from dataclasses import dataclass
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float
from nibabel.affines import apply_affine

from brain_tumor.data.raw_scans.extra import require_extra
from brain_tumor.data.raw_scans.grids import Matrix

BINS = 32
"""Of the histogram that mutual information is measured in."""

LEVELS = ((4.0, 60), (2.0, 40), (1.0, 20))
"""Spacing in millimetres, steps at most; from coarse to fine."""

SAMPLES = 80_000
"""Voxels that a step looks at."""

TURNS = 20.0
"""Degrees about each axis that the search starts from, beside 0."""

STARTS = 3
"""Best of the starts that are tried out."""

SMALLEST_STEP = 0.005
"""Millimetres by which voxels move in the last step."""


@dataclass(frozen=True)
class Box:
    """A volume on a grid along right, anterior, superior.

    Attributes:
        grid: from its voxels to millimetres; no rotation.
    """

    voxels: Float[np.ndarray, "x y z"]
    grid: Matrix

    @property
    def spacing(self) -> list[float]:
        """Millimetres."""
        return np.diag(self.grid)[:3].tolist()

    @property
    def centre(self) -> Float[np.ndarray, " 3"]:
        """Centre of its intensities above the background, in millimetres."""
        weights = np.clip(self.voxels - np.quantile(self.voxels, 0.5), 0, None)
        total = weights.sum()
        if total == 0:
            return apply_affine(self.grid, np.array(self.voxels.shape) / 2)
        # A bright vessel must not outweigh the brain.
        weights = np.minimum(weights, np.quantile(weights[weights > 0], 0.9))
        places = [np.average(np.arange(side), weights=_sum_others(weights, axis)) for axis, side in _sides(weights)]
        return apply_affine(self.grid, places)


def _sides(voxels: np.ndarray) -> list[tuple[int, int]]:
    return list(enumerate(voxels.shape))


def _sum_others(voxels: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(other for other in range(voxels.ndim) if other != axis)
    return voxels.sum(others)


@dataclass(frozen=True)
class Registration:
    """How one volume lies on another.

    Attributes:
        matrix: from millimetres of the fixed volume to those of the moving one.
        before: mutual information of the two as their headers lay them, in nats.
        after: mutual information with the matrix.
    """

    matrix: Matrix
    before: float
    after: float


def register(fixed: Box, moving: Box, *, affine: bool = False) -> Registration:
    """Find the rotation and shift, with `affine` scale and shear too, that give the most mutual information.

    Args:
        fixed: at 1 mm, as is `moving`.

    Raises:
        ImportError: if SimpleITK isn't installed.
        ValueError: if the volumes have nothing in common.
    """
    sitk = require_extra("SimpleITK")
    # Sums of several threads differ in their last digits from run to run; volumes are registered side by side anyway.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    pyramid = [(_image(sitk, fixed, spacing), _image(sitk, moving, spacing), steps) for spacing, steps in LEVELS]
    coarse = pyramid[0]
    try:
        transform = _start(sitk, fixed, moving, coarse)
        for images in pyramid[1:]:
            transform = _optimise(sitk, transform, images)
        if affine:
            transform = _widen(sitk, transform)
            for images in pyramid:
                transform = _optimise(sitk, transform, images)
    except RuntimeError as error:  # ITK has no other kind
        raise ValueError(f"registration failed: {_last_line(error)}") from error
    matrix = _matrix(transform)
    judged = pyramid[1]
    before = _measure(sitk, sitk.Euler3DTransform(), judged)
    after = _measure(sitk, transform, judged)
    return Registration(matrix, before, after)


def _image(sitk: ModuleType, box: Box, spacing: float) -> Any:
    """The volume as SimpleITK has it, at this spacing, with our axes: none is turned for ITK's own convention."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(box.voxels.transpose(2, 1, 0)))
    image.SetSpacing(box.spacing)
    image.SetOrigin(box.grid[:3, 3].tolist())
    factors = [max(1, round(spacing / own)) for own in box.spacing]
    if max(factors) == 1:
        return image
    smoothed = sitk.SmoothingRecursiveGaussian(image, [0.5 * spacing] * 3)
    return sitk.Shrink(smoothed, factors)


def _start(sitk: ModuleType, fixed: Box, moving: Box, images: tuple[Any, Any, Any]) -> Any:
    """The best of several starts: positions by the headers and by the centres, each turned about each axis."""
    centre = fixed.centre
    between = moving.centre - centre
    angles = np.deg2rad([0.0, TURNS, -TURNS])
    turns = [turn for turn in product(angles, repeat=3) if np.count_nonzero(turn) <= 1]
    starts = []
    for shift, turn in product((np.zeros(3), between), turns):
        start = sitk.Euler3DTransform(centre.tolist(), *map(float, turn), shift.tolist())
        starts.append((_measure(sitk, start, images), start))
    starts.sort(key=lambda pair: -pair[0])
    tried = [_optimise(sitk, start, images) for _, start in starts[:STARTS]]
    return max(tried, key=lambda transform: _measure(sitk, transform, images))


def _method(sitk: ModuleType, fraction: float = 1.0) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetInterpolator(sitk.sitkLinear)
    if fraction < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(fraction, 1)
    return method


def _optimise(sitk: ModuleType, start: Any, images: tuple[Any, Any, Any]) -> Any:
    """The transform with the most mutual information from this start on."""
    fixed, moving, steps = images
    spacing = max(fixed.GetSpacing())
    method = _method(sitk, SAMPLES / fixed.GetNumberOfPixels())
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=spacing, minStep=SMALLEST_STEP * spacing, numberOfIterations=steps, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    transform = start.__class__(start)
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    return transform


def _measure(sitk: ModuleType, transform: Any, images: tuple[Any, Any, Any]) -> float:
    """Mutual information of all voxels; 0 where the volumes don't meet."""
    fixed, moving, _ = images
    method = _method(sitk)
    method.SetInitialTransform(transform)
    try:
        return -float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:
        return 0.0


def _widen(sitk: ModuleType, rigid: Any) -> Any:
    """A rotation and shift as an affine map."""
    affine = sitk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    return affine


def _matrix(transform: Any) -> Matrix:
    linear = np.array(transform.GetMatrix()).reshape(3, 3)
    centre, shift = np.array(transform.GetCenter()), np.array(transform.GetTranslation())
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + shift - linear @ centre
    return matrix


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1].rpartition(": ")[2]
