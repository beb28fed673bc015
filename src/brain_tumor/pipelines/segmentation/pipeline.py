"""Segmentation: one experiment for each network, then their comparison and the report."""

from kedro.pipeline import Node, Pipeline

from brain_tumor.pipelines.segmentation.nodes import (
    compare_networks,
    draw_results,
    predict_patients,
    score_patients,
    summarise_scores,
    train_network,
    write_report,
)

TASK = "segmentation"
EXPERIMENTS = ("classic_unet",)
"""Networks that are trained and compared. ImprovedUNet and AttentionUNet join when they have recipes that fit the sample's few minutes."""


def create_experiment(network: str) -> Pipeline:
    """Train one network and evaluate it on the test patients."""
    return Pipeline(
        [
            Node(
                train_network,
                ["slices", "splits", "checkpoints", "params:experiment", "params:recipe", "params:training"],
                ["network", "training_log"],
                name="train_network",
            ),
            Node(predict_patients, ["network", "slices", "splits", "params:prediction", "params:training"], "predictions", name="predict_patients"),
            Node(score_patients, ["predictions", "slices"], "patient_scores", name="score_patients"),
            Node(summarise_scores, ["patient_scores", "network"], "summary", name="summarise_scores"),
            Node(draw_results, ["network", "predictions", "slices", "patient_scores", "training_log"], "figures", name="draw_results"),
        ],
        namespace=f"{TASK}.{network}",
        inputs={"slices": f"{TASK}.slices", "splits": f"{TASK}.splits"},
        parameters={"experiment": f"{TASK}.{network}", "recipe": f"{TASK}.recipe", "prediction": f"{TASK}.prediction", "training": "training"},
    )


def create_pipeline() -> Pipeline:
    """Every network of the task, then what compares them."""
    summaries, scores, figures = ([f"{network}_{entry}" for network in EXPERIMENTS] for entry in ("summary", "patient_scores", "figures"))
    comparison = Pipeline(
        [
            Node(compare_networks, summaries, "comparison", name="compare_networks"),
            Node(write_report, ["comparison", "index", "splits", "slices", *scores, *figures], "report", name="write_report"),
        ],
        namespace=TASK,
        inputs={f"{n}_{entry}": f"{TASK}.{n}.{entry}" for n in EXPERIMENTS for entry in ("summary", "patient_scores", "figures")},
    )
    return sum((create_experiment(network) for network in EXPERIMENTS), comparison)
