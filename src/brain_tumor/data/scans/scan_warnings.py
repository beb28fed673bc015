"""What a careful colleague would ask about a scan: skull, body part, field of view, files mixed up.

Each rule is one statistic of the volume and a threshold chosen on real scans; how often each is right and wrong:
docs/experiments/scan_warnings.md. A warning excludes nobody: a true scan may break a rule.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import scipy  # its parts are imported when used
from jaxtyping import Bool, Float, Num

from brain_tumor.data.scans.plausibility import MOST_BRAIN

BRAIN_ML = (900.0, 1900.0)
"""Millilitres of a brain of adults: 1,146 to 1,747 in 36 scans of BraTS."""

BOX_SHARE = (0.3, 0.6)
"""Share of the smallest box around a brain that it takes: 0.40 to 0.49 in the same scans, an ellipsoid 0.52."""

MOST_AT_BORDER = 0.2
"""Share of the largest section of a brain that may lie in an outermost plane: 0.13 at most, in the brainstem."""

LIKE_A_COPY = 0.93
"""Rank correlation from which two modalities are one image with another noise: 0.82 at most in the same scans."""

MARGIN = 0.05
"""By how much a rule on contrasts must be broken; each holds by 0.09 and more in the same scans."""

SAMPLE_MM = 2.0
"""Contrasts are judged on voxels this far apart: of every eighth where voxels have 1 mm."""

FEWEST_VOXELS = 10_000
"""Voxels from which contrasts are judged: a slice has 5,000 at most, and 6 of 104 slices would be warned of."""

BETWEEN = " | "
"""Between two warnings in a cell of a table."""

CONTRASTS = ("FLAIR", "T1", "T1ce", "T2")
FLAIR, T1, T1CE, T2 = range(4)

SIDES = (("at the right", "at the left"), ("in front", "at the back"), ("at the bottom", "at the top"))
"""Where index 0 and the last index of each axis lie (axes L, P, S)."""


def find_warnings(
    image: Num[np.ndarray, "m h w d"],
    brain: Bool[np.ndarray, "h w d"],
    spacing: tuple[float, float, float],
    modalities: Sequence[str],
    *,
    skull_stripped: bool = True,
    whole: bool = True,
) -> list[str]:
    """What is doubtful about a scan, one line each, with the remedy.

    Args:
        image: axes L, P, S.
        brain: where any modality differs from its background.
        spacing: millimetres, (row, column, slice).
        modalities: names, in the order of the channels.
        skull_stripped: whether the skull should have been removed; without, only copies are looked for.
        whole: whether the slices are all that there are; some of them say nothing of size and height.
    """
    if not brain.any():
        return []
    steps = [max(1, round(SAMPLE_MM / length)) for length in spacing]
    sparse = np.s_[:: steps[0], :: steps[1], :: steps[2]]
    values = image[:, *sparse][:, brain[sparse]].astype(np.float64)
    ranks = correlate_ranks(values)
    copies = find_copies(ranks, modalities)
    # A background of several values is noted elsewhere, and leaves nothing to measure.
    if not skull_stripped or brain.mean() > MOST_BRAIN:
        return copies
    found = judge_brain(brain, spacing, whole=whole) + copies
    # Skin and fat have contrasts of their own, and a copy has none.
    if copies or _measure_ml(brain, spacing) > BRAIN_ML[1] or values.shape[1] < FEWEST_VOXELS:
        return found
    return found + judge_contrasts(values, ranks, modalities)


def judge_brain(
    brain: Bool[np.ndarray, "h w d"],
    spacing: tuple[float, float, float],
    *,
    whole: bool = True,
) -> list[str]:
    """Whether it has the size and the shape of a brain, and lies in the field of view; the first that it hasn't.

    Args:
        spacing: millimetres, (row, column, slice).
        whole: whether the slices are all that there are.
    """
    cuts = _find_cuts(brain, axes=3 if whole else 2)
    if not whole:
        return cuts
    volume = _measure_ml(brain, spacing)
    least, most = BRAIN_ML
    usual = f"{volume:,.0f} ml differ from the background, a brain has {least:,.0f} to {most:,.0f}"
    if volume > most:
        return [
            f"{usual}: the skull is still there, or this is another part of the body; extract the brain first, as "
            "`kedro segment --raw` does"
        ]
    if cuts:
        return cuts
    if volume < least:
        return [
            f"{usual}: a part of it is missing, or this is no brain; give a scan of the whole brain, and check the "
            "unit of the spacing"
        ]
    (box,) = scipy.ndimage.find_objects(brain.astype(np.uint8))
    share = brain[box].mean()
    if not BOX_SHARE[0] <= share <= BOX_SHARE[1]:
        return [
            f"what differs from the background takes {share:.0%} of the box around it, a brain 40 to 49 %: another "
            "part of the body, or a brain that is cut; look at the scan"
        ]
    return []


def _measure_ml(brain: Bool[np.ndarray, "h w d"], spacing: tuple[float, float, float]) -> float:
    return np.count_nonzero(brain) * float(np.prod(spacing)) / 1000


def _find_cuts(brain: Bool[np.ndarray, "h w d"], axes: int) -> list[str]:
    """Outermost planes with much of the brain, along the first axes."""
    cut = []
    for axis in range(axes):
        others = tuple(other for other in range(3) if other != axis)
        area = brain.sum(others)
        for end, where in zip((0, -1), SIDES[axis], strict=True):
            if area[end] > MOST_AT_BORDER * area.max():
                cut.append(f"{where} ({area[end] / area.max():.0%} of its largest section)")
    if not cut:
        return []
    return [
        f"the field of view cuts the brain {' and '.join(cut)}: tumour beyond it has no mask; give the whole brain if "
        "it was scanned"
    ]


def correlate_ranks(values: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m m"]:
    """Spearman's correlation of each pair of modalities over the brain; 0 where one is constant."""
    ranks = scipy.stats.rankdata(values, axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    squares = ranks @ ranks.T
    deviation = np.sqrt(np.diag(squares))
    both = np.outer(deviation, deviation)
    return np.divide(squares, both, out=np.zeros_like(squares), where=both > 0)


def find_copies(ranks: Float[np.ndarray, "m m"], modalities: Sequence[str]) -> list[str]:
    """Pairs of modalities that are one image, perhaps with another noise.

    Args:
        ranks: correlations of `correlate_ranks`.
    """
    return [
        f"{modalities[one]} and {modalities[other]} are nearly the same image (rank correlation "
        f"{ranks[one, other]:.2f}, of two modalities 0.82 at most); give each modality its own file"
        for one, other in combinations(range(len(modalities)), 2)
        if ranks[one, other] > LIKE_A_COPY
    ]


def judge_contrasts(
    values: Float[np.ndarray, "m n"],
    ranks: Float[np.ndarray, "m m"],
    modalities: Sequence[str],
) -> list[str]:
    """Whether each modality has the contrast of its name.

    Args:
        values: intensities over the brain.
        ranks: their correlations, of `correlate_ranks`.
    """
    if not set(CONTRASTS) <= set(modalities):
        return []
    order = [list(modalities).index(name) for name in CONTRASTS]
    tails = _measure_tails(values)
    broken = [words for words, margin in _rules(tails, ranks, order).items() if margin < -MARGIN]
    if not broken:
        return []
    swaps = [pair for pair in combinations(range(4), 2) if _holds(tails, ranks, _swap(order, pair))]
    who = "modalities"
    if len(swaps) == 1:
        one, other = swaps[0]
        who = f"{CONTRASTS[one]} and {CONTRASTS[other]}"
    or_else = ", or T1ce shows no contrast medium" if swaps == [(T1, T1CE)] else ""
    return [f"{who} look swapped{or_else}: {broken[0]}; check which file is which"]


def _measure_tails(values: Float[np.ndarray, "m n"]) -> Float[np.ndarray, " m"]:
    """How far the brightest voxels lie above the median, in interquartile ranges."""
    quarter, median, three_quarters, bright = np.quantile(values, (0.25, 0.5, 0.75, 0.995), axis=1)
    return (bright - median) / np.maximum(three_quarters - quarter, 1e-9)


def _rules(
    tails: Float[np.ndarray, " m"],
    ranks: Float[np.ndarray, "m m"],
    order: Sequence[int],
) -> dict[str, float]:
    """What holds of the contrasts > by how much; what is said is what a negative number means.

    Fluid is dark in T1 and FLAIR and bright in T2, oedema bright in FLAIR and T2, vessels and the enhancing tumour
    bright in T1ce: T1 alone has nothing that is much brighter than the rest.

    Args:
        order: channels that are taken for FLAIR, T1, T1ce, T2.
    """
    flair, t1, t1ce, t2 = order
    others = {name: tails[channel] for name, channel in zip(CONTRASTS, order, strict=True) if name != "T1"}
    least = min(others, key=lambda name: others[name])
    return {
        f"T1 has brighter spots than {least}": float(np.log(max(others[least], 1e-9) / max(tails[t1], 1e-9))),
        "T1 is more like T2 than like T1ce": ranks[t1, t1ce] - ranks[t1, t2],
        "T2 is more like T1ce than like FLAIR": ranks[flair, t2] - ranks[t1ce, t2],
        "T1 is more like T2 than like FLAIR": ranks[t1, flair] - ranks[t1, t2],
    }


def _swap(order: Sequence[int], pair: tuple[int, int]) -> list[int]:
    one, other = pair
    swapped = list(order)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    return swapped


def _holds(tails: Float[np.ndarray, " m"], ranks: Float[np.ndarray, "m m"], order: Sequence[int]) -> bool:
    return all(margin > 0 for margin in _rules(tails, ranks, order).values())
