"""What a trained network finds in the slices of a store, batch after batch."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float16, UInt8
from torch import nn
from torch.nn.functional import interpolate
from tqdm import tqdm

from brain_tumor.data.store import Store
from brain_tumor.networks.attention import watch
from brain_tumor.training.device import Device


def find_probabilities(
    network: nn.Module, slices: Store, rows: np.ndarray, device: Device, *, flips: bool, name: str = "", batch_size: int = 32
) -> Iterator[UInt8[np.ndarray, "b k h w"]]:
    """Probability of each tissue in steps of 1/255.

    Args:
        rows: of the store.
        flips: take the mean with what is found in the slice mirrored left and right.
        name: shown beside the progress bar; without, none is shown.
    """
    network = device.place(network)
    for start in tqdm(range(0, len(rows), batch_size), desc=f"predicting with {name}", unit="batch", disable=None if name else True):
        image = device.place_batch(torch.from_numpy(slices.read(rows[start : start + batch_size], "image")[0]))
        with torch.inference_mode(), device.autocast():
            probability = network(image).float().sigmoid()
            if flips:  # rows run from right to left
                probability = (probability + network(image.flip(-2)).float().sigmoid().flip(-2)) / 2
        yield (probability * 255).round().to(torch.uint8).cpu().contiguous().numpy()


def find_attention(network: nn.Module, slices: Store, rows: np.ndarray, device: Device, batch_size: int = 32) -> dict[str, Float16[np.ndarray, "n h w"]]:
    """The map of every module that attends, brought to the size of the slices bilinearly."""
    network = device.place(network)
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(rows), batch_size):
        image = device.place_batch(torch.from_numpy(slices.read(rows[start : start + batch_size], "image")[0]))
        with torch.inference_mode(), device.autocast(), watch(network) as maps:
            network(image)
        for name, attention in maps.items():
            full = interpolate(attention.float(), size=image.shape[-2:], mode="bilinear", align_corners=True)
            parts.setdefault(name, []).append(full[:, 0].half().cpu().numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
