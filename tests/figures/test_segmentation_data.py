import io

import numpy as np
import pandas as pd
import pytest
from overlaps import find_overlaps

from brain_tumor.figures.segmentation_data import (
    BAND,
    PANEL,
    animate_patient,
    draw_heights,
    draw_histograms,
    draw_montage,
    draw_patients,
)


@pytest.fixture
def slices(rng):
    image = rng.normal(size=(5, 4, 16, 16)).astype(np.float16)
    image[:, :, :3] = 0
    return image, rng.integers(0, 3, (5, 16, 16)).astype(np.uint8)


def test_figures_show_what_is_there_and_survive_what_is_not(slices):
    """A tissue without a pixel, patients of unknown grade."""
    patients = pd.DataFrame({"grade": ["HGG", ""], "A_ml": [0.0, 30.0], "B_ml": [2.0, 400.0], "C_ml": [0.0, 0.0]})
    index = pd.DataFrame(
        {
            "slice": [3, 4, 4, 9],
            "excluded": ["", "", "", "no brain"],
            "A_pixels": [0, 5, 7, 0],
            "B_pixels": [1, 0, 0, 0],
            "C_pixels": 0,
        }
    )
    image, labels = slices
    tissues = ["A", "B", "C"]
    heights = draw_heights(index, tissues, "t")
    drawn = {line.get_label(): list(line.get_ydata()) for line in heights.axes[0].lines}
    assert drawn == {"A": [0, 2], "B": [1, 0], "C": [0, 0]}
    assert [bar.get_height() for bar in heights.axes[0].patches] == [1, 2]
    grades = draw_patients(patients, tissues, "t")
    assert [text.get_text() for text in grades.axes[0].get_xticklabels()] == ["HGG", "not known"]
    for figure in (
        heights,
        grades,
        draw_histograms(image, labels, list("wxyz"), tissues, "t"),
        draw_montage(image, labels, list("abcde"), "t"),
    ):
        assert not find_overlaps(figure)
        figure.savefig(io.BytesIO(), dpi=30)


def test_there_is_no_panel_of_grades_where_no_grade_is_known():
    patients = pd.DataFrame({"grade": ["", ""], "A_ml": [1.0, 30.0]})
    assert len(draw_patients(patients, ["A"], "t").axes) == 1


def test_bars_are_as_wide_as_slices_are_apart():
    index = pd.DataFrame({"slice": [14, 20, 26, 26], "excluded": "", "A_pixels": 1})
    (axes,) = draw_heights(index, ["A"], "t").axes
    assert {bar.get_width() for bar in axes.patches} == {6}


def test_film_has_a_frame_for_each_slice_and_colours_only_the_mask(slices):
    image, labels = slices
    film = animate_patient(image, {"mask": labels}, list("wxyz"), [3, 4, 5, 6, 7], "SIMULATED")
    side = film.frames.shape[1] - 2 * BAND
    assert side >= PANEL
    assert len(film.frames) == 5
    assert film.frames[:, :BAND].any(), "the title"
    grey, coloured = np.split(film.frames[:, 2 * BAND :], [2 * film.frames.shape[2] // 3], axis=2)
    assert (grey == grey[..., :1]).all()
    assert (coloured != coloured[..., :1]).any()
