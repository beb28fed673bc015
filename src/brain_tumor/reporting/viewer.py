"""A patient's scans and masks as one HTML page that turns and slices them, with nothing fetched: NiiVue is inside."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import prod

import nibabel as nib
import numpy as np
from jaxtyping import Float, Num, UInt8
from markupsafe import Markup
from nibabel.affines import voxel_sizes
from PIL import Image, ImageColor
from pydantic import BaseModel, Field

from brain_tumor.data.scans.display import DisplayVolumes, prepare_display
from brain_tumor.figures.palette import colour_targets
from brain_tumor.reporting.formatting import mark_title
from brain_tumor.reporting.interactive_plot import fill
from brain_tumor.reporting.pictures import encode_pixels

NETWORK, REFERENCE = "Network", "Reference mask"
"""What a mask is."""

PREVIEW = 240
"""Largest side of a plane, pixels."""

PLANES = ("Sagittal", "Coronal", "Axial")
"""Names of slices along each axis: L, P, S."""


class ViewerSettings(BaseModel, frozen=True, extra="forbid"):
    """Who gets a viewer: a page of about 8 MB.

    Attributes:
        patients: how many of new scans, the first ones; with 0 nobody gets one, test patients neither.
    """

    patients: int = Field(20, ge=0)


@dataclass(frozen=True)
class ViewedPatient:
    """What a page shows.

    Attributes:
        network: name of the network whose mask it is.
        image: (modality, row, column, slice), axes L, P, S.
        modalities: names, in the order of `image`.
        predicted: labels of the network: k for the k-th tissue.
        reference: of the reference mask; None without one.
        affine: from indices to millimetres.
        targets: tissue or region > its labels, tissues first.
        tissues: how many of the targets are tissues.
        dice: target > Dice of the patient, of those that were scored.
        first_slice: number of the first axial slice.
        slice_step: slices of the scan between two of the volume.
    """

    patient: str
    network: str
    image: Num[np.ndarray, "m h w d"]
    modalities: list[str]
    predicted: UInt8[np.ndarray, "h w d"]
    reference: UInt8[np.ndarray, "h w d"] | None
    affine: Float[np.ndarray, "4 4"]
    targets: Mapping[str, Sequence[int]]
    tissues: int
    dice: Mapping[str, float]
    first_slice: int = 0
    slice_step: int = 1
    simulated: bool = False

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """What a mask is > its labels."""
        masks = {NETWORK: self.predicted}
        if self.reference is not None:
            masks[REFERENCE] = self.reference
        return masks


def compose_viewer(viewed: ViewedPatient) -> str:
    """The page of one patient."""
    shown = prepare_display(viewed.image, viewed.masks, viewed.affine, viewed.modalities)
    title = mark_title(viewed.patient, simulated=viewed.simulated)
    about = {
        "patient": viewed.patient,
        "modalities": viewed.modalities,
        "masks": list(shown.masks),
        "targets": _describe_targets(viewed),
        "planes": _describe_planes(viewed, shown),
        "shape": shown.shape,
        "affine": shown.affine.round(6).tolist(),
        "centre": shown.centre,
    }
    parts = {f"scan-{k}": content for k, content in enumerate(shown.scans.values())}
    parts |= {f"mask-{k}": content for k, content in enumerate(shown.masks.values())}
    return fill(
        "viewer.html.jinja",
        title=title,
        network=viewed.network,
        simulated=viewed.simulated,
        about=_to_script(about),
        parts={name: _encode(content) for name, content in parts.items()},
        preview=_encode(encode_pixels(_draw_preview(viewed, shown))),
        niivue=_read_niivue(),
        licence=_read("niivue/LICENSE"),
    )


def _draw_preview(viewed: ViewedPatient, shown: DisplayVolumes) -> UInt8[np.ndarray, "h w 3"]:
    """The planes that are shown first, side by side: what there is to see while scans are unpacked."""
    scan, mask = (_unpack(next(iter(volumes.values()))) for volumes in (shown.scans, shown.masks))
    spacing = voxel_sizes(shown.affine)
    colours = colour_targets(viewed.targets)
    tiles = []
    for axis in (2, 1, 0):
        pixels = np.repeat(np.take(scan, shown.centre[axis], axis)[..., None].astype(float), 3, axis=-1)
        labels = np.take(mask, shown.centre[axis], axis)
        for name, own in list(viewed.targets.items())[: viewed.tissues]:
            marked = np.isin(labels, own)
            pixels[marked] = 0.5 * pixels[marked] + 0.5 * np.array(ImageColor.getrgb(colours[name]))
        # Columns to the left or to the back; the front, or the head, on top.
        turned = pixels.swapaxes(0, 1) if axis == 2 else pixels.swapaxes(0, 1)[::-1]
        wide, tall = (spacing[other] / min(spacing) for other in range(3) if other != axis)
        tile = Image.fromarray(turned.astype(np.uint8))
        tile = tile.resize((round(tile.width * wide), round(tile.height * tall)))
        tile.thumbnail((PREVIEW, PREVIEW))
        tiles.append(np.asarray(tile))
    height = max(len(tile) for tile in tiles)
    padded = [np.pad(tile, ((height - len(tile), 0), (0, 0), (0, 0))) for tile in tiles]
    return np.concatenate(padded, axis=1)


def _unpack(volume: bytes) -> UInt8[np.ndarray, "h w d"]:
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(volume)).dataobj)


def _describe_targets(viewed: ViewedPatient) -> list[dict]:
    """Name, colour, labels, millilitres in each mask and Dice of each tissue and region."""
    voxel_ml = prod(voxel_sizes(viewed.affine).tolist()) / 1000
    colours = colour_targets(viewed.targets)
    rows = []
    for number, (name, labels) in enumerate(viewed.targets.items()):
        voxels = [int(np.isin(mask, labels).sum()) for mask in viewed.masks.values()]
        dice = viewed.dice.get(name)
        row = {
            "name": name,
            "colour": colours[name],
            "labels": list(labels),
            "tissue": number < viewed.tissues,
            "ml": [round(count * voxel_ml, 2) for count in voxels],
            "dice": None if dice is None or np.isnan(dice) else round(dice, 3),
        }
        rows.append(row)
    return rows


def _describe_planes(viewed: ViewedPatient, shown: DisplayVolumes) -> list[dict]:
    """Of each axis: its name, and how its slices are numbered in the whole scan."""
    planes = []
    for axis, name in enumerate(PLANES):
        start, step, whole = shown.start[axis], shown.step[axis], shown.whole[axis]
        first, each = 0, 1
        if name == "Axial":
            first, each = viewed.first_slice, viewed.slice_step
        row = {"name": name, "first": first + start * each, "step": step * each, "last": first + (whole - 1) * each}
        planes.append(row)
    return planes


def _to_script(value: object) -> Markup:
    """JSON that can stand in a script element: without a closing tag in a name."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))  # noqa: S704


def _encode(content: bytes) -> Markup:
    # Markup: base64 needs no escaping, which takes long for megabytes.
    return Markup(base64.b64encode(content).decode())  # noqa: S704


@cache
def _read_niivue() -> Markup:
    """NiiVue, compressed to a third: every page holds it."""
    return _encode(gzip.compress(_read("niivue/niivue.umd.js").encode(), mtime=0))


def _read(name: str) -> str:
    return files("brain_tumor.reporting").joinpath(name).read_text(encoding="utf-8")
