import logging
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import copy_project, rows_of, run

from brain_tumor.data.common.store import Store
from brain_tumor.data.images.class_folders import ImageSet
from brain_tumor.data.images.duplicates import DuplicateSettings
from brain_tumor.data.simulation.images import PLANTED
from brain_tumor.reporting.data_classification.report import _neighbours, count_planted

STEPS = (
    "index_images",
    "compare_images",
    "group_duplicates",
    "prepare_images",
    "split_images",
    "draw_data",
    "write_data_report",
    "write_data_sheet",
)
NODES = [f"data_classification.{name}" for name in STEPS]


def engineer(project, source, **params):
    """Data engineering of images alone."""
    return run(project, "classification", node_names=NODES, classification_source=str(source), **params)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, images):
    """A project in which the images of the tiny sample were audited and prepared."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    engineer(folder, images)
    return folder


def test_audit_finds_every_planted_copy_and_nothing_else(finished, images):
    planted = pd.read_csv(images / PLANTED)
    duplicates = pd.read_csv(finished / "data/08_reporting/classification/duplicates.csv")
    group = duplicates.set_index("file")["group"]
    assert (group[planted["file"]].to_numpy() == group[planted["copy_of"]].to_numpy()).all()
    assert set(duplicates["file"]) == {*planted["file"], *planted["copy_of"]}
    assert duplicates["group"].nunique() == planted["copy_of"].nunique()
    assert not duplicates["conflict"].any()
    assert set(duplicates.loc[duplicates["identical"], "file"]) == set(
        planted.loc[planted["how"] == "identical", ["file", "copy_of"]].to_numpy().ravel()
    )


def test_report_says_what_the_audit_found(finished):
    report = (finished / "data/08_reporting/classification/data_report.html").read_text()
    assert "SIMULATED" in report.split("</title>")[0]
    assert "Of 28 test images 4 are identical to a training image, and 16 (57%) have a duplicate" in report
    said = "The sample holds 32 planted duplicates: 32 were detected, and 0 other images were taken for duplicates."
    assert said in report
    assert "The patient is known of 76 of 76 images." in report
    assert "16 show a patient of whom an image is in Training" in report
    assert [report.count(f"data:image/{kind}") for kind in ("png", "webp")] == [2, 2]


def test_families_of_copies_that_were_joined_are_counted():
    planted = pd.DataFrame({"file": ["a2", "a3", "b2", "c2"], "copy_of": ["a1", "a1", "b1", "c1"]})
    group = {"a1": "g1", "a2": "g1", "a3": "g1", "b1": "g1", "b2": "g1", "c1": "g2", "c2": "g2", "x": "g2"}
    duplicates = pd.DataFrame({"file": group.keys(), "group": group.values()})
    assert count_planted(planted, duplicates) == (4, 4, 2)  # b joined to a, x to c
    assert count_planted(planted, duplicates[duplicates["file"].str.match("[ac]")].query("file != 'c2'")) == (4, 2, 0)


def test_copies_of_a_third_image_are_no_neighbours():
    pairs = pd.DataFrame({"first": ["a", "a", "b"], "second": ["t", "u", "v"], "similarity": [0.7, 0.7, 0.7]})
    duplicates = pd.DataFrame({"file": ["a", "t", "v"], "group": ["g1", "g1", "g2"]})
    index = pd.DataFrame({"file": list("abtuv"), "folder": ["Training"] * 2 + ["Testing"] * 3})
    data_set = ImageSet(name="some", training="Training", testing="Testing", classes=["one", "two"])
    assert "pairs compared, 2 test images have" in _neighbours(pairs, duplicates, index, data_set, DuplicateSettings())


def test_data_sheet_has_the_numbers_of_the_tables(finished):
    sheet = (finished / "data/08_reporting/classification/data_sheet.md").read_text()
    splits = pd.read_csv(finished / "data/05_model_input/classification/splits.csv", keep_default_na=False)
    index = pd.read_csv(finished / "data/02_intermediate/classification/index.csv", keep_default_na=False)
    duplicates = pd.read_csv(finished / "data/08_reporting/classification/duplicates.csv")
    assert (
        f"{len(index)} images of 4 classes are in use; 0 files are excluded; {len(duplicates)} images have duplicates."
        in sheet
    )
    folds = {row[0]: int(row[-3]) for row in rows_of(sheet, "Images of each class")[1:]}
    assert folds == {f"fold {number + 1}": (splits["fold"] == number).sum() for number in (0, 1)}
    reasons = sum(int(row[-1]) for row in rows_of(sheet, "Images that are not used")[1:])
    assert reasons == (splits["excluded"] != "").sum()
    assert "Nickparvar" not in sheet  # phantoms are not the published images


def test_store_holds_what_a_network_sees(finished):
    store = Store(finished / "data/03_primary/classification/images.h5")
    splits = pd.read_csv(finished / "data/05_model_input/classification/splits.csv", keep_default_na=False)
    image, label = store.read(np.arange(len(store.rows)), "image", "label")
    side = store.description["image_size"]
    assert image.shape == (76, 1, side, side)
    assert image.dtype == np.uint8
    kind = store.rows["file"].str.split("/").str[1]
    assert [store.description["classes"][k] for k in label] == kind.tolist()
    assert set(splits["file"]) == set(store.rows["file"])
    assert splits["split"].value_counts().to_dict() == {"test": 44, "": 32}
    assert splits["fold"].value_counts().to_dict() == {-1: 32, 0: 22, 1: 22}


def test_second_run_reads_nothing(finished, images, caplog, monkeypatch):
    store = finished / "data/03_primary/classification/images.h5"
    before = store.stat().st_mtime_ns
    # Would fail if it were called.
    monkeypatch.setattr("brain_tumor.pipelines.data_classification.nodes.find_near_duplicates", None)
    with caplog.at_level(logging.INFO):
        engineer(finished, images)
    assert store.stat().st_mtime_ns == before
    assert "new or changed since the last run" not in caplog.text
    assert "same files, same settings" in caplog.text


def test_bad_files_are_left_out_and_the_rest_is_used(project, images, tmp_path, caplog):
    source = shutil.copytree(images, tmp_path / "source")
    folder = source / "Training/glioma"
    broken = folder / "Tr-gl_0001.jpg"
    broken.write_bytes(broken.read_bytes()[:900])
    (folder / "notes.txt").write_text("seen by A.")
    (source / "Testing/glioblastoma").mkdir()
    Image.new("L", (30, 30)).save(source / "Testing/glioblastoma/a.jpg")
    engineer(project, source)
    index = pd.read_csv(project / "data/02_intermediate/classification/index.csv", keep_default_na=False).set_index(
        "file"
    )
    excluded = index.loc[index["excluded"] != "", "excluded"]
    assert len(excluded) == 3
    assert "fetch the file again" in excluded["Training/glioma/Tr-gl_0001.jpg"]
    assert "not an image" in excluded["Training/glioma/notes.txt"]
    assert "'glioblastoma' is not a class" in excluded["Testing/glioblastoma/a.jpg"]
    assert all(name in caplog.text for name in excluded.index)
    report = (project / "data/08_reporting/classification/data_report.html").read_text()
    assert "Excluded, and why" in report


def test_a_class_of_which_nothing_can_be_used_stops_the_run(project, images, tmp_path):
    source = shutil.copytree(images, tmp_path / "source")
    for file in (source / "Testing/pituitary").iterdir():
        file.write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"no image of pituitary in Testing can be used; the first reason is: the file is empty"
    ):
        engineer(project, source)


def test_stretched_images_of_another_size_and_the_official_policy(project, images):
    engineer(
        project,
        images,
        data_classification={"preparation": {"image_size": 256, "fit": "stretch"}, "split": {"policy": "official"}},
    )
    store = Store(project / "data/03_primary/classification/images.h5")
    image = store.read(np.arange(8), "image")[0]
    assert image.shape == (8, 1, 256, 256)
    assert (image.max((1, 3)) > 20).mean() > 0.95  # filled from top to bottom and from left to right
    assert (image.max((1, 2)) > 20).mean() > 0.95
    splits = pd.read_csv(project / "data/05_model_input/classification/splits.csv", keep_default_na=False)
    assert (splits["excluded"] == "").all()
    assert splits["deduplicated_test"].sum() == 12
