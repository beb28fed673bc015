"""Segmentation: one experiment for each network, then their comparison and the report."""

from collections.abc import Iterable, Mapping

from kedro.pipeline import Node, Pipeline

from brain_tumor.pipelines.experiments import name_entries
from brain_tumor.pipelines.segmentation.attention import draw_attention, examine_attention, summarise_attention
from brain_tumor.pipelines.segmentation.comparison import compare_networks, write_model_card, write_report
from brain_tumor.pipelines.segmentation.evaluation import (
    count_pixels,
    draw_results,
    measure_cost,
    predict_patients,
    score_patients,
    summarise_scores,
)
from brain_tumor.pipelines.segmentation.stress import compare_stress, stress_network, write_stress_report
from brain_tumor.pipelines.segmentation.training import WITH_ATTENTION, train_network
from brain_tumor.pipelines.segmentation.viewers import draw_viewers

TASK = "segmentation"
STRESS = "stress_test"
INPUTS = {name: f"{TASK}.{name}" for name in ("slices", "splits")}
"""Entries that all experiments share, by their names inside one."""

PARAMETERS = {name: f"{TASK}.{name}" for name in ("recipe", "prediction", "folds", "initial_weights")}
PARAMETERS |= {name: name for name in ("training", "viewer")}


def create_experiment(experiment: str, network: str) -> Pipeline:
    """Train a network and evaluate it on the test patients."""
    nodes = [_train(), *_evaluate()]
    if network in WITH_ATTENTION:
        nodes += _examine_attention()
    parameters = PARAMETERS | {"experiment": f"{TASK}.{experiment}"}
    return Pipeline(nodes, namespace=f"{TASK}.{experiment}", inputs=INPUTS, parameters=parameters, tags=experiment)


def _train() -> Node:
    inputs = ["slices", "splits", "checkpoints", "params:experiment", "params:recipe", "params:training"]
    inputs += ["params:folds", "params:initial_weights"]
    return Node(train_network, inputs, ["network", "training_log", "history"], name="train_network", tags="training")


def _evaluate() -> list[Node]:
    predicted_from = ["network", "slices", "splits", "params:prediction", "params:training"]
    summarised = ["patient_scores", "pixel_counts", "slices", "network"]
    drawn = ["network", "predictions", "slices", "patient_scores", "training_log"]
    viewed = ["network", "predictions", "slices", "patient_scores", "params:viewer"]
    return [
        Node(predict_patients, predicted_from, "predictions", name="predict_patients"),
        Node(count_pixels, ["predictions", "slices"], "pixel_counts", name="count_pixels"),
        Node(score_patients, ["pixel_counts", "predictions", "slices"], "patient_scores", name="score_patients"),
        Node(summarise_scores, summarised, "summary", name="summarise_scores"),
        Node(measure_cost, ["network", "slices", "training_log", "params:training"], "cost", name="measure_cost"),
        Node(draw_results, drawn, "figures", name="draw_results"),
        Node(draw_viewers, viewed, "viewers", name="draw_viewers"),
    ]


def _examine_attention() -> list[Node]:
    examined = ["network", "slices", "splits", "params:training"]
    summarised = ["attention_scores", "slices", "network"]
    drawn = ["attention_summary", "attention_maps", "history", "slices", "network"]
    return [
        Node(examine_attention, examined, ["attention_scores", "attention_maps"], name="examine_attention"),
        Node(summarise_attention, summarised, "attention_summary", name="summarise_attention"),
        Node(draw_attention, drawn, "attention_figures", name="draw_attention"),
    ]


def create_pipeline(experiments: Mapping[str, str]) -> Pipeline:
    """Every experiment of the task, then their comparison.

    Args:
        experiments: name > network.
    """
    return sum((create_experiment(*experiment) for experiment in experiments.items()), _compare(experiments))


def _compare(networks: Mapping[str, str]) -> Pipeline:
    data = ["index", "splits", "slices"]
    tables = ["comparison", "differences", "costs", "uncertainty"]
    results = name_entries(networks, ("summary", "patient_scores", "cost", "network"))
    shown = name_entries(networks, ("patient_scores", "figures", "network", "viewers"))
    examined = [name for name, network in networks.items() if network in WITH_ATTENTION]
    shown |= name_entries(examined, ("attention_summary", "attention_figures"))
    # Nodes take entries by name, because the number of experiments varies.
    report = {name: name for name in (*tables, *data)}
    report |= {"task": "params:task", "engine": "params:training", "figures": "comparison_figures"}
    card = {name: name for name in ("comparison", *data)}
    card |= {"prediction": "params:prediction", "origin": "params:origin", "engine": "params:training"}
    nodes = [
        Node(
            compare_networks, {"slices": "slices"} | results, [*tables, "comparison_figures"], name="compare_networks"
        ),
        Node(write_report, report | shown, "report", name="write_report"),
        Node(write_model_card, card | name_entries(networks, ["network"]), "model_card", name="write_model_card"),
    ]
    return Pipeline(
        nodes,
        namespace=TASK,
        # Entries of the experiments keep their own names outside the pipeline.
        inputs={inner: f"{TASK}.{entry}" for entry, inner in (results | shown).items()},
        parameters={"task": TASK, "training": "training", "origin": "data_segmentation.origin"},
    )


def create_stress_test(experiments: Iterable[str]) -> Pipeline:
    """Every trained network on corrupted slices of the test patients, and the report."""
    shared = {"stress": STRESS, "training": "training", "prediction": f"{TASK}.prediction"}
    each = ["network", *INPUTS, "params:prediction", "params:training", "params:stress"]
    parts = []
    for experiment in experiments:
        node = Node(stress_network, each, "stress", name="stress_network", tags=experiment)
        inputs = INPUTS | {"network": f"{TASK}.{experiment}.network"}
        parts.append(Pipeline([node], namespace=f"{STRESS}.{experiment}", inputs=inputs, parameters=shared))
    results = name_entries(experiments, ["stress"])
    reported = ["table", "figures", "slices", "params:stress", "params:training"]
    compared = Pipeline(
        [
            Node(compare_stress, {"slices": "slices"} | results, ["table", "figures"], name="compare_stress"),
            Node(write_stress_report, reported, "report", name="write_stress_report"),
        ],
        namespace=STRESS,
        inputs={"slices": INPUTS["slices"]} | {inner: f"{STRESS}.{entry}" for entry, inner in results.items()},
        parameters={"stress": STRESS, "training": "training"},
    )
    return sum(parts, compared)
