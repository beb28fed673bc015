"""Nodes that draw results, compare networks and write report and card."""

from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.common.provenance import Origin
from brain_tumor.data.common.store import Store, require_made_from
from brain_tumor.data.images.split import list_test_sets
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics import classification as metrics
from brain_tumor.metrics.saliency import REGIONS, mean_shares
from brain_tumor.metrics.uncertainty import order_images, trace_risk
from brain_tumor.networks.trained import TrainedNetwork, require_made_by
from brain_tumor.pipelines.classification.evaluation import load_predictions
from brain_tumor.pipelines.experiments import Figures, gather
from brain_tumor.reporting.classification.model_card import compose_model_card
from brain_tumor.reporting.classification.report import compose_report
from brain_tumor.training.settings import EngineSettings

UNCERTAINTY = ["network", "test_set", "metric", "value", "low", "high", "images", "persons"]
"""Columns of the table that says whether confidence orders errors."""

SHOWN = 4
"""Correctly classified images of each class in a figure."""


def draw_results(
    network: TrainedNetwork,
    predictions: Store,
    explanations: Store,
    saliency: pd.DataFrame,
    images: Store,
    splits: pd.DataFrame,
    training_log: pd.DataFrame,
) -> Figures:
    """Figures: learning curves, confusion, reliability, first kernels, saliency maps, the most confident mistakes."""
    from brain_tumor.figures import classification as figures
    from brain_tumor.training.classification.saliency import first_kernels

    for made in (predictions, explanations):
        require_made_from(made, images)
        require_made_by(made, network)
    about = images.description
    title = f"{name_network(network.experiment)}{', SIMULATED' if about['simulated'] else ''}"
    table, logits = load_predictions(predictions, splits)
    probability = metrics.to_probability(logits)
    table = table.assign(predicted=probability.argmax(1), confidence=probability.max(1))
    confusion = {}
    test_sets = list_test_sets(splits)
    for name in test_sets:
        chosen = table[f"{name}_test"].to_numpy()
        confusion[name] = metrics.confusion_matrix(probability[chosen], table.loc[chosen, "label"].to_numpy())
    reliability = _reliability(table, logits, network.description["temperature"], test_sets[0])
    right, wrong = _choose_shown(table, explanations, images)
    regions = f"{title}: saliency by region, and that of a uniform map"
    drawn = {
        "1_curves": figures.draw_curves(*_first_fold(training_log, network), f"{title}: training"),
        "2_confusion": figures.draw_confusion(confusion, about["classes"], f"{title}: test images"),
        "3_reliability": figures.draw_reliability(reliability, f"{title}: test set {test_sets[0]}"),
        "5_saliency": figures.draw_saliency(right, f"{title}: saliency of images classified correctly"),
        "6_regions": figures.draw_regions(mean_shares(saliency), REGIONS, regions),
    }
    kernels = first_kernels(network.member(0))
    if figures.show_structure(kernels, about["image_size"]):
        drawn["4_kernels"] = figures.draw_kernels(kernels, f"{title}: kernels of the first layer")
    if wrong:
        drawn["7_mistakes"] = figures.draw_saliency(wrong, f"{title}: most confident mistakes")
    return drawn


def _first_fold(log: pd.DataFrame, network: TrainedNetwork) -> tuple[pd.DataFrame, float]:
    """The log of the first fold, or of the only training, and the epoch whose weights were kept."""
    first = network.description["kept"][0]
    return (log[log["fold"] == 0] if "fold" in log else log), first["epoch"]


def _reliability(table: pd.DataFrame, logits: np.ndarray, temperature: float, test_set: str) -> dict[str, pd.DataFrame]:
    """Reliability diagrams of a test set, before and after temperature scaling."""
    chosen = table[f"{test_set}_test"].to_numpy()
    label = table.loc[chosen, "label"].to_numpy()
    return {
        "as trained": metrics.calibrate(metrics.to_probability(logits[chosen]), label),
        f"temperature {temperature:.2f}": metrics.calibrate(metrics.to_probability(logits[chosen], temperature), label),
    }


def _choose_shown(table: pd.DataFrame, explanations: Store, images: Store) -> tuple[list[Any], list[Any]]:
    """Saliency maps of SHOWN correctly classified images of each class, and of the most confident mistakes."""
    rows = explanations.rows.reset_index(names="number").merge(table.drop(columns="row"), on="file")
    hit = rows["label"] == rows["predicted"]
    right = rows[hit].groupby("label").head(SHOWN).sort_values("label")
    wrong = rows[~hit].sort_values("confidence", ascending=False).head(4 * SHOWN)
    return _read_shown(right, explanations, images), _read_shown(wrong, explanations, images)


def _read_shown(rows: pd.DataFrame, explanations: Store, images: Store) -> list[Any]:
    from brain_tumor.figures import classification as figures

    classes = images.description["classes"]
    (saliency,) = explanations.read(rows["number"].to_numpy(), "saliency")
    (image,) = images.read(rows["row"].to_numpy(), "image")
    shown = []
    for row, own, picture in zip(rows.itertuples(), saliency.astype(np.float32), image[:, 0], strict=True):
        name = row.file.rsplit("/", 1)[-1]
        caption = f"{classes[row.label]}, predicted {classes[row.predicted]} {row.confidence:.2f}\n{name}"
        shown.append(figures.SaliencyImage(caption, picture, own))
    return shown


def compare_networks(
    images: Store, splits: pd.DataFrame, **results: Any
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, Figures]:
    """Scores of all experiments, McNemar's test of each pair over persons, costs, whether confidence orders errors.

    And figures.

    Args:
        results: `<experiment>.scores`, `<experiment>.predictions` and `<experiment>.cost` of each experiment.
    """
    from brain_tumor.figures import classification as figures
    from brain_tumor.figures.uncertainty import draw_risk_coverage

    scores = [table.assign(network=name) for name, table in gather(results, "scores").items()]
    comparison = pd.concat(scores, ignore_index=True)
    costs = pd.concat(gather(results, "cost").values(), ignore_index=True)
    correct, orders, curves = {}, [], {}
    test_set = list_test_sets(splits)[0]
    for name, store in gather(results, "predictions").items():
        require_made_from(store, images)
        table, logits = load_predictions(store, splits)
        # In the order of the files, so that networks are compared on the same persons.
        rows = table[table[f"{test_set}_test"]].sort_values("file")
        probability = metrics.to_probability(logits[rows.index])
        label, person = rows["label"].to_numpy(), rows["person"].to_numpy()
        correct[name], _ = metrics.vote(probability, label, person)
        # The confidence that new images are given: at the temperature, which changes the order of images.
        confidence = metrics.to_probability(logits[rows.index], _find_temperature(comparison, name)).max(1)
        right = probability.argmax(1) == label
        counts = {"network": name, "test_set": test_set, "images": len(rows), "persons": len(set(person))}
        orders.append(order_images(confidence, right, person).assign(**counts))
        curves[name] = trace_risk(confidence, (~right).astype(float))
    tested = len(next(iter(correct.values())))
    differences = metrics.compare(correct).assign(test_set=test_set, persons=tested)
    about = images.description
    mark = ", SIMULATED" if about["simulated"] else ""
    title = f"{about['data_set']}{mark}"
    drawn = {
        "1_comparison": figures.draw_comparison(comparison, f"{title}: test images, 95 % intervals"),
        "2_risk_coverage": draw_risk_coverage(curves, "error rate", "test images", f"{title}: risk and coverage"),
    }
    return comparison, differences, costs, pd.concat(orders, ignore_index=True)[UNCERTAINTY], drawn


def _find_temperature(comparison: pd.DataFrame, network: str) -> float:
    rows = comparison[(comparison["network"] == network) & (comparison["metric"] == "temperature")]
    return float(rows["value"].iloc[0])


def write_report(
    comparison: pd.DataFrame,
    differences: pd.DataFrame,
    costs: pd.DataFrame,
    uncertainty: pd.DataFrame,
    images: Store,
    splits: pd.DataFrame,
    duplicates: pd.DataFrame,
    task: dict[str, Any],
    engine: EngineSettings,
    figures: dict[str, bytes],
    **results: Any,
) -> str:
    """The report as one HTML page.

    Args:
        task: the task's block of the parameters: recipe, and each experiment.
        figures: of the comparison.
        results: `<experiment>.saliency`, `.policies`, `.figures` and `.network` of each experiment.
    """
    saliency = gather(results, "saliency")
    drawn = gather(results, "figures")
    policies = pd.concat(gather(results, "policies").values(), ignore_index=True)
    settings = task | {"training": engine}
    about = images.description
    tables = [comparison, differences, costs, uncertainty, splits, duplicates]
    networks = gather(results, "network")
    return compose_report(tables, about, saliency, policies, figures, drawn, networks, settings)


def write_model_card(
    comparison: pd.DataFrame,
    images: Store,
    splits: pd.DataFrame,
    origin: Origin,
    engine: EngineSettings,
    **results: TrainedNetwork,
) -> str:
    """The model card of all networks of the task.

    Args:
        results: `<experiment>.network` of each experiment.
    """
    settings = {"training": engine.model_dump(exclude_none=True)}
    networks = list(gather(results, "network").values())
    return compose_model_card(comparison, images.description, splits, origin, settings, networks)
