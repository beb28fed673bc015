"""What the segmentation report says."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from brain_tumor.data.common.sets import TEST
from brain_tumor.metrics.segmentation import MEAN, REFERENCE, SLICE
from brain_tumor.metrics.surfaces import TOLERANCE
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.data_segmentation.tables import count_excluded, count_used
from brain_tumor.reporting.formatting import with_intervals, write_interval
from brain_tumor.reporting.interactive_plot import Plot, draw_strip
from brain_tumor.reporting.page import Picture, Section, Words, render_report
from brain_tumor.reporting.segmentation.tables import (
    of_test,
    protocol,
    rank,
    score_targets,
    spread_targets,
    write_answer,
)
from brain_tumor.reporting.settings_table import TRAINING, describe_settings

REFERENCE_DICE = {"classic_unet": (0.861, 0.758), "improved_unet": (0.917, 0.847), "attention_unet": (0.918, 0.849)}
"""Dice and IoU at epoch 20 that deep-learning-project (Allone) gives for these networks with 32 filters on BraTS 2020."""
REFERENCE_TISSUES = {"NCR", "ED", "ET"}
REFERENCE_TEXT = (
    "Figures of the reference are after 20 epochs, with 32 filters. It splits by slice: all of its "
    "patients are in both sets, and nearly every validation "
    "slice has a neighbour of the same patient in training. Its Dice is pooled over batches of 32 mixed "
    "slices and averaged over batches. The last columns are "
    "ours in the same pooling (protocol “reference”), but on patients never seen and on this data set: the "
    "columns stand side by side, they don't compare."
)
WORDS = {
    "1_curves": Words(
        "Loss and validation Dice over the epochs; dotted lines are the epochs whose weights were kept.",
        (
            "two line charts over the epochs; on the left the loss of training and of validation, on the right "
            "the validation Dice of each target"
        ),
    ),
    "3_patients": Words(
        "The slice with most tumour of the best, the median and the worst test patient: every modality, "
        "truth, probability of any tumour, "
        "prediction, and where it is wrong.",
        (
            "a row of brain slices for each of up to three test patients: the modalities in grey, then truth, "
            "probability, prediction and errors in colour"
        ),
    ),
    "2_costs": Words(
        "Dice of the whole tumour against parameters, and against slices predicted a second on this device.",
        (
            "two scatter plots with a dot and an interval for each network: mean Dice by parameters, and mean "
            "Dice by slices a second; the table has the numbers"
        ),
    ),
    "3_parameters": Words(
        "Parameters of each network by the number of filters of its first level.",
        (
            "line chart on logarithmic axes: the parameters of every network rise with the square of the "
            "filters, from 8 to 64"
        ),
    ),
    "1_maps": Words(
        (
            "Every attention map over the scan of some test patients, grey outside what the network sees; "
            "below each map the range of its values."
        ),
        (
            "a row of brain slices for each patient: the truth, then every attention map over the scan, from "
            "blue for none to yellow for most"
        ),
    ),
    "2_meaning": Words(
        "How well each map tells tumour from the rest of the brain, and brain from background, and the "
        "Dice that is lost when it is replaced by "
        "its mean. Below: the same for the input modalities themselves.",
        (
            "two dot charts with a line for each map: areas under the curve with intervals, and Dice lost with "
            "intervals; the table above has the numbers"
        ),
    ),
    "3_epochs": Words(
        (
            "One validation slice over the epochs: truth, probability of each tissue, attention maps, grey "
            "outside what the network sees."
        ),
        (
            "an animation, a frame for each epoch, of one brain slice: the truth, the probability of each "
            "tissue, the attention maps"
        ),
    ),
}
REPLACED = ("2_scores",)
"""Figures of a network that are plots in the report."""

ATTENTION = (
    "A map that shows the tumour has an area under the curve above that of the input modalities; one that "
    "is the same everywhere has a spread of 0 and an "
    "area of 0.5. A map that the network needs costs Dice when it is replaced by its mean in each slice. "
    "Of self-attention, a map shows how much of it each "
    "place receives; instead of replacing it, every place is made to attend to all alike, which may cost "
    "Dice where the map is flat too. In this comparison "
    "no slice is mirrored and nothing that was found is tidied. Test patients, 95 % intervals over patients."
)
TAUGHT = (
    " The gates were taught to show the tumour (`attention_weight` of the recipe), so that they do is what the "
    "loss asked for."
)
FIRST = " Of the networks that answer together the first is examined."


def compose_report(
    tables: Sequence[pd.DataFrame],
    about: Mapping[str, Any],
    settings: Mapping[str, Any],
    figures: Mapping[str, bytes],
    scores: Mapping[str, pd.DataFrame],
    drawn: Mapping[str, Mapping[str, bytes]],
    attention: Mapping[str, tuple[pd.DataFrame, Mapping[str, bytes]]],
    networks: Mapping[str, TrainedNetwork],
) -> str:
    """The page of one run: the answer, the comparison, each network, attention, the data, settings and versions.

    Args:
        tables: comparison, differences, costs, index, splits.
        about: the description of the prepared store.
        figures: of the comparison, name > PNG.
        scores: experiment > rows `set`, `patient`, `target`, `metric`, `value`.
        drawn: experiment > name > PNG.
        attention: experiment > the summary of its maps, and name > PNG or GIF; of those whose network attends.
        networks: experiment > its network, for what it says of how it was trained.
    """
    comparison, differences, costs, index, splits = tables
    best = rank(comparison, about)["network"].iloc[0]
    sections = [
        _comparison(comparison, differences, protocol(about, list(networks.values())), best, scores),
        _protocols(comparison),
    ]
    sections += [_reference(comparison)] if set(about["tissues"]) == REFERENCE_TISSUES else []
    sections += [_costs(costs, figures), *(_network(name, scores[name], drawn[name]) for name in scores)]
    sections += [_attention(name, *each, networks[name]) for name, each in attention.items()]
    sections += [_data(index, splits, about), describe_settings(settings, TRAINING)]
    title = f"Segmentation of {about['data_set']}"
    table = ("Mean Dice of test patients' volumes, and 95 % interval over patients", score_targets(comparison))
    return render_report(title, write_answer(comparison, about), table, sections, simulated=about["simulated"])


def _comparison(
    comparison: pd.DataFrame, differences: pd.DataFrame, rules: str, best: str, scores: Mapping[str, pd.DataFrame]
) -> Section:
    dice = comparison.query("protocol == 'volume' and metric == 'dice'")
    tables, others = [], differences[differences["baseline"] == best]
    if len(others):
        tables.append(
            (
                f"How much higher Dice is than {best}'s on the same patients, and 95 % interval",
                spread_targets(others, "difference", ["network"]),
            )
        )
    crossed = dice[dice["set"] != TEST]
    if len(crossed):
        text = (
            "Cross-validation: each patient predicted by the member that was not trained on him (but validated "
            "with him)"
        )
        tables.append((text, spread_targets(crossed, "mean", ["network", "patients"])))
    return Section("Networks compared", rules, tables, plots=[_means(dice[dice["set"] == TEST]), _patients(scores)])


def _means(dice: pd.DataFrame) -> Plot:
    said = [
        (
            f"{row.network}, {row.target}: mean Dice {write_interval(row.mean, row.low, row.high)}, "
            f"{row.patients} patients"
        )
        for row in dice.itertuples()
    ]
    dots = dice.assign(
        column=dice["target"], value=dice["mean"], series=dice["network"], name=dice["network"], says=said
    )
    return draw_strip(
        dots,
        "mean Dice",
        "Mean Dice of test patients for each network and target, with its 95 % interval over patients.",
    )


def _patients(scores: Mapping[str, pd.DataFrame]) -> Plot:
    """Dice of each test patient, for one network or for several."""
    tables = pd.concat([table.assign(series=name) for name, table in scores.items()], ignore_index=True)
    dice = tables[(tables["metric"] == "dice") & (tables["set"] == TEST)]
    said = [f"{row.patient}, {row.series}, {row.target}: Dice {row.value:.3f}" for row in dice.itertuples()]
    caption = (
        "Dice of each test patient's volume for each target. Point at a dot to see which patient it is, and "
        "where else he is."
    )
    return draw_strip(dice.assign(column=dice["target"], name=dice["patient"], says=said), "Dice", caption)


def _protocols(comparison: pd.DataFrame) -> Section:
    index, options = ["network", "target"], {"columns": "metric", "values": "mean", "sort": False}
    tables = [
        ("Protocol “volume”: mean over test patients", of_test(comparison).pivot_table(index=index, **options)),
        (
            "Protocol “slice”: mean over test slices that show tumour",
            of_test(comparison, SLICE).pivot_table(index=index, **options),
        ),
    ]
    text = (
        "fpr and fnr: rates of false positives and of misses. A rate of nothing is left out: recall and "
        "misses where a tissue isn't there, precision where "
        "none is found. hd95_mm: 95th percentile of the distance between surfaces in millimetres, 373.13 where one "
        f"mask is empty; surface_dice: share of the surfaces within {TOLERANCE:g} mm. Distances need a "
        "volume: they are missing where a patient's slices don't "
        "lie at equal distances."
    )
    return Section("All scores", text, [(caption, table.reset_index()) for caption, table in tables])


def _reference(comparison: pd.DataFrame) -> Section:
    table = of_test(comparison, REFERENCE)
    ours = table[table["target"] == MEAN].pivot(index="network", columns="metric", values="mean")
    rows = [
        (name, *REFERENCE_DICE.get(name, (float("nan"),) * 2), ours.loc[name, "dice"], ours.loc[name, "iou"])
        for name in comparison["network"].unique()
    ]
    columns = [
        "network",
        "reference: Dice",
        "reference: IoU",
        "ours, pooled likewise: Dice",
        "ours, pooled likewise: IoU",
    ]
    return Section(
        "Beside the reference", REFERENCE_TEXT, [("Mean of the three tissues", pd.DataFrame(rows, columns=columns))]
    )


def _costs(costs: pd.DataFrame, figures: Mapping[str, bytes]) -> Section:
    text = (
        "Operations, parameters and speed are of one network that sees each slice once; where several "
        "answer together, or see slices mirrored too "
        "(`prediction.tta_flip`), Dice is of that. Operations are counted for a forward pass of one slice; a "
        "training step takes about three times as many. "
        "Seconds are of this run on its device, beside whatever else it ran."
    )
    pictures = [Picture(figures[name], WORDS[name]) for name in ("2_costs", "3_parameters") if name in figures]
    return Section("What a network costs", text, [("", costs)], pictures)


def _network(name: str, scores: pd.DataFrame, figures: Mapping[str, bytes]) -> Section:
    dice = scores[(scores["metric"] == "dice") & (scores["set"] == TEST)]
    table = dice.pivot(index="patient", columns="target", values="value")[list(scores["target"].unique())]
    pictures = [Picture(png, WORDS[figure], name) for figure, png in figures.items() if figure not in REPLACED]
    return Section(
        name, "", [("Dice of each test patient's volume", table.reset_index())], pictures, [_patients({name: scores})]
    )


def _attention(name: str, summary: pd.DataFrame, figures: Mapping[str, bytes], network: TrainedNetwork) -> Section:
    gated = bool(summary["map"].str.startswith("gates.").any())
    taught = gated and network.description["recipe"].get("attention_weight", 0) > 0
    text = ATTENTION + TAUGHT * taught + FIRST * (len(network.members) > 1)
    shown = with_intervals(summary, "mean", ["map"], across="metric").fillna("")
    return Section(
        f"Attention of {name}",
        text,
        [("What each map means", shown)],
        [Picture(png, WORDS[figure], name) for figure, png in figures.items()],
    )


def _data(index: pd.DataFrame, splits: pd.DataFrame, about: Mapping[str, Any]) -> Section:
    text = f"Modalities {', '.join(about['modalities'])}; {about['standardisation']}. No patient is in two sets."
    tables, excluded = [("Patients and slices in each set", count_used(index, splits))], count_excluded(index)
    if len(excluded):
        tables.append(("What was left out, and why", excluded))
    return Section("Data", text, tables)
