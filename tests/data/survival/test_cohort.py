import numpy as np
import pandas as pd
import pytest
from support import real

from brain_tumor.data.scans.clinical_tables import read_clinical_rows
from brain_tumor.data.survival.cohort import FEATURE_SETS, SHAPE, design, join_patients, parse_age, parse_days
from brain_tumor.data.survival.shape_features import FEATURES


@pytest.mark.parametrize(
    ("text", "days", "observed"),
    [
        ("289", 289, True),
        ("289.0", 289, True),
        ("ALIVE (361 days later)", 361, False),
        ("alive (12 day later)", 12, False),
    ],
)
def test_days(text, days, observed):
    assert parse_days(text) == (days, observed, "")


@pytest.mark.parametrize("text", ["unknown", "0", "-5", "12 months", "ALIVE", "nan", "inf", "ALIVE (0 days later)"])
def test_days_that_are_none(text):
    days, observed, problem = parse_days(text)
    assert np.isnan(days)
    assert not observed
    assert (
        problem == f"days must be a number above 0 or 'ALIVE (N days later)', got '{text}'; correct survival_info.csv"
    )


def test_no_days_and_no_age():
    assert parse_days("")[2] == "survival is unknown"
    assert parse_age("60.4") == (60.4, "")
    assert parse_age("")[1] == "age not known"
    for text in ("0", "0.0", "-3", "221", "old"):
        assert np.isnan(parse_age(text)[0])
        assert parse_age(text)[1] == f"age not known ('{text}' in the table)"


def tables(folder, survival, grades):
    mapping = {
        "Grade": list(grades.values()),
        "BraTS_2018_subject_ID": [f"old_{name}" for name in grades],
        "BraTS_2020_subject_ID": list(grades),
    }
    pd.DataFrame(mapping).to_csv(folder / "name_mapping.csv", index=False)
    columns = ["Brats20ID", "Age", "Survival_days", "Extent_of_Resection"]
    pd.DataFrame(survival, columns=columns).to_csv(folder / "survival_info.csv", index=False, na_rep="NA")
    return read_clinical_rows(folder)


def measured(*patients, excluded=""):
    return pd.DataFrame(
        [
            {
                "patient": p,
                "file": f"{p}.nii.gz",
                "spacing_mm": "1 x 1 x 1",
                "centre_from": "scan",
                "excluded": excluded,
            }
            for p in patients
        ]
    ).assign(simulated=False, **dict.fromkeys(SHAPE, 1.0))


def test_patients_are_joined_and_the_odd_ones_set_aside(tmp_path, brats):
    survival = [
        ("fine", "60.4", "289", "GTR"),
        ("fine", "60.4", "289", "GTR"),  # the same row again does no harm
        ("alive", "50", "ALIVE (361 days later)", "NA"),
        ("ageless", "0", "100", "GTR"),
        ("text", "50", "12 months", "GTR"),
        ("twice", "50", "100", "GTR"),
        ("twice", "50", "200", "GTR"),
        ("maskless", "50", "100", "GTR"),
        ("unmapped", "50", "100", "STR"),
        ("empty", "50", "100", "GTR"),
        ("unknown", "50", "NA", "GTR"),
    ]
    grades = dict.fromkeys(["fine", "alive", "ageless", "text", "twice", "maskless", "empty", "unknown"], "HGG") | {
        "low": "LGG"
    }
    features = pd.concat(
        [
            measured("fine", "old_alive", "ageless", "text", "twice", "unmapped", "unknown", "low"),
            measured("empty", excluded="the mask is empty"),
        ]
    )
    table = join_patients(features, tables(tmp_path, survival, grades), brats).set_index("patient")
    assert len(table) == 10
    assert table["excluded"].to_dict() == {
        "fine": "",
        "old_alive": "",
        "ageless": "",
        "text": "days must be a number above 0 or 'ALIVE (N days later)', got '12 months'; correct survival_info.csv",
        "twice": "2 rows that differ in the tables; keep the true one",
        "maskless": "no mask of this patient",
        "unmapped": "",
        "empty": "the mask is empty",
        "unknown": "survival is unknown",
        "low": "not in survival_info.csv",
    }
    assert table.loc["old_alive", ["days", "observed", "age"]].tolist() == [361, False, 50]
    assert table.loc["ageless", "note"] == "age not known ('0' in the table)"
    assert np.isnan(table.loc["ageless", "age"])
    assert table.loc["unmapped", "note"] == "not in name_mapping.csv: grade unknown"
    assert table.loc["fine", ["grade", "resection", "note"]].tolist() == ["HGG", "GTR", ""]


def test_one_person_under_two_names_is_one_patient(tmp_path, brats):
    rows = tables(
        tmp_path,
        [("fine", "60.4", "289", "GTR"), ("other", "50", "100", "GTR")],
        dict.fromkeys(["fine", "other"], "HGG"),
    )
    features = pd.concat([measured("fine", "old_fine", "old_other"), measured("other", excluded="the mask is empty")])
    table = join_patients(features, rows, brats).set_index("patient")
    assert table["person"].to_dict() == {"fine": "fine", "old_fine": "fine", "old_other": "other", "other": "other"}
    assert table["excluded"].to_dict() == {
        "fine": "",
        "old_fine": "the same person as fine, who is used; keep one mask",
        "old_other": "",
        "other": "the mask is empty",
    }


def test_visits_of_one_person_are_one_patient(tmp_path, brats):
    """The visit whose survival is listed is used, wherever it stands; masks that can't be measured are none."""
    rows = tables(
        tmp_path, [("BraTS-GLI-00001-001", "60", "289", "GTR"), ("BraTS-GLI-00002-000", "50", "100", "GTR")], {}
    )
    features = pd.concat(
        [
            measured("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-001"),
            measured("BraTS-GLI-00002-000", excluded="empty"),
        ]
    )
    excluded = join_patients(features, rows, brats).set_index("patient")["excluded"].to_dict()
    assert excluded == {
        "BraTS-GLI-00001-000": "the same person as BraTS-GLI-00001-001, who is used; keep one mask",
        "BraTS-GLI-00001-001": "",
        "BraTS-GLI-00002-000": "empty",
        "BraTS-GLI-00002-001": "not in survival_info.csv",
    }


def test_empty_rows_of_a_spreadsheet_are_nobody(tmp_path, brats):
    rows = tables(tmp_path, [("a", "50", "100", "GTR"), ("", "", "", "")], {"a": "HGG"})
    assert join_patients(measured("a"), rows, brats)["patient"].tolist() == ["a"]


def test_one_table_alone_will_do(tmp_path, brats):
    rows = tables(tmp_path, [("a", "50", "100", "GTR")], {"a": "HGG"})
    (tmp_path / "name_mapping.csv").unlink()
    table = join_patients(measured("a"), read_clinical_rows(tmp_path), brats)
    assert table[["days", "excluded"]].to_numpy().tolist() == [[100, ""]]
    assert "grade unknown" in table["note"].item()
    assert rows["mapped"].all()


def test_a_table_without_its_columns_is_refused(tmp_path):
    pd.DataFrame({"Brats20ID": ["a"], "age": [3]}).to_csv(tmp_path / "survival_info.csv", index=False)
    with pytest.raises(
        ValueError,
        match=r"survival_info.csv lacks the columns Age, Extent_of_Resection, Survival_days; it has Brats20ID, age",
    ):
        read_clinical_rows(tmp_path)


def test_design_has_numbers_only():
    patients = measured("a", "b").assign(age=[50.0, np.nan], resection=["GTR", "NA"], grade=["HGG", ""])
    table = design(patients)
    assert list(table.columns) == FEATURE_SETS["all"]
    assert table["gtr"].tolist() == [1, 0]
    assert table["hgg"].iloc[0] == 1
    assert np.isnan(table["hgg"].iloc[1])
    assert table["WT_ml"].tolist() == pytest.approx([np.log(2)] * 2)
    assert table["WT_sphericity"].tolist() == [1, 1]
    assert len(SHAPE) == len(FEATURES) == len(set(SHAPE))


def test_real_tables():
    rows = read_clinical_rows(real("brats2020-training-data"))
    assert rows.loc[rows["listed"], "own"].nunique() == 236
    assert rows["mapped"].all()
