import numpy as np
import pandas as pd
import pytest
import torch
from monai.metrics import compute_dice, get_confusion_matrix

from brain_tumor.metrics.segmentation import (
    COUNTS,
    MEAN,
    add_tissues,
    compare_patients,
    count_slices,
    score,
    score_patients,
    summarise_batches,
    summarise_patients,
    summarise_slices,
    to_labels,
)
from brain_tumor.training.segmentation import task

NAN = float("nan")
TARGETS = {"NCR": (1,), "ED": (2,), "ET": (3,), "WT": (1, 2, 3), "TC": (1, 3)}


def counts_of(truth, found, patients):
    counts = count_slices(truth, found, TARGETS)
    return counts.assign(patient=np.asarray(patients)[counts["position"]], slice=counts["position"])


@pytest.mark.parametrize(
    ("counts", "dice", "iou", "accuracy", "fpr", "fnr", "precision", "recall"),
    [
        ((6, 2, 4, 8), 12 / 18, 6 / 12, 14 / 20, 2 / 10, 4 / 10, 6 / 8, 6 / 10),  # worked by hand
        ((5, 0, 0, 15), 1, 1, 1, 0, 0, 1, 1),
        ((5, 0, 0, 0), 1, 1, 1, NAN, 0, 1, 1),  # nothing but tumour
        ((0, 0, 0, 20), 1, 1, 1, 0, NAN, NAN, NAN),  # nothing there, nothing found
        ((0, 7, 0, 13), 0, 0, 13 / 20, 7 / 20, NAN, 0, NAN),  # nothing there, something found
        ((0, 0, 7, 13), 0, 0, 13 / 20, 0, 1, NAN, 0),  # something there, nothing found
        ((0, 3, 7, 10), 0, 0, 10 / 20, 3 / 13, 1, 0, 0),
    ],
)
def test_scores_by_hand(counts, dice, iou, accuracy, fpr, fnr, precision, recall):
    expected = {
        "dice": dice,
        "iou": iou,
        "accuracy": accuracy,
        "fpr": fpr,
        "fnr": fnr,
        "precision": precision,
        "recall": recall,
    }
    assert score(pd.DataFrame([counts], columns=COUNTS)).loc[0].to_dict() == pytest.approx(expected, nan_ok=True)


def test_counts_by_hand():
    truth = np.array([[[1, 1, 2, 0]], [[3, 2, 2, 0]]], np.uint8)
    found = np.array([[[1, 2, 2, 0]], [[3, 3, 2, 2]]], np.uint8)
    counts = count_slices(truth, found, TARGETS).set_index(["target", "position"])
    assert counts.loc[("NCR", 0)].to_list() == [1, 0, 1, 2]
    assert counts.loc[("ED", 1)].to_list() == [1, 1, 1, 1]
    assert counts.loc[("WT", 1)].to_list() == [3, 1, 0, 0]
    scores = score_patients(counts_of(truth, found, ["a", "a"])).query("metric == 'dice'").set_index("target")["value"]
    assert scores.to_dict() == pytest.approx({"NCR": 2 / 3, "ED": 4 / 7, "ET": 2 / 3, "WT": 12 / 13, "TC": 2 / 3})


def test_agrees_with_monai_where_nothing_is_empty(rng):
    truth, found = rng.integers(0, 4, (2, 5, 16, 16)).astype(np.uint8)
    scores = score_patients(counts_of(truth, found, ["a"] * 5)).set_index(["target", "metric"])["value"]
    for name, labels in TARGETS.items():
        y, y_pred = (torch.from_numpy(np.isin(x, labels))[None, None].float() for x in (truth, found))
        tp, fp, tn, fn = get_confusion_matrix(y_pred, y).flatten().tolist()
        assert scores[name, "dice"] == pytest.approx(compute_dice(y_pred, y).item(), abs=1e-6)
        assert scores[name, "fpr"] == pytest.approx(fp / (fp + tn))
        assert scores[name, "fnr"] == pytest.approx(fn / (fn + tp))
        assert scores[name, "accuracy"] == pytest.approx((tp + tn) / (tp + fp + tn + fn))


def test_scores_do_not_depend_on_order_or_side(rng):
    truth, found = rng.integers(0, 4, (2, 5, 16, 16)).astype(np.uint8)
    order = rng.permutation(5)
    turned = counts_of(truth[order, ::-1], found[order, ::-1], ["a"] * 5)
    assert score_patients(counts_of(truth, found, ["a"] * 5)).equals(score_patients(turned))


def test_volume_has_mean_median_and_interval_over_patients():
    scores = pd.DataFrame(
        {"patient": list("abcde"), "target": "WT", "metric": "dice", "value": [0.2, 0.8, 0.9, 0.9, np.nan]}
    )
    (row,) = summarise_patients(scores).to_dict("records")
    assert row["mean"] == pytest.approx(0.7)
    assert row["median"] == pytest.approx(0.85)
    assert row["patients"] == 4  # the one without a value is not counted
    assert 0.2 <= row["low"] < 0.7 < row["high"] < 0.91
    (row,) = summarise_patients(scores.assign(value=np.nan)).to_dict("records")
    assert row["patients"] == 0
    assert np.isnan(row["mean"])


def test_slices_are_averaged_where_there_is_tumour():
    truth, found = np.zeros((2, 4, 1, 4), np.uint8)
    truth[0], found[0] = [[2, 2, 0, 0]], [[2, 2, 0, 0]]  # ED 1
    truth[1], found[1] = [[2, 2, 0, 0]], [[2, 0, 0, 0]]  # ED 2/3
    found[2] = [[2, 2, 2, 2]]  # no tumour there: not in the mean
    truth[3], found[3] = [[0, 0, 0, 3]], [[0, 0, 0, 3]]  # tumour, but no ED, and none found: 1
    summary = summarise_slices(counts_of(truth, found, list("aabb")), ["NCR", "ED", "ET"]).set_index(
        ["target", "metric"]
    )
    assert summary.loc[("ED", "dice"), "mean"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert summary.loc[("ED", "dice"), "median"] == 1
    assert summary.loc[("ED", "dice"), "patients"] == 2
    assert summarise_slices(counts_of(truth * 0, found, list("aabb")), ["NCR", "ED", "ET"]).empty


def test_batches_pool_slices_of_patients():
    truth, found = np.zeros((2, 3, 1, 4), np.uint8)
    truth[:2], found[0] = [[2, 2, 0, 0]], [[2, 2, 0, 0]]  # pooled: 2 * 2 / (4 + 2)
    summary = summarise_batches(counts_of(truth, found, list("abc")), ["NCR", "ED", "ET"]).set_index(
        ["target", "metric"]
    )["mean"]
    assert summary["ED", "dice"] == pytest.approx(2 / 3)
    assert summary[MEAN, "dice"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    alone = summarise_batches(counts_of(truth, found, list("abc")), ["NCR", "ED", "ET"], size=1).set_index(
        ["target", "metric"]
    )["mean"]
    assert alone["ED", "dice"] == pytest.approx((1 + 0 + 1) / 3)


def test_comparison_is_paired():
    """A difference that holds in every patient is sure, however much patients differ."""
    values = np.linspace(0.1, 0.9, 20)
    better = values + 0.05 + 0.001 * (-1) ** np.arange(20)
    one, other = (
        pd.DataFrame({"patient": range(20), "target": "WT", "metric": "dice", "value": v}) for v in (better, values)
    )
    (row,) = compare_patients(one, other).to_dict("records")
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((0.05, 0.05, 0.05), abs=0.001)
    assert (row["win_rate"], row["patients"]) == (1, 20)


def test_labels_from_probabilities():
    probability = np.array([[[[255, 63, 64, 130]], [[200, 64, 0, 131]], [[0, 0, 64, 255]]]], np.uint8)
    assert to_labels(probability).tolist() == [[[1, 0, 1, 3]]]
    assert add_tissues(probability).tolist() == [[[255, 127, 128, 255]]]
    assert np.array_equal(to_labels(probability), task.to_labels(torch.from_numpy(probability / 255)))


def test_a_rate_that_is_not_defined_is_left_out_of_the_mean():
    """Of two patients one has no ET, and one false pixel of it.

    He has no recall, and doesn't pull the mean to a half.
    """
    counts = pd.DataFrame(
        {"patient": ["a", "b"], "slice": 0, "target": "ET", "tp": [8, 0], "fp": [0, 1], "fn": [2, 0], "tn": [10, 19]}
    )
    summary = summarise_patients(score_patients(counts)).set_index("metric")
    assert summary.loc["recall", ["mean", "patients"]].tolist() == [0.8, 1]
    assert summary.loc["fnr", ["mean", "patients"]].tolist() == pytest.approx([0.2, 1])
    assert summary.loc["precision", ["mean", "patients"]].tolist() == [0.5, 2]
    assert summary.loc["dice", "patients"] == 2
    slices = summarise_slices(counts.assign(tp=[8, 0], fn=[2, 0]), ["ET"]).set_index("metric")
    assert slices.loc["recall", "mean"] == 0.8


def test_slices_that_show_another_tissue_have_no_recall_of_this_one():
    """Two patients with oedema, one without ET: recall of ET is the other's."""
    rows = [("a", "ED", 5, 0, 0), ("a", "ET", 3, 0, 1), ("b", "ED", 5, 0, 0), ("b", "ET", 0, 2, 0)]
    counts = pd.DataFrame(rows, columns=["patient", "target", "tp", "fp", "fn"]).assign(slice=0, tn=10)
    summary = summarise_slices(counts, ["ED", "ET"]).set_index(["target", "metric"])
    assert summary.loc[("ET", "recall"), ["mean", "patients"]].tolist() == [0.75, 1]
    assert summary.loc[("ED", "recall"), ["mean", "patients"]].tolist() == [1, 2]
