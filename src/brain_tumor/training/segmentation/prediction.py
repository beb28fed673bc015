"""Prediction with a trained segmentation network: slices of a store, raw volumes, attention maps."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Float16, Num, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.store import Store
from brain_tumor.data.scans.preparation import find_brain, standardise
from brain_tumor.data.scans.slice_geometry import SliceGeometry
from brain_tumor.networks.attention import capture_attention
from brain_tumor.training.batches import Rows
from brain_tumor.training.device import Device
from brain_tumor.training.segmentation.labels import to_labels


def predict_probabilities(
    network: nn.Module,
    slices: Store,
    rows: np.ndarray,
    device: Device,
    *,
    tta_flip: bool,
    batch_size: int = 32,
) -> Iterator[UInt8[np.ndarray, "b k h w"]]:
    """Probability of each tissue in steps of 1/255, batch by batch; 0 outside the brain crop.

    Args:
        rows: of the store.
        tta_flip: average with the prediction of the left-right mirror image.
    """
    network = device.place(network)
    reader = Rows(slices, rows, ("image",))
    size = slices.shapes["image"][-1]
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        image = reader.read(batch)["image"]
        steps = _predict_steps(network, image, device, tta_flip)
        yield reader.window.uncrop(steps, size)


def predict_images(
    network: nn.Module,
    image: Float[np.ndarray, "n m h w"],
    device: Device,
    *,
    tta_flip: bool,
    batch_size: int = 32,
) -> Iterator[UInt8[np.ndarray, "b k h w"]]:
    """The same of prepared slices in memory, cropped or not, at their own size."""
    network = device.place(network)
    for start in range(0, len(image), batch_size):
        # In fp16, as a store holds them.
        batch = torch.from_numpy(image[start : start + batch_size].astype(np.float16))
        yield _predict_steps(network, batch, device, tta_flip)


def _predict_steps(
    network: nn.Module,
    image: Float[Tensor, "b m h w"],
    device: Device,
    tta_flip: bool,
) -> UInt8[np.ndarray, "b k h w"]:
    probability = _predict(network, image, device, tta_flip)
    # Bytes: a quarter of the memory and disk of fp32, finer than any threshold needs.
    steps = (probability * 255).round().to(torch.uint8)
    return steps.cpu().contiguous().numpy()


def _predict(
    network: nn.Module,
    image: Float[Tensor, "b m h w"],
    device: Device,
    tta_flip: bool,
) -> Float[Tensor, "b k h w"]:
    image = device.place_batch(image)
    with torch.inference_mode(), device.autocast():
        probability = network(image).float().sigmoid()
        if tta_flip:
            # Rows run from right to left, so this axis is the one to mirror.
            mirrored = network(image.flip(-2)).float().sigmoid()
            probability = (probability + mirrored.flip(-2)) / 2
    return probability


def segment_volume(
    network: nn.Module,
    image: Num[np.ndarray, "m h w d"],
    spacing: tuple[float, float, float],
    geometry: SliceGeometry,
    device: Device,
    *,
    tta_flip: bool,
    batch_size: int = 32,
) -> tuple[UInt8[np.ndarray, "h w d"], UInt8[np.ndarray, "k h w d"]]:
    """Labels of every voxel of a raw volume, and the probability of each tissue in steps of 1/255, on its own grid.

    The network sees pixels of the millimetres that it was trained on, whatever the scan's; slices stay as thick as
    they are.

    Args:
        spacing: millimetres, (row, column, slice).
        geometry: of the training slices; the crop is larger here than its window if the brain needs it.
    """
    network = device.place(network)
    height, width, depth = image.shape[1:]
    resampling = geometry.resampling((height, width), spacing)
    rows, columns = resampling.weights_there()
    labels = np.zeros((height, width, depth), np.uint8)
    brains = [find_brain(image[..., number]) for number in range(depth)]
    numbers = np.flatnonzero([brain.any() for brain in brains])
    brain = BoundingBox.from_mask(np.any(brains, axis=0))
    # One crop for all slices, so that they make batches.
    crop = resampling.enclose(brain).pad_to_multiple(resampling.side, geometry.window)
    rows, columns = rows[crop.top : crop.bottom], columns[crop.left : crop.right]
    back_rows, back_columns = (torch.from_numpy(weights) for weights in resampling.weights_back())
    # What lies outside the crop has probability 0.
    back_rows = back_rows[:, crop.top : crop.bottom].to(device.accelerator)
    back_columns = back_columns[:, crop.left : crop.right].to(device.accelerator)
    parts = []
    for start in range(0, len(numbers), batch_size):
        batch = numbers[start : start + batch_size]
        # In fp16, as the training slices are stored.
        cropped = np.stack([rows @ standardise(image[..., number]) @ columns.T for number in batch]).astype(np.float16)
        probability = _predict(network, torch.from_numpy(cropped), device, tta_flip)
        # Probabilities are resized, not labels, whose borders would be jagged.
        original = back_rows @ probability @ back_columns.T
        predicted = to_labels(original)
        labels[..., batch] = predicted.permute(1, 2, 0).cpu().numpy()
        steps = (original * 255).round().to(torch.uint8)
        parts.append(steps.permute(1, 2, 3, 0).cpu().numpy())
    # 0 in slices without brain.
    steps_of_all = np.zeros((len(parts[0]), height, width, depth), np.uint8)
    steps_of_all[..., numbers] = np.concatenate(parts, axis=-1)
    return labels, steps_of_all


def predict_attention(
    network: nn.Module,
    slices: Store,
    rows: np.ndarray,
    device: Device,
    batch_size: int = 32,
) -> dict[str, Float16[np.ndarray, "n h w"]]:
    """Maps of every attention module, bilinearly resized to the slices; NaN outside the brain crop."""
    network = device.place(network)
    reader = Rows(slices, rows, ("image",))
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(rows), batch_size):
        batch = reader.read(rows[start : start + batch_size])
        image = device.place_batch(batch["image"])
        with torch.inference_mode(), device.autocast(), capture_attention(network) as maps:
            network(image)
        for name, attention in maps.items():
            full = interpolate(attention.float(), size=image.shape[-2:], mode="bilinear", align_corners=True)
            # fp16: maps of a patient are as large as the scan.
            array = full[:, 0].half().cpu().numpy()
            parts.setdefault(name, []).append(array)
    size = slices.shapes["image"][-1]
    whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    window = reader.window
    return {name: window.uncrop(values, size, np.nan) for name, values in whole.items()}
