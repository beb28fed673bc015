"""Patients in the layout of nnU-Net v2: links to their volumes, masks with labels 1, 2, 3, the same folds.

Source: documentation/dataset_format.md of https://github.com/MIC-DKFZ/nnUNet.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from brain_tumor.data.common.sets import TEST
from brain_tumor.data.scans.data_set import DataSet, Tissue
from brain_tumor.data.scans.find_scans import read_labels
from brain_tumor.data.scans.nifti_masks import write_mask
from brain_tumor.data.scans.nifti_volumes import pack_volume
from brain_tumor.data.scans.scan import Scan

ENDING = ".nii.gz"

FOLDERS = {False: ("imagesTr", "labelsTr"), True: ("imagesTs", "labelsTs")}
"""Whether a patient is for testing > folders of volumes and mask."""

NO_NIFTI = "HDF5 slices, and nnU-Net takes NIfTI volumes; give the patient as NIfTI"


@dataclass(frozen=True)
class Case:
    """A patient who is written.

    Attributes:
        test: the patient is kept out of training.
    """

    scan: Scan
    test: bool


@dataclass(frozen=True)
class NnunetData:
    """What is in a folder of nnU-Net's.

    Attributes:
        cases: patients, of whom one is in memory at a time.
        splits: training and validation patients of each fold.
        simulated: whether one of the patients is a phantom.
    """

    data_set: DataSet
    cases: tuple[Case, ...]
    splits: list[dict[str, list[str]]]
    simulated: bool

    def write(self, folder: Path) -> Iterator[str]:
        """Write it into a folder, patient by patient; gives the name of each who is written."""
        for case in self.cases:
            for name in FOLDERS[case.test]:
                (folder / name).mkdir(parents=True, exist_ok=True)
            write_case(case, folder, self.data_set)
            yield case.scan.patient
        training = sum(not case.test for case in self.cases)
        write_json(folder / "dataset.json", describe(self.data_set, training, simulated=self.simulated))
        write_json(folder / "splits_final.json", self.splits)


def describe(data_set: DataSet, training: int, *, simulated: bool) -> dict[str, Any]:
    """Content of `dataset.json`: channels and labels in the order in which the data set declares them."""
    channels = {str(number): name for number, name in enumerate(data_set.modality_names)}
    labels = {name: label for label, name in enumerate(data_set.tissue_names, start=1)}
    return {
        "name": data_set.name,
        "channel_names": channels,
        "labels": {"background": 0} | labels,
        "numTraining": training,
        "file_ending": ENDING,
        # An entry of this project: nnU-Net hands it on to the folder of the trained model.
        "simulated": simulated,
    }


def find_folds(splits: pd.DataFrame, patients: list[str]) -> list[dict[str, list[str]]]:
    """Content of `splits_final.json`: the project's folds of the patients who aren't for testing.

    A fold without a patient to validate with, as there may be of few patients, is left out.

    Args:
        splits: rows `patient`, `split`, `fold`.
        patients: those who are written.
    """
    learning = splits[splits["patient"].isin(patients) & (splits["split"] != TEST)]
    folds = []
    for fold in sorted(learning["fold"].unique()):
        own = learning["fold"] == fold
        names = {"train": sorted(learning.loc[~own, "patient"]), "val": sorted(learning.loc[own, "patient"])}
        if names["train"]:
            folds.append(names)
    return folds


def write_case(case: Case, folder: Path, data_set: DataSet) -> None:
    """Volumes of a patient as links, and the mask with labels 1, 2, ...

    Raises:
        ValueError: if the mask can't be used.
    """
    images, labels = FOLDERS[case.test]
    patient = case.scan.patient
    for number, volume in enumerate(case.scan.volumes):
        link(volume, folder / images / f"{patient}_{number:04d}{ENDING}")
    mask = read_labels(case.scan, data_set)
    if mask is None:
        raise ValueError(f"the mask of {patient} is gone since the scans were indexed; run again")
    tissues = tuple(Tissue(name=name, labels=(k,)) for k, name in enumerate(data_set.tissue_names, start=1))
    write_mask(folder / labels / f"{patient}{ENDING}", mask, case.scan.volumes[0], tissues, predicted=False)


def link(source: Path, target: Path) -> None:
    """The same file under another name, without a copy where the disk allows it; one that isn't packed is packed."""
    with source.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    if not packed:
        pack_volume(source, target)
        return
    # Of a link, the file that it leads to.
    original = source.resolve()
    try:
        os.link(original, target)
    except OSError:
        # Another disk, or one without hard links.
        try:
            target.symlink_to(original)
        except OSError:
            shutil.copyfile(original, target)


def write_json(file: Path, content: Any) -> None:
    """Content as JSON."""
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
