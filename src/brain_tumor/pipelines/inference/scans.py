"""Nodes that segment new scans, and compare with experts' masks where some lie beside them."""

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
from brain_tumor.data.files import is_simulated, list_files
from brain_tumor.data.masks import MOST_BRAIN, Mask
from brain_tumor.data.nifti_volumes import find, find_masks, name_mask, read_image, read_mask, require_labels
from brain_tumor.data.parallel import WorkerSettings, for_each, shows_progress
from brain_tumor.data.preparation import find_brain, standardise
from brain_tumor.data.scan import Scan
from brain_tumor.data.window import window_shape
from brain_tumor.figures.cells import mark_title
from brain_tumor.figures.segmentation import draw_found
from brain_tumor.metrics.segmentation import count_slices, score_patients
from brain_tumor.metrics.surfaces import FEWEST_SLICES, score_surfaces
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.pipelines.inference.report import compose_scans_report
from brain_tumor.training.settings import EngineSettings, PredictionSettings

logger = logging.getLogger(__name__)

SHOWN = 12
"""Patients in a figure, at most."""

REMEDY = "give the folder of the scans with `--params inference_source=PATH`"


def _find_files(source: Path) -> list[Path]:
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a folder; {REMEDY}")
    return list_files(source)


def _find_scans(files: list[Path], data_set: DataSet) -> list[Scan]:
    """Patients whose volumes are among the files, in the order of their names; masks are not looked for."""
    return sorted(find(files, data_set, masks=False), key=lambda scan: scan.patient)


def index_scans(source: Path, network: TrainedNetwork, data_set: DataSet, workers: WorkerSettings) -> pd.DataFrame:
    """A row for each patient: voxels, spacing, slices that show brain, or why he is left out, and whether an expert's mask lies beside the scan.

    Raises:
        FileNotFoundError: if there are no scans in the folder.
        ValueError: if the network wasn't made for these modalities and tissues, or no scan can be used.
    """
    _require_match(network, data_set)
    files = _find_files(source)
    masks = {(file.parent, patient): file for patient, file, _ in reversed(find_masks(files, data_set))}
    tasks = [(scan, masks.get((scan.files[0].parent, scan.patient)), source, data_set) for scan in _find_scans(files, data_set)]
    if not tasks:
        endings = ", ".join(f"*_{modality.endings[0]}.nii.gz" for modality in data_set.modalities)
        raise FileNotFoundError(f"there are no NIfTI volumes named {endings} in {source}; {REMEDY}")
    index = pd.DataFrame(for_each(_describe, tasks, workers, "reading"))
    usable = index[index["left_out"] == ""]
    twice = usable.index[usable.duplicated("patient")]
    index.loc[twice, "left_out"] = "another patient of that name is used, the first in the order of the folders; name the files differently"
    left_out = index[index["left_out"] != ""]
    logger.info("%d patients are segmented, %d left out", len(index) - len(left_out), len(left_out))
    for row in left_out.itertuples():
        logger.warning("left out: %s: %s", row.patient, row.left_out)
    index.loc[left_out.index, ["note", "expert_mask", "not_compared"]] = ""
    for row in index.itertuples():
        if row.note or row.not_compared:
            logger.warning("%s: %s", row.patient, row.note or row.not_compared)
    if len(left_out) == len(index):
        raise ValueError(f"no scan in {source} can be used; {left_out['patient'].iloc[0]}: {left_out['left_out'].iloc[0]}; {REMEDY}")
    index["simulated"] = is_simulated(source)
    return index


def _require_match(network: TrainedNetwork, data_set: DataSet) -> None:
    remedy = "give another network with `--params inference_network=PATH`"
    about = network.description
    if "tissues" not in about:
        raise ValueError(f"{network.name} finds no tissues, it classifies images; {remedy}")
    for entry, names in (("modalities", data_set.modality_names), ("tissues", data_set.tissue_names)):
        if about[entry] != names:
            raise ValueError(f"{network.name} was trained on {entry} {about[entry]}, declared are {names}; {remedy}")


def _describe(scan: Scan, mask: Path | None, source: Path, data_set: DataSet) -> dict:
    row = {
        "patient": scan.patient,
        "folder": _folder(scan, source),
        "voxels": "",
        "spacing_mm": "",
        "brain_slices": 0,
        "note": "",
        "expert_mask": "",
        "not_compared": "",
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
    if not filled.any():
        return row | {"left_out": "every slice is empty; fetch the scan again"}
    if filled.mean() > MOST_BRAIN:
        row["note"] = f"{filled.mean():.0%} of the scan differ from its background: if it still shows the skull, remove that first"
    if mask:
        row |= _look_at_mask(mask, scan, source, data_set)
    return row


def _look_at_mask(mask: Path, scan: Scan, source: Path, data_set: DataSet) -> dict[str, str]:
    """The file of an expert's mask below the source, or why it can't be compared with."""
    try:
        require_labels(mask, scan, data_set)
        return {"expert_mask": str(mask.relative_to(source))}
    except ValueError as error:
        return {"not_compared": f"{error}; mend or remove the mask"}


def segment_scans(
    network: TrainedNetwork, index: pd.DataFrame, source: Path, data_set: DataSet, prediction: PredictionSettings, engine: EngineSettings
) -> Iterator[Mask]:
    """A mask for each patient in use, on the grid of his scan."""
    return _segment(network, _in_use(index, source, data_set), data_set, prediction, engine)


def _in_use(index: pd.DataFrame, source: Path, data_set: DataSet) -> list[Scan]:
    used = set(index.loc[index["left_out"] == "", ["patient", "folder"]].itertuples(index=False, name=None))
    return [scan for scan in _find_scans(_find_files(source), data_set) if (scan.patient, _folder(scan, source)) in used]


def _folder(scan: Scan, source: Path) -> str:
    return str(scan.files[0].parent.relative_to(source))


def _segment(network: TrainedNetwork, scans: list[Scan], data_set: DataSet, prediction: PredictionSettings, engine: EngineSettings) -> Iterator[Mask]:
    from brain_tumor.training.device import choose_device
    from brain_tumor.training.predict import segment_volume

    module, device, size = network.module(), choose_device(engine), network.description["slice_size"]
    window = window_shape(network.description)
    for scan in tqdm(scans, desc=f"segmenting with {network.name}", unit="patient", disable=not shows_progress()):
        image, spacing = read_image(scan)
        found = segment_volume(module, image, size, window, device, flips=prediction.flips)
        yield Mask(scan.patient, prediction.tidy(found, prod(spacing) / 1000, data_set.tissue_names), scan.files[0], data_set)


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
    """Scores against experts' masks, where they lie beside the scans; rows `network`, `weights`, `patient`, `target`, `metric`, `value`.

    On the grid of the scan, over its whole volume; distances between surfaces where it has three slices or more.
    """
    parts = [pd.DataFrame(columns=["patient", "target", "metric", "value"])]
    for patient, expert in tqdm(list(_find_experts(index).items()), desc="comparing with experts", unit="patient", disable=not shows_progress()):
        (truth, affine), (found, _) = (read_mask(file, data_set) for file in (source / expert, masks / name_mask(patient, data_set)))
        truth, found = (np.moveaxis(labels, -1, 0) for labels in (truth, found))
        parts.append(score_patients(count_slices(truth, found, data_set.targets).assign(patient=patient)))
        if len(truth) >= FEWEST_SLICES:
            row_mm, column_mm, slice_mm = voxel_sizes(affine).tolist()
            parts.append(score_surfaces(truth, found, (slice_mm, row_mm, column_mm), data_set.targets).assign(patient=patient))
    scores = pd.concat(parts, ignore_index=True)
    return pd.DataFrame({"network": network.name, "weights": network.digest}, index=scores.index).join(scores)


def _find_experts(index: pd.DataFrame) -> dict[str, str]:
    """The file of the expert's mask of each patient who has one."""
    return dict(index.loc[index["expert_mask"] != "", ["patient", "expert_mask"]].itertuples(index=False, name=None))


def draw_scans(network: TrainedNetwork, masks: Path, index: pd.DataFrame, source: Path, data_set: DataSet) -> dict[str, Figure]:
    """The slice of each patient in which most tumour was found, or the middle one if none was; with an expert's mask where there is one."""
    shown, experts = {}, _find_experts(index)
    for scan in _in_use(index, source, data_set)[:SHOWN]:
        image, _ = read_image(scan)
        labels, _ = read_mask(masks / name_mask(scan.patient, data_set), data_set)
        area = (labels > 0).sum((0, 1))
        number = int(area.argmax()) if area.any() else labels.shape[-1] // 2
        expert = read_mask(source / experts[scan.patient], data_set)[0][..., number] if scan.patient in experts else None
        shown[f"{scan.patient}\nslice {number}"] = standardise(image[..., number]), labels[..., number], expert
    title = mark_title(f"{network.name}: what it finds in new scans", simulated=bool(index["simulated"].any()))
    return {"1_scans": draw_found(shown, data_set.modality_names, data_set.tissue_names, title)}


def write_scans_report(
    network: TrainedNetwork, volumes: pd.DataFrame, scores: pd.DataFrame, figures: dict[str, bytes], prediction: PredictionSettings, engine: EngineSettings
) -> str:
    """The report as one HTML page."""
    return compose_scans_report(network, volumes, scores, figures, {"prediction": prediction, "training": engine})
