import shutil

import pandas as pd
import pytest

from brain_tumor.data.common.files import SIMULATED_MARK, is_simulated, list_files
from brain_tumor.data.common.pseudonyms import Pseudonyms, is_pseudonym
from brain_tumor.data.scans.clinical_tables import read_clinical
from brain_tumor.data.scans.find_scans import find_scans
from brain_tumor.data.scans.pseudonymous_folder import make_pseudonymous

NAMES = ("flair", "t1", "t1ce", "t2", "seg")
WORDS = ("doe", "jane", "1970")


def touch(*files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


@pytest.fixture
def source(tmp_path):
    return tmp_path / "of Jane Doe"


@pytest.fixture
def make(tmp_path, brats, source):
    """The folder under pseudonyms."""

    def make_folder(data_set=brats):
        names = Pseudonyms(tmp_path / "privacy", data_set.find_person)
        return make_pseudonymous(source, tmp_path / "links", names, data_set)

    return make_folder


LAYOUTS = {
    "prefix": "Doe_Jane_1970/Doe_Jane_1970_{}.nii.gz",
    "bare": "Jane Doe/{}.nii.gz",
    "bare below a folder that says what lies in it": "images/Jane Doe/{}.nii.gz",
    "a folder for each modality": "{}/Doe.Jane.nii.gz",
    "flat": "Doe-Jane-{}.NII.GZ",
    "another name above": "ward of Doe/P1/jane_{}.nii",
    "letters of a modality": "t/{}.nii.gz",
    "naming of BraTS 2023": "BraTS-GLI-00001-000/BraTS-GLI-00001-000-{}.nii.gz",
    "naming of BraTS 2023 in the folder": "BraTS-GLI-00001-000/{}.nii.gz",
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_same_files_are_of_one_patient_whose_name_is_nowhere(source, make, brats, layout):
    touch(*(source / layout.format(name) for name in NAMES))
    (original,) = find_scans(source, brats)
    folder = make()
    (found,) = find_scans(folder, brats)
    assert is_pseudonym(found.patient)
    assert [file.readlink() for file in found.files] == list(original.files)
    assert found.mask.readlink() == original.mask
    assert (found.problem, found.tissues) == ("", original.tissues)
    shown = f"{found.patient} {found.note} {' '.join(map(str, found.files))}".replace(str(folder.parents[2]), "")
    assert not [word for word in WORDS if word in shown.lower()]


def test_visits_of_a_person_stay_theirs(source, make, brats):
    for visit in ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000"):
        touch(*(source / visit / f"{visit}-{name}.nii.gz" for name in NAMES))
    first, second, other = sorted(scan.patient for scan in find_scans(make(), brats))
    persons = [brats.find_person(name) for name in (first, second, other)]
    assert len({first, second, other}) == 3
    assert len(set(persons)) == 2


def test_what_cannot_be_used_is_told_without_names(source, make, brats, caplog):
    touch(*(source / f"Doe_{name}.nii.gz" for name in NAMES[1:]), source / "Jane_Doe_dwi.nii.gz")
    (found,) = find_scans(make(), brats)
    assert "no FLAIR volume" in found.problem
    assert "1 NIfTI file of no declared suffix" in caplog.text
    for word in WORDS:
        assert word not in caplog.text.lower().replace("of jane doe", "")


def test_other_files_have_names_without_meaning(source, make):
    place = source / "DICOM" / "DOE_JANE"
    touch(place / "1970" / "IM.19700101", place / "Doe.dcm", place / "MR.Doe")
    folder = make()
    files = list_files(folder)
    assert len(files) == 3
    for file in files:
        assert not [word for word in WORDS if word in str(file.relative_to(folder.parents[1])).lower()]
    assert {file.suffix for file in files} == {"", ".dcm"}


def test_slices_with_numbers_keep_them(source, make, brats):
    touch(source / "volume_41_slice_3.h5", source / "meta_data.csv")
    (found,) = find_scans(make(), brats)
    assert found.patient == "BraTS20_Training_041"


def test_tables_are_about_the_same_patients(source, make, brats):
    touch(*(source / "BraTS19_Doe" / f"BraTS19_Doe_{name}.nii.gz" for name in NAMES))
    names = {"Grade": ["HGG"], "BraTS_2019_subject_ID": ["BraTS19_Doe"], "BraTS_2020_subject_ID": ["BraTS20_Jane"]}
    pd.DataFrame(names | {"TCGA_TCIA_subject_ID": ["NA"]}).to_csv(source / "name_mapping.csv", index=False)
    facts = {"Brats20ID": ["BraTS20_Jane"], "Age": ["70.5"], "Survival_days": ["300"], "Extent_of_Resection": ["GTR"]}
    pd.DataFrame(facts).to_csv(source / "survival_info.csv", index=False)
    folder = make()
    (scan,) = find_scans(folder, brats)
    table = read_clinical(folder)
    assert not [word for word in WORDS if word in table.to_csv().lower()]
    row = table.set_index("patient").loc[scan.patient]
    assert (row["grade"], row["age"], row["survival_days"]) == ("HGG", "70.5", "300")
    assert is_pseudonym(row["own"])


def test_rows_of_numbered_slices_stay(source, make):
    touch(source / "volume_41_slice_3.h5")
    names = {"Grade": ["HGG"], "BraTS_2020_subject_ID": ["BraTS20_Training_041"]}
    pd.DataFrame(names).to_csv(source / "name_mapping.csv", index=False)
    assert read_clinical(make())["patient"].tolist() == ["BraTS20_Training_041"]


def test_a_second_time_nothing_is_written_and_what_is_gone_is_removed(source, make):
    touch(source / "a_t1.nii.gz", source / "b_t1.nii.gz")
    pd.DataFrame({"Grade": ["HGG"], "BraTS_2020_subject_ID": ["a"]}).to_csv(source / "name_mapping.csv", index=False)
    folder = make()
    before = {file: file.lstat().st_mtime_ns for file in list_files(folder)}
    make()
    assert {file: file.lstat().st_mtime_ns for file in list_files(folder)} == before
    (source / "b_t1.nii.gz").unlink()
    make()
    assert len(list_files(folder)) == 2


def test_what_is_simulated_stays_so(source, make):
    touch(source / "a_t1.nii.gz", source.parent / SIMULATED_MARK)
    assert is_simulated(make())


def test_a_folder_that_is_not_there_is_reported_by_who_reads_it(make, brats, source):
    assert make() == source


def test_a_file_that_became_a_folder_is_not_gone_through(source, make):
    file = source / "P1" / "P1_t1.nii"
    touch(file)
    make()
    file.unlink()
    touch(file / "P1_t1.nii", source / "P1" / "other" / "deep.nii")
    folder = make()
    assert (file / "P1_t1.nii").is_file()
    assert len(list_files(folder)) == 2
    shutil.rmtree(source / "P1" / "other")
    make()
    assert not [path for path in folder.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_drafts_of_another_process_stay(source, make):
    touch(source / "P1" / "P1_t1.nii")
    (link,) = list_files(make())
    draft = link.with_name(f".{link.name}.1.2")
    draft.symlink_to(source / "P1" / "P1_t1.nii")
    make()
    assert draft.is_symlink()


def test_patients_with_the_names_of_published_slices_keep_them(source, make, brats):
    touch(source / "BraTS20_Training_007" / "BraTS20_Training_007_seg.nii.gz")
    published = brats.model_copy(update={"slice_patient": "BraTS20_Training_{volume:03d}"})
    folder = make(data_set=published)
    (found,) = list_files(folder)
    assert found.name == "BraTS20_Training_007_seg.nii.gz"
    assert not brats.model_copy(update={"slice_patient": "{volume:03d}"}).is_published("007")
