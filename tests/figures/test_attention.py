import numpy as np

from brain_tumor.figures.attention import draw_maps, overlay
from brain_tumor.figures.segmentation import grey


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
