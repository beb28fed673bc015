"""What the segmentation report says."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from brain_tumor.data.common.sets import TEST
from brain_tumor.figures.palette import colour_networks, name_network
from brain_tumor.metrics.segmentation import MEAN, REFERENCE, SLICE, choose_headline
from brain_tumor.metrics.surfaces import MAX_HD95_MM, TOLERANCE
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.data_segmentation.tables import count_excluded, count_used
from brain_tumor.reporting.formatting import with_intervals, write_interval, write_intervals
from brain_tumor.reporting.interactive_plot import Plot, draw_strip
from brain_tumor.reporting.leaderboard import lead
from brain_tumor.reporting.page import Fold, HeatMap, Link, Picture, Section, Table, Words, render_report
from brain_tumor.reporting.segmentation.tables import (
    name_metric,
    of_test,
    protocol,
    rank,
    score_targets,
    spread_targets,
    summarise_distances,
    write_answer,
)
from brain_tumor.reporting.settings_table import TRAINING, describe_settings
from brain_tumor.reporting.uncertainty import CURVES, HEADING, ORDER, spread_order, tell_least_sure

OURS = "this run, pooled likewise"
CERTAIN = 0.9995
"""A score from which a table shows 1.000."""

COSTS = {
    "gflops_a_slice": "GFLOPs a slice",
    "slices_a_second": "slices a second",
    "training_seconds": "seconds of training",
}
"""Columns of the costs > in the report."""

REFERENCE_SYSTEM = "deep-learning-project (Allone)"
REFERENCE_DICE = {"classic_unet": (0.861, 0.758), "improved_unet": (0.917, 0.847), "attention_unet": (0.918, 0.849)}
"""Dice and IoU at epoch 20 that REFERENCE_SYSTEM gives for these networks with 32 filters on BraTS 2020."""
REFERENCE_TISSUES = {"NCR", "ED", "ET"}
REFERENCE_TEXT = (
    f"{REFERENCE_SYSTEM} gives its scores after 20 epochs, with 32 filters. It splits by slice: all of its patients "
    "are in both sets, and nearly every validation slice has a neighbour of the same patient in training. Its Dice is "
    "pooled over batches of 32 mixed slices and averaged over batches. The last columns are scores of this run in the "
    "same pooling (protocol “reference”), but on unseen patients: the columns stand side by side, they can't be "
    "compared."
)
PREDICTIONS = "3_patients"
"""The figure of a network with predictions of test patients."""

WORDS = {
    "1_curves": Words(
        "Loss and validation Dice over the epochs; dotted lines are the epochs whose weights were kept.",
        (
            "two line charts over the epochs; on the left the loss of training and of validation, on the right "
            "the validation Dice of each target"
        ),
    ),
    PREDICTIONS: Words(
        "The slice with most tumour of the best, the median and the worst test patient: two modalities, reference "
        "mask, probability of any tumour, prediction, and errors. R and L are the patient's right and left.",
        (
            "a row of brain slices for each of up to three test patients: two modalities in grey, then reference "
            "mask, probability, prediction and errors in colour"
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
        "Every attention map over the scan of some test patients, grey outside the network's field of view; below "
        "each map the range of its values. R and L are the patient's right and left.",
        (
            "a row of brain slices for each patient: the reference mask, then every attention map over the scan, "
            "from blue for none to yellow for most"
        ),
    ),
    "2_meaning": Words(
        "How well each map tells tumour from the rest of the brain, and brain from background, and the Dice that is "
        "lost when it is replaced by its mean. Below: the same for the input modalities themselves.",
        (
            "two dot charts with a line for each map: areas under the curve with intervals, and Dice lost with "
            "intervals; the table has the numbers"
        ),
    ),
    "3_epochs": Words(
        "One validation slice over the epochs: reference mask, probability of each tissue, attention maps, grey "
        "outside the network's field of view. Move the slider to go through the epochs.",
        (
            "a strip of brain slices for each epoch: the reference mask, the probability of each tissue, the "
            "attention maps"
        ),
    ),
}
PHOTOS = {PREDICTIONS, "1_maps", "3_epochs"}
"""Figures made of scans."""

VIEWERS = (
    "Viewers of the best, the median and the worst test patient, with every modality, all slices in three planes, "
    "reference mask and prediction side by side, and a picture in 3-D:"
)

REPLACED = ("2_scores",)
"""Figures of a network that are plots in the report."""

CONFIDENCE_TEXT = (
    "The confidence of a mask is the Dice that the network's probabilities lead to expect (soft Dice confidence, "
    "Borges et al. 2024), from the same prediction as the mask: the mean over an image and its mirror image, and over "
    "the networks of an ensemble. It was chosen among six scores on 36 real patients in cross-validation. Networks are "
    "too sure: confidence orders patients, but its mean is above their Dice."
)
ATTENTION = (
    "A map that shows the tumour has a larger area under the curve than the input modalities. A uniform map has a "
    "spread of 0 and an area of 0.5. Dice falls when a map that the network needs is replaced by its mean in each "
    "slice. For self-attention, a map shows how much attention each place receives; instead of replacing the map, "
    "every place is made to attend to all places alike, which may cost Dice where the map is uniform too. This "
    "comparison uses no test-time augmentation and no post-processing. Test patients, 95 % intervals over patients."
)
TAUGHT = (
    " The gates were trained to show the tumour (`attention_weight` of the recipe): that they do is what the loss "
    "asked for."
)
FIRST = " The first network of the ensemble is examined."


def compose_report(
    tables: Sequence[pd.DataFrame],
    about: Mapping[str, Any],
    settings: Mapping[str, Any],
    figures: Mapping[str, bytes],
    scores: Mapping[str, pd.DataFrame],
    drawn: Mapping[str, Mapping[str, bytes]],
    attention: Mapping[str, tuple[pd.DataFrame, Mapping[str, bytes]]],
    networks: Mapping[str, TrainedNetwork],
    viewers: Mapping[str, Mapping[str, str]],
) -> str:
    """The page of one run: the answer, predictions, the comparison, each network, attention, the data, settings.

    Args:
        tables: comparison, differences, costs, uncertainty, index, splits.
        about: the description of the prepared store.
        figures: of the comparison, name > PNG.
        scores: experiment > rows `set`, `patient`, `target`, `metric`, `value`.
        drawn: experiment > name > PNG.
        attention: experiment > the summary of its maps, and name > PNG or GIF; of those whose network attends.
        networks: experiment > its network, for what it says of how it was trained.
        viewers: experiment > test patient > address of the page that shows all slices.
    """
    comparison, differences, costs, uncertainty, index, splits = tables
    best = rank(comparison, about)["network"].iloc[0]
    measured = protocol(about, list(networks.values()))
    dice = score_targets(comparison, index=["network", "patients"])
    sections = [
        compare(comparison, differences, measured, best, scores, tables=[("Mean Dice of each target", dice)]),
        _describe_uncertainty(uncertainty, figures, about),
        list_distances(comparison, scores),
    ]
    sections += [
        _describe_network(name, scores[name], drawn[name], viewers.get(name, {}), shown=name == best) for name in scores
    ]
    for name, (summary, maps) in attention.items():
        sections.append(_describe_attention(name, summary, maps, networks[name]))
    sections += [_describe_costs(costs, figures), list_scores(comparison)]
    # Scores of real patients say nothing beside those of phantoms.
    if set(about["tissues"]) == REFERENCE_TISSUES and not about["simulated"]:
        sections.append(_compare_reference(comparison))
    sections += [_describe_data(index, splits, about), describe_settings(settings, TRAINING)]
    title = f"Segmentation of {about['data_set']}"
    answer = write_answer(comparison, about)
    # Predictions of the best network are on top, beside the answer that is about it.
    on_top = {name: png for name, png in drawn[best].items() if name == PREDICTIONS}
    pictures = [_picture(best, name, png) for name, png in on_top.items()]
    table = _lead(comparison, differences, costs, networks, about)
    return render_report(title, answer, table, sections, simulated=about["simulated"], pictures=pictures)


def _lead(
    comparison: pd.DataFrame,
    differences: pd.DataFrame,
    costs: pd.DataFrame,
    networks: Mapping[str, TrainedNetwork],
    about: Mapping[str, Any],
) -> HeatMap:
    """The leaderboard, by the Dice of one target."""
    ranked = rank(comparison, about)
    target, best = ranked["target"].iloc[0], ranked["network"].iloc[0]
    scores = pd.DataFrame({"network": ranked["network"], f"Dice of {target}": write_intervals(ranked, "mean")})
    patients = int(ranked["patients"].iloc[0])
    caption = f"Leaderboard: mean Dice of {target} over {patients} test patient{'s' * (patients > 1)}"
    if len(ranked) > 1:
        to_best = differences[(differences["baseline"] == best) & (differences["target"] == target)]
        to_best = to_best.set_index("network").reindex(ranked["network"])
        words = [write_interval(row.difference, row.low, row.high, "+.3f") for row in to_best.itertuples()]
        scores["difference from the best"] = words
        caption += ", and its paired difference from the best, which isn't proven where its interval includes 0"
    rates = costs.rename(columns={"gflops_a_slice": "gflops", "slices_a_second": "a_second"})
    return lead(f"{caption}. Intervals are 95 % over patients.", scores, networks, rates, "slice")


def _describe_uncertainty(uncertainty: pd.DataFrame, figures: Mapping[str, bytes], about: Mapping[str, Any]) -> Section:
    """Whether the confidence of each network orders the patients by Dice, and how many errors the least sure hold."""
    target = choose_headline(about["targets"])
    tested = uncertainty[uncertainty["set"] == TEST]
    own = tested[tested["target"] == target]
    text = tell_least_sure(own, int(own["patients"].max()), "test patients", f"the Dice that it loses in {target}")
    shown = _name_networks(spread_order(own, ["network", "patients"]))
    index = ["network", "target", "patients"]
    every = [
        (f"{name} patients", _name_networks(spread_order(part, index)))
        for name, part in uncertainty.groupby("set", sort=False)
    ]
    folds = [Fold("Every target", tables=every), Fold("How measured", f"{CONFIDENCE_TEXT} {ORDER}")]
    pictures = [Picture(figures["4_risk_coverage"], CURVES)]
    return Section(HEADING, text, [(f"Order of test patients by confidence in {target}", shown)], pictures, folds=folds)


def _name_networks(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(network=table["network"].map(name_network))


def map_scores(comparison: pd.DataFrame, whose: str = "test patient") -> HeatMap:
    """Mean Dice of every network and target. The number of patients, the same everywhere, is in the caption.

    Args:
        whose: what a patient is called, in the singular; so in other sections.
    """
    dice = of_test(comparison).query("metric == 'dice'")
    counts = dice["patients"].unique().tolist()
    index = ["network"]
    patients = ""
    if len(counts) == 1:
        patients = f" of {counts[0]} {whose}{'s' * (counts[0] > 1)}"
    else:
        index.append("patients")
    table = score_targets(comparison, index=index)
    targets = [name for name in table if name not in index]
    caption = f"Mean Dice{patients} and 95 % interval over patients; more colour is higher"
    return HeatMap(caption, table[["network", *targets, *index[1:]]], targets)


def _picture(name: str, figure: str, content: bytes) -> Picture:
    photo = figure in PHOTOS
    return Picture(
        content,
        WORDS[figure],
        name_network(name),
        photo=photo,
        wide=photo,
        frame="epoch",
    )


def compare(
    comparison: pd.DataFrame,
    differences: pd.DataFrame,
    measured: str,
    best: str,
    scores: Mapping[str, pd.DataFrame],
    heading: str = "Networks compared",
    whose: str = "test patient",
    tables: Sequence[Table] = (),
) -> Section:
    """Tables that are given, means and patients of every network as plots, the paired differences from the best one."""
    dice = comparison.query("protocol == 'volume' and metric == 'dice'")
    others = differences[differences["baseline"] == best]
    crossed = dice[dice["set"] != TEST]
    folds = []
    # A single network has no others to differ from.
    if len(others):
        summary = f"Differences from {name_network(best)} on the same patients"
        table = spread_targets(others, "difference", ["network"])
        folds.append(Fold(summary, tables=[("Difference in Dice, and 95 % interval", table)]))
    # Rows of other sets than the test set come from cross-validation, which is a setting.
    if len(crossed):
        caption = (
            "Cross-validation: the network that predicts a patient was not trained on them (but its epoch may have "
            "been chosen with them)"
        )
        table = spread_targets(crossed, "mean", ["network", "patients"])
        folds.append(Fold("Cross-validation", tables=[(caption, table)]))
    folds.append(Fold("How measured", measured))
    plots = [_plot_means(dice[dice["set"] == TEST], whose), _plot_patients(scores, whose)]
    return Section(heading, tables=tables, plots=plots, folds=folds)


def _plot_means(dice: pd.DataFrame, whose: str = "test patient") -> Plot:
    # Names as shown: pointing at a dot lights up the dots of its name in other plots too.
    names = dice["network"].map(name_network)
    said = [
        f"{name}, {row.target}: mean Dice {write_interval(row.mean, row.low, row.high)}, {row.patients} patients"
        for name, row in zip(names, dice.itertuples(), strict=True)
    ]
    dots = dice.assign(
        column=dice["target"],
        value=dice["mean"],
        series=names,
        name=names,
        says=said,
    )
    caption = f"Mean Dice of {whose}s for each network and target, with its 95 % interval over patients."
    return draw_strip(dots, "mean Dice", caption, colours=colour_networks(names))


def _plot_patients(scores: Mapping[str, pd.DataFrame], whose: str = "test patient") -> Plot:
    """Dice of each patient, for one network or for several."""
    named = [table.assign(series=name_network(name)) for name, table in scores.items()]
    tables = pd.concat(named, ignore_index=True)
    dice = tables[(tables["metric"] == "dice") & (tables["set"] == TEST)]
    said = [f"{row.patient}, {row.series}, {row.target}: Dice {row.value:.3f}" for row in dice.itertuples()]
    caption = (
        f"Dice of each {whose}'s volume for each target. Point at a dot to see which patient it is; all dots of "
        "the patient light up."
    )
    dots = dice.assign(column=dice["target"], name=dice["patient"], says=said)
    return draw_strip(dots, "Dice", caption, colours=colour_networks(dots["series"]))


def list_distances(
    comparison: pd.DataFrame,
    scores: Mapping[str, pd.DataFrame],
    whose: str = "test patient",
) -> Section:
    """Median and mean HD95 of every network and target."""
    text = (
        "HD95 is the 95th percentile of the distance between the surfaces of reference mask and prediction. One empty "
        f"mask has the penalty of {MAX_HD95_MM} mm, which can make the mean: the median comes first. Distances need a "
        "volume; they are missing where a patient's slices don't lie at equal distances."
    )
    table = (f"Median HD95 of {whose}s in millimetres", summarise_distances(comparison, scores))
    return Section("Surface distance", text, [table])


def list_scores(comparison: pd.DataFrame, whose: str = "test patient") -> Section:
    """Every metric of every network and target, in two protocols, as far as they were measured."""
    tables, certain = [], set()
    for caption, rows in (
        (f"Protocol “volume”: mean over {whose}s", of_test(comparison)),
        ("Protocol “slice”: mean over test slices that show tumour", of_test(comparison, SLICE)),
    ):
        if rows.empty:
            continue
        # Not `pivot`, which always sorts.
        table = rows.pivot_table(index=["network", "target"], columns="metric", values="mean", sort=False)
        # A column that is 1.000 in every row is a sentence and no column. Distances in mm may all be above 1.
        perfect = [name for name in table if table[name].between(CERTAIN, 1).all()]
        certain |= set(perfect)
        table = table.drop(columns=perfect).rename(columns=name_metric, index=name_network).reset_index()
        tables.append((caption, table))
    text = (
        "Undefined rates are excluded from a mean: recall and false negative rate where the reference mask is empty, "
        f"precision where the prediction is. Surface Dice has a tolerance of {TOLERANCE:g} mm."
    )
    # Sorted, because a set has no order.
    if certain:
        text += f" Not shown, because 1.000 in every row: {', '.join(sorted(map(name_metric, certain)))}."
    return Section("All scores", text, tables, folded=True)


def _compare_reference(comparison: pd.DataFrame) -> Section:
    table = of_test(comparison, REFERENCE)
    ours = table[table["target"] == MEAN].pivot(index="network", columns="metric", values="mean")
    rows = []
    nothing = (float("nan"), float("nan"))
    for name in comparison["network"].unique():
        # The reference system lacks networks that are here.
        published = REFERENCE_DICE.get(name, nothing)
        own = ours.loc[name]
        rows.append((name_network(name), *published, own["dice"], own["iou"]))
    columns = ["network"]
    for system in (REFERENCE_SYSTEM, OURS):
        columns += [f"{system}: Dice", f"{system}: IoU"]
    scores = ("Mean of the three tissues", pd.DataFrame(rows, columns=columns))
    return Section(f"Beside {REFERENCE_SYSTEM}", REFERENCE_TEXT, [scores])


def _describe_costs(costs: pd.DataFrame, figures: Mapping[str, bytes]) -> Section:
    text = (
        "Operations, parameters and speed are of one network without test-time augmentation; Dice is of the whole "
        "ensemble, with test-time augmentation where `prediction.tta_flip` is set. Operations are counted for a "
        "forward pass of one slice; a training step takes about three times as many. Seconds were measured on this "
        "run's device, beside whatever else it ran."
    )
    # The first figure of the comparison is a plot of the report.
    pictures = [Picture(figures[name], WORDS[name]) for name in ("2_costs", "3_parameters") if name in figures]
    table = costs.assign(network=costs["network"].map(name_network)).rename(columns=COSTS)
    return Section("What a network costs", text, [("", table)], pictures)


def _describe_network(
    name: str,
    scores: pd.DataFrame,
    figures: Mapping[str, bytes],
    viewers: Mapping[str, str],
    *,
    shown: bool,
) -> Section:
    """Of one network viewers, its predictions (if they aren't shown already), its curves and its test patients."""
    dice = scores[(scores["metric"] == "dice") & (scores["set"] == TEST)]
    table = dice.pivot(index="patient", columns="target", values="value")
    # A pivot sorts its columns by name.
    table = table[list(scores["target"].unique())]
    left = {figure: content for figure, content in figures.items() if figure not in REPLACED}
    if shown:
        left.pop(PREDICTIONS, None)
    # False sorts before True: predictions come first, the others keep their order.
    order = sorted(left, key=lambda figure: figure != PREDICTIONS)
    pictures = [_picture(name, figure, left[figure]) for figure in order]
    folds = [Fold("Dice of each test patient", tables=[("Dice of each patient's volume", table.reset_index())])]
    target = choose_headline(scores["target"])
    links = [
        Link(f"{patient}: {target} Dice {table.loc[patient, target]:.3f}", address)
        for patient, address in viewers.items()
    ]
    return Section(
        name_network(name),
        VIEWERS if links else "",
        pictures=pictures,
        plots=[_plot_patients({name: scores})],
        folds=folds,
        links=links,
    )


def _describe_attention(
    name: str,
    summary: pd.DataFrame,
    figures: Mapping[str, bytes],
    network: TrainedNetwork,
) -> Section:
    gated = bool(summary["map"].str.startswith("gates.").any())
    weight = network.description["recipe"].get("attention_weight", 0)
    text = ATTENTION
    # The loss of `attention_weight` is of gates: self-attention is never taught.
    if gated and weight > 0:
        text += TAUGHT
    if len(network.members) > 1:
        text += FIRST
    table = with_intervals(summary, "mean", ["map"], across="metric")
    # Modalities have no ablation, so no Dice that is lost.
    table = table.fillna("").rename(columns=name_metric)
    pictures = [_picture(name, figure, content) for figure, content in figures.items()]
    folds = [Fold("What each map means, in numbers", tables=[("Mean and 95 % interval over test patients", table)])]
    folds.append(Fold("How measured", text))
    return Section(f"Attention of {name_network(name)}", pictures=pictures, folds=folds)


def _describe_data(
    index: pd.DataFrame,
    splits: pd.DataFrame,
    about: Mapping[str, Any],
) -> Section:
    text = f"Modalities {', '.join(about['modalities'])}; {about['standardisation']}. No patient is in two sets."
    tables = [("Patients and slices in each set", count_used(index, splits))]
    excluded = count_excluded(index)
    if len(excluded):
        tables.append(("Excluded, and why", excluded))
    return Section("Data", text, tables)
