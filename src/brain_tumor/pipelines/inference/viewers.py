"""The node that makes pages of new scans: all slices and the masks, to be looked at."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from brain_tumor.data.common.parallel import track
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.find_scans import read_image, read_labels
from brain_tumor.data.scans.scan import Scan
from brain_tumor.figures.palette import name_network
from brain_tumor.networks.model_folders import ModelFolder
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.pipelines.inference.scan_index import find_in_use, with_reference
from brain_tumor.pipelines.inference.scans import read_predicted
from brain_tumor.reporting.viewer import ViewedPatient, ViewerSettings, compose_viewer

logger = logging.getLogger(__name__)


def draw_viewers(
    network: TrainedNetwork | ModelFolder,
    masks: Path,
    index: pd.DataFrame,
    scores: pd.DataFrame,
    source: Path,
    data_set: DataSet,
    viewer: ViewerSettings,
) -> Iterator[tuple[str, str]]:
    """A page for each of the first patients in use: its name, and the HTML."""
    scans = find_in_use(index, source, data_set)
    left = len(scans) - viewer.patients
    if 0 < left < len(scans):
        logger.info("%d patients get no viewer; raise `viewer.patients` for more", left)
    return _compose(network, masks, index, scores, scans[: viewer.patients], data_set)


def _compose(
    network: TrainedNetwork | ModelFolder,
    masks: Path,
    index: pd.DataFrame,
    scores: pd.DataFrame,
    scans: list[Scan],
    data_set: DataSet,
) -> Iterator[tuple[str, str]]:
    simulated = bool(index["simulated"].any())
    compared = with_reference(index)
    dice = scores[scores["metric"] == "dice"]
    # One patient in memory at a time.
    for scan in track(scans, "writing viewers"):
        volume = read_image(scan, data_set)
        labels, _ = read_predicted(masks, scan, data_set)
        own = dice[dice["patient"] == scan.patient]
        there = scan.find_present(data_set.modality_names)
        viewed = ViewedPatient(
            scan.patient,
            name_network(network.name),
            volume.image[list(there)],
            list(there.values()),
            labels,
            read_labels(scan, data_set) if scan.patient in compared else None,
            volume.affine,
            data_set.targets,
            len(data_set.tissues),
            dict(zip(own["target"], own["value"], strict=True)),
            simulated=simulated,
        )
        yield scan.patient, compose_viewer(viewed)
