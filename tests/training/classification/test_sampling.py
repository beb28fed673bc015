import numpy as np
import pytest

from brain_tumor.training.classification.sampling import repeat_scarce_sources


def counts(labels, listed, strength):
    used = repeat_scarce_sources(labels, listed, strength)
    assert {*used.tolist()} == {*range(len(labels))}
    return [[int(np.sum((labels[used] == label) & (listed[used] == source))) for source in (0, 1)] for label in (0, 1)]


@pytest.mark.parametrize(
    ("strength", "expected"), [(0, [[4, 100], [30, 0]]), (0.5, [[20, 100], [30, 0]]), (1, [[100, 100], [30, 0]])]
)
def test_images_of_a_scarce_source_are_used_more_often_within_their_class(strength, expected):
    labels = np.array([0] * 104 + [1] * 30, np.uint8)
    listed = np.array([False] * 4 + [True] * 100 + [False] * 30)
    assert counts(labels, listed, strength) == expected


def test_either_source_may_be_the_scarce_one_and_parts_are_spread():
    labels, listed = np.zeros(13, int), np.array([True] * 3 + [False] * 10)
    used = repeat_scarce_sources(labels, listed, 1)
    # 10 uses of three images: as even as whole numbers allow
    assert sorted(np.bincount(used)[:3].tolist()) == [3, 3, 4]


def test_two_sources_of_the_same_size_stay_as_they_are():
    labels, listed = np.zeros(6, int), np.array([True] * 3 + [False] * 3)
    assert repeat_scarce_sources(labels, listed, 1).tolist() == [0, 1, 2, 3, 4, 5]
