"""Losses. Each is computed from sums over the batch, which can be taken over several processes or a whole validation set first."""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


class DiceBCE(nn.Module):
    """Binary cross-entropy and soft Dice of independent sigmoids; Dice over the whole batch, so slices without tumour count too.

    Args:
        dice_weight: share of Dice, 0 to 1.
    """

    def __init__(self, dice_weight: float) -> None:
        super().__init__()
        self.dice_weight = dice_weight

    def forward(self, logits: Float[Tensor, "b k h w"], truth: Float[Tensor, "b k h w"]) -> Float[Tensor, ""]:
        """The loss of one batch, over all processes that train together."""
        return self.value(over_processes(self.sums(logits, truth)))

    def sums(self, logits: Float[Tensor, "b k h w"], truth: Float[Tensor, "b k h w"]) -> Float[Tensor, "5 k"]:
        """Overlap, found, there, cross-entropy and pixels of each tissue; in fp32 whatever the network's precision."""
        logits = logits.float()
        probability = logits.sigmoid()
        entropy = binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return torch.stack([x.sum((0, 2, 3)) for x in (probability * truth, probability, truth, entropy, torch.ones_like(truth))])

    def value(self, sums: Float[Tensor, "5 k"]) -> Float[Tensor, ""]:
        """The loss that these sums give."""
        overlap, found, there, entropy, pixels = sums
        dice = 1 - ((2 * overlap + 1e-5) / (found + there + 1e-5)).mean()
        return self.dice_weight * dice + (1 - self.dice_weight) * entropy.sum() / pixels.sum()


def over_processes(x: Tensor) -> Tensor:
    """The sum over all processes that train together.

    Its gradient counts each process's own part as often as there are processes, because gradients are averaged over them afterwards.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total + dist.get_world_size() * (x - x.detach())
