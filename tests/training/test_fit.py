from dataclasses import replace

import numpy as np
import pytest
import torch
from processor import needs_training_in_bf16
from squares import CPU, digest, job, save_squares
from torch.nn.functional import adaptive_max_pool2d

from brain_tumor.networks import build, networks_of
from brain_tumor.networks.attention import capture_attention, capture_outputs
from brain_tumor.training.batches import InMemoryRows
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.fit import MovingAverage, fit, read_fitted
from brain_tumor.training.segmentation import task as tasks
from brain_tumor.training.segmentation.task import MONITOR, SegmentationTask, to_channels, to_labels
from brain_tumor.training.settings import Augmentation, SegmentationRecipe

BUSY = Augmentation(affine=0.5, intensity=0.5)
SHORT = SegmentationRecipe(epochs=3, batch_size=4, epoch_steps=4, augmentation=BUSY, ema_decay=0.9, gradient_clip=1.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return save_squares(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("name", networks_of("segmentation"))
def test_learns_a_tiny_data_set_by_heart(store, tmp_path, name):
    made = job(
        store, tmp_path, SegmentationRecipe(epochs=16, batch_size=4, epoch_steps=12, learning_rate=1e-2), network=name
    )
    fitted = fit(made)
    assert fitted.kept["validation_dice_WT"] > 0.95
    assert fitted.kept["validation_dice_ET"] > 0.9
    assert fitted.kept[MONITOR] == fitted.log[MONITOR].max()
    module = build(name, n_filters=8)
    module.load_state_dict(fitted.weights)
    batch = InMemoryRows(made.train, torch.device("cpu"))[np.arange(12)]
    found = to_labels(module.eval()(batch["image"].float()).sigmoid())
    assert (found == batch["labels"]).float().mean() > 0.98


def test_same_seed_same_weights_other_seed_other_weights(store, tmp_path):
    first, again = (fit(job(store, tmp_path / name, SHORT)) for name in ("first", "again"))
    other = fit(job(store, tmp_path / "other", SHORT, CPU.model_copy(update={"seed": 1})))
    assert digest(first) == digest(again) != digest(other)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_streamed_is_resident_to_the_bit(store, tmp_path, workers):
    streamed = CPU.model_copy(update={"resident_gb": 0.0, "loader_workers": workers})
    assert digest(fit(job(store, tmp_path / "streamed", SHORT, streamed))) == digest(
        fit(job(store, tmp_path / "resident", SHORT))
    )


@needs_training_in_bf16
def test_clipping_works_in_bf16(store, tmp_path):
    recipe = SHORT.model_copy(update={"epochs": 1, "gradient_clip": 1e-12, "weight_decay": 1e-9, "ema_decay": 0.0})
    made = job(store, tmp_path, recipe, CPU.model_copy(update={"precision": "bf16"}))
    before = {name: value.clone() for name, value in made.task.network.state_dict().items()}
    fitted = fit(made)
    moved = max((value - before[name]).abs().max() for name, value in fitted.weights.items())
    assert moved < 1e-5  # a gradient far below AdamW's epsilon moves nothing


def test_keeps_the_best_or_the_last_epoch(store, tmp_path, monkeypatch):
    """Scores are given: which epoch of a training is its best is chance."""
    scores = iter([0.2, 0.6, 0.4])
    monkeypatch.setattr(tasks, "dice_of_confusion", lambda *_: {"WT": torch.tensor(next(scores))})
    recipe = SegmentationRecipe(epochs=3, batch_size=4, epoch_steps=2)
    made = job(store, tmp_path, recipe)
    best = fit(made)
    last = read_fitted(
        made.checkpoints.newest()[1], replace(made, recipe=recipe.model_copy(update={"checkpoint": "last"}))
    )
    assert best.log[MONITOR].tolist() == pytest.approx([0.2, 0.6, 0.4])
    assert (best.kept["epoch"], last.kept["epoch"]) == (2, 3)
    assert any(not torch.equal(value, last.weights[name]) for name, value in best.weights.items())


def test_snapshots_show_one_slice_after_each_epoch(store, tmp_path):
    fitted = fit(job(store, tmp_path, SHORT, network="attention_unet"))
    assert len(fitted.snapshots) == 3
    assert list(fitted.snapshots[0]) == ["probability", "gates.0", "gates.1", "gates.2", "gates.3"]
    assert fitted.snapshots[0]["probability"].shape == (3, 32, 32)
    assert not torch.equal(fitted.snapshots[0]["probability"], fitted.snapshots[2]["probability"])


def test_gates_learn_to_show_the_tumour_when_asked(store, tmp_path):
    recipe = SegmentationRecipe(epochs=10, batch_size=4, epoch_steps=12, learning_rate=1e-2, attention_weight=1.0)
    made = job(store, tmp_path, recipe, network="attention_unet")
    module = build("attention_unet", n_filters=8)
    module.load_state_dict(fit(made).weights)
    batch = InMemoryRows(made.train, torch.device("cpu"))[np.arange(12)]
    with torch.no_grad(), capture_attention(module.eval()) as maps:
        module(batch["image"].float())
    for name, gate in maps.items():
        tumour = adaptive_max_pool2d((batch["labels"] > 0)[:, None].float(), gate.shape[-2:]) > 0
        assert gate[tumour].mean() - gate[~tumour].mean() > 0.2, name


@pytest.mark.parametrize("name", ["classic_unet", "residual_attention_unet"])
def test_coarse_maps_learn_to_draw_the_tumour_when_asked(store, tmp_path, name):
    recipe = SegmentationRecipe(epochs=10, batch_size=4, epoch_steps=12, learning_rate=1e-2, deep_supervision=1.0)
    made = job(store, tmp_path, recipe, network=name)
    module = build(name, n_filters=8)
    module.load_state_dict(fit(made).weights)  # without the layers that draw them
    heads = {
        key: value for key, value in made.checkpoints.newest()[1]["best_weights"].items() if key.startswith("aux_heads")
    }
    made.task.load_state_dict(heads, strict=False)
    batch = InMemoryRows(made.train, torch.device("cpu"))[np.arange(12)]
    with torch.no_grad(), capture_outputs({key: module.get_submodule(key) for key in module.aux_maps}) as maps:
        module.eval()(batch["image"].float())
    assert len(maps) == len(heads) / 2
    for head, x in zip(made.task.aux_heads, maps.values(), strict=True):
        found = head(x).sigmoid().amax(1, keepdim=True)
        tumour = adaptive_max_pool2d((batch["labels"] > 0)[:, None].float(), x.shape[-2:]) > 0
        assert found[tumour].mean() - found[~tumour].mean() > 0.2


def test_coarse_masks_count_half_as_much_at_each_coarser_size(store, tmp_path):
    """Heads of zeros find every pixel with 1/2: what they add to the loss of the first batch is known."""
    losses = []
    for weight in (0.0, 0.8):
        recipe = SegmentationRecipe(
            epochs=1,
            batch_size=12,
            epoch_steps=1,
            deep_supervision=weight,
            augmentation=Augmentation(horizontal_flip=0),
        )
        made = job(store, tmp_path / str(weight), recipe)
        for head in made.task.aux_heads:
            torch.nn.init.zeros_(head.weight)
            torch.nn.init.zeros_(head.bias)
        losses.append(fit(made).log["train_loss"][0])
    truth = to_channels(InMemoryRows(made.train, torch.device("cpu"))[np.arange(12)]["labels"], 3)
    coarse = [
        made.task.loss(torch.zeros(12, 3, side, side), torch.nn.functional.avg_pool2d(truth, 32 // side))
        for side in (4, 8, 16)
    ]
    added = sum(weight * loss.item() for weight, loss in zip((0.2, 0.4, 0.8), coarse, strict=True))
    assert losses[1] - losses[0] == pytest.approx(added, rel=1e-4)


def test_a_network_that_names_no_coarse_maps_is_refused():
    with pytest.raises(ValueError, match="Conv2d names no maps for deep supervision"):
        SegmentationTask(torch.nn.Conv2d(4, 3, 1), {}, 3, SegmentationRecipe(deep_supervision=0.5), 0)


def test_stops_when_validation_stops_improving(store, tmp_path):
    fitted = fit(
        job(store, tmp_path, SegmentationRecipe(epochs=9, batch_size=12, epoch_steps=1, learning_rate=1e-9, patience=2))
    )
    assert len(fitted.log) == 3


def test_the_last_epoch_is_that_of_the_whole_schedule(store, tmp_path):
    recipe = SegmentationRecipe(
        epochs=5, batch_size=12, epoch_steps=1, learning_rate=1e-9, patience=1, checkpoint="last"
    )
    assert fit(job(store, tmp_path, recipe)).kept["epoch"] == 5


def test_finished_training_is_not_repeated(store, tmp_path, caplog):
    caplog.set_level("INFO")
    first = fit(job(store, tmp_path, SHORT))
    before = sorted(tmp_path.iterdir())
    again = fit(job(store, tmp_path, SHORT))
    assert "trained already" in caplog.text
    assert first.log.equals(again.log)
    assert digest(first) == digest(again)
    assert (
        sorted(tmp_path.iterdir())
        == before
        == [tmp_path / "epoch_00002.ckpt", tmp_path / "epoch_00003.ckpt", tmp_path / "training_log.csv"]
    )


def test_batches_too_small_to_share_are_refused(store, tmp_path):
    with pytest.raises(ValueError, match="a batch of 2 can't be shared by 3 processes; set batch_size higher"):
        fit(job(store, tmp_path, SegmentationRecipe(batch_size=2), CPU.model_copy(update={"devices": 3})))


def test_golden_loss_of_thirty_steps(store, tmp_path):
    """What thirty steps on the squares gave when this was written.

    A change that is not meant to change training must not change them.

    Between instruction sets they differ by 1e-6, which is rounding; the bound leaves room for how other versions of
    torch sum.
    """
    recipe = SegmentationRecipe(epochs=6, batch_size=4, epoch_steps=5, augmentation=BUSY)
    golden = [0.790401, 0.680204, 0.632269, 0.612499, 0.602497, 0.600653]
    assert fit(job(store, tmp_path, recipe)).log["train_loss"].tolist() == pytest.approx(golden, rel=2e-3)


def test_average_forgets_the_first_weights():
    average, batches, keep = torch.tensor(0.0), torch.tensor(0), MovingAverage(0.99)
    for count in range(1, 40):
        keep([average], [torch.tensor(1.0)], torch.tensor(count))
        keep([batches], [torch.tensor(count)], torch.tensor(count))
    assert average > 0.99
    assert batches == 39


def test_an_epoch_whose_last_update_ruins_the_weights_is_not_kept(store, tmp_path):
    """All its losses were taken before that update."""
    recipe = SegmentationRecipe(
        epochs=1, batch_size=12, epoch_steps=1, learning_rate=1e30, checkpoint="last", gradient_clip=0
    )
    with pytest.raises(ValueError, match=r"the validation loss is nan in epoch 1, .*lower the recipe's learning_rate"):
        fit(job(store, tmp_path, recipe))
    assert Checkpoints(tmp_path).newest() is None


def test_loss_that_is_not_finite_names_the_batch_and_keeps_the_checkpoint(store, tmp_path):
    recipe = SegmentationRecipe(epochs=2, batch_size=4, epoch_steps=3, augmentation=Augmentation(horizontal_flip=0))
    fit(job(store, tmp_path, recipe))
    made = job(store, tmp_path, recipe.model_copy(update={"epochs": 4}))
    forward = made.task.loss.forward
    made.task.loss.forward = lambda logits, truth: (
        forward(logits, truth) * (float("nan") if made.task.current_epoch == 2 else 1)
    )
    with pytest.raises(
        ValueError,
        match=(
            r"the loss is nan in epoch 3 on the batch of square_\d+\.h5 \(slice \d+\), .*lower the recipe's "
            r"learning_rate"
        ),
    ):
        fit(made)
    path, state = Checkpoints(tmp_path).newest()
    assert path.name == "epoch_00002.ckpt"
    assert all(value.isfinite().all() for value in state["state_dict"].values())
