import gzip
import shutil

import h5py
import nibabel as nib
import numpy as np
import pytest
from support import real, save_patient

from brain_tumor.data.scans import hdf5_slices
from brain_tumor.data.scans.find_scans import (
    describe_scans,
    find_masks,
    find_scans,
    read_image,
    read_labels,
    read_note,
    read_slices,
)
from brain_tumor.data.scans.nifti_masks import read_confidence, read_mask, write_mask
from brain_tumor.data.scans.nifti_volumes import read_volume
from brain_tumor.data.scans.scan import Unreadable
from brain_tumor.data.scans.slice_index import count_missing, inspect_scan
from brain_tumor.data.survival.tumour_masks import Mask


def test_finds_hdf5_slices_by_patient(sample, brats):
    scans = find_scans(sample, brats)
    assert [s.patient for s in scans] == [f"BraTS20_Training_{k:03d}" for k in range(1, 6)]
    assert [s.number for s in read_slices(scans[0], brats)] == [50, 62, 74, 86, 98]
    assert [s.number for s in read_slices(scans[0], brats, {62, 98})] == [62, 98]


@pytest.fixture
def nifti(tmp_path, rng):
    """Two patients in the names of two years."""
    volumes = rng.integers(1, 100, (4, 16, 20, 6)).astype(np.int16)
    mask = rng.choice([0, 1, 2, 4], (16, 20, 6), p=[0.7, 0.1, 0.1, 0.1])  # a tumour is smaller than the brain
    save_patient(tmp_path / "a", "BraTS20_Training_009", volumes, mask)
    save_patient(tmp_path / "b", "x", volumes, np.where(mask == 4, 3, mask))
    for old, new in (("flair", "t2f"), ("t1", "t1n"), ("t1ce", "t1c"), ("t2", "t2w"), ("seg", "seg")):
        (tmp_path / "b" / f"x_{old}.nii.gz").rename(tmp_path / "b" / f"BraTS-GLI-00009-000-{new}.nii.gz")
    return tmp_path, volumes, mask


def test_nifti_names_of_2020_and_2023_read_alike(nifti, brats):
    folder, volumes, mask = nifti
    scans = find_scans(folder, brats)
    assert [s.patient for s in scans] == ["BraTS-GLI-00009-000", "BraTS20_Training_009"]
    for scan in scans:
        slices = list(read_slices(scan, brats))
        assert np.array_equal(np.stack([s.image for s in slices], -1), volumes)
        assert np.array_equal(
            np.stack([s.labels for s in slices], -1), np.select([mask == 1, mask == 2, mask == 4], [1, 2, 3])
        )


def test_other_orientations_are_turned(nifti, brats):
    folder, volumes, _ = nifti
    for file in (folder / "a").iterdir():
        image = nib.load(file)
        nib.save(nib.as_closest_canonical(image), file)  # L, P, S > R, A, S
    scan = find_scans(folder / "a", brats)[0]
    assert np.array_equal(np.stack([s.image for s in read_slices(scan, brats)], -1), volumes)


def test_layouts_may_be_mixed_and_a_patient_who_is_there_twice_is_used_once(sample, nifti, brats, tmp_path):
    folder, volumes, mask = nifti
    shutil.copytree(sample, folder / "slices")
    save_patient(folder / "c", "BraTS20_Training_002", volumes, mask)
    scans = find_scans(folder, brats)
    assert len(scans) == 5 + 3
    used, twice = (scan for scan in scans if scan.patient == "BraTS20_Training_002")
    assert (used.layout, used.problem) == ("nifti", "")
    (reason,) = read_slices(twice, brats)
    assert isinstance(reason, Unreadable)
    assert "there in layout nifti too, which goes before hdf5" in reason.problem


def test_rows_of_a_patient_who_is_there_twice_differ_also_if_neither_can_be_used(sample, nifti, brats, tmp_path):
    """Both are excluded under their own names; the index would not take two equal rows."""
    folder, volumes, mask = nifti
    shutil.copytree(sample, folder / "slices")
    beside = next((folder / "slices").rglob("volume_2_slice_*.h5")).parent
    save_patient(folder / "c", "BraTS20_Training_002", volumes, mask)
    for file in (folder / "c").iterdir():
        file.rename(beside / file.name)
    (damaged,) = beside.glob("BraTS20_Training_002_t2.nii*")
    damaged.write_bytes(damaged.read_bytes()[:100])
    rows = [
        row
        for scan in find_scans(folder, brats)
        if scan.patient == "BraTS20_Training_002"
        for row in read_slices(scan, brats)
    ]
    assert len({row.file for row in rows}) == len(rows) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "is not a folder"),
        (lambda f: f.mkdir(), "is empty"),
        (
            lambda f: (f.mkdir(), (f / "notes.txt").write_text("hello")),
            "neither HDF5 slices named volume_{volume}_slice_{slice}.h5 nor NIfTI",
        ),
    ],
)
def test_a_source_without_scans_is_refused(tmp_path, brats, make, message):
    folder = tmp_path / "source"
    make(folder)
    with pytest.raises(FileNotFoundError) as error:
        find_scans(folder, brats)
    assert message in str(error.value)
    assert str(folder) in str(error.value)
    assert "segmentation_source" in str(error.value)


def test_a_missing_modality_leaves_the_patient_out(nifti, brats):
    folder = nifti[0]
    (folder / "a" / "BraTS20_Training_009_t1ce.nii.gz").unlink()
    whole, lacking = find_scans(folder, brats)
    (only,) = read_slices(lacking, brats)
    assert isinstance(only, Unreadable)
    assert "no T1ce volume (a file ending in _t1ce or _t1c.nii.gz)" in only.problem
    assert len(list(read_slices(whole, brats))) == 6


def break_text(file):
    file.write_text("not HDF5")


def break_truncate(file):
    file.write_bytes(file.read_bytes()[:3000])


def break_key(file):
    with h5py.File(file, "a") as content:
        content.move("mask", "masks")


def break_shape(file):
    with h5py.File(file, "a") as content:
        del content["image"]
        content["image"] = np.zeros((240, 240, 3))


def break_size(file):
    with h5py.File(file, "a") as content:
        del content["mask"]
        content["mask"] = np.zeros((120, 240, 3), np.uint8)


def break_nan(file):
    with h5py.File(file, "a") as content:
        content["image"][3, 4, 1] = np.nan


def break_group(file):
    with h5py.File(file, "a") as content:
        del content["image"]
        content.create_group("image")


def break_complex(file):
    with h5py.File(file, "a") as content:
        image = content["image"][()]
        del content["image"]
        content["image"] = image.astype(complex)


def break_text_array(file):
    with h5py.File(file, "a") as content:
        del content["image"]
        content["image"] = "hello"


def break_empty_array(file):
    with h5py.File(file, "a") as content:
        del content["image"]
        content["image"] = h5py.Empty("f")


def break_gzip(file):
    file.write_bytes(gzip.compress(file.read_bytes()))


def break_label(file):
    with h5py.File(file, "a") as content:
        content["mask"][100, 100] = 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_text, "is text, not HDF5"),
        (break_truncate, "it is damaged or cut off; fetch it again"),
        (break_key, "has no 'mask'; it holds image, masks"),
        (break_shape, "4 modalities), got (240, 240, 3)"),
        (break_size, "of one size, got (240, 240) and (120, 240)"),
        (break_nan, "NaN"),
        (break_label, "one tissue at most"),
        (break_group, "'image' in volume_1_slice_62.h5 is a group; store the array under that name"),
        (break_complex, "'image' in volume_1_slice_62.h5 must hold real numbers, got complex128"),
        (break_text_array, "'image' in volume_1_slice_62.h5 is no array"),
        (break_empty_array, "'image' in volume_1_slice_62.h5 is no array"),
        (break_gzip, "is compressed with gzip; decompress it with `gunzip`"),
    ],
)
def test_a_bad_slice_says_why_and_the_others_are_read(sample, tmp_path, brats, damage, message):
    for file in sample.rglob("volume_1_*.h5"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damage(tmp_path / "volume_1_slice_62.h5")
    slices = list(read_slices(find_scans(tmp_path, brats)[0], brats))
    assert isinstance(slices[1], Unreadable)
    assert message in slices[1].problem
    assert slices[1].number == 62
    assert [s.number for s in slices if not isinstance(s, Unreadable)] == [50, 74, 86, 98]
    if damage not in (break_key, break_size, break_label):  # which are of the mask
        with pytest.raises(ValueError, match=r"volume_1_slice_62\.h5"):
            read_image(find_scans(tmp_path, brats)[0], brats)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, AttributeError, OSError])
def test_whatever_a_damaged_slice_raises_it_is_called_damaged(sample, tmp_path, brats, monkeypatch, error):
    for file in sample.rglob("volume_1_*.h5"):
        shutil.copy(file, tmp_path)

    def fail(*_):
        raise error("bad heap")

    monkeypatch.setattr(hdf5_slices, "read_whole", fail)
    (scan,) = find_scans(tmp_path, brats)
    for read in (read_image, read_labels):
        with pytest.raises(ValueError, match=r"^volume_1_slice_50\.h5 can't be read .*bad heap.* damaged or cut off"):
            read(scan, brats)
    assert all("bad heap" in row.problem for row in read_slices(scan, brats))


def test_a_second_file_for_a_slice_is_left_out(sample, tmp_path, brats):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for file in sample.rglob("volume_1_*.h5"):
            if folder == "a" or file.stem.endswith("74"):
                (tmp_path / folder / file.name).write_bytes(file.read_bytes())
    slices = list(read_slices(find_scans(tmp_path, brats)[0], brats))
    (second,) = [s for s in slices if isinstance(s, Unreadable)]
    assert "second file for slice 74 of BraTS20_Training_001" in second.problem
    assert len(slices) == 6


def test_a_mask_under_another_name_is_adopted(nifti, brats):
    """As `W39_1998.09.19_Segm.nii` in the folder of patient 355."""
    folder = nifti[0] / "a"
    (folder / "BraTS20_Training_009_seg.nii.gz").rename(folder / "W39_1998.09.19_Segm.nii.gz")
    (scan,) = find_scans(folder, brats)
    assert scan.patient == "BraTS20_Training_009"
    assert len([s for s in read_slices(scan, brats) if not isinstance(s, Unreadable)]) == 6


def test_other_segmentations_beside_the_mask_are_not_taken(nifti, brats):
    folder = nifti[0] / "a"
    (folder / "BraTS20_Training_009_seg_0-3.nii.gz").write_bytes(
        (folder / "BraTS20_Training_009_t1.nii.gz").read_bytes()
    )
    (scan,) = find_scans(folder, brats)
    assert [f.name for f in scan.files][-1] == "BraTS20_Training_009_seg.nii.gz"
    assert not any(isinstance(s, Unreadable) for s in read_slices(scan, brats))


def test_masks_go_out_as_they_came(nifti, brats, tmp_path):
    folder, _, mask = nifti
    for like, turn in (
        (folder / "a" / "BraTS20_Training_009_t1.nii.gz", lambda x: x),
        (folder / "turned.nii.gz", nib.as_closest_canonical),
    ):
        nib.save(turn(nib.load(folder / "a" / "BraTS20_Training_009_t1.nii.gz")), like)
        labels = np.stack([s.labels for s in read_slices(find_scans(folder / "a", brats)[0], brats)], -1)
        write_mask(tmp_path / "out.nii.gz", labels, like, brats.tissues)
        written, original = nib.load(tmp_path / "out.nii.gz"), nib.load(like)
        assert np.allclose(written.affine, original.affine)
        assert nib.aff2axcodes(written.affine) == nib.aff2axcodes(original.affine)
        back = np.asarray(written.dataobj)
        assert np.array_equal(back if like.parent.name == "a" else back[::-1, ::-1], mask)


def test_a_mask_keeps_the_geometry_of_its_scan_in_every_readers_words(brats, rng, tmp_path):
    """qform, sform, their codes and the unit: ITK takes the qform where the sform is sheared, nibabel the sform."""
    sheared = np.array([[-0.95, 0.27, 0.05, 10], [-0.28, -0.95, 0, 239], [0.02, 0.03, 1, -5], [0, 0, 0, 1]])
    cosine, sine = np.cos(0.3), np.sin(0.3)
    turned = np.array([[-cosine, sine, 0, 10], [-sine, -cosine, 0, 239], [0, 0, 1, -5], [0, 0, 0, 1]])
    scan = nib.Nifti1Image(rng.normal(300, 40, (12, 10, 6)).astype(np.float32), sheared)
    scan.set_sform(sheared, 4)
    scan.set_qform(turned, 2)
    scan.header.set_xyzt_units("mm", "sec")
    scan.header["descrip"] = b"Jane Doe"
    scan.header.set_slope_inter(2, 1)
    scan.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    labels = rng.integers(0, 4, (12, 10, 6)).astype(np.uint8)
    for original, kind in ((scan, nib.Nifti1Image), (nib.Nifti2Image.from_image(scan), nib.Nifti2Image)):
        nib.save(original, tmp_path / "scan.nii.gz")
        write_mask(tmp_path / "mask.nii.gz", labels, tmp_path / "scan.nii.gz", brats.tissues)
        mask, read = nib.load(tmp_path / "mask.nii.gz"), nib.load(tmp_path / "scan.nii.gz")
        assert type(mask) is kind
        for entry in (
            "qform_code",
            "sform_code",
            "xyzt_units",
            "quatern_b",
            "qoffset_x",
            "srow_x",
            "srow_y",
            "srow_z",
            "pixdim",
        ):
            np.testing.assert_array_equal(mask.header[entry], read.header[entry], entry)
        assert b"Jane Doe" not in (gzip.decompress((tmp_path / "mask.nii.gz").read_bytes()))
        assert np.array_equal(read_mask(tmp_path / "mask.nii.gz", brats.tissues)[0], labels)


def test_a_mask_says_how_sure_the_network_was(brats, tmp_path):
    scan, labels = nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), np.zeros((4, 4, 4), np.uint8)
    for said, confidence in ((b"confidence of Jane Doe", np.nan), (b"", np.nan), (b"confidence 0.5000", 0.5)):
        scan.header["descrip"] = said
        nib.save(scan, tmp_path / "scan.nii.gz")
        assert read_confidence(tmp_path / "scan.nii.gz") == pytest.approx(confidence, nan_ok=True)
        write_mask(tmp_path / "mask.nii.gz", labels, tmp_path / "scan.nii.gz", brats.tissues)
        assert np.isnan(read_confidence(tmp_path / "mask.nii.gz")), "what the scan says is not taken over"
        for like in (tmp_path / "scan.nii.gz", None):
            mask = Mask("p1", "mask.nii.gz", labels, brats.tissues, np.eye(4), like, confidence=0.91239)
            mask.write(tmp_path / "mask.nii.gz")
            assert read_confidence(tmp_path / "mask.nii.gz") == 0.9124


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BraTS-GLI-00001-000-t1n.nii.gz", 3),
        ("P1-t1n.nii.gz", 3),
        ("P1_t1ce.nii.gz", 4),
        ("BraTS20_Training_001_t1.nii.gz", 4),
    ],
)
def test_enhancing_tumour_is_3_beside_names_of_2023_and_4_beside_older_ones(brats, name, value):
    assert brats.tissues_of([name])[2].labels[0] == value


def test_4_beside_names_of_2023_is_no_enhancing_tumour(nifti, brats):
    seg = nifti[0] / "b" / "BraTS-GLI-00009-000-seg.nii.gz"
    image = nib.load(seg)
    nib.save(nib.Nifti1Image(np.where(np.asarray(image.dataobj) == 3, 4, np.asarray(image.dataobj)), image.affine), seg)
    (only,) = read_slices(find_scans(nifti[0] / "b", brats)[0], brats)
    assert "holds labels [4], declared for files of such names are NCR 1, ED 2, ET 3; relabel" in only.problem


def test_two_labels_of_one_tissue_are_refused(nifti, brats):
    seg = nifti[0] / "a" / "BraTS20_Training_009_seg.nii.gz"
    image = nib.load(seg)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, :2] = 3, 4
    nib.save(nib.Nifti1Image(voxels, image.affine), seg)
    (only,) = read_slices(find_scans(nifti[0] / "a", brats)[0], brats)
    assert "holds labels 3 and 4, which both stand for ET" in only.problem


def write_volume(file, voxels, affine=None, unit="mm"):
    image = nib.Nifti1Image(voxels, np.diag([-1, -1, 1, 1]) if affine is None else affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, file)


def zero_affine(file):
    write_volume(file, np.ones((4, 5, 6), np.int16))
    image = nib.load(file)
    content = bytearray(gzip.decompress(file.read_bytes()))
    content[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    content[252:256] = (0).to_bytes(2, "little") + (2).to_bytes(2, "little")
    assert image.shape == (4, 5, 6)
    file.write_bytes(gzip.compress(bytes(content)))


def write_odd_slope(file):
    write_volume(file, np.ones((4, 5, 6), np.int16))
    content = bytearray(gzip.decompress(file.read_bytes()))
    content[112:120] = np.array([2, np.nan], np.float32).tobytes()  # scl_slope, scl_inter
    file.write_bytes(gzip.compress(bytes(content)))


REFUSED = {
    "colours": (
        lambda f: write_volume(f, np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "holds colours (RGB), not intensities",
    ),
    "complex": (
        lambda f: write_volume(f, np.ones((4, 5, 6), np.complex64)),
        "holds complex numbers; write their magnitude",
    ),
    "no affine": (zero_affine, "an affine that lays all voxels in one plane, such as all zeros; set sform and qform"),
    "four axes": (
        lambda f: write_volume(f, np.ones((4, 5, 6, 2), np.int16)),
        "has 4 axes (4x5x6x2), a volume has three; write a file for each modality",
    ),
    "metres": (
        lambda f: write_volume(f, np.ones((4, 5, 6), np.int16), np.diag([1e-3, 1e-3, 1e-3, 1]), "meter"),
        "counts in meters, not in millimetres",
    ),
    "unnamed metres": (
        lambda f: write_volume(f, np.ones((4, 5, 6), np.int16), np.diag([1e-3, 1e-3, 1e-3, 1]), "unknown"),
        "which no scanner gives",
    ),
    "centimetres": (
        lambda f: write_volume(f, np.ones((4, 5, 6), np.int16), np.diag([0.1, 0.1, 0.1, 1])),
        "which no scanner gives",
    ),
    "microns": (
        lambda f: write_volume(f, np.ones((4, 5, 6), np.int16), np.diag([1e3, 1e3, 1e3, 1])),
        "which no scanner gives",
    ),
    "a bore of 2 m": (
        lambda f: write_volume(f, np.ones((200, 5, 6), np.int16), np.diag([10, 1, 1, 1])),
        "over 2e+03 x 5 x 6 mm",
    ),
    "NaN": (lambda f: write_volume(f, np.full((4, 5, 6), np.nan, np.float32)), "holds NaN or infinity; replace them"),
    "HDF5": (lambda f: h5py.File(f, "w").close(), "is HDF5: slices are read by the names"),
    "DICOM": (
        lambda f: f.write_bytes(bytes(128) + b"DICM"),
        "is DICOM: new scans are segmented by `kedro segment FOLDER --raw`; else convert the series with `dcm2niix",
    ),
    "an odd slope": (
        lambda f: write_odd_slope(f),
        "has a header that contradicts itself (Valid slope but invalid intercept nan)",
    ),
    "packed twice": (
        lambda f: (write_volume(f, np.ones((4, 5, 6), np.int16)), f.write_bytes(gzip.compress(f.read_bytes()))),
        "is compressed twice: decompress it once",
    ),
    "a page": (lambda f: f.write_text("<html>Please sign in</html>"), "is a web page: download the file itself"),
    "a pointer": (
        lambda f: f.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is a Git LFS pointer, not the data: fetch the data with `git lfs pull`",
    ),
    "cut": (
        lambda f: (write_volume(f, np.ones((40, 50, 6), np.int16)), f.write_bytes(f.read_bytes()[:60])),
        "it is damaged or cut off; fetch it again",
    ),
    "gone": (lambda f: f.unlink(missing_ok=True), "No such file or directory"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_cannot_be_used_is_named_for_what_it_is(tmp_path, what):
    write, words = REFUSED[what]
    file = tmp_path / "P1_t1.nii.gz"
    write(file)
    with pytest.raises(ValueError, match=r"P1_t1\.nii\.gz") as error:
        read_volume(file)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_odd_but_sound_is_read(tmp_path, rng):
    """A fourth axis of length 1, and names that are wrong about compression."""
    voxels = rng.integers(0, 99, (4, 5, 6)).astype(np.int16)
    write_volume(tmp_path / "a.nii.gz", voxels[..., None])
    write_volume(tmp_path / "b.nii.gz", voxels)
    (tmp_path / "packed.nii").write_bytes((tmp_path / "b.nii.gz").read_bytes())
    (tmp_path / "plain.nii.gz").write_bytes(gzip.decompress((tmp_path / "b.nii.gz").read_bytes()))
    nib.save(nib.Nifti2Image(voxels, np.diag([-1, -1, 1, 1])), tmp_path / "second.nii.gz")
    (tmp_path / "second.nii").write_bytes((tmp_path / "second.nii.gz").read_bytes())
    (tmp_path / "c.Nii.gz").write_bytes((tmp_path / "b.nii.gz").read_bytes())
    (tmp_path / "c.Nii").write_bytes((tmp_path / "plain.nii.gz").read_bytes())
    for name in ("a.nii.gz", "packed.nii", "plain.nii.gz", "second.nii", "c.Nii.gz", "c.Nii"):
        assert np.array_equal(read_volume(tmp_path / name)[0], voxels), name


def test_undeclared_labels_and_other_sizes_leave_a_nifti_patient_out(nifti, brats, rng):
    folder = nifti[0]
    seg = folder / "a" / "BraTS20_Training_009_seg.nii.gz"
    nib.save(nib.Nifti1Image(np.full((16, 20, 6), 7, np.uint8), np.diag([-1, -1, 1, 1])), seg)
    (only,) = read_slices(find_scans(folder / "a", brats)[0], brats)
    assert "holds labels [7]" in only.problem
    shifted = np.diag([-1.0, -1, 1, 1])
    shifted[0, 3] = 5
    for shape, affine in (
        ((16, 20, 5), np.diag([-1, -1, 1, 1])),
        ((16, 20, 6), shifted),
        ((16, 20, 6), np.diag([-2, -1, 1, 1])),
    ):
        nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), affine), seg)
        (only,) = read_slices(find_scans(folder / "a", brats)[0], brats)
        assert "register them to one grid first" in only.problem


def test_a_truncated_volume_leaves_a_nifti_patient_out(nifti, brats):
    file = nifti[0] / "a" / "BraTS20_Training_009_t2.nii.gz"
    file.write_bytes(file.read_bytes()[:900])
    (only,) = read_slices(find_scans(nifti[0] / "a", brats)[0], brats)
    assert "BraTS20_Training_009_t2.nii.gz can't be read" in only.problem
    assert "damaged or cut off; fetch it again" in only.problem


def test_real_slices_and_volumes_lie_the_same_way(brats):
    """The mask of a real HDF5 slice is that patient's mask in the NIfTI release, not its mirror image."""
    masks, source = real("brats2020-masks-128"), real("brats2020-training-data")
    agreement = []
    for scan in find_scans(source, brats)[:12]:
        file = masks / f"{scan.patient}_seg.nii.gz"
        for slice_ in read_slices(scan, brats) if file.is_file() else ():
            volume = np.asarray(nib.load(file).dataobj)
            tumour = volume[:, :, round((slice_.number + 0.5) * 128 / 155 - 0.5)] > 0
            truth = (
                slice_.labels[(np.arange(128) + 0.5).astype(int) * 240 // 128][
                    :, (np.arange(128) + 0.5).astype(int) * 240 // 128
                ]
                > 0
            )
            agreement.append(
                [2 * (truth & t).sum() / (truth.sum() + t.sum()) for t in (tumour, tumour[::-1], tumour[:, ::-1])]
            )
    same, mirrored, vertical_flip = np.mean(agreement, axis=0)
    assert same > 0.7  # nearest slice of a coarser grid
    assert max(mirrored, vertical_flip) < 0.4


def test_the_mask_of_another_patient_is_not_adopted(nifti, brats):
    folder = nifti[0]
    for file in (folder / "b").iterdir():
        file.rename(folder / "a" / file.name)
    (folder / "a" / "BraTS20_Training_009_seg.nii.gz").rename(folder / "a" / "BraTS20_Training_010_seg.nii.gz")
    problems = {scan.patient: scan.problem for scan in find_scans(folder, brats)}
    assert "no mask volume" in problems["BraTS20_Training_009"]


def test_two_patients_of_one_name_are_not_mixed(nifti, brats, tmp_path):
    folder, volumes, mask = nifti
    save_patient(folder / "c", "BraTS20_Training_009", volumes, mask)
    used, twice = (scan for scan in find_scans(folder, brats) if scan.patient == "BraTS20_Training_009")
    assert not used.problem
    assert f"a patient of that name is in {folder / 'a'} too, who goes before" in twice.problem


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""),
    "a page": lambda file: file.write_text("<html>not found</html>" * 40),
    "zeros": lambda file: file.write_bytes(bytes(4000)),
    "colours": lambda file: nib.save(
        nib.Nifti1Image(np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4)), file
    ),
    "gone": lambda file: (file.unlink(), file.symlink_to("nowhere")),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_volume_is_named_and_leaves_its_patient_out(nifti, brats, damage):
    source = nifti[0]
    for name in [path.name for path in (source / "a").iterdir()]:
        file = source / "a" / name
        nib.save(nib.load(file), source / "a" / name.removesuffix(".gz"))
        file.unlink()
    DAMAGES[damage](source / "a" / "BraTS20_Training_009_t1.nii")
    scan = next(scan for scan in find_scans(source, brats) if scan.patient == "BraTS20_Training_009")
    (row,) = inspect_scan(scan, brats, source).to_dict("records")
    assert "BraTS20_Training_009_t1.nii" in row["excluded"] or "no T1 volume" in row["excluded"]


def test_nifti_2_is_read(nifti):
    file = nifti[0] / "a" / "BraTS20_Training_009_t1.nii.gz"
    voxels, affine = read_volume(file)
    nib.save(nib.Nifti2Image.from_image(nib.load(file)), file)
    assert np.array_equal(read_volume(file)[0], voxels)
    assert np.array_equal(read_volume(file)[1], affine)


def test_volumes_of_slightly_other_voxels_do_not_lie_alike(nifti, brats):
    """Each entry of the affine differs by 0.045 at most; the far corner by 0.85 mm."""
    file = nifti[0] / "a" / "BraTS20_Training_009_t1.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(nib.load(file).dataobj), np.diag([-1.045, -1, 1, 1])), file)
    (only,) = read_slices(next(scan for scan in find_scans(nifti[0] / "a", brats)), brats)
    assert "lies elsewhere" in only.problem


def test_a_patient_in_both_layouts_is_indexed_from_one(sample, nifti, brats):
    folder, volumes, mask = nifti
    shutil.copytree(sample, folder / "slices")
    save_patient(folder / "c", "BraTS20_Training_002", volumes, mask)
    used, twice = (
        inspect_scan(scan, brats, folder)
        for scan in find_scans(folder, brats)
        if scan.patient == "BraTS20_Training_002"
    )
    assert (used["excluded"] == "").any()
    assert twice["excluded"].tolist() == ["the patient is there in layout nifti too, which goes before hdf5"]


@pytest.mark.parametrize("content", ["patient,age\na,3\n", ""])
def test_another_table_called_meta_data_lists_no_slices(sample, tmp_path, brats, content):
    (tmp_path / "meta_data.csv").write_text(content)
    index = inspect_scan(find_scans(sample, brats)[0], brats, sample)
    assert count_missing(index, tmp_path) == (0, 0)


def test_a_unit_that_nifti_does_not_know_is_taken_for_millimetres_with_a_note(nifti, brats, tmp_path):
    folder = nifti[0] / "a"
    file = folder / "BraTS20_Training_009_t1.nii.gz"
    content = bytearray(gzip.decompress(file.read_bytes()))
    content[123] = 7  # xyzt_units
    file.write_bytes(gzip.compress(bytes(content)))
    (scan,) = find_scans(folder, brats)
    words = "the unit of BraTS20_Training_009_t1.nii.gz has a code that NIfTI doesn't know: taken for millimetres"
    assert read_image(scan, brats).note == read_note(scan) == words
    rows = inspect_scan(scan, brats, folder)
    assert set(rows["excluded"]) == {""}
    assert rows["note"].str.startswith(words).all()
    write_mask(tmp_path / "mask.nii.gz", read_labels(scan, brats), file, brats.tissues)
    assert read_mask(tmp_path / "mask.nii.gz", brats.tissues)[0].any()


def test_a_predicted_mask_is_no_experts(nifti, brats):
    folder = nifti[0] / "a"
    expert = folder / "BraTS20_Training_009_seg.nii.gz"
    (scan,) = find_scans(folder, brats)
    labels = read_labels(scan, brats)
    (folder / "masks").mkdir()
    write_mask(folder / "masks" / expert.name, labels, expert, brats.tissues)
    (scan,) = find_scans(folder, brats)  # an expert's mask is there too
    assert (scan.mask, scan.problem, scan.note) == (expert, "", "")
    expert.unlink()
    (scan,) = find_scans(folder, brats, need_mask=False)
    words = f"{expert.name} is a mask that this project predicted, no expert's; add the expert's, or"
    assert (scan.mask, scan.problem) == (None, "")
    assert scan.mask_problem.startswith(words)
    (scan,) = find_scans(folder, brats)
    assert scan.problem.startswith(words)
    (found,) = find_masks(folder, brats)
    assert (found.mask, found.notes[-1]) == (
        folder / "masks" / expert.name,
        "the mask is a prediction of this project",
    )
    image = nib.load(folder / "masks" / expert.name)
    image.header.set_intent("none")  # the remedy that is given
    nib.save(image, expert)
    (scan,) = find_scans(folder, brats)
    assert scan.mask == expert


def test_where_the_first_copy_of_a_patient_is_damaged_the_next_is_used(nifti, brats):
    folder, volumes, mask = nifti
    for place in ("c", "d"):
        save_patient(folder / place, "BraTS20_Training_009", volumes, mask)
    damaged = folder / "a" / "BraTS20_Training_009_t1.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    scans = [scan for scan in find_scans(folder, brats) if scan.patient == "BraTS20_Training_009"]
    assert [scan.spare for scan in scans] == [False, True, True]

    def describe(several):
        return [inspect_scan(scan, brats, folder)["excluded"].iloc[0] for scan in several]

    first, second, third = describe_scans(scans, describe, lambda excluded: excluded == "")
    assert "BraTS20_Training_009_t1.nii.gz can't be read" in first[1]
    assert (second[0].spare, second[0].problem, second[1]) == (False, "", "")
    assert "a patient of that name is in" in third[1]
