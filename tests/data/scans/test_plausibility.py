import numpy as np
import pytest

from brain_tumor.data.scans.plausibility import PatientCheck, explain_size
from brain_tumor.data.scans.preparation import find_brain

NAMES = ["FLAIR", "T1", "T1ce", "T2"]


@pytest.fixture
def scan(rng):
    """Four modalities with a brain in the middle, and a tumour in it: (m, h, w, d) and (h, w, d)."""
    image = np.zeros((4, 24, 20, 6))
    image[:, 4:20, 4:16] = rng.normal(300, 40, (4, 16, 12, 6))
    labels = np.zeros((24, 20, 6), np.uint8)
    labels[8:12, 8:12, 2:5] = 1
    return image, labels


def check(image, labels=None):
    found = PatientCheck(NAMES)
    for number in range(image.shape[-1]):
        plane = image[..., number]
        found.add(plane, find_brain(plane), None if labels is None else labels[..., number])
    return found


def test_a_skull_is_noted_where_none_is_expected(scan):
    image = scan[0] + 300
    image[:, 0, 0] = 0
    for stripped, noted in ((True, True), (False, False)):
        found = PatientCheck(NAMES, skull_stripped=stripped)
        found.add(image[..., 0], image[0, ..., 0] > 0)
        assert ("if the skull is still there" in found.find_note()) == noted


def test_a_plain_scan_has_nothing_against_it(scan):
    found = check(*scan)
    assert found.find_problem() == found.find_note() == ""
    assert found.slices == 6


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_modality_is_as_good_as_missing(scan, value):
    scan[0][2] = value
    assert (
        check(*scan).find_problem().startswith("T1ce is constant: a failed conversion or registration, or a mask; give")
    )
    scan[0][3] = value
    assert check(*scan).find_problem().startswith("T1ce and T2 are constant")


def test_a_mask_in_the_place_of_a_modality(scan):
    scan[0][1] = scan[0][0] != 0
    assert check(*scan).find_image_problem().startswith("T1 is constant")


def test_a_modality_that_ends_below_the_top_is_used(scan):
    scan[0][1, ..., 4:] = 0
    assert check(*scan).find_problem() == ""


def test_one_image_under_two_names(scan):
    scan[0][2] = scan[0][1]
    assert check(*scan).find_problem() == "T1 and T1ce are the same image; give each modality its own file"


def test_a_mask_as_large_as_the_brain(scan):
    image, labels = scan
    labels[4:20, 4:16] = 3
    assert check(image, labels).find_problem().startswith("the mask takes 100% of the brain")
    assert check(image, labels).find_image_problem() == ""


def test_a_mask_outside_the_brain(scan):
    image, labels = scan
    labels[:] = 0
    labels[:4, :, 2:5] = 1
    assert "100% of the mask lie outside the brain" in check(image, labels).find_problem()


def test_a_background_that_is_not_one_value_is_noted(scan, rng):
    found = check(rng.normal(100, 10, scan[0].shape), scan[1])
    assert found.find_problem() == ""
    assert found.find_note().startswith("100% of the scan differ from its background")


def test_a_map_of_labels_in_the_place_of_a_modality(scan):
    image, labels = np.tile(scan[0], (1, 1, 2, 1)), np.tile(scan[1], (1, 2, 1))
    image[1] = labels + (image[0] != 0)
    assert check(image, labels).find_image_problem() == (
        "T1 has 16 values at most in any slice: a mask or another map of labels; give the scan itself"
    )
    image[1] = (image[1] - image[1].mean((0, 1))) / image[1].std((0, 1))  # as in published slices
    assert check(image, labels).find_image_problem().startswith("T1 has 16 values at most")


def test_one_image_in_two_scales(scan):
    image = np.tile(scan[0], (1, 1, 2, 1))
    assert check(image).find_image_problem() == ""
    image[3] = 2 * image[0] + 7
    assert check(image).find_image_problem() == (
        "FLAIR and T2 are one image in two scales; give each modality its own file"
    )


def test_a_modality_that_ends_halfway_is_noted(scan):
    image = np.tile(scan[0], (1, 1, 2, 1))
    image[0, ..., 3:] = 0
    found = check(image)
    assert found.find_problem() == ""
    assert found.find_note().startswith("FLAIR is constant in 3 of 6 slices in which others show brain")


@pytest.mark.parametrize("value", [1e30, 1e200, -32767])
def test_a_voxel_that_outweighs_all_others_is_noted(scan, value):
    image = np.tile(scan[0], (1, 1, 2, 1))
    image[1, 10, 10, 2] = value
    found = check(image)
    assert found.find_problem() == ""
    assert found.find_note() == (
        f"one voxel outweighs all others of T1 in 1 of 6 slices (up to {abs(value):.3g}); replace it by its neighbours"
    )


def test_an_empty_scan_is_no_matter_of_this(scan):
    assert check(np.zeros_like(scan[0])).find_problem() == ""


def test_size_of_a_mask():
    assert explain_size(360, 1300) == ""
    assert explain_size(1169, 1169).startswith("the mask takes 100% of the brain")
    assert explain_size(5, 0) == ""
