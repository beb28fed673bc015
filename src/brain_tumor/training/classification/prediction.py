"""Prediction with a trained classifier."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from brain_tumor.data.common.parallel import show_progress
from brain_tumor.data.common.store import Store
from brain_tumor.networks.ensemble import Ensemble, average_logits
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
    for logits, _ in _predict(network, images, rows, device):
        yield logits


def predict_all(
    network: TrainedNetwork,
    images: Store,
    rows: np.ndarray,
    device: Device,
) -> tuple[Float32[np.ndarray, "n k"], list[Float32[np.ndarray, "n d"]]]:
    """The logits of all images, and of each member of an ensemble their features: what its last layer gets.

    No features of a member whose last layer isn't linear, or gets more than a vector of each image.
    """
    logits, features = zip(*_predict(network, images, rows, device), strict=True)
    members = [np.concatenate([_to_numpy(part) for part in parts]) for parts in zip(*features, strict=True)]
    return np.concatenate(logits), members


def _predict(
    network: TrainedNetwork, images: Store, rows: np.ndarray, device: Device
) -> Iterator[tuple[Float32[np.ndarray, "b k"], list[Tensor]]]:
    """Logits, and the features of each member, which stay on the device."""
    module = device.place(network.module())
    channels = network.sizes["in_channels"]
    with (
        show_progress(len(rows), f"predicting with {network.name}", "image") as progress,
        _watch_features(module) as seen,
    ):
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            image = read_inputs(images, batch, device, channels)
            seen.clear()
            with torch.inference_mode(), device.autocast():
                logits = module(image).float()
                features = [each for each in seen if each.ndim == 2]
                if averages_mirrored(network):
                    logits = average_logits([logits, module(image.flip(-1))])
            yield logits.cpu().numpy(), features
            progress.update(len(image))


def _to_numpy(values: Tensor) -> Float32[np.ndarray, "..."]:
    return values.float().cpu().numpy()


@contextmanager
def _watch_features(module: nn.Module) -> Iterator[list[Tensor]]:
    """A list that the inputs of the last layer of each member are added to."""
    members = module.members if isinstance(module, Ensemble) else [module]
    seen: list[Tensor] = []
    watched = []
    for member in members:
        # Of leaves, in the order in which they were made.
        *_, last = (layer for layer in member.modules() if not list(layer.children()))
        if isinstance(last, nn.Linear):
            watched.append(last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])))
    try:
        yield seen
    finally:
        for hook in watched:
            hook.remove()


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
