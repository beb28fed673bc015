"""Model folders of nnU-Net and MONAI bundles: what they say of their networks, and what labels these give."""

import json
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io import DatasetError
from nibabel.affines import apply_affine
from nibabel.orientations import aff2axcodes
from support import copy_project, run, save_patient

from brain_tumor.networks.model_folders import LabelRule, match_modalities, read_model_folder, require_used
from brain_tumor.networks.model_folders.axes import reorient
from brain_tumor.networks.model_folders.nnunet import find_folds
from brain_tumor.pipelines.inference.scan_index import require_match

LABELS = {"background": 0, "NCR": 1, "ED": 2, "ET": 3}
REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3]}
CHANNELS = {"0": "T1c", "1": "t1", "2": "T2", "3": "flair"}


def write_nnunet(folder, labels=LABELS, channels=CHANNELS, **more):
    """The files of a trained model that are read before it is opened."""
    for fold in (0, 1):
        (folder / f"fold_{fold}").mkdir(parents=True)
        (folder / f"fold_{fold}" / "checkpoint_final.pth").write_bytes(bytes([fold]))
    (folder / "plans.json").write_text(json.dumps({"dataset_name": "Dataset501_BraTS"}))
    about = {"labels": labels, "channel_names": channels, "file_ending": ".nii.gz"} | more
    (folder / "dataset.json").write_text(json.dumps(about))
    return read_model_folder(folder, [str(folder)])


def test_a_folder_of_nnunet_says_what_goes_in_and_out(tmp_path, brats):
    folder = write_nnunet(tmp_path / "model", LABELS | {"ignore": 4})
    assert folder.name == folder.experiment == "nnU-Net Dataset501_BraTS"
    assert folder.classes == ("background", "NCR", "ED", "ET")
    assert folder.exclusive
    assert match_modalities(folder, brats, {}) == [2, 1, 3, 0]
    assert not folder.simulated
    assert write_nnunet(tmp_path / "phantoms", simulated=True).simulated


def test_its_digest_is_of_every_fold(tmp_path):
    folder = write_nnunet(tmp_path / "model")
    (tmp_path / "model" / "fold_1" / "checkpoint_final.pth").write_bytes(b"new")
    assert read_model_folder(tmp_path / "model", [str(tmp_path / "model")]).digest != folder.digest


def test_the_most_probable_class_counts_where_classes_exclude_each_other(tmp_path, brats):
    swapped = {"background": 0, "ED": 1, "NCR": 2, "ET": 3}
    rule = LabelRule.of(write_nnunet(tmp_path / "model", swapped), brats, {})
    probability = np.array([[0.4, 0.1, 0.2], [0.3, 0.5, 0.2], [0.2, 0.2, 0.5], [0.1, 0.2, 0.1]], np.float32)
    assert rule.to_labels(probability[:, None, None]).tolist() == [[[0, 2, 1]]]
    steps = rule.to_steps(probability[:, None, None])
    assert steps[:, 0, 0].tolist() == [[51, 51, 128], [76, 128, 51], [26, 51, 26]]


@pytest.mark.parametrize("order", [list(REGIONS), [*list(REGIONS)[:1], *list(REGIONS)[:0:-1]]])
def test_regions_lie_in_one_another_in_any_order(tmp_path, brats, order):
    folder = write_nnunet(tmp_path / "model", {name: REGIONS[name] for name in order})
    rule = LabelRule.of(folder, brats, {})
    by_region = {
        "whole tumor": [0.9, 0.9, 0.9, 0.2, 0.4],
        "tumor core": [0.1, 0.8, 0.7, 0.1, 0.3],
        "enhancing tumor": [0.0, 0.2, 0.6, 0.1, 0.9],
    }
    probability = np.array([by_region[name] for name in folder.classes], np.float32)[:, None, None]
    # The last voxel is in the innermost region alone, which counts.
    assert rule.to_labels(probability).tolist() == [[[2, 1, 3, 0, 3]]]
    # Of nested regions, probabilities of tissues add up to that of the whole tumour.
    np.testing.assert_allclose(rule.to_steps(probability).astype(int).sum(0)[0, 0, :4], [230, 230, 230, 51], atol=1)


def test_names_that_differ_are_declared(tmp_path, brats):
    labels = {"background": 0, "necrosis": 1, "edema": 2, "ET": 3}
    folder = write_nnunet(tmp_path / "model", labels, CHANNELS | {"0": "T1Gd"})
    with pytest.raises(ValueError, match=r"input is called T1Gd, t1, T2, flair; .*which of them T1Gd is.*{T1Gd: NAME}"):
        match_modalities(folder, brats, {})
    with pytest.raises(ValueError, match=r"output is called necrosis, edema, ET; .*which of them necrosis, edema is"):
        LabelRule.of(folder, brats, {})
    names = {"T1Gd": "T1ce", "necrosis": "NCR", "edema": "ED"}
    assert match_modalities(folder, brats, names) == [2, 1, 3, 0]
    assert LabelRule.of(folder, brats, names).labels == (0, 1, 2, 3)
    with pytest.raises(ValueError, match="inference_names has oedema for edema, declared are NCR, ED, ET, WT, TC"):
        LabelRule.of(folder, brats, names | {"edema": "oedema"})
    with pytest.raises(
        ValueError, match=r"inference_names has T1x, which .* has not; it has T1Gd, t1, T2, flair, backg"
    ):
        require_used(folder, {"T1x": "T1"})


@pytest.mark.parametrize("name", ["Enhancing disease", "Edematous tissue", "et al"])
def test_initials_are_no_names(tmp_path, brats, name):
    folder = write_nnunet(tmp_path / "model", LABELS | {name: 4})
    with pytest.raises(ValueError, match=f"which of them {name} is"):
        LabelRule.of(folder, brats, {})


def test_two_channels_of_one_modality_are_refused(tmp_path, brats):
    folder = write_nnunet(tmp_path / "model", channels=CHANNELS | {"2": "t1n"})
    with pytest.raises(ValueError, match=r"two channels of its input \(T1c, t1, t1n, flair\) are T1"):
        match_modalities(folder, brats, {})


def test_classes_of_one_tissue_add_up(tmp_path, brats):
    """The most probable class counts, as in nnU-Net; the probability of the tissue is theirs together."""
    folder = write_nnunet(tmp_path / "model", LABELS | {"NETC": 4})
    rule = LabelRule.of(folder, brats, {"NETC": "NCR"})
    probability = np.array([0.1, 0.3, 0.35, 0.0, 0.25], np.float32)[:, None, None, None]
    assert rule.to_labels(probability).tolist() == [[[2]]]
    assert rule.to_steps(probability)[:, 0, 0, 0].tolist() == [140, 89, 0]


def test_probabilities_of_regions_beside_each_other_are_both_subtracted(tmp_path, brats):
    labels = {"background": 0, "WT": [1, 2, 3], "ED": [2], "ET": [3]}
    rule = LabelRule.of(write_nnunet(tmp_path / "model", labels), brats, {})
    probability = np.array([0.9, 0.4, 0.3], np.float32)[:, None, None, None]
    assert rule.to_steps(probability)[:, 0, 0, 0].tolist() == pytest.approx([51, 102, 76], abs=1)


def test_a_tissue_that_no_class_is_is_missed(tmp_path, brats):
    folder = write_nnunet(tmp_path / "model", {"background": 0, "NCR": 1, "ET": 2})
    with pytest.raises(ValueError, match=r"none of its classes \(background, NCR, ET\) is ED"):
        LabelRule.of(folder, brats, {})


def test_lists_of_one_label_are_no_regions(tmp_path):
    folder = write_nnunet(tmp_path / "model", {"background": 0, "NCR": [1], "ED": [2], "ET": [3]})
    assert folder.exclusive
    assert folder.classes == ("background", "NCR", "ED", "ET")


def test_a_training_on_all_patients_counts_if_there_is_no_fold(tmp_path):
    folder = write_nnunet(tmp_path / "model")
    (tmp_path / "model" / "fold_all").mkdir()
    (tmp_path / "model" / "fold_all" / "checkpoint_final.pth").write_bytes(b"all")
    assert find_folds(folder.path) == ["fold_0", "fold_1"]
    assert read_model_folder(folder.path, [str(folder.path)]).digest == folder.digest
    for fold in (0, 1):
        (folder.path / f"fold_{fold}" / "checkpoint_final.pth").unlink()
    assert find_folds(folder.path) == ["fold_all"]


def test_the_second_stage_of_a_cascade_is_refused(tmp_path):
    folder = write_nnunet(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres").path
    plans = {"dataset_name": "D", "configurations": {"3d_cascade_fullres": {"previous_stage": "3d_lowres"}}}
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(ValueError, match="second stage of a cascade"):
        read_model_folder(folder, [str(folder)])


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SLA"])
def test_axes_are_turned_and_turned_back(rng, axes):
    image, affine = rng.random((2, 3, 4, 5)), np.array([[-1, 0, 0, 3], [0, -2.0, 0, 4], [0, 0, 3, 5], [0, 0, 0, 1]])
    turned, new, back = reorient(image, affine, axes)
    assert aff2axcodes(new) == tuple(axes)
    np.testing.assert_array_equal(back(turned), image)
    voxel = np.array([1, 2, 3])
    there = np.rint(apply_affine(np.linalg.inv(new), apply_affine(affine, voxel))).astype(int)
    np.testing.assert_array_equal(turned[:, *there], image[:, *voxel])


@pytest.mark.parametrize("labels", [{"background": 0, "tumor core": 1, "ED": 2}, {"background": 0, "WT": [1, 2, 3]}])
def test_tissues_that_are_one_class_are_refused(tmp_path, brats, labels):
    with pytest.raises(ValueError, match=r"its class (TC|WT) is NCR and .*ET in one, which it doesn't tell apart"):
        LabelRule.of(write_nnunet(tmp_path / "model", labels), brats, {})


def test_bad_folders(tmp_path):
    write_nnunet(tmp_path / "model")
    with pytest.raises(
        ValueError, match=r"is a model folder of nnU-Net: opening it runs code .*trusted_packages=PATH`"
    ):
        read_model_folder(tmp_path / "model", [str(tmp_path)])
    with pytest.raises(
        ValueError, match=r"without plans\.json \(nnU-Net\) nor configs/metadata\.json \(MONAI bundle\)"
    ):
        read_model_folder(tmp_path)
    for fold in (0, 1):
        (tmp_path / "model" / f"fold_{fold}" / "checkpoint_final.pth").unlink()
    with pytest.raises(ValueError, match="no training has ended"):
        read_model_folder(tmp_path / "model", [str(tmp_path / "model")])
    (tmp_path / "model" / "fold_0" / "checkpoint_final.pth").touch()
    (tmp_path / "model" / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match="its JSON files lack 'labels'"):
        read_model_folder(tmp_path / "model", [str(tmp_path / "model")])
    (tmp_path / "model" / "dataset.json").unlink()
    with pytest.raises(
        ValueError, match=r"dataset\.json can't be read \(No such file or directory\); is the folder comp"
    ):
        read_model_folder(tmp_path / "model", [str(tmp_path / "model")])


class Predictor:
    """In the place of nnU-Net's, which takes axes z, y, x: probabilities are the channels, halved at 2 mm in z."""

    seen: ClassVar[list] = []

    def __init__(self, **settings):
        self.settings = settings

    def initialize_from_trained_model_folder(self, folder, folds, checkpoint):
        print("nnU-Net prints what it finds")
        assert folds == ("0", "1")

    def predict_single_npy_array(self, image, properties, save_or_return_probabilities):
        assert save_or_return_probabilities
        assert image.dtype == np.float32
        assert properties == {"spacing": [2.0, 1.0, 1.5]}
        # What marks the axes is of the first channel.
        self.seen.append(image[0])
        return None, image / properties["spacing"][0]


@pytest.mark.parametrize(("reader", "turned"), [("SimpleITKIO", False), ("NibabelIOWithReorient", True)])
def test_nnunet_gets_axes_and_spacing_as_its_reader_has_them(tmp_path, monkeypatch, rng, capsys, reader, turned):
    module = ModuleType("nnunetv2.inference.predict_from_raw_data")
    module.nnUNetPredictor = Predictor
    monkeypatch.setitem(sys.modules, "nnunetv2", ModuleType("nnunetv2"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = write_nnunet(tmp_path / "model").path
    (path / "plans.json").write_text(json.dumps({"dataset_name": "D", "image_reader_writer": reader}))
    folder = read_model_folder(path, [str(path)])
    image = rng.random((4, 6, 5, 3)).astype(np.float32)
    affine = np.diag([-1.5, -1.0, 2.0, 1.0])
    np.testing.assert_allclose(folder.open("cpu", mirrored=True)(image, affine, "LPS"), image / 2)
    axes = image[0].transpose(2, 1, 0)
    np.testing.assert_array_equal(Predictor.seen[-1], axes[:, ::-1, ::-1] if turned else axes)
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(find_spec("nnunetv2") is not None, reason="nnU-Net is installed")
def test_without_nnunet_its_folders_are_refused(tmp_path, brats):
    folder = write_nnunet(tmp_path / "model")
    with pytest.raises(ImportError, match=r"is a model folder of nnU-Net, and nnunetv2 isn't installed: pip install"):
        require_match(folder, brats, {})


def write_bundle(
    folder, classes=("Tumor core", "Whole tumor", "Enhancing tumor"), post=("Activationsd", "Invertd"), limit=0.5
):
    """A bundle of one convolution: a class is where a channel is above the limit. It turns its scans first."""
    network = torch.nn.Conv3d(4, len(classes), 1)
    with torch.no_grad():
        network.weight.zero_()
        for number in range(len(classes)):
            network.weight[number, number] = 1
        network.bias.fill_(-limit)
    (folder / "models").mkdir(parents=True)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    transforms = {
        "Activationsd": {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        "Invertd": {
            "_target_": "monai.transforms.Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
        },
        "AsDiscreted": {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        "SaveImaged": {"_target_": "SaveImaged", "keys": "pred", "output_dir": "$1 / 0"},
    }
    config = {
        "network_def": {
            "_target_": "torch.nn.Conv3d",
            "in_channels": 4,
            "out_channels": len(classes),
            "kernel_size": 1,
        },
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "SRA"},
            ],
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {"_target_": "Compose", "transforms": [transforms[name] for name in (*post, "SaveImaged")]},
    }
    channels = dict(enumerate(("T1c", "T1", "T2", "FLAIR")))
    about = {
        "name": "one convolution",
        "network_data_format": {
            "inputs": {"image": {"channel_def": channels}},
            "outputs": {"pred": {"channel_def": dict(enumerate(classes))}},
        },
    }
    (folder / "configs").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    (folder / "configs" / "metadata.json").write_text(json.dumps(about))
    return read_model_folder(folder, [str(folder)])


def test_a_bundle_predicts_on_the_grid_of_the_scan(tmp_path, rng):
    folder = write_bundle(tmp_path / "bundle")
    assert folder.name == "MONAI bundle one convolution"
    assert folder.channels == ("T1c", "T1", "T2", "FLAIR")
    assert not folder.exclusive
    image = rng.random((4, 6, 5, 3)).astype(np.float32)
    probability = folder.open("cpu", mirrored=False)(image, np.diag([-1.0, -1.0, 2.0, 1.0]), "LPS")
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(0.5 - image[:3])), rtol=1e-5)


def test_a_bundle_that_does_not_return_to_the_scan_is_refused(tmp_path, rng):
    folder = write_bundle(tmp_path / "bundle", post=("Activationsd",))
    with pytest.raises(
        ValueError, match=r"gives 3 x 3 x 6 x 5 values for 3 classes of 6 x 5 x 3 voxels; try it with monai"
    ):
        folder.open("cpu", mirrored=False)(rng.random((4, 6, 5, 3)), np.diag([-1.0, -1.0, 2.0, 1.0]), "LPS")


@pytest.mark.parametrize(
    ("post", "words"),
    [
        (("Activationsd", "AsDiscreted", "Invertd"), "makes labels before it returns to the scan"),
        (("Invertd", "Activationsd"), "makes labels before it returns to the scan"),
        (("Invertd",), "makes no probabilities: there is no Activationsd"),
    ],
)
def test_a_bundle_without_probabilities_on_the_scan_is_refused(tmp_path, post, words):
    with pytest.raises(ValueError, match=words):
        write_bundle(tmp_path / "bundle", post=post).open("cpu", mirrored=False)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"inputs": {"a": {}, "b": {}}}, "has 2 inputs; bundles with one are supported"),
        ({"inputs": {"image": {}}}, "doesn't name the channels of its inputs; add `channel_def`"),
        ({}, "its JSON files lack 'inputs'"),
    ],
)
def test_a_bundle_that_does_not_say_what_goes_in_is_refused(tmp_path, data, words):
    path = write_bundle(tmp_path / "bundle").path
    about = json.loads((path / "configs" / "metadata.json").read_text())
    outputs = about["network_data_format"]["outputs"]
    (path / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": {"outputs": outputs} | data}))
    with pytest.raises(ValueError, match=words):
        read_model_folder(path, [str(path)])


def test_a_bundle_without_weights_is_refused(tmp_path):
    write_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "models" / "model.pt").unlink()
    with pytest.raises(ValueError, match=re.escape("models/model.pt isn't there")):
        read_model_folder(tmp_path / "bundle", [str(tmp_path / "bundle")])


def test_weights_of_another_network_are_refused(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    torch.save(torch.nn.Conv3d(4, 2, 1).state_dict(), tmp_path / "bundle" / "models" / "model.pt")
    with pytest.raises(ValueError, match=r"bundle can't be opened: .*; try it with monai alone"):
        folder.open("cpu", mirrored=False)


def test_a_bundle_with_background_has_classes_that_exclude_each_other(tmp_path):
    assert write_bundle(tmp_path / "bundle", ("Background", "NCR", "ED", "ET")).exclusive


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """A project in which a bundle has segmented a scan whose tissues are bright, each region in its modality."""
    folder = tmp_path_factory.mktemp("bundle")
    project = copy_project(folder / "project")
    volumes = np.zeros((4, 40, 36, 8), np.int16)
    volumes[:, 4:-4, 4:-4] = np.random.default_rng(0).integers(80, 120, (4, 32, 28, 8))
    mask = np.zeros(volumes.shape[1:], np.uint8)
    mask[8:30, 8:20, 2:7] = 2
    mask[12:20, 10:16, 3:6] = 1
    mask[12:16, 10:14, 4:6] = 4
    # T1, T1ce, T2: whole tumour, core, enhancing tumour.
    volumes[1][mask > 0] = 300
    volumes[2][np.isin(mask, (1, 4))] = 300
    volumes[3][mask == 4] = 300
    save_patient(folder / "scans" / "P1", "P1", volumes, mask)
    write_bundle(folder / "model", limit=200)
    network = str(folder / "model")
    scans = {"inference_source": str(folder / "scans"), "inference_network": network}
    run(project, "inference_segmentation", **scans, trusted_packages=[network])
    return project, scans


def test_a_bundle_segments_scans(segmented):
    project, _ = segmented
    scores = pd.read_csv(project / "data/07_model_output/inference/scores.csv")
    assert set(scores["network"]) == {"MONAI bundle one convolution"}
    dice = scores[scores["metric"] == "dice"].set_index("target")["value"]
    assert dice.to_dict() == dict.fromkeys(("NCR", "ED", "ET", "WT", "TC"), 1)
    volumes = pd.read_csv(project / "data/07_model_output/inference/volumes.csv")
    assert volumes["confidence"].tolist() == pytest.approx([1], abs=0.01)


def test_the_report_says_whose_network_it_is(segmented):
    project, scans = segmented
    report = (project / "data/08_reporting/inference/segmentation_report.html").read_text()
    assert f"MONAI bundle one convolution, in {scans['inference_network']}, was trained by another project" in report
    assert "predicts with monai 1." in report
    assert "min_component_ml" not in report
    assert "Those whom its file names" not in report
    assert "Its input is T1c, T1, T2, FLAIR, its output Tumor core, Whole tumor, Enhancing tumor." in report
    assert "prepare yours in the same way" not in report
    assert "Give scans that are prepared as those that the network was trained on." in report


def test_a_modality_that_the_network_takes_has_to_be_there(segmented, tmp_path, caplog):
    project, scans = segmented
    shutil.copytree(scans["inference_source"], tmp_path / "scans")
    (tmp_path / "scans" / "P1" / "P1_t2.nii.gz").unlink()
    trusted = {"trusted_packages": [scans["inference_network"]], "inference_source": str(tmp_path / "scans")}
    with pytest.raises(ValueError, match=r"no scan in .* can be used; P1: .*T2"):
        run(project, "inference_segmentation", **scans | trusted)
    run(project, "inference_segmentation", **scans | trusted, inference_missing_modalities="zero")
    assert "T2 is missing, the network gets 0 instead" in caplog.text
    assert "input of MONAI bundle one convolution: T1c is T1ce, T1 is T1, T2 is T2, FLAIR is FLAIR" in caplog.text
    assert "output of MONAI bundle one convolution: Tumor core is NCR, Whole tumor is ED, Enhancing tumor is ET" in (
        caplog.text
    )


def test_masks_lie_on_scans_in_other_axes(segmented, tmp_path):
    """Of a patient in the names of 2023, whose files run to R, A, S: ET is written as 3, voxel for voxel."""
    project, scans = segmented
    name = "BraTS-GLI-00001-000"
    (tmp_path / "scans" / name).mkdir(parents=True)
    for file, new in (("flair", "t2f"), ("t1", "t1n"), ("t1ce", "t1c"), ("t2", "t2w"), ("seg", "seg")):
        image = nib.as_closest_canonical(nib.load(Path(scans["inference_source"]) / "P1" / f"P1_{file}.nii.gz"))
        data = np.asarray(image.dataobj)
        data = np.where(data == 4, 3, data).astype(np.uint8) if file == "seg" else data
        nib.save(nib.Nifti1Image(data, image.affine), tmp_path / "scans" / name / f"{name}-{new}.nii.gz")
    given = scans | {"inference_source": str(tmp_path / "scans"), "inference_output": str(tmp_path / "out")}
    run(project, "inference_segmentation", **given, trusted_packages=[scans["inference_network"]])
    (mask,) = (tmp_path / "out" / "masks").glob("*.nii.gz")
    truth = nib.load(tmp_path / "scans" / name / f"{name}-seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(mask).dataobj), np.asarray(truth.dataobj))
    assert aff2axcodes(nib.load(mask).affine) == ("R", "A", "S")


def test_hdf5_slices_are_not_for_networks_of_others(segmented, sample):
    project, scans = segmented
    given = scans | {"inference_source": str(sample)}
    with pytest.raises(
        ValueError, match="HDF5 slices, and MONAI bundle takes NIfTI volumes; give the patient as NIfTI"
    ):
        run(project, "inference_segmentation", **given, trusted_packages=[scans["inference_network"]])


def test_a_folder_that_is_not_trusted_runs_nothing(segmented):
    project, scans = segmented
    with pytest.raises(DatasetError, match="opening it runs code that it holds"):
        run(project, "inference_segmentation", **scans)


def test_a_bundle_classifies_no_images(segmented, images):
    project, scans = segmented
    trusted = {"trusted_packages": scans["inference_network"]}
    with pytest.raises(ValueError, match="segments Tumor core, Whole tumor, Enhancing tumor; give a network that"):
        run(project, "inference_classification", **scans | trusted | {"inference_source": str(images)})
