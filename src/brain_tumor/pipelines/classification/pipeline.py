"""Classification: one experiment for each network, then their comparison and the report."""

from collections.abc import Iterable, Mapping

from kedro.pipeline import Node, Pipeline

from brain_tumor.pipelines.classification.comparison import (
    compare_networks,
    draw_results,
    write_model_card,
    write_report,
)
from brain_tumor.pipelines.classification.evaluation import (
    compare_policies,
    explain_images,
    measure_cost,
    predict_images,
    score_images,
)
from brain_tumor.pipelines.classification.training import train_network
from brain_tumor.pipelines.experiments import name_entries

TASK = "classification"


def create_experiment(network: str) -> Pipeline:
    """Train one network, evaluate it on both test sets, and explain it by saliency maps."""
    trained = ["images", "splits", "checkpoints", "params:experiment", "params:recipe", "params:training"]
    predicted = ["network", "images", "splits", "params:training"]
    explained = ["network", "predictions", "images", "splits", "params:training"]
    data = ["params:data_set", "params:split", "params:compare_policies"]
    trained_again = ["images", "index", "duplicates", "policy_checkpoints", *trained[3:], *data]
    # Last, as in the functions.
    trained.append("params:initial_weights")
    trained_again.append("params:initial_weights")
    drawn = ["network", "predictions", "explanations", "saliency", "images", "splits", "training_log"]
    nodes = [
        Node(train_network, trained, ["network", "training_log"], name="train_network", tags="training"),
        Node(predict_images, predicted, "predictions", name="predict_images"),
        Node(score_images, ["network", "predictions", "splits"], "scores", name="score_images"),
        Node(measure_cost, ["network", "images", "training_log", "params:training"], "cost", name="measure_cost"),
        Node(compare_policies, trained_again, "policies", name="compare_policies"),
        Node(explain_images, explained, ["explanations", "saliency"], name="explain_images"),
        Node(draw_results, drawn, "figures", name="draw_results"),
    ]
    return Pipeline(
        nodes,
        namespace=f"{TASK}.{network}",
        inputs={name: f"{TASK}.{name}" for name in ("images", "splits", "index", "duplicates")},
        parameters={
            "experiment": f"{TASK}.{network}",
            "recipe": f"{TASK}.recipe",
            "compare_policies": f"{TASK}.compare_policies",
            "initial_weights": f"{TASK}.initial_weights",
            "training": "training",
            "data_set": "data_classification.data_set",
            "split": "data_classification.split",
        },
        tags=network,
    )


def create_pipeline(experiments: Mapping[str, str]) -> Pipeline:
    """Every experiment of the task, then their comparison.

    Args:
        experiments: name > network.
    """
    return sum((create_experiment(experiment) for experiment in experiments), _compare(experiments))


def _compare(networks: Iterable[str]) -> Pipeline:
    data = {name: name for name in ("images", "splits")}
    compared = name_entries(networks, ("scores", "predictions", "cost"))
    shown = name_entries(networks, ("saliency", "policies", "figures", "network"))
    carded = name_entries(networks, ("network",))
    # Nodes take entries by name, because the number of experiments varies.
    report = data | {name: name for name in ("comparison", "differences", "costs", "uncertainty", "duplicates")}
    report |= {"task": "params:task", "engine": "params:training", "figures": "comparison_figures"}
    card = data | {"comparison": "comparison", "origin": "params:origin", "engine": "params:training"}
    tables = ["comparison", "differences", "costs", "uncertainty", "comparison_figures"]
    nodes = [
        Node(compare_networks, data | compared, tables, name="compare_networks"),
        Node(write_report, report | shown, "report", name="write_report"),
        Node(write_model_card, card | carded, "model_card", name="write_model_card"),
    ]
    return Pipeline(
        nodes,
        namespace=TASK,
        # Entries of the experiments keep their own names outside the pipeline.
        inputs={inner: f"{TASK}.{entry}" for entry, inner in (compared | shown | carded).items()},
        parameters={"task": TASK, "training": "training", "origin": "data_classification.origin"},
    )
