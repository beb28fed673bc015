"""Score: two folders of masks > scores of each patient and lesion > comparison of the predictions > report."""

from kedro.pipeline import Node, Pipeline

from brain_tumor.pipelines.score.nodes import compare_predictions, draw_masks, score_masks, write_report

NAMESPACE = "score"


def create_pipeline() -> Pipeline:
    """Masks of one folder or several, against reference masks."""
    masks = ["reference", "predictions", "params:data_set"]
    tables = ["index", "patient_scores", "lesions"]
    compared = ["comparison", "differences"]
    reported = [*compared, *tables, "figures", *masks, "params:lesion_settings"]
    nodes = [
        Node(score_masks, [*masks, "params:lesion_settings", "params:workers"], tables, name="score_masks"),
        Node(compare_predictions, ["index", "patient_scores"], compared, name="compare_predictions"),
        Node(draw_masks, ["index", "patient_scores", *masks], "figures", name="draw_masks"),
        Node(write_report, reported, "report", name="write_report"),
    ]
    parameters = {
        "data_set": "data_segmentation.data_set",
        "lesion_settings": "score.lesions",
        "workers": "preparation",
    }
    return Pipeline(nodes, namespace=NAMESPACE, parameters=parameters)
