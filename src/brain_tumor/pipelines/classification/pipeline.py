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
from brain_tumor.pipelines.experiments import name_entries

TASK = "classification"


def create_experiment(network: str) -> Pipeline:
    """Train one network, evaluate it on both test sets, look at where it looks."""
    train = ["images", "splits", "checkpoints", "params:experiment", "params:recipe", "params:training"]
    drawn = ["network", "predictions", "explanations", "looks", "images", "splits", "training_log"]
    return Pipeline(
        [
            Node(train_network, train, ["network", "training_log"], name="train_network"),
            Node(
                predict_images, ["network", "images", "splits", "params:training"], "predictions", name="predict_images"
            ),
            Node(score_images, ["network", "predictions", "splits"], "scores", name="score_images"),
            Node(
                explain_images,
                ["network", "predictions", "images", "splits", "params:training"],
                ["explanations", "looks"],
                name="explain_images",
            ),
            Node(draw_results, drawn, "figures", name="draw_results"),
        ],
        namespace=f"{TASK}.{network}",
        inputs={name: f"{TASK}.{name}" for name in ("images", "splits")},
        parameters={"experiment": f"{TASK}.{network}", "recipe": f"{TASK}.recipe", "training": "training"},
    )


def create_pipeline() -> Pipeline:
    """Every network of the task, then what compares them."""
    networks = networks_of(TASK)
    known = {name: name for name in ("images", "splits")}
    compared, shown, carded = (
        name_entries(networks, entries) for entries in (("scores", "predictions"), ("looks", "figures"), ("network",))
    )
    report = (
        known
        | {name: name for name in ("comparison", "differences", "duplicates")}
        | {"task": "params:task", "engine": "params:training"}
    )
    card = known | {"comparison": "comparison", "origin": "params:origin", "engine": "params:training"}
    comparison = Pipeline(
        [
            Node(
                compare_networks,
                known | compared,
                ["comparison", "differences", "comparison_figures"],
                name="compare_networks",
            ),
            Node(write_report, report | shown, "report", name="write_report"),
            Node(write_model_card, card | carded, "model_card", name="write_model_card"),
        ],
        namespace=TASK,
        inputs={inner: f"{TASK}.{entry}" for entry, inner in (compared | shown | carded).items()},
        parameters={"task": TASK, "training": "training", "origin": "data_classification.origin"},
    )
    return sum((create_experiment(network) for network in networks), comparison)
