"""Losses of segmentation."""

from jaxtyping import Float
from monai.losses import DiceLoss
from torch import Tensor, nn


class DiceBCE(nn.Module):
    """Binary cross-entropy and soft Dice of independent sigmoids; Dice over the whole batch, so slices without tumour count too.

    Args:
        dice_weight: share of Dice, 0 to 1.
    """

    def __init__(self, dice_weight: float) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        self.dice = DiceLoss(sigmoid=True, batch=True)
        self.cross_entropy = nn.BCEWithLogitsLoss()

    def forward(self, logits: Float[Tensor, "b k h w"], truth: Float[Tensor, "b k h w"]) -> Float[Tensor, ""]:
        """The loss of one batch; computed in fp32 whatever the network's precision."""
        logits = logits.float()
        return self.dice_weight * self.dice(logits, truth) + (1 - self.dice_weight) * self.cross_entropy(logits, truth)
