"""One patient's files, and one slice read from them: what every layout gives."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Num, UInt8

from brain_tumor.data.files import file_state


@dataclass(frozen=True)
class Scan:
    """The files of one patient.

    Attributes:
        layout: "hdf5" or "nifti".
        files: HDF5: one per slice; NIfTI: one per modality, in the order declared, then the mask.
        state: digest of name, size and times of the last change of each file: a scan whose files changed is in another state.
        problem: why the whole patient is left out; empty if there is no reason to.
    """

    patient: str
    layout: str
    files: tuple[Path, ...]
    state: str
    problem: str = ""

    @classmethod
    def of(cls, patient: str, layout: str, files: list[Path], problem: str = "") -> "Scan":
        """A scan of these files."""
        state = hashlib.blake2b(digest_size=16)
        for file in files:
            state.update(file_state(file).encode())
        return cls(patient, layout, tuple(files), state.hexdigest(), problem)


@dataclass(frozen=True)
class Slice:
    """One axial slice, rows to the patient's left and columns to the back (L, P), in the publisher's intensities.

    Attributes:
        number: counted from the feet, 0 first.
        file: where it was read.
        image: (modality, row, column).
        labels: 0 background, k for the k-th tissue declared.
        spacing: millimetres, (row, column, slice).
    """

    number: int
    file: Path
    image: Num[np.ndarray, "m h w"]
    labels: UInt8[np.ndarray, "h w"]
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class Unreadable:
    """What stands in the place of a slice, or of all slices of a patient, that can't be used.

    Attributes:
        number: of the slice, or `WHOLE_PATIENT`.
        problem: the rule that was broken, and the remedy.
    """

    number: int
    file: Path
    problem: str


WHOLE_PATIENT = -1
