"""ClassicUNet: the U-Net of Ronneberger et al. 2015 (arXiv:1505.04597).

Differs in padded convolutions (the output has the input's size), bilinear upsampling, and a decoder whose blocks
narrow in two steps, so that no convolution is needed between upsampling and the skip.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brain_tumor.networks.blocks import double_convolution, initialise, require_sides, upsample


class ClassicUNet(nn.Module):
    """Four levels, skips concatenated. Sides of the input must be multiples of 16.

    Args:
        n_filters: channels of the first level; each level below doubles them.
    """

    def __init__(self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 32) -> None:
        super().__init__()
        n = n_filters
        self.encoder = nn.ModuleList([double_convolution(i, o) for i, o in ((in_channels, n), (n, 2 * n), (2 * n, 4 * n), (4 * n, 8 * n))])
        self.bottleneck = double_convolution(8 * n, 8 * n, middle=16 * n)
        self.decoder = nn.ModuleList([double_convolution(2 * i, o, middle=i) for i, o in ((8 * n, 4 * n), (4 * n, 2 * n), (2 * n, n), (n, n))])
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
            x = block(torch.cat([skips.pop(), upsample(x)], dim=1))
        return self.head(x)
