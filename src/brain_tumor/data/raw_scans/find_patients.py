"""The patients of a folder of raw scans: DICOM series by their headers, and NIfTI volumes by their names."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nibabel.affines import voxel_sizes

from brain_tumor.data.common.files import list_files
from brain_tumor.data.raw_scans.choose_series import choose, group_studies, tabulate
from brain_tumor.data.raw_scans.convert import EXCLUDED, NoteFile, VolumeFile, convert_dicom, convert_nifti
from brain_tumor.data.raw_scans.dicom import find_series
from brain_tumor.data.raw_scans.settings import RawSettings
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.find_scans import find_scans
from brain_tumor.data.scans.nifti import explain_missing
from brain_tumor.data.scans.nifti_volumes import open_volume
from brain_tumor.data.scans.patient_files import SUFFIXES
from brain_tumor.data.scans.scan import Scan

PARAMETER = "raw_source"
GO_ON = "inference_missing_modalities=zero"


@dataclass
class RawPatient:
    """A patient as found.

    Attributes:
        files: modality > files of its series, or its NIfTI file.
        rows: of the table of series.
        problem: why the patient can't be prepared.
        note: what is unusual.
        missing: modalities that there are no files of.
        explained: that they aren't there; empty if none is missing.
    """

    patient: str
    layout: str
    files: dict[str, list[Path]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""
    note: str = ""
    missing: Sequence[str] = ()
    explained: str = ""

    def look_at_missing(self, needed: Collection[str], *, go_on: bool) -> None:
        """Exclude the patient for modalities that are missing, or note them.

        Args:
            needed: modalities without which nobody can be prepared.
            go_on: whether a patient is prepared without one of the others.
        """
        if self.problem or not self.missing:
            return
        add = "name them under `data_raw_scans.series`, or add them" if self.layout == "dicom" else "add them"
        if any(name in needed for name in self.missing):
            others = "modalities that are there for `data_raw_scans.reference` and `data_raw_scans.mask_on`"
            self.problem = f"{self.explained}; {add}"
            if self.files:
                self.problem += f", or give {others}" + ("" if go_on else f" and `--params {GO_ON}`")
        elif not go_on:
            self.problem = f"{self.explained}; {add}, or go on without: `--params {GO_ON}`"
        else:
            self.note = "; ".join(filter(None, [self.note, self.explained]))

    def convert(self, data_set: DataSet) -> list[VolumeFile | NoteFile]:
        """A file for each modality, or the reason why there is none."""
        volumes: list[VolumeFile | NoteFile] = []
        for modality, files in self.files.items():
            name = name_volume(self.patient, modality, data_set)
            try:
                if self.layout == "dicom":
                    volumes.append(convert_dicom(files, name))
                else:
                    volumes.append(convert_nifti(files[0], name))
            except ValueError as error:
                return [NoteFile(f"{self.patient}{EXCLUDED}", f"{modality}: {error}")]
        return volumes


def name_volume(patient: str, modality: str, data_set: DataSet) -> str:
    """What a volume of a patient is called: by the first suffix declared."""
    suffixes = {each.name: each.suffixes[0] for each in data_set.modalities}
    return f"{patient}_{suffixes[modality]}.nii.gz"


def find_patients(source: Path, data_set: DataSet, settings: RawSettings, *, go_on: bool = False) -> list[RawPatient]:
    """The patients below a folder, in the order of their names.

    Args:
        go_on: whether a patient who lacks a modality is prepared without it, where that can be done.

    Raises:
        FileNotFoundError: if there is no scan.
        ValueError: if a patient or modality of `settings.series` isn't there.
    """
    files = list_files(source)
    found = _find_dicom(files, source, data_set, settings.series)
    _require_known(settings.series, found, data_set)
    has_nifti = any(file.name.lower().endswith(SUFFIXES) for file in files)
    # Without any DICOM either, it has the words for what is there instead.
    if has_nifti or not found:
        for scan in find_scans(source, data_set, parameter=PARAMETER, need_mask=False, need_all=False):
            patient = _from_nifti(scan, source, data_set)
            if scan.layout != "nifti":
                patient.problem = "HDF5 slices are prepared already; segment them without `--raw`"
            if scan.patient in found:
                patient.problem = "a patient of that name is there as DICOM too, which goes before"
                found[scan.patient].rows += [row | {"taken": False} for row in patient.rows]
            else:
                found[scan.patient] = patient
    patients = [found[name] for name in sorted(found)]
    for patient in patients:
        patient.look_at_missing({settings.reference, settings.mask_on}, go_on=go_on)
    return patients


def find_dicom(
    source: Path, data_set: DataSet, overruled: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, list[Path]]]:
    """Patient > modality > files of the DICOM series that is taken; patients of NIfTI volumes aren't among them.

    Args:
        overruled: patient > modality > number of the series to take.
    """
    found = _find_dicom(list_files(source), source, data_set, overruled)
    return {name: patient.files for name, patient in found.items()}


def _find_dicom(
    files: list[Path], source: Path, data_set: DataSet, overruled: Mapping[str, Mapping[str, int]]
) -> dict[str, RawPatient]:
    found = {}
    for study in group_studies(find_series(files), source):
        chosen = choose(study, data_set.modality_names, overruled.get(study.patient, {}))
        taken = {choice.modality: choice.series.files for choice in chosen.choices if choice.taken}
        rows = tabulate(chosen)
        note = "; ".join(chosen.notes)
        in_order = {name: taken[name] for name in data_set.modality_names if name in taken}
        found[study.patient] = RawPatient(
            study.patient, "dicom", in_order, rows, chosen.problem, note, chosen.missing, chosen.explained
        )
    return found


def _require_known(
    overruled: Mapping[str, Mapping[str, int]], found: Mapping[str, RawPatient], data_set: DataSet
) -> None:
    for patient, series in overruled.items():
        if patient not in found:
            known = ", ".join(found) or "none"
            raise ValueError(f"data_raw_scans.series names {patient}; DICOM patients are {known}")
        unknown = [modality for modality in series if modality not in data_set.modality_names]
        if unknown:
            raise ValueError(
                f"data_raw_scans.series names {unknown[0]} for {patient}; modalities are {data_set.modality_names}"
            )


def _from_nifti(scan: Scan, source: Path, data_set: DataSet) -> RawPatient:
    files = scan.volumes
    there = list(scan.find_present(data_set.modality_names).values())
    # A patient without a problem has one file for each modality that is there, in the order declared.
    modalities = there if not scan.problem else [""] * len(files)
    rows = []
    for modality, file in zip(modalities, files, strict=False):
        rows.append(
            {
                "patient": scan.patient,
                "folder": str(file.parent.relative_to(source)),
                "series": "",
                "description": file.name,
                "modality": modality,
                "taken": not scan.problem,
                "why": "its name" if modality else "",
                "files": 1,
                "spacing_mm": _read_spacing(file),
            }
        )
    own = {modality: [file] for modality, file in zip(modalities, files, strict=False) if modality}
    explained = "; ".join(explain_missing(name, data_set) for name in scan.missing)
    return RawPatient(scan.patient, "nifti", own, rows, scan.problem, scan.note, scan.missing, explained)


def _read_spacing(file: Path) -> str:
    try:
        return " x ".join(f"{step:.3g}" for step in voxel_sizes(open_volume(file).affine))
    except ValueError:  # reported where the volume is read
        return ""
