"""The lesion-wise protocol on masks that are worked by hand, and against MONAI's, which is another."""

import numpy as np
import pandas as pd
import pytest
import torch
from monai.metrics import DiceMetric

from brain_tumor.metrics.lesions import (
    FALSE,
    FOUND,
    MISSED,
    SMALL,
    LesionSettings,
    average_lesions,
    count_outcomes,
    dilate,
    join_lesions,
    score_lesions,
)

SIDE = 48
CUBE = np.s_[5:10, 5:10, 5:10]
"""125 voxels."""


def mask(*boxes):
    volume = np.zeros((SIDE, SIDE, SIDE), np.uint8)
    for box in boxes:
        volume[box] = 1
    return volume


def score(truth, predicted, spacing=(1.0, 1.0, 1.0), **settings):
    """Table of lesions, and means by metric."""
    table = score_lesions("p", truth, predicted, spacing, {"WT": (1,)}, LesionSettings(**settings))
    means = average_lesions(table, "p", ["WT"]).set_index("metric")["value"]
    return table, means


def test_a_found_a_missed_and_an_invented_lesion():
    truth = mask(CUBE, np.s_[30:35, 30:35, 30:35])
    predicted = mask(np.s_[6:11, 5:10, 5:10], np.s_[40:41, 5:7, 5:6])
    table, means = score(truth, predicted)
    assert table["outcome"].tolist() == [FOUND, MISSED, FALSE]
    assert table["ml"].tolist() == pytest.approx([0.125, 0.125, 0.002])
    # 100 voxels in both cubes; the two faces that were moved are 1 mm away
    assert table["dice"].tolist() == pytest.approx([0.8, 0, 0])
    assert table["hd95_mm"].tolist() == pytest.approx([1, 374, 374])
    assert means["lesion_dice"] == pytest.approx(0.8 / 3)
    assert means["lesion_hd95_mm"] == pytest.approx((1 + 374 + 374) / 3)
    assert means["lesion_surface_dice"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("gap", "lesions"), [(6, 1), (7, 2)])
def test_fragments_that_the_dilation_joins_are_one_lesion(gap, lesions):
    """Three voxels from either side close a gap of six."""
    truth = mask(CUBE, np.s_[10 + gap : 15 + gap, 5:10, 5:10])
    assert join_lesions(truth > 0, 3).max() == lesions
    table, means = score(truth, mask(CUBE))
    # One half of one lesion, or one lesion of two
    assert table["outcome"].tolist() == [FOUND, MISSED][:lesions]
    assert means["lesion_dice"] == pytest.approx(2 * 125 / 375 if lesions == 1 else 0.5)


def test_a_component_near_a_lesion_belongs_to_it():
    table, means = score(mask(CUBE), mask(np.s_[12:15, 5:10, 5:10]))
    assert table["outcome"].tolist() == [FOUND]
    assert means["lesion_dice"] == 0
    assert means["lesion_hd95_mm"] < 10
    table, _ = score(mask(CUBE), mask(np.s_[13:15, 5:10, 5:10]))
    assert table["outcome"].tolist() == [MISSED, FALSE]


def test_a_component_over_two_lesions_counts_for_both():
    table, _ = score(mask(CUBE, np.s_[30:35, 5:10, 5:10]), mask(np.s_[5:35, 5:10, 5:10]))
    assert table["outcome"].tolist() == [FOUND, FOUND]
    assert table["dice"].tolist() == pytest.approx([2 * 125 / (125 + 750)] * 2)


@pytest.mark.parametrize(
    ("thick", "spacing", "outcome"),
    [
        (2, (1.0, 1.0, 1.0), SMALL),
        (3, (1.0, 1.0, 1.0), FOUND),
        (2, (1.0, 1.0, 1.1), FOUND),
        (3, (1.0, 1.0, 0.5), SMALL),
    ],
)
def test_a_lesion_of_fifty_cubic_millimetres_is_left_out_but_its_prediction_is_no_false_positive(
    thick, spacing, outcome
):
    truth = mask(np.s_[5:10, 5:10, 5 : 5 + thick])
    table, means = score(truth, mask(np.s_[5:10, 5:9, 5 : 5 + thick]), spacing)
    assert table["outcome"].tolist() == [outcome]
    assert means["lesion_dice"] == pytest.approx(1.0 if outcome == SMALL else 2 * 4 / 9)
    assert score(truth, mask(), spacing)[1]["lesion_dice"] == (1.0 if outcome == SMALL else 0.0)


def test_empty_masks():
    assert score(mask(), mask())[1].to_dict() == {
        "lesion_dice": 1,
        "lesion_hd95_mm": 0,
        "lesion_surface_dice": 1,
    }
    table, means = score(mask(), mask(CUBE, np.s_[30:35, 5:10, 5:10]))
    assert table["outcome"].tolist() == [FALSE, FALSE]
    assert means.to_dict() == {"lesion_dice": 0, "lesion_hd95_mm": 374, "lesion_surface_dice": 0}


def test_settings_of_metastases():
    truth = mask(np.s_[5:7, 5:7, 5:6], np.s_[10:12, 5:7, 5:6])
    assert score(truth, truth, dilation=1, min_mm3=2)[0]["outcome"].tolist() == [FOUND, FOUND]
    assert score(truth, truth)[0]["outcome"].tolist() == [SMALL]


def test_each_target_is_scored_by_its_own_labels():
    truth = mask(CUBE)
    truth[30:35, 30:35, 30:35] = 2
    table = score_lesions("p", truth, truth, (1.0, 1.0, 1.0), {"A": (1,), "B": (1, 2)}, LesionSettings())
    counts = count_outcomes(table.assign(network="n"), ["network", "target"]).set_index("target")
    assert counts[FOUND].to_dict() == {"A": 1, "B": 2}
    assert counts[[MISSED, FALSE, SMALL]].to_numpy().sum() == 0


def test_dilation_reaches_over_edges_but_not_over_corners():
    point = np.zeros((9, 9, 9), bool)
    point[4, 4, 4] = True
    grown = dilate(point, 1)
    assert grown.sum() == 27 - 8
    assert dilate(point, 0).sum() == 1
    # at the border nothing comes in from the other side
    corner = np.zeros((9, 9, 9), bool)
    corner[0, 0, 0] = True
    assert not dilate(corner, 3)[-1].any()


def test_where_lesions_lie_changes_nothing(rng):
    """Crops and borders: the same masks in the middle and in a corner of a volume."""
    small = (rng.random((12, 12, 12)) < 0.02).astype(np.uint8)
    predicted = np.roll(small, 1, 0) * (rng.random((12, 12, 12)) < 0.7)

    def at(offset):
        place = tuple(slice(offset, offset + 12) for _ in range(3))
        volumes = np.zeros((2, 40, 40, 40), np.uint8)
        volumes[0][place], volumes[1][place] = small, predicted
        return score(*volumes, min_mm3=0, dilation=1)[0]

    pd.testing.assert_frame_equal(at(0), at(14))


def test_monai_per_component_is_another_protocol():
    """It doesn't punish an invented lesion as such: hence it isn't used."""
    truth, predicted = mask(CUBE), mask(CUBE, np.s_[40:41, 5:7, 5:6])
    channels = [torch.from_numpy(np.stack([1 - volume, volume]))[None].float() for volume in (predicted, truth)]
    with pytest.warns(UserWarning, match="Voronoi"):
        monai = DiceMetric(include_background=False, per_component=True)(*channels).item()
    assert monai == pytest.approx(2 * 125 / (125 + 127), abs=1e-4)
    assert score(truth, predicted)[1]["lesion_dice"] == 0.5
