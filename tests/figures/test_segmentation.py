import io

import numpy as np
import pandas as pd
import pytest

from brain_tumor.figures.segmentation import Example, choose_patients, draw_curves, draw_examples, draw_scores, paint


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


def test_best_median_worst():
    assert choose_patients({"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.6}) == {"b": "best", "d": "median", "a": "worst"}
    assert choose_patients({"a": 0.1, "b": 0.9}) == {"b": "best", "a": "worst"}
    assert choose_patients({"a": 0.1}) == {"a": "best"}


def test_paint_colours_labels_and_nothing_else(rng):
    plane = rng.random((8, 8)).astype(np.float32)
    labels = np.zeros((8, 8), np.uint8)
    labels[2:4] = 2
    image = paint(plane, labels)
    grey = np.isclose(image[..., 0], image[..., 1]) & np.isclose(image[..., 1], image[..., 2])
    assert np.array_equal(~grey, labels > 0)
    assert image.min() >= 0
    assert image.max() <= 1


def test_figures_can_be_drawn_with_nothing_found(rng):
    image = rng.normal(size=(4, 16, 16)).astype(np.float32)
    probability, nothing = rng.integers(0, 127, (3, 16, 16)).astype(np.uint8), np.zeros((16, 16), np.uint8)
    example = Example("a patient", image, nothing + 1, probability, nothing)
    empty = Example("nothing", np.zeros_like(image), nothing, probability, nothing)
    assert png(draw_examples([example, empty], ["FLAIR", "T1", "T1ce", "T2"], ["NCR", "ED", "ET"], "title"))


@pytest.mark.parametrize("epochs", [1, 3])
def test_curves_and_scores(epochs):
    log = pd.DataFrame(
        {
            "epoch": range(1, epochs + 1),
            "train_loss": 0.5,
            "validation_loss": 0.6,
            "validation_dice": 0.1,
            "validation_dice_WT": 0.2,
        }
    )
    figure = draw_curves(log, [epochs], "title")
    assert png(figure)
    assert [line.get_label() for line in figure.axes[1].lines] == ["WT", f"kept: {epochs}"]
    scores = pd.DataFrame({"patient": ["a", "b"], "target": ["WT", "WT"], "metric": "dice", "value": [0.0, 1.0]})
    assert png(draw_scores(scores, "title"))
