import pandas as pd
import pandera.errors
import pytest

from brain_tumor.data.images.class_folders import ImageSet
from brain_tumor.data.images.split import (
    CONFLICT,
    IN_TESTING,
    SECOND_DUPLICATE,
    SECOND_IMAGE,
    ImageSplitSettings,
    count_folds,
    find_persons,
    list_test_sets,
    sets_of_fold,
    split_images,
)
from brain_tumor.data.schemas import ImageSplits

TOYS = ImageSet(name="toys", classes=("cat", "dog"))


def tables(train=30, test=6):
    """Training and testing images of two classes, and duplicates.

    One across the folders, a pair in each folder, one of two classes.
    """
    names = [
        (f"{folder}/{kind}/{k}.jpg", folder, kind)
        for folder, count in (("Training", train), ("Testing", test))
        for kind in TOYS.classes
        for k in range(count)
    ]
    index = pd.DataFrame(names, columns=["file", "folder", "class"]).assign(
        width=10, height=10, excluded="", patient=""
    )
    groups = {
        "across": ["Training/cat/0.jpg", "Training/cat/1.jpg", "Testing/cat/0.jpg"],
        "in training": ["Training/dog/2.jpg", "Training/dog/3.jpg"],
        "in testing": ["Testing/dog/1.jpg", "Testing/dog/2.jpg"],
        "conflict": ["Training/cat/5.jpg", "Training/dog/5.jpg"],
    }
    duplicates = pd.DataFrame(
        [(file, group, group == "conflict") for group, files in groups.items() for file in files],
        columns=["file", "group", "conflict"],
    )
    return index, duplicates


def split(policy="deduplicated", seed=0, **changes):
    index, duplicates = tables(**changes)
    return split_images(
        index, duplicates, TOYS, ImageSplitSettings(policy=policy, validation=0.2, seed=seed)
    ).set_index("file")


def test_deduplicated_learns_from_one_of_each_and_from_none_that_is_tested():
    table = split()
    assert table.loc[["Training/cat/0.jpg", "Training/cat/1.jpg"], "excluded"].tolist() == [IN_TESTING] * 2
    assert table.loc[["Training/cat/5.jpg", "Training/dog/5.jpg"], "excluded"].tolist() == [CONFLICT] * 2
    assert table.loc[["Training/dog/2.jpg", "Training/dog/3.jpg"], "excluded"].tolist() == ["", SECOND_DUPLICATE]
    assert table.loc[["Testing/dog/1.jpg", "Testing/dog/2.jpg"], "deduplicated_test"].tolist() == [True, False]
    assert table.loc["Testing/cat/0.jpg", "deduplicated_test"]
    assert table["official_test"].sum() == 12
    assert (table["split"] == "").equals(table["excluded"] != "")
    ImageSplits.validate(table.reset_index())


def test_official_learns_from_all_and_tests_without_copies_on_what_it_has_not_seen():
    table = split("official")
    assert (table["excluded"] == "").all()
    assert table["split"].isin(["train", "validation", "test"]).all()
    assert not table.loc["Testing/cat/0.jpg", "deduplicated_test"]
    assert table["deduplicated_test"].sum() == 12 - 1 - 1
    for group in ("across", "in training"):
        assert table[(table["group"] == group) & (table["split"] != "test")]["split"].nunique() == 1
    ImageSplits.validate(table.reset_index())


def test_validation_is_the_fraction_asked_for_of_each_class():
    table = split(train=100)
    for _, images in table[table["split"].isin(["train", "validation"])].groupby("class"):
        assert (images["split"] == "validation").mean() == pytest.approx(0.2, abs=0.02)


def test_order_of_rows_does_not_matter_but_the_seed_does():
    index, duplicates = tables()
    settings = ImageSplitSettings(policy="deduplicated", validation=0.2)
    shuffled = split_images(
        index.sample(frac=1, random_state=1), duplicates.sample(frac=1, random_state=2), TOYS, settings
    )
    assert shuffled.equals(split().reset_index())
    assert not shuffled.equals(split(seed=1).reset_index())


def test_the_largest_copy_is_kept():
    index, duplicates = tables()
    index.loc[index["file"] == "Training/dog/3.jpg", "width"] = 99
    table = split_images(index, duplicates, TOYS, ImageSplitSettings(policy="deduplicated")).set_index("file")
    assert table.loc[["Training/dog/2.jpg", "Training/dog/3.jpg"], "excluded"].tolist() == [SECOND_DUPLICATE, ""]


def test_a_class_that_is_nothing_but_copies_stops_the_run():
    index, _ = tables()
    cats = index.loc[index["file"].str.startswith("Training/cat"), "file"]
    copied = pd.DataFrame({"file": [*cats, "Testing/cat/0.jpg"], "group": "cats", "conflict": False})
    with pytest.raises(
        ValueError,
        match=(
            "no image of cat is left for the train set without duplicates; add images, or use the policy 'official'"
        ),
    ):
        split_images(index, copied, TOYS, ImageSplitSettings(policy="deduplicated"))


def of_patients(folds=3, images=40, **settings):
    """Toys of twenty patients of each class, of both folders; some without a patient."""
    index, duplicates = tables(images, images)
    number = index["file"].str.extract(r"(\d+)\.jpg")[0].astype(int)
    index["patient"] = (index["class"] + "-" + (number % 20).astype(str)).where(number < 36, "")
    settings = ImageSplitSettings(folds=folds, validation=0.1, **settings)
    return split_images(index, duplicates, TOYS, settings)


def test_by_patient_every_image_is_tested_once_by_a_network_that_was_not_trained_on_its_patient():
    table = of_patients()
    ImageSplits.validate(table)
    assert count_folds(table) == 3
    assert list_test_sets(table) == ("patient",)
    used = table[table["excluded"] == ""]
    assert set(table["excluded"]) == {"", CONFLICT, SECOND_IMAGE}
    tested = pd.Series(0, used.index)
    for fold in range(3):
        sets = sets_of_fold(table, fold)
        persons = {name: set(table.loc[sets == name, "person"]) for name in ("train", "validation", "test")}
        groups = {name: set(table.loc[sets == name, "group"]) for name in ("train", "validation", "test")}
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            assert not persons[one] & persons[other]
            assert not groups[one] & groups[other]
        tested += sets[used.index] == "test"
        learning = used[sets[used.index].isin(["train", "validation"])]
        for _, images in learning.groupby("class"):
            assert (sets[images.index] == "validation").mean() == pytest.approx(0.15, abs=0.1)
    assert (tested == 1).all()
    assert used.groupby(["fold", "class"]).size().to_numpy() == pytest.approx(len(used) / 6, rel=0.1)


def test_folds_are_those_of_names_and_seed():
    index, duplicates = tables(40, 40)
    settings = ImageSplitSettings(folds=3)
    shuffled = split_images(index.sample(frac=1, random_state=1), duplicates[::-1], TOYS, settings)
    assert shuffled.equals(split_images(index, duplicates, TOYS, settings))
    assert not of_patients(seed=1).equals(of_patients())


def test_an_image_without_a_patient_has_that_of_its_duplicate():
    rows = pd.DataFrame(
        [("a", "P", "a"), ("b", "", "g1"), ("c", "P", "g1"), ("d", "", "g2"), ("e", "", "g2"), ("f", "", "f")],
        columns=["file", "patient", "group"],
    )
    assert find_persons(rows).tolist() == ["P", "P", "P", "g2", "g2", "f"]


def test_patients_with_duplicates_of_each_other_are_one_person(caplog):
    rows = pd.DataFrame([("a", "P", "g"), ("b", "Q", "g"), ("c", "Q", "c")], columns=["file", "patient", "group"])
    assert find_persons(rows).tolist() == ["P", "P", "P"]
    assert "P and Q have duplicates of each other: they are taken for one person" in caplog.text


def test_a_fold_without_a_class_is_refused():
    with pytest.raises(
        ValueError, match=r"set of fold \d+ of 30 has no image of (cat|dog), of which there are \d+ patients"
    ):
        of_patients(folds=30)


def test_a_person_in_two_folds_is_refused():
    table = of_patients()
    chosen = table.index[(table["fold"] == 0) & (table["patient"] != "")][0]
    table.loc[chosen, "fold"] = 1
    with pytest.raises(pandera.errors.SchemaError, match="no_person_in_two_folds"):
        ImageSplits.validate(table)


def test_copies_in_two_sets_are_refused():
    table = split().reset_index()
    trained = table.index[table["split"] == "train"][0]
    table.loc[trained, "group"] = table.loc[table["split"] == "validation", "group"].iloc[0]
    with pytest.raises(pandera.errors.SchemaError, match="no_duplicates_in_two_sets"):
        ImageSplits.validate(table)
