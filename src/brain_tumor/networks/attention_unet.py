"""AttentionUNet: ImprovedUNet whose skips pass through attention gates.

After Oktay et al. 2018 (arXiv:1804.03999). The gate's query is the decoder's map before it is upsampled, its key the
skip at half the size.
"""

from jaxtyping import Float
from torch import Tensor, nn

from brain_tumor.networks.attention import Attention
from brain_tumor.networks.blocks import kaiming_init, upsample
from brain_tumor.networks.cpu import apply_gate
from brain_tumor.networks.improved_unet import ImprovedUNet


class AttentionUNet(ImprovedUNet):
    """Four levels, gated skips added. Sides of the input must be multiples of 16.

    Args:
        n_filters: channels of the first level; each level below doubles them.
    """

    def __init__(self, *, in_channels: int = 4, out_channels: int = 3, n_filters: int = 32) -> None:
        super().__init__(in_channels=in_channels, out_channels=out_channels, n_filters=n_filters)
        self.gates = nn.ModuleList([AttentionGate(channels * n_filters) for channels in (8, 4, 2, 1)])

    def merge_skip(
        self, level: int, skip: Float[Tensor, "b c h w"], x: Float[Tensor, "b c h2 w2"]
    ) -> Float[Tensor, "b c h w"]:
        """The sum, once the gate of the level has weighed the skip."""
        return super().merge_skip(level, apply_gate(skip, self.gates[level](x, skip)), x)


class AttentionGate(Attention):
    """How much of the skip to let through at each place, 0 to 1.

    Args:
        channels: of the query and of the skip.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = kaiming_init(nn.Conv2d(channels, channels, 1))
        self.key = kaiming_init(nn.Conv2d(channels, channels, 1))
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(self, query: Float[Tensor, "b c h2 w2"], skip: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        """The map, at the size of the skip."""
        key = self.key(
            skip[:, :, ::2, ::2]
        )  # torch 2.13's own stride corrupts memory on a CPU, in the gradient of fewer than 16 channels
        return upsample(self.score((self.query(query) + key).relu()).sigmoid())

    def attention_map(self, inputs: tuple[Tensor, Tensor], output: Tensor) -> Tensor:
        """What the gate gives; upsampled in bf16 it may pass 1 by its rounding."""
        return output.clamp(0, 1)

    def level(self, inputs: tuple[Tensor, Tensor], output: Tensor) -> Tensor:
        """The mean of each slice's map."""
        return output.mean((2, 3), keepdim=True).expand_as(output)
