import io

import numpy as np
import pandas as pd
import pytest

from brain_tumor.figures.segmentation_data import (
    BAND,
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
    drawn = {line.get_label(): line.get_ydata().tolist() for line in heights.axes[0].lines}
    assert drawn == {"A": [0, 2], "B": [1, 0], "C": [0, 0]}
    grades = draw_patients(patients, tissues, "t")
    assert [text.get_text() for text in grades.axes[0].get_xticklabels()] == ["HGG", "not known"]
    for figure in (
        heights,
        grades,
        draw_histograms(image, labels, list("wxyz"), tissues, "t"),
        draw_montage(image, labels, list("abcde"), "t"),
    ):
        figure.savefig(io.BytesIO(), dpi=30)


def test_film_has_a_frame_for_each_slice_and_colours_only_the_last_panel(slices):
    image, labels = slices
    film = animate_patient(image, labels, {"FLAIR": 0, "T1ce": 2}, "SIMULATED")
    assert film.frames.shape == (5, BAND + 16, 48, 3)
    assert film.frames[:, :BAND].any(), "the title"
    grey, coloured = film.frames[:, BAND:, :32], film.frames[:, BAND:, 32:]
    assert (grey == grey[..., :1]).all()
    assert (coloured != coloured[..., :1]).any()
