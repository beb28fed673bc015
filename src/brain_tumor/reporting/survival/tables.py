"""What the report and the cards of survival both show: the answer, gains, scores, patients, features."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.survival.cohort import GTR
from brain_tumor.data.survival.shape_features import FEATURES
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.survival import classes
from brain_tumor.reporting.formatting import write_interval
from brain_tumor.reporting.page import Table
from brain_tumor.survival.settings import BASELINE, ProtocolSettings

LIMITS = (
    "Not for clinical use. The tables don't say from which hospitals and years patients come, nor what "
    "treatment other than surgery they had; where the "
    "resection is not known (NA) it may have been any. Shape is measured before surgery. Intervals over "
    "patients take the fitted models as given: that other "
    "patients would give other models is in the corrected intervals over the folds. Several models are "
    "compared; the answer is about the one that "
    "was chosen beforehand. Nothing here was tested on patients of another source."
)
METRICS = {
    "concordance": "concordance",
    "spearman": "SpearmanR",
    "accuracy": "accuracy",
    "mean_squared_error": "mean SE",
    "median_squared_error": "median SE",
}


@dataclass(frozen=True)
class Results:
    """What a run found. `changes` of features, and `concordances` with either mask, where the masks are a network's."""

    patients: pd.DataFrame
    scores: pd.DataFrame
    gains: pd.DataFrame
    importances: pd.DataFrame
    changes: pd.DataFrame | None = None
    concordances: pd.DataFrame | None = None

    @property
    def simulated(self) -> bool:
        """Whether the patients are phantoms."""
        return bool(self.patients["simulated"].any())

    @property
    def masks(self) -> str:
        """Whose masks they are."""
        if self.changes is None:
            return "reference masks"
        network = self.changes["network"].iloc[0]
        return f"masks of {name_network(network)}"


def write_answer(results: Results, protocol: ProtocolSettings) -> str:
    """Whether the segmentation adds to age, in one sentence; for masks of a network, what they change as well."""
    said = [] if results.changes is None else [_change(results)]
    # A run without scores had too few deaths, or no ages to compare with.
    if not len(results.scores):
        said.append(explain_none(results.patients, protocol))
    said += [_verdict(results, cohort) for cohort in results.scores["cohort"].unique()]
    sentence = "; ".join(said)
    # Not `capitalize`, which would make the names of networks small.
    return f"{sentence[0].upper()}{sentence[1:]}."


def explain_none(patients: pd.DataFrame, protocol: ProtocolSettings) -> str:
    """Why there is no model of these patients; nothing if there is one."""
    used = patients[patients["excluded"] == ""]
    deaths = int(used["observed"].sum())
    if deaths < protocol.min_deaths:
        return (
            f"patients with a mask and a known day of death: {deaths}, too few for survival models, which need "
            f"{protocol.min_deaths}"
        )
    if used["age"].nunique() < 2:
        return "no two different ages are known, and survival models are compared with age alone"
    return ""


def _change(results: Results) -> str:
    """What a network's mask does to the volume of the whole tumour."""
    assert results.changes is not None
    change = results.changes.set_index("feature").loc["WT_ml"]
    network = name_network(change["network"])
    # Features need a volume, which single slices don't make.
    if not change["patients"]:
        return f"no patient's slices make a volume, so what the masks of {network} change in the features is not known"
    size = f"{change['patients']}{' simulated' if results.simulated else ''} patients it was not trained on"
    limits = ""
    # Few patients have no limits of agreement.
    if pd.notna(change["low"]):
        limits = f" (95 in 100 single patients: {change['low']:+.1f} to {change['high']:+.1f} ml)"
    return (
        f"on {size}, {network} changes the volume of the whole tumour by {change['bias']:+.1f} ml of "
        f"{change['expert']:.1f} ml{limits}"
    )


def _verdict(results: Results, cohort: str) -> str:
    """Whether the segmentation adds to age, by a rule.

    Both intervals of the gain in concordance lie above 0, and permuted shapes rarely gain as much.
    """
    gain = _tested(results, cohort, "concordance")
    alone = _score(results, cohort, BASELINE, "concordance")
    shape = _score(results, cohort, (gain["model"], gain["features"]), "concordance")
    said = _judge(gain)
    size = f"{alone['patients']:.0f}{' simulated' if results.simulated else ''} patients"
    who = f"on all {size}" if cohort != GTR else f"on the {size} with gross total resection"
    intervals = (
        f"over patients {gain['low']:+.3f} to {gain['high']:+.3f}, over folds {gain['fold_low']:+.3f} to "
        f"{gain['fold_high']:+.3f}"
    )
    return (
        f"{said} {who}: concordance {alone['value']:.3f} with age alone, {shape['value']:.3f} with age and shape "
        f"(gain {gain['gain']:+.3f}; 95 % interval {intervals}; permutation p = {gain['p']:.3f})"
    )


def _judge(gain: pd.Series) -> str:
    """Whether the segmentation adds to age, in words."""
    signs = [gain["low"] > 0, gain["fold_low"] > 0, gain["p"] < 0.05]
    if all(signs):
        return "the segmentation adds to age"
    if gain["high"] < 0:
        return "the segmentation makes the prediction from age worse"
    # Shapes can say more than those of other patients, and still cost the model more than that.
    if any(signs) and gain["gain"] > 0:
        return "the segmentation may add to age, but this is not certain,"
    return "no gain from the segmentation over age is shown"


def _tested(results: Results, cohort: str, metric: str) -> pd.Series:
    # Only the model of the primary analysis has a p-value.
    tested = results.gains[results.gains["p"].notna()]
    return tested[(tested["cohort"] == cohort) & (tested["metric"] == metric)].iloc[0]


def _score(results: Results, cohort: str, pair: tuple[str, str], metric: str) -> pd.Series:
    scores = results.scores.set_index(["cohort", "model", "features", "metric"])
    return scores.loc[(cohort, *pair, metric)]


def list_gains(results: Results) -> Table:
    """What shape adds to age, by both scores, with both intervals."""
    rows = []
    for cohort in results.scores["cohort"].unique():
        for metric in ("concordance", "spearman"):
            gain = _tested(results, cohort, metric)
            alone = _score(results, cohort, BASELINE, metric)["value"]
            shape = _score(results, cohort, (gain["model"], gain["features"]), metric)["value"]
            interval = write_interval(gain["gain"], gain["low"], gain["high"], "+.3f")
            folds = write_interval(gain["fold_gain"], gain["fold_low"], gain["fold_high"], "+.3f")
            rows.append(
                (
                    cohort,
                    METRICS[metric],
                    f"{alone:.3f}",
                    f"{shape:.3f}",
                    interval,
                    folds,
                    f"{gain['null_95']:+.3f}",
                    f"{gain['p']:.3f}",
                )
            )
    columns = ["patients", "score", "age", "age + shape", "gain, over patients", "gain, over folds", "chance", "p"]
    return "Gain over age alone, with 95 % intervals", pd.DataFrame(rows, columns=columns)


def list_scores(results: Results, cohort: str) -> Table:
    """Every model's scores on one group of patients."""
    scores = results.scores[results.scores["cohort"] == cohort]
    cells = [(f"{row.model}: {row.features}", row.metric, _cell(row)) for row in scores.itertuples()]
    table = pd.DataFrame(cells, columns=["model: features", "metric", "cell"])
    order = table["model: features"].unique()
    wide = table.pivot(index="model: features", columns="metric", values="cell")
    # A pivot sorts both axes by name.
    wide = wide.loc[order, list(METRICS)].rename(columns=METRICS)
    caption = (
        f"{cohort}: scores of estimates by models not fitted to the patient, with 95 % bootstrap intervals "
        "over patients"
    )
    return caption, wide.reset_index()


def _cell(row: Any) -> str:
    if "squared" not in row.metric:
        return write_interval(row.value, row.low, row.high, ".3f", ".2f")
    # Squared errors are in 1000 square days.
    value, low, high = row.value * 1e-3, row.low * 1e-3, row.high * 1e-3
    return write_interval(value, low, high, ".0f", ".0f")


def find_commonest(results: Results, cohort: str) -> str:
    """The class that most patients are in, and their share."""
    # Accuracy is over patients with observed death, and so is the share that it is compared with.
    used = results.patients[(results.patients["excluded"] == "") & results.patients["observed"]]
    if cohort == GTR:
        used = used[used["resection"] == GTR]
    days = used["days"].to_numpy()
    share = np.bincount(classes(days), minlength=3) / len(days)
    return f"{('short', 'medium', 'long')[share.argmax()]} survival ({share.max():.3f})"


def list_reasons(patients: pd.DataFrame) -> list[Table]:
    """Why patients are excluded, and what to know of those who are not, where there is anything to say."""
    used = patients["excluded"] == ""
    tables = []
    for caption, column, name in (
        ("Excluded, and why", "excluded", "reason"),
        ("What to know of patients who are used", "note", "note"),
    ):
        # Notes on excluded patients have no effect.
        shown = used | (column == "excluded")
        rows = patients[(patients[column] != "") & shown]
        if len(rows):
            counts = rows.groupby(column).agg(patients=("patient", "size"), example=("patient", "first"))
            tables.append((caption, counts.reset_index().rename(columns={column: name})))
    return tables


def count_patients(patients: pd.DataFrame) -> pd.DataFrame:
    """Patients in use by resection: how many, how many died, their days and ages (median and quartiles)."""
    used = patients[patients["excluded"] == ""]
    used = used.assign(resection=used["resection"].replace("", "not known"))
    parts = [("all in use", used), *used.groupby("resection")]
    rows = [
        (name, len(part), int(part["observed"].sum()), _quartiles(part["days"]), _quartiles(part["age"]))
        for name, part in parts
    ]
    return pd.DataFrame(rows, columns=["resection", "patients", "died", "days", "age"])


def list_features(patients: pd.DataFrame) -> pd.DataFrame:
    """Each feature with its unit, its median and quartiles in the patients in use, and its formula."""
    used = patients[patients["excluded"] == ""]
    # Age is no measurement of the mask, so that FEATURES lacks it.
    named = [("age", "years", "at diagnosis, from survival_info.csv")]
    named += [(feature.name, feature.unit, feature.formula) for feature in FEATURES]
    rows = [(name, unit, _quartiles(used[name]), formula) for name, unit, formula in named]
    return pd.DataFrame(rows, columns=["feature", "unit", "median (quartiles)", "formula"])


def _quartiles(values: pd.Series) -> str:
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    # Three digits of a larger number would come in powers of ten.
    form = ".3g" if high < 1000 else ",.0f"
    return write_interval(middle, low, high, form)


def write_protocol(protocol: ProtocolSettings) -> str:
    """How models are validated."""
    return (
        f"{protocol.repeats} times {protocol.folds}-fold cross-validation. Folds are stratified: of every "
        f"{protocol.folds} patients who lived about as "
        "long, each is in another fold. Imputation by the median, dropping of constant features, "
        "standardisation, the strength of ridge regression: all fitted "
        "inside the training folds. Volumes and surfaces enter as log(1 + x). Linear regression and forest "
        "learn log days from patients who died; Cox "
        "and accelerated failure time (log-normal) are fitted to censored patients too. Settings "
        "of models were fixed beforehand, none was "
        "tuned. A score is taken over all patients' estimates by models not fitted to them, and averaged "
        "over the repeats. Classes are those of BraTS: below "
        "300, 300 to 450, above 450 days. “GTR” are the patients of the BraTS task, with gross total "
        "resection, modelled on their own."
    )
