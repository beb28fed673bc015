"""The node that lists new scans, and which of them are in use."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.common.files import is_simulated
from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.find_scans import describe_scans, find_scans, read_image, read_labels
from brain_tumor.data.scans.nifti import explain_missing
from brain_tumor.data.scans.plausibility import PatientCheck
from brain_tumor.data.scans.preparation import PREPARATION, find_brain
from brain_tumor.data.scans.scan import MissingModalities, Scan
from brain_tumor.data.scans.scan_warnings import BETWEEN, find_warnings
from brain_tumor.networks.model_folders import LabelRule, ModelFolder, match_modalities, require_used
from brain_tumor.networks.trained import TrainedNetwork

logger = logging.getLogger(__name__)

REMEDY = "give the folder of the scans with `--params inference_source=PATH`"


def _find_scans(source: Path, data_set: DataSet, *, quiet: bool = False) -> list[Scan]:
    """Patients whose scans are below the source, in the order of their names; mask and modalities may be missing."""
    return find_scans(source, data_set, parameter="inference_source", need_mask=False, need_all=False, quiet=quiet)


def index_scans(
    source: Path,
    network: TrainedNetwork | ModelFolder,
    data_set: DataSet,
    workers: WorkerSettings,
    missing: MissingModalities,
    names: Mapping[str, str],
) -> pd.DataFrame:
    """Index of patients: voxels, spacing, slices with brain, warnings, reference mask, or why a patient is excluded.

    Args:
        missing: what is done with patients who lack a modality.
        names: what the network of another project calls modalities and tissues > the declared name.

    Raises:
        FileNotFoundError: if there are no scans in the folder.
        ValueError: if the network wasn't made for these modalities and tissues, or no scan can be used.
    """
    taken = require_match(network, data_set, names)
    if isinstance(network, ModelFolder):
        rule = LabelRule.of(network, data_set, names)
        found = [data_set.tissue_names[label - 1] for label in rule.labels if label]
        _log_match(network, "input", network.channels, taken)
        _log_match(network, "output", network.tumour_classes, found)

    def describe(scans: list[Scan]) -> list[dict]:
        chosen = [_refuse_missing(scan, data_set, taken) if missing == "exclude" else scan for scan in scans]
        if isinstance(network, ModelFolder):
            chosen = [_refuse_slices(scan, network) for scan in chosen]
        rows = parallel_map(_describe, [(scan, source, data_set) for scan in chosen], workers, "reading")
        return [_warn_missing(row, scan, network, taken) for row, scan in zip(rows, chosen, strict=True)]

    scans = _find_scans(source, data_set)
    described = describe_scans(scans, describe, lambda row: row["excluded"] == "")
    index = pd.DataFrame([row for _, row in described])
    excluded = index[index["excluded"] != ""]
    logger.info("%d patients are segmented, %d excluded", len(index) - len(excluded), len(excluded))
    for row in excluded.itertuples():
        logger.warning("excluded: %s: %s", row.patient, row.excluded)
    for scan, row in described:
        # The scan's own note was logged when scans were found.
        new_note = row["note"].removeprefix(scan.note).removeprefix("; ")
        for remark in (new_note, row["not_compared"], *row["warnings"].split(BETWEEN)):
            if remark and not row["excluded"]:
                logger.warning("%s: %s", scan.patient, remark)
    if len(excluded) == len(index):
        first = excluded.iloc[0]
        raise ValueError(f"no scan in {source} can be used; {first['patient']}: {first['excluded']}; {REMEDY}")
    index["simulated"] = is_simulated(source)
    return index


def _log_match(folder: ModelFolder, what: str, own: Sequence[str], declared: Sequence[str]) -> None:
    pairs = ", ".join(f"{one} is {other}" for one, other in zip(own, declared, strict=True))
    logger.info("%s of %s: %s", what, folder.name, pairs)


def _refuse_missing(scan: Scan, data_set: DataSet, taken: Collection[str]) -> Scan:
    """The scan, with a problem if it lacks a modality that the network takes."""
    missing = [name for name in scan.missing if name in taken]
    if not missing:
        return scan
    reasons = [*filter(None, [scan.problem]), *(explain_missing(name, data_set) for name in missing)]
    remedy = "add it, or segment without it: `--params inference_missing_modalities=zero`"
    return replace(scan, problem="; ".join([*reasons, remedy]))


def _refuse_slices(scan: Scan, folder: ModelFolder) -> Scan:
    """The scan, with a problem if it is HDF5 slices, which are standardised one by one: others take volumes."""
    if scan.layout == "nifti":
        return scan
    problem = f"HDF5 slices, and {folder.kind} takes NIfTI volumes; give the patient as NIfTI"
    return replace(scan, problem="; ".join(filter(None, [scan.problem, problem])))


def _warn_missing(row: dict, scan: Scan, network: TrainedNetwork | ModelFolder, taken: Collection[str]) -> dict:
    """The row of a patient, with a warning if a modality that the network takes is missing."""
    missing = [name for name in scan.missing if name in taken]
    if row["excluded"] or not missing:
        return row
    names = ", ".join(missing)
    verb = "is" if len(missing) == 1 else "are"
    known = {} if isinstance(network, ModelFolder) else network.description
    warning = f"{names} {verb} missing, the network gets 0 instead: {_tell_cost(known, missing)}"
    return row | {"warnings": BETWEEN.join(filter(None, (warning, row["warnings"])))}


def _tell_cost(about: Mapping[str, Any], missing: Sequence[str]) -> str:
    """What a missing modality costs, by the header of the network."""
    known = pd.DataFrame(about.get("missing_modalities", []), columns=["modality", "target", "dice", "change"])
    own = known[known["modality"] == missing[0]]
    if len(missing) > 1 or own.empty:
        return "masks may be wrong or empty; look at them, and add the modality if there is one"
    parts = [f"{row.target} {row.dice:.2f} ({row.change:+.2f})" for row in own.itertuples()]
    return f"mean Dice without it, and its change: {', '.join(parts)}"


def require_match(network: TrainedNetwork | ModelFolder, data_set: DataSet, names: Mapping[str, str]) -> list[str]:
    """The modalities that a network takes.

    Refuses one that was trained on other modalities or tissues, or on slices prepared in another way.

    Args:
        names: what the network of another project calls modalities and tissues > the declared name.

    Raises:
        ImportError: if the other project isn't installed.
        ValueError: with what it was trained on.
    """
    if isinstance(network, ModelFolder):
        network.require_installed()
        require_used(network, names)
        LabelRule.of(network, data_set, names)
        return [data_set.modality_names[place] for place in match_modalities(network, data_set, names)]
    remedy = "give another network with `--params inference_network=PATH`"
    about = network.description
    if "tissues" not in about:
        raise ValueError(f"{network.name} finds no tissues, it classifies images; {remedy}")
    for entry, declared in (("modalities", data_set.modality_names), ("tissues", data_set.tissue_names)):
        # In the same order: the network's channels have no names.
        if about[entry] != declared:
            raise ValueError(f"{network.name} was trained on {entry} {about[entry]}, declared are {declared}; {remedy}")
    network.require_preparation(PREPARATION)
    return data_set.modality_names


def _describe(scan: Scan, source: Path, data_set: DataSet) -> dict:
    """A row of the index. Reads the scan and its mask once."""
    row = {
        "patient": scan.patient,
        "folder": _folder(scan, source),
        "voxels": "",
        "spacing_mm": "",
        "brain_slices": 0,
        "missing": ", ".join(scan.missing),
        "labels": "",
        "note": "",
        "warnings": "",
        "expert_mask": "",
        "not_compared": "",
        "excluded": scan.problem,
    }
    if scan.problem:
        return row
    try:
        volume = read_image(scan, data_set)
    except ValueError as error:
        return row | {"excluded": str(error)}
    labels, not_compared = _read_reference(scan, data_set)
    brain = np.stack([find_brain(plane) for plane in np.moveaxis(volume.image, -1, 0)], axis=-1)
    there = scan.find_present(data_set.modality_names)
    modalities = list(there.values())
    image = volume.image[list(there)]
    check = PatientCheck(modalities, skull_stripped=data_set.skull_stripped)
    for number in range(image.shape[-1]):
        own_labels = None if labels is None else labels[..., number]
        check.add(image[..., number], brain[..., number], own_labels)
    row["voxels"] = " x ".join(map(str, volume.image.shape[1:]))
    row["spacing_mm"] = " x ".join(f"{step:.3g}" for step in volume.spacing)
    row["brain_slices"] = check.slices
    problem = check.find_image_problem() if check.slices else "every slice is empty; check the scan"
    if problem:
        return row | {"excluded": problem}
    # A tissue may have several labels, of which the first is written.
    row["labels"] = ", ".join(f"{tissue.name} {tissue.labels[0]}" for tissue in scan.tissues)
    row["note"] = "; ".join(note for note in (scan.note, volume.note, check.find_note()) if note)
    warnings = find_warnings(
        image,
        brain,
        volume.spacing,
        modalities,
        skull_stripped=data_set.skull_stripped,
        # Published HDF5 slices are often some of a scan.
        whole=scan.layout == "nifti",
    )
    row["warnings"] = BETWEEN.join(warnings)
    if labels is not None:
        not_compared = not_compared or check.find_mask_problem()
    if not_compared:
        return row | {"not_compared": not_compared}
    if labels is not None:
        # HDF5 slices hold their masks: the first of them stands for all.
        file = scan.mask or scan.files[0]
        row["expert_mask"] = str(file.relative_to(source))
    return row


def _read_reference(scan: Scan, data_set: DataSet) -> tuple[np.ndarray | None, str]:
    """Labels of the reference mask of a scan, if there is one, or why it can't be compared with."""
    if scan.mask_problem:
        return None, scan.mask_problem
    try:
        return read_labels(scan, data_set), ""
    except ValueError as error:
        return None, str(error)


def find_in_use(index: pd.DataFrame, source: Path, data_set: DataSet) -> list[Scan]:
    """Scans of the patients that are not excluded."""
    rows = index.loc[index["excluded"] == "", ["patient", "folder"]]
    # With the folder, which tells two scans of one patient apart.
    used = set(rows.itertuples(index=False, name=None))
    # What is unusual was logged when the index was made.
    scans = _find_scans(source, data_set, quiet=True)
    return [scan.in_use for scan in scans if (scan.patient, _folder(scan, source)) in used]


def _folder(scan: Scan, source: Path) -> str:
    return str(scan.files[0].parent.relative_to(source))


def with_reference(index: pd.DataFrame) -> set[str]:
    """Patients with a reference mask that can be compared with."""
    return set(index.loc[index["expert_mask"] != "", "patient"])
