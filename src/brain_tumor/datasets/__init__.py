"""Kedro file formats: the only place that writes files."""

from brain_tumor.datasets.checkpoints import CheckpointsDataset
from brain_tumor.datasets.figures import FiguresDataset
from brain_tumor.datasets.inspections import InspectionsDataset
from brain_tumor.datasets.masks import MasksDataset
from brain_tumor.datasets.network import NetworkDataset
from brain_tumor.datasets.nnunet import NnunetDataset
from brain_tumor.datasets.report import ReportDataset
from brain_tumor.datasets.source import (
    FolderDataset,
    FoldersDataset,
    KaggleDataset,
    OutlinedSlicesDataset,
    SimulatedDataset,
    SimulatedImagesDataset,
    SimulatedMasksDataset,
)
from brain_tumor.datasets.store import StoreDataset
from brain_tumor.datasets.table import TableDataset
from brain_tumor.datasets.viewers import ViewersDataset
from brain_tumor.datasets.volumes import VolumesDataset

__all__ = [
    "CheckpointsDataset",
    "FiguresDataset",
    "FolderDataset",
    "FoldersDataset",
    "InspectionsDataset",
    "KaggleDataset",
    "MasksDataset",
    "NetworkDataset",
    "NnunetDataset",
    "OutlinedSlicesDataset",
    "ReportDataset",
    "SimulatedDataset",
    "SimulatedImagesDataset",
    "SimulatedMasksDataset",
    "StoreDataset",
    "TableDataset",
    "ViewersDataset",
    "VolumesDataset",
]
