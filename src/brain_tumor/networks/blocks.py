"""Blocks that several networks share."""

from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from brain_tumor.networks.cpu import DepthwiseConv2d, PointwiseMLP


def double_convolution(in_channels: int, out_channels: int, middle: int | None = None) -> nn.Sequential:
    """(3x3 convolution, ReLU) twice, without change of size."""
    middle = middle or out_channels
    # In place: ReLU's gradient needs its output only, and the map before it would double the memory.
    return nn.Sequential(
        kaiming_init(nn.Conv2d(in_channels, middle, 3, padding=1)),
        nn.ReLU(inplace=True),
        kaiming_init(nn.Conv2d(middle, out_channels, 3, padding=1)),
        nn.ReLU(inplace=True),
    )


def inverted_bottleneck(in_channels: int, middle: int, out_channels: int) -> nn.Sequential:
    """Depthwise 7x7 convolution, BatchNorm, 1x1 convolution to `middle` channels, ReLU, 1x1 to `out_channels`."""
    # Made in the order of the forward pass: initial weights are drawn one after another from one seed.
    depthwise = DepthwiseConv2d(in_channels, 7)
    expand = kaiming_init(nn.Conv2d(in_channels, middle, 1))
    # No ReLU follows the projection, so it keeps torch's initialisation.
    project = nn.Conv2d(middle, out_channels, 1)
    mlp = PointwiseMLP(expand, nn.ReLU(inplace=True), project)
    return nn.Sequential(depthwise, nn.BatchNorm2d(in_channels), mlp)


def upsample(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
    """Bilinear upsampling to twice the size, corners aligned."""
    x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    # Compiled code lays out its gradients itself, and hooks would break it into parts.
    if x.requires_grad and x.device.type != "mps" and not torch.compiler.is_compiling():
        x.register_hook(_close_gaps)
    return x


def _close_gaps(gradient: Tensor) -> Tensor:
    """The gradient in one piece of memory."""
    # Behind a concatenation it is a slice with gaps in memory, for which torch takes five times as long.
    return gradient.contiguous(memory_format=torch.channels_last)


def require_sides(x: Float[Tensor, "b c h w"], multiple: int) -> None:
    """Refuse maps that can't be halved as often as the network halves them.

    Raises:
        ValueError: if height or width isn't a multiple.
    """
    height, width = x.shape[-2:]
    if height % multiple or width % multiple:
        # Rounded up, so that nothing of a slice is cut off.
        nearest = ceil(max(height, width) / multiple) * multiple
        raise ValueError(
            f"height and width must be multiples of {multiple}, got {height}x{width}; set `slice_size` to {nearest}"
        )


def kaiming_init(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution with He initialisation, used before ReLU and in heads.

    Other convolutions keep torch's initialisation, which is smaller.

    Source: He et al. 2015, arXiv:1502.01852.
    """
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
