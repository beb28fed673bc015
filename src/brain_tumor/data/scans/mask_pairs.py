"""Masks of two folders, a reference and a prediction, patient by patient."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from nibabel.affines import voxel_sizes

from brain_tumor.data.scans.data_set import MASK, DataSet
from brain_tumor.data.scans.find_scans import find_masks
from brain_tumor.data.scans.nifti_masks import read_masks
from brain_tumor.data.scans.patient_files import PatientFiles


@dataclass(frozen=True)
class MaskPair:
    """The reference mask and a predicted mask of one patient.

    Attributes:
        prediction: name of the folder of predicted masks.
        reference: files of the patient in the folder of reference masks; None if there are none.
        predicted: the same in the folder of predicted masks.
        problem: why they can't be compared; empty if there is no reason.
    """

    prediction: str
    patient: str
    reference: PatientFiles | None
    predicted: PatientFiles | None
    problem: str = ""

    @property
    def reference_file(self) -> Path | None:
        """The reference mask."""
        return self.reference.mask if self.reference else None

    @property
    def predicted_file(self) -> Path | None:
        """The predicted mask."""
        return self.predicted.mask if self.predicted else None


@dataclass(frozen=True)
class MaskLabels:
    """Labels of both masks of a pair, k for the k-th tissue, on one grid (axes L, P, S)."""

    reference: UInt8[np.ndarray, "h w d"]
    predicted: UInt8[np.ndarray, "h w d"]
    affine: Float[np.ndarray, "4 4"]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres, (row, column, slice)."""
        row, column, depth = voxel_sizes(self.affine).tolist()
        return row, column, depth

    def explain_swap(self, tissues: list[str]) -> str:
        """Which two tissues overlap better if their labels change places; empty if none do.

        Programs number tissues differently; a wrong number shows in no header.
        """
        numbers = range(1, len(tissues) + 1)
        overlap = {}
        for true, predicted in product(numbers, repeat=2):
            both = (self.reference == true) & (self.predicted == predicted)
            overlap[true, predicted] = int(both.sum())
        for one, other in combinations(numbers, 2):
            swapped = overlap[one, other] + overlap[other, one]
            if swapped > overlap[one, one] + overlap[other, other]:
                return f"{tissues[one - 1]} and {tissues[other - 1]} overlap better if their labels change places"
        return ""


def pair_masks(reference: Path, predictions: dict[str, Path], data_set: DataSet) -> list[MaskPair]:
    """A pair for each prediction and each patient who is in its folder or in that of the reference masks.

    Args:
        predictions: name > folder.

    Raises:
        FileNotFoundError: if a folder isn't there or holds no mask.
    """
    references = _find(reference, data_set, "score_reference")
    pairs = []
    for name, folder in predictions.items():
        predicted = _find(folder, data_set, f"score_predictions.{name}")
        for patient in sorted(references.keys() | predicted.keys()):
            there, here = references.get(patient, []), predicted.get(patient, [])
            problem = _explain(there, "reference mask") or _explain(here, "predicted mask")
            pairs.append(MaskPair(name, patient, _first(there), _first(here), problem))
    return pairs


def _find(folder: Path, data_set: DataSet, parameter: str) -> dict[str, list[PatientFiles]]:
    by_patient = defaultdict(list)
    for found in find_masks(folder, data_set, parameter=parameter, masks_only=True):
        by_patient[found.patient].append(found)
    return by_patient


def _first(found: list[PatientFiles]) -> PatientFiles | None:
    return found[0] if found else None


def _explain(found: list[PatientFiles], what: str) -> str:
    """Why there is no mask to compare: none, or several."""
    if not found:
        return f"no {what} of that name"
    if len(found) > 1:
        files = " and ".join(str(each.mask) for each in found)
        return f"several {what}s: {files}; keep one"
    conflict = found[0].conflicts.get(MASK, "")
    return f"{what}: {conflict}" if conflict else ""


def read_pair(pair: MaskPair, data_set: DataSet) -> MaskLabels:
    """Labels of both masks of a pair that has no problem.

    Raises:
        ValueError: if one can't be read, holds a label that is no tissue's, or the two lie on different grids.
    """
    assert pair.reference and pair.predicted and pair.reference_file and pair.predicted_file
    tissues = (pair.reference.find_tissues(data_set), pair.predicted.find_tissues(data_set))
    (reference, predicted), affine = read_masks((pair.reference_file, pair.predicted_file), tissues)
    return MaskLabels(reference, predicted, affine)
