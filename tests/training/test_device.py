import warnings

import pytest
import torch
from squares import job, save_squares

from brain_tumor.training import device
from brain_tumor.training.device import choose_device, is_out_of_memory, layout_on
from brain_tumor.training.fit import fit
from brain_tumor.training.settings import Augmentation, EngineSettings, SegmentationRecipe


@pytest.fixture
def machine(monkeypatch):
    """Says what torch finds on a machine."""

    def have(cuda=False, mps=False, bf16=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a Tesla P4")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 1))
        monkeypatch.setattr(device.shutil, "which", lambda _: None)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(device, "computes_bf16", lambda: bf16)
        monkeypatch.setattr(device, "has_bf16_units", lambda: bf16)

    return have


@pytest.mark.parametrize(
    ("here", "settings", "found"),
    [
        ({}, {}, ("cpu", "32-true")),
        ({"bf16": True}, {}, ("cpu", "bf16-mixed")),
        ({"bf16": True}, {"precision": "fp32"}, ("cpu", "32-true")),
        ({"bf16": True}, {"precision": "bf16"}, ("cpu", "bf16-mixed")),
        ({"mps": True, "bf16": True}, {}, ("mps", "32-true")),
        ({"mps": True, "bf16": True}, {"device": "cpu"}, ("cpu", "bf16-mixed")),
        ({"mps": True}, {"devices": 2}, ("cpu", "32-true")),
        ({"mps": True, "cuda": True, "bf16": True}, {}, ("cuda", "bf16-mixed")),
        ({"mps": True, "cuda": True}, {}, ("cuda", "32-true")),
        ({"mps": True, "cuda": True}, {"device": "mps"}, ("mps", "32-true")),
        ({"mps": True, "cuda": True}, {"device": "cpu"}, ("cpu", "32-true")),
    ],
)
def test_auto_takes_the_fastest_device_in_the_precision_it_has(machine, here, settings, found):
    machine(**here)
    chosen = choose_device(EngineSettings(**settings))
    assert (chosen.accelerator, chosen.precision) == found


@pytest.mark.parametrize(
    ("here", "settings", "message"),
    [
        ({}, {"device": "cuda"}, "is 'cuda', but torch finds no CUDA device; set it to 'auto' or 'cpu'"),
        ({"cuda": True}, {"devices": 2}, "training.devices is 2, but this machine has 1 CUDA devices"),
        ({"cuda": True}, {"device": "mps"}, "is 'mps', but torch finds no Apple GPU; set it to 'auto' or 'cpu'"),
        ({"mps": True}, {"device": "mps", "devices": 2}, "training.devices is 2 and training.nodes 1; set both to 1"),
        (
            {},
            {"precision": "bf16"},
            "is 'bf16', but torch doesn't compute it on this processor .*; set it to 'auto' or 'fp32'",
        ),
        (
            {"cuda": True},
            {"precision": "bf16"},
            "is 'bf16', but a Tesla P4 doesn't compute it; set it to 'auto' or 'fp32'",
        ),
        ({"mps": True, "bf16": True}, {"precision": "bf16"}, "is 'bf16', but on 'mps' networks are trained in fp32"),
        ({"mps": True}, {"compile": True}, "training.compile is true, but on 'mps' networks aren't compiled"),
        ({}, {"compile": True, "devices": 2}, "training.compile is true, but 2 processes train together"),
        ({"cuda": True}, {"compile": True}, "training.compile is true, but a Tesla P4 is older than Triton's kernels"),
        ({}, {"compile": True}, r"there is no C\+\+ compiler here .*; set it to false"),
    ],
)
def test_what_is_not_here_is_refused(machine, here, settings, message):
    machine(**here)
    with pytest.raises(ValueError, match=message):
        choose_device(EngineSettings(**settings))


def test_bf16_is_refused_before_training_where_the_processor_has_none(machine, tmp_path):
    machine()
    with pytest.raises(ValueError, match=r"training\.precision is 'bf16'"):
        fit(job(save_squares(tmp_path), tmp_path / "made", SegmentationRecipe(), EngineSettings(precision="bf16")))
    assert not (tmp_path / "made").exists()


OLD_DRIVER = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)


@pytest.fixture
def old_driver(machine, monkeypatch):
    """What torch does with a driver that is older than its build."""
    machine()

    def warn_and_find_none():
        warnings.warn(OLD_DRIVER, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", warn_and_find_none)


def test_a_driver_too_old_is_one_line(old_driver, caplog):
    assert choose_device(EngineSettings()).accelerator == "cpu"
    (record,) = caplog.records
    assert record.getMessage() == (
        "CUDA isn't used: CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)"
    )


def test_a_driver_too_old_is_the_reason_where_cuda_is_asked_for(old_driver):
    with pytest.raises(ValueError, match=r"finds no CUDA device \(CUDA initialization: The NVIDIA driver .* too old"):
        choose_device(EngineSettings(device="cuda"))


def test_emulated_bf16_is_refused(machine, monkeypatch):
    machine(cuda=True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    with pytest.raises(ValueError, match="is 'bf16', but a Tesla P4 doesn't compute it"):
        choose_device(EngineSettings(precision="bf16"))
    assert choose_device(EngineSettings()).precision == "32-true"


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_errors_of_memory(error, memory):
    assert is_out_of_memory(error) == memory


def test_images_lie_as_the_device_wants_them():
    assert layout_on("mps") == torch.contiguous_format
    assert layout_on("cpu") == layout_on("cuda") == torch.channels_last


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_learns_on_cuda_resident_and_streamed(tmp_path, precision):
    store = save_squares(tmp_path)
    recipe = SegmentationRecipe(
        epochs=8,
        batch_size=4,
        epoch_steps=12,
        learning_rate=1e-2,
        augmentation=Augmentation(affine=0.3, intensity=0.3),
        ema_decay=0.9,
    )
    for budget in (1.0, 0.0):
        engine = EngineSettings(device="cuda", precision=precision, resident_gb=budget)
        fitted = fit(job(store, tmp_path / str(budget), recipe, engine))
        assert fitted.kept["validation_dice_WT"] > 0.9


@needs_cuda
def test_learns_on_cuda_compiled(tmp_path):
    recipe = SegmentationRecipe(epochs=8, batch_size=4, epoch_steps=12, learning_rate=1e-2, ema_decay=0.9)
    engine = EngineSettings(device="cuda", compile=True)
    fitted = fit(job(save_squares(tmp_path), tmp_path / "compiled", recipe, engine))
    assert fitted.kept["validation_dice_WT"] > 0.9


@needs_cuda
def test_too_many_cuda_devices_are_refused():
    with pytest.raises(ValueError, match="CUDA devices"):
        choose_device(EngineSettings(device="cuda", devices=torch.cuda.device_count() + 1))
