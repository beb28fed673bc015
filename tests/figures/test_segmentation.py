import io

import numpy as np
import pandas as pd
import pytest
from overlaps import find_overlaps

from brain_tumor.figures.palette import NETWORKS, TARGETS, colour_networks, colour_targets, name_network
from brain_tumor.figures.segmentation import (
    Example,
    choose_modalities,
    choose_patients,
    draw_curves,
    draw_examples,
    draw_predictions,
    draw_scores,
    frame_brains,
    paint,
)
from brain_tumor.figures.segmentation_comparison import draw_costs, draw_parameters, draw_targets

SETS = {"set": "test", "protocol": "volume"}


def png(figure):
    assert not find_overlaps(figure)
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
    probability, nothing = rng.integers(0, 127, (16, 16)).astype(np.uint8), np.zeros((16, 16), np.uint8)
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
    assert figure.axes[0].get_yscale() == "linear"
    scores = pd.DataFrame({"patient": ["a", "b"], "target": ["WT", "WT"], "metric": "dice", "value": [0.0, 1.0]})
    assert png(draw_scores(scores, "title"))


def test_a_first_epoch_that_flattens_the_rest_makes_the_loss_axis_logarithmic():
    log = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [9.0, 0.8, 0.7], "validation_loss": [13.5, 0.9, 0.8]})
    figure = draw_curves(log, [3], "title")
    assert png(figure)
    assert figure.axes[0].get_yscale() == "log"


def test_brains_are_cropped_to_boxes_of_one_size_that_hold_them():
    images = [np.zeros((2, 40, 40), np.float32) for _ in range(2)]
    images[0][0, 5:15, 8:20] = 1
    images[1][1, 30:40, 0:6] = 1
    boxes = frame_brains(images)
    assert [image[:, rows, columns].sum() for image, (rows, columns) in zip(images, boxes, strict=True)] == [120, 60]
    assert {(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in boxes} == {(14, 16)}


def test_two_modalities_are_shown_the_second_with_contrast_agent():
    assert choose_modalities(["FLAIR", "T1", "T1ce", "T2"]) == {"FLAIR": 0, "T1ce": 2}
    assert choose_modalities(["T1", "T2"]) == {"T1": 0, "T2": 1}
    assert choose_modalities(["ADC"]) == {"ADC": 0}


def test_every_brain_has_its_sides_marked(rng):
    image, labels = rng.normal(size=(4, 16, 16)).astype(np.float32), np.ones((16, 16), np.uint8)
    scans = {"a": (image, labels, labels), "b": (image, labels, None)}
    figure = draw_predictions(scans, ["FLAIR", "T1", "T1ce", "T2"], ["NCR", "ED", "ET"], "title")
    assert png(figure)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 4 + 3
    for axes in shown:
        right, left = axes.texts
        assert (right.get_text(), left.get_text()) == ("R", "L")
        assert right.get_position()[0] < left.get_position()[0]


def test_networks_and_targets_have_one_colour_each():
    assert list(colour_networks(NETWORKS).values()) == [colour for _, colour in NETWORKS.values()]
    assert colour_networks(["vit"])["vit"] == colour_networks(["ViT"])["ViT"]
    assert name_network("vgg16") == "VGG-16"
    assert name_network("my_unet") == "my_unet"
    assert len(set(colour_networks(["classic_unet", "mine", "yours"]).values())) == 3
    assert not {colour for _, colour in NETWORKS.values()} & set(TARGETS)
    assert colour_targets(["NCR", "ED", "ET"]).items() <= colour_targets(["NCR", "ED", "ET", "WT", "TC"]).items()
    assert len(set(TARGETS)) == len(TARGETS)


def test_networks_have_their_colours_and_names_in_every_comparison():
    networks = ["classic_unet", "improved_unet", "attention_unet", "residual_attention_unet"]
    rows = [(name, target, 0.8, 0.7, 0.9) for name in networks for target in ("NCR", "ED", "ET", "WT", "TC")]
    table = pd.DataFrame(rows, columns=["network", "target", "mean", "low", "high"]).assign(metric="dice", **SETS)
    costs = pd.DataFrame({"network": networks, "parameters": [1e6, 2e6, 3e6, 4e6], "slices_a_second": 90.0})
    counts = pd.DataFrame({name: [1e5, 4e5, 1.6e6, 6e6] for name in networks}, index=[8, 16, 32, 64])
    bars = draw_targets(table, "title")
    assert png(bars)
    assert [text.get_text() for text in bars.axes[0].get_legend().get_texts()] == [NETWORKS[n][0] for n in networks]
    assert png(draw_costs(table, costs.assign(device="cpu"), "WT", "title"))
    lines = draw_parameters(counts)
    assert png(lines)
    assert [line.get_color() for line in lines.axes[0].lines] == [NETWORKS[name][1] for name in networks]
