import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn

from brain_tumor.metrics.classification import (
    BINS,
    calibrate,
    choose_temperature,
    compare,
    confusion_matrix,
    fit_temperature,
    score,
    score_sources,
    to_probability,
    vote,
)

CLASSES = ["a", "b", "c", "d"]


@pytest.fixture
def answers(rng):
    """Logits of 300 images that are right more often than not, and their labels."""
    label = rng.integers(0, 4, 300)
    return rng.normal(0, 1, (300, 4)) + 1.5 * np.eye(4)[label], label


def values(probability, label, group=None):
    return score(probability, label, np.arange(len(label)) if group is None else group, CLASSES).set_index("metric")


def test_scores_are_sklearns(answers):
    logits, label = answers
    probability = to_probability(logits)
    found = probability.argmax(1)
    value = values(probability, label)["value"]
    assert value["accuracy"] == pytest.approx(sklearn.accuracy_score(label, found))
    assert value["macro_f1"] == pytest.approx(sklearn.f1_score(label, found, average="macro"))
    assert value["roc_auc"] == pytest.approx(sklearn.roc_auc_score(label, probability, multi_class="ovr"))
    assert value[[f"precision_{name}" for name in CLASSES]].tolist() == pytest.approx(
        sklearn.precision_score(label, found, average=None)
    )
    assert value[[f"recall_{name}" for name in CLASSES]].tolist() == pytest.approx(
        sklearn.recall_score(label, found, average=None)
    )
    assert value["confidence"] == pytest.approx(probability.max(1).mean())
    assert (confusion_matrix(probability, label) == sklearn.confusion_matrix(label, found)).all()


def test_a_class_without_images_is_not_in_the_mean_however_often_it_is_found():
    """One of 40 images is taken for class d, which none has; or for class b, which others have."""
    label = np.arange(40) % 3
    for wrong in (3, 1):
        found = np.where(np.arange(40) == 0, wrong, label)
        row = values(to_probability(20.0 * np.eye(4)[found]), label).loc["macro_f1"]
        assert row["value"] == pytest.approx(sklearn.f1_score(label, found, average="macro", labels=[0, 1, 2]))
        assert row["low"] > 0.9


def test_area_counts_ties_half(answers):
    logits, label = answers
    probability = to_probability(np.round(logits))
    assert values(probability, label)["value"]["roc_auc"] == pytest.approx(
        sklearn.roc_auc_score(label, probability, multi_class="ovr")
    )


def test_patients_and_tumours_by_hand():
    """Class d is healthy. Patient p: two images, of which one is wrong, but the mean is right; q and r: one each."""
    probability = np.array([[0.9, 0.1, 0, 0], [0.4, 0.6, 0, 0], [0.3, 0.2, 0.1, 0.4], [0.5, 0.2, 0.1, 0.2]])
    label = np.array([0, 0, 0, 3])
    table = score(probability, label, np.array(list("ppqr")), CLASSES, healthy="d").set_index("metric")["value"]
    assert table["accuracy"] == 1 / 4
    assert table["accuracy_patients"] == pytest.approx(1 / 3)
    # Among the tumours q is right: its highest probability is the healthy class, which is left out.
    assert table["accuracy_tumours"] == pytest.approx(2 / 3)
    assert table["accuracy_tumour_or_none"] == 2 / 4


def test_a_patient_of_two_classes_counts_once_for_each():
    probability = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    correct, first = vote(probability, np.array([0, 1, 1]), np.array(["p", "p", "p"]))
    assert correct.tolist() == [True, True]
    assert first.tolist() == [0, 1]


def test_calibration_error_by_hand():
    """Two bins: three images at 0.9, two of them right; one at 0.5, wrong."""
    probability = np.array([[0.9, 0.1, 0, 0], [0.9, 0.1, 0, 0], [0.1, 0.9, 0, 0], [0.5, 0.3, 0.2, 0]])
    label = np.array([0, 0, 0, 1])
    assert values(probability, label)["value"]["calibration_error"] == pytest.approx((3 * abs(0.9 - 2 / 3) + 0.5) / 4)
    table = calibrate(probability, label)
    assert table["images"].tolist() == [1, 3]
    assert table["accuracy"].tolist() == pytest.approx([0, 2 / 3])
    assert table["confidence"].tolist() == pytest.approx([0.5, 0.9])
    assert BINS == 15


def test_intervals_hold_the_value_and_copies_widen_them(answers):
    logits, label = answers
    probability = to_probability(logits)
    table = values(probability, label)
    assert table.loc["calibration_error", ["low", "high"]].isna().all()  # resamples' are larger than its own
    inner = table.drop("calibration_error")
    assert (inner["low"] <= inner["value"]).all()
    assert (inner["value"] <= inner["high"]).all()
    p = table["value"]["accuracy"]
    assert table["high"]["accuracy"] - table["low"]["accuracy"] == pytest.approx(
        2 * 1.96 * np.sqrt(p * (1 - p) / 300), rel=0.15
    )
    copied = values(np.repeat(probability, 4, axis=0), np.repeat(label, 4), np.repeat(np.arange(300), 4))
    assert copied["value"].to_numpy() == pytest.approx(table["value"].to_numpy())
    assert copied["low"]["accuracy"] == pytest.approx(table["low"]["accuracy"], abs=0.01)


def test_a_class_that_is_not_there_is_no_error(answers):
    logits, label = answers
    few = label != 3
    table = values(to_probability(logits[few]), label[few])
    assert np.isnan(table["value"]["recall_d"])
    assert np.isfinite(table["value"]["roc_auc"])


def test_temperature_that_was_put_in_is_found_again(rng):
    logits = rng.normal(0, 2, (4000, 4))
    drawn = (to_probability(logits).cumsum(1) > rng.random((4000, 1))).argmax(1)
    assert fit_temperature(3 * logits, drawn) == pytest.approx(3, rel=0.1)
    hot, cool = to_probability(3 * logits), to_probability(3 * logits, 3.0)
    assert (hot.argmax(1) == cool.argmax(1)).all()
    error = [values(p, drawn)["value"]["calibration_error"] for p in (hot, cool)]
    assert error[1] < 0.03 < error[0]


def test_a_temperature_that_raises_confidence_is_not_used(rng):
    logits = rng.normal(0, 2, (4000, 4))
    drawn = (to_probability(logits).cumsum(1) > rng.random((4000, 1))).argmax(1)
    assert fit_temperature(logits / 3, drawn) == pytest.approx(1 / 3, rel=0.1)
    assert choose_temperature(logits / 3, drawn) == 1
    assert choose_temperature(3 * logits, drawn) == fit_temperature(3 * logits, drawn)


def test_temperature_of_a_network_that_is_always_right(rng):
    """It stays finite, falls with each image more, and one mistake more changes it little."""
    label = rng.integers(0, 4, 200)
    logits = rng.normal(0, 1, (200, 4)) + 9 * np.eye(4)[label]
    few, many = fit_temperature(logits[:40], label[:40]), fit_temperature(logits, label)
    assert 0.5 < many < few < 2
    once = np.append((label[0] + 1) % 4, label[1:])
    assert many < fit_temperature(logits, once) < 1.4 * many


def test_temperature_by_hand():
    """Right on two of two images of two classes.

    Each label counts 3/4, so the probability at the temperature is 3/4.
    """
    logits = np.array([[2.0, 0.0], [0.0, 2.0]])
    assert fit_temperature(logits, np.array([0, 1])) == pytest.approx(2 / np.log(3), rel=1e-3)


def test_all_right_has_no_interval():
    table = score(np.tile([0.7, 0.1, 0.1, 0.1], (40, 1)), np.zeros(40, int), np.arange(40), CLASSES).set_index("metric")
    assert table.loc["accuracy", "value"] == 1
    assert table.loc[["accuracy", "recall_a", "confidence"], ["low", "high"]].isna().all(axis=None)


def test_mcnemar_by_hand():
    """Nine images that only the first gets right, one that only the second does: p = 2 (1 + 10) / 2^10."""
    first = np.array([True] * 19 + [False] * 11)
    second = np.array([True] * 10 + [False] * 9 + [True] + [False] * 10)
    table = compare({"first": first, "second": second, "same": first})
    assert table[["network", "other", "only_network", "only_other"]].to_numpy().tolist()[0] == ["first", "second", 9, 1]
    assert table["p_value"].tolist() == pytest.approx([22 / 1024, 1, 22 / 1024])
    assert table["p_holm"].tolist() == pytest.approx([3 * 22 / 1024, 1, 3 * 22 / 1024])
    assert compare({"one": first}).empty


def test_groups_are_drawn_whole():
    probability = np.tile([0.7, 0.1, 0.1, 0.1], (6, 1))
    label = np.array([0, 0, 0, 1, 1, 1])
    table = score(probability, label, np.array(["x"] * 3 + ["y"] * 3), CLASSES).set_index("metric")
    assert (table.loc["accuracy", ["low", "high"]] == [0, 1]).all()
    alone = score(probability, label, np.array(["x"] * 6), CLASSES).set_index("metric")
    assert alone[["low", "high"]].isna().all(axis=None)  # one group says nothing of how sure
    assert isinstance(table, pd.DataFrame)


def test_recall_by_source_is_that_of_its_images_alone():
    label = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    predicted = np.array([0, 0, 0, 1, 1, 1, 0, 0])
    listed = np.array([True, True, True, True, True, False, False, False])
    table = score_sources(np.eye(2)[predicted], label, np.arange(8).astype(str), listed, ["a", "b"])
    values = table.set_index("metric")["value"].to_dict()
    assert values == {
        "listed_recall_a": 0.75,
        "listed_recall_b": 1.0,
        "unlisted_recall_b": pytest.approx(1 / 3),
    }
    assert table["images"].tolist() == table["persons"].tolist() == [4, 1, 3]


@pytest.mark.parametrize("listed", [[True] * 4, [False] * 4, [True, True, False, False]])
def test_there_are_no_scores_by_source_where_no_class_has_images_of_both(listed):
    label = np.array([0, 0, 1, 1])
    assert not len(score_sources(np.eye(2)[label], label, np.arange(4), np.array(listed), ["a", "b"]))
