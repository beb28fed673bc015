"""The U-Nets' shared encoder and decoder: four levels down, four up, skip connections between.

Subclasses choose the blocks and how a skip is merged.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from brain_tumor.networks.blocks import kaiming_init, require_sides


class UNet(nn.Module, ABC):
    """Sides of the input must be multiples of 16.

    Args:
        encoder_block: makes the block of a level from its numbers of input and output channels.
        decoder_block: the same for the decoder.
        n_filters: channels of the first level; each level below doubles them.

    Attributes:
        aux_maps: decoder modules whose outputs are smaller than the mask, the deepest first, and their channels; they
            can be trained with deep supervision.
    """

    def __init__(
        self,
        encoder_block: Callable[[int, int], nn.Module],
        bottleneck: nn.Module,
        decoder_block: Callable[[int, int], nn.Module],
        *,
        in_channels: int,
        out_channels: int,
        n_filters: int,
    ) -> None:
        super().__init__()
        n = n_filters
        down_channels = (in_channels, n, 2 * n, 4 * n, 8 * n)
        # The last block keeps its channels: there is no narrower level above it.
        up_channels = (8 * n, 4 * n, 2 * n, n, n)
        self.encoder = nn.ModuleList([encoder_block(i, o) for i, o in pairwise(down_channels)])
        self.bottleneck = bottleneck
        self.decoder = nn.ModuleList([decoder_block(i, o) for i, o in pairwise(up_channels)])
        self.aux_maps = {"decoder.0": 4 * n, "decoder.1": 2 * n, "decoder.2": n}
        self.head = kaiming_init(nn.Conv2d(n, out_channels, 1))
        self.down = nn.MaxPool2d(2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logits of each tissue, for independent sigmoids."""
        # Four poolings halve the sides four times.
        require_sides(x, 16)
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = self.down(x)
        x = self.bottleneck(x)
        for level, block in enumerate(self.decoder):
            x = block(self.merge_skip(level, skips.pop(), x))
        return self.head(x)

    @abstractmethod
    def merge_skip(
        self,
        level: int,
        skip: Float[Tensor, "b c h w"],
        x: Float[Tensor, "b c h2 w2"],
    ) -> Float[Tensor, "b d h w"]:
        """Input of a decoder block, from the skip and the map of the level below.

        Args:
            level: 0 is the deepest.
            x: at half the size of the skip.
        """
