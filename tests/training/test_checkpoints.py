import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from squares import CPU, digest, job, save_squares

import brain_tumor
from brain_tumor.training.checkpoints import Checkpoints, code_fingerprint
from brain_tumor.training.fit import fit
from brain_tumor.training.settings import Augmentation, SegmentationRecipe

RECIPE = SegmentationRecipe(
    epochs=5, batch_size=4, epoch_steps=4, augmentation=Augmentation(affine=0.5, intensity=0.5), ema_decay=0.9
)
SQUARES = Path(__file__).parents[1] / "squares.py"

# Kills its own process at the n-th call of a function, half-way through a write where it writes.
KILLER = """
import os, runpy, signal, sys
import brain_tumor.training.checkpoints as checkpoints, torch
from brain_tumor.training.segmentation.task import SegmentationTask
where, when = sys.argv.pop(1), int(sys.argv.pop(1))
calls = 0
def deadly(function):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == when:
            if where == "write":
                open(sys.argv[2] + "/.draft", "wb").write(b"half a checkpoint")
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call
if where == "write":
    torch.save = deadly(torch.save)
if where == "rename":
    os.replace = deadly(os.replace)
if where == "step":
    SegmentationTask.training_step = deadly(SegmentationTask.training_step)
if where == "validation":
    SegmentationTask.validation_step = deadly(SegmentationTask.validation_step)
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return save_squares(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def uninterrupted(store, tmp_path_factory):
    return digest(fit(job(store, tmp_path_factory.mktemp("whole"), RECIPE)))


@pytest.mark.parametrize(("where", "when"), [("step", 2), ("step", 11), ("validation", 3), ("write", 3), ("rename", 4)])
def test_killed_anywhere_it_ends_in_the_same_weights(store, uninterrupted, tmp_path, where, when):
    arguments = [str(SQUARES), str(store.path), str(tmp_path), RECIPE.model_dump_json(), CPU.model_dump_json()]
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, where, str(when), *arguments], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert len(list(tmp_path.glob("epoch_*.ckpt"))) == min(2, max(0, {"step": (when - 1) // 4}.get(where, when - 1)))
    fitted = fit(job(store, tmp_path, RECIPE))
    assert fitted.log["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert digest(fitted) == uninterrupted
    assert not list(tmp_path.glob(".draft"))


def test_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(store, uninterrupted, tmp_path, caplog):
    fit(job(store, tmp_path, RECIPE))
    last = tmp_path / "epoch_00005.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 0xFF  # one byte of the weights
    last.write_bytes(content)
    fitted = fit(job(store, tmp_path, RECIPE))
    assert "epoch_00005.ckpt can't be read" in caplog.text
    assert (tmp_path / "epoch_00005.damaged").exists()
    assert digest(fitted) == uninterrupted


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short"])
def test_unreadable_checkpoints_alone_start_anew(tmp_path, content):
    (tmp_path / "epoch_00001.ckpt").write_bytes(content)
    assert Checkpoints(tmp_path).newest() is None


def test_other_code_has_another_state(monkeypatch, tmp_path):
    for folder in ("networks", "training", "reporting"):
        shutil.copytree(Path(brain_tumor.__file__).parent / folder, tmp_path / folder)
    monkeypatch.setattr(brain_tumor, "__file__", str(tmp_path / "__init__.py"))
    before = code_fingerprint()
    (tmp_path / "reporting/interactive_plot.py").write_text("", encoding="utf-8")
    assert code_fingerprint() == before
    for name in ("networks/cnn.py", "training/segmentation/losses.py"):
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write("# another line\n")
        before, last = code_fingerprint(), before
        assert before != last
    monkeypatch.setattr("brain_tumor.training.checkpoints.version", lambda _: "0.0")
    assert code_fingerprint() != before
