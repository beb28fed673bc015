"""AttentionUNet: ImprovedUNet with attention gates on its skips.

After Oktay et al. 2018 (arXiv:1804.03999). A gate's query is the decoder's map before it is upsampled, its key the
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
        # One gate a level, the deepest first, as `merge_skip` counts levels.
        self.gates = nn.ModuleList([AttentionGate(channels * n_filters) for channels in (8, 4, 2, 1)])

    def merge_skip(
        self,
        level: int,
        skip: Float[Tensor, "b c h w"],
        x: Float[Tensor, "b c h2 w2"],
    ) -> Float[Tensor, "b c h w"]:
        """Sum of the upsampled map and the skip, weighted by the gate of the level."""
        weight = self.gates[level](x, skip)
        gated = apply_gate(skip, weight)
        return super().merge_skip(level, gated, x)


class AttentionGate(Attention):
    """Attention gate: a weight from 0 to 1 for each pixel of a skip.

    Args:
        channels: of the query and of the skip.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = kaiming_init(nn.Conv2d(channels, channels, 1))
        self.key = kaiming_init(nn.Conv2d(channels, channels, 1))
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(
        self,
        query: Float[Tensor, "b c h2 w2"],
        skip: Float[Tensor, "b c h w"],
    ) -> Float[Tensor, "b 1 h w"]:
        """The map, at the size of the skip."""
        # Sliced, because a convolution with stride 2 corrupts memory in torch 2.13 on a CPU, in the gradient of fewer
        # than 16 channels.
        key = self.key(skip[:, :, ::2, ::2])
        joined = self.query(query) + key
        score = self.score(joined.relu())
        return upsample(score.sigmoid())

    def attention_map(self, inputs: tuple[Tensor, Tensor], output: Tensor) -> Tensor:
        """The gate's output, clamped to 0 and 1."""
        # Upsampling in bf16 may round to just above 1.
        return output.clamp(0, 1)

    def ablated_output(self, inputs: tuple[Tensor, Tensor], output: Tensor) -> Tensor:
        """The mean of each slice's map, at every pixel."""
        return output.mean((2, 3), keepdim=True).expand_as(output)
