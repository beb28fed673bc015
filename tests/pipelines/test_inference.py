import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from support import copy_project, run, save_patient
from torch.nn.functional import interpolate

from brain_tumor.data.common.parallel import WorkerSettings
from brain_tumor.data.common.store import Store
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.find_scans import find_scans, read_image, read_labels
from brain_tumor.data.scans.nifti_masks import read_mask
from brain_tumor.data.scans.preparation import PREPARATION, prepare_slice
from brain_tumor.data.scans.slice_geometry import SliceGeometry
from brain_tumor.metrics.surfaces import score_surfaces
from brain_tumor.networks import build
from brain_tumor.networks.familiarity import fit_familiarity
from brain_tumor.networks.trained import TrainedNetwork, read_network, write_network
from brain_tumor.pipelines.inference.scan_index import index_scans
from brain_tumor.pipelines.inference.scans import (
    draw_scans,
    measure_volumes,
    score_scans,
    segment_scans,
)
from brain_tumor.reporting.inference.report import compose_images_report, compose_scans_report
from brain_tumor.training.classification.normalisation import to_input
from brain_tumor.training.classification.prediction import predict_all
from brain_tumor.training.device import choose_device
from brain_tumor.training.segmentation.prediction import segment_volume
from brain_tumor.training.settings import EngineSettings, PredictionSettings

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
SIZES = {"in_channels": 1, "out_channels": 4, "image_size": 96, "n_filters": 6}
SCORES = [{"test_set": "deduplicated", "metric": "accuracy", "value": 0.9, "low": 0.8, "high": 0.95, "images": 70}]


def save_network(path, **description):
    torch.manual_seed(0)
    about = {
        "data_set": "Somewhere",
        "classes": CLASSES,
        "image_size": 96,
        "fit": "pad",
        "simulated": True,
        "images": [3, 4, 5, 6],
        "temperature": 0.5,
    }
    write_network(path, TrainedNetwork("cnn", SIZES, about | description, (build("cnn", **SIZES).state_dict(),)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, images):
    """A project in which new images, two damaged files and a text file have been classified."""
    folder, new = copy_project(tmp_path_factory.mktemp("project")), tmp_path_factory.mktemp("new")
    shutil.copytree(images / "Testing" / "glioma", new / "ward")
    for path in (images / "Testing" / "notumor").iterdir():
        shutil.copy(path, new)
    damaged = next((new / "ward").iterdir())
    (new / "cut.jpg").write_bytes(damaged.read_bytes()[:900])
    (new / "empty.jpg").touch()
    (new / "notes.txt").write_text("no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 1), np.uint8)).save(new / "thin.png")
    (new / "gone.png").symlink_to(new / "nowhere.png")
    shutil.copy(damaged, new / "000001")  # no ending, a number for a name
    save_network(folder / "network.safetensors", scores=SCORES)
    run(
        folder,
        "inference_classification",
        inference_source=str(new),
        inference_network=str(folder / "network.safetensors"),
    )
    return folder


@pytest.fixture(scope="module")
def classes(finished):
    return pd.read_csv(finished / "data/07_model_output/inference/classes.csv")


def test_every_file_is_classified_or_left_out_with_a_reason(classes, images):
    excluded = classes[classes["excluded"].notna()].set_index("file")["excluded"]
    assert set(excluded.index) == {"cut.jpg", "empty.jpg", "gone.png", "notes.txt"}
    assert "can't be read (No such file or directory)" in excluded["gone.png"]
    assert "damaged" in excluded["cut.jpg"]
    assert "0 bytes" in excluded["empty.jpg"]
    assert "not an image" in excluded["notes.txt"]
    used = classes[classes["excluded"].isna()]
    names = {f"ward/{path.name}" for path in (images / "Testing" / "glioma").iterdir()} | {
        path.name for path in (images / "Testing" / "notumor").iterdir()
    }
    assert set(used["file"]) == names | {"thin.png", "000001"}
    assert used["confidence"].is_monotonic_increasing


def test_probabilities_are_those_of_the_network_at_its_temperature(finished, classes):
    images = Store(finished / "data/07_model_output/inference/images.h5")
    used = classes[classes["excluded"].isna()].set_index("file").loc[images.rows["file"]]
    (pixels,) = images.read(np.arange(len(used)), "image")
    network = read_network(finished / "network.safetensors").module()
    expected = (network(to_input(torch.from_numpy(pixels).float(), 1)) / 0.5).softmax(1).detach().numpy()
    np.testing.assert_allclose(used[CLASSES].to_numpy(float), expected, atol=0.02)  # bf16 where the device has it
    assert used["predicted"].tolist() == [CLASSES[k] for k in used[CLASSES].to_numpy(float).argmax(1)]
    assert used["confidence"].tolist() == pytest.approx(used[CLASSES].max(axis=1).tolist())


def test_images_unlike_the_training_images_are_said_to_be_so(images, tmp_path, monkeypatch, caplog):
    """Heads, as in training, and noise."""
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    new = tmp_path / "new"
    shutil.copytree(images / "Testing" / "glioma", new)
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (200, 200), np.uint8)
        Image.fromarray(noise).save(new / f"noise{number}.png")
    save_network(project / "network.safetensors")
    known = {"inference_network": str(project / "network.safetensors")}
    run(project, "inference_classification", inference_source=str(images / "Testing"), **known)
    store = Store(project / "data/07_model_output/inference/images.h5")
    network = read_network(project / "network.safetensors")
    rows = np.arange(len(store.rows))
    _, (features,) = predict_all(network, store, rows, choose_device(EngineSettings(device="cpu", precision="fp32")))
    kinds = store.rows["file"].str.split("/").str[0].factorize()[0]
    learned = replace(network, familiarity=(fit_familiarity(features, kinds, features),))
    write_network(project / "network.safetensors", learned)
    run(project, "inference_classification", inference_source=str(new), **known)
    classes = pd.read_csv(project / "data/07_model_output/inference/classes.csv", keep_default_na=False)
    noise = classes["file"].str.startswith("noise")
    assert (classes.loc[noise, "distance"] > 1.5).all()
    assert (classes.loc[noise, "note"] == "unlike the training images").all()
    assert (classes.loc[~noise, "distance"] <= 1).mean() > 0.7
    unlike = (classes["distance"] > 1).sum()
    assert f"{unlike} of {len(classes)} images are unlike the training images" in caplog.text
    report = (project / "data/08_reporting/inference/classification_report.html").read_text()
    assert f"{unlike} images are unlike those that the network was trained on" in re.sub(r"\s+", " ", report)


def test_images_are_prepared_as_those_that_were_learned_from(finished, images, tmp_path):
    project = copy_project(tmp_path)
    run(
        project,
        "data_engineering",
        [f"data_classification.{name}" for name in ("index_images", "prepare_images")],
        classification_source=str(images),
    )
    learned, new = (
        Store(project / "data/03_primary/classification/images.h5"),
        Store(finished / "data/07_model_output/inference/images.h5"),
    )
    rows = pd.Series(range(len(learned.rows)), learned.rows["file"].str.rsplit("/", n=1).str[-1])
    names = new.rows["file"].str.rsplit("/", n=1).str[-1]
    both = np.flatnonzero(names.isin(rows.index))
    same = rows[names[both]].to_numpy()
    assert len(same) == len(names) - 2
    np.testing.assert_array_equal(
        new.read(both, "image")[0], np.concatenate([learned.read(np.array([row]), "image")[0] for row in same])
    )


def test_report_says_what_was_found_and_what_is_known_of_the_network(finished, classes):
    report = (finished / "data/08_reporting/inference/classification_report.html").read_text()
    used = classes[classes["excluded"].isna()]
    assert f"CNN classifies {len(used)} images: " in report
    assert "4 files are excluded" in report
    assert "SIMULATED" not in report.split("</title>")[0]
    assert "trained on SIMULATED patients" in report.split("</table>")[0]
    assert all(file in report for file in classes["file"])
    assert "0.900 <small>(0.800 to 0.950)</small>" in report
    assert "trained on Somewhere, 18 images" in report
    assert [report.count(f"data:image/{kind};base64,") for kind in ("png", "webp")] == [0, 1]


def test_one_file_is_enough(project, images):
    save_network(project / "network.safetensors")
    path = next((images / "Testing" / "pituitary").iterdir())
    run(
        project,
        "inference_classification",
        inference_source=str(path),
        inference_network=str(project / "network.safetensors"),
    )
    table = pd.read_csv(project / "data/07_model_output/inference/classes.csv")
    assert table["file"].tolist() == [path.name]
    assert table["predicted"].item() in CLASSES


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (Path.rmdir, "which isn't there; give a folder of scans or images"),
        (Path.exists, "there is no image in .*inference_source"),
        (
            lambda folder: (folder / "empty.jpg").touch(),
            "none of the 1 files in .* can be used; empty.jpg: the file is empty",
        ),
    ],
)
def test_nothing_to_classify(project, tmp_path_factory, prepare, words, caplog):
    folder = tmp_path_factory.mktemp("new")
    prepare(folder)
    save_network(project / "network.safetensors")
    with caplog.at_level(logging.CRITICAL), pytest.raises((FileNotFoundError, ValueError), match=words):
        run(
            project,
            "inference_classification",
            inference_source=str(folder),
            inference_network=str(project / "network.safetensors"),
        )


def test_a_network_for_masks_is_refused(project, images):
    sizes = {"in_channels": 4, "out_channels": 3, "n_filters": 2}
    about = {"tissues": ["NCR", "ED", "ET"], "simulated": True}
    write_network(
        project / "network.safetensors",
        TrainedNetwork("classic_unet", sizes, about, (build("classic_unet", **sizes).state_dict(),)),
    )
    with pytest.raises(ValueError, match="classic_unet segments NCR, ED, ET; give a network that classifies"):
        run(
            project,
            "inference_classification",
            inference_source=str(images),
            inference_network=str(project / "network.safetensors"),
        )


TURN = np.array([[2, 1], [0, -1], [1, 1]])
"""From L, P, S: to which axis each goes, and whether it is turned over."""

SEGMENTING = {"in_channels": 4, "out_channels": 3, "n_filters": 2}


def save_segmenter(path, brats, **facts):
    torch.manual_seed(0)
    network = build("classic_unet", **SEGMENTING)
    about = {
        "data_set": brats.name,
        "modalities": brats.modality_names,
        "tissues": brats.tissue_names,
        "slice_size": 32,
        "window": [16, 32],
        "pixel_mm": [2.5, 1.25],  # 40 pixels of 2 x 1 mm in 32
        "simulated": True,
    }
    write_network(path, TrainedNetwork("classic_unet", SEGMENTING, about | facts, (network.state_dict(),)))


def draw_scan(shape):
    """A box of noise in which no two places are alike."""
    volumes = np.zeros((4, *shape), np.int16)
    inside = np.s_[:, 4:-4, 3:-3, 2:-2]
    volumes[inside] = np.random.default_rng(0).normal(300, 40, volumes[inside].shape)
    return volumes


@pytest.fixture(scope="module")
def segmented(tmp_path_factory, brats):
    """A project with segmented scans; `plain` and `turned`, the same reoriented, have a reference mask.

    One lacks a modality, one is damaged; `twice` is there three times: without a modality, with a mask of unknown
    labels, without a mask. Voxels are of 2 x 1 x 3 mm. The mask of `adopted` has another name, and is alone with the
    scan; the mask of `moved` lies elsewhere than its scan.
    """
    folder, new = copy_project(tmp_path_factory.mktemp("project")), tmp_path_factory.mktemp("scans")
    names = {name: name for name in ("plain", "turned", "lacking", "damaged", "adopted", "moved")} | {
        "a": "twice",
        "b": "twice",
        "c": "twice",
    }
    expert = np.zeros((40, 36, 8), np.uint8)
    expert[10:30, 10:25, 3:6], expert[15:20, 12:18, 4] = 2, 4
    for place, name in names.items():
        save_patient(new / place, name, draw_scan((40, 36, 8)), 9 * expert if place == "b" else expert)
        for file in (new / place).iterdir():
            shift = 9 if file.name == "moved_seg.nii.gz" else 0
            nib.save(
                nib.Nifti1Image(np.asarray(nib.load(file).dataobj), np.diag([-2, -1, 3, 1]) + shift * np.eye(4, k=3)),
                file,
            )
        if place not in ("plain", "turned", "b", "adopted", "moved"):
            (new / place / f"{name}_seg.nii.gz").unlink()
    (new / "adopted" / "adopted_seg.nii.gz").rename(new / "adopted" / "W39_1998.09.19_Segm.nii.gz")
    for file in (new / "turned").iterdir():
        nib.save(nib.load(file).as_reoriented(TURN), file)
    for file in ("lacking/lacking_t2.nii.gz", "a/twice_t1.nii.gz"):
        (new / file).unlink()
    (new / "damaged" / "damaged_t1.nii.gz").write_bytes((new / "damaged" / "damaged_t1.nii.gz").read_bytes()[:200])
    save_segmenter(folder / "network.safetensors", brats)
    run(
        folder,
        "inference_segmentation",
        inference_source=str(new),
        inference_network=str(folder / "network.safetensors"),
    )
    return folder, new


@pytest.mark.parametrize("patient", ["plain", "turned"])
def test_mask_lies_on_the_grid_of_its_scan(segmented, patient):
    folder, new = segmented
    scan, mask = (
        nib.load(new / patient / f"{patient}_flair.nii.gz"),
        nib.load(folder / f"data/07_model_output/inference/masks/{patient}_seg.nii.gz"),
    )
    assert mask.shape == scan.shape
    np.testing.assert_allclose(mask.affine, scan.affine)
    assert set(np.unique(mask.dataobj)) <= {0, 1, 2, 4}
    assert np.asarray(mask.dataobj)[np.asarray(scan.dataobj) != 0].any()


def test_a_scan_in_another_orientation_gets_the_same_mask(segmented):
    plain, turned = (
        nib.load(segmented[0] / f"data/07_model_output/inference/masks/{name}_seg.nii.gz")
        for name in ("plain", "turned")
    )
    expected = np.asarray(plain.as_reoriented(TURN).dataobj)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(np.asarray(turned.dataobj), expected)


def test_mask_is_what_the_network_finds_in_each_slice(segmented, brats):
    """Upright scan of 40 x 36: padded to 40, resized to 32, brought back."""
    folder, new = segmented
    network = read_network(folder / "network.safetensors").module()
    volumes = np.stack(
        [np.asarray(nib.load(new / "plain" / f"plain_{name}.nii.gz").dataobj) for name in ("flair", "t1", "t1ce", "t2")]
    )
    mask = np.asarray(nib.load(folder / "data/07_model_output/inference/masks/plain_seg.nii.gz").dataobj)
    image = torch.from_numpy(prepare_slice(volumes[..., 4], np.zeros((40, 36), np.uint8), 32)[0]).float()[None]
    with torch.inference_mode():
        probability = (network(image).sigmoid() + network(image.flip(2)).sigmoid().flip(2)) / 2
    full = interpolate(probability, size=(40, 40), mode="bilinear")[0, :, :, 2:-2]
    highest, tissue = full.max(0)
    expected = torch.where(highest >= 0.5, torch.tensor([1, 2, 4])[tissue], 0).numpy()
    assert (mask[..., 4] == expected).mean() > 0.97  # bf16 where the device has it
    assert len(np.unique(expected)) > 1


def test_volumes_are_those_of_the_masks(segmented):
    folder, _ = segmented
    table = pd.read_csv(folder / "data/07_model_output/inference/volumes.csv").set_index("folder")
    for patient in ("plain", "turned"):
        mask = np.asarray(nib.load(folder / f"data/07_model_output/inference/masks/{patient}_seg.nii.gz").dataobj)
        for target, labels in {"NCR": [1], "ED": [2], "ET": [4], "WT": [1, 2, 4], "TC": [1, 4]}.items():
            assert table.loc[patient, f"{target}_ml"] == pytest.approx(np.isin(mask, labels).sum() * 6 / 1000, abs=2e-3)
    assert "no T2 volume" in table.loc["lacking", "excluded"]
    assert "damaged_t1.nii.gz can't be read" in table.loc["damaged", "excluded"]
    assert "no T1 volume" in table.loc["a", "excluded"]
    assert pd.isna(table.loc["b", "excluded"])
    assert "a patient of that name is in" in table.loc["c", "excluded"]
    assert table.loc[["lacking", "damaged", "a", "c"], "WT_ml"].isna().all()
    assert (table.loc[["plain", "turned", "b"], "WT_ml"] == table.loc["plain", "WT_ml"]).all()


def test_confidence_is_in_table_mask_and_report(segmented):
    folder, _ = segmented
    table = pd.read_csv(folder / "data/07_model_output/inference/volumes.csv").set_index("folder")
    confidence = table["confidence"]
    assert confidence[["plain", "turned", "b"]].between(0.5, 1).all()
    assert confidence["turned"] == pytest.approx(confidence["plain"], abs=2e-3)
    assert confidence[["lacking", "damaged", "a", "c"]].isna().all()
    mask = nib.load(folder / "data/07_model_output/inference/masks/plain_seg.nii.gz")
    assert bytes(mask.header["descrip"]).strip(b"\0") == f"confidence {confidence['plain']:.4f}".encode()
    report = (folder / "data/08_reporting/inference/segmentation_report.html").read_text()
    least = table.loc[confidence.idxmin()]
    assert f"It is least sure of the mask of {least['patient']} (confidence {least['confidence']:.3f})." in report


def test_warnings_are_in_the_table_the_log_and_the_report(segmented, brats, caplog):
    folder, new = segmented
    words = "a brain has 900 to 1,900: a part of it is missing, or this is no brain"
    table = pd.read_csv(folder / "data/07_model_output/inference/volumes.csv").set_index("folder")
    assert words in table.loc["plain", "warnings"]
    assert pd.isna(table.loc["lacking", "warnings"])
    report = (folder / "data/08_reporting/inference/segmentation_report.html").read_text()
    assert "5 of the scans look wrong or incomplete: read the warnings first." in report
    assert report.count(words) == 5
    network = read_network(folder / "network.safetensors")
    with caplog.at_level(logging.WARNING):
        index_scans(new, network, brats, WorkerSettings(workers=1), "exclude", {})
    logged = [line for line in caplog.messages if line.startswith("plain: ")]
    assert len(logged) == 1
    assert words in logged[0]


def read_scores(folder):
    return pd.read_csv(folder / "data/07_model_output/inference/scores.csv").pivot(
        index=["patient", "target"], columns="metric", values="value"
    )


def test_scores_are_those_of_the_mask_against_the_expert(segmented):
    folder, new = segmented
    masks = (new / "plain/plain_seg.nii.gz", folder / "data/07_model_output/inference/masks/plain_seg.nii.gz")
    drawn, found = (np.asarray(nib.load(path).dataobj) for path in masks)
    scores = read_scores(folder)
    for target, labels in {"NCR": [1], "ED": [2], "ET": [4], "WT": [1, 2, 4], "TC": [1, 4]}.items():
        there, seen = np.isin(drawn, labels), np.isin(found, labels)
        assert scores.loc[("plain", target), "dice"] == pytest.approx(
            2 * (there & seen).sum() / max(1, there.sum() + seen.sum())
        )
    assert 0 < scores.loc[("plain", "WT"), "dice"] < 1
    whole = ((labels > 0).astype(np.uint8) for labels in (drawn, found))
    surfaces = score_surfaces(*whole, (2.0, 1.0, 3.0), {"WT": [1]}).set_index("metric")["value"]  # in the file's axes
    assert scores.loc[("plain", "WT"), "hd95_mm"] == pytest.approx(surfaces["hd95_mm"])
    assert scores.loc[("plain", "WT"), "surface_dice"] == pytest.approx(surfaces["surface_dice"], abs=1e-6)
    np.testing.assert_allclose(scores.loc["turned"], scores.loc["plain"])
    np.testing.assert_allclose(scores.loc["adopted"], scores.loc["plain"])
    assert set(scores.index.get_level_values("patient")) == {"plain", "turned", "adopted"}


def test_a_mask_that_cannot_be_compared_with_is_reported(segmented):
    folder, _ = segmented
    table = pd.read_csv(folder / "data/07_model_output/inference/volumes.csv").set_index("folder")
    assert "twice_seg.nii.gz holds labels [18, 36]" in table.loc["b", "not_compared"]
    assert (
        "moved_seg.nii.gz (40x36x8 voxels of 2x1x3 mm from 9x0x0) lies elsewhere than"
        in table.loc["moved", "not_compared"]
    )
    compared = {
        "plain": "plain/plain_seg.nii.gz",
        "turned": "turned/turned_seg.nii.gz",
        "adopted": "adopted/W39_1998.09.19_Segm.nii.gz",
    }
    assert table["expert_mask"].dropna().to_dict() == compared


def test_only_volumes_are_scored_by_their_surfaces(project, brats):
    for name, depth in (("thin", 2), ("thick", 3)):
        mask = np.zeros((40, 36, depth))
        mask[12:20, 12:20] = 2
        save_patient(project / "scans" / name, name, draw_scan((40, 36, 8))[..., 2 : 2 + depth], mask)
    save_segmenter(project / "network.safetensors", brats)
    run(
        project,
        "inference_segmentation",
        inference_source=str(project / "scans"),
        inference_network=str(project / "network.safetensors"),
    )
    scores = pd.read_csv(project / "data/07_model_output/inference/scores.csv")
    assert set(scores.loc[scores["metric"] == "hd95_mm", "patient"]) == {"thick"}
    assert set(scores.loc[scores["metric"] == "dice", "patient"]) == {"thin", "thick"}
    assert set(scores["weights"]) == {read_network(project / "network.safetensors").digest}


def test_report_on_scans(segmented):
    folder, _ = segmented
    report = (folder / "data/08_reporting/inference/segmentation_report.html").read_text()
    assert "of 5 patients; 4 are excluded" in report
    assert "at 32 x 32 pixels of 2.5 x 1.25 mm, with a field of view of 16 x 32 that held every brain." in report
    assert "SIMULATED" not in report.split("</title>")[0]
    assert "trained on SIMULATED patients" in report.split("</table>")[0]
    assert [report.count(f"data:image/{kind};base64,") for kind in ("png", "webp")] == [0, 1 + 5]
    assert report.count('type="range"') == 5  # the slices of each patient in use
    masks = folder / "data/07_model_output/inference/masks"
    assert all(f"{masks}/{file.name}" in report for file in masks.glob("*.nii.gz"))
    assert all(patient in report for patient in ("plain", "turned", "lacking", "damaged"))
    dice = read_scores(folder)["dice"].xs("WT", level="target").mean()
    assert f"Against reference masks of 3 patients its mean Dice for WT is {dice:.3f}." in report
    assert "Masks that could not be compared with" in report


def test_report_says_whom_several_networks_learned_from(project, brats, segmented):
    save_segmenter(project / "network.safetensors", brats)
    network = read_network(project / "network.safetensors")
    twin = {name: value.clone() for name, value in network.members[0].items()}
    several = replace(
        network,
        members=(*network.members, twin),
        description=network.description | {"simulated": False, "validation_patients": [["plain"], ["nobody"]]},
    )
    write_network(project / "network.safetensors", several)
    run(
        project,
        "inference_segmentation",
        inference_source=str(segmented[1]),
        inference_network=str(project / "network.safetensors"),
    )
    report = (project / "data/08_reporting/inference/segmentation_report.html").read_text()
    words = "By their names it was trained on plain: masks and scores are better than on new patients."
    assert words in report.split("</table>")[0]
    assert "By their names" not in (segmented[0] / "data/08_reporting/inference/segmentation_report.html").read_text()


def test_scans_that_the_network_was_not_made_for_are_refused(project, brats, segmented):
    _, new = segmented
    save_segmenter(project / "network.safetensors", brats.model_copy(update={"modalities": brats.modalities[::-1]}))
    with pytest.raises(ValueError, match=r"was trained on modalities .*'T2', 'T1ce', 'T1', 'FLAIR'.*declared are"):
        run(
            project,
            "inference_segmentation",
            inference_source=str(new),
            inference_network=str(project / "network.safetensors"),
        )


def test_a_classifier_is_refused_for_scans(project, segmented):
    save_network(project / "network.safetensors")
    with pytest.raises(ValueError, match=r"cnn finds no tissues, it classifies images; .*inference_network"):
        run(
            project,
            "inference_segmentation",
            inference_source=str(segmented[1]),
            inference_network=str(project / "network.safetensors"),
        )


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (
            ".",
            (
                r"holds 79 files \(76 JPEG image, 3 text\), but neither .*NIfTI volumes named "
                r"\*_flair.nii.gz.*inference_source.*inference_classification"
            ),
        ),
        ("nowhere", "which isn.t there; give a folder of scans"),
    ],
)
def test_no_scans(project, brats, images, place, words):
    save_segmenter(project / "network.safetensors", brats)
    with pytest.raises(FileNotFoundError, match=words):
        run(
            project,
            "inference_segmentation",
            inference_source=str(images / place),
            inference_network=str(project / "network.safetensors"),
        )


def test_a_scan_that_fills_its_field_is_segmented_with_a_warning(project, brats, rng, caplog):
    save_patient(
        project / "scans" / "whole",
        "whole",
        rng.integers(100, 200, (4, 40, 36, 8)).astype(np.int16),
        np.zeros((40, 36, 8)),
    )
    save_patient(project / "scans" / "plain", "plain", draw_scan((40, 36, 8)), np.zeros((40, 36, 8)))
    save_segmenter(project / "network.safetensors", brats)
    run(
        project,
        "inference_segmentation",
        inference_source=str(project / "scans"),
        inference_network=str(project / "network.safetensors"),
    )
    table = pd.read_csv(project / "data/07_model_output/inference/volumes.csv").set_index("patient")
    assert "100% of the scan differ from its background" in table.loc["whole", "note"]
    assert pd.isna(table.loc["plain", "note"])
    assert "whole: 100% of the scan" in caplog.text
    assert (
        "if the skull is still there, remove it first"
        in (project / "data/08_reporting/inference/segmentation_report.html").read_text()
    )


def test_numbers_for_names_stay_names(project, brats):
    save_patient(project / "scans" / "001", "001", draw_scan((40, 36, 8)), np.zeros((40, 36, 8), np.uint8))
    for file in sorted((project / "scans" / "001").iterdir()):
        file.rename(file.with_name(file.name.replace(".nii.gz", ".NII.GZ")))
    save_segmenter(project / "network.safetensors", brats)
    run(
        project,
        "inference_segmentation",
        inference_source=str(project / "scans"),
        inference_network=str(project / "network.safetensors"),
    )
    assert [path.name for path in (project / "data/07_model_output/inference/masks").iterdir()] == ["001_seg.nii.gz"]
    report = (project / "data/08_reporting/inference/segmentation_report.html").read_text()
    assert re.search(r"<td[^>]*>001</td>", report)
    assert "Against reference masks of 1 patient its mean" in report
    assert set(pd.read_csv(project / "data/07_model_output/inference/scores.csv", dtype=str)["patient"]) == {"001"}


def test_without_experts_nothing_is_compared(project, brats):
    save_patient(project / "scans", "mine", draw_scan((40, 36, 8)), np.zeros((40, 36, 8)))
    (project / "scans" / "mine_seg.nii.gz").unlink()
    save_segmenter(project / "network.safetensors", brats)
    run(
        project,
        "inference_segmentation",
        inference_source=str(project / "scans"),
        inference_network=str(project / "network.safetensors"),
    )
    assert (
        "Against reference masks" not in (project / "data/08_reporting/inference/segmentation_report.html").read_text()
    )
    assert pd.read_csv(project / "data/07_model_output/inference/scores.csv").empty


def test_paths_in_a_parameters_file_count_and_those_of_the_run_come_first(project, images):
    save_network(project / "network.safetensors")
    given = {
        "inference_source": str(images / "Testing" / "glioma"),
        "inference_network": str(project / "network.safetensors"),
    }
    (project / "conf/test/parameters_mine.yml").write_text(yaml.safe_dump(given))
    table = project / "data/07_model_output/inference/classes.csv"
    run(project, "inference_classification")
    assert set(pd.read_csv(table)["file"]) == {path.name for path in (images / "Testing" / "glioma").iterdir()}
    run(project, "inference_classification", inference_source=str(images / "Testing" / "notumor"))
    assert set(pd.read_csv(table)["file"]) == {path.name for path in (images / "Testing" / "notumor").iterdir()}


def test_published_slices_are_segmented_and_compared_with_the_masks_in_them(project, brats, sample):
    """As from NIfTI: the labels of a slice don't depend on the file that it comes from."""
    save_segmenter(project / "network.safetensors", brats)
    run(
        project,
        "inference_segmentation",
        inference_source=str(sample),
        inference_network=str(project / "network.safetensors"),
    )
    table = pd.read_csv(project / "data/07_model_output/inference/volumes.csv").set_index("patient")
    assert table["excluded"].isna().all()
    assert table["spacing_mm"].unique().tolist() == ["1 x 1 x 12"]
    mask = nib.load(project / "data/07_model_output/inference/masks/BraTS20_Training_001_seg.nii.gz")
    assert mask.shape == (240, 240, 5)
    assert mask.header.get_xyzt_units()[0] == "mm"
    # The space of BraTS.
    np.testing.assert_array_equal(mask.affine, [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 12, 50], [0, 0, 0, 1]])
    (scan,) = find_scans(sample, brats)[:1]
    nifti = project / "as_nifti"
    save_patient(nifti, "P", read_image(scan, brats).image, np.array([0, 1, 2, 4])[read_labels(scan, brats)])
    first = table.loc["BraTS20_Training_001"]
    scores = pd.read_csv(project / "data/07_model_output/inference/scores.csv").query(
        "patient == 'BraTS20_Training_001'"
    )
    assert set(scores["metric"]) >= {"dice", "hd95_mm"}
    run(
        project,
        "inference_segmentation",
        inference_source=str(nifti),
        inference_network=str(project / "network.safetensors"),
    )
    again = pd.read_csv(project / "data/07_model_output/inference/volumes.csv").iloc[0]
    # Small components are dropped by volume.
    assert 12 * again["WT_ml"] == pytest.approx(first["WT_ml"], rel=0.01, abs=0.02)


@pytest.mark.parametrize(("names", "label"), [("BraTS-GLI-00009-000-{}", 3), ("P_{}", 4)])
def test_labels_are_written_in_the_convention_of_the_names(project, brats, names, label):
    suffixes = ("t2f", "t1n", "t1c", "t2w", "seg") if label == 3 else ("flair", "t1", "t1ce", "t2", "seg")
    save_patient(project / "scans", "x", draw_scan((40, 36, 8)), np.zeros((40, 36, 8)))
    for old, new in zip(("flair", "t1", "t1ce", "t2", "seg"), suffixes, strict=True):
        (project / "scans" / f"x_{old}.nii.gz").rename(project / "scans" / f"{names.format(new)}.nii.gz")
    save_segmenter(project / "network.safetensors", brats)
    run(
        project,
        "inference_segmentation",
        inference_source=str(project / "scans"),
        inference_network=str(project / "network.safetensors"),
    )
    table = pd.read_csv(project / "data/07_model_output/inference/volumes.csv").iloc[0]
    (mask,) = (project / "data/07_model_output/inference/masks").iterdir()
    assert table["labels"] == f"NCR 1, ED 2, ET {label}"
    voxels = np.asarray(nib.load(mask).dataobj)
    assert set(np.unique(voxels)) <= {0, 1, 2, label}
    assert table["ET_ml"] == pytest.approx((voxels == label).sum() / 1000, abs=1e-3)


def test_what_excludes_itself_is_left_out_or_not_compared_with(project, brats):
    scan, mask = draw_scan((40, 36, 8)), np.zeros((40, 36, 8))
    mask[10:20, 10:20, 3:5] = 2
    whole, both = np.where(scan[0] > 0, 4, 0), mask.copy()
    both[12:14, 12:14, 3], both[15, 15, 3] = 3, 4
    zero, same = scan.copy(), scan.copy()
    zero[2], same[2] = 0, same[1]
    for name, (image, drawn) in {
        "whole": (scan, whole),
        "both": (scan, both),
        "zero": (zero, mask),
        "same": (same, mask),
    }.items():
        save_patient(project / "scans" / name, name, image, drawn)
    save_segmenter(project / "network.safetensors", brats)
    run(
        project,
        "inference_segmentation",
        inference_source=str(project / "scans"),
        inference_network=str(project / "network.safetensors"),
    )
    table = pd.read_csv(project / "data/07_model_output/inference/volumes.csv").set_index("patient")
    assert table.loc["whole", "not_compared"].startswith("the mask takes 100% of the brain")
    assert "holds labels 3 and 4, which both stand for ET" in table.loc["both", "not_compared"]
    assert table.loc["zero", "excluded"].startswith("T1ce is constant")
    assert table.loc["same", "excluded"].startswith("T1 and T1ce are the same image")


def test_reports_are_the_same_from_memory_and_from_a_csv_file(segmented, finished, brats):
    """What is nothing in a table is "" in memory and NaN in a file."""
    folder, _ = segmented
    network = read_network(folder / "network.safetensors")
    tables = [
        pd.read_csv(folder / f"data/07_model_output/inference/{name}.csv", dtype={"patient": str})
        for name in ("volumes", "scores")
    ]
    texts = ["note", "expert_mask", "not_compared", "excluded", "labels", "voxels", "spacing_mm"]
    memory = [tables[0].astype(dict.fromkeys(texts, object)).fillna(dict.fromkeys(texts, "")), tables[1]]
    from_file, from_memory = (compose_scans_report(network, *each, {}, {}) for each in (tables, memory))
    assert "of 5 patients; 4 are excluded" in from_memory
    assert from_memory == from_file
    classifier = read_network(finished / "network.safetensors")
    classes = pd.read_csv(finished / "data/07_model_output/inference/classes.csv")
    filled = classes.astype({"note": object, "excluded": object}).fillna({"note": "", "excluded": ""})
    pages = [compose_images_report(classifier, table, {}, {}, simulated=False) for table in (classes, filled)]
    assert "4 files are excluded" in pages[0]
    assert pages[0] == pages[1]


def save_scan(folder, pattern, names, image=None, mask=None):
    """FLAIR, T1, T1ce, T2 under the names given, and a mask if there is one."""
    save_patient(folder / "draft", "x", draw_scan((40, 36, 8)) if image is None else image, np.zeros((40, 36, 8)))
    for old, new in zip(("flair", "t1", "t1ce", "t2"), names, strict=True):
        file = folder / pattern.format(new)
        file.parent.mkdir(parents=True, exist_ok=True)
        (folder / "draft" / f"x_{old}.nii.gz").rename(file)
    if mask is not None:
        file = folder / pattern.format("seg")
        file.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), np.diag([-1, -1, 1, 1])), file)
    shutil.rmtree(folder / "draft")


def infer(source, masks, brats, missing="exclude", **about):
    """Index, volumes and scores, without Kedro."""
    save_segmenter(masks.parent / "network.safetensors", brats, **about)
    network = read_network(masks.parent / "network.safetensors")
    masks.mkdir(exist_ok=True)
    index = index_scans(source, network, brats, WorkerSettings(workers=1), missing, {})
    for mask in segment_scans(
        network, index, source, brats, PredictionSettings(), EngineSettings(device="cpu", precision="fp32"), {}
    ):
        mask.write(masks / mask.file)
    dict(draw_scans(network, masks, index, source, brats))
    volumes = measure_volumes(masks, index, source, brats)
    return volumes.set_index("folder"), score_scans(network, masks, index, source, brats)


def test_names_of_2023_that_are_whole_file_names_or_folders_keep_their_labels(tmp_path, brats):
    suffixes = ("t2f", "t1n", "t1c", "t2w")
    save_scan(tmp_path / "new", "BraTS-GLI-00000-000/{}.nii.gz", suffixes)
    save_scan(tmp_path / "new/kinds", "{}/P1.nii.gz", suffixes)
    save_scan(tmp_path / "new", "old/P2_{}.nii.gz", ("flair", "t1", "t1ce", "t2"))
    volumes, _ = infer(tmp_path / "new", tmp_path / "masks", brats)
    labels = volumes.set_index("patient")["labels"].to_dict()
    assert {name: text[-1] for name, text in labels.items()} == {"BraTS-GLI-00000-000": "3", "P1": "3", "P2": "4"}
    for name, text in labels.items():
        found = np.asarray(nib.load(tmp_path / "masks" / f"{name}_seg.nii.gz").dataobj)
        assert set(np.unique(found)) <= {0, 1, 2, int(text[-1])}
        millilitres = (found == int(text[-1])).sum() / 1000
        assert volumes.set_index("patient").loc[name, "ET_ml"] == pytest.approx(millilitres, abs=1e-3)


def test_masks_are_read_in_the_convention_that_they_were_written_in(tmp_path, brats):
    declared = brats.model_dump()
    for number, modality in enumerate(declared["modalities"]):
        modality["suffixes"] = [f"000{number}"]
    declared["naming"] = [{"files": r".*_000[0-3]\.nii\.gz", "labels": {"ED": 1, "NCR": 2, "ET": 3}}]
    data_set = DataSet.model_validate(declared)
    save_scan(tmp_path / "new", "P1_{}.nii.gz", ("0000", "0001", "0002", "0003"))
    volumes, _ = infer(tmp_path / "new", tmp_path / "masks", data_set)
    found = np.asarray(nib.load(tmp_path / "masks" / "P1_seg.nii.gz").dataobj)
    for tissue, label in {"ED": 1, "NCR": 2, "ET": 3}.items():
        assert volumes[f"{tissue}_ml"].item() == pytest.approx((found == label).sum() / 1000, abs=1e-3)
    assert volumes["ED_ml"].item() != volumes["NCR_ml"].item()


def test_predictions_of_an_earlier_run_are_not_compared_with(tmp_path, brats):
    source, suffixes = tmp_path / "data" / "scans", ("flair", "t1", "t1ce", "t2")
    save_scan(source, "P1/P1_{}.nii.gz", suffixes)
    expert = np.zeros((40, 36, 8))
    expert[10:20, 10:20, 3:6] = 2
    save_scan(source, "P2/P2_{}.nii.gz", suffixes, mask=expert)
    infer(source, tmp_path / "data" / "masks", brats)
    shutil.copy(tmp_path / "data" / "masks" / "P1_seg.nii.gz", source / "P1")
    volumes, scores = infer(tmp_path / "data", tmp_path / "again", brats)
    assert volumes.loc["scans/P1", "not_compared"].startswith("P1_seg.nii.gz is a mask that this project predicted")
    assert volumes.loc["scans/P2", "expert_mask"] == "scans/P2/P2_seg.nii.gz"
    assert set(scores["patient"]) == {"P2"}


def test_how_files_were_assigned_is_in_the_table(tmp_path, brats):
    save_scan(tmp_path / "new", "P1_{}.nii.gz", ("flair", "t1", "t1ce", "t2"))
    expert = np.zeros((40, 36, 8), np.uint8)
    expert[10:20, 10:20, 3:6] = 2
    nib.save(nib.Nifti1Image(expert, np.diag([-1, -1, 1, 1])), tmp_path / "new" / "W39_Segm.nii.gz")
    volumes, _ = infer(tmp_path / "new", tmp_path / "masks", brats)
    assert volumes["note"].item().startswith("W39_Segm.nii.gz is taken for the mask")


def test_of_two_copies_of_a_scan_the_sound_one_is_segmented(tmp_path, brats):
    for place in ("a", "b"):
        save_scan(tmp_path / "new", place + "/P1_{}.nii.gz", ("flair", "t1", "t1ce", "t2"))
    damaged = tmp_path / "new" / "a" / "P1_t1.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    volumes, _ = infer(tmp_path / "new", tmp_path / "masks", brats)
    assert "P1_t1.nii.gz can't be read" in volumes.loc["a", "excluded"]
    assert volumes.loc["b", "excluded"] == ""
    assert volumes.loc["b", "WT_ml"] > 0


COSTS = [
    {"modality": "T1", "target": "WT", "dice": 0.8141, "change": -0.0052},
    {"modality": "T1", "target": "TC", "dice": 0.7, "change": 0.004},
    {"modality": "T2", "target": "WT", "dice": 0.5, "change": -0.3},
]


def test_a_patient_without_a_modality_is_excluded_or_gets_a_channel_of_0(tmp_path, brats):
    names = ("flair", "t1", "t1ce", "t2")
    save_scan(tmp_path / "new", "whole/P1_{}.nii.gz", names)
    for patient, missing in (("P2", ["t1"]), ("P3", ["t1", "flair"])):
        save_scan(tmp_path / "new", f"{patient}/{patient}_{{}}.nii.gz", names)
        for name in missing:
            (tmp_path / "new" / patient / f"{patient}_{name}.nii.gz").unlink()
    volumes, _ = infer(tmp_path / "new", tmp_path / "masks", brats)
    assert "no T1 volume (a file ending in _t1 or _t1n.nii.gz); add it, or segment" in volumes.loc["P2", "excluded"]
    assert volumes.loc["whole", "missing"] == ""
    volumes, _ = infer(tmp_path / "new", tmp_path / "masks", brats, "zero", missing_modalities=COSTS)
    assert (volumes["excluded"] == "").all()
    assert volumes["missing"].to_dict() == {"whole": "", "P2": "T1", "P3": "FLAIR, T1"}
    cost = "T1 is missing, the network gets 0 instead: mean Dice without it, and its change: WT 0.81 (-0.01), TC 0.70"
    assert cost in volumes.loc["P2", "warnings"]
    assert "FLAIR, T1 are missing" in volumes.loc["P3", "warnings"]
    assert "masks may be wrong or empty" in volumes.loc["P3", "warnings"]
    assert "the network gets 0" not in volumes.loc["whole", "warnings"]
    scans = find_scans(tmp_path / "new", brats, need_mask=False, need_all=False)
    assert [scan.missing for scan in scans] == [(), ("T1",), ("FLAIR", "T1")]
    image = read_image(scans[2], brats).image
    assert not image[:2].any()
    np.testing.assert_array_equal(image[2:], read_image(scans[0], brats).image[2:])
    # The mask is what the network finds in the whole scan with that channel 0.
    volume = read_image(scans[0], brats)
    volume.image[1] = 0
    network = read_network(tmp_path / "network.safetensors")
    device = choose_device(EngineSettings(device="cpu", precision="fp32"))
    geometry = SliceGeometry.of(network.description)
    found, _ = segment_volume(network.module(), volume.image, volume.spacing, geometry, device, tta_flip=True)
    expected = PredictionSettings().postprocess(found, 0.001, brats.tissue_names)
    labels, _ = read_mask(tmp_path / "masks/P2_seg.nii.gz", scans[1].tissues)
    assert expected.any()
    np.testing.assert_array_equal(labels, expected)


def test_of_two_copies_of_a_scan_the_complete_one_is_segmented(tmp_path, brats):
    names = ("flair", "t1", "t1ce", "t2")
    for place in ("a", "b"):
        save_scan(tmp_path / "new", f"{place}/P1_{{}}.nii.gz", names)
    (tmp_path / "new/a/P1_t2.nii.gz").unlink()
    volumes, _ = infer(tmp_path / "new", tmp_path / "masks", brats, "zero")
    assert "a patient of that name is in" in volumes.loc["a", "excluded"]
    assert volumes.loc["b", ["excluded", "missing"]].tolist() == ["", ""]


def test_a_network_of_another_preparation_is_refused(tmp_path, brats):
    save_scan(tmp_path / "new", "P1_{}.nii.gz", ("flair", "t1", "t1ce", "t2"))
    with pytest.raises(
        ValueError, match="classic_unet was trained on data of preparation 3, and this version of the pro"
    ):
        infer(tmp_path / "new", tmp_path / "masks", brats, preparation=3)
    volumes, _ = infer(tmp_path / "new", tmp_path / "masks", brats, preparation=PREPARATION)
    assert volumes["excluded"].tolist() == [""]
