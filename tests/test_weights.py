"""The networks that ship with the project."""

import shutil

import numpy as np
import pandas as pd
import pytest
from support import ROOT, copy_project, real, rows_of, run

from brain_tumor.networks import networks_of
from brain_tumor.networks.trained import read_network

FILES = sorted((ROOT / "weights").glob("*.safetensors"))
EACH = 20
"""Real test images of each class that are classified."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_describes_itself_and_the_card_has_its_scores(path):
    network, card = read_network(path), (ROOT / "weights/README.md").read_text()
    assert path.stat().st_size < 20e6
    assert network.name == path.stem
    assert network.name in networks_of("classification")
    assert network.description["simulated"] is False
    scores = pd.DataFrame(network.description["scores"]).set_index(["test_set", "metric"])
    for test_set, images in (("deduplicated", 958), ("official", 1311)):
        row = scores.loc[(test_set, "accuracy")]
        (shown,) = [
            cells for cells in rows_of(card, f"Scores and 95 % intervals on the {test_set} test set, {images:,} images")[1:] if cells[0] == network.name
        ]
        assert row["images"] == images
        assert shown[1] == f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    assert f"| {path.name} |" in card


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("project"))
    shutil.copytree(ROOT / "weights", folder / "weights")
    return folder


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_real_images_are_classified_about_as_well_as_the_file_says(path, project, tmp_path, monkeypatch):
    source = real("brain-tumor-mri-dataset") / "Testing"
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        for image in sorted(folder.iterdir())[::-1][:EACH]:
            shutil.copy(image, tmp_path / f"{folder.name}-{image.name}")
    monkeypatch.chdir(project)
    run(project, "inference_classification", inference_source=str(tmp_path), inference_network=f"weights/{path.name}")
    classes = pd.read_csv(project / "data/07_model_output/inference/classes.csv")
    accuracy = np.mean(classes["file"].str.split("-").str[0] == classes["found"])
    said = pd.DataFrame(read_network(path).description["scores"]).set_index(["test_set", "metric"]).loc[("official", "accuracy"), "value"]
    error = np.sqrt(said * (1 - said) / (4 * EACH))
    assert len(classes) == 4 * EACH
    assert abs(accuracy - said) < 3 * error


def test_the_network_that_is_used_unless_another_is_given_is_here(project, images, monkeypatch):
    monkeypatch.chdir(project)
    run(project, "inference_classification", inference_source=str(images / "Testing" / "glioma"))
    assert "cnn finds" in (project / "data/08_reporting/inference/classification_report.html").read_text()
