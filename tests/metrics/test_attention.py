import numpy as np
import pytest

from brain_tumor.metrics.attention import score_map


@pytest.fixture
def scan(rng):
    brain, tumour = np.zeros((2, 3, 16, 16), bool)
    brain[:, 2:14, 2:14] = True
    tumour[:2, 5:8, 6:9] = True  # the third slice shows none
    return brain, tumour


def test_a_map_of_the_tumour_and_one_of_the_brain(scan, rng):
    brain, tumour = scan
    noise = rng.normal(0, 0.01, brain.shape)
    assert score_map(tumour + noise, tumour, brain)["auc_tumour"] == pytest.approx(1)
    only_brain = score_map(brain + noise, tumour, brain)
    assert only_brain["auc_brain"] == pytest.approx(1)
    assert only_brain["auc_tumour"] == pytest.approx(0.5, abs=0.2)
    assert score_map(-(tumour + noise), tumour, brain)["auc_tumour"] == pytest.approx(0)


def test_a_dead_map_says_nothing(scan):
    brain, tumour = scan
    assert score_map(np.ones(brain.shape), tumour, brain) == {"auc_tumour": 0.5, "auc_brain": 0.5, "spread": 0}


def test_what_lies_outside_the_window_does_not_count(scan, rng):
    brain, tumour = scan
    attention = np.where(np.arange(16) < 1, np.nan, brain + rng.normal(0, 2, brain.shape))
    assert score_map(attention, tumour, brain) == pytest.approx(
        score_map(attention[..., 1:], tumour[..., 1:], brain[..., 1:])
    )
    constant = np.where(np.isnan(attention), np.nan, 0.7)
    assert score_map(constant, tumour, brain) == pytest.approx(
        {"auc_tumour": 0.5, "auc_brain": 0.5, "spread": 0}, abs=1e-6
    )


def test_by_hand():
    brain = np.array([[[1, 1, 1, 1, 0]]], bool)
    tumour = np.array([[[1, 1, 0, 0, 0]]], bool)
    attention = np.array([[[0.9, 0.3, 0.5, 0.1, 0.0]]])
    assert score_map(attention, tumour, brain)["auc_tumour"] == 3 / 4  # of four pairs one is the wrong way round


def test_no_tumour_no_score(scan):
    brain, tumour = scan
    assert np.isnan(list(score_map(brain * 1.0, tumour & False, brain).values())).all()
