"""What a prediction costs: operations, and the speed on this device."""

from collections.abc import Callable, Iterable
from time import perf_counter

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_gflops(module: nn.Module, *shape: int) -> float:
    """Operations of a forward pass, in 10^9; exact.

    Args:
        shape: of the input.
    """
    # With gradients: without them torch takes an attention kernel that the counter doesn't know.
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(*shape))
    return counter.get_total_flops() / 1e9


def measure_seconds(predict: Callable[[], Iterable[object]]) -> float:
    """Seconds of a prediction, batch by batch; the fastest of three: the first also compiles and fills caches."""
    seconds = []
    for _ in range(3):
        start = perf_counter()
        for _ in predict():
            pass
        seconds.append(perf_counter() - start)
    return min(seconds)
