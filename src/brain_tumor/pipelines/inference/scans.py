"""Nodes that segment new scans, and compare with reference masks where some lie beside them."""

from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nibabel.affines import voxel_sizes
from nibabel.orientations import aff2axcodes

from brain_tumor.data.common.parallel import track
from brain_tumor.data.common.tables import with_text
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.find_scans import read_image, read_labels
from brain_tumor.data.scans.nifti_masks import name_mask, read_confidence, read_mask
from brain_tumor.data.scans.nifti_volumes import open_volume
from brain_tumor.data.scans.preparation import standardise
from brain_tumor.data.scans.scan import Scan, Volume
from brain_tumor.data.scans.slice_geometry import SliceGeometry
from brain_tumor.data.survival.tumour_masks import Mask
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.segmentation import choose_headline
from brain_tumor.metrics.uncertainty import soft_dice_confidence
from brain_tumor.metrics.volumes import score_volume
from brain_tumor.networks.model_folders import LabelRule, ModelFolder, match_modalities
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.pipelines.inference.scan_index import find_in_use, with_reference
from brain_tumor.reporting.formatting import mark_title
from brain_tumor.reporting.inference.report import FILM, compose_scans_report
from brain_tumor.training.settings import EngineSettings, PredictionSettings

SHOWN = 12
"""Patients in a figure, at most."""

Segment = Callable[[Scan, Volume], tuple[np.ndarray, np.ndarray]]
"""A scan > labels of its voxels, and the probability of each tissue in steps of 1/255."""

FRAMES = 16
"""Slices in a film of a patient, at most."""


def segment_scans(
    network: TrainedNetwork | ModelFolder,
    index: pd.DataFrame,
    source: Path,
    data_set: DataSet,
    prediction: PredictionSettings,
    engine: EngineSettings,
    names: Mapping[str, str],
) -> Iterator[Mask]:
    """A mask for each patient in use, on the grid of the scan.

    Args:
        names: what the network of another project calls modalities and tissues > the declared name.
    """
    scans = find_in_use(index, source, data_set)
    if isinstance(network, ModelFolder):
        segment = _open_folder(network, data_set, prediction, engine, names)
    else:
        segment = _open_network(network, data_set, prediction, engine)
    return _segment(segment, scans, data_set, f"segmenting with {network.name}")


def _open_network(
    network: TrainedNetwork, data_set: DataSet, prediction: PredictionSettings, engine: EngineSettings
) -> Segment:
    from brain_tumor.training.device import choose_device
    from brain_tumor.training.segmentation.prediction import segment_volume

    module = network.module()
    device = choose_device(engine)
    geometry = SliceGeometry.of(network.description)

    def segment(_scan: Scan, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
        found, probability = segment_volume(
            module, volume.image, volume.spacing, geometry, device, tta_flip=prediction.tta_flip
        )
        return prediction.postprocess(found, prod(volume.spacing) / 1000, data_set.tissue_names), probability

    return segment


def _open_folder(
    folder: ModelFolder,
    data_set: DataSet,
    prediction: PredictionSettings,
    engine: EngineSettings,
    names: Mapping[str, str],
) -> Segment:
    """Masks as the other project would write them: without the postprocessing of this one."""
    from brain_tumor.training.device import choose_device

    channels = match_modalities(folder, data_set, names)
    rule = LabelRule.of(folder, data_set, names)
    predict = folder.open(choose_device(engine).accelerator, mirrored=prediction.tta_flip)

    def segment(scan: Scan, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
        # Others leave the axes as the files have them.
        axes = "".join(aff2axcodes(open_volume(scan.volumes[0]).affine))
        probability = predict(volume.image[channels], volume.affine, axes)
        return rule.to_labels(probability), rule.to_steps(probability)

    return segment


def _segment(segment: Segment, scans: list[Scan], data_set: DataSet, title: str) -> Iterator[Mask]:
    headline = choose_headline(data_set.targets)
    whole = {headline: data_set.targets[headline]}
    # One patient in memory at a time: a volume of four modalities has hundreds of megabytes.
    for scan in track(scans, title):
        volume = read_image(scan, data_set)
        labels, probability = segment(scan, volume)
        file = name_mask(scan.patient, data_set)
        # HDF5 slices have no header that the mask could take over.
        like = scan.volumes[0] if scan.layout == "nifti" else None
        # Of the mask as it is written; of one target, by which networks are ranked too.
        confidence = soft_dice_confidence(probability, labels, whole)
        yield Mask(scan.patient, file, labels, scan.tissues, volume.affine, like, *confidence.values())


def measure_volumes(masks: Path, index: pd.DataFrame, source: Path, data_set: DataSet) -> pd.DataFrame:
    """A row for each patient: the index's, the volume of each tissue and region in millilitres, and the confidence.

    The confidence is the soft Dice confidence of the headline target (WT of BraTS), which orders the masks by how sure
    the network is.
    """
    scans = {scan.patient: scan for scan in find_in_use(index, source, data_set)}
    rows = []
    for row in index.to_dict("records"):
        if row["excluded"] == "":
            scan = scans[row["patient"]]
            labels, affine = read_predicted(masks, scan, data_set)
            voxel_ml = float(np.prod(voxel_sizes(affine))) / 1000
            for name, own in data_set.targets.items():
                voxels = int(np.isin(labels, own).sum())
                row[f"{name}_ml"] = round(voxels * voxel_ml, 3)
            row["confidence"] = read_confidence(masks / name_mask(scan.patient, data_set))
        rows.append(row)
    return pd.DataFrame(rows)


def read_predicted(masks: Path, scan: Scan, data_set: DataSet) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the mask that was predicted of a scan, in the convention that it was written in, and the affine."""
    return read_mask(masks / name_mask(scan.patient, data_set), scan.tissues)


def score_scans(
    network: TrainedNetwork | ModelFolder,
    masks: Path,
    index: pd.DataFrame,
    source: Path,
    data_set: DataSet,
) -> pd.DataFrame:
    """Scores against reference masks, where they belong to the scans.

    Rows `network`, `weights`, `patient`, `target`, `metric`, `value`.

    On the grid of the scan, over its whole volume; distances between surfaces where it has three slices or more.
    """
    # The columns are there without any reference mask too.
    parts = [pd.DataFrame(columns=["patient", "target", "metric", "value"])]
    known = with_reference(index)
    compared = [scan for scan in find_in_use(index, source, data_set) if scan.patient in known]
    for scan in track(compared, "comparing with reference masks"):
        found, affine = read_predicted(masks, scan, data_set)
        truth = read_labels(scan, data_set)
        if truth is None:
            raise ValueError(f"the mask of {scan.patient} is gone since the scans were read; run again")
        row_mm, column_mm, slice_mm = voxel_sizes(affine).tolist()
        parts.append(score_volume(scan.patient, truth, found, (row_mm, column_mm, slice_mm), data_set.targets))
    scores = pd.concat(parts, ignore_index=True)
    trained = pd.DataFrame({"network": network.name, "weights": network.digest}, index=scores.index)
    return trained.join(scores)


def draw_scans(
    network: TrainedNetwork | ModelFolder,
    masks: Path,
    index: pd.DataFrame,
    source: Path,
    data_set: DataSet,
) -> Iterator[tuple[str, Any]]:
    """Films of the slices of each patient; the slice of each with most predicted tumour, or the middle one.

    With the reference mask where there is one. Pairs of name and figure.
    """
    return _draw(network, masks, index, source, data_set)


def _draw(
    network: TrainedNetwork | ModelFolder, masks: Path, index: pd.DataFrame, source: Path, data_set: DataSet
) -> Iterator[tuple[str, Any]]:
    from brain_tumor.figures.segmentation import draw_predictions

    shown = {}
    compared = with_reference(index)
    simulated = bool(index["simulated"].any())
    for scan in find_in_use(index, source, data_set)[:SHOWN]:
        image = read_image(scan, data_set).image
        labels, _ = read_predicted(masks, scan, data_set)
        reference = read_labels(scan, data_set) if scan.patient in compared else None
        drawn = {"prediction": labels}
        if reference is not None:
            drawn["reference mask"] = reference
        # Pixels of tumour in each slice.
        area = (labels > 0).sum((0, 1))
        number = int(area.argmax()) if area.any() else labels.shape[-1] // 2
        # Copies, since a view keeps its volume in memory.
        own_reference = None if reference is None else reference[..., number].copy()
        caption = f"{scan.patient}\nslice {number}"
        shown[caption] = standardise(image[..., number]), labels[..., number].copy(), own_reference
        film_title = mark_title(scan.patient, simulated=simulated)
        there = scan.find_present(data_set.modality_names)
        yield f"{FILM}{scan.patient}", _film(image[list(there)], drawn, list(there.values()), film_title)
    title = mark_title(f"{name_network(network.name)}: predictions in new scans", simulated=simulated)
    yield "1_scans", draw_predictions(shown, data_set.modality_names, data_set.tissue_names, title)


def _film(image: np.ndarray, masks: dict[str, np.ndarray], modalities: list[str], title: str) -> Any:
    """Slices spread over what any mask marks, or over the brain where none marks anything."""
    from brain_tumor.figures.segmentation_data import animate_patient

    marked = np.any([mask.any((0, 1)) for mask in masks.values()], axis=0)
    if not marked.any():
        marked = (image != 0).any((0, 1, 2))
    places = np.flatnonzero(marked)
    spread = np.linspace(places[0], places[-1], FRAMES).round().astype(int)
    # A short stretch has fewer slices than a film has frames.
    numbers = np.unique(spread)
    planes = np.stack([standardise(image[..., number]) for number in numbers]).astype(np.float16)
    shown = {name: mask[..., numbers].transpose(2, 0, 1).astype(np.uint8) for name, mask in masks.items()}
    return animate_patient(planes, shown, modalities, numbers.tolist(), title)


def write_scans_report(
    network: TrainedNetwork | ModelFolder,
    volumes: pd.DataFrame,
    scores: pd.DataFrame,
    figures: dict[str, bytes],
    viewers: dict[str, str],
    prediction: PredictionSettings,
    engine: EngineSettings,
    source: Path,
    masks: Path,
    data_set: DataSet,
) -> str:
    """The report as one HTML page.

    Args:
        viewers: patient > address of the page that shows all slices.
    """
    # What postprocesses masks is for networks of this project.
    used = {"tta_flip": prediction.tta_flip} if isinstance(network, ModelFolder) else prediction
    settings = {"prediction": used, "training": engine}
    scans = find_in_use(with_text(volumes, "excluded"), source, data_set)
    # A NIfTI file is a whole scan, an HDF5 file one slice of it.
    paths = [scan.files[0] if scan.layout == "nifti" else scan.files[0].parent for scan in scans]
    table = pd.DataFrame(
        {
            "patient": [scan.patient for scan in scans],
            "scan": [str(path) for path in paths],
            "mask": [str(masks / name_mask(scan.patient, data_set)) for scan in scans],
        }
    )
    return compose_scans_report(network, volumes, scores, figures, settings, table, viewers)
