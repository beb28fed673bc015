from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from support import real

from brain_tumor.data.scans.nifti_volumes import read_volume
from brain_tumor.data.scans.scan_warnings import correlate_ranks, find_warnings, judge_brain, judge_contrasts

NAMES = ["FLAIR", "T1", "T1ce", "T2"]
SPACING = (4.0, 4.0, 4.0)
SWAPS = list(combinations(range(4), 2))


@pytest.fixture(scope="module")
def scan():
    """A brain of 140 x 170 x 130 mm at 4 mm, (m, h, w, d): fluid, grey and white matter, oedema, vessels, noise."""
    rng = np.random.default_rng(0)
    axes = [(np.arange(count) - count / 2 + 0.5) * 4 for count in (48, 54, 42)]
    row, column, height = np.meshgrid(*axes, indexing="ij")

    def ellipsoid(a, b, c, shift=0):
        return ((row - shift) / a) ** 2 + (column / b) ** 2 + (height / c) ** 2 < 1

    brain = ellipsoid(70, 85, 65)
    tissue = np.where(ellipsoid(58, 72, 53), 2, 1)
    tissue[ellipsoid(12, 40, 16)] = 0
    tissue[ellipsoid(15, 18, 16, 35)] = 3
    tissue[rng.random(brain.shape) < 0.02] = 4
    # fluid, grey, white, oedema, vessel
    contrast = np.array(
        [[30, 110, 100, 180, 100], [30, 70, 100, 65, 75], [30, 75, 100, 65, 230], [250, 100, 70, 150, 95]], float
    )
    return (contrast[:, tissue] + rng.normal(0, 5, (4, *brain.shape))).clip(1) * brain


def warn(image, spacing=SPACING, names=NAMES, **how):
    return find_warnings(image, (image != 0).any(0), spacing, names, **how)


def swap(image, pair):
    order = list(range(4))
    order[pair[0]], order[pair[1]] = pair[1], pair[0]
    return image[order]


def test_a_right_scan_has_no_warning(scan):
    assert warn(scan) == []
    assert warn(np.zeros_like(scan)) == []


@pytest.mark.parametrize("pair", SWAPS)
def test_two_modalities_in_each_others_place_are_named(scan, pair):
    (warning,) = warn(swap(scan, pair))
    assert warning.startswith(f"{NAMES[pair[0]]} and {NAMES[pair[1]]} look swapped")
    assert warning.endswith("; check which file is which")


def test_other_names_and_other_orders_of_channels(scan):
    order = [2, 0, 3, 1]
    assert warn(scan[order], names=[NAMES[k] for k in order]) == []
    assert warn(swap(scan, (0, 3)), names=["a", "b", "c", "d"]) == []


def test_one_image_with_another_noise(scan, rng):
    image = scan.copy()
    image[2] = (scan[1] + rng.normal(0, 3, scan[1].shape)) * (scan[1] != 0)
    (warning,) = warn(image)
    assert warning.startswith("T1 and T1ce are nearly the same image (rank correlation 0.9")
    assert warn(image, skull_stripped=False) == [warning]


@pytest.mark.parametrize(
    ("part", "where"),
    [
        (np.s_[:, 12:], "at the right ("),
        (np.s_[:, :-12], "at the left ("),
        (np.s_[:, :, 12:], "in front ("),
        (np.s_[..., :-11], "at the top ("),
    ],
)
def test_a_field_of_view_that_cuts_the_brain(scan, part, where):
    (warning,) = warn(scan[part])
    assert where in warning
    assert warning.startswith("the field of view cuts the brain ")


def test_some_slices_of_a_scan_say_nothing_of_its_size(scan):
    part = scan[..., 20:26]
    assert "at the bottom (" in warn(part)[0]
    assert warn(part, whole=False) == []


def test_a_skull_on_an_empty_background(scan):
    brain = (scan != 0).any(0)
    shell = binary_dilation(brain, iterations=3) & ~brain
    (warning,) = warn(scan + 90 * shell)
    assert "the skull is still there" in warning
    assert warn(scan + 90 * shell, skull_stripped=False) == []


def test_another_part_of_the_body(scan):
    leg = np.zeros_like(scan)
    leg[:, 10:34, 10:34, 1:-1] = np.random.default_rng(0).normal(100, 20, (4, 24, 24, 40))
    assert "of the box around it" in warn(leg)[0]
    assert "check the unit of the spacing" in warn(scan, (0.4, 0.4, 0.4))[0]


def test_a_modality_that_is_constant_or_extreme_is_no_matter_of_this(scan):
    image = scan.copy()
    image[2] = 7
    constant = warn(image)
    image[2, 24, 27, 20] = 1e200
    assert warn(image) == constant
    assert not any("T1ce" in words for words in constant)


def read(patient):
    volumes = [read_volume(next(patient.glob(f"*_{name.lower()}.nii.gz"))) for name in NAMES]
    return np.stack([voxels for voxels, _ in volumes])[:, ::2, ::2, ::2]


@pytest.mark.parametrize("place", ["brats-nifti", "brats-nifti-lgg"])
def test_real_scans_have_no_warning_and_each_wrong_order_has_one(place):
    for patient in sorted(real(place).iterdir()):
        image = read(patient)
        assert warn(image, (2.0, 2.0, 2.0)) == [], patient.name
        brain = (image != 0).any(0)
        values = image[:, brain].astype(np.float64)
        ranks = correlate_ranks(values)
        for order in permutations(range(4)):
            said = judge_contrasts(values[list(order)], ranks[np.ix_(order, order)], NAMES)
            moved = [NAMES[k] for k in range(4) if order[k] != k]
            who = " and ".join(moved) if len(moved) == 2 else "modalities"
            assert [words.split(" look swapped")[0] for words in said] == [who] * bool(moved), (patient.name, order)
        assert "at the top" in judge_brain(brain[..., :-30], (2.0, 2.0, 2.0))[0]


def test_a_real_head_on_an_empty_background():
    voxels, affine = read_volume(real("raw-scans") / "TCGA-FG-6692" / "TCGA-FG-6692_t1ce.nii.gz")
    head = voxels * (voxels > 0.12 * np.quantile(voxels, 0.99))
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    warnings = warn(head[None], spacing, ["T1ce"])
    assert any("the skull is still there" in warning for warning in warnings)
