import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import lightning
import numpy as np
import pytest
import torch
from processor import needs_training_in_bf16
from squares import CPU, digest, job, save_squares
from torch.nn.functional import adaptive_max_pool2d
from torch.utils._python_dispatch import TorchDispatchMode

from brain_tumor.networks import build, networks_of
from brain_tumor.networks.attention import capture_attention, capture_outputs
from brain_tumor.training.batches import InMemoryRows
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.fit import FiniteLoss, MovingAverage, fit, has_finite_weights, read_fitted
from brain_tumor.training.segmentation import task as tasks
from brain_tumor.training.segmentation.labels import to_channels, to_labels
from brain_tumor.training.segmentation.task import MONITOR, SegmentationTask
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
    network = torch.nn.BatchNorm1d(2)
    torch.nn.init.zeros_(network.weight)
    average = MovingAverage(network, 0.99)
    torch.nn.init.ones_(network.weight)
    for _ in range(40):
        average.update_parameters(network)
        network.num_batches_tracked += 1
    assert (average.module.weight > 0.99).all()
    assert average.module.num_batches_tracked == 39
    assert average.n_averaged == 40


def test_average_is_that_of_its_formula():
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(size=6).astype(np.float32))
    network = torch.nn.Linear(1, 1, bias=False)
    average, expected = MovingAverage(network, 0.3), values[0].item()
    for step, value in enumerate(values):
        torch.nn.init.constant_(network.weight, value.item())
        average.update_parameters(network)
        keep = min(0.3, (1 + step) / (10 + step)) if step else 0
        expected = keep * expected + (1 - keep) * value.item()
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)


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


def test_of_losses_read_together_the_first_that_is_not_finite_is_named(store):
    made = job(store, store.path.parent, SHORT)
    check = FiniteLoss(made.train, every=3)
    trainer = MagicMock(spec=lightning.Trainer, current_epoch=4)

    def end_batch(loss: float, row: int) -> None:
        check.on_train_batch_end(trainer, made.task, {"loss": torch.tensor(loss)}, {"row": torch.tensor([row])}, 0)

    for row, loss in enumerate([0.5, 0.4, 0.3, 0.2, float("inf")]):
        end_batch(loss, row)
    with pytest.raises(ValueError, match=r"the loss is inf in epoch 5 on the batch of square_4\.h5 \(slice 4\);"):
        end_batch(float("nan"), 5)
    check = FiniteLoss(check.rows, every=3)
    end_batch(float("nan"), 7)
    with pytest.raises(ValueError, match=r"the loss is nan in epoch 5 on the batch of square_7\.h5"):
        check.on_validation_start(trainer, made.task)


def test_weights_that_validation_does_not_see_are_checked_too(store, tmp_path):
    """A head of deep supervision that its last update ruins leaves all losses of the epoch finite."""
    recipe = SegmentationRecipe(epochs=2, batch_size=12, epoch_steps=1, deep_supervision=1.0)
    fit(job(store, tmp_path, recipe.model_copy(update={"epochs": 1})))
    made = job(store, tmp_path, recipe)
    end = made.task.on_validation_epoch_end

    def ruin_then_end() -> None:
        with torch.no_grad():
            made.task.aux_heads[0].weight[0] = float("nan")
        end()

    made.task.on_validation_epoch_end = ruin_then_end
    with pytest.raises(ValueError, match=r"weights are not finite in epoch 2, .*The last good checkpoint is kept"):
        fit(made)
    assert Checkpoints(tmp_path).newest()[0].name == "epoch_00001.ckpt"
    assert not has_finite_weights(made.task)


class Reads(TorchDispatchMode):
    """Notes operators after which the host waits for what a GPU computed."""

    WAITING = ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "_unique2", "equal", "linalg_inv_ex")

    def __init__(self):
        super().__init__()
        self.found, self.on = [], False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if self.on and name in self.WAITING:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("network", ["classic_unet", "residual_attention_unet"])
def test_a_step_reads_nothing_from_the_device(store, tmp_path, network, monkeypatch):
    """But the losses, now and then. The counter of averages is on the host."""
    made, reads = job(store, tmp_path, SHORT.model_copy(update={"epochs": 1}), network=network), Reads()
    made.task.on_train_batch_start = lambda *_: setattr(reads, "on", True)
    made.task.on_train_batch_end = lambda *_: setattr(reads, "on", False)
    monkeypatch.setattr(FiniteLoss, "_read", lambda *_: None)
    counter = MovingAverage.update_parameters

    def update(average, network):
        assert average.n_averaged.device.type == "cpu"
        reads.on = False
        counter(average, network)
        reads.on = True

    monkeypatch.setattr(MovingAverage, "update_parameters", update)
    with reads:
        fit(made)
    assert reads.found == []


def test_a_read_in_a_step_is_found():
    with (reads := Reads()):
        reads.on = True
        torch.ones(2).nonzero()
        torch.ones(1).item()
    assert reads.found == ["nonzero", "_local_scalar_dense"]


def out_of_cuda_memory(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def out_of_host_memory(*_):
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried")


@pytest.mark.parametrize("fail", [out_of_cuda_memory, out_of_host_memory])
def test_memory_that_runs_out_ends_in_two_lines_and_keeps_the_checkpoint(store, tmp_path, fail):
    folder = tmp_path / "classic_unet" / "checkpoints" / "noise"
    recipe = SegmentationRecipe(epochs=2, batch_size=4, epoch_steps=1)
    fit(job(store, folder, recipe.model_copy(update={"epochs": 1})))
    made = job(store, folder, recipe)
    made.task.network.forward = fail
    words = (
        "classic_unet: memory ran out on this machine's CPU with batch_size 4 and training.resident_gb 4 "
        "(the slices take 0.0 GB);\nset the recipe's batch_size lower, or training.resident_gb to 0"
    )
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        fit(made)
    assert len(str(caught.value).splitlines()) == 2
    assert Checkpoints(folder).newest()[0].name == "epoch_00001.ckpt"


def test_another_runtime_error_is_left_as_it_is(store, tmp_path):
    made = job(store, tmp_path, SHORT)

    def fail(*_):
        raise RuntimeError("a fault of the program")

    made.task.network.forward = fail
    with pytest.raises(RuntimeError, match="a fault of the program"):
        fit(made)


CAPTURE = """
import sys, tempfile, warnings
from pathlib import Path

import torch
from squares import CPU, digest, job, save_squares

from brain_tumor.training.fit import fit
from brain_tumor.training.settings import SegmentationRecipe

compiler = torch.compile


def capture(function, mode, dynamic):
    print(mode, dynamic)
    return compiler(function, backend="eager", fullgraph=True, dynamic=dynamic)


warnings.simplefilter("error")
warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")
torch.compile = capture
recipe = SegmentationRecipe(epochs=1, batch_size=4, epoch_steps=2, ema_decay=0.9)
with tempfile.TemporaryDirectory() as folder:
    store = save_squares(Path(folder))
    for compiled in (True, False):
        engine = CPU.model_copy(update={"compile": compiled})
        print(digest(fit(job(store, Path(folder) / str(compiled), recipe, engine))))
"""


def test_a_compiled_network_trains_to_the_same_weights():
    """Its graph is captured whole, but run as it is: no C++ is written.

    In a process whose annotations aren't checked, because these checks can't be captured.
    """
    command = [sys.executable, "-c", CAPTURE]
    tests = Path(__file__).parents[1]
    lines = subprocess.run(command, cwd=tests, check=True, capture_output=True, text=True).stdout.split("\n")
    asked, compiled, plain, _ = lines
    assert asked == "default False"
    assert compiled == plain


@pytest.mark.parametrize("name", ["attention_weight", "deep_supervision"])
def test_maps_from_inside_a_compiled_network_are_refused(store, tmp_path, name):
    recipe = SegmentationRecipe(**{name: 0.5})
    made = job(store, tmp_path, recipe, CPU.model_copy(update={"compile": True}), network="attention_unet")
    with pytest.raises(ValueError, match=f"the recipe's {name} needs maps .*set training.compile to false or {name}"):
        fit(made)
