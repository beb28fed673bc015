"""What the report and the model card both show of the networks' scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from brain_tumor.data.common.sets import TEST
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.segmentation import VOLUME, choose_headline
from brain_tumor.metrics.surfaces import MAX_HD95_MM, TOLERANCE
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.formatting import tell_interval, with_intervals
from brain_tumor.reporting.start import say_start

SCORING = (
    "Empty masks count as in BraTS 2020: if reference mask and prediction are both empty, Dice is 1; if one is, Dice "
    f"is 0 and HD95 {MAX_HD95_MM} mm. Surface Dice has a tolerance of {TOLERANCE:g} mm. Intervals are 95 % expanded "
    "percentile bootstrap intervals over patients (Hesterberg 2015)."
)
RULES = (
    f"{SCORING} Where the settings say so, predictions are averaged over an image and its mirror image (test-time "
    "augmentation), small components are removed, and a tissue below its minimum volume is given another label."
)
PROTOCOL = (
    "Protocol “volume”: pixels are counted over all slices of a patient; scores are means and medians over patients. "
    f"{RULES} No network was trained on test patients, and no epoch was chosen by them. The best of several networks "
    "is named by these scores, which flatters it a little. Scores are measured on the grid of the prepared slices"
)
INDEX = ("network", "parameters", "patients")
"""Columns before those of the targets."""

METRICS = {
    "dice": "Dice",
    "iou": "IoU",
    "accuracy": "accuracy",
    "fpr": "false positive rate",
    "fnr": "false negative rate",
    "precision": "precision",
    "recall": "recall",
    "hd95_mm": "HD95, mm",
    "surface_dice": "surface Dice",
    "lesion_dice": "lesion-wise Dice",
    "lesion_hd95_mm": "lesion-wise HD95, mm",
    "lesion_surface_dice": "lesion-wise surface Dice",
    "auc_tumour": "AUC tumour",
    "auc_brain": "AUC brain",
    "spread": "spread",
}
"""Metrics in tables > in reports."""


def name_metric(metric: str) -> str:
    """A metric as a report calls it."""
    return METRICS.get(metric, metric.replace("dice_loss_", "Dice lost, ").replace("_", " "))


def protocol(about: Mapping[str, Any], networks: Sequence[TrainedNetwork]) -> str:
    """How scores are measured, the grid and what networks were trained on before included."""
    return " ".join(
        [
            f"{PROTOCOL} ({about['slice_size']} x {about['slice_size']} pixels).",
            *filter(None, map(say_start, networks)),
        ]
    )


def of_test(comparison: pd.DataFrame, protocol: str = VOLUME) -> pd.DataFrame:
    """Scores of the test patients in one protocol."""
    return comparison[(comparison["set"] == TEST) & (comparison["protocol"] == protocol)]


def rank(comparison: pd.DataFrame, about: Mapping[str, Any]) -> pd.DataFrame:
    """Dice of the whole tumour (of the last target where none is declared), the best network first."""
    dice = of_test(comparison).query("metric == 'dice'")
    of_headline = dice[dice["target"] == choose_headline(about["targets"])]
    return of_headline.sort_values("mean", ascending=False)


def write_answer(comparison: pd.DataFrame, about: Mapping[str, Any]) -> str:
    """The best network and what it reaches, in one sentence."""
    ranked = rank(comparison, about)
    best = ranked.iloc[0]
    interval = tell_interval(best["low"], best["high"], ".3f")
    patients = (
        f"{best['patients']}{' simulated' if about['simulated'] else ''} test "
        f"patient{'s' if best['patients'] > 1 else ''}"
    )
    among = f", the best of {len(ranked)} networks," if len(ranked) > 1 else ""
    return (
        f"{name_network(best['network'])}{among} reaches a mean Dice of {best['mean']:.3f} for {best['target']} on "
        f"{patients} ({interval})."
    )


def score_targets(
    comparison: pd.DataFrame,
    metric: str = "dice",
    index: Sequence[str] = INDEX,
) -> pd.DataFrame:
    """A metric of each network and target over the test patients' volumes, with intervals."""
    scores = of_test(comparison)
    return spread_targets(scores[scores["metric"] == metric], "mean", list(index))


def spread_targets(scores: pd.DataFrame, value: str, index: list[str]) -> pd.DataFrame:
    """A column for each target, with intervals; networks by the names that reports give them.

    First the one by which networks are ranked, which a narrow page shows too.
    """
    wide = with_intervals(scores, value, index)
    first = choose_headline(scores["target"])
    wide.insert(len(index), first, wide.pop(first))
    return wide.assign(network=wide["network"].map(name_network))


def summarise_distances(comparison: pd.DataFrame, scores: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Median HD95 of each network and target, beside the mean; and how many patients have the penalty of an empty mask.

    Args:
        scores: experiment > rows `set`, `patient`, `target`, `metric`, `value`.
    """
    rows = of_test(comparison).query("metric == 'hd95_mm'")
    cells = [_write_distance(row, scores[row.network]) for row in rows.itertuples()]
    wide = rows.assign(cell=cells).pivot(index="network", columns="target", values="cell")
    # A pivot sorts both axes by name.
    wide = wide.loc[rows["network"].unique(), rows["target"].unique()].reset_index()
    return wide.assign(network=wide["network"].map(name_network))


def _write_distance(row: Any, scores: pd.DataFrame) -> str:
    if pd.isna(row.median):
        return "–"
    distances = scores[(scores["set"] == TEST) & (scores["metric"] == "hd95_mm")]
    values = distances.loc[distances["target"] == row.target, "value"].dropna()
    # No surfaces in a BraTS scan are as far apart: such a distance is the penalty of an empty mask.
    penalised = int((values >= MAX_HD95_MM).sum())
    said = f"{row.median:.1f} (mean {row.mean:.1f}"
    return f"{said}; {penalised} of {len(values)} penalised)" if penalised else f"{said})"
