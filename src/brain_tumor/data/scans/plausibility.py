"""Facts of a scan that exclude each other: what can't be true together is left out or noted, never used in silence."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Num, UInt8

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


class PatientCheck:
    """Collects facts of one patient, slice after slice.

    Args:
        modalities: names, in the order of the channels.
    """

    def __init__(self, modalities: Sequence[str]) -> None:
        self.modalities = list(modalities)
        count = len(self.modalities)
        self.two_valued = np.ones(count, bool)
        self.same = np.triu(np.ones((count, count), bool), k=1)
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
        self.slices += 1
        self.brain += int(np.count_nonzero(brain))
        for k in np.flatnonzero(self.two_valued):
            plane = image[k]
            self.two_valued[k] = ((plane == plane.min()) | (plane == plane.max())).all()
        for one, other in np.argwhere(self.same):
            self.same[one, other] = np.array_equal(image[one], image[other])

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
        flat = [name for name, is_flat in zip(self.modalities, self.two_valued, strict=True) if is_flat]
        if flat:
            return (
                f"{' and '.join(flat)} {'is' if len(flat) == 1 else 'are'} constant: a failed conversion or "
                "registration, or a mask; give the scan itself"
            )
        same = [(self.modalities[one], self.modalities[other]) for one, other in np.argwhere(self.same)]
        if same:
            return f"{same[0][0]} and {same[0][1]} are the same image; give each modality its own file"
        return ""

    def find_mask_problem(self) -> str:
        """The same, of the mask against the scan."""
        if self.tumour and self.outside > MOST_OUTSIDE * self.tumour:
            return (
                f"{self.outside / self.tumour:.0%} of the mask lie outside the brain: it is turned, mirrored "
                "or another patient's; check it on the scan"
            )
        return explain_size(self.tumour, self.brain)

    def find_note(self) -> str:
        """What is unusual, of a patient that can be used; empty if nothing is."""
        if self.filled > MOST_BRAIN:
            return (
                f"{self.filled:.0%} of the scan differ from its background: if the skull is still there, "
                "remove it first; the background must be one value"
            )
        return ""


def explain_size(tumour: float, brain: float) -> str:
    """Why a mask is too large for a brain, both in one unit; empty if it isn't."""
    if brain and tumour > MOST_TUMOUR * brain:
        return (
            f"the mask takes {tumour / brain:.0%} of the brain: a brain mask, or a label that means something "
            "else; check it on the scan"
        )
    return ""
