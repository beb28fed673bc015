import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from brain_tumor.figures.palette import TARGETS
from brain_tumor.figures.store import draw_store, spread


def pictures(figure):
    return [image.get_array() for axes in figure.axes for image in axes.images]


def words(figure):
    return {axes.get_title() for axes in figure.axes} - {""}, {axes.get_ylabel() for axes in figure.axes} - {""}


def test_slices_show_every_modality_and_their_labels(rng):
    rows = pd.DataFrame({"file": ["f"] * 2, "patient": ["p1", "p2"], "slice": [7, 8]})
    labels = np.zeros((2, 6, 6), np.uint8)
    labels[1, 5, 0] = 2
    arrays = {"image": rng.normal(size=(2, 2, 6, 6)).astype(np.float16), "labels": labels}
    description = {
        "data_set": "BraTS 2020",
        "modalities": ["FLAIR", "T1"],
        "tissues": ["NCR", "ED", "ET"],
        "simulated": True,
    }
    figure = draw_store(rows, arrays, description)
    assert figure.get_suptitle() == "BraTS 2020, SIMULATED"
    assert words(figure) == ({"FLAIR", "T1", "labels"}, {"p1\nslice 7", "p2\nslice 8"})
    assert len(pictures(figure)) == 6
    assert pictures(figure)[5][5, 0].tolist() == pytest.approx(to_rgb(TARGETS[1]))


def test_scans_stand_upright_where_asked():
    array = np.zeros((1, 1, 6, 4), np.uint8)
    array[0, 0, 5, 0] = 255
    for transpose, place in ((False, (5, 0)), (True, (0, 5))):
        (picture,) = pictures(draw_store(pd.DataFrame(), {"image": array}, {}, transpose))
        assert np.argwhere(picture[..., 0] == 1).tolist() == [list(place)]


def test_probabilities_are_black_for_nothing_and_nearly_white_for_one():
    array = np.array([0, 255], np.uint8).reshape(1, 1, 1, 2)
    (picture,) = pictures(draw_store(pd.DataFrame(), {"probability": array}, {}))
    assert picture[0, 0].sum() < 0.1
    assert picture[0, 1].sum() > 2.5


def test_numbers_are_written_under_the_names_of_their_classes():
    figure = draw_store(
        pd.DataFrame({"file": ["Testing/glioma/a.jpg"]}),
        {"logits": np.array([[0.5, -2.0]])},
        {"network": "cnn", "classes": ["glioma", "notumor"]},
    )
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["0.5", "-2"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["glioma", "notumor"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a.jpg"]


@pytest.mark.parametrize(("rows", "planes"), [(1, 1), (30, 1), (30, 3), (30, 5), (30, 30)])
def test_many_rows_and_many_planes_stay_one_readable_figure(rows, planes):
    figure = draw_store(pd.DataFrame(), {"maps": np.zeros((rows, planes, 4, 4), np.float16)}, {})
    assert 1 <= len(pictures(figure)) <= 70
    assert max(figure.get_size_inches()) < 25


def test_rows_are_spread_over_the_store():
    assert spread(9, 3).tolist() == [1, 4, 7]
    assert spread(3, 9).tolist() == [0, 1, 2]
    assert spread(0, 9).tolist() == []


def test_an_empty_store_says_so():
    assert draw_store(pd.DataFrame(), {}, {"network": "cnn"}).get_suptitle() == "cnn, no rows"
