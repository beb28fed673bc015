"""How fast networks are trained and used on a device, against other ways, and what holds the rest.

Shares are of what the device reached in the same run: a large bf16 matrix product, and a copy.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gpu_cases import MODALITIES, TISSUES, Case
from gpu_ways import Engineer, Ours, Plain, Setting, Steps, Stopwatch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from brain_tumor.data.scans.slice_geometry import SliceGeometry
from brain_tumor.training.device import Device
from brain_tumor.training.segmentation.prediction import segment_volume

IDLE = 0.2
"""Share of the time without a kernel from which on the device isn't what holds the rest."""


@dataclass(frozen=True)
class Ceilings:
    """What the device reached: bf16 operations a second, bytes a second, seconds of the host for a launch."""

    matrix: float
    copy: float
    launch: float


def measure_ceilings(device: torch.device, side: int, size: int) -> Ceilings:
    """The best of several, after a first one.

    Args:
        side: of the square matrices.
        size: bytes of what is copied.
    """
    watch = Stopwatch(device)

    def best(work: Any) -> float:
        seconds = []
        for _ in range(8):
            watch.start()
            work()
            seconds.append(watch.stop())
        return min(seconds)

    a = torch.randn(side, side, device=device).bfloat16()
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    small = torch.zeros(1, device=device)
    launches = 500

    def launch() -> None:
        for _ in range(launches):
            small.add_(1)

    # A copy reads and writes.
    return Ceilings(
        matrix=2 * side**3 / best(lambda: a @ a),
        copy=2 * size / best(lambda: target.copy_(source)),
        launch=best(launch) / launches,
    )


class ByteCounter(TorchDispatchMode):
    """While open, bytes of all inputs and outputs of operators, views apart: what they move through memory at least."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operator."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def count_work(setting: Setting) -> tuple[int, int]:
    """Operations of matrix products and convolutions of a training step, and bytes that its operators move."""
    steps = Steps(setting)
    batch = steps.rows[next(iter(steps.order))]
    steps.step(batch)
    with FlopCounterMode(display=False) as operations, ByteCounter() as moved:
        steps.step(batch)
    return operations.get_total_flops(), moved.bytes


def basic_unet(case: Case) -> tuple[nn.Module, int]:
    """MONAI's BasicUNet with about as many parameters as the case's network, and its first features."""
    from monai.networks.nets import BasicUNet

    def make(first: int) -> nn.Module:
        features = (first, first, 2 * first, 4 * first, 8 * first, first)
        return BasicUNet(spatial_dims=2, in_channels=MODALITIES, out_channels=TISSUES, features=features)

    wanted = _parameters(case.build())

    def distance(first: int) -> int:
        with torch.device("meta"):
            return abs(_parameters(make(first)) - wanted)

    first = min(range(4, 100, 4), key=distance)
    return make(first), first


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@dataclass
class Measured:
    """A way, the seconds of its epochs, and its peak memory."""

    way: Any
    seconds: list[float]
    own: int
    peak: int = 0


def measure_ways(setting: Setting, rounds: int, *, compiled: bool, with_basic_unet: bool) -> dict[str, Any]:
    """Slices a second of all ways, by turns, medians; overhead of the loop; peak memory; idle share and its reason.

    Args:
        compiled: whether the good engineer's network is compiled.
    """
    case, ways = setting.case, {}
    # The workers of the plain way are forked before there are threads.
    makers = {
        "plain": lambda: Plain(setting),
        "engineer": lambda: Engineer(setting, compiled=compiled),
        "steps": lambda: Steps(setting),
        "ours": lambda: Ours(setting, rounds + 2),
    }
    if with_basic_unet:
        makers["basic_unet"] = lambda: Engineer(setting, basic_unet(case)[0], compiled=compiled)
    try:
        for name, make in makers.items():
            before = _allocated(setting.here)
            way = make()
            ways[name] = Measured(way, [], _allocated(setting.here) - before)
            # The first epoch warms up, and compiles.
            _run(ways[name], setting.here)
        for _ in range(rounds):
            for measured in ways.values():
                measured.seconds.append(_run(measured, setting.here))
        ours = ways["ours"].way
        found = _rates(setting, ways)
        found |= explain_rest(ways["steps"].way.run_profiled(), statistics.median(ways["ours"].seconds))
        found["waits"] = ours.run_counting_waits() if setting.here.type == "cuda" else ""
    finally:
        for measured in ways.values():
            measured.way.close()
        # Else networks of the same class would be recompiled up to a limit, and run as they are from there on.
        torch.compiler.reset()
    return found


def _run(measured: Measured, device: torch.device) -> float:
    before = _allocated(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = measured.way.run()
    if device.type == "cuda":
        beyond = torch.cuda.max_memory_allocated() - before
        measured.own = max(measured.own, 0)
        measured.peak = max(measured.peak, measured.own + beyond)
    return seconds


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated() if device.type == "cuda" else 0


def _rates(setting: Setting, ways: dict[str, Measured]) -> dict[str, Any]:
    slices = setting.steps * setting.case.batch
    median = {name: statistics.median(measured.seconds) for name, measured in ways.items()}
    found: dict[str, Any] = {}
    for name in ("ours", "plain", "engineer", "basic_unet", "steps"):
        found[f"{name} /s"] = slices / median[name] if name in median else ""
    for other in ("plain", "engineer", "basic_unet"):
        found[f"x {other}"] = median[other] / median["ours"] if other in median else ""
    found["overhead"] = 1 - median["steps"] / median["ours"]
    found["step ms"] = 1000 * median["ours"] / setting.steps
    if setting.here.type == "cuda":
        found |= {f"{name} GB": ways[name].peak / 1e9 for name in ("ours", "engineer")}
    return found


def shares(setting: Setting, found: dict[str, Any], ceilings: Ceilings) -> dict[str, Any]:
    """Shares of the two ceilings that a training step reaches, and what holds the rest."""
    operations, moved = count_work(setting)
    seconds = found["step ms"] / 1000
    of_matrix, of_copy = operations / seconds / ceilings.matrix, moved / seconds / ceilings.copy
    added: dict[str, Any] = {"of matrix": of_matrix, "of copy": of_copy}
    if setting.here.type == "cuda":
        kernels = found["kernels"] / setting.steps
        added["held by"] = name_holder(found["idle"], kernels * ceilings.launch / seconds, of_matrix, of_copy)
    return added


def name_holder(idle: float, launching: float, of_matrix: float, of_copy: float) -> str:
    """What a faster step would have to change: launches, host, memory or matrix units.

    Args:
        idle: share of the time without a kernel.
        launching: share of the time that the host takes to launch as many empty kernels.
    """
    if idle > IDLE:
        return "launches" if launching > 0.5 else "host"
    return "memory" if of_copy > of_matrix else "matrix units"


def explain_rest(profiled: profile, seconds: float) -> dict[str, Any]:
    """Kernels of an epoch, share of its time without one, and what takes most of the time.

    Kernels take as long in the project's loop as in steps alone, which are profiled.

    Args:
        seconds: of an epoch without the profiler.
    """
    events = [event for event in profiled.events() if event.device_type == DeviceType.CUDA]
    if not events:
        return {"busiest": _busiest({item.key: item.self_cpu_time_total for item in profiled.key_averages()})}
    busy = union((event.time_range.start, event.time_range.end) for event in events) / 1e6
    times: dict[str, float] = {}
    for event in events:
        times[event.name] = times.get(event.name, 0) + event.time_range.elapsed_us()
    return {"kernels": len(events), "idle": max(0.0, 1 - busy / seconds), "busiest": _busiest(times)}


def _busiest(times: dict[str, float]) -> str:
    name = max(times, key=lambda key: times[key])
    return f"{name[:40]} {times[name] / sum(times.values()):.0%}"


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals: kernels of several streams may overlap."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(intervals):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def measure_augmentation(setting: Setting, rounds: int, full: dict[str, float]) -> dict[str, Any]:
    """A step with the full-size recipe's augmentation against one with flips only.

    Args:
        full: settings of `Augmentation`.
    """
    ways = {"flips": Ours(setting, rounds + 1), "full": Ours(setting, rounds + 1, augmentation=full)}
    try:
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                took = way.run()
                seconds[name] += [took] if number else []
    finally:
        for way in ways.values():
            way.close()
    flips, augmented = (statistics.median(values) / setting.steps * 1000 for values in seconds.values())
    return {"flips ms": flips, "full ms": augmented, "x": augmented / flips}


def measure_prediction(case: Case, device: Device, depth: int, rounds: int) -> dict[str, Any]:
    """Seconds from the arrays of a patient to labels, mirror image included.

    Args:
        depth: slices of the patient.
    """
    rng = np.random.default_rng(0)
    across = np.linspace(-1, 1, case.pixels)
    brain = np.hypot(*np.meshgrid(across, across)) < 0.9
    volume = rng.normal(100, 20, (MODALITIES, case.pixels, case.pixels, depth)).astype(np.float32)
    volume *= brain[..., None]
    network, watch = case.build().eval(), Stopwatch(device.of(0))
    geometry = SliceGeometry(case.pixels, (1.0, 1.0), window=(case.pixels, case.pixels))
    seconds = []
    for _ in range(rounds + 1):
        watch.start()
        labels, _ = segment_volume(network, volume, (1.0, 1.0, 1.0), geometry, device, tta_flip=True)
        seconds.append(watch.stop())
    assert labels.shape == volume.shape[1:]
    median = statistics.median(seconds[1:])
    return {"seconds": median, "slices /s": depth / median}
