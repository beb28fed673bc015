"""Nodes of segmentation data engineering."""

import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from brain_tumor.data.common.files import is_simulated
from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.common.provenance import Origin
from brain_tumor.data.common.store import Chunk, Store, StoreContent, fingerprint
from brain_tumor.data.scans import split
from brain_tumor.data.scans.brain_crop import locate_brain
from brain_tumor.data.scans.clinical_tables import FACTS, read_clinical
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.find_scans import describe_scans, find_scans, read_slices
from brain_tumor.data.scans.preparation import PREPARATION, PreparationSettings, prepare_slice
from brain_tumor.data.scans.scan import Scan, Slice, Unreadable
from brain_tumor.data.scans.slice_index import INSPECTION, count_missing, find_indexed, inspect_scan
from brain_tumor.data.scans.slice_spacing import find_step
from brain_tumor.pipelines.experiments import Figures
from brain_tumor.reporting.data_segmentation.data_sheet import compose_data_sheet
from brain_tumor.reporting.data_segmentation.report import compose_data_report

logger = logging.getLogger(__name__)

MONTAGE = 24
"""Patients shown in the montage."""


def index_slices(
    source: Path,
    inspections: joblib.Memory,
    data_set: DataSet,
    workers: WorkerSettings,
) -> pd.DataFrame:
    """A row for each slice of the source. Files that haven't changed since the last run are not read again."""
    scans = find_scans(source, data_set)
    inspect = inspections.cache(_inspect, ignore=["scan", "data_set", "source"])
    # Without the pattern of persons, which no row of the index depends on.
    settings = fingerprint(INSPECTION, data_set.model_dump(exclude={"person"}), source)

    def describe(scans: list[Scan]) -> list[pd.DataFrame]:
        tasks = [(_find_state(scan) + settings, scan, data_set, source) for scan in scans]
        changed = [task for task in tasks if not inspect.check_call_in_cache(*task)]
        logger.info("%d patients in %s, %d new or changed since the last run", len(scans), source, len(changed))
        # Only to fill the cache: the results are read from there, with those of earlier runs.
        deque(parallel_map(inspect, changed, workers, "inspecting"), maxlen=0)
        parts = [inspect(*task) for task in tasks]
        for task, rows in zip(tasks, parts, strict=True):
            # It could not be opened, which may have passed by the next run.
            if (rows["hash"] == "").any():
                inspect.call_and_shelve(*task).clear()
        return parts

    described = describe_scans(scans, describe, lambda rows: bool((rows["excluded"] == "").any()))
    index = pd.concat([rows for _, rows in described], ignore_index=True)
    index["simulated"] = is_simulated(source)
    _report_left_out(index)
    return index


def _find_state(scan: Scan) -> str:
    """Another one where the rows of a scan would be others."""
    return "|".join([scan.state, scan.patient, scan.problem, scan.note])


def _inspect(state: str, scan: Scan, data_set: DataSet, source: Path) -> pd.DataFrame:  # noqa: ARG001
    """An inspection to be remembered by the state of the files and of the settings.

    Hashing all the arguments would take longer.
    """
    return inspect_scan(scan, data_set, source)


def _report_left_out(index: pd.DataFrame) -> None:
    excluded = index[index["excluded"] != ""]
    used = index[index["excluded"] == ""]
    empty = excluded["excluded"].str.startswith("no brain").sum()
    logger.info(
        "%d slices of %d patients are used, %d excluded (%d of them show no brain)",
        len(used),
        used["patient"].nunique(),
        len(excluded),
        empty,
    )
    for row in excluded[excluded["brain_pixels"] == 0].itertuples():
        # Slices above and below the brain are in every scan.
        if not row.excluded.startswith("no brain"):
            logger.warning("excluded: %s: %s", row.file, row.excluded)
    for patient, reason in _patients_with(excluded[excluded["brain_pixels"] > 0], "excluded"):
        logger.warning("excluded: %s: %s", patient, reason)
    for patient, note in _patients_with(index, "note"):
        logger.warning("%s: %s", patient, note)
    if len(excluded) == len(index):
        raise ValueError(f"no slice can be used; the first reason is: {index['excluded'].iloc[0]}")


def _patients_with(rows: pd.DataFrame, column: str) -> list[tuple[str, str]]:
    """Each patient and text of a column, once."""
    chosen = rows.loc[rows[column] != "", ["patient", column]].drop_duplicates()
    return list(chosen.itertuples(index=False, name=None))


def prepare_slices(
    index: pd.DataFrame,
    source: Path,
    data_set: DataSet,
    preparation: PreparationSettings,
    workers: WorkerSettings,
) -> StoreContent:
    """Every slice in use, standardised and resized; read and prepared only if files or settings changed."""
    used = index[index["excluded"] == ""]
    description = {
        "data_set": data_set.name,
        "modalities": data_set.modality_names,
        "tissues": data_set.tissue_names,
        "targets": {name: list(labels) for name, labels in data_set.targets.items()},
        "slice_size": preparation.slice_size,
        "preparation": PREPARATION,
        "orientation": "rows to the patient's left, columns to the back",
        "standardisation": "mean 0, deviation 1 over the brain of each slice and modality; 0 outside",
        "simulated": bool(index["simulated"].any()),
    }
    # By hash, not by path: a source that was moved is prepared once.
    files = used[["patient", "slice", "hash"]].sort_values(["patient", "slice"])
    settings = data_set.model_dump(exclude={"person"})
    mark = fingerprint(description, settings, files.to_numpy().tolist())
    chunks = _prepare(used, source, data_set, preparation.slice_size, workers)
    return StoreContent(description | {"fingerprint": mark}, chunks)


def _prepare(
    used: pd.DataFrame,
    source: Path,
    data_set: DataSet,
    size: int,
    workers: WorkerSettings,
) -> Iterator[Chunk]:
    numbers = used.groupby("patient")["slice"].agg(frozenset).to_dict()
    scans = find_indexed(used, source, data_set)
    tasks = [(scan, numbers[patient], data_set, size) for patient, scan in scans.items()]
    yield from parallel_map(prepare_patient, tasks, workers, "preparing")


def prepare_patient(scan: Scan, numbers: frozenset[int], data_set: DataSet, size: int) -> Chunk:
    """Rows of the store for one patient. Slices are prepared as they are read: raw ones are large."""
    rows = [_prepare_slice(_readable(slice_), size) for slice_ in read_slices(scan, data_set, numbers)]
    columns = {}
    for name in rows[0]:
        # Stores take text as objects.
        dtype = object if name == "file" else None
        columns[name] = np.array([row[name] for row in rows], dtype=dtype)
    return columns | {"patient": np.array([scan.patient] * len(rows), dtype=object)}


def _prepare_slice(slice_: Slice, size: int) -> dict[str, Any]:
    image, labels = prepare_slice(slice_.image, slice_.labels, size)
    spacing = np.asarray(slice_.spacing, np.float32)
    # Pixels of the resized square are larger; the distance between slices is as it was.
    spacing[:2] *= max(slice_.labels.shape) / size
    return locate_brain(image, labels) | {
        "image": image,
        "labels": labels,
        "slice": np.int16(slice_.number),
        "tumour_pixels": np.int32((labels > 0).sum()),
        "file": slice_.file.name,
        "row_mm": spacing[0],
        "column_mm": spacing[1],
        "slice_mm": spacing[2],
    }


def _readable(slice_: Slice | Unreadable) -> Slice:
    if isinstance(slice_, Unreadable):
        raise ValueError(f"{slice_.file} changed since it was indexed: {slice_.problem}; run again")
    return slice_


def describe_patients(index: pd.DataFrame, source: Path, data_set: DataSet) -> pd.DataFrame:
    """A row for each patient in use.

    Slices, tissue volumes in millilitres over them, and their entries in the published tables.

    A slice stands for the space up to the next one (`brain_tumor.data.scans.slice_spacing`); where slices make no
    volume, for itself alone.
    """
    used = index[index["excluded"] == ""]

    def find_patient_step(numbers: pd.Series) -> int:
        # 0 where the slices make no volume: a number, so that the column stays one of integers.
        return find_step(numbers.to_numpy(), data_set.spacing[2]) or 0

    steps = used.groupby("patient")["slice"].agg(find_patient_step)
    voxel_ml = used["voxel_mm3"] * used["patient"].map(steps).clip(lower=1) / 1000
    by_slice = {f"{tissue}_ml": used[f"{tissue}_pixels"] * voxel_ml for tissue in data_set.tissue_names}
    volumes = pd.DataFrame(by_slice).groupby(used["patient"]).sum()
    patients = volumes.assign(tumour_ml=volumes.sum(axis=1)).round(3)
    patients.insert(0, "slices", used.groupby("patient").size())
    patients.insert(1, "slice_step", steps)
    patients = patients.reset_index().merge(read_clinical(source), "left", on="patient")
    # Patients that the published tables don't list go by the name of their files.
    names = patients.pop("own").fillna(patients["patient"])
    named = names.map(data_set.find_person)
    persons = split.find_persons(patients["patient"], named, used[["patient", "hash"]])
    patients.insert(1, "person", persons)
    return patients.fillna(dict.fromkeys(FACTS, ""))


def split_patients(patients: pd.DataFrame, settings: split.SplitSettings) -> pd.DataFrame:
    """Each patient's set (train, validation or test) and fold."""
    splits = split.split_patients(patients, settings)
    counts = splits["split"].value_counts()
    logger.info("patients: %s", ", ".join(f"{count} {name}" for name, count in counts.items()))
    return splits


def draw_data(slices: Store, index: pd.DataFrame, patients: pd.DataFrame) -> Figures:
    """Patients, heights, histograms, a montage, and one patient as a film."""
    from brain_tumor.figures.segmentation_data import (
        animate_patient,
        draw_heights,
        draw_histograms,
        draw_montage,
        draw_patients,
    )

    about, rows = slices.description, slices.rows
    modalities, tissues = about["modalities"], about["tissues"]
    title, film_mark = about["data_set"], ""
    if about["simulated"]:
        title, film_mark = f"{title}, SIMULATED", "SIMULATED, "
    rows["tumour"] = _count_tumour(index, rows, tissues)
    fullest = rows.groupby("patient")["tumour"].idxmax().to_numpy()[:MONTAGE]
    images, labels = slices.read(fullest, "image", "labels")
    longest = patients.sort_values(["slices", "tumour_ml"])["patient"].iloc[-1]
    film_rows = np.flatnonzero(rows["patient"] == longest)
    film, film_labels = slices.read(film_rows, "image", "labels")
    numbers = rows["slice"].to_numpy()[film_rows].tolist()
    return {
        "1_patients": draw_patients(patients, tissues, title),
        "2_heights": draw_heights(index, tissues, title),
        "3_histograms": draw_histograms(images, labels, modalities, tissues, title),
        "4_montage": draw_montage(images, labels, rows["patient"][fullest].tolist(), title),
        "5_slices": animate_patient(film, {"mask": film_labels}, modalities, numbers, f"{film_mark}{longest}"),
    }


def _count_tumour(index: pd.DataFrame, rows: pd.DataFrame, tissues: list[str]) -> np.ndarray:
    """Pixels of tumour in each slice of the store, before it was resized."""
    columns = [f"{tissue}_pixels" for tissue in tissues]
    counted = index[["patient", "slice"]].assign(tumour=index[columns].sum(axis=1))
    tumour = counted.set_index(["patient", "slice"])["tumour"]
    # A second file for a slice has a row too, which is excluded.
    unique = tumour[~tumour.index.duplicated()]
    places = pd.MultiIndex.from_frame(rows[["patient", "slice"]])
    return unique.reindex(places).to_numpy()


def write_data_report(
    patients: pd.DataFrame,
    index: pd.DataFrame,
    splits: pd.DataFrame,
    slices: Store,
    source: Path,
    figures: dict[str, bytes],
    preparation: PreparationSettings,
    policy: split.SplitSettings,
) -> str:
    """The report on the data as one HTML page."""
    settings = {"preparation": preparation.model_dump(), "split": policy.model_dump()}
    missing = count_missing(index, source)
    return compose_data_report(patients, index, splits, slices.description, missing, figures, settings)


def write_data_sheet(
    patients: pd.DataFrame,
    index: pd.DataFrame,
    splits: pd.DataFrame,
    slices: Store,
    source: Path,
    data_set: DataSet,
    policy: split.SplitSettings,
    origin: Origin,
) -> str:
    """The data sheet of the scans."""
    missing = count_missing(index, source)
    return compose_data_sheet(patients, index, splits, slices.description, missing, data_set, policy, origin)
