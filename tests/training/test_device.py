import pytest
import torch

from brain_tumor.training.device import choose_device
from brain_tumor.training.settings import EngineSettings


def test_asking_for_cuda_without_one_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        choose_device(EngineSettings(device="cuda"))
    assert choose_device(EngineSettings(precision="fp32")).accelerator == "cpu"
    assert choose_device(EngineSettings(precision="bf16")).precision == "bf16-mixed"
