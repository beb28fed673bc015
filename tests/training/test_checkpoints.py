import logging
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from squares import CPU, digest, job, save_squares

import brain_tumor
from brain_tumor import code_digest
from brain_tumor.data.common.words import list_names
from brain_tumor.networks import NETWORKS
from brain_tumor.training.checkpoints import Checkpoints, describe_code, describe_training
from brain_tumor.training.fit import fit
from brain_tumor.training.settings import Augmentation, EngineSettings, SegmentationRecipe

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


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the code, to change; digests of the real one are forgotten."""
    copy = shutil.copytree(Path(brain_tumor.__file__).parent, tmp_path / "brain_tumor")
    monkeypatch.setattr(brain_tumor, "__file__", str(copy / "__init__.py"))
    forget()
    yield copy
    forget()


def forget():
    for cached in (
        code_digest._imports,
        code_digest._find,
        code_digest._parse,
        code_digest._digest_tree,
        code_digest._reach,
    ):
        cached.cache_clear()


def changed(package, file, text, network="classic_unet", task="segmentation"):
    """Names of the code that another line in a file changes for a network."""
    before = describe_code(network, task)
    with (package / file).open("a", encoding="utf-8") as content:
        content.write(text)
    forget()
    now = describe_code(network, task)
    return [name for name in before | now if before.get(name) != now.get(name)]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("networks/classic_unet.py", "# a comment\n"),
        ("networks/vit.py", "x = 1\n"),  # a network of the other task
        ("networks/attention_unet.py", "x = 1\n"),  # another network of the same
        ("networks/__init__.py", "NETWORKS['mine'] = ('segmentation', 'Mine')\n"),
        ("reporting/page.py", "x = 1\n"),
        ("training/classification/task.py", "x = 1\n"),
        ("__init__.py", "__version__ = '9.9.9'\n"),
    ],
)
def test_code_of_others_does_not_count(package, file, text):
    assert changed(package, file, text) == []


@pytest.mark.parametrize(
    ("file", "network", "task"),
    [
        ("networks/classic_unet.py", "classic_unet", "segmentation"),
        ("networks/blocks.py", "classic_unet", "segmentation"),
        ("training/segmentation/losses.py", "classic_unet", "segmentation"),
        ("training/fit.py", "cnn", "classification"),
        ("networks/vit.py", "vit", "classification"),
    ],
)
def test_code_that_decides_the_weights_counts(package, file, network, task):
    module = "brain_tumor." + file.removesuffix(".py").replace("/", ".")
    assert changed(package, file, "x = 1\n", network, task) == [module]


@pytest.mark.parametrize(("text", "trained_anew"), [("# a comment\n", []), ("FACTOR = 2\n", ["vit"])])
def test_a_change_of_a_network_s_file_trains_that_network_alone_and_a_comment_none(package, text, trained_anew):
    before = {name: describe_code(name, task) for name, (task, _) in NETWORKS.items()}
    with (package / "networks/vit.py").open("a", encoding="utf-8") as content:
        content.write(text)
    forget()
    assert [name for name, (task, _) in NETWORKS.items() if describe_code(name, task) != before[name]] == trained_anew


DYNUNET = "monai.networks.nets.DynUNet"


@pytest.mark.parametrize(
    ("file", "network", "counts"),
    [
        ("networks/library.py", "classic_unet", False),
        ("networks/adapted.py", "classic_unet", False),
        ("training/start.py", "classic_unet", False),
        ("networks/unet.py", DYNUNET, False),
        ("networks/library.py", DYNUNET, True),
        ("networks/adapted.py", DYNUNET, True),
        ("networks/classic_unet.py", DYNUNET, False),
    ],
)
def test_what_libraries_need_counts_for_their_networks_alone(package, file, network, counts):
    module = "brain_tumor." + file.removesuffix(".py").replace("/", ".")
    assert changed(package, file, "x = 1\n", network) == ([module] if counts else [])


def test_the_version_of_a_library_and_the_code_of_an_own_package_count(monkeypatch, tmp_path):
    assert describe_code(DYNUNET, "segmentation")["monai"] == version("monai")
    (tmp_path / "my_net.py").write_text("class Net: ...\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = describe_code("my_net.Net", "segmentation")["my_net"]
    (tmp_path / "my_net.py").write_text("class Net:\n    size = 3\n", encoding="utf-8")
    forget()
    assert describe_code("my_net.Net", "segmentation")["my_net"] != before
    sys.modules.pop("my_net")


def test_code_of_a_loss_counts(monkeypatch, tmp_path):
    def of(loss):
        recipe = SegmentationRecipe(loss=loss)
        return describe_training("segmentation", "classic_unet", {}, recipe, EngineSettings(device="cpu"))

    assert of("monai.losses.DiceLoss")["monai"] == version("monai")
    (tmp_path / "my_loss.py").write_text("class Loss: ...\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = of("my_loss.Loss")["my_loss"]
    (tmp_path / "my_loss.py").write_text("class Loss:\n    weight = 3\n", encoding="utf-8")
    forget()
    assert of("my_loss.Loss")["my_loss"] != before
    sys.modules.pop("my_loss")


def test_another_torch_counts(monkeypatch):
    before = describe_code("cnn", "classification")
    monkeypatch.setattr("brain_tumor.training.checkpoints.version", lambda _: "0.0")
    assert describe_code("cnn", "classification") == before | {"torch": "0.0"}


def test_a_line_says_what_differs_from_the_training_before(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path / "cnn" / "checkpoints")
    caplog.set_level(logging.INFO)
    checkpoints.open({"seed": "0", "recipe.epochs": "3", "fold": "1 of 2"})
    checkpoints.open({"seed": "0", "recipe.epochs": "3", "fold": "2 of 2"})
    checkpoints.open({"seed": "0", "recipe.epochs": "3", "fold": "1 of 2"})
    assert caplog.text == ""
    checkpoints.open({"seed": "0", "recipe.epochs": "4", "fold": "1 of 2"})
    assert "cnn: trained before with other recipe.epochs; training anew, the earlier checkpoints stay in" in caplog.text
    assert list_names(list("abcdef"), 4) == "a, b, c, d and 2 more"
