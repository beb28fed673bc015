"""What the report and the model card both show of the networks' scores and of the sets."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_tumor.data.common.sets import TRAIN, VALIDATION
from brain_tumor.data.images.split import DEDUPLICATED, OFFICIAL
from brain_tumor.reporting.formatting import tell_interval, with_intervals, write_intervals

PROTOCOL = (
    "The official test set is the testing folder as published, copies of training images included. The "
    "deduplicated one holds one of each group of copies, "
    "unless one of the group was learned from; copies that the audit misses may be in it. Macro-F1 is the "
    "mean over the classes that the test set holds. "
    "Intervals: 95 %, expanded percentile bootstrap over groups of copies (Hesterberg 2015); a value that "
    "no resample changes has none. The epoch and the "
    "temperature were chosen on validation images, which are drawn from the training folder by group of "
    "copies, never on test images. Of several networks the "
    "best is named by these scores, which flatters it a little. Where a recipe says `tta_flip`, an answer is "
    "the mean over an image and its mirror image. The "
    "files carry no patient ids, so slices of one patient may be on both sides."
)

EXPLAINED = 240
"""Test images whose heat is computed, at most."""


def write_answer(comparison: pd.DataFrame, about: Mapping[str, Any], splits: pd.DataFrame) -> str:
    """The best network on both test sets, and how many copies it may have learned from, in one sentence."""
    accuracy = comparison[comparison["metric"] == "accuracy"].set_index(["test_set", "network"])
    best = accuracy.loc[DEDUPLICATED]["value"].idxmax()
    honest, quoted = accuracy.loc[(DEDUPLICATED, best)], accuracy.loc[(OFFICIAL, best)]
    learned = splits["split"].isin([TRAIN, VALIDATION])
    leaked = splits.loc[splits["official_test"], "group"].isin(splits.loc[learned, "group"]).sum()
    images = f"{honest['images']:,}{' simulated' if about['simulated'] else ''} test images without copies"
    return (
        f"{best} classifies {honest['value']:.1%} of {images} rightly "
        f"({tell_interval(honest['low'], honest['high'], '.1%')}), "
        f"and {quoted['value']:.1%} of the {quoted['images']:,} images of the test set as published, "
        f"of which {leaked:,} have a copy that was learned from."
    )


def score_sets(comparison: pd.DataFrame) -> dict[str, tuple[str, pd.DataFrame]]:
    """Test set > a caption, and accuracy, macro-F1 and area under the ROC curve of each network on it, with intervals."""
    names = {"accuracy": "accuracy", "macro_f1": "macro-F1", "roc_auc": "ROC AUC"}
    return {
        test_set: (
            f"Scores and 95 % intervals on the {test_set} test set, {part['images'].iloc[0]:,} images",
            _score_networks(part, names),
        )
        for test_set, part in comparison.groupby("test_set", sort=False)
    }


def score_classes(comparison: pd.DataFrame, network: str, test_set: str) -> pd.DataFrame:
    """Precision and recall of each class, with intervals where there are any."""
    part = comparison[
        (comparison["network"] == network)
        & (comparison["test_set"] == test_set)
        & comparison["metric"].str.match("precision_|recall_")
    ]
    names = part["metric"].str.split("_", n=1, expand=True)
    table = part.assign(score=names[0], kind=names[1], words=write_intervals(part)).pivot(
        index="kind", columns="score", values="words"
    )
    return table.loc[names[1].unique()].rename_axis("class").reset_index()


def score_calibration(comparison: pd.DataFrame) -> pd.DataFrame:
    """Confidence and calibration error before and after the temperature, of each network on each test set."""
    shown = ["confidence", "calibration_error", "temperature", "confidence_scaled", "calibration_error_scaled"]
    table = comparison.pivot_table(index=["test_set", "network"], columns="metric", values="value", sort=False)[shown]
    return table.reset_index().rename(columns=lambda name: name.replace("_", " "))


def count_sets(splits: pd.DataFrame) -> pd.DataFrame:
    """Images of each class in each set."""
    return (
        splits.groupby(["split", "class"])
        .size()
        .unstack(fill_value=0)
        .rename(index={"": "not learned from"})
        .reset_index()
    )


def _score_networks(part: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    shown = part[part["metric"].isin(list(names))].replace({"metric": dict(names)})
    return with_intervals(shown, "value", ["network", "parameters"], across="metric")[
        ["network", "parameters", *names.values()]
    ]
