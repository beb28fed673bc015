"""What reports and cards show of the images: copies, sets, and what was excluded."""

import pandas as pd

from brain_tumor.data.common.sets import TRAIN, VALIDATION
from brain_tumor.data.images.class_folders import ImageSet
from brain_tumor.data.images.split import PATIENT, ImageSplitSettings, name_fold

UNSEEN = (
    "Slices of one patient are not duplicates, and no comparison of images can tell them from slices of two patients "
    "for certain. Where no table gives the patients, test sets may hold patients of the training set: scores are an "
    "upper bound for another hospital."
)
FITS = {
    "pad": "what is left is padded to a square, so its aspect stays",
    "stretch": "what is left is stretched to a square",
}


def count_duplicates(index: pd.DataFrame, duplicates: pd.DataFrame, data_set: ImageSet) -> pd.DataFrame:
    """For each folder and class.

    Images, those with duplicates, and those with a duplicate in the other folder, identical or any.
    """
    used = index[index["excluded"] == ""]
    used = used.merge(duplicates[["file", "group"]], "left", on="file")
    parts = []
    for folder in (data_set.training, data_set.testing):
        part = used[used["folder"] == folder]
        other = used[used["folder"] != folder]
        identical = part["hash"].isin(other["hash"])
        # Images without duplicates have no group: to `isin`, NaN equals NaN.
        copied = part["group"].isin(other["group"].dropna())
        parts.append(part.assign(identical=identical, copied=copied))
    by_class = pd.concat(parts).groupby(["folder", "class"], sort=False)
    table = by_class.agg(
        images=("file", "size"),
        with_copies=("group", "count"),
        identical=("identical", "sum"),
        copied=("copied", "sum"),
    )
    names = {"with_copies": "with duplicates", "identical": "identical in other", "copied": "duplicates in other"}
    return table.reset_index().rename(columns=names)


def count_sets(splits: pd.DataFrame, data_set: ImageSet) -> pd.DataFrame:
    """Images of each class in each set and in both test sets; or in each fold, with the patients of the fold."""
    if splits["fold"].max() >= 0:
        return _count_folds(splits, data_set)
    sets = {name: splits["split"] == name for name in (TRAIN, VALIDATION)}
    sets |= {"official test": splits["official_test"], "deduplicated test": splits["deduplicated_test"]}
    counts = pd.DataFrame({name: splits[rows].groupby("class").size() for name, rows in sets.items()})
    # A class without images in a set has NaN there.
    counts = counts.reindex(data_set.classes).fillna(0).astype(int)
    return counts.T.assign(all=counts.sum()).rename_axis("set").reset_index()


def _count_folds(splits: pd.DataFrame, data_set: ImageSet) -> pd.DataFrame:
    used = splits[splits["fold"] >= 0]
    counts = used.groupby(["fold", "class"]).size().unstack(fill_value=0).reindex(columns=data_set.classes)
    counts = counts.assign(all=counts.sum(axis=1))
    counts["patients"] = used[used["patient"] != ""].groupby("fold")["person"].nunique()
    counts["groups without patient"] = used[used["patient"] == ""].groupby("fold")["person"].nunique()
    counts = counts.fillna(0).astype(int)
    return counts.rename(index=name_fold).rename_axis("set").reset_index()


def count_patients(index: pd.DataFrame, data_set: ImageSet) -> pd.DataFrame:
    """For each class: images, images whose patient is known, patients, and patients in both folders."""
    used = index[index["excluded"] == ""]
    known = used[used["patient"] != ""]
    folders = known.groupby(["class", "patient"])["folder"].nunique()
    table = pd.DataFrame(
        {
            "images": used.groupby("class").size(),
            "of a known patient": known.groupby("class").size(),
            "patients": known.groupby("class")["patient"].nunique(),
            "patients in both folders": (folders > 1).groupby("class").sum(),
        }
    )
    return table.reindex(data_set.classes).fillna(0).astype(int).rename_axis("class").reset_index()


def find_commonest_size(used: pd.DataFrame) -> tuple[int, int, str]:
    """How many sizes there are, how many images have the commonest of them, and which it is."""
    sizes = used.groupby(["width", "height"]).size()
    width, height = sizes.idxmax()
    return len(sizes), int(sizes.max()), f"{width} x {height}"


def count_formats(used: pd.DataFrame) -> pd.DataFrame:
    """Images by what their files really are."""
    return used.groupby(["format", "mode"]).size().rename("images").reset_index()


def count_not_learned(splits: pd.DataFrame) -> pd.DataFrame:
    """Images that are not used, by reason and class: those of the training folder, or of both if split by patient."""
    left_out = splits[splits["excluded"] != ""]
    reasons = left_out.groupby(["excluded", "class"]).size().rename("images")
    return reasons.reset_index().rename(columns={"excluded": "reason"})


def describe_sets(data_set: ImageSet, policy: ImageSplitSettings) -> str:
    """How sets are drawn, and what the test sets hold."""
    if policy.policy == PATIENT:
        return (
            f"{policy.folds} folds over {data_set.training} and {data_set.testing}: every image in use is tested once, "
            "by a network that was trained on other patients. Folds span the classes evenly. Images of one patient "
            "and their duplicates are in one fold; where the patient is not known, a group of duplicates is."
        )
    return (
        f"Validation is drawn from {data_set.training} by group of duplicates. "
        f"The official test set is {data_set.testing} as published; the deduplicated one holds one of each group of "
        "duplicates, unless one of the group is a training image."
    )


def count_reasons(index: pd.DataFrame, column: str) -> pd.DataFrame:
    """Files by the reason why they are excluded, or by a note on them."""
    rows = index[index[column] != ""]
    counts = rows.groupby(column).agg(files=("file", "size"), example=("file", "first"))
    return counts.reset_index().rename(columns={column: "reason"})
