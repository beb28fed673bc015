import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice
from scipy.ndimage import binary_erosion, distance_transform_edt

from brain_tumor.metrics.surfaces import MAX_HD95_MM, score_surfaces, to_volume


def box(*bounds):
    volume = np.zeros((20, 32, 32), np.uint8)
    volume[tuple(slice(*b) for b in bounds)] = 1
    return volume


def values(truth, predicted, spacing=(1.0, 1.0, 1.0)):
    return score_surfaces(truth, predicted, spacing, {"WT": (1,)}).set_index("metric")["value"].to_dict()


def test_box_moved_along_one_axis_by_hand():
    """Moved by 3 slices of 2 mm: no surface is farther than 6 mm, and more than a twentieth of it is that far."""
    truth, moved = box((4, 10), (8, 20), (8, 20)), box((7, 13), (8, 20), (8, 20))
    assert values(truth, moved, (2.0, 1.0, 1.0))["hd95_mm"] == pytest.approx(6)
    assert values(truth, truth)["hd95_mm"] == 0
    assert values(truth, truth)["surface_dice"] == 1
    assert values(truth, box((5, 11), (8, 20), (8, 20)))["surface_dice"] == 1  # 1 mm is within the tolerance
    assert values(truth, box((5, 11), (8, 20), (8, 20)), (5.0, 1.0, 1.0))["surface_dice"] < 1  # 5 mm is not


def test_distance_is_that_of_scipy(rng):
    truth, found = box((3, 12), (5, 20), (6, 22)), box((4, 15), (8, 22), (4, 19))
    spacing = (3.0, 1.5, 1.2)
    edges = [mask & ~binary_erosion(mask) for mask in (truth > 0, found > 0)]
    one, other = (distance_transform_edt(~edge, sampling=spacing) for edge in edges)
    expected = max(np.percentile(one[edges[1]], 95), np.percentile(other[edges[0]], 95))
    assert values(truth, found, spacing)["hd95_mm"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_surface_dice_is_monais():
    truth, found = box((3, 12), (5, 20), (6, 22)), box((4, 15), (8, 22), (4, 19))
    spacing = (3.0, 1.5, 1.2)
    masks = [torch.from_numpy(mask > 0)[None, None] for mask in (found, truth)]
    expected = compute_surface_dice(*masks, [2.0], include_background=True, spacing=spacing).item()
    assert 0.05 < expected < 0.95
    assert values(truth, found, spacing)["surface_dice"] == pytest.approx(expected, rel=1e-5)
    assert values(found, truth, spacing)["surface_dice"] == pytest.approx(expected, rel=1e-5)


def test_empty_masks_follow_brats():
    empty, full = box((0, 0), (0, 0), (0, 0)), box((4, 10), (8, 20), (8, 20))
    assert values(empty, empty) == {"hd95_mm": 0, "surface_dice": 1}
    assert values(full, empty) == values(empty, full) == {"hd95_mm": MAX_HD95_MM, "surface_dice": 0}


def test_slices_that_make_a_volume_and_those_that_do_not():
    slices = np.arange(1, 6, dtype=np.uint8)[:, None, None] * np.ones((5, 2, 2), np.uint8)
    volume, step = to_volume(slices, np.array([14, 20, 26, 32, 38]))
    assert step == 6
    assert volume[:, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert to_volume(slices[:2], np.array([14, 20])) is None
    assert to_volume(slices[:3], np.array([14, 20, 80])) is None  # seven of ten missing
    many = np.zeros((19, 2, 2), np.uint8) + 7
    volume, step = to_volume(many, np.delete(np.arange(20), 4))
    assert (step, volume[:, 0, 0].tolist()) == (1, [7] * 4 + [0] + [7] * 15)


def test_slices_of_one_number_make_no_volume():
    assert to_volume(np.zeros((4, 8, 8), np.uint8), np.array([3, 3, 3, 3])) is None
    assert to_volume(np.zeros((4, 8, 8), np.uint8), np.array([3, 4, 4, 5])) is None
    assert to_volume(np.zeros((3, 8, 8), np.uint8), np.array([5, 3, 4])) is not None
