from itertools import permutations, product

import numpy as np
import pytest
from nibabel.affines import apply_affine
from nibabel.orientations import inv_ornt_aff

from brain_tumor.data.raw_scans.grids import enclose, measure_ml, resample

SHAPE = (6, 7, 8)
ORIENTATIONS = [
    np.column_stack([axes, flips]) for axes in permutations(range(3)) for flips in product([1, -1], repeat=3)
]


def oblique():
    angle = np.deg2rad(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] = affine[:3, :3] @ np.diag([0.5, 0.9, 5.0])
    affine[:3, 3] = 3, -20, 7
    return affine


def test_a_volume_on_its_own_grid_is_itself():
    voxels = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    np.testing.assert_allclose(resample(voxels, oblique(), SHAPE, oblique()), voxels, atol=1e-5)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda each: str(each.ravel()))
def test_all_48_orientations_of_a_grid_show_the_same_place(orientation):
    voxels = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    turned = np.empty(3, int)
    turned[orientation[:, 0].astype(int)] = SHAPE
    # From voxels of the turned grid to those of the volume.
    to_volume = inv_ornt_aff(orientation, SHAPE)
    found = resample(voxels, np.eye(4), turned.tolist(), to_volume, order=0)
    for index in product(*(range(side) for side in turned)):
        place = np.round(apply_affine(to_volume, index)).astype(int)
        assert found[index] == voxels[tuple(place)]


def test_a_transform_leads_from_the_grid_to_the_volume():
    voxels = np.zeros(SHAPE, np.float32)
    voxels[2, 3, 4] = 1
    shift = np.eye(4)
    shift[:3, 3] = 1, 0, 0
    found = resample(voxels, np.eye(4), SHAPE, np.eye(4), shift, order=0)
    assert np.argwhere(found).tolist() == [[1, 3, 4]]


def test_a_coarser_grid_averages_what_is_in_between():
    voxels = np.zeros((40, 8, 8), np.float32)
    voxels[::2] = 1
    coarse = np.diag([5.0, 1, 1, 1])
    inner = resample(voxels, np.eye(4), (8, 8, 8), coarse)[2:6]
    np.testing.assert_allclose(inner, 0.5, atol=0.05)


def test_a_grid_encloses_every_voxel():
    shape, grid = enclose(SHAPE, oblique(), 1.0, margin=2.0)
    ends = [(0, side - 1) for side in SHAPE]
    inside = apply_affine(np.linalg.inv(grid), apply_affine(oblique(), list(product(*ends))))
    assert (inside >= 2 - 0.5).all()
    assert (inside <= np.array(shape) - 1 - 2 + 0.5 + 1).all()


def test_millilitres_are_those_of_marked_voxels():
    assert measure_ml(np.ones((10, 10, 10), np.uint8), oblique()) == pytest.approx(0.5 * 0.9 * 5)
