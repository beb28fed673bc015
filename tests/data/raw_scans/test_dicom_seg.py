import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from dicom_files import AXIAL, write_series
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation
from support import real

from brain_tumor.data.common.pseudonyms import PrivacySettings
from brain_tumor.data.raw_scans import extra
from brain_tumor.data.raw_scans.convert import convert_dicom
from brain_tumor.data.raw_scans.dicom_seg import Algorithm, make_dicom_seg
from brain_tumor.data.raw_scans.find_patients import find_patients
from brain_tumor.data.raw_scans.settings import RawSettings
from brain_tumor.data.scans.nifti_masks import read_mask, write_mask
from brain_tumor.data.scans.nifti_volumes import read_volume
from brain_tumor.figures.palette import colour_targets
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.pipelines.data_raw_scans.dicom_seg import write_dicom_seg

pydicom = pytest.importorskip("pydicom", reason="the extra raw is not installed (pydicom)")
highdicom = pytest.importorskip("highdicom", reason="the extra dicom is not installed (highdicom)")
pytest.importorskip("dcm2niix", reason="the extra raw is not installed (dcm2niix)")

COLOURS = colour_targets(["NCR", "ED", "ET"])
UNET = Algorithm("ClassicUNet", "1.2.3", "0a1b2c")
OBLIQUE = tuple(Rotation.from_euler("xyz", [12, -25, 8], degrees=True).as_matrix().T[:2].ravel())
SAGITTAL, CORONAL = (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)


def predict(series, folder, brats):
    """A NIfTI mask of all labels on the grid of a series, as the way back writes it."""
    native = folder / "P1_t1ce.nii.gz"
    convert_dicom(series, native.name).write(native)
    voxels, _ = read_volume(native)
    labels = np.random.default_rng(0).integers(0, 4, voxels.shape).astype(np.uint8)
    write_mask(folder / "P1_seg.nii.gz", labels, native, brats.tissues)
    return folder / "P1_seg.nii.gz"


def make(series, mask, brats, folder, **about):
    """The DICOM-SEG object of a mask, written and read again."""
    labels, affine = read_mask(mask, brats.tissues)
    made = make_dicom_seg("P1.dcm", series, labels, affine, COLOURS, UNET, **({"simulated": False} | about))
    made.write(folder / made.file)
    return highdicom.seg.segread(folder / made.file)


def assert_same_places(seg, mask, brats):
    """Each voxel of the NIfTI file has its label in the object, at the same millimetre of the patient."""
    image = nib.load(mask)
    expected = np.zeros(image.shape, np.uint8)
    for number, tissue in enumerate(brats.tissues, start=1):
        expected[np.asarray(image.dataobj) == tissue.labels[0]] = number
    volume = seg.get_volume(combine_segments=True)
    to_right_anterior = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    found = np.indices(volume.array.shape).reshape(3, -1).T
    places = apply_affine(np.linalg.inv(image.affine) @ to_right_anterior, found)
    voxels = np.rint(places).astype(int)
    assert np.abs(places - voxels).max() < 0.01
    assert len(np.unique(voxels, axis=0)) == expected.size
    np.testing.assert_array_equal(volume.array.ravel(), expected[tuple(voxels.T)])


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, CORONAL, OBLIQUE], ids=["axial", "sagittal", "coronal", "oblique"])
@pytest.mark.parametrize("step", [5.0, -5.0], ids=["up", "down"])
def test_the_mask_lies_on_the_source_voxel_for_voxel(tmp_path, brats, axes, step):
    series = write_series(tmp_path / "series", axes=axes, step=step)
    mask = predict(series, tmp_path, brats)
    assert_same_places(make(series, mask, brats, tmp_path), mask, brats)


def test_the_order_of_the_files_means_nothing(tmp_path, brats):
    series = write_series(tmp_path / "series", axes=OBLIQUE)
    mask = predict(series, tmp_path, brats)
    assert_same_places(make(series[::-1], mask, brats, tmp_path), mask, brats)


@pytest.mark.parametrize("vendor", ["ge", "siemens", "philips", "hitachi", "hyperfine"])
def test_masks_lie_on_series_of_vendors(tmp_path, brats, vendor):
    series = sorted(real(f"dicom/{vendor}_anatomical_001").iterdir())
    mask = predict(series, tmp_path, brats)
    for pseudonym in ("", "anon_1"):
        assert_same_places(make(series, mask, brats, tmp_path, pseudonym=pseudonym), mask, brats)


def test_each_frame_refers_to_the_instance_that_it_lies_on(tmp_path, brats):
    series = write_series(tmp_path / "series", step=-5.0)
    seg = make(series, predict(series, tmp_path, brats), brats, tmp_path)
    positions = {}
    for file in series:
        header = pydicom.dcmread(file)
        positions[header.SOPInstanceUID] = list(header.ImagePositionPatient)
    for frame in seg.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert list(frame.PlanePositionSequence[0].ImagePositionPatient) == positions[source]
    (referenced,) = seg.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == pydicom.dcmread(series[0]).SeriesInstanceUID
    assert len(referenced.ReferencedInstanceSequence) == len(series)


def test_tissues_have_codes_and_the_colours_of_the_project(tmp_path, brats):
    series = write_series(tmp_path / "series")
    seg = make(series, predict(series, tmp_path, brats), brats, tmp_path, simulated=True)
    kinds = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in seg.SegmentSequence]
    assert [(kind.CodingSchemeDesignator, kind.CodeValue) for kind in kinds] == [
        ("SCT", "6574001"),
        ("SCT", "79654002"),
        ("NCIt", "C113842"),
    ]
    assert [segment.SegmentLabel.partition(",")[0] for segment in seg.SegmentSequence] == ["NCR", "ED", "ET"]
    for segment, colour in zip(seg.SegmentSequence, COLOURS.values(), strict=True):
        own = highdicom.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb()
        assert np.abs(np.subtract(own, tuple(bytes.fromhex(colour[1:])))).max() <= 2
    algorithm = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("ClassicUNet", "1.2.3")
    assert "0a1b2c" in algorithm.AlgorithmParameters
    for words in (seg.SeriesDescription, seg.ContentDescription):
        assert "SIMULATED" in words
        assert "not for clinical use" in words
        assert len(words) <= 64


def test_a_mask_without_tumour_is_an_object_too(tmp_path, brats):
    series = write_series(tmp_path / "series", slices=3)
    convert_dicom(series, "P1.nii.gz").write(tmp_path / "P1.nii.gz")
    voxels, _ = read_volume(tmp_path / "P1.nii.gz")
    write_mask(tmp_path / "P1_seg.nii.gz", np.zeros(voxels.shape, np.uint8), tmp_path / "P1.nii.gz", brats.tissues)
    seg = make(series, tmp_path / "P1_seg.nii.gz", brats, tmp_path)
    assert not seg.pixel_array.any()


def test_the_object_is_filed_under_the_person_of_the_source(tmp_path, brats):
    series = write_series(tmp_path / "series", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    seg = make(series, predict(series, tmp_path, brats), brats, tmp_path)
    assert (str(seg.PatientName), seg.PatientID, seg.PatientBirthDate) == ("Müller^Jörg", "MRN4711", "19700101")
    assert seg.StudyInstanceUID == "1.2.826.0.2"


def test_a_pseudonym_takes_the_place_of_everything_that_names_the_person(tmp_path, brats):
    about = {"AccessionNumber": "AC4711", "OtherPatientIDs": "MRN4711", "PatientAddress": "Doe House"}
    about |= {"ReferringPhysicianName": "Doe^Doctor", "StudyDescription": "Brain of Doe", "StudyID": "4711"}
    about |= {"InstitutionName": "Doe Hospital", "PatientComments": "Doe", "PhysiciansOfRecord": "Doe^X"}
    series = write_series(tmp_path / "series", **about)
    seg = make(series, predict(series, tmp_path, brats), brats, tmp_path, pseudonym="anon_1")
    assert (str(seg.PatientName), seg.PatientID, seg.PatientIdentityRemoved) == ("anon_1", "anon_1", "YES")
    content = (tmp_path / "P1.dcm").read_bytes().lower()
    for word in (b"doe", b"jane", b"4711", b"1970", b"20200101"):
        assert word not in content


def test_headers_that_say_too_little_are_a_clear_error(tmp_path, brats):
    series = write_series(tmp_path / "series", slices=3)
    mask = predict(series, tmp_path, brats)
    header = pydicom.dcmread(series[1])
    del header.ImagePositionPatient
    header.save_as(series[1])
    with pytest.raises(ValueError, match="don't say where its slices lie"):
        make(series, mask, brats, tmp_path)


@pytest.fixture
def returned(tmp_path, brats):
    """Inputs of the node: a patient of DICOM with a mask."""
    source, masks, native = (tmp_path / name for name in ("source", "masks", "native"))
    masks.mkdir()
    native.mkdir()
    write_series(source / "P1" / "1", 1, description="AX FLAIR", RepetitionTime=9000, EchoTime=120, InversionTime=2500)
    write_series(source / "P1" / "2", 2)
    series = write_series(source / "P1" / "3", 3, description="T1 post", ContrastBolusAgent="Gd", axes=OBLIQUE)
    write_series(source / "P1" / "4", 4, description="AX T2", RepetitionTime=4000, EchoTime=100)
    mask = predict(series, masks, brats)
    table = pd.DataFrame([row for patient in find_patients(source, brats, RawSettings()) for row in patient.rows])
    return mask, (masks, table, native, source, TrainedNetwork("classic_unet", {}, {}, ({},)), brats)


def test_the_node_writes_the_mask_on_the_series_of_mask_on(tmp_path, brats, returned):
    mask, inputs = returned
    (made,) = write_dicom_seg(*inputs, RawSettings(), PrivacySettings())
    assert made.file == "P1.dcm"
    made.write(tmp_path / made.file)
    seg = highdicom.seg.segread(tmp_path / made.file)
    assert seg.SeriesNumber == 1003
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.826.0.1.3"
    assert_same_places(seg, mask, brats)


def test_the_setting_switches_it_off(returned):
    assert list(write_dicom_seg(*returned[1], RawSettings(dicom_seg=False), PrivacySettings())) == []


def test_without_highdicom_a_line_says_how_to_install_it(returned, caplog, monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(extra, "import_module", refuse)
    assert list(write_dicom_seg(*returned[1], RawSettings(), PrivacySettings())) == []
    (record,) = caplog.records
    assert "pip install 'brain-tumor-mri[dicom]'" in record.message
    assert "\n" not in record.message


def test_masks_of_nifti_scans_give_no_object(returned):
    _, (masks, table, *others) = returned
    assert list(write_dicom_seg(masks, table.assign(series=""), *others, RawSettings(), PrivacySettings())) == []


def test_warnings_of_pydicom_quote_no_person(tmp_path, brats):
    series = write_series(tmp_path / "series", slices=3)
    mask = predict(series, tmp_path, brats)
    for file in series:
        file.write_bytes(file.read_bytes().replace(b"19700101", b"Doe 1970"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        find_patients(tmp_path / "series", brats, RawSettings())
        try:
            make(series, mask, brats, tmp_path)
        except ValueError as error:
            assert "Doe" not in str(error)
    assert not [each for each in caught if "Doe" in str(each.message)]
