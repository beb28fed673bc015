import numpy as np
import pytest

from brain_tumor.data.split import SplitSettings, split_patients

PATIENTS = [f"p{k:02d}" for k in range(40)]


def test_every_patient_is_in_one_set():
    splits = split_patients(PATIENTS, SplitSettings())
    assert sorted(splits["patient"]) == PATIENTS
    assert splits["split"].value_counts().to_dict() == {"train": 28, "test": 8, "validation": 4}


def test_order_of_files_does_not_matter_but_the_seed_does():
    shuffled = list(np.random.default_rng(1).permutation(PATIENTS))
    assert split_patients(shuffled, SplitSettings()).equals(split_patients(PATIENTS, SplitSettings()))
    assert not split_patients(PATIENTS, SplitSettings(seed=1)).equals(split_patients(PATIENTS, SplitSettings()))


def test_smallest_split_and_what_cannot_be_split():
    assert sorted(split_patients(["a", "b", "c"], SplitSettings())["split"]) == ["test", "train", "validation"]
    with pytest.raises(ValueError, match="at least 3 patients"):
        split_patients(["a", "b"], SplitSettings())
    with pytest.raises(ValueError, match="leave no patient"):
        split_patients(PATIENTS, SplitSettings(test=0.6, validation=0.5))
