"""A NIfTI file as a volume in the project's orientation, and what is refused of one."""

import gzip
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Num
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from brain_tumor.data.common.file_kinds import NIFTI, TO_NIFTI, explain, identify
from brain_tumor.data.scans.data_set import COARSEST_MM, FINEST_MM

ORIENTATION = ("L", "P", "S")
"""Axes of every volume once read: the published HDF5 slices have it too."""

GEOMETRY_TOLERANCE = 0.5
"""Millimetres by which a corner of one volume of a patient may lie from that of another."""

UNKNOWN_CODE = "a code that NIfTI doesn't know"

LARGEST_FIELD_MM = 600.0
"""No scanner's bore is wider: a volume that spans more has its spacing in another unit."""


def read_volumes(files: tuple[Path, ...]) -> tuple[list[np.ndarray], Float[np.ndarray, "4 4"]]:
    """Voxels of each file in the project's orientation, and the affine of the first."""
    read = [read_volume(file) for file in files]
    first, affine = read[0]
    corners = _corners(first, affine)
    for file, (voxels, own) in zip(files, read, strict=True):
        # Corners are compared, not affines: a small rotation moves far corners by voxels.
        shifts = np.linalg.norm(corners - _corners(first, own), axis=1)
        apart = shifts.max()
        same_shape = voxels.shape == first.shape
        # `not <=` instead of `>`, so that NaN counts as elsewhere.
        if not same_shape or not apart <= GEOMETRY_TOLERANCE:
            shift = f", a corner {apart:.2g} mm" if same_shape else ""
            here = _geometry(voxels, own)
            there = _geometry(first, affine)
            raise ValueError(
                f"{file.name} ({here}) lies elsewhere than {files[0].name} ({there}){shift}; register them "
                "to one grid first, as `kedro segment --raw` and the pipeline `data_raw_scans` do"
            )
    return [voxels for voxels, _ in read], affine


def lie_together(shape: tuple[int, ...], affine: np.ndarray, other: tuple[int, ...], other_affine: np.ndarray) -> bool:
    """Whether two volumes span the same place, whatever their voxels.

    No outer edge lies farther from the other's than a voxel.
    """
    span = _span(shape, affine)
    other_span = _span(other, other_affine)
    spacing = nib.affines.voxel_sizes(affine)
    other_spacing = nib.affines.voxel_sizes(other_affine)
    coarser = np.maximum(spacing, other_spacing)
    tolerance = max(coarser.max(), GEOMETRY_TOLERANCE)
    apart = np.abs(span - other_span)
    return bool((apart <= tolerance).all())


def _span(shape: tuple[int, ...], affine: np.ndarray) -> Float[np.ndarray, "2 3"]:
    """The lowest and the highest millimetre of a volume along each axis."""
    # Indices are those of centres of voxels: the outer edges lie half a voxel beyond.
    outer = [(-0.5,) * 3, np.subtract(shape, 0.5)]
    edges = nib.affines.apply_affine(affine, outer)
    # An axis may run the other way in one of two volumes.
    return np.sort(edges, axis=0)


def _corners(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Where the eight outer voxels lie, in millimetres."""
    ends = [(0, side - 1) for side in voxels.shape]
    indices = list(product(*ends))
    return nib.affines.apply_affine(affine, indices)


def _geometry(voxels: np.ndarray, affine: np.ndarray) -> str:
    size = _by(voxels.shape)
    spacing = _by(nib.affines.voxel_sizes(affine))
    origin = _by(affine[:3, 3])
    return f"{size} voxels of {spacing} mm from {origin}"


def _by(values: Iterable[float]) -> str:
    """Three numbers as `240x240x155`."""
    rounded = np.round(list(values), 2)
    return "x".join(f"{value:g}" for value in rounded)


def read_volume(file: Path) -> tuple[Num[np.ndarray, "h w d"], Float[np.ndarray, "4 4"]]:
    """Voxels of a NIfTI file turned to L, P, S, and the affine from their indices to millimetres.

    Raises:
        ValueError: if it can't be read, isn't one volume of numbers in three axes with a spacing that scanners have, or
            holds NaN or infinity.
    """
    image = open_volume(file)
    try:
        turned = reoriented(image)
        voxels = np.asarray(turned.dataobj)
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(_damaged(file, error)) from error
    if not np.isfinite(voxels).all():
        raise ValueError(f"{file.name} holds NaN or infinity; replace them, outside the brain by 0")
    return voxels, turned.affine


def open_volume(file: Path) -> nib.Nifti1Image:
    """A NIfTI file with its axes as they are, checked as `read_volume` checks it; voxels are read when asked for.

    Of NIfTI-1, or of NIfTI-2, which nibabel derives from it.

    Raises:
        ValueError: if it can't be read or isn't one volume of numbers in three axes.
    """
    try:
        image = open_file(file)
        # (240, 240, 155, 1) is a volume.
        if isinstance(image, nib.Nifti1Image) and set(image.shape[3:]) == {1}:
            image = nib.funcs.squeeze_image(image)
    except Exception as error:  # nibabel, gzip and the system have errors of their own
        raise ValueError(_damaged(file, error)) from error
    if not isinstance(image, nib.Nifti1Image):
        raise ValueError(
            f"{file.name} is {type(image).__name__}, not NIfTI; convert it with nibabel: "
            "`nib.save(nib.Nifti1Image.from_image(image), FILE)`"
        )
    _require_volume(file, image)
    return image


def open_file(file: Path) -> nib.filebasedimages.FileBasedImage:
    """What nibabel makes of a file, unchecked, whatever its name says of format and compression."""
    packed = file.name.lower().endswith(".gz")
    with file.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    # nibabel refuses mixed case, such as `.Nii`.
    usual = file.name.endswith((".nii", ".nii.gz", ".NII", ".NII.GZ"))
    if (compressed == packed and usual) or identify(file) != NIFTI:
        return nib.load(file)
    # Only the name is odd, or wrong about compression; the content is sound.
    content = file.read_bytes()
    if compressed:
        content = gzip.decompress(content)
    # A header starts with its own size: 348 bytes in NIfTI-1, 540 in NIfTI-2, in either byte order.
    size = content[:4]
    is_first = 348 in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
    kind = nib.Nifti1Image if is_first else nib.Nifti2Image
    return kind.from_bytes(content)


def _damaged(file: Path, error: Exception) -> str:
    """What is wrong with a file that could not be opened: another format, or damage."""
    if isinstance(error, OSError) and error.strerror:
        return f"{file.name} can't be read ({error.strerror}); check that the file is there and that you may read it"
    if isinstance(error, nib.spatialimages.HeaderDataError):
        return f"{file.name} has a header that contradicts itself ({error}); correct it, or export the file again"
    other = explain(file, TO_NIFTI)
    if other:
        return f"{file.name} {other}"
    return f"{file.name} can't be read ({error}): it is damaged or cut off; fetch it again"


def _require_volume(file: Path, image: nib.Nifti1Image) -> None:
    """Refuse what nibabel opens but is no volume of intensities or labels in millimetres."""
    dtype = image.get_data_dtype()
    if len(image.shape) != 3:
        shape = "x".join(map(str, image.shape))
        axes = f"{len(image.shape)} axes ({shape})"
        raise ValueError(
            f"{file.name} has {axes}, a volume has three; write a file for each modality, as "
            "nib.four_to_three gives them"
        )
    if dtype.fields:
        raise ValueError(f"{file.name} holds colours (RGB), not intensities; take the series that it was coloured from")
    if dtype.kind == "c":
        raise ValueError(f"{file.name} holds complex numbers; write their magnitude (np.abs)")
    unit = read_unit(image)
    if unit in ("meter", "micron"):
        raise ValueError(
            f"the header of {file.name} counts in {unit}s, not in millimetres; scale its affine and set "
            "the unit with header.set_xyzt_units('mm')"
        )
    _require_spacing(file, image)


def _require_spacing(file: Path, image: nib.Nifti1Image) -> None:
    """Refuse an affine that no scanner gives."""
    affine = image.affine
    # The determinant is the volume of a voxel: the finest that is allowed has 0.008 mm³.
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        remedy = "set sform and qform from another file of the patient"
        raise ValueError(f"{file.name} has an affine that lays all voxels in one plane, such as all zeros; {remedy}")
    spacing = nib.affines.voxel_sizes(affine)
    field = spacing * image.shape
    if spacing.min() < FINEST_MM or spacing.max() > COARSEST_MM or field.max() > LARGEST_FIELD_MM:
        voxel = " x ".join(f"{side:.3g}" for side in spacing)
        span = " x ".join(f"{side:.3g}" for side in field)
        raise ValueError(
            f"{file.name} has voxels of {voxel} mm over {span} mm, which no scanner gives ({FINEST_MM} to "
            f"{COARSEST_MM} mm, {LARGEST_FIELD_MM:g} mm in all); "
            "its spacing is in another unit: scale its affine"
        )


def read_unit(image: nib.Nifti1Image) -> str:
    """Unit of the spacing, in nibabel's words, or UNKNOWN_CODE."""
    try:
        return str(image.header.get_xyzt_units()[0])
    except KeyError:
        return UNKNOWN_CODE


def pack_volume(file: Path, target: Path) -> None:
    """The same volume as a compressed file; `target` ends in `.nii.gz`."""
    nib.save(open_volume(file), target)


def reoriented(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The image with its axes turned to L, P, S."""
    current = io_orientation(image.affine)
    wanted = axcodes2ornt(ORIENTATION)
    return image.as_reoriented(ornt_transform(current, wanted))
