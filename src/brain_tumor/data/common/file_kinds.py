"""What a file is by its first bytes, and how it becomes what is needed.

A library that refuses a file seldom gives either.
"""

import gzip
import zlib
from pathlib import Path

NIFTI = "NIfTI"
GZIP = "gzip"

KINDS = {
    "empty": "is empty (0 bytes)",
    "dicom": "is DICOM",
    "gzip twice": "is compressed twice",
    "hdf5": "is HDF5",
    "tiff": "is TIFF",
    "png": "is a PNG image",
    "jpeg": "is a JPEG image",
    "gif": "is a GIF image",
    "webp": "is a WebP image",
    "npy": "is a NumPy array",
    "zip": "is a zip archive",
    "matlab": "is a MATLAB file",
    "nrrd": "is NRRD",
    "metaimage": "is MetaImage",
    "mgh": "is FreeSurfer MGH",
    "minc": "is MINC",
    "pdf": "is a PDF",
    "html": "is a web page",
    "lfs": "is a Git LFS pointer, not the data",
    "text": "is text",
    NIFTI: "is NIfTI",
    GZIP: "is a gzip file",
}
"""Name of a kind > how a sentence about the file goes on."""

_ARRAY = (
    "load it as an array and write it with nibabel: `nib.save(nib.Nifti1Image(array, affine), "
    "'P1_t1.nii.gz')`, the affine with its true spacing"
)
_AGAIN = "fetch the file again"

TO_NIFTI = {
    "dicom": (
        "new scans are segmented by `kedro segment FOLDER --raw`; else convert the series with `dcm2niix -z y -o "
        "OUTPUT FOLDER`"
    ),
    "gzip twice": "decompress it once with `gunzip`",
    "hdf5": f"slices are read by the names that `data_segmentation.data_set.slice_file` declares; otherwise {_ARRAY}",
    "npy": _ARRAY,
    "zip": f"unpack it; if it is .npz, {_ARRAY}",
    "matlab": _ARRAY,
    "tiff": _ARRAY,
    "png": _ARRAY,
    "jpeg": _ARRAY,
    "nrrd": "convert it with SimpleITK: `sitk.WriteImage(sitk.ReadImage(FILE), 'P1_t1.nii.gz')`",
    "metaimage": "convert it with SimpleITK: `sitk.WriteImage(sitk.ReadImage(FILE), 'P1_t1.nii.gz')`",
    "mgh": "convert it with nibabel: `nib.save(nib.Nifti1Image.from_image(nib.load(FILE)), 'P1_t1.nii.gz')`",
    "minc": "convert it with `mnc2nii`",
    "html": "download the file itself: pages are often saved in its place where a login is needed",
    "lfs": "fetch the data with `git lfs pull`",
    "text": "remove it or rename it",
}
"""Kind > what turns it into a NIfTI volume."""

TO_IMAGE = {
    "dicom": "export its slices as PNG",
    NIFTI: (
        "export single axial slices as PNG; whole volumes are segmented by `kedro run --pipelines "
        "inference_segmentation`"
    ),
    GZIP: "decompress it; NIfTI volumes are segmented by `kedro run --pipelines inference_segmentation`",
    "hdf5": "export its slices as PNG",
    "npy": "export its slices as PNG",
    "zip": "unpack it",
    "matlab": "export its slices as PNG",
    "pdf": "export its pictures as PNG",
    "html": TO_NIFTI["html"],
    "lfs": TO_NIFTI["lfs"],
    "text": "remove it",
}
"""Kind > what turns it into an image."""

TO_TABLE = {
    "zip": "it may be a spreadsheet: save it as CSV in UTF-8",
    "html": TO_NIFTI["html"],
    "lfs": TO_NIFTI["lfs"],
    GZIP: "decompress it",
}
"""Kind > what turns it into a table."""

_SIGNATURES = (
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (0, b"\x89PNG", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"GIF8", "gif"),
    (8, b"WEBP", "webp"),
    (0, b"\x93NUMPY", "npy"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"MATLAB", "matlab"),
    (0, b"NRRD", "nrrd"),
    (0, b"ObjectType", "metaimage"),
    (0, b"CDF", "minc"),
    (0, b"%PDF", "pdf"),
    (0, b"version https://git-lfs", "lfs"),
    (128, b"DICM", "dicom"),
    (344, b"n+1\x00", NIFTI),
    (344, b"ni1\x00", NIFTI),
    (4, b"n+2\x00", NIFTI),
    (4, b"ni2\x00", NIFTI),
)
"""Place, bytes there, kind."""

_HEAD = 1024
"""Bytes that are looked at."""


def identify(path: Path) -> str:
    """One of KINDS, or "" if the file is none of them or can't be opened.

    A gzip file is taken for what is in it; one that holds no known kind is `gzip`.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head[:2] != b"\x1f\x8b":
            return _identify(head)
        with gzip.open(path) as file:
            inside = file.read(_HEAD)
    except (OSError, EOFError, zlib.error):
        return GZIP if path.is_file() and path.stat().st_size else ""
    return "gzip twice" if inside[:2] == b"\x1f\x8b" else _identify(inside) or GZIP


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed with gzip, whatever is in it."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError:
        return False


def _identify(head: bytes) -> str:
    if not head:
        return "empty"
    for place, signature, kind in _SIGNATURES:
        if head[place : place + len(signature)] == signature:
            return kind
    # White space may come before the first tag of a page.
    start = head.lstrip()[:200].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "html"
    # DICOM without its preamble starts with a tag of group 0002 or 0008, little endian.
    if head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00":
        return "dicom"
    return "text" if _is_text(head) else ""


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # the last character may be cut
            return False
        text = head[: error.start].decode()
    return text.replace("\n", "").replace("\r", "").replace("\t", "").isprintable()


def explain(path: Path, remedies: dict[str, str]) -> str:
    """The format of a file that can't be read as its name promises, and what to do with it; "" for an unknown format.

    Args:
        remedies: TO_NIFTI, TO_IMAGE or TO_TABLE.
    """
    kind = identify(path)
    # A kind without a remedy can be read: only the packing stands in the way.
    without_remedy = kind in KINDS and kind not in ("empty", NIFTI, GZIP, *remedies)
    if without_remedy and is_gzip(path):
        return f"{KINDS[kind]} compressed with gzip: decompress it with `gunzip`"
    if kind not in KINDS or (kind not in remedies and kind != "empty"):
        return ""
    return f"{KINDS[kind]}: {remedies.get(kind, _AGAIN)}"
