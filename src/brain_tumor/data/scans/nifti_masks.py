"""Masks as NIfTI files: read as labels of the project, and written on the grid of a scan."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, UInt8
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from brain_tumor.data.scans.data_set import DataSet, Tissue
from brain_tumor.data.scans.nifti_volumes import ORIENTATION, open_file, open_volume, read_volume, read_volumes

INTENT, PREDICTED = "label", "tumour"
"""Intent of the masks that this project predicts, and its name in their headers: no expert's mask is taken for one."""

CONFIDENCE = "confidence "
"""Before the number in the description (`descrip`) of a mask that this project predicts."""


def is_predicted(file: Path) -> bool:
    """Whether this project wrote the mask: its header says so."""
    try:
        image = open_file(file)
        # Only NIfTI headers have an intent.
        if not isinstance(image, nib.Nifti1Image):
            return False
        intent, _, name = image.header.get_intent()
    except Exception:  # what can't be read is reported where it is read
        return False
    return (intent, name) == (INTENT, PREDICTED)


def read_mask(file: Path, tissues: tuple[Tissue, ...]) -> tuple[UInt8[np.ndarray, "h w d"], Float[np.ndarray, "4 4"]]:
    """Labels of a NIfTI mask (0 background, k the k-th tissue) in orientation L, P, S, and the affine to millimetres.

    Args:
        tissues: with the labels that masks of this patient have.

    Raises:
        ValueError: as `read_volume`, or if it holds a label that is no tissue's, or two of one tissue.
    """
    voxels, affine = read_volume(file)
    return to_labels(voxels, file, tissues), affine


def read_confidence(file: Path) -> float:
    """How sure the network was of a mask that this project predicted; NaN where the mask doesn't say."""
    # Free text of other programs may be anything.
    header = open_volume(file).header
    text = bytes(header["descrip"]).strip(b"\0").decode("ascii", "replace") if "descrip" in header else ""
    number = text.removeprefix(CONFIDENCE)
    return float(number) if re.fullmatch(r"[01]\.\d+", number) and number != text else float("nan")


def read_masks(
    files: tuple[Path, ...],
    tissues: tuple[tuple[Tissue, ...], ...],
) -> tuple[list[UInt8[np.ndarray, "h w d"]], Float[np.ndarray, "4 4"]]:
    """Labels of several masks of one patient, as `read_mask` gives them, and the affine of the first.

    Args:
        tissues: those of each mask.

    Raises:
        ValueError: as `read_mask`, or if one lies elsewhere than the first.
    """
    volumes, affine = read_volumes(files)
    return [to_labels(*mask) for mask in zip(volumes, files, tissues, strict=True)], affine


def name_mask(patient: str, data_set: DataSet) -> str:
    """What a patient's mask is called: the first of the suffixes declared."""
    return f"{patient}_{data_set.mask[0]}.nii.gz"


def write_mask(
    file: Path,
    labels: UInt8[np.ndarray, "h w d"],
    like: Path,
    tissues: tuple[Tissue, ...],
    *,
    predicted: bool = True,
    confidence: float | None = None,
) -> None:
    """Labels as a NIfTI mask on the grid of a volume, with its qform, sform, their codes and its units.

    Every reader lays it on the scan.

    Args:
        labels: as `read_slices` gives them, stacked: L, P, S.
        like: a volume of the same patient.
        tissues: in the order of their labels in a store; their first labels are written.
        predicted: the header is marked as that of a prediction.
        confidence: of the prediction, written into the header's description.
    """
    original = open_volume(like)
    header = original.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header.set_intent(INTENT, name=PREDICTED if predicted else "")
    # The range of display is that of the scan's intensities; 0 and 0 leave it to the viewer.
    header["cal_min"] = header["cal_max"] = 0
    # Free text and extensions may name a person.
    for text in ("descrip", "aux_file", "db_name"):
        if text in header:
            header[text] = b""
    if "descrip" in header:
        header["descrip"] = _describe_confidence(confidence)
    header.extensions.clear()
    values = _values(tissues)[labels]
    back = ornt_transform(axcodes2ornt(ORIENTATION), io_orientation(original.affine))
    voxels = apply_orientation(values, back)
    # NIfTI-2 where the scan is.
    kind = type(original)
    nib.save(kind(voxels, original.affine, header), file)


def write_new_mask(
    file: Path,
    labels: UInt8[np.ndarray, "h w d"],
    affine: Float[np.ndarray, "4 4"],
    tissues: tuple[Tissue, ...],
    confidence: float | None = None,
) -> None:
    """The same where there is no NIfTI volume of the patient: axes stay L, P, S."""
    image = nib.Nifti1Image(_values(tissues)[labels], affine)
    image.header.set_xyzt_units("mm")
    image.header.set_intent(INTENT, name=PREDICTED)
    image.header["descrip"] = _describe_confidence(confidence)
    image.set_qform(affine, "scanner")
    image.set_sform(affine, "scanner")
    nib.nifti1.save(image, file)


def _describe_confidence(confidence: float | None) -> bytes:
    return b"" if confidence is None else f"{CONFIDENCE}{confidence:.4f}".encode("ascii")


def _values(tissues: tuple[Tissue, ...]) -> UInt8[np.ndarray, " n"]:
    """What stands for each label of a store in a mask."""
    first = [tissue.labels[0] for tissue in tissues]
    return np.array([0, *first], np.uint8)


def to_labels(mask: np.ndarray, file: Path, tissues: tuple[Tissue, ...]) -> UInt8[np.ndarray, "h w d"]:
    """Values of a mask as labels of the project: 0 background, k the k-th tissue.

    Args:
        file: for messages.

    Raises:
        ValueError: if it holds a value that is no tissue's, or two of one tissue.
    """
    labels = np.zeros(mask.shape, np.uint8)
    present = np.unique(mask)
    for label, tissue in enumerate(tissues, start=1):
        own = np.intersect1d(tissue.labels, present)
        if len(own) > 1:
            values = " and ".join(f"{value:g}" for value in own)
            raise ValueError(
                f"{file.name} holds labels {values}, which both stand for {tissue.name}, so one of them is "
                "something else "
                "(from BraTS 2024 on, 4 is a resection cavity); remove it from the mask, or declare it as "
                "a tissue of its own "
                "under `data_segmentation.data_set.tissues`"
            )
        labels[np.isin(mask, tissue.labels)] = label
    values_in_use = [value for tissue in tissues for value in tissue.labels]
    undeclared = np.setdiff1d(present, [0, *values_in_use])
    if undeclared.size:
        declared = ", ".join(map(_name_labels, tissues))
        raise ValueError(
            f"{file.name} holds labels {undeclared[:5].tolist()}, declared for files of such names are {declared}; "
            "relabel the mask, or declare them under `data_segmentation.data_set`"
        )
    return labels


def _name_labels(tissue: Tissue) -> str:
    """A tissue with its labels, such as `ET 3 or 4`."""
    labels = " or ".join(map(str, tissue.labels))
    return f"{tissue.name} {labels}"
