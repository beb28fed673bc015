from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform
from support import real

from brain_tumor.data.scans.data_set import MASK
from brain_tumor.data.scans.find_scans import find_masks
from brain_tumor.data.scans.patient_files import PatientFiles
from brain_tumor.data.scans.preparation import find_brain
from brain_tumor.data.survival.shape_features import FEATURES
from brain_tumor.data.survival.tumour_masks import (
    BRATS,
    BRATS_CENTRE,
    IMAGE,
    affine_of_slices,
    centre_of_slices,
    measure_file,
    measure_slices,
)

NAMES = [feature.name for feature in FEATURES]


def brats_mask(step=2):
    """A lopsided tumour on BraTS's field of view, voxels of `step` mm in the plane."""
    side = 240 // step
    i, j, k = np.indices((side, side, 31))
    distance = np.sqrt(
        ((i - 0.3 * side) * step) ** 2 + ((j - 0.6 * side) * step / 1.4) ** 2 + ((k - 15) * 5) ** 2
    ) + 4 * np.sin(i * step / 8)
    labels = np.where(distance < 10, 1, np.where(distance < 17, 4, np.where(distance < 28, 2, 0))).astype(np.uint8)
    affine = np.diag([-step, -step, 5.0, 1.0])
    affine[1, 3] = 239
    return nib.Nifti1Image(labels, affine)


def save(folder, image, name="P_1_seg.nii.gz") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    nib.save(image, folder / name)
    return folder / name


def measure(folder, brats):
    (found,) = find_masks(folder, brats)
    return measure_file(found, brats, folder).iloc[0]


@pytest.mark.parametrize("codes", ["RAS", "LAS", "SPL", "ARI", "IPR"])
def test_orientation_changes_nothing(tmp_path, brats, codes):
    """Flipped and permuted axes, the affine with them: the same patient."""
    image = brats_mask()
    turned = image.as_reoriented(ornt_transform(nib.io_orientation(image.affine), axcodes2ornt(codes)))
    assert nib.aff2axcodes(turned.affine) == tuple(codes)
    save(tmp_path / "a", image)
    save(tmp_path / "b", turned)
    one, other = measure(tmp_path / "a", brats), measure(tmp_path / "b", brats)
    assert other[NAMES].to_numpy(float) == pytest.approx(one[NAMES].to_numpy(float))
    assert one["centre_from"] == other["centre_from"] == BRATS


def test_a_mirrored_tumour_measures_the_same_but_for_its_place(tmp_path, brats):
    image = brats_mask()
    save(tmp_path / "a", image)
    save(tmp_path / "b", nib.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine))
    one, other = measure(tmp_path / "a", brats), measure(tmp_path / "b", brats)
    same = [feature.name for feature in FEATURES if feature.group != "place"]
    assert other[same].to_numpy(float) == pytest.approx(one[same].to_numpy(float), rel=1e-6)


def test_place_is_taken_from_the_space_of_brats(tmp_path, brats):
    labels = np.zeros((240, 240, 155), np.uint8)
    labels[138:141, 135:136, 76:77] = 1  # x = -139, y = 104, z = 76
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = 239
    save(tmp_path, nib.Nifti1Image(labels, affine))
    row = measure(tmp_path, brats)
    assert row["midline_mm"] == pytest.approx(139 + BRATS_CENTRE[0])
    assert row["centre_mm"] == pytest.approx(139 + BRATS_CENTRE[0])


def test_place_elsewhere_needs_a_scan(tmp_path, brats):
    """A mask of another space says where the tumour is, not where the brain is.

    With a scan beside it both are known.
    """
    labels, affine = np.zeros((50, 60, 40), np.uint8), np.diag([2.0, 2.0, 2.0, 1.0])
    labels[30:33, 30:33, 20:23] = 1
    save(tmp_path, nib.Nifti1Image(labels, affine))
    alone = measure(tmp_path, brats)
    assert alone["centre_from"] == ""
    assert np.isnan(alone["midline_mm"])
    brain = np.zeros(labels.shape, np.float32)
    brain[10:31, 11:42, 5:36] = 700
    save(tmp_path, nib.Nifti1Image(brain, affine), "P_1_t1.nii.gz")
    row = measure(tmp_path, brats)
    assert row["centre_from"] == IMAGE
    assert row["midline_mm"] == pytest.approx(2 * (31 - 20))
    assert row["centre_mm"] == pytest.approx(2 * np.linalg.norm([11, 5, 1]))


def test_a_damaged_scan_beside_a_mask_costs_nothing_but_the_centre(tmp_path, brats, caplog):
    labels = np.zeros((50, 60, 40), np.uint8)
    labels[30:33, 30:33, 20:23] = 1
    save(tmp_path, nib.Nifti1Image(labels, np.diag([2.0, 2.0, 2.0, 1.0])))
    (tmp_path / "P_1_t1.nii.gz").write_bytes(b"no scan")
    row = measure(tmp_path, brats)
    assert (row["excluded"], row["centre_from"]) == ("", "")
    assert "P_1_t1.nii.gz" in caplog.text


def test_a_scan_that_lies_elsewhere_says_nothing_of_the_masks_brain(tmp_path, brats, caplog):
    """The same brain in the mask's space, on a coarser grid of it, and 60 mm away."""
    labels, affine = np.zeros((50, 60, 40), np.uint8), np.diag([2.0, 2.0, 2.0, 1.0])
    labels[30:33, 30:33, 20:23] = 1
    brain = np.zeros(labels.shape, np.float32)
    brain[10:32, 12:42, 6:36] = 700
    save(tmp_path, nib.Nifti1Image(labels, affine))
    coarse = affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    coarse[:3, 3] += 1
    for voxels, place, expected in (
        (brain, affine, IMAGE),
        (brain[::2, ::2, ::2], coarse, IMAGE),
        (brain, affine + np.eye(4)[:, :1] @ np.array([[0, 0, 0, 60.0]]), ""),
    ):
        save(tmp_path, nib.Nifti1Image(voxels, place), "P_1_t1.nii.gz")
        row = measure(tmp_path, brats)
        assert row["centre_from"] == expected
        assert np.isnan(row["centre_mm"]) == (expected == "")
    assert "lies elsewhere than the mask beside it" in caplog.text


def test_a_scan_with_its_skull_gives_no_centre(tmp_path, brats, rng):
    labels, affine = np.zeros((20, 20, 20), np.uint8), np.eye(4)
    labels[8:12, 8:12, 8:12] = 2
    save(tmp_path, nib.Nifti1Image(labels, affine))
    save(tmp_path, nib.Nifti1Image(rng.random((20, 20, 20)).astype(np.float32), affine), "P_1_flair.nii.gz")
    assert measure(tmp_path, brats)["centre_from"] == ""


def test_masks_that_cannot_be_measured_say_why(tmp_path, brats):
    affine = np.eye(4)
    save(tmp_path / "empty", nib.Nifti1Image(np.zeros((9, 9, 9), np.uint8), affine))
    save(tmp_path / "label", nib.Nifti1Image(np.full((9, 9, 9), 7, np.uint8), affine))
    save(tmp_path / "nan", nib.Nifti1Image(np.full((9, 9, 9), np.nan, np.float32), affine))
    save(tmp_path / "flat", nib.Nifti1Image(np.ones((9, 9), np.uint8), affine))
    whole = save(tmp_path / "cut", brats_mask()).read_bytes()
    (tmp_path / "cut/P_1_seg.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bits").mkdir()
    (tmp_path / "bits/P_1_seg.nii.gz").write_bytes(whole[:200] + bytes(x ^ 255 for x in whole[200:400]) + whole[400:])
    (tmp_path / "text").mkdir()
    (tmp_path / "text/P_1_seg.nii.gz").write_text("no NIfTI")
    reasons = {folder.name: measure(folder, brats)["excluded"] for folder in tmp_path.iterdir()}
    assert reasons["empty"] == "the mask is empty: there is no tumour to measure; check or remove it"
    assert "holds labels [7], declared for files of such names are NCR 1, ED 2, ET 4 or 3" in reasons["label"]
    assert "NaN" in reasons["nan"]
    assert "has 2 axes" in reasons["flat"]
    assert all(reasons.values())


def test_a_folder_without_masks_is_refused(tmp_path, brats):
    with pytest.raises(FileNotFoundError, match=r"is empty; .* survival_source=PATH"):
        find_masks(tmp_path, brats)
    (tmp_path / "notes.txt").write_text("no mask")
    with pytest.raises(
        FileNotFoundError, match=r"holds 1 file \(1 text\), but no masks named \*_seg.nii.gz, .* survival_source=PATH"
    ):
        find_masks(tmp_path, brats)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        find_masks(tmp_path / "nowhere", brats)


def slices_of(image, every):
    """The slices of a mask as a store has them, in any order, and the rows that go with them."""
    labels = np.moveaxis(np.asarray(image.dataobj), -1, 0)
    labels = np.where(labels == 4, 3, labels).astype(np.uint8)
    numbers = np.arange(0, len(labels), every)[::-1]
    return labels[numbers], pd.DataFrame({"slice": numbers, "row_mm": 2.0, "column_mm": 2.0, "slice_mm": 5.0})


def test_slices_of_a_store_measure_as_their_volume(tmp_path, brats):
    image = brats_mask()
    save(tmp_path, image)
    labels, rows = slices_of(image, 1)
    expected, row = measure(tmp_path, brats), measure_slices("P", labels, rows, None, brats).iloc[0]
    known = [name for name in NAMES if name not in ("centre_mm", "midline_mm")]
    assert row[known].to_numpy(float) == pytest.approx(expected[known].to_numpy(float))
    thick, thick_rows = slices_of(image, 2)
    assert measure_slices("P", thick, thick_rows, None, brats)["WT_ml"].iloc[0] == pytest.approx(
        expected["WT_ml"], rel=0.03
    )
    assert measure_slices("P", thick, thick_rows, None, brats)["spacing_mm"].iloc[0] == "2 x 2 x 10"


def test_nothing_found_is_no_volume_and_is_not_modelled(brats):
    labels, rows = slices_of(brats_mask(), 1)
    row = measure_slices("P", np.zeros_like(labels), rows, None, brats).iloc[0]
    assert row["WT_ml"] == row["WT_left_right_mm"] == 0
    assert np.isnan(row["WT_sphericity"])
    assert row["excluded"] == "the mask is empty: there is no tumour to measure"


def test_centre_of_slices_is_that_of_the_brain_they_show(brats):
    rows = pd.DataFrame({"slice": [6, 2, 4], "row_mm": 2.0, "column_mm": 3.0, "slice_mm": 1.0})
    brain = np.zeros((3, 10, 10), bool)
    brain[:, 2:7, 4:5] = True
    assert centre_of_slices(brain, rows) == pytest.approx([-8, -12, 4])
    assert affine_of_slices(rows)[2, 2] == 2


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([41], "slice 41 alone: 3 make a volume"),
        ([71, 124], "slices 71, 124 alone"),
        ([41, 77, 80], "are not evenly spaced"),
        ([5, 5, 5], "are not evenly spaced"),
        ([1, 21, 41], "lie 20 mm apart, more than 15: they make no volume"),
    ],
)
def test_slices_that_make_no_volume_are_left_out(numbers, reason, brats):
    rows = pd.DataFrame({"slice": numbers, "row_mm": 1.0, "column_mm": 1.0, "slice_mm": 1.0})
    labels = np.ones((len(numbers), 8, 8), np.uint8)
    assert reason in measure_slices("P", labels, rows, None, brats)["excluded"].iloc[0]
    assert centre_of_slices(labels > 0, rows) is None


@pytest.mark.parametrize(
    ("native", "resampled"),
    [("BraTS20_Training_001", "001"), ("Brats18_2013_21_1", "133"), ("Brats17_2013_27_1", "145")],
)
def test_real_masks_measure_the_same_at_two_resolutions(brats, native, resampled):
    """240x240x155 of 1 mm, its centre from the scan; 128³ of 1.9 mm, its centre from the space of BraTS."""
    folder, coarse = (
        real("brats-nifti") / native,
        real("brats2020-masks-128") / f"BraTS20_Training_{resampled}_seg.nii.gz",
    )
    one, other = measure(folder, brats), measure_file(PatientFiles("P", {MASK: coarse}), brats, coarse.parent).iloc[0]
    assert (one["centre_from"], other["centre_from"]) == (IMAGE, BRATS)
    for feature in FEATURES:
        slack = 2.0 if feature.unit == "mm" else 0
        assert other[feature.name] == pytest.approx(one[feature.name], rel=0.03, abs=slack), feature.name


def test_the_centre_of_brats_space_is_that_of_real_brains():
    """Three whole volumes of BraTS 2020, by their centres of mass."""
    for patient in ("BraTS20_Training_001", "Brats17_2013_27_1", "Brats18_2013_21_1"):
        scan = nib.load(real("brats-nifti") / patient / f"{patient}_flair.nii.gz")
        centre = nib.affines.apply_affine(scan.affine, np.array(np.nonzero(np.asarray(scan.dataobj))).mean(1))
        assert centre == pytest.approx(BRATS_CENTRE, abs=2)


def test_the_midline_of_brats_space_is_the_mirror_axis_of_real_slices(brats):
    """Where a slice's brain, mirrored, covers itself best; rows run to the patient's left."""
    axes = []
    for file in sorted(real("brats2020-training-data").rglob("*.h5"))[::4]:
        with h5py.File(file) as content:
            brain = find_brain(np.moveaxis(content["image"][()], -1, 0))
        shift = max(range(-12, 13), key=lambda step, brain=brain: (brain & np.roll(brain[::-1], step, 0)).sum())
        axes.append((239 + shift) / 2)
    assert -np.mean(axes) == pytest.approx(BRATS_CENTRE[0], abs=0.7)
