"""ViT: the vision transformer of Dosovitskiy et al. 2021 (arXiv:2010.11929).

Differs in post-norm encoder layers with ReLU (Vaswani et al. 2017), each inside one more residual, behind a LayerNorm
that all of them share.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from brain_tumor.networks.classifier import require_size


class ViT(nn.Module):
    """Patch embedding, class token, learned positions, encoder layers, a linear layer on the class token.

    Args:
        image_size: side of the images; a multiple of `patch` times `shrink`.
        patch: side of a patch, in pixels after shrinking.
        shrink: factor by which images are average-pooled first. 2 leaves a quarter of the patches, each of which covers
            four times the area, in a quarter of the time.
        width: embedding dimension; a multiple of `heads` and of 4.
        depth: number of encoder layers.
        hidden: width of the feed-forward layers.
        dropout: of the encoder layers.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 4,
        image_size: int = 128,
        patch: int = 16,
        width: int = 512,
        depth: int = 10,
        heads: int = 8,
        hidden: int = 1024,
        dropout: float = 0.2,
        shrink: int = 1,
    ) -> None:
        super().__init__()
        if image_size % (patch * shrink):
            raise ValueError(
                f"image_size must be a multiple of patch times shrink, got {image_size}, {patch} and {shrink}"
            )
        if width % 4:
            raise ValueError(f"width must be a multiple of 4, got {width}")
        side = image_size // shrink // patch
        self.image_size, self.shrink = image_size, shrink
        self.patches = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        # Positions are learned. They start at sines and cosines, so that neighbours are alike from the first step.
        class_position = torch.randn(1, width) * 0.02
        patch_positions = sincos_positions(side, width)
        self.positions = nn.Parameter(torch.cat([class_position, patch_positions]))
        layers = [nn.TransformerEncoderLayer(width, heads, hidden, dropout, batch_first=True) for _ in range(depth)]
        self.layers = nn.ModuleList(layers)
        # One LayerNorm for all layers.
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out_channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Class logits."""
        x = self.embed(x)
        # Layers have residuals of their own; this one goes around each of them.
        for layer in self.layers:
            x = x + layer(self.norm(x))
        return self.head(x[:, 0])

    def embed(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """The class token and a token for each patch, row by row, with positions added."""
        require_size(x, self.image_size)
        small = avg_pool2d(x, self.shrink)
        tokens = self.patches(small).flatten(2).mT
        class_token = self.token.expand(len(x), 1, -1)
        return torch.cat([class_token, tokens], dim=1) + self.positions

    def attention(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b l n n"]:
        """Attention weights of each layer (query, key), averaged over the heads."""
        maps = []
        x = self.embed(x)
        for layer in self.layers:
            z = self.norm(x)
            # Asked once more for its weights, which the fused layer doesn't give.
            _, weights = layer.self_attn(z, z, z)  # type: ignore[operator]
            maps.append(weights)
            x = x + layer(z)
        return torch.stack(maps, dim=1)


def sincos_positions(side: int, width: int) -> Float[Tensor, "n d"]:
    """Two-dimensional sine-cosine position embeddings of the patches, row by row.

    The first half encodes the row, the second the column. Frequencies fall from 2 to nearly 0.02 radians a patch.

    Source: Vaswani et al. 2017, arXiv:1706.03762.
    """
    # Half of the width is for either axis, and half of that for sines.
    exponent = torch.linspace(0, 1, width // 4 + 1)[:-1]
    frequency = 2 * 100**-exponent
    waves = torch.arange(side)[:, None] * frequency
    # Halved to the scale of patch embeddings, so that neither drowns the other.
    along = torch.cat([waves.sin(), waves.cos()], dim=1) / 2
    rows = along.repeat_interleave(side, 0)
    columns = along.repeat(side, 1)
    return torch.cat([rows, columns], dim=1)
