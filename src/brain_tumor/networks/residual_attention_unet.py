"""ResidualAttentionUNet: a U-Net of residual blocks, with self-attention on coarse maps between them.

After the U-Net with attention of UNet-Segmentation (theveryhim, 2025), itself after Oktay et al. 2018 and Vaswani et
al. 2017. Differs in its head: theirs is a residual block of one channel that ends in a GELU, which can't say
"background"; ours is a 1x1 convolution that gives plain logits of each tissue (99 parameters for three tissues instead
of 336, so 6,155,395 at base 32 instead of 6,155,632).
"""

from math import gcd

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from brain_tumor.networks.attention import Attention
from brain_tumor.networks.blocks import require_sides
from brain_tumor.networks.cpu import GroupNorm


class ResidualAttentionUNet(nn.Module):
    """Three levels, skips concatenated. Sides of the input must be multiples of 16.

    Args:
        n_filters: channels of the first level; each level below doubles them. A multiple of 4.

    Attributes:
        coarse: modules whose maps on the way up are smaller than the output, the deepest first, and their channels.
    """

    def __init__(self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 32) -> None:
        super().__init__()
        n = n_filters
        self.stem = ResidualBlock(in_channels, n)
        self.encoder = nn.ModuleList(
            [encoder_block(n, 2 * n), encoder_block(2 * n, 4 * n), encoder_block(4 * n, 8 * n)]
        )
        self.bottleneck = nn.Sequential(*(ResidualBlock(8 * n, 8 * n) for _ in range(3)))
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in ((8 * n, 4 * n), (4 * n, 2 * n), (2 * n, n))]
        )
        self.decoder = nn.ModuleList(
            [decoder_block(8 * n, 4 * n), decoder_block(4 * n, 2 * n), ResidualBlock(2 * n, n)]
        )
        self.coarse = {"decoder.0": 4 * n, "decoder.1": 2 * n}
        self.head = nn.Conv2d(n, out_channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logits of each tissue: independent sigmoids."""
        require_sides(x, 16)
        skips = [self.stem(x)]
        for block in self.encoder:
            skips.append(block(skips[-1]))
        x = self.bottleneck(skips.pop())
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([up(x), skips.pop()], dim=1))
        return self.head(x)


def encoder_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Half the size, a residual block, attention."""
    return nn.Sequential(nn.MaxPool2d(2), ResidualBlock(in_channels, out_channels), SelfAttention(out_channels))


def decoder_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """A residual block, attention."""
    return nn.Sequential(ResidualBlock(in_channels, out_channels), SelfAttention(out_channels))


class ResidualBlock(nn.Module):
    """(3x3 convolution, GroupNorm) twice with GELU between, plus the input (through a 1x1 convolution where channels change), GELU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        groups = gcd(8, out_channels)
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            GroupNorm(groups, out_channels),
            nn.GELU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            GroupNorm(groups, out_channels),
        )
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.activation = nn.GELU()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """The sum, activated."""
        return self.activation(self.residual(x) + self.skip(x))


class SelfAttention(Attention):
    """Each place of a map, averaged over cells of 4x4, looks at every other.

    What it finds is added back, bilinearly upsampled.

    A pre-norm transformer block of 4 heads with 128 hidden units.
    """

    def __init__(self, channels: int, *, heads: int = 4, hidden: int = 128, cell: int = 4) -> None:
        super().__init__()
        self.cell = cell
        self.norm_attention = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm_feed_forward = nn.LayerNorm(channels)
        self.feed_forward = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The map with what was found added."""
        places = self._places(x)
        normed = self.norm_attention(places)
        on_cpu = (
            x.device.type == "cpu"
        )  # what torch has for attention without weights takes twice as long there, with heads so narrow
        return self._added(x, places, self.attention(normed, normed, normed, need_weights=on_cpu)[0])

    def _places(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c"]:
        return self._pooled(x).flatten(2).transpose(1, 2)

    def _pooled(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h4 w4"]:
        """Means over cells; those at the edge are smaller where a side is no multiple."""
        return avg_pool2d(x, self.cell, ceil_mode=True, count_include_pad=False)

    def _added(
        self, x: Float[Tensor, "b c h w"], places: Float[Tensor, "b n c"], found: Float[Tensor, "b n c"]
    ) -> Float[Tensor, "b c h w"]:
        places = places + found
        places = places + self.feed_forward(self.norm_feed_forward(places))
        small = places.transpose(1, 2).unflatten(2, self._pooled(x[:1, :1]).shape[-2:])
        return x + self._spread(small, x)

    def _spread(self, small: Float[Tensor, "b c h4 w4"], x: Float[Tensor, "b _ h w"]) -> Float[Tensor, "b c h w"]:
        """What cells have at each place, bilinearly between their middles; those at the edge may be cut off."""
        height, width = x.shape[-2:]
        return interpolate(small, scale_factor=float(self.cell), mode="bilinear", align_corners=False)[
            ..., :height, :width
        ]

    def attention_map(self, inputs: tuple[Tensor], output: Tensor) -> Float[Tensor, "b 1 h w"]:
        """How much each place is looked at: attention received, averaged over heads and places that look.

        1 is the mean.
        """
        normed = self.norm_attention(self._places(inputs[0]))
        weights = self.attention(normed, normed, normed)[1]
        received = weights.mean(1).unflatten(1, self._pooled(inputs[0][:1, :1]).shape[-2:])[:, None] * weights.shape[1]
        return self._spread(received, inputs[0])

    def level(self, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        """Every place looks at all places alike, and so finds their mean."""
        places = self._places(inputs[0])
        _, _, of_value = self.attention.in_proj_weight.chunk(3)
        _, _, bias = self.attention.in_proj_bias.chunk(3)
        values = nn.functional.linear(self.norm_attention(places).mean(1, keepdim=True), of_value, bias)
        return self._added(inputs[0], places, self.attention.out_proj(values).expand_as(places))
