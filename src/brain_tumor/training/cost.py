"""What a prediction costs: operations, and the speed on this device."""

from collections.abc import Callable, Iterable
from time import perf_counter

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.training.device import Device


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


def tabulate_cost(
    network: TrainedNetwork,
    training_log: pd.DataFrame,
    device: Device,
    *,
    gflops: dict[str, float],
    speed: dict[str, float],
) -> pd.DataFrame:
    """One row: network, parameters, GFLOPs, speed, training seconds of all folds together, device.

    Args:
        gflops: name of the column, such as `gflops_a_slice` > operations in 10^9.
        speed: name of the column, such as `slices_a_second` > that number.
    """
    about = {"network": network.experiment, "parameters": network.parameters}
    times = {"training_seconds": training_log["seconds"].sum(), "device": str(device)}
    return pd.DataFrame([about | gflops | speed | times])
