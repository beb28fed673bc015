import numpy as np
import pytest

from brain_tumor.training.segmentation.corruption import KINDS, corrupt

MODALITIES = ("FLAIR", "T1")
NUMBERS = np.arange(10, 16)


@pytest.fixture
def image():
    """Six slices, mean 0 and deviation 1 over an elliptic brain, smooth along the slices."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :48] - 23.5
    brain = (rows / 18) ** 2 + (columns / 14) ** 2 < 1
    values = rng.normal(size=(1, 2, 48, 48)) + rng.normal(scale=0.2, size=(6, 2, 48, 48))
    values -= values[..., brain].mean(-1)[..., None, None]
    values /= values[..., brain].std(-1)[..., None, None]
    return np.where(brain, values, 0).astype(np.float32)


def worsen(image, kind, severity, seed=0, spacing=(1.0, 2.0, 2.0)):
    return corrupt(image, kind, severity, NUMBERS, spacing, MODALITIES, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_corrupted_slices_are_prepared_ones(kind, image):
    found = worsen(image, kind, 1.0)
    brain = (image != 0).any(1, keepdims=True)
    assert found.dtype == np.float32
    assert not found[~np.broadcast_to(brain, found.shape)].any()
    inside = found[:, :, brain[0, 0]]
    np.testing.assert_allclose(inside.mean(-1), 0, atol=1e-3)
    np.testing.assert_allclose(inside.std(-1), 1, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_more_severe_is_further_from_the_scan_and_a_seed_repeats_it(kind, image):
    mild, severe = (np.abs(worsen(image, kind, severity) - image).mean() for severity in (0.1, 1.0))
    assert 0 <= mild < severe
    assert np.array_equal(worsen(image, kind, 0.5), worsen(image, kind, 0.5))
    if kind in ("noise", "bias field", "motion"):
        assert not np.array_equal(worsen(image, kind, 0.5), worsen(image, kind, 0.5, seed=1))


def test_a_thick_slice_is_the_mean_of_those_that_it_holds(image):
    found = worsen(image, "thick slices", 1.0)
    # 5 mm hold the first five slices of 1 mm; the sixth is by itself.
    for each in found[1:5]:
        np.testing.assert_allclose(each, found[0], atol=1e-6)
    np.testing.assert_allclose(found[5], image[5], atol=1e-4)
    assert np.corrcoef(found[0].ravel(), image[:5].mean(0).ravel())[0, 1] > 0.999
    # Slices that are thicker already stay.
    np.testing.assert_allclose(worsen(image, "thick slices", 1.0, spacing=(6.0, 2.0, 2.0)), image, atol=1e-4)


def test_a_missing_modality_is_0_and_the_others_stay(image):
    found = worsen(image, "without T1", 1.0)
    assert not found[:, 1].any()
    assert np.array_equal(found[:, 0], image[:, 0])


def test_a_ghost_lies_half_a_field_of_view_away():
    from brain_tumor.training.segmentation.corruption import _ghost

    plane = np.zeros((32, 32), np.float32)
    plane[8, 8] = 1
    ghosted = _ghost(plane, 1.0)
    assert ghosted[8, 8] == pytest.approx(0.6)
    assert ghosted[24, 8] == pytest.approx(0.4)
    assert ghosted.sum() == pytest.approx(1, abs=1e-4)
