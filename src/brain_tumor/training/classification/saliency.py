"""Saliency maps: HiResCAM of a convolutional network, attention rollout of a ViT."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from brain_tumor.data.common.parallel import show_progress
from brain_tumor.data.common.store import Store
from brain_tumor.networks.adapted import AdaptedNetwork
from brain_tumor.networks.library import first_line
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.networks.vit import ViT
from brain_tumor.training.classification.prediction import BATCH, averages_mirrored, read_inputs
from brain_tumor.training.device import Device


def compute_saliency(
    network: TrainedNetwork,
    images: Store,
    rows: np.ndarray,
    predicted: Int[np.ndarray, " n"],
    device: Device,
) -> Float32[np.ndarray, "n s s"]:
    """Saliency maps for the predicted class: HiResCAM of convolutional networks, attention rollout of a ViT.

    Attention rollout is the same for all classes. With `tta_flip` in the recipe, maps are averaged over an image
    and its mirror image, as predictions are; those of an ensemble, over its members.
    """
    members = [device.place(network.member(number)) for number in range(len(network.members))]
    channels = network.sizes["in_channels"]
    parts = []
    with show_progress(len(rows), f"explaining {network.name}", "image") as progress:
        for start in range(0, len(rows), BATCH):
            end = start + BATCH
            # In fp32, without autocast: speed matters less here than small gradients.
            x = read_inputs(images, rows[start:end], device, channels)
            classes = predicted[start:end]
            saliency = _average_saliency(members, x, classes)
            if averages_mirrored(network):
                mirrored = _average_saliency(members, x.flip(-1), classes)
                saliency = (saliency + mirrored.flip(-1)) / 2
            parts.append(saliency)
            progress.update(len(x))
    return torch.cat(parts)[:, 0].float().cpu().numpy()


def uniform_saliency(network: TrainedNetwork) -> Float32[np.ndarray, "s s"]:
    """`compute_saliency` of a uniform feature map: the baseline of saliency by region."""
    # The members of an ensemble differ in their weights alone.
    module = network.member(0)
    side = network.sizes["image_size"]
    x = torch.zeros(1, network.sizes["in_channels"], side, side)
    saliency = torch.ones(1, 1, side, side)
    # Not 1 everywhere: the maps of some convolutional networks don't reach the edge of the image.
    if not isinstance(module, ViT | AdaptedNetwork):
        layers = _until_last_map(module)
        with torch.inference_mode():
            features = nn.Sequential(*layers)(x)
            uniform = torch.ones_like(features[:, :1])
            saliency = upsample_to_input(uniform, layers, side)
    if averages_mirrored(network):
        saliency = (saliency + saliency.flip(-1)) / 2
    return saliency[0, 0].numpy()


def _average_saliency(
    members: Sequence[nn.Module], x: Float[Tensor, "b c h w"], classes: Int[np.ndarray, " b"]
) -> Float[Tensor, "b 1 h w"]:
    maps = [_compute_saliency(member, x, classes) for member in members]
    return torch.stack(maps).mean(0)


def _compute_saliency(
    network: nn.Module,
    x: Float[Tensor, "b c h w"],
    classes: Int[np.ndarray, " b"],
) -> Float[Tensor, "b 1 h w"]:
    if isinstance(network, ViT):
        return attention_rollout(network, x)
    if isinstance(network, AdaptedNetwork):
        return adapted_hirescam(network, x, classes)
    return hirescam(network, x, classes)


def hirescam(
    network: nn.Module,
    x: Float[Tensor, "b c h w"],
    classes: Int[np.ndarray, " b"],
) -> Float[Tensor, "b 1 h w"]:
    """HiResCAM of the input of the last pooling, for one class of each image.

    Source: Draelos and Carin 2020, arXiv:2011.08891.
    """
    # Not Grad-CAM, whose gradient is averaged over all pixels: before a flattening layer it shows saliency at pixels
    # that the network doesn't use.
    layers = _until_last_map(network)
    return upsample_to_input(_hirescam_at(network, layers[-1], x, classes), layers, x.shape[-1])


def adapted_hirescam(
    network: AdaptedNetwork,
    x: Float[Tensor, "b c h w"],
    classes: Int[np.ndarray, " b"],
) -> Float[Tensor, "b 1 h w"]:
    """HiResCAM of a library's network, at the declared module or else at its last map, spread over the image."""
    layer = network.network.get_submodule(network.find_cam_layer(x[:1]))
    left, right, top, bottom = network.padding(*x.shape[-2:])
    height, width = x.shape[-2] + top + bottom, x.shape[-1] + left + right
    saliency = _hirescam_at(network, layer, x, classes)
    full = interpolate(saliency, size=(height, width), mode="bilinear", align_corners=False)
    return full[..., top : height - bottom, left : width - right]


def _hirescam_at(
    network: nn.Module, layer: nn.Module, x: Float[Tensor, "b c h w"], classes: Int[np.ndarray, " b"]
) -> Float[Tensor, "b 1 n m"]:
    for module in network.modules():
        # An activation in place would overwrite the captured features.
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    features: list[Tensor] = []

    def keep(layer: nn.Module, inputs: Any, output: Tensor) -> None:  # what a hook is given  # noqa: ARG001
        features.append(output)

    handle = layer.register_forward_hook(keep)
    logits = network(x)
    handle.remove()
    index = torch.tensor(classes, dtype=torch.long, device=x.device)
    # The gradient of a sum over images is that of each image, because evaluation doesn't mix a batch.
    score = logits.gather(1, index[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, features)
    return (gradient * features[0]).sum(1, keepdim=True).relu().detach()


def _until_last_map(network: nn.Module) -> list[nn.Module]:
    """The layers before the last pooling."""
    layers = list(network.features)  # type: ignore[arg-type]
    poolings = [k for k, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    return layers[: poolings[-1]]


def require_explainable(network: nn.Module) -> None:
    """Refuse a network whose saliency can't be computed.

    Raises:
        ValueError: if it is no ViT and has no `features` with a pooling in it; if a library's network has no map.
    """
    if isinstance(network, ViT):
        return
    if isinstance(network, AdaptedNetwork):
        _try_saliency(network)
        return
    features = getattr(network, "features", None)
    # A pooling that comes first has no features before it.
    if isinstance(features, nn.Sequential):
        layers = list(features)[1:]
        if any(isinstance(layer, nn.MaxPool2d) for layer in layers):
            return
    raise ValueError(
        f"{type(network).__name__} has no `features` that can be explained; make it an nn.Sequential "
        "of convolutions and poolings, with an "
        "nn.MaxPool2d after the last map that tells places apart"
    )


def _try_saliency(network: AdaptedNetwork) -> None:
    copied = copy.deepcopy(network).eval()
    try:
        adapted_hirescam(copied, torch.zeros(1, *network.input_shape), np.zeros(1, int))
    except (RuntimeError, IndexError, AttributeError) as error:
        words = "has no map that can be explained at its last layers; name another module: cam_layer in its `sizes`"
        raise ValueError(f"{network.path} {words} ({first_line(error)})") from error


def upsample_to_input(
    features: Float[Tensor, "b 1 n n"],
    layers: Sequence[nn.Module],
    side: int,
) -> Float[Tensor, "b 1 s s"]:
    """A feature map at the size of the image, each value at the centre of its receptive field; 0 beyond.

    Args:
        layers: convolutions and poolings between the image and the feature map.
    """
    # Centre of the first receptive field, and the distance to the next, in pixels.
    centre, step = 0.0, 1
    for module in nn.Sequential(*layers).modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            kernel, stride, padding = map(_first, (module.kernel_size, module.stride, module.padding))
            # Half a kernel in from the edge, which the padding moves out.
            offset = (kernel - 1) / 2 - padding
            centre += offset * step
            step *= stride
    full = interpolate(features, scale_factor=step, mode="bilinear", align_corners=False)
    # Interpolation has its first value half a step from the edge.
    before = round(centre + 0.5 - step / 2)
    after = side - full.shape[-1] - before
    return pad(full, (before, after, before, after))


def _first(value: Any) -> int:
    # torch takes a number or one for each axis.
    return value if isinstance(value, int) else int(value[0])


def attention_rollout(network: ViT, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """Attention rollout from the patches to the class token.

    Source: Abnar and Zuidema 2020, arXiv:2005.00928.
    """
    with torch.inference_mode():
        maps = network.attention(x)
        identity = torch.eye(maps.shape[-1], device=maps.device)
        flow = identity.expand(len(maps), -1, -1)
        for attention in maps.unbind(1):
            # Half of each token is passed on by the residual.
            mixing = (attention + identity) / 2
            flow = mixing @ flow
        # All tokens but the first, the class token, are patches of a square.
        side = round((maps.shape[-1] - 1) ** 0.5)
        patches = flow[:, 0, 1:].unflatten(1, (1, side, side))
        return interpolate(patches, size=x.shape[-2:], mode="bilinear", align_corners=False)


def first_kernels(network: nn.Module) -> Float32[np.ndarray, "n h w"]:
    """Kernels of the first convolution, summed over the input channels, which all hold the same image."""
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    return first.weight.detach().sum(1).float().cpu().numpy()
