"""Survival: masks > features > models > report, for expert masks and for those of each network."""

from collections.abc import Callable, Iterable

import pandas as pd
from kedro.pipeline import Node, Pipeline

from brain_tumor.pipelines.survival.nodes import (
    compare_concordances,
    compare_masks,
    cross_validate,
    draw_changes,
    draw_results,
    join_patients,
    join_predicted_patients,
    measure_masks,
    measure_predictions,
    permute_shape_features,
    score_models,
    write_cards,
    write_report,
)

TASK = "survival"
EXPERT = f"{TASK}.expert"
"""The experiment on expert masks; the others are named after networks."""

PARAMETERS = {
    "data_set": "data_segmentation.data_set",
    "protocol": "survival.protocol",
    "workers": "preparation",
    "origin": "data_segmentation.origin",
}


def create_pipeline() -> Pipeline:
    """Models on the features of expert masks."""
    inputs = ["source", "params:data_set", "params:workers"]
    measured = Pipeline([Node(measure_masks, inputs, "features", name="measure_masks")])
    return Pipeline(
        measured + _create_models(join_patients, []),
        namespace=EXPERT,
        inputs={"source": f"{TASK}.source", "tables": f"{TASK}.tables"},
        parameters=PARAMETERS,
    )


def create_predicted_pipeline(experiments: Iterable[str]) -> Pipeline:
    """Models on the features of each network's predicted masks, and how these change features and concordance.

    Args:
        experiments: of segmentation.
    """
    expert = create_pipeline().to_outputs(f"{EXPERT}.patients")
    return sum((_create_predicted(network) for network in experiments), expert)


def _create_predicted(network: str) -> Pipeline:
    measured = Pipeline(
        [
            Node(
                measure_predictions,
                ["predictions", "slices", "params:data_set"],
                ["features", "expert_features"],
                name="measure_predictions",
            ),
            Node(compare_masks, ["features", "expert_features", "predictions"], "changes", name="compare_masks"),
            Node(draw_changes, ["features", "expert_features"], "change_figures", name="draw_changes"),
        ]
    )
    either = ["patients", "expert_features", "expert_patients", "params:protocol"]
    compared = Pipeline([Node(compare_concordances, either, "concordances", name="compare_concordances")])
    inputs = {
        "expert_patients": f"{EXPERT}.patients",
        "predictions": f"segmentation.{network}.predictions",
        "slices": "segmentation.slices",
        "tables": f"{TASK}.predicted_tables",
    }
    return Pipeline(
        measured + compared + _create_models(join_predicted_patients, ["changes", "change_figures", "concordances"]),
        namespace=f"{TASK}.{network}",
        inputs=inputs,
        parameters=PARAMETERS,
        tags=network,
    )


def _create_models(join: Callable[..., pd.DataFrame], also_reported: list[str]) -> Pipeline:
    """From features to the report, for expert and predicted masks alike."""
    known = ["patients", "estimates"]
    results = ["scores", "gains"]
    null = "permutation_null"
    # Cards have the table of changes, but no figure.
    carded = ["patients", *results, "importances", "params:protocol", "params:data_set", "params:origin"]
    carded += also_reported[:1]
    return Pipeline(
        [
            Node(join, ["features", "tables", "params:data_set", "params:protocol"], "patients", name=join.__name__),
            Node(
                cross_validate,
                ["patients", "params:protocol", "params:workers"],
                ["estimates", "importances"],
                name="cross_validate",
            ),
            Node(
                permute_shape_features,
                [*known, "params:protocol", "params:workers"],
                null,
                name="permute_shape_features",
            ),
            Node(score_models, [*known, null, "params:protocol"], results, name="score_models"),
            Node(
                draw_results,
                [*known, *results, null, "importances", "params:protocol"],
                "figures",
                name="draw_results",
            ),
            Node(
                write_report,
                [*known, *results, "importances", "figures", "params:protocol", *also_reported],
                "report",
                name="write_report",
            ),
            Node(write_cards, carded, ["model_card", "data_sheet"], name="write_cards"),
        ]
    )
