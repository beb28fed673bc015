"""ImprovedUNet: a U-Net whose blocks are inverted bottlenecks behind depthwise 7x7 convolutions.

After ConvNeXt (Liu et al. 2022, arXiv:2201.03545), with BatchNorm and ReLU and without residuals inside a block. Skips
are added, not concatenated, so that the decoder is as narrow as the encoder: 57 % of ClassicUNet's parameters.
"""

from jaxtyping import Float
from torch import Tensor, nn

from brain_tumor.networks.blocks import inverted_bottleneck, upsample
from brain_tumor.networks.unet import UNet


class ImprovedUNet(UNet):
    """Four levels, skips added. Sides of the input must be multiples of 16.

    Args:
        n_filters: channels of the first level; each level below doubles them.
    """

    def __init__(self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 32) -> None:
        bottleneck = encoder_block(8 * n_filters, 8 * n_filters)
        super().__init__(
            encoder_block,
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
    ) -> Float[Tensor, "b c h w"]:
        """Sum of the skip and the upsampled map."""
        return skip + upsample(x)


def encoder_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two inverted bottlenecks, expanded to four times `out_channels`."""
    return nn.Sequential(
        inverted_bottleneck(in_channels, 4 * out_channels, out_channels),
        inverted_bottleneck(out_channels, 4 * out_channels, out_channels),
    )


def decoder_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two inverted bottlenecks, expanded to four times their input channels."""
    # The first one narrows, so that its expansion is wider than an encoder's.
    return nn.Sequential(
        inverted_bottleneck(in_channels, 4 * in_channels, out_channels),
        inverted_bottleneck(out_channels, 4 * out_channels, out_channels),
    )
