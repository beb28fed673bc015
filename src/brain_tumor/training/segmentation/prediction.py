"""What a trained network finds in the slices of a store, batch after batch."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Float16, Num, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.store import Store
from brain_tumor.data.scans.preparation import find_brain, prepare_slice
from brain_tumor.networks.attention import capture_attention
from brain_tumor.training.batches import Rows
from brain_tumor.training.device import Device
from brain_tumor.training.segmentation.task import to_labels


def predict_probabilities(
    network: nn.Module, slices: Store, rows: np.ndarray, device: Device, *, tta_flip: bool, batch_size: int = 32
) -> Iterator[UInt8[np.ndarray, "b k h w"]]:
    """Probability of each tissue in steps of 1/255; 0 outside the window that holds every brain.

    Args:
        rows: of the store.
        tta_flip: take the mean with what is found in the slice mirrored left and right.
    """
    network, look, size = device.place(network), Rows(slices, rows, ("image",)), slices.shapes["image"][-1]
    for start in range(0, len(rows), batch_size):
        probability = _find_probability(network, look.read(rows[start : start + batch_size])["image"], device, tta_flip)
        found = (probability * 255).round().to(torch.uint8).cpu().contiguous().numpy()
        yield look.window.uncrop(found, size)


def _find_probability(
    network: nn.Module, image: Float[Tensor, "b m h w"], device: Device, tta_flip: bool
) -> Float[Tensor, "b k h w"]:
    image = device.place_batch(image)
    with torch.inference_mode(), device.autocast():
        probability = network(image).float().sigmoid()
        if tta_flip:  # rows run from right to left
            probability = (probability + network(image.flip(-2)).float().sigmoid().flip(-2)) / 2
    return probability


def segment_volume(
    network: nn.Module,
    image: Num[np.ndarray, "m h w d"],
    size: int,
    window: tuple[int, int],
    device: Device,
    *,
    tta_flip: bool,
    batch_size: int = 32,
) -> UInt8[np.ndarray, "h w d"]:
    """Labels of every voxel of a raw volume, on its own grid.

    Probabilities are brought back to it bilinearly before they become labels.

    Args:
        size: of the slices that the network learned from.
        window: rows and columns of them that it saw; more are looked at if the brain needs them.
    """
    network = device.place(network)
    height, width, depth = image.shape[1:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    labels, empty = np.zeros((height, width, depth), np.uint8), np.zeros((height, width), np.uint8)
    brains = [find_brain(image[..., number]) for number in range(depth)]
    numbers = np.flatnonzero([brain.any() for brain in brains])
    seen = _seen(BoundingBox.from_mask(np.any(brains, axis=0)), (top, left), size / side).pad_to_multiple(size, window)
    for start in range(0, len(numbers), batch_size):
        batch = numbers[start : start + batch_size]
        prepared = np.stack([prepare_slice(image[..., number], empty, size)[0] for number in batch])
        probability = _find_probability(
            network, torch.from_numpy(np.ascontiguousarray(seen.crop(prepared))), device, tta_flip
        )
        square = pad(probability, (seen.left, size - seen.right, seen.top, size - seen.bottom))
        full = interpolate(square, size=(side, side), mode="bilinear", align_corners=False)
        found = to_labels(full[:, :, top : top + height, left : left + width])
        labels[..., batch] = found.permute(1, 2, 0).cpu().numpy()
    return labels


def _seen(brain: BoundingBox, start: tuple[int, int], scale: float) -> BoundingBox:
    """Where a part of a raw slice is in the prepared one: of what was padded on both sides and scaled.

    With a pixel around it, which resizing blurs it into.
    """
    ends = (np.array(brain).reshape(2, 2) + np.array(start)[:, None]) * scale
    low, high = np.floor(ends[:, 0]).astype(int) - 1, np.ceil(ends[:, 1]).astype(int) + 1
    return BoundingBox(int(low[0]), int(high[0]), int(low[1]), int(high[1]))


def predict_attention(
    network: nn.Module, slices: Store, rows: np.ndarray, device: Device, batch_size: int = 32
) -> dict[str, Float16[np.ndarray, "n h w"]]:
    """The map of every module that attends, brought to the size of the slices bilinearly.

    NaN outside the window that holds every brain.
    """
    network, look = device.place(network), Rows(slices, rows, ("image",))
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(rows), batch_size):
        image = device.place_batch(look.read(rows[start : start + batch_size])["image"])
        with torch.inference_mode(), device.autocast(), capture_attention(network) as maps:
            network(image)
        for name, attention in maps.items():
            full = interpolate(attention.float(), size=image.shape[-2:], mode="bilinear", align_corners=True)
            parts.setdefault(name, []).append(full[:, 0].half().cpu().numpy())
    return {
        name: look.window.uncrop(np.concatenate(arrays), slices.shapes["image"][-1], np.nan)
        for name, arrays in parts.items()
    }
