"""Raw volumes as NIfTI files with nothing in their headers but the grid: of a DICOM series, or of a NIfTI file."""

import errno
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import nibabel as nib
import numpy as np
from jaxtyping import Num

from brain_tumor.data.raw_scans.extra import require_extra
from brain_tumor.data.raw_scans.grids import Matrix
from brain_tumor.data.scans.nifti_volumes import open_volume, read_volume

SPACE = 50_000_000
"""Bytes that a volume may take."""

LONGEST_S = 600
"""Seconds that a conversion may take."""


@dataclass(frozen=True)
class VolumeFile:
    """A volume to be written as a NIfTI file.

    Attributes:
        file: its name.
    """

    file: str
    voxels: Num[np.ndarray, "h w d"]
    affine: Matrix

    def write(self, path: Path) -> None:
        """Write the NIfTI file, with one place in both of its forms."""
        image = nib.Nifti1Image(self.voxels, self.affine)
        image.header.set_xyzt_units("mm")
        image.set_qform(self.affine, "scanner")
        image.set_sform(self.affine, "scanner")
        nib.nifti1.save(image, path)


@dataclass(frozen=True)
class NoteFile:
    """Why a patient has no file in the folder."""

    file: str
    text: str

    def write(self, path: Path) -> None:
        """Write the text."""
        path.write_text(self.text, encoding="utf-8")


EXCLUDED = ".excluded.txt"
"""Ending of the file that has the reason why a patient isn't in a folder."""


def read_excluded(folder: Path, patient: str) -> str:
    """Why a patient isn't in a folder of volumes; empty if they are."""
    file = folder / f"{patient}{EXCLUDED}"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def convert_nifti(file: Path, name: str) -> VolumeFile:
    """A NIfTI file with the same voxels in the same place, and a header without free text.

    Raises:
        ValueError: if it can't be read.
    """
    read_volume(file)  # which reads all voxels: a file that is cut off is found here
    image = open_volume(file)
    return VolumeFile(name, np.asarray(image.dataobj), image.affine)


def convert_dicom(files: Sequence[Path], name: str) -> VolumeFile:
    """A DICOM series as a volume, by dcm2niix.

    Raises:
        ImportError: if dcm2niix isn't installed.
        OSError: if there is no space for it in the folder of temporary files.
        ValueError: if it gives no volume.
    """
    dcm2niix = require_extra("dcm2niix")
    with TemporaryDirectory() as folder:
        series, output = Path(folder, "series"), Path(folder, "output")
        series.mkdir()
        output.mkdir()
        # By number: names of files may name a person, and dcm2niix prints them.
        for number, file in enumerate(files):
            (series / f"{number:06d}.dcm").symlink_to(file.absolute())
        command = [dcm2niix.bin, "-z", "n", "-b", "n", "-m", "y", "-f", "volume", "-o", str(output), str(series)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"dcm2niix takes more than {LONGEST_S} s for the series; convert it yourself") from error
        written = sorted(output.glob("*.nii"))
        if not written:
            _require_space(folder, files)
            raise ValueError(
                f"dcm2niix makes no volume of its {len(files)} files (status {done.returncode}): they are cut off or "
                "compressed in a way that it doesn't read; export the series again, uncompressed"
            )
        # A series may be written in several versions, such as with its slices made even: the last has most voxels.
        largest = max(written, key=lambda file: file.stat().st_size)
        try:
            read_volume(largest)
        except ValueError:
            _require_space(folder, files)
            raise
        image = open_volume(largest)
        return VolumeFile(name, np.asarray(image.dataobj).copy(), image.affine)


def _require_space(folder: str, files: Sequence[Path]) -> None:
    """dcm2niix doesn't tell a full disk from files that it can't read, nor stops at one.

    Raises:
        OSError: if there is hardly any space in the folder of temporary files.
    """
    # Compressed files grow.
    needed = max(SPACE, 4 * sum(file.stat().st_size for file in files))
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), gettempdir())
