import numpy as np
import pandas as pd
import pytest
import torch
from monai.metrics import compute_dice

from brain_tumor.metrics.segmentation import count, interval, score, score_volume, summarise, to_labels

TARGETS = {"NCR": (1,), "ED": (2,), "ET": (3,), "WT": (1, 2, 3), "TC": (1, 3)}


@pytest.mark.parametrize(
    ("counts", "dice", "iou", "precision", "recall"),
    [
        ((6, 2, 4), 12 / 18, 6 / 12, 6 / 8, 6 / 10),  # worked by hand
        ((5, 0, 0), 1, 1, 1, 1),
        ((0, 0, 0), 1, 1, 1, 1),  # nothing there, nothing found
        ((0, 7, 0), 0, 0, 0, 0),  # nothing there, something found
        ((0, 0, 7), 0, 0, 0, 0),  # something there, nothing found
        ((0, 3, 7), 0, 0, 0, 0),
    ],
)
def test_scores_by_hand(counts, dice, iou, precision, recall):
    assert score(*counts) == pytest.approx({"dice": dice, "iou": iou, "precision": precision, "recall": recall})


def test_counts_by_hand():
    truth = np.array([[1, 1, 0], [0, 1, 0]], bool)
    found = np.array([[1, 0, 0], [1, 1, 1]], bool)
    assert count(truth, found) == (2, 2, 1)


def test_volume_by_hand():
    truth = np.array([[[1, 1, 2, 0]], [[3, 2, 2, 0]]], np.uint8)
    found = np.array([[[1, 2, 2, 0]], [[3, 3, 2, 2]]], np.uint8)
    dice = score_volume(truth, found, TARGETS).query("metric == 'dice'").set_index("target")["value"]
    assert dice.to_dict() == pytest.approx({"NCR": 2 / 3, "ED": 4 / 7, "ET": 2 / 3, "WT": 12 / 13, "TC": 2 / 3})


def test_agrees_with_monai_where_nothing_is_empty(rng):
    truth, found = rng.integers(0, 4, (2, 5, 16, 16)).astype(np.uint8)
    dice = score_volume(truth, found, TARGETS).query("metric == 'dice'").set_index("target")["value"]
    for name, parts in TARGETS.items():
        y, y_pred = (torch.from_numpy(np.isin(x, parts))[None, None] for x in (truth, found))
        assert dice[name] == pytest.approx(compute_dice(y_pred, y).item(), abs=1e-6)


def test_scores_do_not_depend_on_order_or_side(rng):
    truth, found = rng.integers(0, 4, (2, 5, 16, 16)).astype(np.uint8)
    order = rng.permutation(5)
    assert score_volume(truth, found, TARGETS).equals(score_volume(truth[order, ::-1], found[order, ::-1], TARGETS))


def test_summary_has_mean_median_and_interval():
    scores = pd.DataFrame({"patient": list("abcd"), "target": "WT", "metric": "dice", "value": [0.2, 0.8, 0.9, 0.9]})
    (row,) = summarise(scores).to_dict("records")
    assert row["mean"] == pytest.approx(0.7)
    assert row["median"] == pytest.approx(0.85)
    assert row["patients"] == 4
    assert 0.2 < row["low"] < 0.7 < row["high"] < 0.91


def test_interval_covers_the_mean_as_often_as_it_says(rng):
    covered = [low <= 0.5 <= high for low, high in (interval(rng.random(40)) for _ in range(100))]
    assert 0.86 <= np.mean(covered) <= 1
    assert np.isnan(interval(np.array([0.5]))).all()


def test_labels_from_probabilities():
    probability = np.array([[[[255, 127, 130]], [[200, 127, 131]], [[0, 0, 255]]]], np.uint8)
    assert to_labels(probability).tolist() == [[[1, 0, 3]]]
