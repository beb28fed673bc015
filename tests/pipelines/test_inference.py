import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support import copy_project, run

from brain_tumor.data.store import Store
from brain_tumor.networks import build
from brain_tumor.networks.trained import TrainedNetwork, read_network, write_network
from brain_tumor.training.classification import to_input

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
SIZES = {"in_channels": 1, "out_channels": 4, "image_size": 96, "n_filters": 6}
SCORES = [{"test_set": "deduplicated", "metric": "accuracy", "value": 0.9, "low": 0.8, "high": 0.95, "images": 70}]


def save_network(path, **description):
    torch.manual_seed(0)
    about = {"data_set": "Somewhere", "classes": CLASSES, "image_size": 96, "fit": "pad", "simulated": True, "images": [3, 4, 5, 6], "temperature": 0.5}
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
    save_network(folder / "network.safetensors", scores=SCORES)
    run(folder, "inference_classification", inference_source=str(new), inference_network=str(folder / "network.safetensors"))
    return folder


@pytest.fixture(scope="module")
def classes(finished):
    return pd.read_csv(finished / "data/07_model_output/inference/classes.csv")


def test_every_file_is_classified_or_left_out_with_a_reason(classes, images):
    left_out = classes[classes["left_out"].notna()].set_index("file")["left_out"]
    assert set(left_out.index) == {"cut.jpg", "empty.jpg", "notes.txt"}
    assert "damaged" in left_out["cut.jpg"]
    assert "0 bytes" in left_out["empty.jpg"]
    assert "not an image" in left_out["notes.txt"]
    used = classes[classes["left_out"].isna()]
    names = {f"ward/{path.name}" for path in (images / "Testing" / "glioma").iterdir()} | {path.name for path in (images / "Testing" / "notumor").iterdir()}
    assert set(used["file"]) == names
    assert used["confidence"].is_monotonic_increasing


def test_probabilities_are_those_of_the_network_at_its_temperature(finished, classes):
    images = Store(finished / "data/03_primary/inference/images.h5")
    used = classes[classes["left_out"].isna()].set_index("file").loc[images.rows["file"]]
    (pixels,) = images.read(np.arange(len(used)), "image")
    network = read_network(finished / "network.safetensors").module()
    expected = (network(to_input(torch.from_numpy(pixels).float(), 1)) / 0.5).softmax(1).detach().numpy()
    np.testing.assert_allclose(used[CLASSES].to_numpy(float), expected, atol=0.02)  # bf16 where the device has it
    assert used["found"].tolist() == [CLASSES[k] for k in used[CLASSES].to_numpy(float).argmax(1)]
    assert used["confidence"].tolist() == pytest.approx(used[CLASSES].max(axis=1).tolist())


def test_images_are_prepared_as_those_that_were_learned_from(finished, images, tmp_path):
    project = copy_project(tmp_path)
    run(project, "data_engineering", [f"data_classification.{name}" for name in ("index_images", "prepare_images")], classification_source=str(images))
    learned, new = Store(project / "data/03_primary/classification/images.h5"), Store(finished / "data/03_primary/inference/images.h5")
    rows = pd.Series(range(len(learned.rows)), learned.rows["file"].str.rsplit("/", n=1).str[-1])
    same = rows[new.rows["file"].str.rsplit("/", n=1).str[-1]].to_numpy()
    np.testing.assert_array_equal(new.read(np.arange(len(same)), "image")[0], np.concatenate([learned.read(np.array([row]), "image")[0] for row in same]))


def test_report_says_what_was_found_and_what_is_known_of_the_network(finished, classes):
    report = (finished / "data/08_reporting/inference/classification_report.html").read_text()
    used = classes[classes["left_out"].isna()]
    assert f"Of {len(used)} images cnn finds" in report
    assert "3 files are left out" in report
    assert "SIMULATED" in report.split("</title>")[0]
    assert all(file in report for file in classes["file"])
    assert "0.900 (0.800&nbsp;to&nbsp;0.950)" in report
    assert "trained on Somewhere, 18 images" in report
    assert report.count("data:image/png;base64,") == 1


def test_one_file_is_enough(project, images):
    save_network(project / "network.safetensors")
    path = next((images / "Testing" / "pituitary").iterdir())
    run(project, "inference_classification", inference_source=str(path), inference_network=str(project / "network.safetensors"))
    table = pd.read_csv(project / "data/07_model_output/inference/classes.csv")
    assert table["file"].tolist() == [path.name]
    assert table["found"].item() in CLASSES


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (Path.exists, "there is no image in .*inference_source"),
        (lambda folder: (folder / "empty.jpg").touch(), "none of the 1 files in .* can be used; empty.jpg: the file is empty"),
    ],
)
def test_nothing_to_classify(project, tmp_path_factory, prepare, words, caplog):
    folder = tmp_path_factory.mktemp("new")
    prepare(folder)
    save_network(project / "network.safetensors")
    with caplog.at_level(logging.CRITICAL), pytest.raises((FileNotFoundError, ValueError), match=words):
        run(project, "inference_classification", inference_source=str(folder), inference_network=str(project / "network.safetensors"))


def test_a_network_for_masks_is_refused(project, images):
    sizes = {"in_channels": 4, "out_channels": 3, "n_filters": 2}
    about = {"tissues": ["NCR", "ED", "ET"], "simulated": True}
    write_network(project / "network.safetensors", TrainedNetwork("classic_unet", sizes, about, (build("classic_unet", **sizes).state_dict(),)))
    with pytest.raises(ValueError, match="classic_unet finds NCR, ED, ET, no classes"):
        run(project, "inference_classification", inference_source=str(images), inference_network=str(project / "network.safetensors"))
