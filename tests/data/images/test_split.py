import pandas as pd
import pandera.errors
import pytest

from brain_tumor.data.images.class_folders import ImageSet
from brain_tumor.data.images.split import CONFLICT, IN_TESTING, SECOND_DUPLICATE, ImageSplitSettings, split_images
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
    index = pd.DataFrame(names, columns=["file", "folder", "class"]).assign(width=10, height=10, excluded="")
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
    settings = ImageSplitSettings(validation=0.2)
    shuffled = split_images(
        index.sample(frac=1, random_state=1), duplicates.sample(frac=1, random_state=2), TOYS, settings
    )
    assert shuffled.equals(split().reset_index())
    assert not shuffled.equals(split(seed=1).reset_index())


def test_the_largest_copy_is_kept():
    index, duplicates = tables()
    index.loc[index["file"] == "Training/dog/3.jpg", "width"] = 99
    table = split_images(index, duplicates, TOYS, ImageSplitSettings()).set_index("file")
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
        split_images(index, copied, TOYS, ImageSplitSettings())


def test_copies_in_two_sets_are_refused():
    table = split().reset_index()
    trained = table.index[table["split"] == "train"][0]
    table.loc[trained, "group"] = table.loc[table["split"] == "validation", "group"].iloc[0]
    with pytest.raises(pandera.errors.SchemaError, match="no_duplicates_in_two_sets"):
        ImageSplits.validate(table)
