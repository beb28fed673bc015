"""One patient's files, and what is read from them: what every layout gives."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Num, UInt8
from nibabel.affines import voxel_sizes

from brain_tumor.data.common.files import file_state
from brain_tumor.data.scans.data_set import Tissue

MissingModalities = Literal["exclude", "zero"]
"""New patients who lack a modality are excluded, or segmented with a channel of 0."""


@dataclass(frozen=True)
class Scan:
    """The files of one patient.

    Attributes:
        layout: "hdf5" or "nifti".
        files: HDF5: one per slice; NIfTI: one per modality, in the order declared, then the mask if there is one.
        state: digest of name, size and times of the last change of each file: a scan whose files changed is in another
            state.
        problem: why the whole patient is excluded; empty if there is no reason to.
        note: what is unusual about the files; empty if nothing is.
        mask: NIfTI: the file of the mask, if there is one that can be used. HDF5 slices hold their own.
        mask_problem: why a mask beside the scan can't be used.
        tissues: with the labels that masks of this patient have in files, read and written.
        missing: modalities without a file, whose channels are 0.
        spare: the problem is only that another scan of the patient goes before, until that one turns out unusable.
    """

    patient: str
    layout: str
    files: tuple[Path, ...]
    state: str
    problem: str = ""
    note: str = ""
    mask: Path | None = None
    mask_problem: str = ""
    tissues: tuple[Tissue, ...] = ()
    missing: tuple[str, ...] = ()
    spare: bool = False

    @classmethod
    def from_files(cls, patient: str, layout: str, files: list[Path], **about: Any) -> "Scan":
        """A scan of these files."""
        state = hashlib.blake2b(digest_size=16)
        # Not of the content, which would take as long as reading the scan.
        for file in files:
            state.update(file_state(file).encode())
        return cls(patient, layout, tuple(files), state.hexdigest(), **about)

    @property
    def volumes(self) -> tuple[Path, ...]:
        """The files without the mask."""
        return tuple(file for file in self.files if file != self.mask)

    def find_present(self, modalities: Sequence[str]) -> dict[int, str]:
        """Channel > name of the modalities that are there.

        Args:
            modalities: names, in the order of the channels.
        """
        return {channel: name for channel, name in enumerate(modalities) if name not in self.missing}

    @property
    def in_use(self) -> "Scan":
        """The scan itself, or the spare one as it is used in place of another."""
        return replace(self, problem="", spare=False) if self.spare else self


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
class Volume:
    """All slices of one patient.

    Attributes:
        image: (modality, row, column, slice), axes L, P, S.
        affine: from (row, column, slice) to millimetres.
        note: what is unusual about the slices.
    """

    image: Num[np.ndarray, "m h w d"]
    affine: Float[np.ndarray, "4 4"]
    note: str = ""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres, (row, column, slice)."""
        row, column, depth = voxel_sizes(self.affine).tolist()
        return row, column, depth


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
