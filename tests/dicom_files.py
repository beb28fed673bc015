"""DICOM series, made up."""

import nibabel as nib
import numpy as np

AXIAL = (1, 0, 0, 0, 1, 0)


def write_series(folder, number=1, slices=24, description="AX T1", axes=AXIAL, step=5.0, **elements):
    """A series of slices, 2 x 2 x 5 mm, whose voxels are 100 times the slice number plus the column.

    Args:
        axes: of a row and of a column.
        step: millimetres from each slice to the next along the normal; negative: the other way.
    """
    normal = np.cross(axes[:3], axes[3:])
    grid = np.eye(4)
    grid[:3, :3] = np.stack([2.0 * np.array(axes[:3]), 2.0 * np.array(axes[3:]), step * normal], axis=1)
    grid[:3, 3] = -32, -32, 0
    column, _, place = np.indices((32, 32, slices))
    return write_voxels(folder, column + 100 * place, grid, number, description, **elements)


def write_nifti(file, folder, number, description, **elements):
    """The volume of a NIfTI file as a series, slice after slice along its last axis."""
    image = nib.load(file)
    # DICOM counts to the left and to the back.
    grid = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    voxels = np.asarray(image.dataobj, dtype=float)
    return write_voxels(folder, np.clip(np.round(voxels), 0, None), grid, number, description, **elements)


def write_voxels(folder, voxels, grid, number, description, **elements):
    """Voxels (column, row, slice) as a series.

    Args:
        grid: from these indices to millimetres, in the axes of DICOM.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    folder.mkdir(parents=True, exist_ok=True)
    series = elements.pop("SeriesInstanceUID", f"1.2.826.0.1.{number}")
    steps = np.linalg.norm(grid[:3, :3], axis=0)
    axes = (grid[:3, :2] / steps[:2]).T.ravel()
    for place in range(voxels.shape[2]):
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
        image.ImagePositionPatient = [round(float(each), 6) for each in (grid @ [0, 0, place, 1])[:3]]
        image.ImageOrientationPatient = [round(float(each), 6) for each in axes]
        # Rows first: from one row to the next.
        image.PixelSpacing = [round(float(steps[1]), 6), round(float(steps[0]), 6)]
        image.SliceThickness = round(float(steps[2]), 6)
        image.RepetitionTime, image.EchoTime = 500.0, 10.0
        image.Columns, image.Rows = voxels.shape[:2]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 0
        image.PixelData = voxels[..., place].T.astype(np.uint16).tobytes()
        for name, value in elements.items():
            setattr(image, name, value)
        image.save_as(folder / f"IM{place:03d}", enforce_file_format=True)
    return sorted(folder.iterdir())
