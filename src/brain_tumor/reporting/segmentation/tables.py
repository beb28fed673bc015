"""What the report and the model card both show of the networks' scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from brain_tumor.data.common.sets import TEST
from brain_tumor.metrics.segmentation import VOLUME, choose_headline
from brain_tumor.metrics.surfaces import MAX_HD95_MM, TOLERANCE
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.formatting import tell_interval, with_intervals

RULES = (
    "Rule of BraTS 2020 for empty masks: nothing there and nothing found counts 1, otherwise 0 (a "
    f"distance of {MAX_HD95_MM} mm). Surfaces agree within "
    f"{TOLERANCE:g} mm. Intervals: 95 %, expanded percentile bootstrap over patients (Hesterberg 2015). "
    "Where the settings say so, each slice was also "
    "seen mirrored, small pieces were dropped from what was found, and a tissue of which there was too "
    "little was taken for another."
)
PROTOCOL = (
    "Protocol “volume”: counts summed over all slices of a patient, then mean and median over patients. "
    f"{RULES} Patients of the test set were seen neither "
    "in training nor in choosing an epoch here. Of several networks the best is named by these scores, "
    "which flatters it a little. Scores are measured on "
    "the grid that slices are prepared on"
)


def protocol(about: Mapping[str, Any], networks: Sequence[TrainedNetwork]) -> str:
    """How scores are measured, the grid and what networks knew before they were trained included."""
    return " ".join(
        [
            f"{PROTOCOL} ({about['slice_size']} x {about['slice_size']} pixels).",
            *filter(None, map(_say_start, networks)),
        ]
    )


def _say_start(network: TrainedNetwork) -> str:
    """What the weights that a network started from mean for its scores."""
    before, name = network.description.get("initialised_from"), network.experiment
    if not before:
        return ""
    if before.get("scored") is None:
        return f"{name} started from weights whose file doesn't say whom they learned from: its scores may flatter."
    if before["scored"]:
        known = ", ".join(before["scored"])
        return (
            f"{name} started from weights that had learned from patients who are scored here ({known}): its "
            "scores flatter."
        )
    return f"{name} started from weights that had learned from none of these patients, by their names."


def of_test(comparison: pd.DataFrame, protocol: str = VOLUME) -> pd.DataFrame:
    """Scores of the test patients in one protocol."""
    return comparison[(comparison["set"] == TEST) & (comparison["protocol"] == protocol)]


def rank(comparison: pd.DataFrame, about: Mapping[str, Any]) -> pd.DataFrame:
    """Dice of the whole tumour (of the last target where none is declared), the best network first."""
    dice = of_test(comparison).query("metric == 'dice'")
    return dice[dice["target"] == choose_headline(about["targets"])].sort_values("mean", ascending=False)


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
        f"{best['network']}{among} reaches a mean Dice of {best['mean']:.3f} for {best['target']} on "
        f"{patients} ({interval})."
    )


def score_targets(comparison: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """A metric of each network and target over the test patients' volumes, with intervals."""
    scores = of_test(comparison)
    return spread_targets(scores[scores["metric"] == metric], "mean", ["network", "parameters", "patients"])


def spread_targets(scores: pd.DataFrame, value: str, index: list[str]) -> pd.DataFrame:
    """A column for each target, with intervals.

    First the one by which networks are ranked, which a narrow page shows too.
    """
    wide = with_intervals(scores, value, index)
    wide.insert(len(index), first := choose_headline(scores["target"]), wide.pop(first))
    return wide
