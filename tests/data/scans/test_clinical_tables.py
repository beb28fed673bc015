import pandas as pd
import pytest
from support import real

from brain_tumor.data.scans.clinical_tables import read_clinical, read_clinical_rows


def test_facts_are_found_under_every_name(tmp_path):
    mapping = {
        "Grade": ["HGG", "LGG"],
        "BraTS_2018_subject_ID": ["Brats18_X", "NA"],
        "BraTS_2020_subject_ID": ["BraTS20_Training_001", "BraTS20_Training_002"],
    }
    survival = {
        "Brats20ID": ["BraTS20_Training_001"],
        "Age": [60.4],
        "Survival_days": ["ALIVE (361 days later)"],
        "Extent_of_Resection": ["GTR"],
    }
    pd.DataFrame(mapping).to_csv(tmp_path / "name_mapping.csv", index=False)
    (tmp_path / "deep").mkdir()
    pd.DataFrame(survival).to_csv(tmp_path / "deep" / "survival_info.csv", index=False)
    facts = read_clinical(tmp_path).set_index("patient").to_dict("index")
    known = {
        "own": "BraTS20_Training_001",
        "grade": "HGG",
        "age": "60.4",
        "survival_days": "ALIVE (361 days later)",
        "resection": "GTR",
    }
    assert facts == {
        "Brats18_X": known,
        "BraTS20_Training_001": known,
        "BraTS20_Training_002": {
            "own": "BraTS20_Training_002",
            "grade": "LGG",
            "age": "",
            "survival_days": "",
            "resection": "",
        },
    }


def test_without_tables_nothing_is_known(tmp_path):
    assert read_clinical(tmp_path).empty
    assert list(read_clinical(tmp_path).columns) == ["patient", "own", "grade", "age", "survival_days", "resection"]


def test_a_patient_with_two_rows_keeps_the_first(tmp_path, caplog):
    pd.DataFrame(
        {"Brats20ID": ["a", "a"], "Age": [50, 51], "Survival_days": [1, 2], "Extent_of_Resection": ["GTR", "NA"]}
    ).to_csv(tmp_path / "survival_info.csv", index=False)
    assert read_clinical(tmp_path)["age"].tolist() == ["50"]
    assert "two rows for patient a" in caplog.text


def test_real_tables():
    facts = read_clinical(real("brats2020-training-data")).set_index("patient")
    training = facts[facts.index.str.startswith("BraTS20_Training")]
    assert len(training) == 369
    assert (training["grade"] == "HGG").sum() == 293
    assert (training["survival_days"] != "").sum() == 236
    assert (training["resection"] == "GTR").sum() == 119
    assert facts.loc["Brats18_2013_21_1"].equals(facts.loc["BraTS20_Training_133"])


def test_a_patient_of_older_sets_goes_by_the_newest_name_that_he_has(tmp_path):
    mapping = {
        "Grade": ["HGG", "LGG"],
        "BraTS_2017_subject_ID": ["a17", "b17"],
        "BraTS_2019_subject_ID": ["a19", "NA"],
        "TCGA_TCIA_subject_ID": ["NA", "t"],
    }
    pd.DataFrame(mapping).to_csv(tmp_path / "name_mapping.csv", index=False)
    assert read_clinical(tmp_path).set_index("patient")["own"].to_dict() == {
        "a17": "a19",
        "a19": "a19",
        "b17": "b17",
        "t": "b17",
    }


@pytest.mark.parametrize("content", [b"", b"Brats20ID,Age\nM\xfcller,3\n", b"name,years\na,3\n"])
def test_a_table_that_cannot_be_used_leaves_the_facts_empty(tmp_path, caplog, content):
    (tmp_path / "survival_info.csv").write_bytes(content)
    assert read_clinical(tmp_path).empty
    assert "survival_info.csv" in caplog.text
    with pytest.raises(ValueError, match=r"survival_info\.csv"):
        read_clinical_rows(tmp_path)


def test_two_tables_of_one_name_must_be_the_same(tmp_path, caplog):
    for folder in ("a", "b", "__MACOSX"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "survival_info.csv").write_text(
            "Brats20ID,Age,Survival_days,Extent_of_Resection\nP1,60,289,GTR\n"
        )
    assert read_clinical_rows(tmp_path)["age"].tolist() == ["60"]
    (tmp_path / "b" / "survival_info.csv").write_text(
        "Brats20ID,Age,Survival_days,Extent_of_Resection\nP1,70,289,GTR\n"
    )
    with pytest.raises(ValueError, match=r"a/survival_info.csv and .*b/survival_info.csv differ; keep the table"):
        read_clinical_rows(tmp_path)
    assert read_clinical(tmp_path).empty
    assert "are left empty" in caplog.text


def test_a_spreadsheet_named_csv_is_named_for_what_it_is(tmp_path):
    (tmp_path / "survival_info.csv").write_bytes(b"PK\x03\x04" + bytes(range(128, 255)) * 20)
    with pytest.raises(ValueError, match="is a zip archive: it may be a spreadsheet: save it as CSV in UTF-8"):
        read_clinical_rows(tmp_path)


HEADER = "Brats20ID,Age,Survival_days,Extent_of_Resection"


def test_commas_at_the_ends_of_rows_mean_nothing(tmp_path):
    (tmp_path / "survival_info.csv").write_text(f"{HEADER}\nP1,60,289,GTR,\nP2,50,90,NA,\n")
    table = read_clinical_rows(tmp_path)
    assert table[["patient", "age", "survival_days", "resection"]].to_numpy().tolist() == [
        ["P1", "60", "289", "GTR"],
        ["P2", "50", "90", ""],
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"{HEADER}\nP1,60,289,GTR,7\n", "rows with more values than its header has names; give each column a name"),
        (f"{HEADER}\nP1,60.4,289,GTR\n".replace(",", ";"), "is separated by semicolons; save it with commas"),
        (f"{HEADER}\nP1,60.4,289,GTR\n".replace(",", ";").replace(".", ","), "is separated by semicolons"),
        (f"{HEADER}\nP1,60.4,289,GTR\n".replace(",", "\t"), "is separated by tabs; save it with commas"),
        (f"{HEADER},Age\nP1,60,289,GTR,61\n", "has two columns Age; keep one"),
    ],
)
def test_a_table_of_another_shape_is_explained(tmp_path, content, words):
    (tmp_path / "survival_info.csv").write_text(content)
    with pytest.raises(ValueError, match=rf"survival_info\.csv .*{words}"):
        read_clinical_rows(tmp_path)
