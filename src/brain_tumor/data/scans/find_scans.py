"""Scans in a folder, in whichever of the published layouts: found, and read slice by slice or whole."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from brain_tumor.data.common.file_kinds import KINDS, NIFTI, TO_NIFTI, identify
from brain_tumor.data.common.files import list_files
from brain_tumor.data.common.words import list_names
from brain_tumor.data.scans import hdf5_slices
from brain_tumor.data.scans import nifti as nifti_volumes
from brain_tumor.data.scans.data_set import MASK, DataSet
from brain_tumor.data.scans.patient_files import PatientFiles, explain_unknown, group_files
from brain_tumor.data.scans.scan import WHOLE_PATIENT, Scan, Slice, Unreadable, Volume

T = TypeVar("T")

SHOWN = 3
"""Patients that a line of the log names."""

LAYOUTS: dict[str, ModuleType] = {"nifti": nifti_volumes, "hdf5": hdf5_slices}
"""A patient who is there in both is taken from the first."""

MOST_KINDS = 4
"""Kinds of files that a message names, the most frequent first."""

logger = logging.getLogger(__name__)


def find_scans(
    folder: Path,
    data_set: DataSet,
    *,
    parameter: str = "segmentation_source",
    need_mask: bool = True,
    need_all: bool = True,
    quiet: bool = False,
) -> list[Scan]:
    """The scans below a folder, in the order of their patients' names. One that is there twice has a problem.

    The other is used, unless it turns out that it can't be (`describe_scans`).

    Args:
        parameter: the run parameter that gave the folder, for messages.
        need_mask: a NIfTI patient without a mask has a problem.
        need_all: a NIfTI patient without one of the modalities has a problem; else `Scan.missing` has its name.
        quiet: say nothing of what is unusual: it was said before.

    Raises:
        FileNotFoundError: if the folder isn't there, is empty, or holds no scan in a known layout.
    """
    remedy = f"give the folder of the scans with `--params {parameter}=PATH`"
    files = _list_source(folder, remedy)
    scans: list[Scan] = []
    used: dict[str, Scan] = {}
    for layout in LAYOUTS.values():
        found = layout.find(files, data_set, need_mask=need_mask, need_all=need_all)
        # Of two copies, one without a modality is the spare.
        for scan in sorted(found, key=lambda scan: len(scan.missing)):
            first = used.get(scan.patient)
            twice = _explain_twice(scan, first) if first else ""
            # Only a scan without a problem of its own can stand in for the first.
            spare = bool(twice) and not scan.problem
            scan = replace(scan, problem=twice or scan.problem, spare=spare)
            scans.append(scan)
            if not scan.problem:
                used[scan.patient] = scan
    unknown = explain_unknown(files, data_set)
    if not scans:
        needed = _name_layouts(data_set)
        if unknown:
            needed = f"{needed} ({unknown})"
        remedy = _add_conversion(remedy, files)
        raise FileNotFoundError(f"{folder} holds {_summarise(files)}, but {needed}; {remedy}")
    if not quiet:
        _log_notes({scan.patient: scan.note for scan in scans if scan.note})
        _warn_unknown(unknown)
    return sorted(scans, key=lambda scan: scan.patient)


def _name_layouts(data_set: DataSet) -> str:
    """The names that files of either layout must have, for a message that there is none."""
    endings = [modality.suffixes[0] for modality in data_set.modalities]
    suffixes = ", ".join(f"*_{ending}.nii.gz" for ending in endings)
    return f"neither HDF5 slices named {data_set.slice_file} nor NIfTI volumes named {suffixes}"


def describe_scans(
    scans: list[Scan],
    describe: Callable[[list[Scan]], list[T]],
    is_usable: Callable[[T], bool],
) -> list[tuple[Scan, T]]:
    """What is said of each scan. A spare one takes the place of those before it where none of them can be used.

    Args:
        describe: says it, of all the scans that it is given.
        is_usable: whether a scan of which that is said can be used.
    """
    said = describe(scans)
    # A spare scan may turn out unusable too; the next one of the patient has its turn in the next round.
    while True:
        usable = {scan.patient for scan, words in zip(scans, said, strict=True) if is_usable(words)}
        turn: dict[str, int] = {}
        for place, scan in enumerate(scans):
            if scan.spare and scan.patient not in usable:
                turn.setdefault(scan.patient, place)
        places = list(turn.values())
        if not places:
            return list(zip(scans, said, strict=True))
        scans, said = list(scans), list(said)
        for place in places:
            scans[place] = scans[place].in_use
        described = describe([scans[place] for place in places])
        for place, words in zip(places, described, strict=True):
            said[place] = words


def _warn_unknown(unknown: str) -> None:
    if unknown:
        logger.warning("passed over: %s", unknown)


def find_masks(
    folder: Path,
    data_set: DataSet,
    *,
    parameter: str = "survival_source",
    masks_only: bool = False,
) -> list[PatientFiles]:
    """The NIfTI patients below a folder who have a mask, in the order of their names.

    Args:
        parameter: the run parameter that gave the folder, for messages.
        masks_only: where no file has the suffix of a mask, or of a modality, every NIfTI file is the mask of the
            patient that it is named after, as nnU-Net writes them.

    Raises:
        FileNotFoundError: if the folder isn't there or holds no mask.
    """
    remedy = f"give the folder of the masks with `--params {parameter}=PATH`"
    files = _list_source(folder, remedy)
    masks = nifti_volumes.find_masks(files, data_set)
    unknown = explain_unknown(files, data_set)
    if masks_only and not group_files(files, data_set):
        masks, unknown = nifti_volumes.find_masks(files, data_set, MASK), ""
    if not masks:
        suffixes = ", ".join(f"*_{ending}.nii.gz" for ending in data_set.mask)
        remedy = _add_conversion(remedy, files)
        raise FileNotFoundError(f"{folder} holds {_summarise(files)}, but no masks named {suffixes}; {remedy}")
    _log_notes({found.patient: "; ".join(found.notes) for found in masks if found.notes})
    _warn_unknown(unknown)
    return sorted(masks, key=lambda found: (found.patient, str(found.mask)))


def _list_source(folder: Path, remedy: str) -> list[Path]:
    if folder.is_file():
        raise FileNotFoundError(f"{folder} is a file, not a folder with all volumes of the patients; {remedy}")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; {remedy}")
    files = list_files(folder)
    if not files:
        raise FileNotFoundError(f"{folder} is empty; {remedy}")
    return files


def _explain_twice(scan: Scan, first: Scan) -> str:
    if scan.layout != first.layout:
        return f"the patient is there in layout {first.layout} too, which goes before {scan.layout}"
    return (
        f"a patient of that name is in {first.files[0].parent} too, who goes before; if this is another one, "
        "give the files another name"
    )


def _log_notes(notes: dict[str, str]) -> None:
    """One line for each note, with the patients that it is about."""
    patients = defaultdict(list)
    for patient, note in notes.items():
        patients[note].append(patient)
    for note, names in patients.items():
        logger.info("%s: %s", list_names(names, SHOWN), note)


def _kinds(files: list[Path]) -> Counter[str]:
    """How many files are of each kind, taking those of one ending for alike."""
    kinds: Counter[str] = Counter()
    by_suffix: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        # DICOM files often end in numbers that only count them, such as `IM.0017`.
        is_number = file.suffix[1:].isdigit()
        suffix = "" if is_number else file.suffix.lower()
        by_suffix[suffix].append(file)
    for several in by_suffix.values():
        kinds[identify(several[0])] += len(several)
    return kinds


def _summarise(files: list[Path]) -> str:
    """How many files there are, and of which kinds, such as `120 files (118 DICOM, 2 text)`."""
    named = []
    for kind, count in _kinds(files).most_common():
        if kind in KINDS:
            name = KINDS[kind].removeprefix("is ").removeprefix("a ")
            named.append(f"{count:,} {name}")
    plural = "s" if len(files) > 1 else ""
    total = f"{len(files):,} file{plural}"
    listed = ", ".join(named[:MOST_KINDS])
    return f"{total} ({listed})" if listed else total


def _add_conversion(remedy: str, files: list[Path]) -> str:
    """The remedy, or how to turn the most frequent known kind among the files into what is needed."""
    # Text is passed over: a read-me or a licence lies beside nearly every data set.
    frequent = [kind for kind, _ in _kinds(files).most_common()]
    kinds = [kind for kind in frequent if kind in KINDS and kind != "text"]
    kind = kinds[0] if kinds else ""
    if kind in ("png", "jpeg"):
        return f"{remedy}; single images are classified by `kedro run --pipelines inference_classification`"
    if kind == NIFTI:
        return f"{remedy}, or declare the suffixes of your names under `data_segmentation.data_set.modalities`"
    if kind in TO_NIFTI:
        return f"{TO_NIFTI[kind]}; or {remedy}"
    return remedy


def read_slices(scan: Scan, data_set: DataSet, numbers: Collection[int] | None = None) -> Iterator[Slice | Unreadable]:
    """The slices of one patient (all, or those numbered), from the feet up.

    One that can't be used carries the reason.
    """
    if scan.problem:
        yield Unreadable(WHOLE_PATIENT, scan.files[0], scan.problem)
    else:
        yield from LAYOUTS[scan.layout].read(scan, data_set, numbers)


def read_image(scan: Scan, data_set: DataSet) -> Volume:
    """All slices of one patient, without a mask.

    Raises:
        ValueError: if they can't be used.
    """
    return LAYOUTS[scan.layout].read_image(scan, data_set)


def read_note(scan: Scan) -> str:
    """What is unusual about the headers of a scan that can be used."""
    return LAYOUTS[scan.layout].read_note(scan)


def read_labels(scan: Scan, data_set: DataSet) -> UInt8[np.ndarray, "h w d"] | None:
    """The labels of a mask that belongs to a scan, on its grid; None if there is none.

    Raises:
        ValueError: if the mask can't be used.
    """
    return LAYOUTS[scan.layout].read_labels(scan, data_set)
