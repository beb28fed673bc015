import numpy as np
import pytest
import torch
from monai.losses import DiceLoss

from brain_tumor.training.losses import DiceBCE


def test_loss_by_hand():
    logits = torch.zeros(1, 1, 2, 2)
    truth = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    # BCE of p = 0.5 is ln 2; soft Dice is 2 * 0.5 / (2 + 1)
    assert DiceBCE(0.0)(logits, truth).item() == pytest.approx(np.log(2), abs=1e-6)
    assert DiceBCE(1.0)(logits, truth).item() == pytest.approx(1 - 1 / 3, abs=1e-4)


def test_dice_is_monais():
    logits, truth = torch.randn(3, 3, 8, 8), (torch.rand(3, 3, 8, 8) < 0.3).float()
    truth[:, 1] = 0
    assert DiceBCE(1.0)(logits, truth).item() == pytest.approx(DiceLoss(sigmoid=True, batch=True)(logits, truth).item(), rel=1e-5)


def test_loss_of_summed_sums_is_the_loss_of_the_whole():
    logits, truth = torch.randn(5, 3, 8, 8), (torch.rand(5, 3, 8, 8) < 0.3).float()
    loss = DiceBCE(0.4)
    parts = loss.sums(logits[:2], truth[:2]) + loss.sums(logits[2:], truth[2:])
    assert loss.value(parts).item() == pytest.approx(loss(logits, truth).item(), rel=1e-5)
