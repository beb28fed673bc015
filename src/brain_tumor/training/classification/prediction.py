"""Prediction with a trained classifier."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from brain_tumor.data.common.parallel import show_progress
from brain_tumor.data.common.store import Store
from brain_tumor.networks.ensemble import average_logits
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.training.classification.normalisation import to_input
from brain_tumor.training.device import Device

BATCH = 64


def predict_logits(
    network: TrainedNetwork,
    images: Store,
    rows: np.ndarray,
    device: Device,
) -> Iterator[Float32[np.ndarray, "b k"]]:
    """Class logits, batch by batch; with `tta_flip` those of the mean probability of an image and its mirror image.

    Args:
        rows: of the store.
    """
    module = device.place(network.module())
    channels = network.sizes["in_channels"]
    with show_progress(len(rows), f"predicting with {network.name}", "image") as progress:
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            image = read_inputs(images, batch, device, channels)
            with torch.inference_mode(), device.autocast():
                logits = module(image).float()
                if averages_mirrored(network):
                    logits = average_logits([logits, module(image.flip(-1))])
            yield logits.cpu().numpy()
            progress.update(len(image))


def averages_mirrored(network: TrainedNetwork) -> bool:
    """Whether the network is used with test-time augmentation: the mean over an image and its mirror image."""
    return bool(network.description.get("recipe", {}).get("tta_flip"))


def read_inputs(
    images: Store,
    rows: np.ndarray,
    device: Device,
    channels: int,
) -> Float[Tensor, "b c h w"]:
    """A normalised batch of the store on the device."""
    (image,) = images.read(rows, "image")
    grey = torch.from_numpy(image).float()
    return to_input(device.place_batch(grey), channels)
