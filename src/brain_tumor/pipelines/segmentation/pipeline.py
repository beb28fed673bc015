"""Segmentation: one experiment for each network, then their comparison and the report."""

from kedro.pipeline import Node, Pipeline

from brain_tumor.networks import networks_of
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
from brain_tumor.pipelines.segmentation.training import ATTENDING, train_network

TASK = "segmentation"
SHARED = {
    "inputs": {name: f"{TASK}.{name}" for name in ("slices", "splits")},
    "parameters": {name: f"{TASK}.{name}" for name in ("recipe", "prediction", "folds", "initial_weights")}
    | {"training": "training"},
}


def create_experiment(network: str) -> Pipeline:
    """Train one network and evaluate it on the test patients."""
    train = [
        "slices",
        "splits",
        "checkpoints",
        "params:experiment",
        "params:recipe",
        "params:training",
        "params:folds",
        "params:initial_weights",
    ]
    nodes = [
        Node(train_network, train, ["network", "training_log", "history"], name="train_network"),
        Node(
            predict_patients,
            ["network", "slices", "splits", "params:prediction", "params:training"],
            "predictions",
            name="predict_patients",
        ),
        Node(count_pixels, ["predictions", "slices"], "pixel_counts", name="count_pixels"),
        Node(score_patients, ["pixel_counts", "predictions", "slices"], "patient_scores", name="score_patients"),
        Node(
            summarise_scores,
            ["patient_scores", "pixel_counts", "slices", "network"],
            "summary",
            name="summarise_scores",
        ),
        Node(measure_cost, ["network", "slices", "training_log", "params:training"], "cost", name="measure_cost"),
        Node(
            draw_results,
            ["network", "predictions", "slices", "patient_scores", "training_log"],
            "figures",
            name="draw_results",
        ),
    ]
    if network in ATTENDING:
        drawn = ["attention_summary", "attention_maps", "history", "slices", "network"]
        nodes += [
            Node(
                examine_attention,
                ["network", "slices", "splits", "params:training"],
                ["attention_scores", "attention_maps"],
                name="examine_attention",
            ),
            Node(
                summarise_attention,
                ["attention_scores", "slices", "network"],
                "attention_summary",
                name="summarise_attention",
            ),
            Node(draw_attention, drawn, "attention_figures", name="draw_attention"),
        ]
    parameters = SHARED["parameters"] | {"experiment": f"{TASK}.{network}"}
    return Pipeline(nodes, namespace=f"{TASK}.{network}", inputs=SHARED["inputs"], parameters=parameters)


def create_pipeline() -> Pipeline:
    """Every network of the task, then what compares them."""
    networks = networks_of(TASK)
    compared, known = ["comparison", "differences", "costs"], ["index", "splits", "slices"]
    results = name_entries(networks, ("summary", "patient_scores", "cost", "network"))
    shown = name_entries(networks, ("patient_scores", "figures", "network")) | name_entries(
        ATTENDING, ("attention_summary", "attention_figures")
    )
    report = {name: name for name in (*compared, *known)} | {
        "task": "params:task",
        "engine": "params:training",
        "figures": "comparison_figures",
    }
    card = (
        {name: name for name in ("comparison", *known)}
        | {name: f"params:{name}" for name in ("prediction", "origin")}
        | {"engine": "params:training"}
    )
    comparison = Pipeline(
        [
            Node(
                compare_networks,
                {"slices": "slices"} | results,
                [*compared, "comparison_figures"],
                name="compare_networks",
            ),
            Node(write_report, report | shown, "report", name="write_report"),
            Node(write_model_card, card | name_entries(networks, ["network"]), "model_card", name="write_model_card"),
        ],
        namespace=TASK,
        inputs={inner: f"{TASK}.{entry}" for entry, inner in (results | shown).items()},
        parameters={"task": TASK, "training": "training", "origin": "data_segmentation.origin"},
    )
    return sum((create_experiment(network) for network in networks), comparison)
