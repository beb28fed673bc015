import numpy as np
import pandas as pd
import pandera.errors
import pytest

from brain_tumor.data.scans.split import SplitSettings, find_persons, split_patients
from brain_tumor.data.schemas import Splits


def table(count):
    rng = np.random.default_rng(5)
    names = [f"p{k:03d}" for k in range(count)]
    grades = rng.choice(["HGG", "LGG"], count, p=[0.75, 0.25])
    return pd.DataFrame({"patient": names, "person": names, "grade": grades, "tumour_ml": rng.gamma(2, 50, count)})


def test_every_patient_is_in_one_set_and_one_fold():
    splits = split_patients(table(40), SplitSettings())
    assert splits["patient"].tolist() == table(40)["patient"].tolist()
    assert splits["split"].value_counts().to_dict() == {"train": 28, "test": 8, "validation": 4}
    assert splits["fold"].value_counts().to_dict() == dict.fromkeys(range(5), 8)


def test_order_of_rows_does_not_matter_but_the_seed_does():
    shuffled = table(40).sample(frac=1, random_state=1)
    assert split_patients(shuffled, SplitSettings()).equals(split_patients(table(40), SplitSettings()))
    assert not split_patients(table(40), SplitSettings(seed=1)).equals(split_patients(table(40), SplitSettings()))


@pytest.mark.parametrize("seed", range(5))
def test_sets_and_folds_span_grades_and_volumes(seed):
    patients = table(369)
    splits = split_patients(patients, SplitSettings(seed=seed)).drop(columns="person").merge(patients, on="patient")
    whole = patients["tumour_ml"].mean()
    for column in ("split", "fold"):
        for _, part in splits.groupby(column):
            assert (part["grade"] == "HGG").mean() == pytest.approx((patients["grade"] == "HGG").mean(), abs=0.03)
            assert part["tumour_ml"].mean() == pytest.approx(whole, rel=0.12)


def test_smallest_split_and_what_cannot_be_split():
    assert sorted(split_patients(table(3), SplitSettings())["split"]) == ["test", "train", "validation"]
    with pytest.raises(ValueError, match="at least 3 patients"):
        split_patients(table(2), SplitSettings())
    with pytest.raises(ValueError, match="leave no patient"):
        split_patients(table(40), SplitSettings(test=0.6, validation=0.5))


def test_a_patient_in_two_sets_is_refused():
    splits = split_patients(table(10), SplitSettings())
    Splits.validate(splits)
    leaking = pd.concat([splits, splits.head(1).assign(split="test")])
    with pytest.raises(pandera.errors.SchemaError, match="duplicate"):
        Splits.validate(leaking)


def test_all_scans_of_a_person_are_in_one_set_and_fold():
    """Neighbours in grade and volume, as two visits are, would be drawn apart."""
    twins = pd.concat([table(40), table(40).assign(patient=lambda rows: rows["patient"] + "-2")])
    splits = split_patients(twins, SplitSettings())
    assert len(splits) == 80
    assert (splits.groupby("person")[["split", "fold"]].nunique() == 1).all(axis=None)
    assert splits["split"].value_counts().to_dict() == {"train": 56, "test": 16, "validation": 8}
    Splits.validate(splits.drop(columns="person"))  # a table of one's own needn't have it
    apart = splits.assign(
        split=["test", *splits["split"].iloc[1:-1], "train"], person=["p", *splits["person"].iloc[1:-1], "p"]
    )
    with pytest.raises(pandera.errors.SchemaError, match="no_person_in_two_sets"):
        Splits.validate(apart)


def test_persons_are_found_by_name_and_by_content(caplog):
    patients, named = pd.Series(["a", "b", "c", "d", "e"]), pd.Series(["a", "x", "c", "x", "e"])
    files = pd.DataFrame({"patient": ["a", "a", "b", "c", "d", "e"], "hash": ["1", "2", "", "2", "4", ""]})
    assert find_persons(patients, named, files).tolist() == ["a", "x", "a", "x", "e"]
    assert "a and c have the same files" in caplog.text
