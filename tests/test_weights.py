"""The networks that ship with the project."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from support import ROOT, copy_project, real, rows_of, run, save_patient

from brain_tumor.figures.palette import name_network
from brain_tumor.networks.library import is_library, package_of
from brain_tumor.networks.trained import read_network, write_network

FILES = sorted((ROOT / "weights").glob("*.safetensors"))
CLASSIFIERS, SEGMENTERS = (
    [path for path in FILES if mark in read_network(path).description] for mark in ("classes", "tissues")
)
EACH = 20
"""Real test images of each class that are classified."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_describes_itself_and_stands_in_a_card(path):
    network = read_network(path)
    assert path.stat().st_size < 20e6
    assert network.experiment == path.stem
    assert path in CLASSIFIERS + SEGMENTERS
    assert network.description["simulated"] is False
    assert f"`{path.name}`" in (ROOT / "weights/README.md").read_text(encoding="utf-8")
    assert f"| {path.name} |" in (
        ROOT / f"weights/{'classification' if path in CLASSIFIERS else path.stem}.md"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: path.stem)
def test_card_has_the_scores_of_a_classifier(path):
    network, card = read_network(path), (ROOT / "weights/classification.md").read_text(encoding="utf-8")
    scores = pd.DataFrame(network.description["scores"]).set_index(["test_set", "metric"])
    for test_set in ("deduplicated", "official"):
        row = scores.loc[(test_set, "accuracy")]
        rows = rows_of(card, f"Scores and 95 % intervals on the {test_set} test set")[1:]
        (shown,) = [cells for cells in rows if cells[0] == network.experiment]
        assert shown[1] == f"{int(row['images']):,}"
        assert shown[2] == f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: path.stem)
def test_card_compares_saliency_inside_the_head_with_a_uniform_map(path):
    about, card = read_network(path).description, (ROOT / "weights/classification.md").read_text(encoding="utf-8")
    inside, uniform = about["saliency_inside"], about["saliency_inside_uniform"]
    assert 0.5 < uniform < 1
    assert (
        f"{name_network(path.stem)}: {inside:.0%} of the saliency lies inside the head, {uniform:.0%} of a uniform "
        "map does"
    ) in card
    heading, *rows = rows_of(card, "Scores and 95 % intervals on the deduplicated test set")
    assert all(
        "(" not in cell for row in rows for name, cell in zip(heading, row, strict=True) if "calibration" in name
    )


def test_saliency_in_a_new_file_is_that_of_the_test_set(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "weights")
    import classifiers

    folder = tmp_path / "08_reporting/classification/cnn"
    folder.mkdir(parents=True)
    pd.DataFrame(
        {"test_set": ["official"], "metric": "accuracy", "value": 0.9, "low": 0.8, "high": 1.0, "images": 4}
    ).to_csv(folder / "scores.csv")
    pd.DataFrame({"inside": [0.1, 0.9, np.nan], "inside_uniform": [0.4, 0.8, 0.1], "weight": [1, 3, 9]}).to_csv(
        folder / "saliency.csv"
    )
    measured = classifiers.measure(tmp_path, "cnn")
    assert (measured["saliency_inside"], measured["saliency_inside_uniform"]) == pytest.approx((0.7, 0.7))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("project"))
    shutil.copytree(ROOT / "weights", folder / "weights")
    return folder


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: path.stem)
def test_real_images_are_classified_about_as_well_as_the_file_says(path, project, tmp_path, monkeypatch):
    if is_library(name := read_network(path).name):
        pytest.importorskip(package_of(name))
    source = real("brain-tumor-mri-dataset") / "Testing"
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        for image in sorted(folder.iterdir())[::-1][:EACH]:
            shutil.copy(image, tmp_path / f"{folder.name}-{image.name}")
    monkeypatch.chdir(project)
    run(project, "inference_classification", inference_source=str(tmp_path), inference_network=f"weights/{path.name}")
    classes = pd.read_csv(project / "data/07_model_output/inference/classes.csv")
    accuracy = np.mean(classes["file"].str.split("-").str[0] == classes["predicted"])
    said = (
        pd.DataFrame(read_network(path).description["scores"])
        .set_index(["test_set", "metric"])
        .loc[("official", "accuracy"), "value"]
    )
    error = np.sqrt(said * (1 - said) / (4 * EACH))
    assert len(classes) == 4 * EACH
    assert abs(accuracy - said) < 3 * error


@pytest.mark.parametrize("path", SEGMENTERS, ids=lambda path: path.stem)
def test_card_has_the_scores_of_a_network_for_masks(path):
    network, card = read_network(path), (ROOT / f"weights/{path.stem}.md").read_text(encoding="utf-8")
    scores = pd.DataFrame(network.description["scores"]).set_index(["of", "metric", "target"])
    patients = network.description["dice"]
    # Nobody is scored whom the initial weights were trained on.
    leaked = (network.description["initialised_from"] or {}).get("scored") or []
    assert not set(patients) & set(leaked)
    counts = scores.groupby("of")["patients"].max()
    assert counts["whole volumes"] == len(patients)
    # The published table has grades of the patients of BraTS 2020 alone.
    graded = [patient for patient in patients if patient.startswith("BraTS20_")]
    assert counts.filter(like="whole volumes, ").sum() == len(graded)
    for of, count in counts.items():
        heading, *rows = rows_of(card, f"Means over {count} patients and 95 % intervals, {of}")
        (shown,) = [dict(zip(heading, cells, strict=True)) for cells in rows if cells[0] == "dice"]
        for target in network.description["targets"]:
            row = scores.loc[(of, "dice", target)]
            assert shown[target] == f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    for target in network.description["targets"]:
        assert scores.loc[("whole volumes", "dice", target), "mean"] == pytest.approx(
            np.mean([dice[target] for dice in patients.values()])
        )


@pytest.mark.parametrize("path", SEGMENTERS, ids=lambda path: path.stem)
def test_a_real_scan_is_segmented_as_well_as_the_file_says(path, project, tmp_path, monkeypatch):
    """By the member that was not trained on it, on the scan's grid; the file has scores on that of the slices."""
    network = read_network(path)
    patient, named = "BraTS20_Training_272", "BraTS2021_01477"
    said = network.description["dice"][patient]
    (member,) = [k for k, patients in enumerate(network.description["validation_patients"]) if patient in patients]
    write_network(tmp_path / "member.safetensors", replace(network, members=(network.members[member],)))
    shutil.copytree(real("brats-nifti-lgg") / named, tmp_path / named)
    monkeypatch.chdir(project)
    run(
        project,
        "inference_segmentation",
        inference_source=str(tmp_path),
        inference_network=str(tmp_path / "member.safetensors"),
    )
    scores = (
        pd.read_csv(project / "data/07_model_output/inference/scores.csv")
        .query("metric == 'dice'")
        .set_index("target")["value"]
    )
    assert scores.to_dict() == pytest.approx(said, abs=0.05)


def test_networks_that_are_used_unless_another_is_given_are_here(project, images, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    run(project, "inference_classification", inference_source=str(images / "Testing" / "glioma"))
    assert "CNN classifies" in (project / "data/08_reporting/inference/classification_report.html").read_text(
        encoding="utf-8"
    )
    save_patient(
        tmp_path / "mine",
        "mine",
        np.random.default_rng(0).integers(100, 200, (4, 32, 32, 3), np.int16),
        np.zeros((32, 32, 3)),
    )
    run(project, "inference_segmentation", inference_source=str(tmp_path))
    report = (project / "data/08_reporting/inference/segmentation_report.html").read_text(encoding="utf-8")
    assert "ResidualAttentionUNet predicts" in report
    assert "an ensemble of 3" in report
    assert "as its file says" in report
