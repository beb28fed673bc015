import re
from types import SimpleNamespace

import numpy as np
import pytest
from dicom_files import write_series
from support import real

from brain_tumor.data.raw_scans import convert
from brain_tumor.data.raw_scans.convert import convert_dicom
from brain_tumor.data.raw_scans.dicom import find_series
from brain_tumor.data.raw_scans.find_patients import find_patients
from brain_tumor.data.raw_scans.settings import RawSettings
from brain_tumor.pipelines.data_raw_scans import nodes

pydicom = pytest.importorskip("pydicom", reason="the extra raw is not installed (pydicom)")


def test_a_header_is_read_and_names_are_not_kept(tmp_path):
    files = write_series(tmp_path / "a", description="AX T1 DOE", ContrastBolusAgent="Gd")
    (found,) = find_series(files)
    assert (found.number, found.repetition, found.echo, found.agent) == (1, 500.0, 10.0, True)
    assert found.spacing == (2.0, 2.0, 5.0)
    assert found.span == pytest.approx(120)
    assert found.description == "AX T1 ***"
    assert "Jane" not in repr(found).replace("jane", "")


def test_a_localiser_has_several_orientations(tmp_path):
    files = write_series(tmp_path / "a", slices=2) + write_series(
        tmp_path / "b", slices=2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]
    )
    (found,) = find_series(files)
    assert found.orientations == 2


def test_files_that_are_no_dicom_images_are_passed_over(tmp_path, caplog):
    files = write_series(tmp_path / "a", slices=2)
    files[0].write_bytes(files[0].read_bytes()[:200])
    (found,) = find_series(files)
    assert len(found.files) == 1
    assert "excluded: 1 DICOM files without a readable header" in caplog.text


def test_times_of_an_enhanced_object_are_found(tmp_path):
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    echo, groups = Dataset(), Dataset()
    echo.EffectiveEchoTime = 12.0
    groups.MREchoSequence = Sequence([echo])
    files = write_series(tmp_path, slices=1, EchoTime=None, SharedFunctionalGroupsSequence=Sequence([groups]))
    assert find_series(files)[0].echo == 12.0


def test_the_volume_has_the_voxels_of_the_slices_in_their_place(tmp_path):
    pytest.importorskip("dcm2niix", reason="the extra raw is not installed (dcm2niix)")
    files = write_series(tmp_path / "Doe_Jane")
    volume = convert_dicom(files, "P1_t1.nii.gz")
    assert volume.voxels.shape == (32, 32, 24)
    # DICOM counts to the left and the back, NIfTI to the right and the front.
    place = volume.affine @ [31, 31, 3, 1]
    assert volume.voxels[0, 31, 3] in (300, 331)
    assert place[2] == pytest.approx(15)
    volume.write(tmp_path / "P1_t1.nii.gz")
    import nibabel as nib

    image = nib.load(tmp_path / "P1_t1.nii.gz")
    assert bytes(image.header["descrip"]).strip(b"\0") == b""
    assert len(image.header.extensions) == 0


def test_a_series_that_is_cut_off_is_a_clear_error(tmp_path):
    pytest.importorskip("dcm2niix", reason="the extra raw is not installed (dcm2niix)")
    files = write_series(tmp_path / "a")
    for file in files:
        file.write_bytes(file.read_bytes()[:-1500])
    with pytest.raises(ValueError, match="dcm2niix makes no volume of its 24 files"):
        convert_dicom(files, "P1_t1.nii.gz")


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEG2000Lossless"])
def test_compressed_series_have_the_same_voxels(tmp_path, syntax):
    pytest.importorskip("dcm2niix", reason="the extra raw is not installed (dcm2niix)")
    if syntax == "JPEG2000Lossless":
        pytest.importorskip("openjpeg", reason="there is no encoder of JPEG 2000 (pylibjpeg-openjpeg)")
    plain = convert_dicom(write_series(tmp_path / "plain"), "P1_t1.nii.gz")
    files = write_series(tmp_path / "compressed")
    for file in files:
        image = pydicom.dcmread(file)
        image.compress(getattr(pydicom.uid, syntax), generate_instance_uid=False)
        image.save_as(file)
    compressed = convert_dicom(files, "P1_t1.nii.gz")
    np.testing.assert_array_equal(compressed.voxels, plain.voxels)
    np.testing.assert_allclose(compressed.affine, plain.affine)


def test_a_full_disk_is_not_taken_for_files_that_are_cut_off(tmp_path, monkeypatch):
    pytest.importorskip("dcm2niix", reason="the extra raw is not installed (dcm2niix)")
    files = write_series(tmp_path / "a")
    for file in files:
        file.write_bytes(file.read_bytes()[:-1500])
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(OSError, match="No space left on device"):
        convert_dicom(files, "P1_t1.nii.gz")


@pytest.fixture
def study(tmp_path):
    """A study of four modalities, a localiser and a T1 too few; the folder bears the person's name."""
    folder = tmp_path / "DOE_JANE"
    write_series(folder / "1", 1, 3, "localizer")
    write_series(folder / "2", 2, description="AX FLAIR", RepetitionTime=9000, EchoTime=120, InversionTime=2500)
    write_series(folder / "3" / "deep", 3)
    write_series(folder / "4", 4, description="AX T1 post", ContrastBolusAgent="Gd")
    write_series(folder / "5", 5, description="AX T2", RepetitionTime=4000, EchoTime=100)
    return tmp_path


def test_a_study_gives_its_four_modalities(study, brats):
    (patient,) = find_patients(study, brats, RawSettings())
    assert list(patient.files) == ["FLAIR", "T1", "T1ce", "T2"]
    assert patient.problem == ""
    assert [row["series"] for row in patient.rows if row["taken"]] == ["2", "3", "4", "5"]


def test_nothing_names_a_person(study, brats, caplog, monkeypatch):
    pytest.importorskip("dcm2niix", reason="the extra raw is not installed (dcm2niix)")
    # What registers and extracts brains isn't called here.
    monkeypatch.setattr(nodes, "require_extra", lambda name: name)
    write_series(study / "DOE_JANE" / "6", 6, description="AX T1 post of Jane", ContrastBolusAgent="Gd")
    table, volumes = nodes.import_scans(study, brats, RawSettings(), "exclude")
    words = table.to_csv() + caplog.text + " ".join(volume.file for volume in volumes)
    assert "several series are T1ce" in words
    for name in ("doe", "jane", "4711", "1970"):
        assert name not in words.lower()


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Li^Bo", "Bo_Li"),
        ("Müller^Jörg", "joerg"),
        ("Müller^Jörg", "scan of Muller"),
        ("Müller^Jörg", "Mu\u0308ller"),
        ("Doe^Jane", "p1970-01-01"),
        ("Doe^Jane", "01.01.70"),
        ("Doe^Jane", "St. Mary, Neuro-Radiology"),
        ("Doe^Jane", "of_dr_house"),
    ],
)
def test_folders_that_name_a_person_or_who_saw_them_name_nobody(tmp_path, brats, name, folder):
    about = {"InstitutionName": "St Mary Neuro Radiology", "ReferringPhysicianName": "House^G"}
    write_series(tmp_path / folder, PatientName=name, SpecificCharacterSet="ISO_IR 192", **about)
    (patient,) = find_patients(tmp_path, brats, RawSettings())
    assert re.fullmatch("patient_[0-9a-f]{8}", patient.patient)
    assert {row["folder"] for row in patient.rows} == {"***"}


def test_words_of_an_institution_stay_in_descriptions(tmp_path):
    files = write_series(tmp_path, description="AX T1 brain", InstitutionName="Brain Institute")
    assert find_series(files)[0].description == "AX T1 brain"


@pytest.mark.parametrize("vendor", ["ge", "siemens", "philips", "hitachi", "hyperfine"])
def test_series_of_vendors_are_read_and_converted(vendor):
    pytest.importorskip("dcm2niix", reason="the extra raw is not installed (dcm2niix)")
    folder = real(f"dicom/{vendor}_anatomical_001")
    (found,) = find_series(sorted(folder.iterdir()))
    volume = convert_dicom(found.files, "P1_t1.nii.gz")
    assert volume.voxels.ndim == 3
    assert np.ptp(volume.voxels) > 0
    assert found.repetition
    assert found.echo
