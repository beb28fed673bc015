"""Nodes that segment scans which nobody has drawn masks for."""

import logging
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from nibabel.affines import voxel_sizes
from tqdm import tqdm

from brain_tumor.data.declaration import DataSet
from brain_tumor.data.masks import MOST_BRAIN, Mask
from brain_tumor.data.nifti_volumes import find, name_mask, read_expert_mask, read_image, read_mask
from brain_tumor.data.parallel import WorkerSettings, for_each
from brain_tumor.data.pieces import drop_small
from brain_tumor.data.preparation import find_brain, standardise
from brain_tumor.data.scan import Scan
from brain_tumor.data.scans import SIMULATED_MARK
from brain_tumor.figures.cells import mark_title
from brain_tumor.figures.segmentation import draw_found
from brain_tumor.metrics.segmentation import count_slices, score_patients
from brain_tumor.metrics.surfaces import score_surfaces
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.pipelines.inference.report import DRAWN, NOT_DRAWN, compose_scans_report
from brain_tumor.training.settings import EngineSettings, PredictionSettings

logger = logging.getLogger(__name__)

SHOWN = 12
"""Patients in a figure, at most."""

REMEDY = "give the folder of the scans with `--params inference_source=PATH`"


def _find_scans(source: Path, data_set: DataSet, *, masks: bool = False) -> list[Scan]:
    """Patients below a folder in the order of their names. `masks`: only those complete with one, their last file."""
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a folder; {REMEDY}")
    scans = find(sorted(path for path in source.rglob("*") if path.is_file()), data_set, masks=masks)
    if masks:
        return [scan for scan in scans if not scan.problem]
    if not scans:
        endings = ", ".join(f"*_{modality.endings[0]}.nii.gz" for modality in data_set.modalities)
        raise FileNotFoundError(f"there are no NIfTI volumes named {endings} in {source}; {REMEDY}")
    return sorted(scans, key=lambda scan: scan.patient)


def index_scans(source: Path, network: TrainedNetwork, data_set: DataSet, workers: WorkerSettings) -> pd.DataFrame:
    """A row for each patient: voxels, spacing, slices that show brain, or why he is left out, and whether an expert's mask lies beside the scan.

    Raises:
        FileNotFoundError: if there are no scans in the folder.
        ValueError: if the network wasn't made for these modalities and tissues, or no scan can be used.
    """
    _require_match(network, data_set)
    scans = _find_scans(source, data_set)
    index = pd.DataFrame(for_each(_describe, [(scan, source) for scan in scans], workers, "reading"))
    usable = index[index["left_out"] == ""]
    twice = usable.index[usable.duplicated("patient")]
    index.loc[twice, "left_out"] = "another patient of that name is used, the first in the order of the folders; name the files differently"
    left_out = index[index["left_out"] != ""]
    logger.info("%d patients are segmented, %d left out", len(index) - len(left_out), len(left_out))
    for row in left_out.itertuples():
        logger.warning("left out: %s: %s", row.patient, row.left_out)
    for row in index[index["note"] != ""].itertuples():
        logger.warning("%s: %s", row.patient, row.note)
    if len(left_out) == len(index):
        raise ValueError(f"no scan in {source} can be used; {left_out['patient'].iloc[0]}: {left_out['left_out'].iloc[0]}; {REMEDY}")
    index["expert_mask"] = _look_at_masks(index, source, data_set)
    index["simulated"] = (source / SIMULATED_MARK).is_file()
    return index


def _look_at_masks(index: pd.DataFrame, source: Path, data_set: DataSet) -> list[str]:
    """Of each patient: `DRAWN`, `NOT_DRAWN`, or why the mask can't be compared with."""
    drawn = {}
    for scan in _in_use(index, source, data_set, masks=True):
        try:
            read_expert_mask(scan, data_set)
            drawn[_key(scan, source)] = DRAWN
        except ValueError as error:
            drawn[_key(scan, source)] = str(error)
            logger.warning("not compared with an expert: %s: %s", scan.patient, error)
    return [drawn.get(key, NOT_DRAWN) for key in index[["patient", "folder"]].itertuples(index=False, name=None)]


def _require_match(network: TrainedNetwork, data_set: DataSet) -> None:
    remedy = "give another network with `--params inference_network=PATH`"
    about = network.description
    if "tissues" not in about:
        raise ValueError(f"{network.name} finds no tissues, it classifies images; {remedy}")
    for entry, names in (("modalities", data_set.modality_names), ("tissues", data_set.tissue_names)):
        if about[entry] != names:
            raise ValueError(f"{network.name} was trained on {entry} {about[entry]}, declared are {names}; {remedy}")


def _describe(scan: Scan, source: Path) -> dict:
    row = {
        "patient": scan.patient,
        "folder": _folder(scan, source),
        "voxels": "",
        "spacing_mm": "",
        "brain_slices": 0,
        "note": "",
        "left_out": scan.problem,
    }
    if scan.problem:
        return row
    try:
        image, spacing = read_image(scan)
    except ValueError as error:
        return row | {"left_out": str(error)}
    filled = np.array([find_brain(image[..., number]).mean() for number in range(image.shape[-1])])
    row |= {"voxels": " x ".join(map(str, image.shape[1:])), "spacing_mm": " x ".join(f"{step:.3g}" for step in spacing)}
    row["brain_slices"] = np.count_nonzero(filled)
    if filled.mean() > MOST_BRAIN:
        row["note"] = f"{filled.mean():.0%} of the scan differ from its background: if it still shows the skull, remove that first"
    return row if filled.any() else row | {"left_out": "every slice is empty; fetch the scan again"}


def segment_scans(
    network: TrainedNetwork, index: pd.DataFrame, source: Path, data_set: DataSet, prediction: PredictionSettings, engine: EngineSettings
) -> Iterator[Mask]:
    """A mask for each patient in use, on the grid of his scan."""
    return _segment(network, _in_use(index, source, data_set), data_set, prediction, engine)


def _in_use(index: pd.DataFrame, source: Path, data_set: DataSet, *, masks: bool = False) -> list[Scan]:
    used = set(index.loc[index["left_out"] == "", ["patient", "folder"]].itertuples(index=False, name=None))
    return [scan for scan in _find_scans(source, data_set, masks=masks) if _key(scan, source) in used]


def _key(scan: Scan, source: Path) -> tuple[str, str]:
    """The patient and his folder, as the index has them."""
    return scan.patient, _folder(scan, source)


def _folder(scan: Scan, source: Path) -> str:
    return str(scan.files[0].parent.relative_to(source))


def _find_drawn(index: pd.DataFrame, source: Path, data_set: DataSet) -> dict[str, Scan]:
    """Scan and expert's mask of each patient in use who has one that can be compared with."""
    return {scan.patient: scan for scan in _in_use(index[index["expert_mask"] == DRAWN], source, data_set, masks=True)}


def _segment(network: TrainedNetwork, scans: list[Scan], data_set: DataSet, prediction: PredictionSettings, engine: EngineSettings) -> Iterator[Mask]:
    from brain_tumor.training.device import choose_device
    from brain_tumor.training.predict import segment_volume

    module, device, size = network.module(), choose_device(engine), network.description["slice_size"]
    for scan in tqdm(scans, desc=f"segmenting with {network.name}", unit="patient", disable=None):
        image, spacing = read_image(scan)
        found = segment_volume(module, image, size, device, flips=prediction.flips)
        yield Mask(scan.patient, drop_small(found, prod(spacing) / 1000, prediction.smallest_ml), scan.files[0], data_set)


def measure_volumes(masks: Path, index: pd.DataFrame, data_set: DataSet) -> pd.DataFrame:
    """A row for each patient: the index's, and the volume of each tissue and region in millilitres."""
    rows = []
    for row in index.to_dict("records"):
        if row["left_out"] == "":
            labels, affine = read_mask(masks / name_mask(row["patient"], data_set), data_set)
            millilitres = float(np.prod(voxel_sizes(affine))) / 1000
            row |= {f"{name}_ml": round(int(np.isin(labels, own).sum()) * millilitres, 3) for name, own in data_set.targets.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def score_scans(network: TrainedNetwork, masks: Path, index: pd.DataFrame, source: Path, data_set: DataSet) -> pd.DataFrame:
    """Scores against experts' masks, where they lie beside the scans; rows `network`, `patient`, `target`, `metric`, `value`.

    On the grid of the scan, over its whole volume.
    """
    parts = [pd.DataFrame(columns=["patient", "target", "metric", "value"])]
    for patient, scan in tqdm(_find_drawn(index, source, data_set).items(), desc="comparing with experts", unit="patient", disable=None):
        found, affine = read_mask(masks / name_mask(patient, data_set), data_set)
        truth, found = (np.moveaxis(labels, -1, 0) for labels in (read_expert_mask(scan, data_set), found))
        row_mm, column_mm, slice_mm = voxel_sizes(affine).tolist()
        overlap = score_patients(count_slices(truth, found, data_set.targets).assign(patient=patient))
        parts += [overlap, score_surfaces(truth, found, (slice_mm, row_mm, column_mm), data_set.targets).assign(patient=patient)]
    scores = pd.concat(parts, ignore_index=True)
    scores.insert(0, "network", network.name)
    return scores


def draw_scans(network: TrainedNetwork, masks: Path, index: pd.DataFrame, source: Path, data_set: DataSet) -> dict[str, Figure]:
    """The slice of each patient in which most tumour was found, or the middle one if none was; with an expert's mask where there is one."""
    shown, drawn = {}, _find_drawn(index, source, data_set)
    for scan in _in_use(index, source, data_set)[:SHOWN]:
        image, _ = read_image(scan)
        labels, _ = read_mask(masks / name_mask(scan.patient, data_set), data_set)
        area = (labels > 0).sum((0, 1))
        number = int(area.argmax()) if area.any() else labels.shape[-1] // 2
        expert = read_expert_mask(drawn[scan.patient], data_set)[..., number] if scan.patient in drawn else None
        shown[f"{scan.patient}\nslice {number}"] = standardise(image[..., number]), labels[..., number], expert
    title = mark_title(f"{network.name}: what it finds in new scans", simulated=bool(index["simulated"].any()))
    return {"1_scans": draw_found(shown, data_set.modality_names, data_set.tissue_names, title)}


def write_scans_report(
    network: TrainedNetwork, volumes: pd.DataFrame, scores: pd.DataFrame, figures: dict[str, bytes], prediction: PredictionSettings, engine: EngineSettings
) -> str:
    """The report as one HTML page."""
    return compose_scans_report(network, volumes, scores, figures, {"prediction": prediction, "training": engine})
