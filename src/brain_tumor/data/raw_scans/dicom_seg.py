"""A mask as a DICOM-SEG object, which refers to the instances of the series that it lies on.

Source: DICOM PS3.3 A.51; codes of PS3.16, context groups 7150 (categories), 7168 and 7169 (lesions of the brain).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from nibabel.affines import apply_affine

from brain_tumor.data.raw_scans.dicom import quiet
from brain_tumor.data.raw_scans.extra import require_extra
from brain_tumor.data.raw_scans.grids import Matrix

EXTRA = "dicom"
"""The extra that has highdicom."""

SUFFIX = ".dcm"

MANUFACTURER = "brain-tumor-mri"

SERIES_STEP = 1000
"""Added to the number of the source series, so that the object is listed far from what was scanned."""

MEANINGS = {
    "NCR": ("necrotic and non-enhancing tumour core", "SCT", "Necrosis"),
    "ED": ("oedema around the tumour", "SCT", "Edema"),
    "ET": ("enhancing tumour", "NCIt", "EnhancingLesion"),
}
"""Tissue > what viewers call it, scheme and keyword of its code. SNOMED has no enhancing tumour; DICOM takes NCIt's."""

LESION = ("SCT", "Lesion")
"""Code of a tissue that is declared under another name."""

NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns")
"""Elements without which nothing can refer to an image."""

REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
"""Elements that a DICOM object has, if only empty."""

KEPT = (
    *NEEDED,
    *("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("SpacingBetweenSlices", "InstanceNumber", "SeriesNumber", "NumberOfFrames", "SharedFunctionalGroupsSequence"),
    *("PerFrameFunctionalGroupsSequence", "Modality", "ImageType", "DimensionOrganizationSequence"),
    *("DimensionIndexSequence", "DimensionOrganizationType"),
)
"""Elements of the source that the object needs of it: where it lies, and what it refers to."""

NOT_CLINICAL = "predicted, not for clinical use"


@dataclass(frozen=True)
class Algorithm:
    """What predicted a mask.

    Attributes:
        version: of the project.
        weights: digest of the network's weights.
    """

    name: str
    version: str
    weights: str


@dataclass(frozen=True)
class SegFile:
    """A DICOM-SEG object to be written.

    Attributes:
        file: its name.
    """

    file: str
    dataset: Any

    def write(self, path: Path) -> None:
        """Write the DICOM file."""
        self.dataset.save_as(path)


def make_dicom_seg(
    file: str,
    source: Sequence[Path],
    labels: UInt8[np.ndarray, "h w d"],
    affine: Matrix,
    colours: Mapping[str, str],
    algorithm: Algorithm,
    *,
    simulated: bool,
    pseudonym: str = "",
) -> SegFile:
    """A segment for each tissue. Each pixel of the source has the label of the voxel in which its centre lies.

    Args:
        file: name of the file.
        source: files of the series, in any order, or one multi-frame file.
        labels: k for the k-th tissue.
        affine: from voxels of the labels to millimetres (right, anterior, superior).
        colours: tissue > hexadecimal colour, in the order of the labels.
        simulated: the descriptions say so.
        pseudonym: in place of what names the person; empty: the object is filed under the person, as the source is.

    Raises:
        ImportError: if highdicom isn't installed.
        ValueError: if the headers of the series don't say where its pixels lie.
    """
    highdicom = require_extra("highdicom", EXTRA, "DICOM-SEG needs")
    with quiet():
        images, planes = _read_planes(source)
        step = _find_step(planes)
        for image in images:
            if pseudonym:
                _rename(image, pseudonym)
            _complete(image, step, highdicom)
        pixels = np.stack([_cut(labels, affine, plane, _shape(images[0])) for plane in planes])
        try:
            dataset = _compose(highdicom, images, pixels, colours, algorithm, simulated=simulated)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # Its words may have values of the header in them.
            raise ValueError(
                f"highdicom can't refer to the headers of the series ({type(error).__name__}); export it again"
            ) from error
        if pseudonym:
            dataset.PatientIdentityRemoved = "YES"
            dataset.DeidentificationMethod = "Name and number replaced, the rest removed, UIDs kept"
    return SegFile(file, dataset)


def _read_planes(source: Sequence[Path]) -> tuple[list[Any], list[Matrix]]:
    """Headers of the images, and where the pixels of each slice lie; of two slices in one place the first counts."""
    pydicom = require_extra("pydicom")
    headers = [pydicom.dcmread(file, force=True, stop_before_pixels=True) for file in source]
    missing = sorted({element for header in headers for element in NEEDED if not header.get(element)})
    if missing:
        raise ValueError(f"headers of the series lack {', '.join(missing)}; export it again")
    if len({_shape(header) for header in headers}) > 1:
        raise ValueError("slices of the series have several sizes; export it again")
    headers.sort(key=lambda header: int(header.get("InstanceNumber") or 0))
    if int(headers[0].get("NumberOfFrames") or 1) > 1:
        if len(headers) > 1:
            raise ValueError(f"the series has {len(headers)} multi-frame files; export one volume")
        return headers, _frame_planes(headers[0])
    images: dict[tuple[float, ...], tuple[Any, Matrix]] = {}
    for header in headers:
        plane = _plane(*(header.get(each) for each in ("ImagePositionPatient", *AXES)))
        # Echoes or repetitions of one series: the volume was made of one of them, and all lie alike.
        images.setdefault(tuple(np.round(plane[:3, 3], 2)), (header, plane))
    return [header for header, _ in images.values()], [plane for _, plane in images.values()]


AXES = ("ImageOrientationPatient", "PixelSpacing")


def _frame_planes(header: Any) -> list[Matrix]:
    """The same of a multi-frame image, which has a position for each frame, and the rest once or for each too."""
    shared = header.get("SharedFunctionalGroupsSequence") or [{}]
    planes = []
    for frame in header.get("PerFrameFunctionalGroupsSequence") or []:
        found = []
        for sequence, element in (
            ("PlanePositionSequence", "ImagePositionPatient"),
            ("PlaneOrientationSequence", "ImageOrientationPatient"),
            ("PixelMeasuresSequence", "PixelSpacing"),
        ):
            items = frame.get(sequence) or shared[0].get(sequence)
            found.append(items[0].get(element) if items else None)
        planes.append(_plane(*found))
    if not planes:
        raise ValueError("the headers of the frames don't say where they lie; export the series again")
    return planes


def _plane(position: Any, axes: Any, spacing: Any) -> Matrix:
    """From (column, row, 0) of an image to millimetres (right, anterior, superior).

    Source: DICOM PS3.3, C.7.6.2.1.1.
    """
    if not position or not axes or not spacing:
        raise ValueError("headers of the series don't say where its slices lie; export it again")
    row_axis, column_axis = np.array(axes[:3], float), np.array(axes[3:], float)
    row_mm, column_mm = (float(step) for step in spacing)
    plane = np.eye(4)
    # Along a row the column counts, whose spacing is the second.
    plane[:3, 0], plane[:3, 1] = row_axis * column_mm, column_axis * row_mm
    plane[:3, 2], plane[:3, 3] = np.cross(row_axis, column_axis), np.array(position, float)
    # DICOM counts to the left and the back, NIfTI to the right and the front.
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ plane


def _shape(header: Any) -> tuple[int, int]:
    return int(header.Rows), int(header.Columns)


def _cut(
    labels: UInt8[np.ndarray, "h w d"], affine: Matrix, plane: Matrix, shape: tuple[int, int]
) -> UInt8[np.ndarray, "r c"]:
    """The labels at the pixels of one image, 0 outside of the volume."""
    rows, columns = np.indices(shape)
    pixels = np.stack([columns, rows, np.zeros(shape)], axis=-1)
    places = np.rint(apply_affine(np.linalg.inv(affine) @ plane, pixels)).astype(int)
    inside = ((places >= 0) & (places < labels.shape)).all(-1)
    cut = np.zeros(shape, np.uint8)
    cut[inside] = labels[tuple(places[inside].T)]
    return cut


def _find_step(planes: list[Matrix]) -> float:
    """Millimetres from slice to slice, the median; 1 of a single slice."""
    places = np.sort([plane[:3, 2] @ plane[:3, 3] for plane in planes])
    return float(np.median(np.diff(places))) if len(planes) > 1 else 1.0


def _complete(image: Any, step: float, highdicom: Any) -> None:
    """Give a header what DICOM requires and anonymisers take away."""
    for element in REQUIRED:
        if element not in image:
            setattr(image, element, None)
    if not image.get("SliceThickness"):
        image.SliceThickness = round(step, 4)
    if not image.get("FrameOfReferenceUID"):
        # The instances that the object refers to still say where it lies. One for all of them.
        image.FrameOfReferenceUID = highdicom.UID.from_uuid(_uuid(str(image.SeriesInstanceUID)))


def _uuid(text: str) -> str:
    from uuid import NAMESPACE_OID, uuid5

    return str(uuid5(NAMESPACE_OID, text))


def _rename(image: Any, pseudonym: str) -> None:
    # highdicom takes over what it finds of patient, study, visit, hospital and scanner.
    for element in list(image):
        if element.keyword not in KEPT:
            del image[element.tag]
    image.PatientName = image.PatientID = pseudonym


def _compose(
    highdicom: Any,
    images: list[Any],
    pixels: UInt8[np.ndarray, "n r c"],
    colours: Mapping[str, str],
    algorithm: Algorithm,
    *,
    simulated: bool,
) -> Any:
    codes = require_extra("pydicom.sr.codedict").codes
    identified = highdicom.AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=codes.DCM.ArtificialIntelligence,
        version=algorithm.version,
        source=MANUFACTURER,
        parameters={"weights": algorithm.weights},
    )
    segments = []
    for number, (tissue, colour) in enumerate(colours.items(), start=1):
        words, scheme, keyword = MEANINGS.get(tissue, ("", *LESION))
        segments.append(
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=f"{tissue}, {words}" if words else tissue,
                segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                segmented_property_type=getattr(getattr(codes, scheme), keyword),
                algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=identified,
                anatomic_regions=[codes.SCT.Brain],
                display_color=highdicom.color.CIELabColor.from_string(colour),
            )
        )
    mark = "SIMULATED: " if simulated else ""
    return highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_STEP + int(images[0].get("SeriesNumber") or 0),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=algorithm.name,
        software_versions=algorithm.version,
        device_serial_number=algorithm.weights,
        content_description=f"{mark}Tissues of a tumour, {NOT_CLINICAL}",
        content_label="TUMOUR",
        # Whatever the source was written in; highdicom refuses some of what scanners write.
        specific_character_set="ISO_IR 192",
        series_description=f"{mark}Tumour, {NOT_CLINICAL}",
    )
