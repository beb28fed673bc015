"""What the report and the model card both show of the networks' scores and of the sets."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from brain_tumor.data.common.sets import TRAIN, VALIDATION
from brain_tumor.data.images.split import DEDUPLICATED, OFFICIAL, PATIENT, TEST_SETS, name_fold
from brain_tumor.figures.palette import name_network
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.formatting import tell_interval, with_intervals, write_intervals
from brain_tumor.reporting.start import say_start

BY_FOLDER = (
    "The official test set is the testing folder as published, duplicates of training images included. The "
    "deduplicated one holds one image of each group of duplicates, unless one of the group is a training image; "
    "duplicates that the audit misses may be in it. Images of one patient may be in training and test sets."
)
BY_PATIENT = (
    "Cross-validation by patient: every image is classified once, by the network of its fold, whose training and "
    "validation images show other patients. One image of each group of duplicates is used. Images whose patient is "
    "not known are split by group of duplicates, so that patients among them may be in two sets; images without tumour "
    "come from another source than tumours, so a network may tell the source instead of the tumour: accuracy among the "
    "tumours leaves them out. A patient's class is the one with the highest mean probability over their images."
)
PROTOCOL = (
    "Macro-F1 is the mean over the classes of the test set. Intervals are 95 % expanded percentile bootstrap intervals "
    "over patients, or groups of duplicates where the patient is not known (Hesterberg 2015); a value that no resample "
    "changes has none. Epoch and temperature were chosen on validation images of other patients than the training "
    "images, never on test images. The best of several networks is named by these scores, which flatters it a little. "
    "With `tta_flip` in a recipe, predictions are averaged over an image and its mirror image (test-time augmentation)."
)
CALIBRATION = (
    "Confidence and expected calibration error, as trained and (scaled) with the temperature that fits validation, "
    "at least 1"
)
SAME = (
    "The official and the deduplicated test set are the same images here: no test image has a duplicate among the "
    "images that were trained on."
)

SCORES = {
    "accuracy": "accuracy",
    "accuracy_patients": "accuracy, patients",
    "accuracy_tumours": "accuracy, tumours",
    "accuracy_tumour_or_none": "tumour or none",
    "macro_f1": "macro-F1",
    "roc_auc": "ROC AUC",
}
"""Metric > its name in tables."""

EXPLAINED = 240
"""Test images whose saliency map is computed, at most."""


def list_test_sets(comparison: pd.DataFrame) -> list[str]:
    """The test sets, the one with the fewest leaks first; that one alone if all hold the same images."""
    there = sorted(comparison["test_set"].unique(), key=TEST_SETS.index)
    return there if sets_differ(comparison) else there[:1]


def describe_protocol(comparison: pd.DataFrame, networks: Iterable[TrainedNetwork]) -> str:
    """How test sets and scores are made, and what networks were trained on before."""
    sets = BY_PATIENT if PATIENT in set(comparison["test_set"]) else BY_FOLDER
    return " ".join([sets, PROTOCOL, *filter(None, map(say_start, networks))])


def find_best(comparison: pd.DataFrame) -> str:
    """The network with the highest accuracy on the test set with the fewest leaks."""
    first = list_test_sets(comparison)[0]
    accuracy = comparison[comparison["metric"] == "accuracy"]
    # Leaks would favour a network that remembers its training images.
    rows = accuracy[accuracy["test_set"] == first]
    return str(rows.set_index("network")["value"].idxmax())


def sets_differ(comparison: pd.DataFrame) -> bool:
    """Whether the official test set holds images that the deduplicated one excludes."""
    return comparison.groupby("test_set")["images"].first().nunique() > 1


def write_answer(comparison: pd.DataFrame, about: Mapping[str, Any], splits: pd.DataFrame) -> str:
    """The best network on each test set, and how many test images have training duplicates."""
    accuracy = comparison[comparison["metric"] == "accuracy"].set_index(["test_set", "network"])
    best = find_best(comparison)
    if PATIENT in set(comparison["test_set"]):
        return _write_answer_by_patient(comparison, best, simulated=about["simulated"])
    honest = accuracy.loc[(DEDUPLICATED, best)]
    quoted = accuracy.loc[(OFFICIAL, best)]
    # Validation images count too: epoch and temperature were chosen by them.
    learned = splits.loc[splits["split"].isin([TRAIN, VALIDATION]), "group"]
    tested = splits.loc[splits["official_test"], "group"]
    leaked = tested.isin(learned).sum()
    simulated = " simulated" if about["simulated"] else ""
    answer = (
        f"{name_network(best)} classifies {honest['value']:.1%} of {honest['images']:,}{simulated} test images without "
        f"duplicates correctly ({tell_interval(honest['low'], honest['high'], '.1%')})"
    )
    if not sets_differ(comparison):
        return f"{answer}."
    return (
        f"{answer}, and {quoted['value']:.1%} of the {quoted['images']:,} images of the test set as published, of "
        f"which {leaked:,} have a duplicate among the training images."
    )


def _write_answer_by_patient(comparison: pd.DataFrame, best: str, *, simulated: bool) -> str:
    rows = comparison[(comparison["network"] == best) & (comparison["test_set"] == PATIENT)].set_index("metric")
    image, person = rows.loc["accuracy"], rows.loc["accuracy_patients"]
    kind = "simulated images" if simulated else "images"
    return (
        f"{name_network(best)} classifies {image['value']:.1%} of {image['images']:,} {kind} of patients it was not "
        f"trained on correctly ({tell_interval(image['low'], image['high'], '.1%')}), and {person['value']:.1%} of "
        f"{image['persons']:,} patients and groups of duplicates "
        f"({tell_interval(person['low'], person['high'], '.1%')})."
    )


def score_sets(comparison: pd.DataFrame) -> dict[str, tuple[str, pd.DataFrame]]:
    """Test set > a caption, and accuracy, macro-F1 and ROC AUC of each network on it, with intervals."""
    return {
        test_set: (
            f"Scores and 95 % intervals on the {test_set} test set, {part['images'].iloc[0]:,} images",
            _score_networks(part, {name: SCORES[name] for name in SCORES if name in set(part["metric"])}),
        )
        for test_set, part in comparison.groupby("test_set", sort=False)
    }


def score_classes(comparison: pd.DataFrame, network: str, test_set: str) -> pd.DataFrame:
    """Precision and recall of each class, with intervals where there are any."""
    own = comparison[(comparison["network"] == network) & (comparison["test_set"] == test_set)]
    part = own[own["metric"].str.match("precision_|recall_")]
    # At the first underscore alone: a class may have one in its name.
    names = part["metric"].str.split("_", n=1, expand=True)
    worded = part.assign(score=names[0], kind=names[1], words=write_intervals(part))
    table = worded.pivot(index="kind", columns="score", values="words")
    # A pivot sorts its rows by name.
    return table.loc[names[1].unique()].rename_axis("class").reset_index()


def score_sources(comparison: pd.DataFrame, test_set: str) -> pd.DataFrame:
    """Recall of each class, of images whose patient is known and of others; empty where there is one source."""
    part = comparison[comparison["test_set"] == test_set]
    part = part[part["metric"].str.match("(?:un)?listed_recall_")]
    if not len(part):
        return part
    names = part["metric"].str.split("_", n=2, expand=True)
    source = names[0].map({"listed": "patient known", "unlisted": "patient not known"})
    column = part["network"].map(name_network)
    worded = part.assign(**{"class": names[2]}, source=source, column=column, words=write_intervals(part))
    table = worded.pivot(index=["class", "source", "images"], columns="column", values="words")
    return table[column.unique()].rename_axis(columns=None).reset_index()


def score_calibration(comparison: pd.DataFrame) -> pd.DataFrame:
    """Confidence and calibration error before and after the temperature, of each network on each test set."""
    shown = ["confidence", "calibration_error", "temperature", "confidence_scaled", "calibration_error_scaled"]
    # Not `pivot`, which always sorts.
    table = comparison.pivot_table(index=["test_set", "network"], columns="metric", values="value", sort=False)
    table = table[shown].rename(index=name_network, level="network")
    return table.reset_index().rename(columns=lambda name: name.replace("_", " "))


def count_sets(splits: pd.DataFrame) -> pd.DataFrame:
    """Images of each class in each set, or in each fold."""
    if splits["fold"].max() >= 0:
        counts = splits.groupby(["fold", "class"]).size().unstack(fill_value=0)
        return counts.rename(index=name_fold).rename_axis("split").reset_index()
    counts = splits.groupby(["split", "class"]).size().unstack(fill_value=0)
    return counts.rename(index={"": "not used"}).reset_index()


def _score_networks(part: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    shown = part[part["metric"].isin(list(names))]
    shown = shown.replace({"metric": dict(names)})
    table = with_intervals(shown, "value", ["network", "parameters"], across="metric")
    table = table.assign(network=table["network"].map(name_network))
    return table[["network", "parameters", *names.values()]]
