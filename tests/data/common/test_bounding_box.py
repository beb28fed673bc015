import numpy as np
import pytest

from brain_tumor.data.common.bounding_box import BoundingBox


def test_smallest_box_around_a_mask():
    mask = np.zeros((9, 12), bool)
    mask[2, 5] = mask[6, 3] = True
    assert BoundingBox.from_mask(mask) == (2, 7, 3, 6)
    assert BoundingBox.from_mask(mask).shape == (5, 3)
    assert BoundingBox.from_mask(np.zeros((9, 12), bool)) == (0, 0, 0, 0)


def test_a_part_goes_back_to_its_place():
    images = np.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    box = BoundingBox(1, 4, 2, 7)
    back = box.uncrop(box.crop(images), 8)
    assert np.array_equal(box.crop(back), images[:, :, 1:4, 2:7])
    assert back.sum() == box.crop(images).sum()
    around = box.uncrop(box.crop(images).astype(float), 8, np.nan)
    assert np.array_equal(box.crop(around), box.crop(images))
    assert np.isnan(around).sum() == 2 * 3 * (64 - 15)


@pytest.mark.parametrize(
    ("box", "least", "grown"),
    [
        (BoundingBox(30, 60, 40, 73), (0, 0), BoundingBox(29, 61, 32, 80)),  # in the middle
        (BoundingBox(0, 17, 120, 128), (0, 0), BoundingBox(0, 32, 112, 128)),  # at the edge
        (BoundingBox(30, 60, 40, 73), (96, 112), BoundingBox(0, 96, 0, 112)),  # as large as asked for
        (BoundingBox(-1, 130, 5, 5), (0, 0), BoundingBox(0, 128, 0, 16)),  # never more than there is
    ],
)
def test_grows_to_multiples_of_16_within_the_image(box, least, grown):
    assert box.pad_to_multiple(128, least) == grown
