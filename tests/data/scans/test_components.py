import numpy as np
import pytest

from brain_tumor.data.scans.components import label_components, remove_small_components, replace_small_volume
from brain_tumor.training.settings import PredictionSettings


def make():
    """Pieces of 8, 2 and 1 voxels; the second touches itself at a corner only, the first has two labels."""
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[:2, :2, :2] = 2
    labels[0, 0, 0] = 3
    labels[4, 4, 4] = labels[5, 5, 5] = 1
    labels[0, 5, 0] = 1
    return labels


def test_pieces_and_their_volumes():
    labelled, volumes = label_components(make() > 0, 0.5)
    assert sorted(volumes) == [0, 0.5, 1, 4]
    assert labelled[4, 4, 4] == labelled[5, 5, 5]


@pytest.mark.parametrize(("smallest", "left"), [(0, 11), (0.5, 11), (0.6, 10), (1.1, 8), (9, 8)])
def test_small_pieces_are_dropped_and_the_largest_stays(smallest, left):
    labels = make()
    kept = remove_small_components(labels, 0.5, smallest)
    assert np.count_nonzero(kept) == left
    np.testing.assert_array_equal(kept[kept > 0], labels[kept > 0])


def test_nothing_found_stays_nothing():
    assert not remove_small_components(np.zeros((3, 3, 3), np.uint8), 1.0, 1.0).any()


def test_too_little_of_a_tissue_is_taken_for_another():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0, 0, :3], labels[2] = 3, 2
    assert np.array_equal(replace_small_volume(labels, 0.1, 3, 0.3, 1), labels)
    replaced = replace_small_volume(labels, 0.1, 3, 0.31, 1)
    assert replaced.dtype == np.uint8
    assert (replaced == 1).sum() == 3
    assert np.array_equal(np.where(replaced == 1, 3, replaced), labels)


def test_a_volume_is_tidied_by_the_names_of_its_tissues():
    labels = np.zeros((9, 4, 4), np.uint8)
    labels[0, 0, :3], labels[1:3], labels[6, 0, 0] = 3, 2, 2
    settings = PredictionSettings(min_component_ml=0.2, min_volume={"ET": {"ml": 1, "replace_with": "NCR"}})
    tidied = settings.postprocess(labels, 0.1, ["NCR", "ED", "ET"])
    assert (tidied[0, 0, :3] == 1).all()
    assert (tidied[1:3] == 2).all()
    assert not tidied[3:].any()
    other = settings.postprocess(labels, 0.1, ["core", "ED", "ET"])  # a data set without NCR
    assert (other[0, 0, :3] == 3).all()


@pytest.mark.parametrize(("least", "left"), [(1.0, 10), (1.01, 8)])
def test_a_small_piece_with_enough_of_a_tissue_stays(least, left):
    labels = make()  # the piece of 2 voxels has 1 ml of label 1, that of 1 voxel 0.5 ml
    assert np.count_nonzero(remove_small_components(labels, 0.5, 3, {1: least})) == left


def test_tissues_that_keep_a_piece_are_named():
    labels = np.zeros((9, 4, 4), np.uint8)
    labels[0, 0, :3], labels[2:4], labels[6, 0, :3] = 3, 2, 1
    settings = PredictionSettings(min_component_ml=1, kept_with_ml={"ET": 0.3})
    tidied = settings.postprocess(labels, 0.1, ["NCR", "ED", "ET"])
    assert (tidied[0, 0, :3] == 3).all()
    assert not tidied[6].any()
