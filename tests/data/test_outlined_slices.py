import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError
from support import real

from brain_tumor.data.common.parallel import WorkerSettings
from brain_tumor.data.outlined_slices import SAMPLE, SIDE, TABLE, keep_head, write_outlined_slices
from brain_tumor.datasets import OutlinedSlicesDataset

HERE = WorkerSettings(workers=1)


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    write_outlined_slices(SAMPLE, folder, HERE)
    return folder


def read(file):
    with h5py.File(file) as content:
        return content["image"][..., 0].T, content["mask"][..., 0].T


def test_every_slice_of_the_patients_that_ship_is_there_once(slices):
    table = pd.read_csv(TABLE)
    files = sorted(slices.glob("*.h5"))
    mapping = pd.read_csv(slices / "name_mapping.csv")
    own = table[table["patient"].isin(mapping["figshare_patient"])]
    assert len(files) == own["figshare_image"].nunique() == 143
    assert mapping["Grade"].value_counts().to_dict() == {"glioma": 7, "meningioma": 7, "pituitary": 6}
    numbers = {int(name.split("_")[1]) for name in (file.stem for file in files)}
    assert {f"figshare_{number:03d}" for number in numbers} == set(mapping["BraTS_2020_subject_ID"])


def test_meningiomas_are_brighter_than_what_is_around_them(slices):
    """They take up contrast agent: a mask at another place, turned or not mirrored, would not be brighter."""
    mapping = pd.read_csv(slices / "name_mapping.csv").set_index("BraTS_2020_subject_ID")["Grade"]
    ratios = []
    for file in slices.glob("*.h5"):
        image, mask = read(file)
        assert image.shape == mask.shape == (SIDE, SIDE)
        assert 0.001 < mask.mean() < 0.2
        if mapping[f"figshare_{int(file.stem.split('_')[1]):03d}"] == "meningioma":
            inside = image[mask == 1].mean()
            ratios.append(inside / image[(mask == 0) & (image > 0)].mean())
    assert np.median(ratios) > 1.2


def test_a_mirrored_image_gives_the_same_slice(tmp_path):
    source = real("brain-tumor-mri-dataset")
    table = pd.read_csv(TABLE)
    pairs = table[table.duplicated("figshare_image", keep=False)].sort_values(["figshare_image", "mirrored"])
    plain, mirrored = (
        pairs.groupby("figshare_image").filter(lambda own: set(own["mirrored"]) == {0, 1}).iloc[:2]["file"]
    )
    found = {}
    for kind, file in (("plain", plain), ("mirrored", mirrored)):
        target = tmp_path / kind / file
        target.parent.mkdir(parents=True)
        shutil.copy(source / file, target)
        write_outlined_slices(tmp_path / kind, tmp_path / f"{kind}-slices", HERE)
        (written,) = (tmp_path / f"{kind}-slices").glob("*.h5")
        found[kind] = read(written)
    assert np.array_equal(found["plain"][1], found["mirrored"][1])
    assert np.abs(found["plain"][0] - found["mirrored"][0]).mean() < 3


def test_a_damaged_image_is_left_out_and_named(tmp_path, caplog):
    shutil.copytree(SAMPLE, tmp_path / "images")
    broken = min((tmp_path / "images/Training/glioma").iterdir())
    broken.write_bytes(b"")
    write_outlined_slices(tmp_path / "images", tmp_path / "slices", HERE)
    assert len(list((tmp_path / "slices").glob("*.h5"))) == 142
    assert f"left out: {broken}: the file is empty" in caplog.text


def test_other_images_have_no_outline(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"none of the 1 files .* is in the table of patients; give the folder of the"):
        write_outlined_slices(tmp_path, tmp_path / "slices", HERE)


def test_background_is_one_value_and_holes_belong_to_the_head():
    image = np.zeros((40, 40), np.uint8)
    image[5:35, 5:35] = 90
    image[15:20, 15:20] = 0
    image[0, 0] = 4
    kept = keep_head(image)
    assert kept[0, 0] == 0
    assert (kept[15:20, 15:20] == 1).all()
    assert not keep_head(np.zeros_like(image)).any()


def test_slices_are_written_once_and_anew_for_other_images(tmp_path):
    folder = tmp_path / "figshare"
    dataset = OutlinedSlicesDataset(filepath=str(folder), images=str(SAMPLE))
    assert dataset.load() == folder
    (folder / "note").touch()
    dataset.load()
    assert (folder / "note").exists()
    shutil.copytree(SAMPLE / "Testing", tmp_path / "other/Testing")
    OutlinedSlicesDataset(filepath=str(folder), images=str(tmp_path / "other")).load()
    assert not (folder / "note").exists()
    assert OutlinedSlicesDataset(filepath=str(folder), images="x", instead=str(tmp_path)).load() == tmp_path


def test_files_of_somebody_else_are_not_overwritten(tmp_path):
    (tmp_path / "mine.h5").touch()
    with pytest.raises(DatasetError, match="holds files that were not written here"):
        OutlinedSlicesDataset(filepath=str(tmp_path), images=str(SAMPLE)).load()
    assert (tmp_path / "mine.h5").exists()
