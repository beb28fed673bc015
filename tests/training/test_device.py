import pytest
import torch
from squares import job, save_squares

from brain_tumor.training.device import choose_device
from brain_tumor.training.fit import fit
from brain_tumor.training.settings import Augmentation, EngineSettings, SegmentationRecipe


def test_asking_for_cuda_without_one_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        choose_device(EngineSettings(device="cuda"))
    assert choose_device(EngineSettings(precision="fp32")).accelerator == "cpu"
    assert choose_device(EngineSettings(precision="bf16")).precision == "bf16-mixed"


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_learns_on_cuda_resident_and_streamed(tmp_path, precision):
    store = save_squares(tmp_path)
    recipe = SegmentationRecipe(epochs=8, batch_size=4, epoch_steps=12, learning_rate=1e-2, augmentation=Augmentation(warp=0.3, intensity=0.3), ema=0.9)
    for budget in (1.0, 0.0):
        engine = EngineSettings(device="cuda", precision=precision, resident_gb=budget)
        fitted = fit(job(store, tmp_path / str(budget), recipe, engine))
        assert fitted.kept["validation_dice_WT"] > 0.9


@needs_cuda
def test_too_many_cuda_devices_are_refused():
    with pytest.raises(ValueError, match="CUDA devices"):
        choose_device(EngineSettings(device="cuda", devices=torch.cuda.device_count() + 1))
