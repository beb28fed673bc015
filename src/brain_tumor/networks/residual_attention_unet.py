"""ResidualAttentionUNet: a U-Net of residual blocks with self-attention on pooled maps between them.

After the U-Net with attention of UNet-Segmentation (theveryhim, 2025), itself after Oktay et al. 2018 and Vaswani et
al. 2017. Differs in the head: theirs is a residual block of one channel that ends in a GELU, whose output
can't go far below 0, as background needs; ours is a 1x1 convolution to logits (99 parameters for three tissues instead
of 336, so 6,155,395 at base 32 instead of 6,155,632).
"""

from itertools import pairwise
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
        aux_maps: decoder modules whose outputs are smaller than the mask, the deepest first, and their channels; they
            can be trained with deep supervision.
    """

    def __init__(self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 32) -> None:
        super().__init__()
        n = n_filters
        self.stem = ResidualBlock(in_channels, n)
        self.encoder = nn.ModuleList(
            [
                encoder_block(n, 2 * n),
                encoder_block(2 * n, 4 * n),
                encoder_block(4 * n, 8 * n),
            ]
        )
        self.bottleneck = nn.Sequential(*(ResidualBlock(8 * n, 8 * n) for _ in range(3)))
        up_channels = pairwise((8 * n, 4 * n, 2 * n, n))
        self.up = nn.ModuleList([nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in up_channels])
        self.decoder = nn.ModuleList(
            [
                decoder_block(8 * n, 4 * n),
                decoder_block(4 * n, 2 * n),
                # No attention in the last block: it has the full size, and with it the most tokens.
                ResidualBlock(2 * n, n),
            ]
        )
        self.aux_maps = {"decoder.0": 4 * n, "decoder.1": 2 * n}
        self.head = nn.Conv2d(n, out_channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logits of each tissue, for independent sigmoids."""
        require_sides(x, 16)
        skips = [self.stem(x)]
        # The deepest map goes on to the bottleneck; the three above it become skips.
        for block in self.encoder:
            skips.append(block(skips[-1]))
        x = self.bottleneck(skips.pop())
        for up, block in zip(self.up, self.decoder, strict=True):
            x = torch.cat([up(x), skips.pop()], dim=1)
            x = block(x)
        return self.head(x)


def encoder_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Max pooling, a residual block, self-attention."""
    return nn.Sequential(
        nn.MaxPool2d(2),
        ResidualBlock(in_channels, out_channels),
        SelfAttention(out_channels),
    )


def decoder_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """A residual block, self-attention."""
    return nn.Sequential(ResidualBlock(in_channels, out_channels), SelfAttention(out_channels))


class ResidualBlock(nn.Module):
    """(3x3 convolution, GroupNorm) twice with GELU between, plus the input, then GELU.

    The input passes a 1x1 convolution where the number of channels changes.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        # Eight groups where they divide the channels; the largest divisor of 8 that does elsewhere.
        groups = gcd(8, out_channels)
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            GroupNorm(groups, out_channels),
            nn.GELU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            GroupNorm(groups, out_channels),
        )
        self.skip: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.skip = nn.Conv2d(in_channels, out_channels, 1)
        self.activation = nn.GELU()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """GELU of the residual plus the skip."""
        return self.activation(self.residual(x) + self.skip(x))


class SelfAttention(Attention):
    """Transformer block on a map pooled in cells of 4x4, bilinearly upsampled and added to the map.

    Pre-norm, 4 heads, 128 hidden units.
    """

    def __init__(self, channels: int, *, heads: int = 4, hidden: int = 128, cell: int = 4) -> None:
        super().__init__()
        self.cell = cell
        self.norm_attention = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm_feed_forward = nn.LayerNorm(channels)
        self.feed_forward = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.GELU(),
            nn.Linear(hidden, channels),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The map plus the block's output."""
        tokens = self._tokens(x)
        normed = self.norm_attention(tokens)
        # Without weights torch takes its fused attention, which is half as fast on a CPU with heads so narrow.
        on_cpu = x.device.type == "cpu"
        attended, _ = self.attention(normed, normed, normed, need_weights=on_cpu)
        return self._finish(x, tokens, attended)

    def _tokens(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c"]:
        return self._pooled(x).flatten(2).transpose(1, 2)

    def _pooled(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h4 w4"]:
        """Means over cells."""
        # Where a side is no multiple of the cell, the last cells are smaller, and average what they have.
        return avg_pool2d(x, self.cell, ceil_mode=True, count_include_pad=False)

    def _finish(
        self,
        x: Float[Tensor, "b c h w"],
        tokens: Float[Tensor, "b n c"],
        attended: Float[Tensor, "b n c"],
    ) -> Float[Tensor, "b c h w"]:
        """The block's output from that of its attention: both residuals, the feed-forward layers, upsampling."""
        tokens = tokens + attended
        tokens = tokens + self.feed_forward(self.norm_feed_forward(tokens))
        small = tokens.transpose(1, 2).unflatten(2, self._pooled_size(x))
        return x + self._upsample(small, x)

    def _pooled_size(self, x: Float[Tensor, "b c h w"]) -> torch.Size:
        # Pooling one channel of one slice keeps the rule for the last cells in one line.
        return self._pooled(x[:1, :1]).shape[-2:]

    def _upsample(
        self,
        small: Float[Tensor, "b c h4 w4"],
        x: Float[Tensor, "b _ h w"],
    ) -> Float[Tensor, "b c h w"]:
        """A pooled map at the size of `x`, bilinear between the centres of cells."""
        height, width = x.shape[-2:]
        large = interpolate(small, scale_factor=float(self.cell), mode="bilinear", align_corners=False)
        # Cells at the edge may reach beyond the map.
        return large[..., :height, :width]

    def attention_map(self, inputs: tuple[Tensor], output: Tensor) -> Float[Tensor, "b 1 h w"]:
        """Attention that each pixel receives, averaged over heads and queries; its mean over the map is 1."""
        x = inputs[0]
        normed = self.norm_attention(self._tokens(x))
        _, weights = self.attention(normed, normed, normed)
        received = weights.mean(1).unflatten(1, self._pooled_size(x))[:, None]
        # Weights of a query add up to 1, so their mean is one over the number of tokens.
        tokens = weights.shape[1]
        return self._upsample(received * tokens, x)

    def ablated_output(self, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        """The output for uniform attention: every query gets the mean of the values."""
        x = inputs[0]
        tokens = self._tokens(x)
        # Projections of query, key and value lie one after another in torch's module.
        _, _, weight = self.attention.in_proj_weight.chunk(3)
        _, _, bias = self.attention.in_proj_bias.chunk(3)
        mean = self.norm_attention(tokens).mean(1, keepdim=True)
        values = nn.functional.linear(mean, weight, bias)
        attended = self.attention.out_proj(values).expand_as(tokens)
        return self._finish(x, tokens, attended)
