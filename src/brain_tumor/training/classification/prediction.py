"""Predictions of a trained classifier."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from brain_tumor.data.common.parallel import show_progress
from brain_tumor.data.common.store import Store
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.training.classification.task import to_input
from brain_tumor.training.device import Device

BATCH = 64


def predict_logits(
    network: TrainedNetwork, images: Store, rows: np.ndarray, device: Device
) -> Iterator[Float32[np.ndarray, "b k"]]:
    """Logits of each class, batch after batch.

    Where the network's recipe says `tta_flip`, those of the mean probability of an image and its mirror image.

    Args:
        rows: of the store.
    """
    module, channels = device.place(network.module()), network.sizes["in_channels"]
    with show_progress(len(rows), f"predicting with {network.name}", "image") as progress:
        for start in range(0, len(rows), BATCH):
            image = read_inputs(images, rows[start : start + BATCH], device, channels)
            with torch.inference_mode(), device.autocast():
                logits = module(image).float()
                if averages_mirrored(network):
                    mirrored = module(image.flip(-1)).float()
                    logits = (logits.softmax(1) + mirrored.softmax(1)).div(2).clamp(min=1e-30).log()
            yield logits.cpu().numpy()
            progress.update(len(image))


def averages_mirrored(network: TrainedNetwork) -> bool:
    """Whether the recipe asks for test-time augmentation: the mean over an image and its mirror image."""
    return bool(network.description.get("recipe", {}).get("tta_flip"))


def read_inputs(images: Store, rows: np.ndarray, device: Device, channels: int) -> Float[Tensor, "b c h w"]:
    """A batch of the store on the device, standardised."""
    return to_input(device.place_batch(torch.from_numpy(images.read(rows, "image")[0]).float()), channels)
