from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from nibabel.orientations import inv_ornt_aff
from support import real

from brain_tumor.data.raw_scans.atlas import AFFINE, SHAPE, is_on_grid, load_atlas
from brain_tumor.data.raw_scans.brain import (
    LEAST_STRUCTURE,
    PREPARED,
    SKULL,
    STRIPPED,
    extract_brain,
    find_foreground,
    find_state,
    measure_structure,
)
from brain_tumor.data.raw_scans.checks import find_warnings, measure_cut, measure_overlap, measure_shift, measure_turn
from brain_tumor.data.raw_scans.grids import measure_ml
from brain_tumor.data.raw_scans.prepare import find_brain, find_own_mask, return_labels
from brain_tumor.data.raw_scans.registration import Box
from brain_tumor.data.scans.nifti_masks import read_mask, write_mask
from brain_tumor.data.scans.nifti_volumes import read_volume

ORIENTATIONS = [
    np.column_stack([axes, flips]) for axes in permutations(range(3)) for flips in product([1, -1], repeat=3)
]


def turn(degrees):
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


@pytest.fixture(scope="module")
def ball():
    """Labels 1 to 3 in shells around a place, on a grid of 1 mm."""
    places = np.indices((48, 48, 48)) - np.array([26, 22, 24])[:, None, None, None]
    radius = np.sqrt((places**2).sum(0))
    return np.select([radius < 5, radius < 9, radius < 12], [1, 3, 2], 0).astype(np.uint8)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda each: str(each.ravel()))
def test_a_mask_lies_on_the_named_scan_in_all_48_orientations(ball, orientation, brats, tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="the extra raw is not installed (SimpleITK)")
    # The scan: half the voxels in plane, thick slices, oblique, its axes in this orientation.
    shape = (60, 64, 12)
    fine = turn(15) @ np.diag([-0.8, -0.8, 4.0, 1.0])
    fine[:3, 3] = np.array([24.0, 24, 24]) - fine[:3, :3] @ ((np.array(shape) - 1) / 2)
    turned = np.empty(3, int)
    turned[orientation[:, 0].astype(int)] = shape
    affine = fine @ inv_ornt_aff(orientation, shape)
    scan = nib.Nifti1Image(np.zeros(turned, np.int16), affine)
    scan.set_qform(affine, 1)
    scan.set_sform(affine, 1)
    nib.save(scan, tmp_path / "scan.nii.gz")
    voxels, grid = read_volume(tmp_path / "scan.nii.gz")
    returned = return_labels(ball, np.eye(4), voxels.shape, grid, np.eye(4), nearest=True)
    write_mask(tmp_path / "mask.nii.gz", returned, tmp_path / "scan.nii.gz", brats.tissues)
    mask = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(mask.get_qform(), scan.get_qform(), atol=1e-4)
    np.testing.assert_allclose(mask.get_sform(), scan.get_sform(), atol=1e-4)
    marked = np.asarray(mask.dataobj)
    expected = _look_up(ball, apply_affine(mask.affine, np.argwhere(marked >= 0)))
    assert np.array_equal(np.array([0, 1, 2, 4])[expected], marked.ravel())
    # ITK has its own way to millimetres: to the left and the back.
    image = sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    for index in np.argwhere(marked)[::50]:
        x, y, z = image.TransformIndexToPhysicalPoint(index.tolist())
        np.testing.assert_allclose([-x, -y, z], apply_affine(mask.affine, index), atol=1e-3)


def _look_up(labels, places):
    index = np.rint(places).astype(int)
    inside = ((index >= 0) & (index < labels.shape)).all(1)
    found = np.zeros(len(index), int)
    found[inside] = labels[tuple(index[inside].T)]
    return found


def test_interpolated_labels_are_those_of_the_ball(ball):
    to_labels = turn(30)
    shape, grid = (100, 100, 100), np.diag([0.7, 0.7, 0.7, 1.0])
    grid[:3, 3] = -10
    found = return_labels(ball, np.eye(4), shape, grid, to_labels, nearest=False)
    places = apply_affine(to_labels, apply_affine(grid, np.argwhere(found >= 0)))
    radius = np.linalg.norm(places - [26, 22, 24], axis=1)
    expected = np.select([radius < 5, radius < 9, radius < 12], [1, 3, 2], 0)
    assert np.mean(expected == found.ravel()) > 0.995
    for k in (1, 2, 3):
        both = np.count_nonzero((expected == k) & (found.ravel() == k))
        assert 2 * both / (np.count_nonzero(expected == k) + np.count_nonzero(found == k)) > 0.9


def test_the_atlas_lies_where_brains_of_brats_do():
    brain = load_atlas().voxels > 0
    assert 1200 < np.count_nonzero(brain) / 1000 < 1700
    assert measure_overlap(brain[::-1, ::-1]) > 0.95


def test_states_are_told_by_what_differs_from_the_background(rng):
    brain = load_atlas().voxels[::-1, ::-1]
    assert brain.shape == SHAPE
    assert find_state(brain, AFFINE) == PREPARED
    # The same voxels, wherever the header lays them; but not another position of the brain.
    elsewhere = AFFINE.copy()
    elsewhere[:3, 3] = 7
    assert find_state(brain, elsewhere) == PREPARED
    assert find_state(np.roll(brain, 30, axis=1), AFFINE) == STRIPPED
    assert find_state(brain[::2, ::2, ::2], AFFINE @ np.diag([2, 2, 2, 1])) == STRIPPED
    noise = rng.normal(100, 10, (40, 40, 30))
    assert find_state(noise, np.diag([5.0, 5, 5, 1])) == SKULL


def test_the_background_need_not_be_zero():
    voxels = np.full((10, 10, 10), -5)
    voxels[3:6, 3:6, 3:6] = 0
    assert find_foreground(voxels).sum() == 27


def test_a_grid_of_brats_has_its_voxels():
    assert is_on_grid(SHAPE, AFFINE)
    assert not is_on_grid(SHAPE, AFFINE @ np.diag([1, 1, 1.2, 1]))


def test_turns_and_shifts_are_measured():
    matrix = turn(25)
    assert measure_turn(matrix) == pytest.approx(25)
    assert measure_shift(matrix, np.zeros(3)) == 0
    assert measure_shift(matrix, np.array([10.0, 0, 0])) == pytest.approx(2 * 10 * np.sin(np.deg2rad(12.5)))


def test_a_field_of_view_that_cuts_the_brain_is_measured():
    brain = np.zeros(SHAPE, bool)
    brain[100:140, 100:140, 50:90] = True
    whole = measure_cut(brain, SHAPE, AFFINE, np.eye(4))
    half = measure_cut(brain, (240, 240, 70), AFFINE, np.eye(4))
    assert whole == 0
    assert half == pytest.approx(0.5, abs=0.03)


def test_warnings_name_what_looks_wrong():
    assert find_warnings(1400, 0.93, {"T1": 0.0}, {"T1": (3.0, 5.0)}) == []
    found = find_warnings(600, 0.5, {"T2": 0.2}, {"T1": (50.0, 5.0)})
    assert [words.split()[0] for words in found] == ["the", "the", "T2", "T1"]


@pytest.mark.parametrize("patient", ["BraTS2021_00006", "BraTS20_Training_001"])
def test_scans_of_brats_are_prepared(patient):
    folder = real(f"brats-nifti/{patient}")
    for name in ("flair", "t1", "t1ce", "t2"):
        assert find_state(*read_volume(folder / f"{patient}_{name}.nii.gz")) == PREPARED


@pytest.mark.parametrize(("patient", "state"), [("TCGA-FG-6692", SKULL), ("TCGA-DU-7294", STRIPPED)])
def test_raw_scans_need_what_they_lack(patient, state):
    folder = real(f"raw-scans/{patient}")
    for name in ("flair", "t1", "t1ce", "t2"):
        assert find_state(*read_volume(folder / f"{patient}_{name}.nii.gz")) == state


def test_a_mask_without_labels_stays_empty():
    empty = np.zeros((8, 8, 8), np.uint8)
    assert not return_labels(empty, np.eye(4), (4, 4, 4), np.eye(4), np.eye(4), nearest=False).any()


def test_masks_read_again_are_those_written(ball, brats, tmp_path):
    nib.save(nib.Nifti1Image(np.zeros(ball.shape, np.int16), np.eye(4)), tmp_path / "scan.nii.gz")
    write_mask(tmp_path / "mask.nii.gz", ball, tmp_path / "scan.nii.gz", brats.tissues)
    assert np.array_equal(read_mask(tmp_path / "mask.nii.gz", brats.tissues)[0], ball)


def test_a_phantom_has_no_brain(rng):
    """A bottle of water, as large as a head, with noise and shading."""
    pytest.importorskip("deepbet", reason="the extra raw is not installed (deepbet)")
    place = np.indices((180, 180, 180)) - 90
    bottle = (place[0] ** 2 + place[1] ** 2 < 70**2) & (abs(place[2]) < 80)
    voxels = np.where(bottle, 900 + 3 * place[0], 5.0) + rng.normal(0, 45, bottle.shape)
    with pytest.raises(ValueError, match="no brain is found: one intensity throughout, as a phantom has"):
        extract_brain(Box(voxels.astype(np.float32), np.eye(4)))


def test_a_brain_has_structure(rng):
    atlas = load_atlas(None)
    assert measure_structure(atlas.voxels, atlas.voxels > 0) > 2 * LEAST_STRUCTURE
    assert measure_structure(rng.normal(900, 45, (60, 60, 60)), np.ones((60, 60, 60), bool)) < LEAST_STRUCTURE


def test_a_brain_mask_of_ones_own_takes_the_place_of_the_extracted(tmp_path):
    """On a grid of its own, as HD-BET names it; the T1 lies 6 mm to the right of the reference."""
    scan, mask = np.zeros((90, 90, 60), np.float32), np.zeros((30, 30, 30), np.uint8)
    scan[20:70, 20:70, 10:50] = 100
    mask[5:25, 5:25, 4:26] = 1
    nib.save(nib.Nifti1Image(scan, np.diag([2.0, 2, 3, 1])), tmp_path / "P1_t1ce.nii.gz")
    masks = tmp_path / "masks"
    masks.mkdir()
    nib.save(nib.Nifti1Image(mask, np.diag([6.0, 6, 6, 1])), masks / "P1_t1_bet.nii.gz")
    file = find_own_mask(str(masks), "P1", "P1_t1.nii.gz")
    assert file == masks / "P1_t1_bet.nii.gz"
    assert find_own_mask(str(masks), "P2", "P2_t1.nii.gz") is None
    assert find_own_mask(None, "P1", "P1_t1.nii.gz") is None
    shift = np.eye(4)
    shift[0, 3] = 6
    files, transforms = {"T1ce": tmp_path / "P1_t1ce.nii.gz"}, {"T1": shift}
    brain = find_brain(files, transforms, SKULL, "T1ce", "T1", file)
    assert measure_ml(brain.voxels, brain.affine) == pytest.approx(20 * 20 * 22 * 0.216, rel=0.02)
    centre = apply_affine(brain.affine, np.argwhere(brain.voxels).mean(0))
    np.testing.assert_allclose(centre, [6 * 14.5 - 6, 6 * 14.5, 6 * 14.5], atol=0.5)
    nib.save(nib.Nifti1Image(mask * 0, np.eye(4)), masks / "P2.nii.gz")
    with pytest.raises(ValueError, match=r"P2\.nii\.gz marks 0 ml where the scan is"):
        find_brain(files, transforms, SKULL, "T1ce", "T1", masks / "P2.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"data_raw_scans\.brain_masks is nowhere, which is no folder"):
        find_own_mask("nowhere", "P1", "P1_t1.nii.gz")
