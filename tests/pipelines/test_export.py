"""`kedro export nnunet`: the layout, labels and folds; nnU-Net's own check where it is installed."""

import json
import logging
import os
import re
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from support import copy_project, save_patient

from brain_tumor.cli import nnunet
from brain_tumor.data.scans.nifti_masks import is_predicted
from brain_tumor.data.scans.nnunet import find_folds, link

PERSONS = ("00001", "00002", "00003", "00004", "00005", "00006", "00007")
CHECK = "from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity as check; "
"""A program of nnU-Net's."""


def draw(seed):
    """Four modalities of a brain in a field, and a mask in the labels of BraTS 2020 with every tissue."""
    volumes = np.zeros((4, 32, 30, 6), np.int16)
    volumes[:, 3:-3, 3:-3, 1:-1] = np.random.default_rng(seed).normal(300, 40, (4, 26, 24, 4))
    mask = np.zeros((32, 30, 6), np.uint8)
    mask[8:20, 8:20, 2:5] = 2
    mask[10:16, 10:16, 2:5] = 4
    mask[12:14, 12 : 13 + seed % 3, 3] = 1
    return volumes, mask


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Seven persons in the names of BraTS 2020, of whom the first has two visits; one volume isn't packed."""
    folder = tmp_path_factory.mktemp("scans")
    names = ["BraTS-X-00001-000", *(f"BraTS-X-{person}-001" for person in PERSONS)]
    for seed, name in enumerate(names):
        volumes, mask = draw(seed)
        save_patient(folder / name, name, volumes, np.where(mask == 4, 3, mask))
    packed = folder / names[3] / f"{names[3]}_t1.nii.gz"
    nib.save(nib.load(packed), folder / names[3] / f"{names[3]}_t1.nii")
    packed.unlink()
    return folder


def invoke(project, folder, source, **params):
    given = ",".join(f"{name}={value}" for name, value in ({"segmentation_source": source} | params).items())
    arguments = [str(folder), "--env", "test", "--params", given]
    return CliRunner().invoke(nnunet, arguments, obj=bootstrap_project(project), catch_exceptions=False)


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("project"))
    folder = project / "nnUNet_raw/Dataset501_BraTS"
    result = invoke(project, folder, source, **{"data_segmentation.split.folds": 3})
    assert result.exit_code == 0, result.output
    return project, folder


def test_every_patient_is_there_with_their_volumes_in_the_order_of_the_channels(exported, source):
    project, folder = exported
    cases = pd.read_csv(project / "data/05_model_input/export/nnunet_cases.csv", keep_default_na=False)
    about = json.loads((folder / "dataset.json").read_text())
    assert about["channel_names"] == {"0": "FLAIR", "1": "T1", "2": "T1ce", "3": "T2"}
    assert about["labels"] == {"background": 0, "NCR": 1, "ED": 2, "ET": 3}
    assert about["file_ending"] == ".nii.gz"
    assert about["numTraining"] == (cases["split"] != "test").sum() == len(list((folder / "labelsTr").iterdir()))
    assert (cases["excluded"] == "").all()
    for row in cases.itertuples():
        end = "Ts" if row.split == "test" else "Tr"
        for number, modality in enumerate(("flair", "t1", "t1ce", "t2")):
            written = folder / f"images{end}" / f"{row.patient}_{number:04d}.nii.gz"
            (own,) = (source / row.patient).glob(f"{row.patient}_{modality}.nii*")
            np.testing.assert_array_equal(nib.load(written).dataobj, nib.load(own).dataobj)
            # No copy where one can be spared.
            assert written.samefile(own) == own.name.endswith(".gz")


def test_masks_have_consecutive_labels_on_the_grid_of_the_scan(exported, source):
    _, folder = exported
    for file in [*(folder / "labelsTr").iterdir(), *(folder / "labelsTs").iterdir()]:
        patient = file.name.removesuffix(".nii.gz")
        written, own = nib.load(file), nib.load(source / patient / f"{patient}_seg.nii.gz")
        np.testing.assert_array_equal(written.dataobj, own.dataobj)
        assert set(np.unique(written.dataobj)) == {0, 1, 2, 3}
        np.testing.assert_allclose(written.affine, own.affine)
        # A reference mask isn't taken for one that this project predicted.
        assert not is_predicted(file)


def test_labels_of_brats_2020_become_consecutive(project, tmp_path):
    source = tmp_path / "scans"
    for seed in range(5):
        save_patient(source / f"p{seed}", f"p{seed}", *draw(seed))
    result = invoke(project, tmp_path / "out", source)
    assert result.exit_code == 0, result.output
    masks = sorted((tmp_path / "out").glob("labelsT?/*.nii.gz"))
    assert len(masks) == 5
    for file in masks:
        written = np.asarray(nib.load(file).dataobj)
        own = np.asarray(nib.load(source / file.name[:2] / f"{file.name[:2]}_seg.nii.gz").dataobj)
        np.testing.assert_array_equal(written, np.where(own == 4, 3, own))


def test_folds_are_the_projects_and_part_no_person(exported):
    project, folder = exported
    cases = pd.read_csv(project / "data/05_model_input/export/nnunet_cases.csv", dtype={"person": str})
    learning = cases[cases["split"] != "test"]
    folds = json.loads((folder / "splits_final.json").read_text())
    assert len(folds) == learning["fold"].nunique()
    validated = [patient for fold in folds for patient in fold["val"]]
    assert sorted(validated) == sorted(learning["patient"])
    person = cases.set_index("patient")["person"]
    assert person["BraTS-X-00001-000"] == person["BraTS-X-00001-001"]
    test = set(cases.loc[cases["split"] == "test", "patient"])
    for fold in folds:
        assert set(fold["train"]) | set(fold["val"]) == set(learning["patient"])
        assert not set(person[fold["train"]]) & set(person[fold["val"]])
        assert not test & {*fold["train"], *fold["val"]}


def test_a_fold_of_test_patients_alone_is_left_out():
    splits = pd.DataFrame(
        {"patient": list("abcd"), "split": ["train", "validation", "test", "train"], "fold": [0, 1, 2, 0]}
    )
    assert find_folds(splits, list("abcd")) == [
        {"train": ["b"], "val": ["a", "d"]},
        {"train": ["a", "d"], "val": ["b"]},
    ]
    assert find_folds(splits, ["a"]) == []


def test_nnunets_own_check(exported):
    """In an environment of its own, whose Python is named in the environment."""
    python = os.environ.get("NNUNET_PYTHON")
    if not python:
        pytest.skip("NNUNET_PYTHON isn't set to a Python that has nnunetv2")
    code = f"{CHECK}check({str(exported[1])!r}, 1)"
    script = f"if __name__ == '__main__':\n    {code}\n"
    result = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "verify_dataset_integrity Done" in result.stdout
    assert "Warning" not in result.stdout


def test_a_folder_that_holds_files_is_refused_and_left_alone(exported, source):
    project, folder = exported
    before = sorted(file.name for file in folder.rglob("*"))
    other = project / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    result = invoke(project, other, source)
    assert result.exit_code != 0
    assert re.search("mine isn't empty; give a new folder, or delete it first", re.sub(r"\s+", " ", result.output))
    assert (other / "thesis.txt").read_text() == "mine"
    assert sorted(file.name for file in folder.rglob("*")) == before


def test_patients_with_hdf5_slices_alone_are_left_out_with_the_reason(project, sample, tmp_path, caplog):
    with caplog.at_level(logging.CRITICAL):
        result = invoke(project, tmp_path / "out", sample)
    assert result.exit_code != 0
    words = "no patient of .* who isn't for testing has NIfTI volumes, which nnU-Net takes; give the folder of NIfTI"
    assert re.search(words, re.sub(r"\s+", " ", result.output)), result.output
    assert not (tmp_path / "out").exists()


def test_mixed_layouts(project, sample, source, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for number, folder in enumerate((sample, source)):
        (mixed / str(number)).symlink_to(folder)
    result = invoke(project, tmp_path / "out", mixed)
    assert result.exit_code == 0, result.output
    cases = pd.read_csv(project / "data/05_model_input/export/nnunet_cases.csv", keep_default_na=False)
    left_out = cases[cases["excluded"] != ""]
    assert len(left_out) == 5
    assert left_out["excluded"].str.startswith("HDF5 slices, and nnU-Net takes NIfTI volumes").all()
    written = {file.name for file in (tmp_path / "out").glob("labelsT?/*")}
    assert written == {f"{name}.nii.gz" for name in cases.loc[cases["excluded"] == "", "patient"]}


def test_links_where_the_disk_has_none(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    source = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.int16), np.eye(4)), source)
    link(source, tmp_path / "hard.nii.gz")
    monkeypatch.setattr(os, "link", refuse)
    link(source, tmp_path / "soft.nii.gz")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    link(source, tmp_path / "copy.nii.gz")
    hard, soft, copy = (tmp_path / f"{name}.nii.gz" for name in ("hard", "soft", "copy"))
    assert hard.samefile(source)
    assert not hard.is_symlink()
    assert soft.is_symlink()
    assert soft.samefile(source)
    assert not copy.samefile(source)
    assert copy.read_bytes() == source.read_bytes()
