"""What a trained classifier says of the images of a store, and where in them it looks."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate
from tqdm import tqdm

from brain_tumor.data.parallel import shows_progress
from brain_tumor.data.store import Store
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.networks.vit import ViT
from brain_tumor.training.classification import to_input
from brain_tumor.training.device import Device

BATCH = 64


def find_logits(network: TrainedNetwork, images: Store, rows: np.ndarray, device: Device) -> Iterator[Float32[np.ndarray, "b k"]]:
    """Logits of each class, batch after batch; where the network's recipe says `flips`, those of the mean probability of an image and its mirror image.

    Args:
        rows: of the store.
    """
    module, channels = device.place(network.module()), network.sizes["in_channels"]
    for start in tqdm(range(0, len(rows), BATCH), desc=f"predicting with {network.name}", unit="batch", disable=not shows_progress()):
        image = _read(images, rows[start : start + BATCH], device, channels)
        with torch.inference_mode(), device.autocast():
            logits = module(image).float()
            if network.description.get("recipe", {}).get("flips"):
                logits = (logits.softmax(1) + module(image.flip(-1)).float().softmax(1)).div(2).clamp(min=1e-30).log()
        yield logits.cpu().numpy()


def find_heat(
    network: nn.Module, images: Store, rows: np.ndarray, found: Int[np.ndarray, " n"], device: Device, *, channels: int
) -> Float32[np.ndarray, "n s s"]:
    """How much each place speaks for the class that was found, in fp32: HiResCAM of a convolutional network; attention rollout of a ViT, whatever the class."""
    network = device.place(network)
    parts = []
    for start in range(0, len(rows), BATCH):
        x = _read(images, rows[start : start + BATCH], device, channels)
        parts.append(roll_out(network, x) if isinstance(network, ViT) else trace(network, x, found[start : start + BATCH]))
    return torch.cat(parts)[:, 0].float().cpu().numpy()


def _read(images: Store, rows: np.ndarray, device: Device, channels: int) -> Float[Tensor, "b c h w"]:
    return to_input(device.place_batch(torch.from_numpy(images.read(rows, "image")[0]).float()), channels)


def trace(network: nn.Module, x: Float[Tensor, "b c h w"], found: Int[np.ndarray, " b"]) -> Float[Tensor, "b 1 h w"]:
    """HiResCAM of what goes into the last pooling, for a class of each image: each place by its own gradient.

    Grad-CAM takes the mean gradient over all places, which shows heat where a network that tells places apart doesn't look.
    Source: Draelos and Carin 2020, arXiv:2011.08891, with MONAI's hooks.
    """
    from monai.visualize import ModelWithHooks

    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # what is hooked must not be overwritten
    last = max(k for k, module in enumerate(network.features) if isinstance(module, nn.MaxPool2d)) - 1  # type: ignore[arg-type]
    hooked, heat = ModelWithHooks(network, f"features.{last}", register_forward=True, register_backward=True), torch.empty_like(x[:, :1])
    for kind in np.unique(found):  # MONAI takes one class for a whole batch
        _, (activation,), (gradient,) = hooked(x[found == kind], class_idx=int(kind))
        places = (gradient * activation).sum(1, keepdim=True).relu().detach()
        heat[found == kind] = interpolate(places, size=x.shape[-2:], mode="bilinear", align_corners=False)
    return heat


def roll_out(network: ViT, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """Attention rollout: how much of each patch reaches the class token, taking a layer to pass on half of each token as it is.

    Source: Abnar and Zuidema 2020, arXiv:2005.00928.
    """
    with torch.inference_mode():
        maps = network.attention(x)
        flow = torch.eye(maps.shape[-1], device=maps.device).expand(len(maps), -1, -1)
        for attention in maps.unbind(1):
            flow = (attention + torch.eye(maps.shape[-1], device=maps.device)) / 2 @ flow
        side = round((maps.shape[-1] - 1) ** 0.5)
        patches = flow[:, 0, 1:].unflatten(1, (1, side, side))
        return interpolate(patches, size=x.shape[-2:], mode="bilinear", align_corners=False)


def first_kernels(network: nn.Module) -> Float32[np.ndarray, "n h w"]:
    """The first layer's kernels, summed over the channels, which all see the same image."""
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    return first.weight.detach().sum(1).float().cpu().numpy()
