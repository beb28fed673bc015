"""What kedro-viz shows of each kind of entry."""

import base64
import inspect
import io

import numpy as np
import pytest
from kedro.io import DatasetError
from matplotlib.figure import Figure
from PIL import Image

from brain_tumor import datasets
from brain_tumor.data.common.store import StoreContent
from brain_tumor.datasets import (
    CheckpointsDataset,
    FiguresDataset,
    FolderDataset,
    FoldersDataset,
    InspectionsDataset,
    NetworkDataset,
    ReportDataset,
    StoreDataset,
)
from brain_tumor.figures.segmentation_data import Animation
from brain_tumor.networks import build
from brain_tumor.networks.trained import TrainedNetwork


def picture(preview):
    return Image.open(io.BytesIO(base64.b64decode(preview)))


def fill(colour, width, height):
    figure = Figure(figsize=(width, height), facecolor=colour)
    figure.subplots().set_axis_off()
    return figure


@pytest.mark.parametrize("name", datasets.__all__)
def test_every_dataset_says_of_which_type_its_preview_is(name):
    assert inspect.signature(getattr(datasets, name).preview).return_annotation.__name__ in {
        "ImagePreview",
        "TablePreview",
        "HTMLPreview",
    }


@pytest.mark.parametrize(
    "kind",
    [
        CheckpointsDataset,
        FiguresDataset,
        FolderDataset,
        InspectionsDataset,
        NetworkDataset,
        ReportDataset,
        StoreDataset,
    ],
)
def test_what_is_not_written_raises_which_kedro_viz_takes_for_no_preview(kind, tmp_path):
    with pytest.raises((DatasetError, FileNotFoundError)):
        kind(filepath=str(tmp_path / "nothing")).preview()


def test_figures_are_on_one_sheet(tmp_path):
    dataset = FiguresDataset(filepath=str(tmp_path / "figures"))
    frames = np.stack([np.full((20, 40, 3), value, np.uint8) for value in (10, 200)])
    dataset.save({"a": fill("red", 4, 3), "b": fill("blue", 4, 3), "c": Animation(frames)})
    sheet = picture(dataset.preview(width=100))
    assert sheet.size == (200, 133)  # two columns, on a sheet of three by two
    found = {colour for _, colour in sheet.getcolors(1 << 20)}
    assert {(255, 0, 0), (0, 0, 255), (255, 255, 255)} <= found
    assert any(all(abs(part - 200) < 5 for part in colour) for colour in found)  # the last frame
    assert not any(all(abs(part - 10) < 5 for part in colour) for colour in found)


def test_a_store_is_a_picture_of_rows_spread_over_it(tmp_path):
    dataset = StoreDataset(filepath=str(tmp_path / "store.h5"))
    chunks = (
        {"image": np.full((10, 1, 8, 8), 25 * k, np.uint8), "file": np.array(["x"] * 10, dtype=object)}
        for k in range(10)
    )
    dataset.save(StoreContent({}, chunks))
    greys = {colour[0] for _, colour in picture(dataset.preview(rows=6)).getcolors(1 << 20)}
    assert {0, 225} <= greys


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"numbers": np.zeros((3, 2))},
        {"odd": np.full((2, 2, 2, 4, 4), np.nan)},
        {"one": np.array(["a", "b"], dtype=object)},
    ],
)
def test_any_store_has_a_preview(tmp_path, content):
    dataset = StoreDataset(filepath=str(tmp_path / "store.h5"))
    dataset.save(StoreContent({}, iter([content] if content else [])))
    width, height = picture(dataset.preview()).size
    assert abs(2 * width - 3 * height) <= 3


def test_a_network_is_a_table_of_what_it_is(tmp_path):
    description = {
        "data_set": "BraTS 2020",
        "simulated": True,
        "modalities": ["FLAIR", "T1"],
        "kept": [{"epoch": 3.0, "validation_dice": float("nan")}],
    }
    weights = build("classic_unet", n_filters=4).state_dict()
    dataset = NetworkDataset(filepath=str(tmp_path / "network.safetensors"))
    dataset.save(TrainedNetwork("classic_unet", {"n_filters": 4}, description, (weights,)))
    table = dataset.preview()
    assert table["columns"] == ["what", "value"]
    assert table["data"] == [
        ["network", "classic_unet"],
        ["simulated", "True"],
        ["data_set", "BraTS 2020"],
        ["parameters", "86,291"],
        ["sizes.n_filters", "4"],
        ["kept.0.epoch", "3"],
        ["kept.0.validation_dice", "nan"],
        ["modalities", "FLAIR, T1"],
    ]


def test_a_folder_is_a_table_of_its_files_by_kind(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("a/1.nii.gz", "a/b/2.nii.gz", "note.v1.txt", "README"):
        (tmp_path / name).write_bytes(b"x" * 500_000)
    assert FolderDataset(filepath=str(tmp_path)).preview()["data"] == [
        [".nii.gz", "2", "1.0"],
        [".txt", "1", "0.5"],
        ["README", "1", "0.5"],
    ]
    several = FoldersDataset(folders={"x": str(tmp_path / "a"), "y": str(tmp_path / "a/b")}).preview()
    assert several["columns"] == ["folder", "files", "number", "MB"]
    assert several["data"] == [["x", ".nii.gz", "2", "1.0"], ["y", ".nii.gz", "1", "0.5"]]
    for folders in (None, {"x": str(tmp_path / "nothing")}):
        with pytest.raises(DatasetError):
            FoldersDataset(folders=folders).preview()


def test_a_report_keeps_its_words_where_kedro_viz_reads_markdown(tmp_path):
    dataset = ReportDataset(filepath=str(tmp_path / "report.html"))
    dataset.save("<h1>attention_unet\nand improved_unet</h1>")
    assert dataset.preview() == "<h1>attention unet and improved unet</h1>"
