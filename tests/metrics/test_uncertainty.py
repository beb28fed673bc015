import numpy as np
import pytest
from scipy import stats

from brain_tumor.metrics.uncertainty import (
    count_least_sure,
    order_images,
    order_patients,
    soft_dice_confidence,
    trace_risk,
)

SURE = np.array([0.9, 0.8, 0.7, 0.6, 0.5])


def values(table):
    return table.set_index("metric")["value"]


def test_confidence_is_the_dice_that_probabilities_lead_to_expect():
    """Four voxels: the mask has two of WT, with 1 and 0.6; 0.4 and 0 are outside. 2 * 1.6 / (2.0 + 2)."""
    probability = np.array([[255, 51, 0, 0], [0, 102, 102, 0]], np.uint8)
    predicted = np.array([1, 2, 0, 0], np.uint8)
    confidence = soft_dice_confidence(probability, predicted, {"NCR": [1], "ED": [2], "WT": [1, 2]})
    assert confidence == pytest.approx({"NCR": 2 * 1.0 / (1.2 + 1), "ED": 2 * 0.4 / (0.8 + 1), "WT": 0.8})


def test_a_certain_mask_has_a_confidence_of_1_and_an_empty_one_that_of_emptiness():
    probability = np.array([[[255, 0], [0, 0]], [[0, 0], [51, 0]]], np.uint8)
    predicted = np.array([[1, 0], [0, 0]], np.uint8)
    assert soft_dice_confidence(probability, predicted, {"a": [1], "b": [2]}) == pytest.approx({"a": 1, "b": 0.8})


def test_probabilities_that_round_to_more_than_1_count_as_1():
    probability = np.full((2, 1), 200, np.uint8)
    assert soft_dice_confidence(probability, np.array([1], np.uint8), {"WT": [1, 2]}) == {"WT": 1}


def test_risk_of_a_known_order():
    """The errors are the second and the last of five: risks 0/1, 1/2, 1/3, 1/4, 2/5."""
    wrong = np.array([0, 1.0, 0, 0, 1])
    curve = trace_risk(SURE, wrong)
    assert curve["coverage"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert curve["risk"].tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4, 2 / 5])
    value = values(order_images(SURE, wrong == 0, np.arange(5)))
    assert value["aurc"] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4 + 2 / 5) / 5)
    assert value["aurc_random"] == pytest.approx(2 / 5)
    # The best order has both errors last: 0, 0, 0, 1/4, 2/5.
    assert value["aurc_best"] == pytest.approx((1 / 4 + 2 / 5) / 5)
    # Of the six pairs of a right and a wrong image, the error at 0.8 loses to one right image, that at 0.5 to three.
    assert value["auroc"] == pytest.approx(4 / 6)
    assert value["errors_in_fifth"] == pytest.approx(1 / 2)


def test_the_equally_sure_come_in_together():
    curve = trace_risk(np.array([0.5, 0.9, 0.5]), np.array([1.0, 0, 0]))
    assert curve["coverage"].tolist() == pytest.approx([1 / 3, 1])
    assert curve["risk"].tolist() == pytest.approx([0, 1 / 3])


def test_patients_in_order_of_dice():
    dice = np.array([0.9, 0.8, 0.6, 0.3, 0.4])
    table = order_patients(SURE, dice)
    value = values(table)
    assert value["spearman"] == pytest.approx(stats.spearmanr(SURE, dice)[0]) == pytest.approx(0.9)
    # The least sure of five loses 0.6 of 2.0.
    assert value["errors_in_fifth"] == pytest.approx(0.3)
    assert value["aurc"] == pytest.approx((0.1 + 0.3 / 2 + 0.7 / 3 + 1.4 / 4 + 2.0 / 5) / 5)
    interval = table.set_index("metric").loc["spearman"]
    assert interval["low"] < 0.9 <= interval["high"] <= 1


def test_ranks_of_resampled_patients_are_scipys(rng):
    """A patient who is drawn twice is two patients with the same rank."""
    from brain_tumor.metrics.uncertainty import _correlate_ranks

    first, second = rng.normal(size=12).round(1), rng.normal(size=12).round(1)
    weight = rng.multinomial(12, np.full(12, 1 / 12), 5).astype(float)
    drawn = [np.repeat(np.arange(12), row.astype(int)) for row in weight]
    expected = [stats.spearmanr(first[each], second[each])[0] for each in drawn]
    assert _correlate_ranks(weight, first, second) == pytest.approx(expected)


def test_what_is_not_defined_is_missing():
    """One patient has no order; without an error there is nothing to hold, and no wrong image to tell from a right."""
    alone = values(order_patients(np.array([0.5]), np.array([0.7])))
    assert np.isnan(alone["spearman"])
    assert alone["aurc"] == alone["aurc_random"] == pytest.approx(0.3)
    perfect = order_images(SURE, np.ones(5, bool), np.arange(5))
    assert perfect.set_index("metric")["value"][["auroc", "errors_in_fifth"]].isna().all()
    assert perfect["low"].isna().all()


def test_images_of_one_person_are_drawn_together(rng):
    """Ten copies of each of 20 images: the interval is that of 20."""
    confidence, correct = rng.uniform(size=20), rng.uniform(size=20) < 0.5
    once = order_images(confidence, correct, np.arange(20))
    copied = order_images(np.repeat(confidence, 10), np.repeat(correct, 10), np.repeat(np.arange(20), 10))
    assert once.loc[0].tolist() == copied.loc[0].tolist()


@pytest.mark.parametrize(("count", "least"), [(1, 1), (5, 1), (6, 2), (36, 8)])
def test_a_fifth_is_rounded_up(count, least):
    assert count_least_sure(count) == least
