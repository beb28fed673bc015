import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from squares import CPU, assert_gradients_agree, gradient_of_a_step, job, save_squares
from support import sees_processes, wait_until

from brain_tumor.training.fit import fit
from brain_tumor.training.settings import Augmentation, SegmentationRecipe

RECIPE = SegmentationRecipe(
    epochs=2,
    batch_size=4,
    epoch_steps=4,
    augmentation=Augmentation(affine=0.5, intensity=0.5),
    gradient_clip=1.0,
    deep_supervision=0.5,
)
TWO = CPU.model_copy(update={"devices": 2})
ENGINES = {"one": CPU, "two": TWO}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return save_squares(tmp_path_factory.mktemp("store"), count=11)


def test_two_processes_agree_with_one(store, tmp_path):
    """The gradient of a whole batch, taken in two parts; then the losses of eight steps."""
    step = RECIPE.model_copy(update={"epochs": 1, "epoch_steps": 1, "batch_size": 11})
    gradients = {
        name: gradient_of_a_step(job(store, tmp_path / name, step, engine)) for name, engine in ENGINES.items()
    }
    assert_gradients_agree(gradients["one"], gradients["two"])
    one, two = (fit(job(store, tmp_path / f"{name}_more", RECIPE, engine)) for name, engine in ENGINES.items())
    assert_logs_agree(one, two)


@sees_processes
def test_failure_in_one_process_is_told_and_leaves_none_behind(store, tmp_path):
    made = job(store, tmp_path, RECIPE.model_copy(update={"learning_rate": 1e30}), TWO)
    with pytest.raises(
        RuntimeError,
        match=r"training stopped in process \d: .*the loss is (nan|inf) in epoch 1 on the batch of square_",
    ):
        fit(made)
    assert _children(os.getpid()) == []


@sees_processes
def test_killed_parent_leaves_no_process_behind(store, tmp_path):
    program = Path(__file__).parents[1] / "squares.py"
    recipe = RECIPE.model_copy(update={"epochs": 500, "patience": 500})
    command = [
        sys.executable,
        str(program),
        str(store.path),
        str(tmp_path),
        recipe.model_dump_json(),
        TWO.model_dump_json(),
    ]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: list(tmp_path.glob("epoch_*.ckpt")))
        children = _children(parent.pid)
        assert len(children) >= 2
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not any(_alive(child) for child in children))


def test_two_machines_train_together_and_one_goes_on(store, tmp_path):
    """Two programs that meet at an address, as on two machines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        engine = CPU.model_copy(update={"nodes": 2, "rendezvous": f"127.0.0.1:{free.getsockname()[1]}"})
    program = Path(__file__).parents[1] / "squares.py"
    command = [
        sys.executable,
        str(program),
        str(store.path),
        str(tmp_path / "both"),
        RECIPE.model_dump_json(),
        engine.model_dump_json(),
    ]
    machines = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    results = [machine.communicate(timeout=240) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], results
    assert sorted(bool(output) for output, _ in results) == [False, True]
    two, one = fit(job(store, tmp_path / "both", RECIPE)), fit(job(store, tmp_path / "one", RECIPE))
    assert_logs_agree(one, two)


def assert_logs_agree(one, two):
    """Of few steps of Adam, which divides by the gradient's size.

    A weight whose gradient is rounding may go either way.

    The loss has next to nothing of such weights. Dice has steps: a pixel more or less of 1,600 of tumour is 3e-4.
    """
    assert one.log["epoch"].tolist() == two.log["epoch"].tolist()
    for name in one.log.columns.drop(["epoch", "seconds"]):
        bound = 0.01 if "dice" in name else 1e-3
        assert one.log[name].to_numpy() == pytest.approx(two.log[name].to_numpy(), abs=bound), name


def _children(pid: int) -> list[int]:
    text = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for child in text.split() if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


def _alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
