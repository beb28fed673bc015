"""Base class of the Lightning modules: input layout, gradient clipping, optimiser and learning rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from jaxtyping import Int64
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from brain_tumor.networks.library import create, find_class
from brain_tumor.training.batches import Batch
from brain_tumor.training.device import layout_on
from brain_tumor.training.settings import Recipe


@dataclass(frozen=True)
class FineTuning:
    """How pretrained layers are trained.

    Attributes:
        names: of the network's parameters that are pretrained; other names don't count.
        rate: their learning rate, as a fraction of that of the others.
        frozen_epochs: first epochs in which it is 0.
    """

    names: frozenset[str]
    rate: float = 1.0
    frozen_epochs: int = 0


class Task(LightningModule):
    """A network with the optimiser of a recipe.

    Args:
        seed: of the augmentation.

    Attributes:
        snapshots: tensors of each epoch for figures, kept in checkpoints.
        fine_tuning: of a network with pretrained layers.
    """

    fine_tuning: FineTuning | None = None

    def __init__(self, network: nn.Module, recipe: Recipe, seed: int) -> None:
        super().__init__()
        self.network, self.recipe, self.seed = network, recipe, seed
        self.snapshots: list[dict[str, Tensor]] = []
        self._compiled: Callable[[Tensor], Tensor] | None = None

    def compile_network(self) -> None:
        """Compile the network for training steps; validation and prediction use it as it is."""
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        self._compiled = torch.compile(self.network.forward, mode=mode, dynamic=False)

    def predict_in_training(self, image: Tensor) -> Tensor:
        """Logits of a training step, by the compiled network if there is one."""
        if self._compiled is None:
            return self.network(image)
        # The maps of the step before may be overwritten from here on.
        torch.compiler.cudagraph_mark_step_begin()
        return self._compiled(image)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """The batch with images in fp32, in the memory format of the device."""
        # Stores hold fp16 or bytes, half or a quarter of the memory of fp32.
        image = batch["image"].float().contiguous(memory_format=layout_on(self.device.type))
        return batch | {"image": image}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the norm of the gradient."""
        # Not by Lightning, which refuses to clip with a fused optimiser, for reasons of fp16.
        if self.recipe.gradient_clip:
            nn.utils.clip_grad_norm_(self.parameters(), self.recipe.gradient_clip)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The recipe's optimiser and learning rate schedule."""
        recipe = self.recipe
        optimiser = make_optimiser(self._group_parameters(), recipe)
        steps = int(self.trainer.estimated_stepping_batches)
        epoch = steps // recipe.epochs
        factor = {
            "cosine": lambda step: warm_cosine(step, steps),
            "exponential": lambda step: 0.9 ** (step // epoch),
            "halving": lambda step: 0.5 ** (step // epoch // 10),
        }[recipe.schedule]
        factors = [factor]
        if self.fine_tuning:
            factors.append(partial(start_late, factor=factor, frozen=epoch * self.fine_tuning.frozen_epochs))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factors)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _group_parameters(self) -> list[dict[str, Any]]:
        """The parameters, those of pretrained layers in a group of their own with its learning rate."""
        if not self.fine_tuning:
            return [{"params": list(self.parameters())}]
        pretrained: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            chosen = pretrained if name.removeprefix("network.") in self.fine_tuning.names else others
            chosen.append(parameter)
        rate = self.recipe.learning_rate * self.fine_tuning.rate
        # The log shows the rate of the first group.
        return [{"params": others}, {"params": pretrained, "lr": rate}]


def make_optimiser(parameters: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser.

    Raises:
        ImportError: if the package of its class isn't installed.
        ValueError: if there is no such class, it refuses its arguments, or has no weight decay for the recipe's.
    """
    own = {"adamw": "torch.optim.AdamW", "adam": "torch.optim.Adam"}
    name = own.get(recipe.optimiser, recipe.optimiser)
    given: dict[str, Any] = {"lr": recipe.learning_rate} | recipe.optimiser_arguments
    if recipe.optimiser in own:
        given["fused"] = True
    # Where it isn't given, a class has a default of its own, which need not be 0.
    if "weight_decay" in signature(find_class(name, torch.optim.Optimizer, "optimiser")).parameters:
        given["weight_decay"] = recipe.weight_decay
    elif recipe.weight_decay:
        raise ValueError(f"{name} has no weight decay; set the recipe's weight_decay to 0")
    return create(name, torch.optim.Optimizer, "optimiser", parameters, **given)


def start_late(step: int, factor: Callable[[int], float], frozen: int) -> float:
    """Factor of a learning rate that is 0 in the first steps; weight decay is scaled by it too."""
    # Not by switching gradients off: the layers that several processes average are chosen once, at the start.
    return factor(step) if step >= frozen else 0.0


def count_cells(cell: Int64[Tensor, "..."], cells: int) -> Int64[Tensor, " {cells}"]:
    """How often each number below `cells` occurs; exact, and on GPUs without the host waiting for the result.

    Args:
        cells: a few; a GPU reads the numbers once for each.
    """
    cell = cell.flatten()
    if cell.device.type == "cpu":
        return torch.bincount(cell, minlength=cells)
    # `bincount` reads the largest number on the host.
    numbers = torch.arange(cells, device=cell.device)
    return (cell == numbers[:, None]).sum(1)


def warm_cosine(step: int, steps: int) -> float:
    """Factor of the learning rate: linear warm-up to 1 in the first tenth of the steps, then a cosine to 0."""
    warm = max(1, steps // 10)
    # The first step has a rate above 0, and the last one of the warm-up the peak.
    if step < warm:
        return (step + 1) / warm
    angle = math.pi * (step - warm + 1) / max(1, steps - warm)
    return 0.5 * (1 + math.cos(angle))
