import logging

import numpy as np
import pandas as pd
import pytest

from brain_tumor.data.images.patients import PatientSettings, add_patients, find_table, locate, read_patients

CLASSES = ("glioma", "pituitary")


def index(*files, label="glioma"):
    rows = [(file, file.split("/")[-3], label) for file in files]
    return pd.DataFrame(rows, columns=["file", "folder", "class"]).assign(excluded="", note="")


def table(tmp_path, text):
    path = tmp_path / "patients.csv"
    path.write_text(text, encoding="utf-8")
    return path


def joined(tmp_path, rows, text, **settings):
    path = table(tmp_path, text)
    settings = PatientSettings(**settings)
    return add_patients(rows, read_patients(path, settings, CLASSES), path, settings)


def test_an_image_has_the_patient_of_the_table_wherever_the_folders_lie(tmp_path):
    rows = index("archive/data/Training/glioma/1.jpg", "archive/data/Testing/glioma/1.jpg", "Testing/glioma/2.jpg")
    result = joined(tmp_path, rows, "file,patient\nTraining/glioma/1.jpg,A\nTesting\\glioma\\1.jpg,B\n")
    assert result["patient"].tolist() == ["A", "B", ""]
    assert result["file"].tolist() == rows["file"].tolist()


def test_columns_are_declared(tmp_path):
    rows = index("Training/glioma/1.jpg")
    result = joined(tmp_path, rows, "path,who\nTraining/glioma/1.jpg,007\n", file="path", patient="who")
    assert result["patient"].tolist() == ["007"]
    with pytest.raises(
        ValueError, match=r"patients.csv has no column file and no column patient; .*data_classification"
    ):
        joined(tmp_path, rows, "path,who\nTraining/glioma/1.jpg,7\n")


@pytest.mark.parametrize(
    ("conflicts", "label", "reason"),
    [("keep", "glioma", "note"), ("correct", "pituitary", "note"), ("exclude", "glioma", "excluded")],
)
def test_an_image_whose_folder_contradicts_the_table(tmp_path, conflicts, label, reason):
    rows = index("Training/glioma/1.jpg", "Training/glioma/2.jpg")
    text = "file,patient,class\nTraining/glioma/1.jpg,A,pituitary\nTraining/glioma/2.jpg,B,glioma\n"
    result = joined(tmp_path, rows, text, conflicts=conflicts)
    assert result["class"].tolist() == [label, "glioma"]
    assert "in the folder of glioma, but pituitary by the table of patients" in result[reason].iloc[0]
    assert (result[["note", "excluded"]].iloc[1] == "").all()


def test_a_table_that_names_files_which_are_not_there(tmp_path, caplog):
    rows = index("Training/glioma/1.jpg")
    text = "file,patient\nTraining/glioma/1.jpg,A\nTraining/glioma/9.jpg,B\n"
    with caplog.at_level(logging.WARNING):
        assert joined(tmp_path, rows, text)["patient"].tolist() == ["A"]
    assert "names 1 files that aren't there, such as Training/glioma/9.jpg" in caplog.text
    with pytest.raises(ValueError, match=r"none of the 1 files that .*names is in the source, such as other/1.jpg"):
        joined(tmp_path, rows, "file,patient\nother/1.jpg,A\n")


def test_one_file_of_two_patients_is_refused(tmp_path):
    text = "file,patient\nTraining/glioma/1.jpg,A\nTraining/glioma/1.jpg,B\nTraining/glioma/2.jpg,A\n"
    with pytest.raises(ValueError, match=r"gives Training/glioma/1.jpg to A and to B; an image has one patient"):
        joined(tmp_path, index("Training/glioma/1.jpg"), text)


def test_an_unknown_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has the class knee, but the classes are glioma, pituitary"):
        joined(tmp_path, index("Training/glioma/1.jpg"), "file,patient,class\nTraining/glioma/1.jpg,A,knee\n")


def test_a_patient_of_two_classes_is_named(tmp_path, caplog):
    rows = pd.concat([index("Training/glioma/1.jpg"), index("Training/pituitary/1.jpg", label="pituitary")])
    text = "file,patient\nTraining/glioma/1.jpg,A\nTraining/pituitary/1.jpg,A\n"
    with caplog.at_level(logging.WARNING):
        joined(tmp_path, rows.reset_index(drop=True), text)
    assert "patient A has images of glioma and pituitary" in caplog.text


def test_the_table_that_ships_is_found_by_the_names_of_its_files(tmp_path):
    own = table(tmp_path, "file,patient\n")
    assert find_table(own, index("Training/glioma/1.jpg")) == own
    assert find_table(None, index("Training/glioma/1.jpg")) is None
    shipped = next(find_shipped())
    files = pd.read_csv(shipped)["file"]
    rows = index(*("x/" + files))
    assert find_table(None, rows) == shipped
    assert find_table(None, rows.iloc[: len(rows) // 2]) is None
    assert set(locate(rows)) == set(files)


def find_shipped():
    from brain_tumor.data.images.patients import PUBLISHED

    return PUBLISHED.glob("*.csv")


def test_the_table_that_ships_has_one_patient_and_one_class_for_each_image():
    shipped = next(find_shipped())
    classes = ("glioma", "meningioma", "notumor", "pituitary")
    rows = read_patients(shipped, PatientSettings(), classes)
    assert len(rows) == 4750
    assert rows["patient"].nunique() == 209
    assert (rows.groupby("patient")["label"].nunique() == 1).all()
    folder = rows["file"].str.split("/").str[1]
    assert (folder != rows["label"]).sum() == 4
    assert pd.read_csv(shipped)["correlation"].min() > 0.999
    assert np.isin(pd.read_csv(shipped)["mirrored"], [0, 1]).all()
