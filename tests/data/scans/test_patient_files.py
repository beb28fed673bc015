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
    "bare names, masks apart": lambda p, e: f"{'masks' if e == 'seg' else 'images'}/{p}/{e}.nii.gz",
    "bare names, masks apart in a folder for each patient": lambda p, e: (
        f"{p}/{'mask' if e == 'seg' else 'images'}/{e}.nii.gz"
    ),
    "a modality's folder in a folder for each patient": lambda p, e: f"{p}/{e}/{e}.nii.gz",
    "full stops": lambda p, e: f"{p}.{e}.nii.gz",
    "spaces": lambda p, e: f"{p}/{p} {e}.nii",
    "mixed capitals": lambda p, e: f"{p}/{p}_{e}.Nii.gz",
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
    assert {first.patient, second.patient} == {"P1", "P2"}
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
    network = ("#snapshot", "~snapshot", "@tmp", "@sharebin", "@eaDir", "Network Trash Folder", "Temporary Items")
    local = ("__MACOSX", ".ipynb_checkpoints", "lost+found", ".Trash-0", "$RECYCLE.BIN", "RECYCLER", "found.000")
    for folder in (*network, *local, "__pycache__"):
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
        FileNotFoundError,
        match=r"holds 30 files \(30 DICOM\), but neither .*; else convert the series with `dcm2niix",
    ):
        find_scans(tmp_path, brats, parameter="inference_source")
    with pytest.raises(
        FileNotFoundError,
        match=r"holds 30 files \(30 DICOM\), but no masks named .*; else convert the series with `dcm2niix",
    ):
        find_masks(tmp_path, brats)


NEW_SUFFIXES = {"flair": "t2f", "t1": "t1n", "t1ce": "t1c", "t2": "t2w", "seg": "seg"}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("BraTS-GLI-00000-000/{}.nii.gz", 3),
        ("site/images/BraTS-GLI-00000-000/{}.nii.gz", 3),
        ("{}/P1.nii.gz", 3),
        ("P1/{}.nii.gz", 3),
        ("P1.{}.nii.gz", 3),
        ("{old}/P1.nii.gz", 4),
        ("BraTS20_Training_001/{old}.nii.gz", 4),
    ],
)
def test_labels_follow_the_names_of_patients_files_and_folders(tmp_path, brats, name, label):
    """BraTS 2023 and later have ET 3; 4 is a resection cavity there."""
    touch(*(tmp_path / name.format(new, old=old) for old, new in NEW_SUFFIXES.items()))
    (scan,) = find_scans(tmp_path, brats)
    (found,) = find_masks(tmp_path, brats)
    assert scan.tissues == found.find_tissues(brats)
    assert scan.tissues[2].labels[0] == label


def test_a_folder_that_holds_all_patients_says_nothing_of_their_labels(tmp_path, brats):
    touch(*(tmp_path / "BraTS-2020" / f"P1_{ending}.nii.gz" for ending in ENDINGS.values()))
    (scan,) = find_scans(tmp_path, brats)
    assert scan.tissues == brats.tissues


def test_a_mask_is_not_given_to_another_patient_than_its_name_says(tmp_path, brats):
    scans = [ending for ending in ENDINGS.values() if ending != "seg"]
    touch(*(tmp_path / "a" / f"P1_{ending}.nii.gz" for ending in scans), tmp_path / "a" / "P2_seg.nii.gz")
    touch(*(tmp_path / "b" / f"P2_{ending}.nii.gz" for ending in scans))
    first, second = find_scans(tmp_path, brats, need_mask=False)
    assert (first.mask, second.mask) == (None, tmp_path / "a" / "P2_seg.nii.gz")
    touch(tmp_path / "b" / "P2_seg.nii.gz")
    first, second = find_scans(tmp_path, brats, need_mask=False)
    assert (first.mask, second.mask) == (None, tmp_path / "b" / "P2_seg.nii.gz")
    assert "a/P2_seg.nii.gz is not" in second.note


def test_of_two_masks_in_folders_of_their_own_none_is_taken_and_both_are_named(tmp_path, brats):
    touch(*(tmp_path / "images" / f"P1_{ending}.nii.gz" for ending in ENDINGS.values() if ending != "seg"))
    touch(tmp_path / "expert1" / "P1_seg.nii.gz", tmp_path / "expert2" / "P1_seg.nii.gz")
    (scan,) = find_scans(tmp_path, brats, need_mask=False)
    words = f"2 files for mask: {tmp_path}/expert1/P1_seg.nii.gz and {tmp_path}/expert2/P1_seg.nii.gz; keep one"
    assert (scan.problem, scan.mask, scan.mask_problem) == ("", None, words)
    assert [scan.problem for scan in find_scans(tmp_path, brats)] == [words]


def test_files_without_a_declared_suffix_are_counted_and_named(tmp_path, brats, caplog):
    touch(*(tmp_path / f"P1_{ending}.nii.gz" for ending in ENDINGS.values()))
    touch(*(tmp_path / f"P2_{ending}.nii.gz" for ending in ("adc", "swi", "dwi", "asl")))
    find_scans(tmp_path, brats)
    assert (
        "passed over: 4 NIfTI files of no declared suffix, such as P2_adc.nii.gz, P2_asl.nii.gz, P2_dwi.nii.gz, ...; "
        "if they are scans, rename them, or declare their suffixes"
    ) in caplog.text
    caplog.clear()
    find_scans(tmp_path, brats, quiet=True)
    assert not caplog.text


def test_a_modality_that_comes_first_is_to_be_put_last(tmp_path, brats):
    touch(*(tmp_path / f"{ending}_P1.nii.gz" for ending in ENDINGS.values()))
    with pytest.raises(FileNotFoundError, match=r"comes last: rename flair_P1\.nii\.gz to P1_flair\.nii\.gz"):
        find_scans(tmp_path, brats)
