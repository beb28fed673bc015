import gzip

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from brain_tumor.data.scans import display
from brain_tumor.data.scans.display import MARGIN, prepare_display

AFFINE = np.array([[-1.0, 0.1, 0, 20], [-0.1, -2.0, 0, 40], [0, 0, 3.0, -5], [0, 0, 0, 1]])


def read(content):
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


@pytest.fixture
def scan(rng):
    """Two modalities with a brain in the middle of 60 x 50 x 30 voxels, and a mask in it."""
    image = np.zeros((2, 60, 50, 30), np.int16)
    image[:, 20:40, 15:35, 10:22] = rng.integers(100, 900, (2, 20, 20, 12))
    mask = np.zeros((60, 50, 30), np.uint8)
    mask[25:30, 20:26, 12:15], mask[25:30, 20:26, 15] = 2, 3
    return image, mask


def test_every_voxel_stays_where_it_was(scan):
    image, mask = scan
    shown = prepare_display(image, {"Network": mask}, AFFINE, ["FLAIR", "T1"])
    assert shown.start == (20 - MARGIN, 15 - MARGIN, 10 - MARGIN)
    assert shown.shape == (20 + 2 * MARGIN, 20 + 2 * MARGIN, 12 + 2 * MARGIN)
    found = read(shown.masks["Network"])
    labels = np.asarray(found.dataobj)
    for label in (2, 3):
        before = apply_affine(AFFINE, np.argwhere(mask == label))
        after = apply_affine(found.affine, np.argwhere(labels == label))
        np.testing.assert_allclose(after, before, atol=1e-4)
    np.testing.assert_allclose(found.affine, shown.affine, atol=1e-5)


def test_grey_values_keep_their_order_and_background_is_0(scan):
    image, mask = scan
    shown = prepare_display(image, {"Network": mask}, AFFINE, ["FLAIR", "T1"])
    for name, volume in zip(("FLAIR", "T1"), image, strict=True):
        grey = np.asarray(read(shown.scans[name]).dataobj)
        part = volume[16:44, 11:39, 6:26]
        assert grey.dtype == np.uint8
        np.testing.assert_array_equal(grey == 0, part == 0)
        order = np.argsort(part[part > 0], kind="stable")
        assert (np.diff(grey[part > 0][order].astype(int)) >= 0).all()
        assert (grey.min(), grey[part > 0].min(), grey.max()) == (0, 1, 255)


def test_the_first_view_is_the_largest_slice_of_the_tumour(scan):
    image, mask = scan
    mask[30:34, 26:30, 13] = 1
    row, column, depth = prepare_display(image, {"Network": mask}, AFFINE, ["FLAIR", "T1"]).centre
    assert depth + 10 - MARGIN == 13
    assert mask[row + 20 - MARGIN, column + 15 - MARGIN, 13]


@pytest.mark.parametrize("fill", [0, 5])
def test_without_brain_and_tumour_everything_is_kept(fill):
    image, mask = np.full((1, 20, 16, 5), fill, np.float32), np.zeros((20, 16, 5), np.uint8)
    shown = prepare_display(image, {"Network": mask}, AFFINE, ["FLAIR"])
    assert (shown.shape, shown.centre) == ((20, 16, 5), (10, 8, 2))
    assert not np.asarray(read(shown.scans["FLAIR"]).dataobj).any()


def test_a_large_scan_is_thinned_and_stays_in_place(scan, monkeypatch):
    image, mask = scan
    monkeypatch.setattr(display, "MOST_VOXELS", 2 * 28 * 28 * 20 // 3)
    shown = prepare_display(image, {"Network": mask}, AFFINE, ["FLAIR", "T1"])
    assert max(shown.step) == 2
    assert 2 * np.prod(shown.shape) <= display.MOST_VOXELS
    found = read(shown.masks["Network"])
    marked = apply_affine(found.affine, np.argwhere(np.asarray(found.dataobj)))
    index = apply_affine(np.linalg.inv(AFFINE), marked).round().astype(int)
    assert mask[tuple(index.T)].all()
