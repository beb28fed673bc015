"""Facts of a scan that exclude each other: what can't be true together is excluded or noted, never used in silence."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Num, UInt8

MOST_BRAIN = 0.6
"""Fraction of a skull-stripped scan that differs from its background, at most.

0.17 in whole volumes of BraTS, 0.35 in its fullest slices.
"""

MOST_TUMOUR = 0.5
"""Fraction of the brain that a mask may take.

0.16 at most in five whole volumes of BraTS, 0.36 in the fullest of 114 slices.
"""

MOST_OUTSIDE = 0.5
"""Fraction of a mask that may lie outside the brain: below 0.001 in BraTS."""

MOST_TUMOUR_ML = 900.0
"""Millilitres of a mask where no scan shows the brain: the smallest brains of adults have that.

The largest of 368 tumours of BraTS has 360.
"""


MOST_GREY_LEVELS = 16
"""Values of a label map, at most: a slice of a scan has hundreds."""

SAME_CORRELATION = 1 - 1e-6
"""Correlation over the brain from which two modalities are one image, perhaps in another scale."""

MOST_MISSING = 0.1
"""Fraction of the slices that show brain in which a modality may be constant without a note."""

MOST_OF_VARIANCE = 0.5
"""Fraction of a modality's variance in a slice that one voxel may have without a note."""

FEWEST_PIXELS = 256
"""Brain pixels from which a slice is judged by its values: fewer may be alike by chance."""


class PatientCheck:
    """Collects facts of one patient, slice after slice.

    Args:
        modalities: names, in the order of the channels.
    """

    def __init__(self, modalities: Sequence[str], *, skull_stripped: bool = True) -> None:
        self.modalities = list(modalities)
        self.skull_stripped = skull_stripped
        count = len(self.modalities)
        self.two_valued = np.ones(count, bool)
        self.few_valued = np.ones(count, bool)
        # Above the diagonal: each pair of modalities once.
        self.same = np.triu(np.ones((count, count), bool), k=1)
        self.scaled = self.same.copy()
        self.missing = np.zeros(count, int)
        self.spiked = np.zeros(count, int)
        self.largest = np.zeros(count)
        self.judged = 0
        self.slices = self.area = self.brain = self.tumour = self.outside = 0

    def add(
        self,
        image: Num[np.ndarray, "m h w"],
        brain: Bool[np.ndarray, "h w"],
        labels: UInt8[np.ndarray, "h w"] | None = None,
    ) -> None:
        """Take in one slice."""
        self.area += brain.size
        if labels is not None:
            self.tumour += int(np.count_nonzero(labels))
            self.outside += int(np.count_nonzero(labels[~brain]))
        if not brain.any():
            return
        pixels = int(np.count_nonzero(brain))
        self.slices += 1
        self.brain += pixels
        # What one slice has disproved is not looked at again.
        for k in np.flatnonzero(self.two_valued):
            plane = image[k]
            extreme = (plane == plane.min()) | (plane == plane.max())
            self.two_valued[k] = extreme.all()
        for one, other in np.argwhere(self.same):
            self.same[one, other] = np.array_equal(image[one], image[other])
        if pixels >= FEWEST_PIXELS:
            values = image[:, brain].astype(np.float64)
            self._judge_values(values)

    def _judge_values(self, values: Float[np.ndarray, "m n"]) -> None:
        """Take in the intensities of one slice inside the brain."""
        self.judged += 1
        for k in np.flatnonzero(self.few_valued):
            levels = np.unique(values[k])
            self.few_valued[k] = len(levels) <= MOST_GREY_LEVELS
        largest = np.abs(values).max(1)
        # Scaled to 1 at most: squares of very large values would not be finite.
        scale = np.where(largest > 0, largest, 1)
        centred = values / scale[:, None]
        centred -= centred.mean(1, keepdims=True)
        # Sums of squares, not divided by the number of pixels.
        variances = np.einsum("mn,mn->m", centred, centred)
        pixels = values.shape[1]
        # A deviation of a billionth of the largest value is rounding.
        constant = variances <= 1e-18 * pixels
        # Where all modalities are constant, no single one is missing.
        self.missing += constant & ~constant.all()
        farthest = np.abs(centred).max(1)
        spiked = ~constant & (farthest**2 > MOST_OF_VARIANCE * variances)
        self.spiked += spiked
        larger = np.maximum(self.largest, largest)
        self.largest = np.where(spiked, larger, self.largest)
        for one, other in np.argwhere(self.scaled):
            both = np.sqrt(variances[one] * variances[other])
            covariance = centred[one] @ centred[other]
            self.scaled[one, other] = both > 0 and covariance >= SAME_CORRELATION * both

    @property
    def filled(self) -> float:
        """Fraction of the scan that differs from its background."""
        return self.brain / max(self.area, 1)

    def find_problem(self) -> str:
        """Why the patient can't be used; empty if nothing speaks against it."""
        return self.find_image_problem() or self.find_mask_problem()

    def find_image_problem(self) -> str:
        """The same, of the modalities alone."""
        if not self.slices:
            return ""
        flat = self._name_modalities(self.two_valued)
        if flat:
            verb = "is" if len(flat) == 1 else "are"
            return (
                f"{' and '.join(flat)} {verb} constant: a failed conversion or "
                "registration, or a mask; give the scan itself"
            )
        same = self._name_pair(self.same)
        if same:
            return f"{same} are the same image; give each modality its own file"
        # Without a slice of enough brain, nothing has disproved the rest.
        if not self.judged:
            return ""
        few = self._name_modalities(self.few_valued)
        if few:
            verb = "has" if len(few) == 1 else "have"
            return (
                f"{' and '.join(few)} {verb} {MOST_GREY_LEVELS} values at most in any "
                "slice: a mask or another map of labels; give the scan itself"
            )
        scaled = self._name_pair(self.scaled)
        if scaled:
            return f"{scaled} are one image in two scales; give each modality its own file"
        return ""

    def _name_modalities(self, chosen: Bool[np.ndarray, " m"]) -> list[str]:
        return [name for name, is_chosen in zip(self.modalities, chosen, strict=True) if is_chosen]

    def _name_pair(self, chosen: Bool[np.ndarray, "m m"]) -> str:
        """The first of the pairs; empty if there is none."""
        pairs = np.argwhere(chosen)
        if not len(pairs):
            return ""
        one, other = pairs[0]
        return f"{self.modalities[one]} and {self.modalities[other]}"

    def find_mask_problem(self) -> str:
        """The same, of the mask against the scan."""
        if self.tumour and self.outside > MOST_OUTSIDE * self.tumour:
            share = self.outside / self.tumour
            return (
                f"{share:.0%} of the mask lie outside the brain: it is turned, mirrored "
                "or another patient's; check it on the scan"
            )
        return explain_size(self.tumour, self.brain)

    def find_note(self) -> str:
        """What is unusual, of a patient that can be used; empty if nothing is."""
        notes = []
        if self.filled > MOST_BRAIN and self.skull_stripped:
            notes.append(
                f"{self.filled:.0%} of the scan differ from its background: if the skull is still there, "
                "remove it first; the background must be one value"
            )
        for k, name in enumerate(self.modalities):
            if self.missing[k] > MOST_MISSING * self.judged and self.filled <= MOST_BRAIN:
                notes.append(
                    f"{name} is constant in {self.missing[k]} of {self.judged} slices in which others show brain: "
                    "a part of it is missing; check its field of view"
                )
            if self.spiked[k]:
                notes.append(
                    f"one voxel outweighs all others of {name} in {self.spiked[k]} of {self.judged} slices (up to "
                    f"{self.largest[k]:.3g}); replace it by its neighbours"
                )
        return "; ".join(notes)


def explain_size(tumour: float, brain: float) -> str:
    """Why a mask is too large for a brain, both in one unit; empty if it isn't."""
    if brain and tumour > MOST_TUMOUR * brain:
        return (
            f"the mask takes {tumour / brain:.0%} of the brain: a brain mask, or a label that means something "
            "else; check it on the scan"
        )
    return ""
