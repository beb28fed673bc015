"""What the U-Nets share: four levels down, four up, skips between.

They differ in their blocks and in how a skip is joined.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from brain_tumor.networks.blocks import kaiming_init, require_sides


class UNet(nn.Module, ABC):
    """Sides of the input must be multiples of 16.

    Args:
        encoder_block: block of (in, out) channels, one a level; so `decoder_block`.
        n_filters: channels of the first level; each level below doubles them.

    Attributes:
        coarse: modules whose maps on the way up are smaller than the output, the deepest first, and their channels.
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
        self.encoder = nn.ModuleList(
            [encoder_block(i, o) for i, o in ((in_channels, n), (n, 2 * n), (2 * n, 4 * n), (4 * n, 8 * n))]
        )
        self.bottleneck = bottleneck
        self.decoder = nn.ModuleList(
            [decoder_block(i, o) for i, o in ((8 * n, 4 * n), (4 * n, 2 * n), (2 * n, n), (n, n))]
        )
        self.coarse = {"decoder.0": 4 * n, "decoder.1": 2 * n, "decoder.2": n}
        self.head = kaiming_init(nn.Conv2d(n, out_channels, 1))
        self.down = nn.MaxPool2d(2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logits of each tissue: independent sigmoids."""
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
        self, level: int, skip: Float[Tensor, "b c h w"], x: Float[Tensor, "b c h2 w2"]
    ) -> Float[Tensor, "b d h w"]:
        """What a decoder block takes: the skip, and the map from the level below at half its size.

        Level 0 is the deepest.
        """
