"""Which NIfTI files are whose.

The one place that reads file and folder names, for segmentation, inference and survival alike.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from brain_tumor.data.common.pseudonyms import is_pseudonym
from brain_tumor.data.scans.data_set import MASK, DataSet, Tissue

SUFFIXES = (".nii.gz", ".nii")

SEPARATORS = ("_", "-", ".", " ")
"""Stand between the name of a patient and the suffix of a file."""

CONTENT_FOLDERS = frozenset(
    {
        *("image", "images", "img", "imgs", "scan", "scans", "volume", "volumes", "mri", "nifti", "nii", "anat"),
        *("mask", "masks", "label", "labels", "seg", "segs", "segmentation", "segmentations", "annotation"),
        *("annotations", "imagestr", "labelstr", "imagests", "labelsts"),
    }
)
"""Folders that say what lies in them and not whose it is, in lower case; those of modalities are such too."""

SHOWN = 3
"""Files of a kind that a message names."""


@dataclass
class PatientFiles:
    """The NIfTI files of one patient.

    Attributes:
        volumes: name of a modality, or MASK > its file.
        conflicts: name of a modality, or MASK > what is wrong with its candidates.
        notes: how files were assigned, where the names alone don't show it.
        predicted: a mask that this project predicted, which is no expert's.
    """

    patient: str
    volumes: dict[str, Path] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    predicted: Path | None = None

    @property
    def mask(self) -> Path | None:
        """The file of the mask."""
        return self.volumes.get(MASK)

    @property
    def folder(self) -> Path:
        """Where the first of the files lies."""
        return next(iter(self.volumes.values())).parent

    def find_tissues(self, data_set: DataSet) -> tuple[Tissue, ...]:
        """The tissues with the labels that the masks of this patient have.

        The patient's name decides, then those of the files, and of the folders that stand for either.
        """
        folders = data_set.kind_of_folder
        files = list(self.volumes.values())
        if self.predicted:
            files.append(self.predicted)
        names, patient = {self.patient}, self.patient
        if is_pseudonym(patient):
            # A pseudonym tells nothing of who named the files; those that its links lead to do.
            files = [file.readlink() if file.is_symlink() else file for file in files]
            for patient in name_patients(files, data_set).values():
                names.add(patient)
        for file in files:
            names.add(file.name)
            # The folder stands for the patient where the patient's name ends in its name.
            home = _home(file, folders).name
            if patient.endswith(home):
                names.add(home)
            folder = file.parent.name
            if folder.lower() in folders:
                names.add(folder)
        return data_set.tissues_of(names)


def group_files(
    files: Iterable[Path],
    data_set: DataSet,
    is_predicted: Callable[[Path], bool] = lambda _: False,
    unnamed: str = "",
) -> list[PatientFiles]:
    """The patients whose volumes are among the files, in the order of the files.

    A volume is told by the ending of its name (`P1_t1ce.nii.gz`; the longest ending declared wins), by its whole name
    in a folder for each patient (`P1/t1ce.nii.gz`), or by its folder (`t1ce/P1.nii.gz`). Parts of a patient that lie in
    several folders are joined if they don't overlap.

    Args:
        is_predicted: whether a mask is a prediction of this project; such a mask is kept apart.
        unnamed: modality, or MASK, of files of no declared suffix; they are left out where it is empty.
    """
    # By folder and patient, and there by modality or mask.
    candidates: dict[tuple[Path, str], dict[str, list[Path]]] = {}
    predicted: dict[str, Path] = {}
    for file, (kind, patient) in _parse_all(files, data_set, unnamed).items():
        if kind == MASK and is_predicted(file):
            predicted.setdefault(patient, file)
        else:
            kinds = candidates.setdefault((file.parent, patient), {})
            kinds.setdefault(kind, []).append(file)
    parts = {}
    for (folder, patient), kinds in candidates.items():
        parts[folder, patient] = _choose(patient, kinds)
    # Joined first: a patient whose own mask lies in another folder needs none of another name.
    found = _adopt_masks(_join_folders(parts))
    for scanned in found:
        scanned.predicted = predicted.pop(scanned.patient, None)
    # What is left are predictions of patients without any other file.
    alone = [PatientFiles(patient, predicted=file) for patient, file in predicted.items()]
    return found + alone


def name_patients(files: Iterable[Path], data_set: DataSet) -> dict[Path, str]:
    """File > patient, of the files that are volumes or masks by their names."""
    return {file: patient for file, (_, patient) in _parse_all(files, data_set).items()}


def explain_unknown(files: Iterable[Path], data_set: DataSet) -> str:
    """Which NIfTI files are passed over for their names, and how they are to be named; empty if none is."""
    files = [file for file in files if file.name.lower().endswith(SUFFIXES)]
    parsed = _parse_all(files, data_set)
    unknown = [file for file in files if file not in parsed]
    if not unknown:
        return ""
    names = ", ".join(file.name for file in unknown[:SHOWN])
    if len(unknown) > SHOWN:
        names += ", ..."
    remedy = "if they are scans, rename them, or declare their suffixes under `data_segmentation.data_set.modalities`"
    renamings = (_turn_name(file, data_set) for file in unknown)
    renaming = next(filter(None, renamings), "")
    if renaming:
        remedy = f"the modality comes last: rename {renaming}"
    plural = "s" if len(unknown) > 1 else ""
    return f"{len(unknown):,} NIfTI file{plural} of no declared suffix, such as {names}; {remedy}"


def _turn_name(file: Path, data_set: DataSet) -> str:
    """What `flair_P1.nii.gz` is to be renamed to; empty if the name doesn't start with a declared suffix."""
    stem = cut_suffix(file)
    extension = file.name[len(stem) :]
    # The longest first: `t1_ce_P1` starts with `t1_` too.
    for ending in sorted(data_set.kind_of_suffix, key=len, reverse=True):
        starts = tuple(ending + separator for separator in SEPARATORS)
        if stem.lower().startswith(starts):
            told = stem[: len(ending)]
            patient = stem[len(ending) + 1 :]
            return f"{file.name} to {patient}_{told}{extension}"
    return ""


def _parse_all(files: Iterable[Path], data_set: DataSet, unnamed: str = "") -> dict[Path, tuple[str, str]]:
    """File > modality or mask, and patient; files that are none are excluded, or `unnamed` and the whole name."""
    parsed, bare = {}, {}
    # The longest first, so that a suffix goes before one that it ends in.
    kind_of_suffix = data_set.kind_of_suffix
    suffixes = {ending: kind_of_suffix[ending] for ending in sorted(kind_of_suffix, key=len, reverse=True)}
    folders = data_set.kind_of_folder
    for file in files:
        kind, patient = _parse(file, suffixes, folders)
        if unnamed and not kind:
            # Empty where the file is no NIfTI file.
            patient = cut_suffix(file)
            kind = unnamed if patient else ""
        if kind and patient:
            parsed[file] = kind, patient
        elif kind:
            bare[file] = kind
    # Files named by their modality alone are named after their folders.
    root = None
    if bare:
        root = Path(os.path.commonpath([file.parent for file in bare]))
    homes = {file: _home(file, folders, root) for file in bare}
    names = _name_folders(set(homes.values()))
    # In the order of the files, which decides who of two goes first.
    result = {}
    for file in files:
        if file in parsed:
            result[file] = parsed[file]
        elif file in bare:
            patient = names[homes[file]]
            result[file] = bare[file], patient
    return result


def _parse(file: Path, suffixes: Mapping[str, str], folders: Mapping[str, str]) -> tuple[str, str]:
    """Kind and patient of a file; both "" if it is no declared volume.

    ("T1ce", "BraTS20_Training_001") from "BraTS20_Training_001_t1ce.nii.gz"; ("T1ce", "") from "t1ce.nii.gz".
    """
    stem = cut_suffix(file)
    if not stem:
        return "", ""
    name = stem.lower()
    for ending, kind in suffixes.items():
        ends = tuple(separator + ending for separator in SEPARATORS)
        if name.endswith(ends):
            return kind, stem[: -len(ending) - 1]
    if name in suffixes:
        return suffixes[name], ""
    kind = folders.get(file.parent.name.lower(), "")
    return (kind, stem) if kind else ("", "")


def cut_suffix(file: Path) -> str:
    """The name of a file without `.nii` or `.nii.gz`; empty if it has neither."""
    for suffix in SUFFIXES:
        if file.name.lower().endswith(suffix):
            return file.name[: -len(suffix)]
    return ""


def _home(file: Path, folders: Mapping[str, str], root: Path | None = None) -> Path:
    """The folder that a file named by its modality alone is named after: `P1` of `P1/anat/t1ce/t1ce.nii.gz`.

    Folders that only say what lies in them are removed from the path, so that `images/P1` and `masks/P1` are one.

    Args:
        root: the folder that all of the files lie in; none above it is removed.
    """
    top = root or Path(file.anchor)
    below = file.parent.relative_to(top).parts
    removed = {*folders, *CONTENT_FOLDERS}
    kept = [part for part in below if part.lower() not in removed]
    return top.joinpath(*kept)


def _name_folders(folders: Iterable[Path]) -> dict[Path, str]:
    """A name for each folder: its own, or with as many of the folders above as tell all of them apart."""
    folders = list(folders)
    deepest = max((len(folder.parts) for folder in folders), default=0)
    for depth in range(1, 1 + deepest):
        names = {}
        for folder in folders:
            parts = [part for part in folder.parts[-depth:] if part != folder.anchor]
            names[folder] = "_".join(parts)
        if len(set(names.values())) == len(folders):
            return names
    return {folder: folder.name for folder in folders}


def _choose(patient: str, candidates: dict[str, list[Path]]) -> PatientFiles:
    """One file for each modality and the mask; two that can't both be it are a conflict."""
    found = PatientFiles(patient)
    for kind, files in candidates.items():
        # A packed file and its unpacked copy are no conflict.
        packed = [file for file in files if file.name.lower().endswith(".gz")]
        stems = {_stem(file) for file in files}
        if len(files) > 1 and len(stems) == 1 and len(packed) == 1:
            found.notes.append(f"{packed[0].name} is used, the unpacked file of the same name beside it is not")
            files = packed
        if len(files) > 1:
            names = " and ".join(file.name for file in files)
            folder = files[0].parent
            found.conflicts[kind] = f"{len(files)} files for {kind} in {folder}: {names}; keep one"
        found.volumes[kind] = files[0]
    return found


def _stem(file: Path) -> str:
    return file.name.lower().removesuffix(".gz").removesuffix(".nii")


def _join_folders(parts: dict[tuple[Path, str], PatientFiles]) -> list[PatientFiles]:
    """Parts of one name in several folders are one patient if no modality is there twice.

    Masks may lie apart, or each modality in a folder. A mask in a folder of the scans goes before one elsewhere.
    """
    by_patient: dict[str, list[PatientFiles]] = defaultdict(list)
    for (_, patient), found in parts.items():
        by_patient[patient].append(found)
    result = []
    for several in by_patient.values():
        kinds: list[str] = []
        for found in several:
            kinds += [kind for kind in found.volumes if kind != MASK]
        # A modality that is there twice belongs to two patients of one name, or to two scans of one.
        overlap = len(set(kinds)) < len(kinds)
        if len(several) == 1 or not kinds or overlap:
            result += several
        else:
            result.append(_join(several))
    return result


def _join(parts: list[PatientFiles]) -> PatientFiles:
    """One patient of parts whose modalities don't overlap; several masks that may all be theirs are a conflict."""
    masks = [found for found in parts if found.mask]
    # A part with more than the mask holds a modality: its mask lies beside the scans.
    beside = [found for found in masks if len(found.volumes) > 1]
    chosen = beside if len(beside) == 1 else masks
    joined = PatientFiles(parts[0].patient)
    for found in parts:
        for kind, file in found.volumes.items():
            if kind != MASK:
                joined.volumes[kind] = file
        for kind, text in found.conflicts.items():
            if kind != MASK or found in chosen:
                joined.conflicts[kind] = text
        joined.notes += found.notes
    if chosen and chosen[0].mask:
        joined.volumes[MASK] = chosen[0].mask
    if len(chosen) > 1:
        names = _name_masks(chosen)
        joined.conflicts[MASK] = f"{len(chosen)} files for {MASK}: {names}; keep one"
    folders = sorted({str(file.parent) for file in joined.volumes.values()})
    joined.notes.append(f"the files of this patient lie in {', '.join(folders)}")
    if len(chosen) < len(masks):
        others = _name_masks(found for found in masks if found not in chosen)
        joined.notes.append(f"the mask beside the scans is used, {others} is not")
    return joined


def _name_masks(parts: Iterable[PatientFiles]) -> str:
    return " and ".join(str(found.mask) for found in parts)


def _adopt_masks(patients: list[PatientFiles]) -> list[PatientFiles]:
    """A mask under another name belongs to the patient whose volumes are alone with it in a folder.

    So patient 355 of BraTS 2020 was published. A mask whose name is that of another patient is theirs.
    """
    scanned = {found.patient for found in patients if set(found.volumes) != {MASK}}
    adopted = []
    for lone in patients:
        if set(lone.volumes) != {MASK} or lone.patient in scanned or lone.mask is None:
            continue
        folder = lone.mask.parent
        others = [found for found in patients if found is not lone and _lies_in(found, folder)]
        if len(others) == 1 and MASK not in others[0].volumes:
            (owner,) = others
            owner.volumes[MASK] = lone.mask
            owner.conflicts |= lone.conflicts
            owner.notes.append(f"{lone.mask.name} is taken for the mask: it is alone with the scans in their folder")
            adopted.append(lone)
    # By identity: two patients with equal files would be equal as dataclasses.
    return [found for found in patients if not any(found is lone for lone in adopted)]


def _lies_in(found: PatientFiles, folder: Path) -> bool:
    return any(file.parent == folder for file in found.volumes.values())
