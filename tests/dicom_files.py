"""DICOM series, made up."""

import numpy as np

AXIAL = (1, 0, 0, 0, 1, 0)


def write_series(folder, number=1, slices=24, description="AX T1", axes=AXIAL, step=5.0, **elements):
    """A series of slices, 2 x 2 x 5 mm, whose voxels are 100 times the slice number plus the column.

    Args:
        axes: of a row and of a column.
        step: millimetres from each slice to the next along the normal; negative: the other way.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    folder.mkdir(parents=True, exist_ok=True)
    series = elements.pop("SeriesInstanceUID", f"1.2.826.0.1.{number}")
    for place in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = f"{series}.{place + 1}"
        image = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        image.PatientName, image.PatientID, image.PatientBirthDate = "Doe^Jane", "MRN4711", "19700101"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SeriesNumber = "1.2.826.0.2", series, number
        image.FrameOfReferenceUID = "1.2.826.0.3"
        image.StudyDate, image.StudyTime, image.AcquisitionTime = "20200101", "120000", "120000"
        image.Modality, image.Manufacturer, image.SeriesDescription = "MR", "SIEMENS", description
        image.ImageType, image.InstanceNumber = ["ORIGINAL", "PRIMARY", "M"], place + 1
        normal = np.cross(axes[:3], axes[3:])
        image.ImagePositionPatient = [round(float(each), 6) for each in np.array([-32, -32, 0]) + step * place * normal]
        image.ImageOrientationPatient = [round(float(each), 6) for each in axes]
        image.PixelSpacing, image.SliceThickness = [2.0, 2.0], abs(step)
        image.RepetitionTime, image.EchoTime = 500.0, 10.0
        image.Rows = image.Columns = 32
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 0
        image.PixelData = (np.arange(32) + 100 * place + np.zeros((32, 1))).astype(np.uint16).tobytes()
        for name, value in elements.items():
            setattr(image, name, value)
        image.save_as(folder / f"IM{place:03d}", enforce_file_format=True)
    return sorted(folder.iterdir())
