"""ClassicUNet: the U-Net of Ronneberger et al. 2015 (arXiv:1505.04597).

Differs in padded convolutions (the output has the input's size), bilinear upsampling, and a decoder whose blocks
narrow in two steps, so that no convolution is needed between upsampling and the skip.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brain_tumor.networks.blocks import double_convolution, upsample
from brain_tumor.networks.unet import UNet


class ClassicUNet(UNet):
    """Four levels, skips concatenated. Sides of the input must be multiples of 16.

    Args:
        n_filters: channels of the first level; each level below doubles them.
    """

    def __init__(self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 32) -> None:
        bottleneck = double_convolution(8 * n_filters, 8 * n_filters, middle=16 * n_filters)
        super().__init__(
            double_convolution,
            bottleneck,
            decoder_block,
            in_channels=in_channels,
            out_channels=out_channels,
            n_filters=n_filters,
        )

    def merge_skip(
        self,
        level: int,
        skip: Float[Tensor, "b c h w"],
        x: Float[Tensor, "b c h2 w2"],
    ) -> Float[Tensor, "b 2*c h w"]:
        """The skip and the upsampled map, concatenated."""
        return torch.cat([skip, upsample(x)], dim=1)


def decoder_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two convolutions on the concatenated skip, with a middle of `in_channels`."""
    # The skip has as many channels as the map below it, so the concatenation has twice as many.
    return double_convolution(2 * in_channels, out_channels, middle=in_channels)
