"""AttentionUNet: ImprovedUNet whose skips pass through attention gates.

After Oktay et al. 2018 (arXiv:1804.03999). The gate's query is the decoder's map before it is upsampled, its key the skip at half the size.
"""

from jaxtyping import Float
from torch import Tensor, nn

from brain_tumor.networks.blocks import initialise, require_sides, upsample
from brain_tumor.networks.improved_unet import decoder_block, encoder_block


class AttentionUNet(nn.Module):
    """Four levels, gated skips added. Sides of the input must be multiples of 16.

    Args:
        n_filters: channels of the first level; each level below doubles them.
    """

    def __init__(self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 32) -> None:
        super().__init__()
        n = n_filters
        self.encoder = nn.ModuleList([encoder_block(i, o) for i, o in ((in_channels, n), (n, 2 * n), (2 * n, 4 * n), (4 * n, 8 * n))])
        self.bottleneck = encoder_block(8 * n, 8 * n)
        self.gates = nn.ModuleList([AttentionGate(c) for c in (8 * n, 4 * n, 2 * n, n)])
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
        for gate, block in zip(self.gates, self.decoder, strict=True):
            skip = skips.pop()
            x = block(skip * gate(x, skip) + upsample(x))
        return self.head(x)


class AttentionGate(nn.Module):
    """How much of the skip to let through at each place, 0 to 1.

    Args:
        channels: of the query and of the skip.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1, stride=2)
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(self, query: Float[Tensor, "b c h2 w2"], skip: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        """The map, at the size of the skip."""
        return upsample(self.score((self.query(query) + self.key(skip)).relu()).sigmoid())
