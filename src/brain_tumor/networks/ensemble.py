"""Networks that answer together."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Gives the logits of the mean of its members' probabilities (independent sigmoids)."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logits, in fp32."""
        probability = torch.stack([member(x).float().sigmoid() for member in self.members]).mean(0)
        return probability.logit(eps=1e-6)
