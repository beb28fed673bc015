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
    """Patches, a class token, learned positions, encoder layers, one linear layer on the class token.

    Args:
        image_size: side of the images; shrunk, it is a multiple of `patch`.
        shrink: pixels a side of which the mean is taken first. With 2 there is a quarter of the patches, each of which
            sees twice as far, in a quarter of the time.
        width: of a token; a multiple of `heads` and of 4.
        hidden: width of the layers' perceptrons.
        dropout: in the layers.
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
        self.positions = nn.Parameter(torch.cat([torch.randn(1, width) * 0.02, find_waves(side, width)]))
        self.layers = nn.ModuleList(
            [nn.TransformerEncoderLayer(width, heads, hidden, dropout, batch_first=True) for _ in range(depth)]
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out_channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Logits of each class."""
        x = self.embed(x)
        for layer in self.layers:
            x = x + layer(self.norm(x))
        return self.head(x[:, 0])

    def embed(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """The class token, then a token for each patch, row by row, with their positions."""
        require_size(x, self.image_size)
        tokens = self.patches(avg_pool2d(x, self.shrink)).flatten(2).mT
        return torch.cat([self.token.expand(len(x), 1, -1), tokens], dim=1) + self.positions

    def attention(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b l n n"]:
        """How much each token of a layer takes from each token below it, mean over the heads."""
        maps = []
        x = self.embed(x)
        for layer in self.layers:
            z = self.norm(x)
            maps.append(layer.self_attn(z, z, z)[1])  # type: ignore[operator]
            x = x + layer(z)
        return torch.stack(maps, dim=1)


def find_waves(side: int, width: int) -> Float[Tensor, "n d"]:
    """What the positions of patches, row by row, are before they are learned.

    Sines and cosines of the row and of the column, as large as patches are.

    The frequencies fall from 2 to nearly 0.02 radians a patch. Source: Vaswani et al. 2017, arXiv:1706.03762; here in
    two dimensions.
    """
    frequency = 2 * 100 ** -torch.linspace(0, 1, width // 4 + 1)[:-1]
    waves = torch.arange(side)[:, None] * frequency
    along = torch.cat([waves.sin(), waves.cos()], dim=1) / 2
    return torch.cat([along.repeat_interleave(side, 0), along.repeat(side, 1)], dim=1)
