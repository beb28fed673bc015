"""Segmentation losses, computed from sums over the batch, several processes or a whole validation set."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, binary_cross_entropy_with_logits

from brain_tumor.networks.library import create, first_line

EPSILON = 1e-5
"""Pixels: far less than one, so that it matters for empty masks only."""


class DiceBCELoss(nn.Module):
    """Binary cross-entropy and soft Dice of independent sigmoids, pooled over the batch.

    Args:
        dice_weight: weight of Dice, 0 to 1; the rest is cross-entropy.
        tversky_beta: weight of false negatives against false positives. 0.5 is Dice, other values a Tversky index
            (Salehi et al. 2017, arXiv:1706.05721).
        focal_gamma: exponent of focal loss (Lin et al. 2017, arXiv:1708.02002); 0 is cross-entropy.
    """

    PARTS = 5
    """Sums of each tissue."""

    # Pooled, so that slices without tumour count too: alone, they have no Dice.

    def __init__(self, dice_weight: float, tversky_beta: float = 0.5, focal_gamma: float = 0.0) -> None:
        super().__init__()
        self.dice_weight, self.tversky_beta, self.focal_gamma = dice_weight, tversky_beta, focal_gamma

    def forward(
        self,
        logits: Float[Tensor, "b k h w"],
        truth: Float[Tensor, "b k h w"],
    ) -> Float[Tensor, ""]:
        """The loss of one batch, over all processes that train together."""
        sums = all_reduce_sum(self.sums(logits, truth))
        return self.value(sums)

    def sums(
        self,
        logits: Float[Tensor, "b k h w"],
        truth: Float[Tensor, "b k h w"],
    ) -> Float[Tensor, "5 k"]:
        """Sums of overlap, predicted, true, cross-entropy and pixels of each tissue, in fp32."""
        # fp32, because sums over a batch of slices lose their small terms in bf16.
        logits = logits.float()
        probability = logits.sigmoid()
        entropy = binary_cross_entropy_with_logits(logits, truth, reduction="none")
        if self.focal_gamma:
            distance = (probability - truth).abs()
            entropy = entropy * distance**self.focal_gamma
        # The minimum is the product where truth is 0 or 1. Deep supervision has cells that are tumour in part, for
        # which a product isn't optimal at their fraction.
        overlap = torch.minimum(probability, truth)
        parts = (overlap, probability, truth, entropy, torch.ones_like(truth))
        return torch.stack([part.sum((0, 2, 3)) for part in parts])

    def value(self, sums: Float[Tensor, "5 k"]) -> Float[Tensor, ""]:
        """The loss of the sums of a batch, of several processes or of a validation set."""
        overlap, predicted, true, entropy, pixels = sums
        false_positives = predicted - overlap
        false_negatives = true - overlap
        wrong = (1 - self.tversky_beta) * false_positives + self.tversky_beta * false_negatives
        # EPSILON makes an empty mask that is predicted empty a perfect one.
        dice = (2 * overlap + EPSILON) / (2 * overlap + 2 * wrong + EPSILON)
        dice_part = self.dice_weight * (1 - dice.mean())
        entropy_part = (1 - self.dice_weight) * entropy.sum() / pixels.sum()
        return dice_part + entropy_part


class LibraryLoss(nn.Module):
    """A loss of a library, by the path of its class; like DiceBCELoss, but not pooled: the mean over batches.

    Args:
        name: such as `monai.losses.DiceFocalLoss`.
        arguments: of the class.
        tissues: channels of logits and masks.

    Raises:
        ImportError: if its package isn't installed.
        ValueError: if there is no such class, it refuses its arguments, or doesn't give one number for a batch.
    """

    PARTS = 2

    def __init__(self, name: str, arguments: Mapping[str, Any], tissues: int) -> None:
        super().__init__()
        self.inner = create_loss(name, arguments, torch.zeros(2, tissues, 32, 32))

    def forward(self, logits: Float[Tensor, "b k h w"], truth: Float[Tensor, "b k h w"]) -> Float[Tensor, ""]:
        """The loss of one batch of this process."""
        with torch.autocast(logits.device.type, enabled=False):
            return self.inner(logits.float(), truth)

    def sums(self, logits: Float[Tensor, "b k h w"], truth: Float[Tensor, "b k h w"]) -> Float[Tensor, "2 k"]:
        """Loss times slices, and slices, of one batch; the same for each tissue, as DiceBCELoss has it."""
        slices, tissues = logits.shape[:2]
        own = self(logits, truth) * slices
        return torch.stack([own, torch.full_like(own, slices)])[:, None].expand(2, tissues)

    def value(self, sums: Float[Tensor, "2 k"]) -> Float[Tensor, ""]:
        """The mean loss of several batches."""
        total, slices = sums[:, 0]
        return total / slices


def create_loss(name: str, arguments: Mapping[str, Any], logits: Float[Tensor, "b k ..."]) -> nn.Module:
    """A loss of a library, tried on logits and targets of their shape.

    Raises:
        ImportError: if its package isn't installed.
        ValueError: if there is no such class, it refuses its arguments or the logits, or gives no single number.
    """
    loss = create(name, nn.Module, "loss", **arguments)
    try:
        value = loss(logits, torch.zeros_like(logits))
    except Exception as error:
        shape = " x ".join(map(str, logits.shape))
        words = f"{name} doesn't take logits and targets of {shape}: {first_line(error)}"
        raise ValueError(f"{words}; change `loss_arguments`, or take another loss") from error
    if not (isinstance(value, Tensor) and value.ndim == 0):
        shape = f"{tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} gives {shape}, not a number; change `loss_arguments`, such as reduction: mean")
    return loss


def attention_loss(
    maps: Mapping[str, Float[Tensor, "b 1 _ _"]],
    tumour: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, ""]:
    """Distance of attention maps from the whole tumour: half cross-entropy and half soft Dice, averaged over maps.

    A cell of a small map is tumour if any of its pixels is.

    Args:
        maps: logits: behind the sigmoid, a map near 0 has no gradient and stays there.
    """
    losses = []
    for logits in maps.values():
        logits = logits.float()
        true = adaptive_max_pool2d(tumour, logits.shape[-2:])
        probability = logits.sigmoid()
        # Dice too, because tumours are small: cross-entropy alone lets a map be 0 everywhere.
        entropy = binary_cross_entropy_with_logits(logits, true, reduction="sum")
        overlap = (probability * true).sum()
        total = probability.sum() + true.sum()
        cells = torch.ones_like(true).sum()
        # In one tensor, so that processes exchange once.
        sums = torch.stack([overlap, total, entropy, cells])
        overlap, total, entropy, cells = all_reduce_sum(sums)
        dice = (2 * overlap + EPSILON) / (total + EPSILON)
        losses.append((entropy / cells + 1 - dice) / 2)
    return torch.stack(losses).mean()


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum over all processes that train together, with a gradient."""
    if not (dist.is_available() and dist.is_initialized()):
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    # The gradient is multiplied by the number of processes, because DDP averages gradients over them afterwards.
    return total + dist.get_world_size() * (x - x.detach())
