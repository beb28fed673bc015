import numpy as np
import pandas as pd
from overlaps import find_overlaps

from brain_tumor.figures.attention import draw_maps, draw_meaning, overlay
from brain_tumor.figures.segmentation import grey

TARGETS = ["NCR", "ED", "ET", "WT", "TC"]


def test_outside_the_window_the_scan_is_left_as_it_is(rng):
    plane, attention = rng.random((16, 16)).astype(np.float32), rng.random((16, 16)).astype(np.float32)
    framed = np.where(np.arange(16) < 4, np.nan, attention).astype(np.float32)
    picture = overlay(plane, framed)
    assert np.array_equal(picture[:, :4], np.repeat(grey(plane)[:, :4, None], 3, 2))
    assert np.array_equal(picture[:, 4:], overlay(plane, attention)[:, 4:])


def test_the_range_below_a_map_is_that_of_the_window(rng):
    maps = np.full((1, 1, 16, 16), np.nan, np.float32)
    maps[..., 4:, :] = 0.25
    maps[..., 8, 8] = 0.75
    figure = draw_maps(
        rng.random((1, 16, 16)).astype(np.float32), np.zeros((1, 16, 16), np.uint8), maps, ["a"], ["gates.0"], "x"
    )
    assert figure.axes[1].get_xlabel() == "0.25 to 0.75"


def test_losses_of_thousandths_of_dice_have_ticks_that_can_be_read():
    metrics = ["auc_tumour", "auc_brain", *(f"dice_loss_{name}" for name in sorted(TARGETS))]
    rows = [(f"gates.{k}", metric, 0.0021 * k, 0.002 * k, 0.0025 * k) for k in range(4) for metric in metrics]
    summary = pd.DataFrame(rows, columns=["map", "metric", "mean", "low", "high"])
    figure = draw_meaning(summary, TARGETS, "t")
    assert not find_overlaps(figure)
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == TARGETS
