"""Labels as the channels of a mask, and probabilities as labels. Apart from the task: prediction needs no Lightning."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def to_channels(labels: UInt8[Tensor, "b h w"], tissues: int) -> Float[Tensor, "b k h w"]:
    """One-hot masks, a channel of 0 and 1 for each tissue."""
    masks = [labels == label for label in range(1, tissues + 1)]
    return torch.stack(masks, dim=1).float()


def to_labels(probability: Float[Tensor, "b k h w"]) -> UInt8[Tensor, "b h w"]:
    """Label of the most probable tissue where the tissues together have at least 0.5, else background (0).

    Measured against a single tissue of at least 0.5: docs/experiments/decision_rule.md
    """
    tumour, tissue = probability.sum(dim=1), probability.argmax(dim=1)
    return torch.where(tumour >= 0.5, tissue + 1, 0).to(torch.uint8)
