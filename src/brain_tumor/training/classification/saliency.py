"""Saliency maps: HiResCAM of a convolutional network, attention rollout of a ViT."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from brain_tumor.data.common.parallel import show_progress
from brain_tumor.data.common.store import Store
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.networks.vit import ViT
from brain_tumor.training.classification.prediction import BATCH, averages_mirrored, read_inputs
from brain_tumor.training.device import Device


def compute_saliency(
    network: TrainedNetwork, images: Store, rows: np.ndarray, found: Int[np.ndarray, " n"], device: Device
) -> Float32[np.ndarray, "n s s"]:
    """How much each place speaks for the class that was found, in fp32: HiResCAM of a convolutional network.

    Attention rollout of a ViT, whatever the class.

    Where the network's recipe says `tta_flip`, the mean over an image and its mirror image, as the answer is.
    """
    module, parts = device.place(network.module()), []
    with show_progress(len(rows), f"explaining {network.name}", "image") as progress:
        for start in range(0, len(rows), BATCH):
            x = read_inputs(images, rows[start : start + BATCH], device, network.sizes["in_channels"])
            classes = found[start : start + BATCH]
            heat = _compute_saliency(module, x, classes)
            if averages_mirrored(network):
                heat = (heat + _compute_saliency(module, x.flip(-1), classes).flip(-1)) / 2
            parts.append(heat)
            progress.update(len(x))
    return torch.cat(parts)[:, 0].float().cpu().numpy()


def uniform_saliency(network: TrainedNetwork) -> Float32[np.ndarray, "s s"]:
    """What `compute_saliency` would give if all places spoke alike: some networks' maps don't reach the edge of the image."""
    module, side = network.module(), network.sizes["image_size"]
    x = torch.zeros(1, network.sizes["in_channels"], side, side)
    heat = torch.ones(1, 1, side, side)
    if not isinstance(module, ViT):
        layers = _until_last_map(module)
        with torch.inference_mode():
            heat = upsample_to_input(torch.ones_like(nn.Sequential(*layers)(x)[:, :1]), layers, side)
    if averages_mirrored(network):
        heat = (heat + heat.flip(-1)) / 2
    return heat[0, 0].numpy()


def _compute_saliency(
    network: nn.Module, x: Float[Tensor, "b c h w"], found: Int[np.ndarray, " b"]
) -> Float[Tensor, "b 1 h w"]:
    return attention_rollout(network, x) if isinstance(network, ViT) else hirescam(network, x, found)


def hirescam(network: nn.Module, x: Float[Tensor, "b c h w"], found: Int[np.ndarray, " b"]) -> Float[Tensor, "b 1 h w"]:
    """HiResCAM of what goes into the last pooling, for a class of each image: each place by its own gradient.

    Grad-CAM takes the mean gradient over all places, which shows heat where a network that tells places apart doesn't
    look.
    Source: Draelos and Carin 2020, arXiv:2011.08891.
    """
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # what is kept must not be overwritten
    layers = _until_last_map(network)
    kept: list[Tensor] = []
    handle = layers[-1].register_forward_hook(lambda layer, inputs, output: kept.append(output))  # noqa: ARG005
    score = network(x).gather(1, torch.tensor(found, dtype=torch.long, device=x.device)[:, None]).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept)
    return upsample_to_input((gradient * kept[0]).sum(1, keepdim=True).relu().detach(), layers, x.shape[-1])


def _until_last_map(network: nn.Module) -> list[nn.Module]:
    """The layers that make the map which goes into the last pooling."""
    layers = list(network.features)  # type: ignore[arg-type]
    return layers[: max(k for k, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d))]


def require_explainable(network: nn.Module) -> None:
    """Refuse a network whose heat could not be computed once it is trained.

    Raises:
        ValueError: if it is no ViT and has no `features` with a pooling in it.
    """
    if isinstance(network, ViT):
        return
    features = getattr(network, "features", None)
    if not isinstance(features, nn.Sequential) or not any(
        isinstance(layer, nn.MaxPool2d) for layer in list(features)[1:]
    ):
        raise ValueError(
            f"{type(network).__name__} has no `features` that can be explained; make it an nn.Sequential "
            "of convolutions and poolings, with an "
            "nn.MaxPool2d after the last map that tells places apart"
        )


def upsample_to_input(
    places: Float[Tensor, "b 1 n n"], layers: Sequence[nn.Module], side: int
) -> Float[Tensor, "b 1 s s"]:
    """A map at the size of the image, each of its places where the middle of what it sees is; 0 beyond.

    Args:
        layers: convolutions and poolings that made it of the image.
    """
    middle, step = 0.0, 1
    for module in (module for layer in layers for module in layer.modules()):
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            kernel, stride, padding = (
                value if isinstance(value, int) else int(value[0])
                for value in (module.kernel_size, module.stride, module.padding)
            )
            middle += ((kernel - 1) / 2 - padding) * step
            step *= stride
    full = interpolate(places, scale_factor=step, mode="bilinear", align_corners=False)
    before = round(middle + 0.5 - step / 2)
    after = side - full.shape[-1] - before
    return pad(full, (before, after, before, after))


def attention_rollout(network: ViT, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
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
