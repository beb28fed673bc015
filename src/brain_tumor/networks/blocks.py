"""Parts that several networks share."""

from math import gcd
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate


def double_convolution(in_channels: int, out_channels: int, middle: int | None = None) -> nn.Sequential:
    """(3x3 convolution, ReLU) twice; the size of the map stays."""
    middle = middle or out_channels
    return nn.Sequential(
        he_initialised(nn.Conv2d(in_channels, middle, 3, padding=1)),
        nn.ReLU(inplace=True),
        he_initialised(nn.Conv2d(middle, out_channels, 3, padding=1)),
        nn.ReLU(inplace=True),
    )


def inverted_bottleneck(in_channels: int, middle: int, out_channels: int) -> nn.Sequential:
    """Depthwise 7x7 convolution, BatchNorm, 1x1 to `middle` channels, ReLU, 1x1 back; the size of the map stays."""
    return nn.Sequential(
        DepthwiseConv2d(in_channels, 7),
        nn.BatchNorm2d(in_channels),
        he_initialised(nn.Conv2d(in_channels, middle, 1)),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, out_channels, 1),
    )


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of each channel by itself; the size of the map stays.

    The same as `nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels)`, but its gradient takes a fraction of the time in bf16 on
    a CPU.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels, channels, size, padding=size // 2, groups=channels)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:  # noqa: A002  # the name in nn.Conv2d
        """The convolved map."""
        if input.device.type == "cpu" and torch.is_autocast_enabled("cpu") and self.bias is not None:
            return _Depthwise.apply(*(x.to(torch.get_autocast_dtype("cpu")) for x in (input, self.weight, self.bias)))
        return super().forward(input)


class _Depthwise(torch.autograd.Function):
    """oneDNN's gradient of a depthwise kernel in bf16 takes ten times as long as that of a convolution of 16 channels by all 16, which matrix units compute."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        channels, padding = len(weight), weight.shape[-1] // 2
        of_x = conv2d(gradient, weight.flip(2, 3), padding=padding, groups=channels)
        block = gcd(channels, 16)
        dense = weight.new_zeros(channels, block, *weight.shape[2:])
        arguments = ([channels], [1, 1], [padding, padding], [1, 1], False, [0, 0], channels // block, [False, True, True])
        _, of_dense, of_bias = torch.ops.aten.convolution_backward(gradient, x, dense, *arguments)
        channel = torch.arange(channels)
        return of_x, of_dense[channel, channel % block].unsqueeze(1), of_bias


def upsample(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
    """Twice the size, bilinearly, corners aligned."""
    x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    if x.requires_grad:
        # Behind a concatenation the gradient is a slice with gaps in memory, for which torch takes five times as long.
        x.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
    return x


def require_sides(x: Float[Tensor, "b c h w"], multiple: int) -> None:
    """Refuse maps that can't be halved as often as the network does.

    Raises:
        ValueError: if height or width isn't a multiple.
    """
    height, width = x.shape[-2:]
    if height % multiple or width % multiple:
        nearest = -(-max(height, width) // multiple) * multiple
        raise ValueError(f"height and width must be multiples of {multiple}, got {height}x{width}; set `slice_size` to {nearest}")


def he_initialised(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution with He initialisation: for those that a ReLU follows, and for heads. Others keep torch's, which is smaller.

    Source: He et al. 2015, arXiv:1502.01852.
    """
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
