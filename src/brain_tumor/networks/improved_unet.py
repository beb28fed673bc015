"""ImprovedUNet: a U-Net whose blocks are inverted bottlenecks behind depthwise 7x7 convolutions.

After ConvNeXt (Liu et al. 2022, arXiv:2201.03545), with BatchNorm and ReLU and without residuals inside a block. Skips are added, not
concatenated, so that the decoder is as narrow as the encoder: 57 % of ClassicUNet's parameters.
"""

from jaxtyping import Float
from torch import Tensor, nn

from brain_tumor.networks.blocks import initialise, inverted_bottleneck, require_sides, upsample


class ImprovedUNet(nn.Module):
    """Four levels, skips added. Sides of the input must be multiples of 16.

    Args:
        n_filters: channels of the first level; each level below doubles them.
    """

    def __init__(self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 32) -> None:
        super().__init__()
        n = n_filters
        self.encoder = nn.ModuleList([encoder_block(i, o) for i, o in ((in_channels, n), (n, 2 * n), (2 * n, 4 * n), (4 * n, 8 * n))])
        self.bottleneck = encoder_block(8 * n, 8 * n)
        self.decoder = nn.ModuleList([decoder_block(i, o) for i, o in ((8 * n, 4 * n), (4 * n, 2 * n), (2 * n, n), (n, n))])
        self.head = nn.Conv2d(n, out_channels, 1)
        self.down = nn.MaxPool2d(2)
        initialise(self)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logits of each tissue: independent sigmoids."""
        require_sides(x, 16)
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = self.down(x)
        x = self.bottleneck(x)
        for block in self.decoder:
            x = block(skips.pop() + upsample(x))
        return self.head(x)


def encoder_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two half-blocks, each four times as wide inside as what it gives."""
    return nn.Sequential(
        inverted_bottleneck(in_channels, 4 * out_channels, out_channels),
        inverted_bottleneck(out_channels, 4 * out_channels, out_channels),
    )


def decoder_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two half-blocks, each four times as wide inside as what it takes."""
    return nn.Sequential(
        inverted_bottleneck(in_channels, 4 * in_channels, out_channels),
        inverted_bottleneck(out_channels, 4 * out_channels, out_channels),
    )
