import numpy as np
import pytest

from brain_tumor.data.common.store import Store, StoreContent, write_store
from brain_tumor.data.scans.brain_crop import BRAIN, find_brain_crop, locate_brain


def save(folder, boxes, size=128):
    columns = (
        {name: np.array(ends, np.int16) for name, ends in zip(BRAIN, zip(*boxes, strict=True), strict=True)}
        if boxes
        else {}
    )
    count = len(boxes) or 2
    write_store(
        folder / "slices.h5",
        StoreContent({}, iter([{"image": np.zeros((count, 4, size, size), np.float16)} | columns])),
    )
    return Store(folder / "slices.h5")


def test_window_holds_every_brain(tmp_path):
    store = save(tmp_path, [(40, 70, 30, 90), (0, 0, 0, 0), (35, 60, 50, 101)])  # one slice without brain
    assert find_brain_crop(store) == (28, 76, 25, 105)


@pytest.mark.parametrize("boxes", [[], [(0, 0, 0, 0)] * 2])
def test_without_brains_the_window_is_the_whole_image(tmp_path, boxes):
    assert find_brain_crop(save(tmp_path, boxes)) == (0, 128, 0, 128)


def test_a_brain_is_where_any_modality_is_and_what_is_labelled():
    image, labels = np.zeros((4, 16, 16), np.float16), np.zeros((16, 16), np.uint8)
    assert list(locate_brain(image, labels).values()) == [0, 0, 0, 0]
    image[1, 3:7, 5], image[3, 5, 9] = 1, -1
    assert locate_brain(image, labels) == {"brain_top": 3, "brain_bottom": 7, "brain_left": 5, "brain_right": 10}
    labels[12, 2] = 3
    assert list(locate_brain(image, labels).values()) == [3, 13, 2, 10]
