"""Patients as NIfTI volumes.

One file for each modality and one mask. `brain_tumor.data.scans.patient_files` tells which file is whose.
"""

import gzip
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Num, UInt8
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from brain_tumor.data.common.file_kinds import NIFTI, TO_NIFTI, explain, identify
from brain_tumor.data.scans.data_set import COARSEST_MM, FINEST_MM, MASK, DataSet, Tissue
from brain_tumor.data.scans.patient_files import PatientFiles, group_files
from brain_tumor.data.scans.scan import WHOLE_PATIENT, Scan, Slice, Unreadable, Volume

ORIENTATION = ("L", "P", "S")
"""Axes of every volume once read: the published HDF5 slices have it too."""

GEOMETRY_TOLERANCE = 0.5
"""Millimetres by which a corner of one volume of a patient may lie from that of another."""

INTENT, PREDICTED = "label", "tumour"
"""Intent of the masks that this project predicts, and its name in their headers: no expert's mask is taken for one."""

CONFIDENCE = "confidence "
"""Before the number in the description (`descrip`) of a mask that this project predicts."""

UNKNOWN_CODE = "a code that NIfTI doesn't know"

LARGEST_FIELD_MM = 600.0
"""No scanner's bore is wider: a volume that spans more has its spacing in another unit."""


def find(
    files: list[Path],
    data_set: DataSet,
    *,
    need_mask: bool = True,
    need_all: bool = True,
) -> list[Scan]:
    """The patients whose volumes are among the files; one that lacks a volume carries the problem.

    Args:
        need_mask: a patient without a mask, or with a conflict of masks, has a problem; else such a mask is only not
            used.
        need_all: a patient without one of the modalities has a problem; else the scan has its name in `missing`.
    """
    scans = []
    for found in group_files(files, data_set, is_predicted):
        # A mask alone is nothing to segment, but for training it is a patient who lacks the scan.
        mask_alone = set(found.volumes) == {MASK}
        if found.volumes and (need_mask or not mask_alone):
            scans.append(_scan(found, data_set, need_mask=need_mask, need_all=need_all))
    return scans


def _scan(found: PatientFiles, data_set: DataSet, *, need_mask: bool, need_all: bool) -> Scan:
    mask_problem = found.conflicts.get(MASK, "")
    if found.predicted and not found.mask:
        mask_problem = (
            f"{found.predicted.name} is a mask that this project predicted, no expert's; add the expert's, or, if an "
            "expert corrected this one, take its mark away with nibabel: `image.header.set_intent('none')`"
        )
    problems, files, missing = [], [], []
    # In the order declared, which is that of the channels, the mask last.
    for kind in data_set.volume_suffixes:
        is_mask = kind == MASK
        if not (need_all or is_mask or kind in found.volumes):
            missing.append(kind)
        elif need_mask or not is_mask:
            problems.append(_explain_kind(kind, found, data_set, mask_problem))
        if kind in found.volumes and (need_mask or not is_mask or not mask_problem):
            files.append(found.volumes[kind])
    return Scan.from_files(
        found.patient,
        "nifti",
        files,
        problem="; ".join(problem for problem in problems if problem),
        note="; ".join(found.notes),
        mask=None if mask_problem else found.mask,
        mask_problem=mask_problem,
        tissues=found.find_tissues(data_set),
        missing=tuple(missing),
    )


def _explain_kind(kind: str, found: PatientFiles, data_set: DataSet, mask_problem: str) -> str:
    """Why a modality, or the mask, can't be used; empty if it can."""
    if kind in found.volumes:
        return found.conflicts.get(kind, "")
    if kind == MASK and mask_problem:
        return mask_problem
    return f"{explain_missing(kind, data_set)}; add it"


def explain_missing(kind: str, data_set: DataSet) -> str:
    """That a modality, or the mask, has no file, and what its name would end in."""
    endings = [f"_{suffix}" for suffix in data_set.volume_suffixes[kind]]
    return f"no {kind} volume (a file ending in {' or '.join(endings)}.nii.gz)"


def find_masks(files: list[Path], data_set: DataSet, unnamed: str = "") -> list[PatientFiles]:
    """The patients who have a mask among the files: an expert's, or else one that this project predicted.

    Args:
        unnamed: MASK if files of no declared suffix are masks too, as `P1.nii.gz`.
    """
    patients = group_files(files, data_set, is_predicted, unnamed)
    for found in patients:
        if found.predicted and not found.mask:
            found.volumes[MASK] = found.predicted
            found.notes.append("the mask is a prediction of this project")
    return [found for found in patients if found.mask]


def is_predicted(file: Path) -> bool:
    """Whether this project wrote the mask: its header says so."""
    try:
        image = _open(file)
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
    return _labels(voxels, file, tissues), affine


def read_confidence(file: Path) -> float:
    """How sure the network was of a mask that this project predicted; NaN where the mask doesn't say."""
    # Free text of other programs may be anything.
    header = _load(file).header
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
    volumes, affine = _read_volumes(files)
    return [_labels(*mask) for mask in zip(volumes, files, tissues, strict=True)], affine


def read(
    scan: Scan,
    data_set: DataSet,  # the same for every layout  # noqa: ARG001
    numbers: Collection[int] | None = None,
) -> Iterator[Slice | Unreadable]:
    """The slices of one patient; see `brain_tumor.data.scans.find_scans.read_slices`."""
    folder = scan.files[0].parent
    try:
        volumes, affine = _read_volumes(scan.files)
        labels = _labels(volumes.pop(), scan.files[-1], scan.tissues)
    except ValueError as error:
        yield Unreadable(WHOLE_PATIENT, folder, str(error))
        return
    row_mm, column_mm, slice_mm = nib.affines.voxel_sizes(affine).tolist()
    spacing = row_mm, column_mm, slice_mm
    for number in range(labels.shape[-1]):
        if numbers is None or number in numbers:
            image = np.stack([volume[:, :, number] for volume in volumes])
            yield Slice(number, folder, image, labels[:, :, number], spacing)


def read_image(scan: Scan, data_set: DataSet) -> Volume:
    """The volumes of a patient without a mask, turned to L, P, S; that of a missing modality is 0.

    Raises:
        ValueError: if one can't be read, or lies elsewhere than the first.
    """
    volumes, affine = _read_volumes(scan.volumes)
    there = iter(volumes)
    empty = np.zeros_like(volumes[0])
    image = [empty if name in scan.missing else next(there) for name in data_set.modality_names]
    return Volume(np.stack(image), affine, read_note(scan))


def read_note(scan: Scan) -> str:
    """What is unusual about the headers of a scan that can be used; empty if nothing is."""
    odd = [file.name for file in scan.files if _read_unit(_load(file)) == UNKNOWN_CODE]
    if not odd:
        return ""
    names = ", ".join(odd)
    return f"the unit of {names} has a code that NIfTI doesn't know: taken for millimetres"


def read_labels(scan: Scan, data_set: DataSet) -> UInt8[np.ndarray, "h w d"] | None:  # the same  # noqa: ARG001
    """Labels of the mask beside a scan, on its grid, turned to L, P, S; None if there is none.

    Raises:
        ValueError: if it can't be read, lies elsewhere than the scan, or holds a label that is no tissue's.
    """
    if scan.mask is None:
        return None
    (_, voxels), _ = _read_volumes((scan.volumes[0], scan.mask))
    return _labels(voxels, scan.mask, scan.tissues)


def _read_volumes(files: tuple[Path, ...]) -> tuple[list[np.ndarray], Float[np.ndarray, "4 4"]]:
    """Voxels of each file in the project's orientation, and the affine of the first."""
    read = [read_volume(file) for file in files]
    first, affine = read[0]
    corners = _corners(first, affine)
    for file, (voxels, own) in zip(files, read, strict=True):
        # Corners are compared, not affines: a small rotation moves far corners by voxels.
        shifts = np.linalg.norm(corners - _corners(first, own), axis=1)
        apart = shifts.max()
        same_shape = voxels.shape == first.shape
        # `not <=` instead of `>`, so that NaN counts as elsewhere.
        if not same_shape or not apart <= GEOMETRY_TOLERANCE:
            shift = f", a corner {apart:.2g} mm" if same_shape else ""
            here = _geometry(voxels, own)
            there = _geometry(first, affine)
            raise ValueError(
                f"{file.name} ({here}) lies elsewhere than {files[0].name} ({there}){shift}; register them "
                "to one grid first, as `kedro segment --raw` and the pipeline `data_raw_scans` do"
            )
    return [voxels for voxels, _ in read], affine


def lie_together(shape: tuple[int, ...], affine: np.ndarray, other: tuple[int, ...], other_affine: np.ndarray) -> bool:
    """Whether two volumes span the same place, whatever their voxels.

    No outer edge lies farther from the other's than a voxel.
    """
    span = _span(shape, affine)
    other_span = _span(other, other_affine)
    spacing = nib.affines.voxel_sizes(affine)
    other_spacing = nib.affines.voxel_sizes(other_affine)
    coarser = np.maximum(spacing, other_spacing)
    tolerance = max(coarser.max(), GEOMETRY_TOLERANCE)
    apart = np.abs(span - other_span)
    return bool((apart <= tolerance).all())


def _span(shape: tuple[int, ...], affine: np.ndarray) -> Float[np.ndarray, "2 3"]:
    """The lowest and the highest millimetre of a volume along each axis."""
    # Indices are those of centres of voxels: the outer edges lie half a voxel beyond.
    outer = [(-0.5,) * 3, np.subtract(shape, 0.5)]
    edges = nib.affines.apply_affine(affine, outer)
    # An axis may run the other way in one of two volumes.
    return np.sort(edges, axis=0)


def _corners(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Where the eight outer voxels lie, in millimetres."""
    ends = [(0, side - 1) for side in voxels.shape]
    indices = list(product(*ends))
    return nib.affines.apply_affine(affine, indices)


def _geometry(voxels: np.ndarray, affine: np.ndarray) -> str:
    size = _by(voxels.shape)
    spacing = _by(nib.affines.voxel_sizes(affine))
    origin = _by(affine[:3, 3])
    return f"{size} voxels of {spacing} mm from {origin}"


def _by(values: Iterable[float]) -> str:
    """Three numbers as `240x240x155`."""
    rounded = np.round(list(values), 2)
    return "x".join(f"{value:g}" for value in rounded)


def read_volume(file: Path) -> tuple[Num[np.ndarray, "h w d"], Float[np.ndarray, "4 4"]]:
    """Voxels of a NIfTI file turned to L, P, S, and the affine from their indices to millimetres.

    Raises:
        ValueError: if it can't be read, isn't one volume of numbers in three axes with a spacing that scanners have, or
            holds NaN or infinity.
    """
    image = _load(file)
    try:
        turned = reoriented(image)
        voxels = np.asarray(turned.dataobj)
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(_damaged(file, error)) from error
    if not np.isfinite(voxels).all():
        raise ValueError(f"{file.name} holds NaN or infinity; replace them, outside the brain by 0")
    return voxels, turned.affine


def open_volume(file: Path) -> nib.Nifti1Image:
    """A NIfTI file with its axes as they are, checked as `read_volume` checks it.

    Raises:
        ValueError: if it can't be read or isn't one volume of numbers in three axes.
    """
    return _load(file)


def _load(file: Path) -> nib.Nifti1Image:
    """A file of NIfTI-1, or of NIfTI-2, which nibabel derives from it; voxels are read when they are asked for."""
    try:
        image = _open(file)
        # (240, 240, 155, 1) is a volume.
        if isinstance(image, nib.Nifti1Image) and set(image.shape[3:]) == {1}:
            image = nib.funcs.squeeze_image(image)
    except Exception as error:  # nibabel, gzip and the system have errors of their own
        raise ValueError(_damaged(file, error)) from error
    if not isinstance(image, nib.Nifti1Image):
        raise ValueError(
            f"{file.name} is {type(image).__name__}, not NIfTI; convert it with nibabel: "
            "`nib.save(nib.Nifti1Image.from_image(image), FILE)`"
        )
    _require_volume(file, image)
    return image


def _open(file: Path) -> nib.filebasedimages.FileBasedImage:
    packed = file.name.lower().endswith(".gz")
    with file.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    # nibabel refuses mixed case, such as `.Nii`.
    usual = file.name.endswith((".nii", ".nii.gz", ".NII", ".NII.GZ"))
    if (compressed == packed and usual) or identify(file) != NIFTI:
        return nib.load(file)
    # Only the name is odd, or wrong about compression; the content is sound.
    content = file.read_bytes()
    if compressed:
        content = gzip.decompress(content)
    # A header starts with its own size: 348 bytes in NIfTI-1, 540 in NIfTI-2, in either byte order.
    size = content[:4]
    is_first = 348 in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
    kind = nib.Nifti1Image if is_first else nib.Nifti2Image
    return kind.from_bytes(content)


def _damaged(file: Path, error: Exception) -> str:
    """What is wrong with a file that could not be opened: another format, or damage."""
    if isinstance(error, OSError) and error.strerror:
        return f"{file.name} can't be read ({error.strerror}); check that the file is there and that you may read it"
    if isinstance(error, nib.spatialimages.HeaderDataError):
        return f"{file.name} has a header that contradicts itself ({error}); correct it, or export the file again"
    other = explain(file, TO_NIFTI)
    if other:
        return f"{file.name} {other}"
    return f"{file.name} can't be read ({error}): it is damaged or cut off; fetch it again"


def _require_volume(file: Path, image: nib.Nifti1Image) -> None:
    """Refuse what nibabel opens but is no volume of intensities or labels in millimetres."""
    dtype = image.get_data_dtype()
    if len(image.shape) != 3:
        shape = "x".join(map(str, image.shape))
        axes = f"{len(image.shape)} axes ({shape})"
        raise ValueError(
            f"{file.name} has {axes}, a volume has three; write a file for each modality, as "
            "nib.four_to_three gives them"
        )
    if dtype.fields:
        raise ValueError(f"{file.name} holds colours (RGB), not intensities; take the series that it was coloured from")
    if dtype.kind == "c":
        raise ValueError(f"{file.name} holds complex numbers; write their magnitude (np.abs)")
    unit = _read_unit(image)
    if unit in ("meter", "micron"):
        raise ValueError(
            f"the header of {file.name} counts in {unit}s, not in millimetres; scale its affine and set "
            "the unit with header.set_xyzt_units('mm')"
        )
    _require_spacing(file, image)


def _require_spacing(file: Path, image: nib.Nifti1Image) -> None:
    """Refuse an affine that no scanner gives."""
    affine = image.affine
    # The determinant is the volume of a voxel: the finest that is allowed has 0.008 mm³.
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        remedy = "set sform and qform from another file of the patient"
        raise ValueError(f"{file.name} has an affine that lays all voxels in one plane, such as all zeros; {remedy}")
    spacing = nib.affines.voxel_sizes(affine)
    field = spacing * image.shape
    if spacing.min() < FINEST_MM or spacing.max() > COARSEST_MM or field.max() > LARGEST_FIELD_MM:
        voxel = " x ".join(f"{side:.3g}" for side in spacing)
        span = " x ".join(f"{side:.3g}" for side in field)
        raise ValueError(
            f"{file.name} has voxels of {voxel} mm over {span} mm, which no scanner gives ({FINEST_MM} to "
            f"{COARSEST_MM} mm, {LARGEST_FIELD_MM:g} mm in all); "
            "its spacing is in another unit: scale its affine"
        )


def _read_unit(image: nib.Nifti1Image) -> str:
    """Unit of the spacing, in nibabel's words, or UNKNOWN_CODE."""
    try:
        return str(image.header.get_xyzt_units()[0])
    except KeyError:
        return UNKNOWN_CODE


def pack_volume(file: Path, target: Path) -> None:
    """The same volume as a compressed file; `target` ends in `.nii.gz`."""
    nib.save(_load(file), target)


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
    original = _load(like)
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


def reoriented(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The image with its axes turned to L, P, S."""
    current = io_orientation(image.affine)
    wanted = axcodes2ornt(ORIENTATION)
    return image.as_reoriented(ornt_transform(current, wanted))


def _labels(mask: np.ndarray, file: Path, tissues: tuple[Tissue, ...]) -> UInt8[np.ndarray, "h w d"]:
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
