"""Ensembles of networks."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Mean of the members' probabilities (independent sigmoids), returned as logits."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k ..."]:
        """Logits, in fp32."""
        # fp32, because a sigmoid near 1 has two digits in bf16 and its logit would be lost.
        probabilities = [member(x).float().sigmoid() for member in self.members]
        probability = torch.stack(probabilities).mean(0)
        return probability.logit(eps=1e-6)


class ClassifierEnsemble(Ensemble):
    """Mean of the members' probabilities (softmax), returned as logits."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Logits, in fp32."""
        return average_logits([member(x) for member in self.members])


def average_logits(logits: Sequence[Float[Tensor, "b k"]]) -> Float[Tensor, "b k"]:
    """Logits of the mean probability (softmax), in fp32."""
    probability = torch.stack([each.float().softmax(1) for each in logits]).mean(0)
    # Clamped: the logarithm of an underflow would be infinite.
    return probability.clamp(min=1e-30).log()
