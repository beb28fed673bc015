import sys

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.ndimage import gaussian_filter

from brain_tumor.data.raw_scans import registration
from brain_tumor.data.raw_scans.grids import enclose, resample
from brain_tumor.data.raw_scans.registration import Box, register


def blobs(rng):
    """A head of 60 mm with structure inside, at 2 mm."""
    places = np.indices((40, 44, 36)) - np.array([20, 22, 18])[:, None, None, None]
    head = (places**2 / np.array([15, 17, 13])[:, None, None, None] ** 2).sum(0) < 1
    inside = gaussian_filter(rng.normal(size=head.shape), 2.5)
    voxels = np.where(head, 100 + 400 * inside, 0).astype(np.float32)
    return voxels, np.diag([2.0, 2, 2, 1])


def move(degrees, shift, centre):
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + shift
    return matrix


def pair(rng):
    """A volume, the same with another contrast elsewhere, and how it was moved."""
    voxels, affine = blobs(rng)
    centre = np.array([40.0, 44, 36])
    # From millimetres of the moved volume to those of the first.
    matrix = move(18, [6, -9, 12], centre)
    shape, grid = enclose(voxels.shape, affine, 2.0, margin=24)
    contrast = np.where(voxels > 0, 250 - voxels, 0).astype(np.float32)
    moved = resample(contrast, affine, shape, grid, matrix)
    return Box(voxels, affine), Box(moved, grid), np.linalg.inv(matrix), centre


def test_a_turned_and_shifted_volume_of_another_contrast_is_found(rng, monkeypatch):
    pytest.importorskip("SimpleITK", reason="the extra raw is not installed (SimpleITK)")
    monkeypatch.setattr(registration, "LEVELS", ((4.0, 60), (2.0, 30)))
    fixed, moving, expected, centre = pair(rng)
    found = register(fixed, moving)
    corners = centre + 25 * (np.indices((2, 2, 2)).reshape(3, 8).T * 2 - 1)
    apart = np.linalg.norm(apply_affine(found.matrix, corners) - apply_affine(expected, corners), axis=1)
    assert apart.max() < 1.5
    assert found.after > found.before + 0.1
    again = register(fixed, moving)
    assert np.array_equal(found.matrix, again.matrix)


def test_a_missing_library_is_named_with_the_command_that_installs_it(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    box = Box(*blobs(rng))
    with pytest.raises(ImportError, match=r"raw scans need SimpleITK.*pip install 'brain-tumor-mri\[raw\]'"):
        register(box, box)
