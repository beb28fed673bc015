"""Losses. Each is computed from sums over the batch, which can be taken over several processes or a whole validation set first."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, binary_cross_entropy_with_logits


class DiceBCELoss(nn.Module):
    """Binary cross-entropy and soft overlap of independent sigmoids.

    Overlap over the whole batch, so slices without tumour count too.

    Args:
        dice_weight: share of overlap, 0 to 1.
        tversky_beta: of a missed pixel against one found where there is none: 0.5 makes the overlap Dice, else it is a
            Tversky index (Salehi et al. 2017, arXiv:1706.05721).
        focal_gamma: exponent of focal loss (Lin et al. 2017, arXiv:1708.02002); 0 makes it cross-entropy.
    """

    def __init__(self, dice_weight: float, tversky_beta: float = 0.5, focal_gamma: float = 0.0) -> None:
        super().__init__()
        self.dice_weight, self.tversky_beta, self.focal_gamma = dice_weight, tversky_beta, focal_gamma

    def forward(self, logits: Float[Tensor, "b k h w"], truth: Float[Tensor, "b k h w"]) -> Float[Tensor, ""]:
        """The loss of one batch, over all processes that train together."""
        return self.value(all_reduce_sum(self.sums(logits, truth)))

    def sums(self, logits: Float[Tensor, "b k h w"], truth: Float[Tensor, "b k h w"]) -> Float[Tensor, "5 k"]:
        """Overlap, found, there, cross-entropy and pixels of each tissue; in fp32 whatever the network's precision.

        Overlap is the smaller of the two, which is their product where truth is 0 or 1: of a coarse cell that is tumour
        in part, a product asks for 0.
        """
        logits = logits.float()
        probability = logits.sigmoid()
        entropy = binary_cross_entropy_with_logits(logits, truth, reduction="none")
        if self.focal_gamma:
            entropy = entropy * (probability - truth).abs() ** self.focal_gamma
        return torch.stack(
            [
                x.sum((0, 2, 3))
                for x in (torch.minimum(probability, truth), probability, truth, entropy, torch.ones_like(truth))
            ]
        )

    def value(self, sums: Float[Tensor, "5 k"]) -> Float[Tensor, ""]:
        """The loss that these sums give."""
        overlap, found, there, entropy, pixels = sums
        wrong = (1 - self.tversky_beta) * (found - overlap) + self.tversky_beta * (there - overlap)
        distance = 1 - ((2 * overlap + 1e-5) / (2 * overlap + 2 * wrong + 1e-5)).mean()
        return self.dice_weight * distance + (1 - self.dice_weight) * entropy.sum() / pixels.sum()


def attention_loss(maps: Mapping[str, Float[Tensor, "b 1 _ _"]], tumour: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """How far maps are from the tumour at the size of each: half cross-entropy and half soft Dice, averaged over maps.

    A cell of a coarse map has tumour if any of its pixels has. Cross-entropy alone lets a fine map be 0 everywhere:
    tumours are small.

    Args:
        maps: before their sigmoid: behind it, a map that has closed gives no gradient and stays closed.
    """
    losses = []
    for logits in maps.values():
        logits, there = logits.float(), adaptive_max_pool2d(tumour, logits.shape[-2:])
        found = logits.sigmoid()
        entropy = binary_cross_entropy_with_logits(logits, there, reduction="sum")
        sums = torch.stack([(found * there).sum(), found.sum() + there.sum(), entropy, torch.ones_like(there).sum()])
        overlap, both, entropy, pixels = all_reduce_sum(sums)
        losses.append((entropy / pixels + 1 - (2 * overlap + 1e-5) / (both + 1e-5)) / 2)
    return torch.stack(losses).mean()


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum over all processes that train together.

    Its gradient counts each process's own part as often as there are processes, because gradients are averaged over
    them afterwards.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total + dist.get_world_size() * (x - x.detach())
