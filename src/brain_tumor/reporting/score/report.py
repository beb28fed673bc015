"""What the report on predicted masks says."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from brain_tumor.data.common.sets import TEST
from brain_tumor.data.common.tables import with_text
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.lesions import LESION, LESION_DICE, LesionSettings, count_outcomes
from brain_tumor.metrics.surfaces import TOLERANCE
from brain_tumor.reporting.formatting import tell_interval, with_intervals
from brain_tumor.reporting.page import Fold, Picture, Section, Words, render_report
from brain_tumor.reporting.segmentation.report import compare, list_distances, list_scores, map_scores
from brain_tumor.reporting.segmentation.tables import SCORING, name_metric, rank, spread_targets
from brain_tumor.reporting.settings_table import describe_settings

PATIENT = "patient"
"""What a patient is called here: whether networks were trained on them, masks don't tell."""

PACKAGES = ("scipy", "torch", "monai")
"""What measures."""

PROTOCOL = (
    "Protocol “volume” on the masks' own grid: voxels are counted over the whole volume of a patient; scores are means "
    f"and medians over patients. {SCORING} Means and differences are of the patients whom every prediction has. Masks "
    "don't tell whom their network was trained on: scores hold for new patients only if it was on none of these. The "
    "best of several predictions is named by these scores, which flatters it a little."
)
PICTURED = Words(
    "The slice with most tumour of the best, the median and the worst patient: scan (where one lies beside "
    "each reference mask), reference mask, prediction, errors. R "
    "and L are the patient's right and left.",
    "a row of brain slices for each of up to three patients: reference mask, prediction and errors in colour",
)


def compose_report(
    tables: Sequence[pd.DataFrame],
    scores: Mapping[str, pd.DataFrame],
    figures: Mapping[str, bytes],
    settings: Mapping[str, Any],
    lesion_settings: LesionSettings,
    warnings: Sequence[str],
    *,
    simulated: bool,
) -> str:
    """The page: the answer, means, predictions compared, distances, lesions, pictures, who was left out.

    Args:
        tables: comparison, differences, index, lesions.
        scores: prediction > rows `patient`, `target`, `metric`, `value`.
        figures: prediction > PNG.
        settings: block > setting > value.
        warnings: what is suspicious about the folders.
    """
    comparison, differences, index, lesions = tables
    # Shared tables are of a set of patients.
    comparison = comparison.assign(set=TEST)
    scores = {name: table.assign(set=TEST) for name, table in scores.items()}
    index = with_text(index, "reference_mask", "predicted_mask", "note", "excluded")
    targets = comparison["target"].unique().tolist()
    best = rank(comparison, {"targets": targets})["network"].iloc[0]
    dice = differences[differences["metric"] == "dice"]
    sections = [
        compare(comparison, dice, PROTOCOL, best, scores, "Predictions compared", PATIENT),
        list_distances(comparison, scores, PATIENT),
        _describe_lesions(comparison, differences, lesions, best, lesion_settings),
        *_show_masks(figures, best),
        list_scores(comparison, PATIENT),
        _list_patients(index),
        describe_settings(settings, PACKAGES),
    ]
    answer = " ".join([_write_answer(comparison, targets, index), *(f"Warning: {warning}." for warning in warnings)])
    pictures = [Picture(figures[best], PICTURED, name_network(best), photo=True)]
    table = map_scores(comparison, whose=PATIENT)
    return render_report(
        "Predicted masks against reference masks", answer, table, sections, simulated=simulated, pictures=pictures
    )


def _write_answer(comparison: pd.DataFrame, targets: Sequence[str], index: pd.DataFrame) -> str:
    ranked = rank(comparison, {"targets": targets})
    best = ranked.iloc[0]
    among = f", the best of {len(ranked)} predictions," if len(ranked) > 1 else ""
    plural = "s" if best["patients"] > 1 else ""
    interval = tell_interval(best["low"], best["high"], ".3f")
    left_out = index.loc[~index["in_means"], "patient"].nunique()
    return (
        f"{name_network(best['network'])}{among} reaches a mean Dice of {best['mean']:.3f} for {best['target']} on "
        f"{best['patients']} patient{plural} ({interval}); {left_out} of {index['patient'].nunique()} are left out."
    )


def _describe_lesions(
    comparison: pd.DataFrame,
    differences: pd.DataFrame,
    lesions: pd.DataFrame,
    best: str,
    settings: LesionSettings,
) -> Section:
    text = (
        f"Lesion-wise protocol of BraTS 2023: fragments of the reference mask that a dilation by {settings.dilation} "
        "voxels joins are one lesion, every predicted component that touches the dilated lesion belongs to it, lesions "
        f"up to {settings.min_mm3:g} mm³ are left out, and a missed lesion or a predicted component that belongs to "
        f"none has Dice 0 and HD95 {settings.penalty_mm:g} mm; mean over the lesions of a patient, then over patients, "
        f"with 95 % intervals. Surface Dice has a tolerance of {TOLERANCE:g} mm. HD95 is MONAI's, which weighs no "
        "surface elements as the organisers' program does."
    )
    means = comparison[comparison["protocol"] == LESION]
    means = means.assign(network=means["network"].map(name_network), metric=means["metric"].map(name_metric))
    tables = [
        ("Lesion-wise scores: mean over patients", with_intervals(means, "mean", ["network", "target"], "metric")),
    ]
    if len(lesions):
        counts = count_outcomes(lesions, ["network", "target"])
        tables.append(("Lesions", counts.assign(network=counts["network"].map(name_network))))
    folds = []
    own = differences[(differences["metric"] == LESION_DICE) & (differences["baseline"] == best)]
    if len(own):
        caption = "Difference in lesion-wise Dice, and 95 % interval"
        table = spread_targets(own, "difference", ["network"])
        folds.append(Fold(f"Differences from {name_network(best)} on the same patients", tables=[(caption, table)]))
    return Section("Lesion by lesion", text, tables, folds=folds)


def _show_masks(figures: Mapping[str, bytes], best: str) -> list[Section]:
    """The pictures of all predictions but the best, which stands on top."""
    others = {name: content for name, content in figures.items() if name != best}
    pictures = [Picture(content, PICTURED, name_network(name), photo=True) for name, content in others.items()]
    return [Section("Other predictions", pictures=pictures)] if pictures else []


def _list_patients(index: pd.DataFrame) -> Section:
    """How many patients of each prediction are scored, and why others aren't."""
    rows = []
    for name, own in index.groupby("network", sort=False):
        used = own["excluded"] == ""
        missing = (own["reference_mask"] == "") | (own["predicted_mask"] == "")
        rows.append(
            {
                "network": name_network(str(name)),
                "patients": len(own),
                "scored": used.sum(),
                "no predicted mask": (own["predicted_mask"] == "").sum(),
                "no reference mask": (own["reference_mask"] == "").sum(),
                "unusable": (~used & ~missing).sum(),
                "in the means": own["in_means"].sum(),
            }
        )
    tables = [("Patients of each prediction", pd.DataFrame(rows))]
    excluded = index[index["excluded"] != ""]
    if len(excluded):
        tables.append(("Left out, and why", excluded[["network", "patient", "excluded"]]))
    noted = index[index["note"] != ""]
    if len(noted):
        tables.append(("Labels that may mean something else", noted[["network", "patient", "note"]]))
    elsewhere = index[(index["excluded"] == "") & ~index["in_means"]]
    if len(elsewhere):
        caption = "Scored, but not in the means: another prediction lacks a usable mask"
        tables.append((caption, elsewhere[["network", "patient"]]))
    return Section("Patients", "", tables)
