"""`kedro segment`, `kedro classify`, and the same from Python."""

import re
import webbrowser

import nibabel as nib
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from PIL import Image
from support import ROOT, copy_project, save_patient

from brain_tumor.cli import classify, segment
from brain_tumor.inference import Segmented
from brain_tumor.inference import classify as classify_in_python
from brain_tumor.inference import segment as segment_in_python
from brain_tumor.networks import build
from brain_tumor.networks.trained import TrainedNetwork, write_network

SIZES = {"in_channels": 4, "out_channels": 3, "n_filters": 2}
IMAGES = 3
CNN = {"in_channels": 1, "out_channels": 4, "image_size": 96, "n_filters": 6}


@pytest.fixture(scope="module")
def ready(tmp_path_factory, brats):
    """A project with small networks in the places of those that ship, two scans, one without a T2, and images."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    (folder / "weights").mkdir()
    torch.manual_seed(0)
    about = {"data_set": brats.name, "modalities": brats.modality_names, "tissues": brats.tissue_names}
    about |= {"slice_size": 32, "window": [16, 32], "pixel_mm": [1.25, 1.25], "simulated": False}
    network = TrainedNetwork("classic_unet", SIZES, about, (build("classic_unet", **SIZES).state_dict(),))
    write_network(folder / "weights/residual_attention_unet.safetensors", network)
    about = {"data_set": "Here", "classes": ["a", "b", "c", "d"], "image_size": 96, "fit": "pad", "simulated": False}
    about |= {"images": [1, 1, 1, 1]}
    write_network(
        folder / "weights/cnn.safetensors", TrainedNetwork("cnn", CNN, about, (build("cnn", **CNN).state_dict(),))
    )
    volumes = np.zeros((4, 40, 36, 8), np.int16)
    volumes[:, 4:-4, 3:-3, 1:-1] = np.random.default_rng(0).normal(300, 40, (4, 32, 30, 6))
    mask = np.zeros((40, 36, 8))
    mask[10:30, 10:25, 3:6] = 2
    for name in ("one", "two", "lacking"):
        save_patient(folder / "scans" / name, name, volumes, mask)
    (folder / "scans/lacking/lacking_t2.nii.gz").unlink()
    (folder / "images").mkdir()
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 255, (100, 90), np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{number}.png")
    return folder


@pytest.fixture
def call(ready, monkeypatch):
    """Runs a command in the project; gives its status and its lines."""
    monkeypatch.chdir(ready)

    def run(command, *words):
        result = CliRunner().invoke(command, list(words), obj=bootstrap_project(ready))
        return result.exit_code, result.output.splitlines()

    return run


def test_everything_is_below_the_folder_and_the_last_line_says_where(call, ready):
    status, lines = call(segment, "scans", "--output", "out", "--params", "viewer.patients=1")
    assert status == 0, lines
    assert lines[-1] == (
        "2 patients segmented, 1 excluded (the report has the reasons). Masks: out/masks. "
        "Report: out/segmentation_report.html"
    )
    found = {path.relative_to(ready / "out").as_posix() for path in (ready / "out").rglob("*") if path.is_file()}
    assert {path for path in found if "figures" not in path} == {
        "masks/one_seg.nii.gz",
        "masks/two_seg.nii.gz",
        "volumes.csv",
        "scores.csv",
        "segmentation_report.html",
        "viewers/.viewers.json",
        "viewers/one.html",
    }
    report = (ready / "out/segmentation_report.html").read_text(encoding="utf-8")
    assert re.findall(r'href="(viewers/[^"]+)"', report) == ["viewers/one.html"]
    assert "of the first 1 of 2 patients" in report
    assert not (ready / "data").joinpath("08_reporting").exists()


def test_images_are_classified_into_the_folder(call, ready):
    status, lines = call(classify, "images", "--output", "classes")
    assert status == 0, lines
    assert lines[-1] == (
        f"{IMAGES} images classified. Classes: classes/classes.csv. Report: classes/classification_report.html"
    )
    assert (ready / "classes/images.h5").is_file()


def test_the_report_is_opened_if_asked(call, ready, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address))
    status, lines = call(classify, "images", "--output", "classes", "--open")
    report = ready / "classes/classification_report.html"
    assert (status, opened) == (0, [report.as_uri()])
    assert f"there is no browser here; open {report} in one" in lines
    assert lines[-1].startswith(f"{IMAGES} images classified")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "inference_source is {project}/nowhere, which isn't there; give a folder of scans or images"),
        (["scans", "--network", "none.safetensors"], "inference_network is {project}/none.safetensors, which isn't"),
        (["scans", "--network", "weights/cnn.safetensors"], "cnn finds no tissues, it classifies images; give another"),
        (["scans", "--output", "conf/base/catalog.yml"], "catalog.yml, but {project}/conf/base/catalog.yml is a file"),
        (["scans", "--env", "ful"], "there is no environment 'ful'; did you mean 'full'"),
        (["scans", "--params", "viewer.patients=-1"], "viewer.patients must be greater than or equal to 0, got -1"),
        (["scans/lacking"], "no scan in {project}/scans/lacking can be used; lacking: "),
    ],
)
def test_what_is_wrong_is_said_in_a_line(call, ready, words, message):
    status, lines = call(segment, *words)
    assert status == 1
    assert lines[-1].startswith("Error: ")
    assert message.format(project=ready) in lines[-1]
    assert "Traceback" not in "".join(lines)


def test_help_has_examples(call):
    for command in (segment, classify):
        status, lines = call(command, "--help")
        assert status == 0
        assert any(line.strip().startswith(f"kedro {command.name} ") for line in lines)


def test_the_three_lines_of_the_page_run(ready, monkeypatch):
    """Results in `data/`, as `kedro run` writes them."""
    monkeypatch.chdir(ready)
    page = (ROOT / "docs/how_to/segment_new_scans.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    *before, last = [line for line in code.splitlines() if line]
    assert len(before) == 2
    used = {}
    exec("\n".join(before), used)
    volumes = eval(last, used)
    assert volumes["patient"].tolist() == ["lacking", "one", "two"]
    result = used["result"]
    assert result.report == ready / "data/08_reporting/inference/segmentation_report.html"
    assert set(result.viewers) == {"one", "two"}
    assert "<iframe srcdoc=" in result.view("two").data
    with pytest.raises(ValueError, match="lacking has no viewer; those who have one: one, two"):
        result.view("lacking")
    labels = np.asarray(nib.load(result.masks / "one_seg.nii.gz").dataobj)
    wt = volumes.set_index("patient").loc["one", "WT_ml"]
    assert (labels > 0).sum() / 1000 == pytest.approx(wt, abs=6e-4)
    assert set(result.scores["patient"]) == {"one", "two"}


def test_python_finds_the_project_or_says_that_there_is_none(ready, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is in no project of kedro; give the folder: project=PATH"):
        classify_in_python(ready / "images")
    result = classify_in_python(ready / "images/0.png", project=ready, output="out")
    assert len(result.classes) == 1
    assert result.report == tmp_path / "out/classification_report.html"
    with pytest.raises(FileNotFoundError, match=r"inference_source is .*nowhere, which isn't there"):
        segment_in_python("nowhere", project=ready)


def test_raw_scans_that_could_not_be_prepared_are_among_the_volumes(tmp_path):
    (tmp_path / "volumes.csv").write_text("patient,folder,excluded,WT_ml\n007,.,,31.5\n", encoding="utf-8")
    (tmp_path / "quality.csv").write_text(
        "patient,brain_ml,excluded\n007,1500,\nP2,,no T1ce volume\n", encoding="utf-8"
    )
    tables = {"volumes": tmp_path / "volumes.csv", "preparation": tmp_path / "quality.csv"}
    volumes = Segmented(tmp_path, tmp_path / "report.html", {}, tables).volumes.set_index("patient")
    assert volumes.loc["007", "WT_ml"] == 31.5
    assert volumes.loc["P2", "excluded"] == "no T1ce volume"
    assert len(volumes) == 2
