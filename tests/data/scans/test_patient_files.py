"""Every layout in which BraTS-like volumes are passed around is read, and nothing is chosen in silence."""

from pathlib import Path

import pytest

from brain_tumor.data.common.files import list_files
from brain_tumor.data.scans.data_set import MASK, DataSet
from brain_tumor.data.scans.find_scans import find_masks, find_scans
from brain_tumor.data.scans.patient_files import group_files

ENDINGS = {"FLAIR": "flair", "T1": "t1", "T1ce": "t1ce", "T2": "t2", MASK: "seg"}


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


LAYOUTS = {
    "a folder for each patient": lambda p, e: f"{p}/{p}_{e}.nii.gz",
    "one folder for all": lambda p, e: f"{p}_{e}.nii",
    "hyphens": lambda p, e: f"{p}/{p}-{e}.nii.gz",
    "capitals": lambda p, e: f"{p}/{p}_{e.upper()}.NII.GZ",
    "bare names": lambda p, e: f"{p}/{e}.nii.gz",
    "bare names in a folder in a folder": lambda p, e: f"{p}/anat/{e}.nii.gz",
    "a folder for each modality": lambda p, e: f"{e}/{p}_{e}.nii.gz",
    "a folder for each modality, names without suffixes": lambda p, e: f"{e}/{p}.nii.gz",
    "masks apart": lambda p, e: f"{'masks' if e == 'seg' else 'images'}/{p}_{e}.nii.gz",
    "masks apart, without suffixes": lambda p, e: f"masks/{p}.nii.gz" if e == "seg" else f"images/{p}_{e}.nii.gz",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, brats, layout):
    for patient in ("P1", "P2"):
        touch(*(tmp_path / LAYOUTS[layout](patient, ending) for ending in ENDINGS.values()))
    first, second = group_files(list_files(tmp_path), brats)
    named = {"P1", "P2"} if "in a folder in" not in layout else {"P1_anat", "P2_anat"}
    assert {first.patient, second.patient} == named
    assert set(first.volumes) == set(second.volumes) == set(ENDINGS)
    assert not first.conflicts
    scans = find_scans(tmp_path, brats)
    assert [scan.problem for scan in scans] == ["", ""]
    assert [len(scan.volumes) for scan in scans] == [4, 4]
    assert [found.mask for found in find_masks(tmp_path, brats)] == [scan.mask for scan in scans]


def test_the_longest_ending_wins(tmp_path, brats):
    longer = {"name": "X", "suffixes": ["post_t1ce"]}
    declared = DataSet.model_validate(brats.model_dump() | {"modalities": [*brats.model_dump()["modalities"], longer]})
    touch(tmp_path / "P1_post_t1ce.nii.gz", tmp_path / "P1_t1ce.nii.gz")
    (found,) = group_files(list_files(tmp_path), declared)
    assert {kind: file.name for kind, file in found.volumes.items()} == {
        "X": "P1_post_t1ce.nii.gz",
        "T1ce": "P1_t1ce.nii.gz",
    }


def test_two_files_for_one_modality_are_a_conflict_that_names_both(tmp_path, brats):
    touch(*(tmp_path / f"P1_{ending}.nii.gz" for ending in ENDINGS.values()), tmp_path / "P1_t1c.nii.gz")
    (scan,) = find_scans(tmp_path, brats)
    assert scan.problem == f"2 files for T1ce in {tmp_path}: P1_t1c.nii.gz and P1_t1ce.nii.gz; keep one"


def test_of_two_masks_none_is_taken_and_the_scan_can_still_be_segmented(tmp_path, brats):
    touch(*(tmp_path / f"P1_{ending}.nii.gz" for ending in ENDINGS.values()), tmp_path / "P1_segm.nii.gz")
    (scan,) = find_scans(tmp_path, brats, need_mask=False)
    assert scan.problem == ""
    assert scan.mask is None
    assert "P1_seg.nii.gz and P1_segm.nii.gz; keep one" in scan.mask_problem
    assert "P1_seg.nii.gz and P1_segm.nii.gz; keep one" in find_scans(tmp_path, brats)[0].problem


def test_an_unpacked_copy_beside_a_volume_is_noted_and_not_used(tmp_path, brats):
    touch(*(tmp_path / f"P1_{ending}.nii{suffix}" for ending in ENDINGS.values() for suffix in ("", ".gz")))
    (scan,) = find_scans(tmp_path, brats)
    assert scan.problem == ""
    assert {file.suffix for file in scan.files} == {".gz"}
    assert "P1_t1.nii.gz is used, the unpacked file of the same name beside it is not" in scan.note


def test_a_mask_of_another_name_is_adopted_by_everybody(tmp_path, brats):
    touch(*(tmp_path / "355" / f"BraTS20_Training_355_{ending}.nii" for ending in ("flair", "t1", "t1ce", "t2")))
    touch(tmp_path / "355" / "W39_1998.09.19_Segm.nii")
    assert [scan.mask.name for scan in find_scans(tmp_path, brats)] == ["W39_1998.09.19_Segm.nii"]
    assert [scan.mask.name for scan in find_scans(tmp_path, brats, need_mask=False)] == ["W39_1998.09.19_Segm.nii"]
    (found,) = find_masks(tmp_path, brats)
    assert (found.patient, found.mask.name) == ("BraTS20_Training_355", "W39_1998.09.19_Segm.nii")


def test_the_same_name_with_the_same_modality_in_two_folders_is_not_joined(tmp_path, brats):
    for folder in ("a", "b"):
        touch(*(tmp_path / folder / f"P1_{ending}.nii.gz" for ending in ENDINGS.values()))
    used, twice = find_scans(tmp_path, brats)
    assert used.problem == ""
    assert f"a patient of that name is in {tmp_path / 'a'} too" in twice.problem


def test_files_of_the_operating_system_are_no_patients(tmp_path, brats):
    files = [tmp_path / "P1" / f"P1_{ending}.nii.gz" for ending in ENDINGS.values()]
    touch(*files)
    touch(
        *(file.with_name(f"._{file.name}") for file in files),
        tmp_path / "P1/.DS_Store",
        tmp_path / "P1/Thumbs.db",
        tmp_path / "desktop.ini",
    )
    for folder in ("__MACOSX", "@eaDir", ".ipynb_checkpoints", "lost+found", ".Trash-0", "$RECYCLE.BIN"):
        touch(
            *(tmp_path / folder / file.name for file in files),
            *(tmp_path / "P1" / folder / file.name for file in files),
        )
    (scan,) = find_scans(tmp_path, brats)
    assert scan.files == tuple(files)


def test_what_is_there_instead_is_named_with_a_way_to_nifti(tmp_path, brats):
    for number in range(30):
        (tmp_path / f"IM{number:04d}").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(
        FileNotFoundError, match=r"holds 30 files \(30 DICOM\), but neither .*; convert the series with `dcm2niix"
    ):
        find_scans(tmp_path, brats, parameter="inference_source")
    with pytest.raises(
        FileNotFoundError,
        match=r"holds 30 files \(30 DICOM\), but no masks named .*; convert the series with `dcm2niix",
    ):
        find_masks(tmp_path, brats)
