"""What the survival report says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.shape_features import FEATURES
from brain_tumor.data.survival import GTR
from brain_tumor.figures.report import Picture, Section, render_report
from brain_tumor.metrics.survival import classes
from brain_tumor.models.settings import ProtocolSettings

CAPTIONS = {
    "1_models": "Concordance and SpearmanR of each model with 95 % bootstrap intervals over patients; grey: models that know the age alone.",
    "2_chance": "Gain of the Cox model on age and shape over age alone (line), and the gains when each patient is given another's shape (bars).",
    "3_curves": "Kaplan-Meier curves with 95 % intervals of patients in thirds of their risk, and how many are still at risk; ticks: last known to be alive.",
    "4_expected": "Days expected by models that were not fitted to the patient against true days; grey lines part the classes of BraTS (300 and 450 days).",
    "5_calibration": "Left: patients in fifths of the probability to be alive after a year, against the part that was. Right: deaths in each tenth of the "
    "probability that the curve gave for the day of death; if the curves are right they are equally many (black line).",
    "6_importances": "Loss of concordance in held-out patients when one feature is shuffled among them, with corrected 95 % intervals over the folds. "
    "Features that say the same share their worth: each may then look worthless.",
    "changes": "Each feature from the predicted mask against the same from the expert mask, a dot for each patient.",
}
LIMITS = (
    "Not for clinical use. Patients come from several hospitals and years, treatment other than surgery is not known, and where the resection is "
    "not known (NA) it may have been any. Shape is measured before surgery. Intervals over patients take the fitted models as given: that other "
    "patients would give other models is in the corrected intervals over the folds. Several models are compared; the answer is about the one that "
    "was chosen beforehand. Nothing here was tested on patients of another source."
)
METRICS = {
    "concordance": "concordance",
    "spearman": "SpearmanR",
    "accuracy": "accuracy",
    "mean_squared_error": "mean SE",
    "median_squared_error": "median SE",
}
AGE_ALONE = ("linear", "age")


@dataclass(frozen=True)
class Results:
    """What the report is made of. `figures`: name > PNG. `changes`: of features, where the masks are a network's."""

    patients: pd.DataFrame
    scores: pd.DataFrame
    gains: pd.DataFrame
    importances: pd.DataFrame
    figures: Mapping[str, bytes]
    changes: pd.DataFrame | None = None

    @property
    def simulated(self) -> bool:
        """Whether the patients are phantoms."""
        return bool(self.patients["simulated"].any())


def compose_report(results: Results, protocol: ProtocolSettings) -> str:
    """The page: the answer, the evidence, each model, the patients, the features."""
    sections = [_changes(results)] if results.changes is not None else []
    if len(results.scores):
        sections += [_evidence(results, protocol), *_models(results), _curves(results), _importances(results), Section("Protocol", _protocol(protocol))]
    sections += [_patients(results), _features(results), Section("Limits", LIMITS)]
    masks = "expert masks" if results.changes is None else f"masks of {results.changes['network'].iloc[0]}"
    title = f"Survival from the segmentation: {masks}{' (SIMULATED)' if results.simulated else ''}"
    return render_report(title, _answer(results, protocol), sections, simulated=results.simulated)


def _answer(results: Results, protocol: ProtocolSettings) -> str:
    said = [] if results.changes is None else [_change(results)]
    if not len(results.scores):
        used = int((results.patients["left_out"] == "").sum())
        said.append(f"Patients with a mask and a survival: {used}, too few for survival models, which need {protocol.smallest}.")
    return " ".join(said + [_verdict(results, cohort) for cohort in results.scores["cohort"].unique()])


def _change(results: Results) -> str:
    """What a network's mask does to the volume of the whole tumour."""
    assert results.changes is not None
    change = results.changes.set_index("feature").loc["WT_ml"]
    size = f"{change['patients']}{' simulated' if results.simulated else ''} patients it was not trained on"
    limits = f" (95 in 100 single patients: {change['low']:+.1f} to {change['high']:+.1f} ml)" if pd.notna(change["low"]) else ""
    return f"On {size}, {change['network']} changes the volume of the whole tumour by {change['bias']:+.1f} ml of {change['expert']:.1f} ml{limits}."


def _verdict(results: Results, cohort: str) -> str:
    """Whether the segmentation adds to age, by a rule: both intervals of the gain in concordance lie above 0, and permuted shapes seldom gain as much."""
    gain = _tested(results, cohort, "concordance")
    alone, shape = (_score(results, cohort, pair, "concordance") for pair in (AGE_ALONE, (gain["model"], gain["features"])))
    signs = [gain["low"] > 0, gain["fold_low"] > 0, gain["p"] < 0.05]
    said = "The segmentation may add to age, but this is not certain," if any(signs) else "No gain from the segmentation over age is shown"
    if all(signs):
        said = "The segmentation adds to age"
    elif gain["high"] < 0:
        said = "The segmentation makes the prediction from age worse"
    size = f"{alone['patients']:.0f}{' simulated' if results.simulated else ''} patients"
    who = f"on all {size}" if cohort != GTR else f"on the {size} with gross total resection"
    intervals = f"over patients {gain['low']:+.3f} to {gain['high']:+.3f}, over folds {gain['fold_low']:+.3f} to {gain['fold_high']:+.3f}"
    return (
        f"{said} {who}: concordance {alone['value']:.3f} with age alone, {shape['value']:.3f} with age and shape "
        f"(gain {gain['gain']:+.3f}; 95 % interval {intervals}; permutation p = {gain['p']:.3f})."
    )


def _tested(results: Results, cohort: str, metric: str) -> pd.Series:
    gains = results.gains
    return gains[(gains["cohort"] == cohort) & (gains["metric"] == metric) & gains["p"].notna()].iloc[0]


def _score(results: Results, cohort: str, pair: tuple[str, str], metric: str) -> pd.Series:
    return results.scores.set_index(["cohort", "model", "features", "metric"]).loc[(cohort, *pair, metric)]


def _evidence(results: Results, protocol: ProtocolSettings) -> Section:
    rows = []
    for cohort in results.scores["cohort"].unique():
        for metric in ("concordance", "spearman"):
            gain = _tested(results, cohort, metric)
            alone, shape = (_score(results, cohort, pair, metric)["value"] for pair in (AGE_ALONE, (gain["model"], gain["features"])))
            interval, folds = (
                _interval(gain["gain"], gain["low"], gain["high"], "+.3f"),
                _interval(gain["fold_gain"], gain["fold_low"], gain["fold_high"], "+.3f"),
            )
            rows.append((cohort, METRICS[metric], f"{alone:.3f}", f"{shape:.3f}", interval, folds, f"{gain['chance']:+.3f}", f"{gain['p']:.3f}"))
    columns = ["patients", "score", "age", "age + shape", "gain, over patients", "gain, over folds", "chance", "p"]
    text = (
        "Linear regression on age alone against a Cox model on age and shape. Two intervals: bootstrap over patients, in pairs, of the estimates by "
        "models not fitted to them; and the corrected resampled t-test over the folds (Nadeau & Bengio 2003), which counts that other patients would give "
        f"other models and compares patients of one fold only. The permutation test deals the shapes to other patients {protocol.permutations} "
        "times and asks how often they then gain as much (p, one-sided; 95 in 100 stay below “chance”). Shapes that say nothing cost a model: their gains lie "
        "below 0. So p asks whether the shape says anything that age doesn't; the intervals, whether a model of these patients gains by it. The words above "
        "ask for all three: both intervals above 0, and p < 0.05."
    )
    return Section(
        "Does the segmentation add to age?",
        text,
        [("Gain over age alone, with 95 % intervals", pd.DataFrame(rows, columns=columns))],
        _pictures(results, "1", "2"),
    )


def _models(results: Results) -> list[Section]:
    sections = []
    for cohort, scores in results.scores.groupby("cohort", sort=False):
        cells = [(f"{row.model}: {row.features}", row.metric, _cell(row)) for row in scores.itertuples()]
        table = pd.DataFrame(cells, columns=["model: features", "metric", "cell"])
        order = table["model: features"].unique()
        wide = table.pivot(index="model: features", columns="metric", values="cell").loc[order, list(METRICS)].rename(columns=METRICS)
        patients, deaths = scores[["patients", "deaths"]].iloc[0]
        alive = f"; {patients - deaths} were alive when last seen and count in concordance alone" if patients > deaths else ""
        text = (
            f"{patients} patients, {deaths} of whom died{alive}. Accuracy is over three classes; the most frequent of them is {_commonest(results, cohort)}. "
            "“median” expects of everybody the median of the other patients: what any model must beat. Mean SE and median SE: squared error, in 1000 days²."
        )
        caption = "Scores of estimates by models not fitted to the patient, with 95 % bootstrap intervals over patients"
        sections.append(Section(f"Models: {cohort}", text, [(caption, wide.reset_index())]))
    return sections


def _commonest(results: Results, cohort: str) -> str:
    used = results.patients[(results.patients["left_out"] == "") & results.patients["observed"]]
    days = used.loc[(cohort != GTR) | (used["resection"] == GTR), "days"]
    share = np.bincount(classes(days.to_numpy()), minlength=3) / len(days)
    return f"{('short', 'medium', 'long')[share.argmax()]} survival ({share.max():.3f})"


def _cell(row: Any) -> str:
    scale, form, shorter = (1e-3, ".0f", ".0f") if "squared" in row.metric else (1.0, ".3f", ".2f")
    return _interval(row.value * scale, row.low * scale, row.high * scale, form, shorter)


def _interval(value: float, low: float, high: float, form: str, shorter: str = "") -> str:
    shorter = shorter or form
    return "–" if pd.isna(value) else f"{value:{form}} ({low:{shorter}} to {high:{shorter}})"


def _curves(results: Results) -> Section:
    text = (
        "Survival curves of Cox and accelerated failure time. Calibration: probabilities after 365 days in fifths of the patients, and D-calibration "
        "(Haider et al. 2020) over the whole curves; a high p-value means that no flaw is seen, not that there is none."
    )
    return Section("Curves", text, [], _pictures(results, "3", "4", "5"))


def _importances(results: Results) -> Section:
    tables = []
    for cohort, mine in results.importances.groupby("cohort", sort=False):
        shown = mine.head(8).drop(columns="cohort").rename(columns={"loss": "loss of concordance", "low": "95 % low", "high": "95 % high"})
        tables.append((f"{cohort}: the eight that matter most", shown))
    return Section("What matters", "", tables, _pictures(results, "6"))


def _protocol(protocol: ProtocolSettings) -> str:
    return (
        f"{protocol.repeats} times {protocol.folds}-fold cross-validation. Folds are stratified: of every {protocol.folds} patients who lived about as "
        "long, each is in another fold. Imputation by the median, dropping of constant features, standardisation, the strength of ridge regression: all fitted "
        "inside the training folds. Volumes and surfaces enter as log(1 + x). Linear regression and forest learn log days from patients who died; Cox "
        "and accelerated failure time (log-normal) learn from those known only to be alive too. Settings of models were fixed beforehand, none was "
        "tuned. A score is taken over all patients' estimates by models not fitted to them, and averaged over the repeats. Classes are those of BraTS: below "
        "300, 300 to 450, above 450 days. “GTR” are the patients of the BraTS task, with gross total resection, modelled on their own."
    )


def _patients(results: Results) -> Section:
    used = results.patients[results.patients["left_out"] == ""]
    alive = int((~used["observed"]).sum())
    text = f"{len(used)} patients are used, {alive} of them known only to be alive; {len(results.patients) - len(used)} are left out."
    unknown = int((used["centre_from"] == "").sum())
    if unknown:
        text += f" Where the brain's centre lies is not known for {unknown}: no scan beside the mask, and not in the space of BraTS."
    tables = []
    for caption, column in (("What was left out, and why", "left_out"), ("What to know of patients who are used", "note")):
        rows = (results.patients if column == "left_out" else used).query(f"{column} != ''")
        if len(rows):
            counts = rows.groupby(column).agg(patients=("patient", "size"), example=("patient", "first")).reset_index()
            tables.append((caption, counts.rename(columns={column: "reason" if column == "left_out" else "note"})))
    return Section("Patients", text, tables)


def _features(results: Results) -> Section:
    used = results.patients[results.patients["left_out"] == ""]
    named = [("age", "years", "at diagnosis, from survival_info.csv"), *((f.name, f.unit, f.formula) for f in FEATURES)]
    rows = [(name, unit, _quartiles(used[name]), formula) for name, unit, formula in named]
    table = pd.DataFrame(rows, columns=["feature", "unit", "median (quartiles)", "formula"])
    text = "WT is NCR + ED + ET, TC is NCR + ET. A ball has sphericity 1. Besides: gtr, 1 after gross total resection; hgg, 1 for high grade."
    return Section("Features", text, [("Features of the patients in use", table)])


def _quartiles(values: pd.Series) -> str:
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    return _interval(middle, low, high, ".3g")


def _changes(results: Results) -> Section:
    assert results.changes is not None
    table = results.changes.drop(columns="network").rename(columns={"low": "limits, low", "high": "limits, high"})
    text = (
        f"Features of the same slices of {table['patients'].max()} patients that the network was not trained on, measured on the expert's and on the "
        "predicted mask. Bias is the mean of predicted - expert; between the limits of agreement (from 5 patients on) the difference of 95 in 100 single "
        "patients would fall."
    )
    return Section("Predicted against expert masks", text, [("Change of each feature", table)], _pictures(results, "changes"))


def _pictures(results: Results, *starts: str) -> list[Picture]:
    return [Picture(png, CAPTIONS[name]) for name, png in results.figures.items() if name.startswith(starts)]
