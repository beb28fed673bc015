import nibabel as nib
import numpy as np
import pytest
from kedro.io import DatasetError

from brain_tumor.data.raw_scans.convert import NoteFile, VolumeFile, read_excluded
from brain_tumor.datasets import VolumesDataset


def volume(name, value=1):
    return VolumeFile(name, np.full((3, 4, 5), value, np.int16), np.diag([-1.0, -1, 2, 1]))


def test_volumes_are_written_and_those_of_earlier_runs_removed(tmp_path):
    folder = tmp_path / "volumes"
    dataset = VolumesDataset(filepath=str(folder))
    dataset.save(iter([volume("P1_t1.nii.gz"), volume("P2_t1.nii.gz")]))
    (folder / "own.nii.gz").touch()
    dataset.save(iter([volume("P2_t1.nii.gz", 7), NoteFile("P1.excluded.txt", "no brain")]))
    shown = sorted(file.name for file in dataset.load().iterdir() if not file.name.startswith("."))
    assert shown == ["P1.excluded.txt", "P2_t1.nii.gz", "own.nii.gz"]
    image = nib.load(folder / "P2_t1.nii.gz")
    assert (np.asarray(image.dataobj) == 7).all()
    np.testing.assert_array_equal(image.get_qform(), image.get_sform())
    assert read_excluded(folder, "P1") == "no brain"
    assert read_excluded(folder, "P2") == ""


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="run the pipeline that writes it first"):
        VolumesDataset(filepath=str(tmp_path / "none")).load()
