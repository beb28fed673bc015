"""Base class of the Lightning modules: input layout, gradient clipping, optimiser and learning rate."""

import math

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from brain_tumor.training.batches import Batch
from brain_tumor.training.device import layout_on
from brain_tumor.training.settings import Recipe


class Task(LightningModule):
    """A network with the optimiser of a recipe.

    Args:
        seed: of the augmentation.

    Attributes:
        snapshots: tensors of each epoch for figures, kept in checkpoints.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, seed: int) -> None:
        super().__init__()
        self.network, self.recipe, self.seed = network, recipe, seed
        self.snapshots: list[dict[str, Tensor]] = []

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
        optimiser_class = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[recipe.optimiser]
        optimiser = optimiser_class(
            self.parameters(),
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        steps = int(self.trainer.estimated_stepping_batches)
        epoch = steps // recipe.epochs
        factor = {
            "cosine": lambda step: warm_cosine(step, steps),
            "exponential": lambda step: 0.9 ** (step // epoch),
            "halving": lambda step: 0.5 ** (step // epoch // 10),
        }[recipe.schedule]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def warm_cosine(step: int, steps: int) -> float:
    """Factor of the learning rate: linear warm-up to 1 in the first tenth of the steps, then a cosine to 0."""
    warm = max(1, steps // 10)
    # The first step has a rate above 0, and the last one of the warm-up the peak.
    if step < warm:
        return (step + 1) / warm
    angle = math.pi * (step - warm + 1) / max(1, steps - warm)
    return 0.5 * (1 + math.cos(angle))
