"""Classification: one experiment for each network, then their comparison and the report."""

from kedro.pipeline import Node, Pipeline

from brain_tumor.networks import networks_of
from brain_tumor.pipelines.classification.nodes import (
    compare_networks,
    draw_results,
    explain_images,
    predict_images,
    score_images,
    train_network,
    write_model_card,
    write_report,
)

TASK = "classification"


def create_experiment(network: str) -> Pipeline:
    """Train one network, evaluate it on both test sets, look at where it looks."""
    train = ["images", "splits", "checkpoints", "params:experiment", "params:recipe", "params:training"]
    drawn = ["network", "predictions", "explanations", "looks", "images", "splits", "training_log"]
    return Pipeline(
        [
            Node(train_network, train, ["network", "training_log"], name="train_network"),
            Node(predict_images, ["network", "images", "splits", "params:training"], "predictions", name="predict_images"),
            Node(score_images, ["network", "predictions", "splits"], "scores", name="score_images"),
            Node(explain_images, ["network", "predictions", "images", "splits", "params:training"], ["explanations", "looks"], name="explain_images"),
            Node(draw_results, drawn, "figures", name="draw_results"),
        ],
        namespace=f"{TASK}.{network}",
        inputs={name: f"{TASK}.{name}" for name in ("images", "splits")},
        parameters={"experiment": f"{TASK}.{network}", "recipe": f"{TASK}.recipe", "training": "training"},
    )


def create_pipeline() -> Pipeline:
    """Every network of the task, then what compares them."""
    networks = networks_of(TASK)
    entries = {entry: [f"{name}_{entry}" for name in networks] for entry in ("scores", "predictions", "looks", "figures", "network")}
    known = ["comparison", "images", "splits"]
    report = ["comparison", "differences", "images", "splits", "duplicates", "params:task", "params:training", *entries["looks"], *entries["figures"]]
    comparison = Pipeline(
        [
            Node(
                compare_networks,
                ["images", "splits", *entries["scores"], *entries["predictions"]],
                ["comparison", "differences", "comparison_figures"],
                name="compare_networks",
            ),
            Node(write_report, report, "report", name="write_report"),
            Node(write_model_card, [*known, "params:origin", "params:training", *entries["network"]], "model_card", name="write_model_card"),
        ],
        namespace=TASK,
        inputs={f"{name}_{entry}": f"{TASK}.{name}.{entry}" for name in networks for entry in entries},
        parameters={"task": TASK, "training": "training", "origin": "data_classification.origin"},
    )
    return sum((create_experiment(network) for network in networks), comparison)
