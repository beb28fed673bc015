import nibabel as nib
import numpy as np
import pytest
from support import real, save_patient

from brain_tumor.data.scans.find_scans import find_scans, read_slices
from brain_tumor.data.scans.hdf5_slices import write_slice
from brain_tumor.data.scans.preparation import find_brain, prepare_slice, standardise


@pytest.fixture
def plane(rng):
    """Four modalities of a disc of brain: positive integers on 0, as scanners give them."""
    row, column = np.ogrid[:48, :48]
    brain = (row - 24) ** 2 + (column - 22) ** 2 < 250
    return np.where(brain, rng.integers(1, 900, (4, 48, 48)), 0).astype(np.int16)


def test_brain_is_what_differs_from_the_border(plane):
    assert np.array_equal(find_brain(plane), plane.any(0))
    assert np.array_equal(find_brain(plane * 2.5 - 7), plane.any(0))


def test_standardised_over_the_brain_alone(plane):
    result, brain = standardise(plane), find_brain(plane)
    assert np.allclose(result[:, brain].mean(1), 0, atol=1e-5)
    assert np.allclose(result[:, brain].std(1), 1, atol=1e-5)
    assert (result[:, ~brain] == 0).all()


def test_standardising_undoes_any_linear_map_of_intensities(plane):
    assert np.allclose(standardise(plane), standardise(plane * 0.013 - 0.4), atol=1e-5)


def test_constant_modality_and_empty_slice_give_zeros(plane):
    plane[1] = np.where(plane[1] > 0, 5, 0)
    assert (standardise(plane)[1] == 0).all()
    assert (standardise(np.zeros((4, 8, 8), np.int16)) == 0).all()


@pytest.mark.parametrize("size", [16, 32, 48, 96])
def test_labels_are_never_invented(plane, rng, size):
    labels = rng.choice([0, 1, 3], (48, 48)).astype(np.uint8)
    image, resized = prepare_slice(plane, labels, size)
    assert image.shape == (4, size, size)
    assert resized.shape == (size, size)
    assert image.dtype == np.float16
    assert set(np.unique(resized)) == {0, 1, 3}


def test_flip_in_flip_out(plane, rng):
    labels = rng.integers(0, 4, (48, 48)).astype(np.uint8)
    image, resized = prepare_slice(plane, labels, 16)
    flipped_image, flipped = prepare_slice(plane[:, ::-1], labels[::-1], 16)
    assert np.allclose(flipped_image, image[:, ::-1], atol=2e-3)
    # 48 is a multiple of 16: the nearest pixel is the middle of three on both sides
    assert np.array_equal(flipped, resized[::-1])


def test_a_scan_that_is_not_square_keeps_its_proportions(rng):
    image = np.zeros((1, 20, 40), np.float32)
    image[0, 5:15, 10:30] = 1 + rng.random((10, 20))
    labels = (image[0] > 0).astype(np.uint8)
    prepared, resized = prepare_slice(image, labels, 40)
    assert resized.sum() == labels.sum()
    assert np.array_equal(resized[10:30], labels)
    assert (prepared[0, :10] == 0).all()


def test_hdf5_and_nifti_of_one_slice_give_the_same_values(tmp_path, brats, rng):
    """A NIfTI patient, and its slices the way the publisher of the HDF5 set wrote them."""
    volumes = np.zeros((4, 64, 64, 3), np.int16)
    volumes[:, 12:50, 20:56] = rng.integers(1, 1500, (4, 38, 36, 3))
    labels = np.zeros((64, 64, 3), np.uint8)
    labels[20:30, 25:40] = rng.integers(0, 4, (10, 15, 3))
    save_patient(tmp_path / "nifti" / "P_001", "P_001", volumes, np.choose(labels, [0, 1, 2, 4]))
    (tmp_path / "hdf5").mkdir()
    for z in range(3):
        write_slice(tmp_path / "hdf5" / f"volume_1_slice_{z}.h5", volumes[..., z], labels[..., z], tissues=3)
    assert_same_values(tmp_path / "nifti", tmp_path / "hdf5", brats)


def test_hdf5_and_nifti_of_a_real_patient_give_the_same_values(tmp_path, brats):
    source = real("brats-nifti") / "BraTS20_Training_001"
    volumes = np.stack(
        [
            np.asarray(nib.load(source / f"BraTS20_Training_001_{m}.nii.gz").dataobj)
            for m in ("flair", "t1", "t1ce", "t2")
        ]
    )
    mask = np.asarray(nib.load(source / "BraTS20_Training_001_seg.nii.gz").dataobj)
    labels = np.select([mask == 1, mask == 2, mask == 4], [1, 2, 3]).astype(np.uint8)
    for z in (40, 70, 100):
        write_slice(tmp_path / f"volume_1_slice_{z}.h5", volumes[..., z], labels[..., z], tissues=3)
    assert_same_values(source, tmp_path, brats)


def assert_same_values(nifti, hdf5, brats):
    (from_nifti,), (from_hdf5,) = find_scans(nifti, brats), find_scans(hdf5, brats)
    slices = list(read_slices(from_hdf5, brats))
    others = list(read_slices(from_nifti, brats, {s.number for s in slices}))
    assert [s.number for s in slices] == [s.number for s in others]
    for one, other in zip(slices, others, strict=True):
        assert one.labels.any()
        for size in (32, one.labels.shape[0]):
            (image, labels), (other_image, other_labels) = (
                prepare_slice(one.image, one.labels, size),
                prepare_slice(other.image, other.labels, size),
            )
            assert np.array_equal(image, other_image)
            assert np.array_equal(labels, other_labels)


def test_a_brain_that_touches_three_sides_is_told_from_its_background(rng):
    """As where the field of view was cut: the background is then a quarter of the border."""
    image = np.full((2, 20, 20), -0.4)
    image[:, :15] = rng.normal(1, 0.2, (2, 15, 20))
    assert find_brain(image).mean() == pytest.approx(0.75)
