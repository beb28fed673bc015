import gzip
import io

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from brain_tumor.data.common.file_kinds import KINDS, TO_IMAGE, TO_NIFTI, TO_TABLE, explain, identify


def nifti(kind=nib.Nifti1Image):
    return kind(np.zeros((4, 5, 6), np.int16), np.eye(4)).to_bytes()


def hdf5():
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["image"] = np.zeros(3)
    return content.getvalue()


def image(form):
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, form)
    return content.getvalue()


def array(save):
    content = io.BytesIO()
    save(content, np.zeros(3))
    return content.getvalue()


CONTENTS = {
    "empty": b"",
    "NIfTI": nifti(),
    "hdf5": hdf5(),
    "tiff": image("TIFF"),
    "png": image("PNG"),
    "jpeg": image("JPEG"),
    "npy": array(np.save),
    "zip": array(np.savez),
    "dicom": bytes(128) + b"DICM\x02\x00",
    "nrrd": b"NRRD0004\n# Complete",
    "metaimage": b"ObjectType = Image\nNDims = 3",
    "html": b"\n<!DOCTYPE html><html><body>Please sign in</body></html>",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a",
    "text": "Müller, 3 Aufnahmen\n".encode(),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_kinds_are_told_by_content_packed_or_not(tmp_path, kind):
    (tmp_path / "plain.nii").write_bytes(CONTENTS[kind])
    assert identify(tmp_path / "plain.nii") == kind
    if kind != "empty":
        (tmp_path / "packed.nii.gz").write_bytes(gzip.compress(CONTENTS[kind]))
        assert identify(tmp_path / "packed.nii.gz") == kind


def test_what_has_no_kind(tmp_path):
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).integers(128, 255, 400, np.uint8).tobytes())
    assert identify(tmp_path / "noise") == ""
    assert identify(tmp_path / "nowhere") == ""
    (tmp_path / "twice.nii.gz").write_bytes(gzip.compress(gzip.compress(nifti())))
    assert identify(tmp_path / "twice.nii.gz") == "gzip twice"
    (tmp_path / "cut.nii.gz").write_bytes(gzip.compress(nifti())[:15])
    assert identify(tmp_path / "cut.nii.gz") == "gzip"
    (tmp_path / "second.nii").write_bytes(nifti(nib.Nifti2Image))
    assert identify(tmp_path / "second.nii") == "NIfTI"


def test_an_explanation_names_the_kind_and_a_way_to_what_is_needed(tmp_path):
    file = tmp_path / "a.nii.gz"
    file.write_bytes(CONTENTS["dicom"])
    words = "is DICOM: new scans are segmented by `kedro segment FOLDER --raw`; else convert the series with `dcm2niix"
    assert explain(file, TO_NIFTI).startswith(words)
    file.write_bytes(CONTENTS["empty"])
    assert explain(file, TO_NIFTI) == "is empty (0 bytes): fetch the file again"
    file.write_bytes(CONTENTS["NIfTI"])
    assert explain(file, TO_NIFTI) == ""  # it is what is needed


def test_what_only_has_to_be_decompressed_is_said_to_be(tmp_path):
    file = tmp_path / "a.png"
    for kind in ("png", "text"):
        file.write_bytes(gzip.compress(CONTENTS[kind]))
        remedies = TO_IMAGE if kind == "png" else TO_TABLE
        assert explain(file, remedies).endswith("compressed with gzip: decompress it with `gunzip`")
    file.write_bytes(gzip.compress(CONTENTS["NIfTI"]))
    assert explain(file, TO_NIFTI) == ""
    file.write_bytes(gzip.compress(CONTENTS["NIfTI"])[:15])
    assert explain(file, TO_NIFTI) == ""  # cut off


def test_every_remedy_is_for_a_known_kind():
    assert set(TO_NIFTI) <= set(KINDS)
