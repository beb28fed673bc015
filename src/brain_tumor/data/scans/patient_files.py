"""Which NIfTI files are whose.

The one place that reads file and folder names, for segmentation, inference and survival alike.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from brain_tumor.data.scans.data_set import MASK, DataSet

logger = logging.getLogger(__name__)

SUFFIXES = (".nii.gz", ".nii")


@dataclass
class PatientFiles:
    """The NIfTI files of one patient.

    Attributes:
        volumes: name of a modality, or MASK > its file.
        conflicts: name of a modality, or MASK > what is wrong with its candidates.
        notes: how files were assigned, where the names alone don't show it.
    """

    patient: str
    volumes: dict[str, Path] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def mask(self) -> Path | None:
        """The file of the mask."""
        return self.volumes.get(MASK)

    @property
    def folder(self) -> Path:
        """Where the first of the files lies."""
        return next(iter(self.volumes.values())).parent


def group_files(files: Iterable[Path], data_set: DataSet) -> list[PatientFiles]:
    """The patients whose volumes are among the files, in the order of the files.

    A volume is told by the ending of its name (`P1_t1ce.nii.gz`; the longest ending declared wins), by its whole name
    in a folder for each patient (`P1/t1ce.nii.gz`), or by its folder (`t1ce/P1.nii.gz`). Parts of a patient that lie in
    several folders are joined if they don't overlap.
    """
    candidates: dict[tuple[Path, str], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file, (kind, patient) in _parse_all(files, data_set).items():
        candidates[file.parent, patient][kind].append(file)
    parts = {key: _choose(key[1], kinds) for key, kinds in candidates.items()}
    _adopt_masks(parts)
    return _join_folders(parts)


def _parse_all(files: Iterable[Path], data_set: DataSet) -> dict[Path, tuple[str, str]]:
    """File > modality or mask, and patient; files that are none are left out."""
    parsed, bare = {}, {}
    suffixes = dict(
        sorted(data_set.kind_of_suffix.items(), key=lambda item: len(item[0]), reverse=True)
    )  # the longest first
    folders = data_set.kind_of_folder
    for file in files:
        kind, patient = _parse(file, suffixes, folders)
        if kind and patient:
            parsed[file] = kind, patient
        elif kind:
            bare[file] = kind
    names = _name_folders({_home(file, folders) for file in bare})
    # in the order of the files, which decides who of two goes first
    return {
        file: parsed.get(file) or (bare[file], names[_home(file, folders)])
        for file in files
        if file in parsed or file in bare
    }


def _parse(file: Path, suffixes: Mapping[str, str], folders: Mapping[str, str]) -> tuple[str, str]:
    """Kind and patient of a file; both "" if it is no declared volume.

    ("T1ce", "BraTS20_Training_001") from "BraTS20_Training_001_t1ce.nii.gz"; ("T1ce", "") from "t1ce.nii.gz".
    """
    suffix = next((suffix for suffix in SUFFIXES if file.name.lower().endswith(suffix)), "")
    stem = file.name[: -len(suffix)] if suffix else ""
    if not stem:
        return "", ""
    for ending, kind in suffixes.items():
        if stem.lower().endswith((f"_{ending}", f"-{ending}")):
            return kind, stem[: -len(ending) - 1]
    if stem.lower() in suffixes:
        return suffixes[stem.lower()], ""
    kind = folders.get(file.parent.name.lower(), "")
    return kind, stem if kind else ""


def _home(file: Path, folders: Mapping[str, str]) -> Path:
    """The folder that a file named by its modality alone is named after: the one above `t1ce/t1ce.nii.gz`."""
    folder = file.parent
    return folder.parent if folder.name.lower() in folders else folder


def _name_folders(folders: Iterable[Path]) -> dict[Path, str]:
    """A name for each folder: its own, or with as many of the folders above as tell all of them apart."""
    folders = list(folders)
    for depth in range(1, 1 + max((len(folder.parts) for folder in folders), default=0)):
        names = {
            folder: "_".join(part for part in folder.parts[-depth:] if part != folder.anchor) for folder in folders
        }
        if len(set(names.values())) == len(folders):
            return names
    return {folder: folder.name for folder in folders}


def _choose(patient: str, candidates: dict[str, list[Path]]) -> PatientFiles:
    """One file for each modality and the mask; two that can't both be it are a conflict."""
    found = PatientFiles(patient)
    for kind, files in candidates.items():
        packed = [file for file in files if file.name.lower().endswith(".gz")]
        same = len({_stem(file) for file in files}) == 1
        if len(files) > 1 and same and len(packed) == 1:
            found.notes.append(f"{packed[0].name} is used, the unpacked file of the same name beside it is not")
            files = packed
        if len(files) > 1:
            names = " and ".join(file.name for file in files)
            found.conflicts[kind] = f"{len(files)} files for {kind} in {files[0].parent}: {names}; keep one"
        found.volumes[kind] = files[0]
    return found


def _stem(file: Path) -> str:
    return file.name.lower().removesuffix(".gz").removesuffix(".nii")


def _adopt_masks(parts: dict[tuple[Path, str], PatientFiles]) -> None:
    """A mask under another name belongs to the patient whose volumes are alone with it in a folder.

    So patient 355 of BraTS 2020 was published.
    """
    alone = [key for key, found in parts.items() if set(found.volumes) == {MASK}]
    for folder, name in alone:
        others = [key for key in parts if key[0] == folder and key[1] != name]
        if len(others) == 1 and MASK not in parts[others[0]].volumes:
            adopted, owner = parts.pop((folder, name)), parts[others[0]]
            owner.volumes[MASK] = adopted.volumes[MASK]
            owner.conflicts |= adopted.conflicts
            owner.notes.append(
                f"{adopted.volumes[MASK].name} is taken for the mask: it is alone with the scans in their folder"
            )


def _join_folders(parts: dict[tuple[Path, str], PatientFiles]) -> list[PatientFiles]:
    """Parts of one name in several folders are one patient if no modality is there twice.

    Masks may lie apart, or each modality in a folder.
    """
    by_patient: dict[str, list[PatientFiles]] = defaultdict(list)
    for (_, patient), found in parts.items():
        by_patient[patient].append(found)
    result = []
    for several in by_patient.values():
        kinds = [kind for found in several for kind in found.volumes]
        if len(several) == 1 or len(set(kinds)) < len(kinds):
            result += several
            continue
        joined = several[0]
        for other in several[1:]:
            joined.volumes |= other.volumes
            joined.conflicts |= other.conflicts
            joined.notes += other.notes
        folders = ", ".join(sorted({str(file.parent) for file in joined.volumes.values()}))
        joined.notes.append(f"the files of this patient lie in {folders}")
        result.append(joined)
    return result
