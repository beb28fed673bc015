"""Prepared slices of a patient as a worse scan would give them: noise, bias field, ringing, motion, thick slices."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from brain_tumor.data.scans.data_set import WITHOUT
from brain_tumor.data.scans.preparation import standardise

LEVEL = 4.0
"""Mean of the brain before standardisation, in its standard deviations: intensities of a scanner are above 0."""

NOISE, FIELD, RINGING = 0.5, 0.4, 0.8
"""At severity 1: deviation of the noise, in those of the brain; coefficients of the field; part of k-space lost."""

SHIFT_MM, MOVES = 8.0, 4
"""At severity 1: largest shift of the head along the rows, and how often it moves while k-space is filled."""

GHOST = 0.8
"""At severity 1: part of every second line of k-space that is lost."""

THICKNESS_MM = 5.0
"""Of a slice at severity 1."""

THICK = "thick slices"

Volume = Float[np.ndarray, "n m h w"]


def corrupt(
    image: Volume,
    kind: str,
    severity: float,
    numbers: Int[np.ndarray, " n"],
    spacing: tuple[float, float, float],
    modalities: Sequence[str],
    seed: int,
) -> Volume:
    """Slices of a patient, corrupted and standardised again over the brain of each slice.

    Args:
        image: prepared slices in order: mean 0 and deviation 1 over the brain, 0 outside.
        kind: one of KINDS, or `without MODALITY`.
        severity: above 0, at most 1.
        numbers: of the slices, as in the scan.
        spacing: millimetres, (slice, row, column).
        modalities: names, in the order of the channels.
        seed: of what is random.
    """
    if kind.startswith(WITHOUT):
        changed = image.copy()
        changed[:, list(modalities).index(kind.removeprefix(WITHOUT))] = 0
        return changed
    brain = (image != 0).any(1, keepdims=True)
    raw = np.where(brain, image + LEVEL, 0).astype(np.float32)
    if kind == THICK:
        changed = _average_slices(raw, numbers, spacing[0], severity)
    else:
        changed = raw.copy()
        for number, channel in np.ndindex(raw.shape[:2]):
            # Noise alone is another one in each slice; coils and heads are the same.
            rng = np.random.default_rng([seed, channel, number if kind == "noise" else 0])
            changed[number, channel] = IN_PLANE[kind](raw[number, channel], severity, rng, spacing[1])
    # What a corruption puts outside the brain is no part of it.
    return np.stack([standardise(slice_) for slice_ in np.where(brain, changed, 0)])


Plane = Float[np.ndarray, "h w"]


def _add_noise(plane: Plane, severity: float, rng: np.random.Generator, _: float) -> Plane:
    from monai.transforms import RandRicianNoise

    noise = RandRicianNoise(prob=1, std=NOISE * severity, sample_std=False)
    noise.set_random_state(int(rng.integers(2**31)))
    return np.asarray(noise(plane[None]))[0]


def _add_field(plane: Plane, severity: float, rng: np.random.Generator, _: float) -> Plane:
    from monai.transforms import RandBiasField

    field = RandBiasField(prob=1, coeff_range=(-FIELD * severity, FIELD * severity))
    field.set_random_state(int(rng.integers(2**31)))
    return np.asarray(field(plane[None]))[0]


def _ring(plane: Plane, severity: float, *_: object) -> Plane:
    from monai.transforms import GibbsNoise

    return np.asarray(GibbsNoise(alpha=RINGING * severity)(plane[None]))[0]


def _ghost(plane: Plane, severity: float, *_: object) -> Plane:
    """Every second line of k-space is weaker, which puts a copy of the head half a field of view away."""
    lines = np.fft.fft2(plane)
    # Not the line of frequency 0, which holds the mean.
    lines[1::2] *= 1 - GHOST * severity
    return np.abs(np.fft.ifft2(lines)).astype(np.float32)


def _move(plane: Plane, severity: float, rng: np.random.Generator, row_mm: float) -> Plane:
    """The head lies elsewhere in each part of k-space, which is filled line by line; the middle one is where it was."""
    parts = np.array_split(np.arange(len(plane)), MOVES + 1)
    shifts = rng.uniform(-1, 1, MOVES + 1) * SHIFT_MM * severity / row_mm
    shifts[MOVES // 2] = 0
    # Line by line from the lowest to the highest frequency.
    lines = np.fft.fftshift(np.fft.fft2(plane), axes=0)
    frequency = np.fft.fftshift(np.fft.fftfreq(len(plane)))
    for part, shift in zip(parts, shifts, strict=True):
        lines[part] *= np.exp(-2j * np.pi * frequency[part] * shift)[:, None]
    return np.abs(np.fft.ifft2(np.fft.ifftshift(lines, axes=0))).astype(np.float32)


def _average_slices(raw: Volume, numbers: Int[np.ndarray, " n"], slice_mm: float, severity: float) -> Volume:
    """Each slice is the mean of those that a thicker one would hold."""
    thickness = slice_mm + severity * max(0.0, THICKNESS_MM - slice_mm)
    group = np.floor((numbers - numbers.min()) * slice_mm / thickness + 1e-9).astype(int)
    changed = raw.copy()
    for number in np.unique(group):
        changed[group == number] = raw[group == number].mean(0)
    return changed


IN_PLANE: dict[str, Callable[..., Plane]] = {
    "noise": _add_noise,
    "bias field": _add_field,
    "ringing": _ring,
    "ghosting": _ghost,
    "motion": _move,
}
"""Corruption > what it does to a slice of one modality."""

KINDS = (*IN_PLANE, THICK)
