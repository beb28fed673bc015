from itertools import chain

import numpy as np
import pytest
import torch

from brain_tumor.networks import build
from brain_tumor.training.batches import BatchOrder, ResidentSlices, load
from brain_tumor.training.device import choose_device
from brain_tumor.training.fit import fit
from brain_tumor.training.losses import DiceBCE
from brain_tumor.training.settings import EngineSettings, SegmentationRecipe
from brain_tumor.training.tasks import MONITOR, SegmentationTask, to_channels, to_labels, warm_cosine

TARGETS = {"NCR": (1,), "ED": (2,), "ET": (3,), "WT": (1, 2, 3), "TC": (1, 3)}
CPU = EngineSettings(device="cpu", precision="fp32")


@pytest.fixture
def slices():
    """Twelve slices of a bright square (oedema) with a brighter middle (rim) somewhere in noise."""
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.3, (12, 4, 32, 32)).astype(np.float16)
    labels = np.zeros((12, 32, 32), np.uint8)
    for k in range(12):
        r, c = rng.integers(2, 16, 2)
        labels[k, r : r + 12, c : c + 12] = 2
        labels[k, r + 4 : r + 8, c + 4 : c + 8] = 3
    image[:, 0] += 2 * (labels > 0)
    image[:, 2] += 3 * (labels == 3)
    return ResidentSlices(image, labels)


def train(slices, recipe, seed=0):
    torch.manual_seed(seed)
    task = SegmentationTask(build("classic_unet", n_filters=8), TARGETS, 3, recipe, seed)
    loader = load(slices, recipe.batch_size, seed, recipe.epoch_steps)
    return fit(task, loader, load(slices, 4), monitor=MONITOR, epochs=recipe.epochs, patience=recipe.patience, engine=CPU)


def test_learns_a_tiny_data_set_by_heart(slices):
    fitted = train(slices, SegmentationRecipe(epochs=16, batch_size=4, epoch_steps=12, learning_rate=3e-3, flip=False))
    assert fitted.best["validation_dice_WT"] > 0.95
    assert fitted.best["validation_dice_ET"] > 0.9
    assert fitted.best[MONITOR] == fitted.log[MONITOR].max()
    module = build("classic_unet", n_filters=8)
    module.load_state_dict(fitted.weights)
    batch = slices[list(range(12))]
    found = to_labels(module.eval()(batch["image"]).sigmoid())
    assert (found == batch["labels"]).float().mean() > 0.98


def test_same_seed_same_weights_other_seed_other_weights(slices):
    recipe = SegmentationRecipe(epochs=2, batch_size=4, epoch_steps=3)
    first, again, other = train(slices, recipe), train(slices, recipe), train(slices, recipe, seed=1)
    assert all(torch.equal(first.weights[k], again.weights[k]) for k in first.weights)
    assert not all(torch.equal(first.weights[k], other.weights[k]) for k in first.weights)
    assert first.log.drop(columns="seconds").equals(again.log.drop(columns="seconds"))


def test_stops_when_validation_stops_improving(slices):
    fitted = train(slices, SegmentationRecipe(epochs=9, batch_size=12, epoch_steps=1, learning_rate=1e-9, patience=2))
    assert len(fitted.log) == 3


def test_loss_by_hand():
    logits = torch.zeros(1, 1, 2, 2)
    truth = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    # BCE of p = 0.5 is ln 2; soft Dice is 2 * 0.5 / (2 + 1)
    assert DiceBCE(0.0)(logits, truth).item() == pytest.approx(np.log(2), abs=1e-6)
    assert DiceBCE(1.0)(logits, truth).item() == pytest.approx(1 - 1 / 3, abs=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 10, 400])
def test_learning_rate_rises_then_falls_to_zero(steps):
    factors = [warm_cosine(step, steps) for step in range(steps)]
    assert max(factors) == pytest.approx(1)
    assert all(0 <= f <= 1 for f in factors)
    peak = factors.index(max(factors))
    assert peak == max(1, steps // 10) - 1
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert steps < 3 or factors[-1] == pytest.approx(0, abs=1e-9)


def test_labels_and_channels_are_inverse():
    labels = torch.randint(0, 4, (3, 8, 8), dtype=torch.uint8)
    assert torch.equal(to_labels(to_channels(labels, 3)), labels)


def test_every_epoch_has_its_own_order_and_every_slice_once_a_pass():
    order = BatchOrder(10, 4, seed=3, least=5)
    first = [list(b) for b in order]
    assert len(first) == len(order) == 6
    assert sorted(chain(*first[:3])) == sorted(chain(*first[3:])) == list(range(10))
    assert first[:3] != first[3:]
    assert [list(b) for b in order] == first
    order.set_epoch(1)
    assert [list(b) for b in order] != first
    assert [list(b) for b in BatchOrder(5, 2)] == [[0, 1], [2, 3], [4]]


def test_asking_for_cuda_without_one_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        choose_device(EngineSettings(device="cuda"))
    assert choose_device(EngineSettings(precision="fp32")).accelerator == "cpu"
    assert choose_device(EngineSettings(precision="bf16")).precision == "bf16-mixed"
