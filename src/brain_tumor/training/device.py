"""Where to compute, and in which precision: the only place that asks what the machine has."""

import ctypes
import platform
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brain_tumor.training.settings import EngineSettings


@dataclass(frozen=True)
class Device:
    """A resolved choice, in the words of Lightning: `accelerator` and `precision`."""

    accelerator: Literal["cuda", "cpu"]
    precision: Literal["bf16-mixed", "32-true"]

    def of(self, number: int) -> torch.device:
        """The device of one of several processes on this machine."""
        return torch.device("cuda", number) if self.accelerator == "cuda" else torch.device("cpu")

    def autocast(self) -> torch.autocast:
        """The context in which a network computes in this precision."""
        return torch.autocast(self.accelerator, torch.bfloat16, enabled=self.precision == "bf16-mixed")

    def place(self, network: nn.Module, number: int = 0) -> nn.Module:
        """The network moved to one of the devices here, with channels last in memory: the layout that fast convolutions want."""
        return network.to(self.of(number)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def place_batch(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """A batch of images moved here, in the layout of `place`."""
        return image.to(self.accelerator, torch.float32, memory_format=torch.channels_last)

    def __str__(self) -> str:
        where = torch.cuda.get_device_name() if self.accelerator == "cuda" else f"CPU, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
        return f"{where}, {'bf16' if self.precision == 'bf16-mixed' else 'fp32'}"


def choose_device(settings: EngineSettings) -> Device:
    """What `auto` means here.

    Raises:
        ValueError: if CUDA is asked for and there is none, or fewer devices than asked for.
    """
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise ValueError("training.device is 'cuda', but torch finds no CUDA device; set it to 'auto' or 'cpu', or install a CUDA build of torch")
    accelerator: Literal["cuda", "cpu"] = "cuda" if has_cuda and settings.device != "cpu" else "cpu"
    if accelerator == "cuda" and settings.devices > torch.cuda.device_count():
        raise ValueError(f"training.devices is {settings.devices}, but this machine has {torch.cuda.device_count()} CUDA devices")
    if accelerator == "cpu":
        _keep_freed_memory()
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and _has_bf16(accelerator))
    return Device(accelerator, "bf16-mixed" if bf16 else "32-true")


def what_is_computed(settings: EngineSettings) -> tuple[str, int]:
    """The precision, and how many processes share a batch where each takes its own statistics of BatchNorm: what results of training depend on."""
    device = choose_device(settings)
    return device.precision, settings.devices * settings.nodes if device.accelerator == "cpu" else 1


def _keep_freed_memory() -> None:
    """Have the C library keep what is freed: it would give large blocks back and fetch them anew, page by page, in every step."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: free memory at the end of the heap stays


def _has_bf16(accelerator: str) -> bool:
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()  # emulated bf16 is slower than fp32
