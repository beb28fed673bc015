"""Choice of the device and of the precision; no other module asks what hardware there is."""

import logging
import shutil
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._triton import has_triton

from brain_tumor.networks.cpu import computes_bf16, has_bf16_units, keep_freed_memory
from brain_tumor.training.settings import EngineSettings

logger = logging.getLogger(__name__)

Accelerator = Literal["cuda", "mps", "cpu"]


@dataclass(frozen=True)
class Device:
    """Device and precision, by the names of Lightning's arguments."""

    accelerator: Accelerator
    precision: Literal["bf16-mixed", "32-true"]

    def of(self, number: int) -> torch.device:
        """The torch device of one of several processes on this machine."""
        if self.accelerator == "cpu":
            return torch.device("cpu")
        return torch.device(self.accelerator, number)

    def autocast(self) -> torch.autocast:
        """Context in which a network computes in this precision."""
        return torch.autocast(self.accelerator, torch.bfloat16, enabled=self.precision == "bf16-mixed")

    def place(self, network: nn.Module, number: int = 0) -> nn.Module:
        """The network on one of the devices, in the layout of `layout_on`."""
        return network.to(self.of(number)).to(memory_format=layout_on(self.accelerator))  # type: ignore[call-overload]

    def place_batch(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """A batch of images on the device, in fp32 and the layout of `layout_on`."""
        return image.to(self.accelerator, torch.float32, memory_format=layout_on(self.accelerator))

    def with_memory(self) -> str:
        """Name of the device and the size of its memory, for errors."""
        if self.accelerator != "cuda":
            return f"this machine's {'Apple GPU' if self.accelerator == 'mps' else 'CPU'}"
        properties = torch.cuda.get_device_properties()
        return f"{properties.name} ({properties.total_memory / 1e9:.0f} GB)"

    def __str__(self) -> str:
        threads = torch.get_num_threads()
        plural = "s" if threads > 1 else ""
        elsewhere = {"mps": "Apple GPU", "cpu": f"CPU, {threads} thread{plural}"}
        where = elsewhere.get(self.accelerator) or torch.cuda.get_device_name()
        precision = "bf16" if self.precision == "bf16-mixed" else "fp32"
        return f"{where}, {precision}"


def layout_on(accelerator: str) -> torch.memory_format:
    """Memory format of images: channels last, which convolutions are faster with; contiguous on Apple's GPUs."""
    # On Apple's GPUs BatchNorm and convolutions of views were silently wrong with channels last (pytorch#174345,
    # #180984).
    return torch.contiguous_format if accelerator == "mps" else torch.channels_last


def choose_device(settings: EngineSettings) -> Device:
    """Device and precision of the settings, with `auto` resolved.

    Raises:
        ValueError: if there is no such device, or fewer than `devices`; if it computes no bf16 and `precision` is bf16;
            if it can't run what `compile` asks for.
    """
    accelerator = _choose_accelerator(settings)
    if settings.compile:
        _require_compiler(accelerator, settings.devices * settings.nodes)
    if accelerator == "cpu":
        # Before the first large tensor is allocated.
        keep_freed_memory()
    if settings.precision == "bf16":
        _require_bf16(accelerator)
    bf16 = settings.precision == "bf16"
    if settings.precision == "auto":
        bf16 = _is_fast_in_bf16(accelerator)
    return Device(accelerator, "bf16-mixed" if bf16 else "32-true")


def send(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device; to CUDA through pinned memory, so that the host doesn't wait."""
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the host has no more memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # torch's allocator of the host and CUDA's libraries have no class of their own.
    words = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def what_is_computed(settings: EngineSettings) -> tuple[str, int]:
    """What results depend on: the precision, and the number of processes with BatchNorm statistics of their own."""
    device = choose_device(settings)
    # On CUDA statistics are synchronised, so that the number of processes changes nothing.
    processes = settings.devices * settings.nodes if device.accelerator == "cpu" else 1
    return device.precision, processes


def _choose_accelerator(settings: EngineSettings) -> Accelerator:
    has_cuda, reason = _find_cuda()
    has_mps = torch.backends.mps.is_available()
    several = settings.devices * settings.nodes > 1
    if settings.device == "cuda" and not has_cuda:
        raise ValueError(
            f"training.device is 'cuda', but torch finds no CUDA device{reason}; set it to 'auto' or 'cpu', or "
            "install a CUDA build of torch that the driver takes"
        )
    if settings.device == "mps" and not has_mps:
        raise ValueError("training.device is 'mps', but torch finds no Apple GPU; set it to 'auto' or 'cpu'")
    if settings.device == "mps" and several:
        raise ValueError(
            f"training.device is 'mps', on which one process trains, but training.devices is {settings.devices} and "
            f"training.nodes {settings.nodes}; set both to 1, or training.device to 'cpu'"
        )
    if settings.device == "cuda" or (settings.device == "auto" and has_cuda):
        if settings.devices > torch.cuda.device_count():
            raise ValueError(
                f"training.devices is {settings.devices}, but this machine has {torch.cuda.device_count()} CUDA devices"
            )
        return "cuda"
    if settings.device == "mps" or (settings.device == "auto" and has_mps and not several):
        return "mps"
    return "cpu"


def _find_cuda() -> tuple[bool, str]:
    """Whether torch finds a CUDA device, and if a driver refuses, what torch says of it in brackets."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = torch.cuda.is_available()
    # Of several sentences over several lines the first one has the reason, such as a driver that is too old.
    reasons = [str(warning.message).split(". ")[0].split("\n")[0] for warning in caught]
    if found or not reasons:
        return found, ""
    logger.warning("CUDA isn't used: %s", reasons[0])
    return found, f" ({reasons[0]})"


def _require_compiler(accelerator: Accelerator, processes: int) -> None:
    """Refuse what `torch.compile` can't be used for here."""
    if accelerator == "mps":
        missing = "on 'mps' networks aren't compiled"
    elif processes > 1:
        missing = f"{processes} processes train together, and only the steps of one are compiled"
    elif accelerator == "cuda" and torch.cuda.get_device_capability() < (7, 0):
        missing = f"{torch.cuda.get_device_name()} is older than Triton's kernels, which begin with Volta"
    elif accelerator == "cuda" and not has_triton():
        missing = "Triton, which writes its kernels, isn't installed (pip install triton)"
    elif accelerator == "cpu" and not shutil.which("g++") and not shutil.which("clang++"):
        missing = "there is no C++ compiler here (g++ or clang++)"
    else:
        return
    raise ValueError(f"training.compile is true, but {missing}; set it to false")


def _require_bf16(accelerator: Accelerator) -> None:
    """Refuse a device that networks can't be trained on in bf16."""
    # Emulated, it is slower than fp32, and its convolutions fail on some cards.
    if accelerator == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        missing = f"{torch.cuda.get_device_name()} doesn't compute it"
    elif accelerator == "mps":
        missing = "on 'mps' networks are trained in fp32"
    elif accelerator == "cpu" and not computes_bf16():
        missing = "torch doesn't compute it on this processor (on x86 it needs AVX-512)"
    else:
        return
    raise ValueError(f"training.precision is 'bf16', but {missing}; set it to 'auto' or 'fp32'")


def _is_fast_in_bf16(accelerator: Accelerator) -> bool:
    """Whether the device computes bf16 natively."""
    # Emulated, it is slower than fp32.
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return accelerator == "cpu" and has_bf16_units()
