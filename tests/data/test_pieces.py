import numpy as np
import pytest

from brain_tumor.data.pieces import drop_small, label_pieces


def make():
    """Pieces of 8, 2 and 1 voxels; the second touches itself at a corner only, the first has two labels."""
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[:2, :2, :2] = 2
    labels[0, 0, 0] = 3
    labels[4, 4, 4] = labels[5, 5, 5] = 1
    labels[0, 5, 0] = 1
    return labels


def test_pieces_and_their_volumes():
    labelled, volumes = label_pieces(make() > 0, 0.5)
    assert sorted(volumes) == [0, 0.5, 1, 4]
    assert labelled[4, 4, 4] == labelled[5, 5, 5]


@pytest.mark.parametrize(("smallest", "left"), [(0, 11), (0.5, 11), (0.6, 10), (1.1, 8), (9, 8)])
def test_small_pieces_are_dropped_and_the_largest_stays(smallest, left):
    labels = make()
    kept = drop_small(labels, 0.5, smallest)
    assert np.count_nonzero(kept) == left
    np.testing.assert_array_equal(kept[kept > 0], labels[kept > 0])


def test_nothing_found_stays_nothing():
    assert not drop_small(np.zeros((3, 3, 3), np.uint8), 1.0, 1.0).any()
