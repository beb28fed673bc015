"""What is learned: the Lightning module of each task."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, UInt8
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from brain_tumor.training.augment import augment, draw_chances
from brain_tumor.training.batches import Batch
from brain_tumor.training.losses import DiceBCE, over_processes
from brain_tumor.training.settings import SegmentationRecipe

MONITOR = "validation_dice"
"""What the best weights are chosen by: Dice averaged over the targets, each pooled over all validation slices."""


class SegmentationTask(LightningModule):
    """Learn a mask of each tissue.

    Args:
        targets: name > labels that make it up, tissues first (`DataSet.targets`); validation scores each.
        tissues: number of tissues, the network's output channels.
    """

    def __init__(self, network: nn.Module, targets: Mapping[str, Sequence[int]], tissues: int, recipe: SegmentationRecipe, seed: int) -> None:
        super().__init__()
        self.network, self.targets, self.tissues, self.recipe, self.seed = network, dict(targets), tissues, recipe, seed
        self.loss = DiceBCE(recipe.dice_weight)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Images as networks want them: fp32, channels last in memory."""
        return batch | {"image": batch["image"].float().contiguous(memory_format=torch.channels_last)}

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one augmented batch."""
        ranks, rank = self.trainer.world_size, self.global_rank
        chances = draw_chances(self.recipe.batch_size, batch["image"].shape[1], self.seed, self.current_epoch, index)
        mine = {name: value[rank::ranks] for name, value in chances.items()}
        image, labels = augment(batch["image"], batch["labels"], mine, self.recipe.augmentation)
        loss = self.loss(self.network(image), to_channels(labels, self.tissues))
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=self.recipe.batch_size)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        self.counts = torch.zeros(len(self.targets), 3, dtype=torch.float64, device=self.device)
        self.sums = torch.zeros(5, self.tissues, device=self.device)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Add one batch to the sums that the loss is made of, and to true positives, positives predicted and positives there."""
        labels = batch["labels"]
        logits = self.network(batch["image"])
        self.sums += self.loss.sums(logits, to_channels(labels, self.tissues))
        predicted = to_labels(logits.sigmoid())
        for k, parts in enumerate(self.targets.values()):
            here, there = torch.isin(predicted, _tensor(parts, predicted)), torch.isin(labels, _tensor(parts, labels))
            self.counts[k] += torch.stack([(here & there).sum(), here.sum(), there.sum()])

    def on_validation_epoch_end(self) -> None:
        """Dice of each target over all validation slices; 1 where there is nothing and nothing was found."""
        self.log("validation_loss", self.loss.value(over_processes(self.sums)))
        hits, here, there = over_processes(self.counts).unbind(1)
        dice = torch.where(here + there > 0, 2 * hits / (here + there).clamp(min=1), 1.0)
        self.log_dict({f"validation_dice_{name}": value for name, value in zip(self.targets, dice, strict=True)})
        self.log(MONITOR, dice.mean(), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; the rate warms up over the first tenth and falls along a cosine."""
        recipe = self.recipe
        optimiser = torch.optim.AdamW(self.network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: warm_cosine(step, steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def warm_cosine(step: int, steps: int) -> float:
    """Factor of the learning rate: rises to 1 over the first tenth of the steps, then falls to 0 along a cosine."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm + 1) / max(1, steps - warm)))


def _tensor(parts: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(parts, dtype=like.dtype, device=like.device)


def to_channels(labels: UInt8[Tensor, "b h w"], tissues: int) -> Float[Tensor, "b k h w"]:
    """One channel of 0 and 1 for each tissue."""
    return torch.stack([labels == label for label in range(1, tissues + 1)], dim=1).float()


def to_labels(probability: Float[Tensor, "b k h w"]) -> UInt8[Tensor, "b h w"]:
    """The most probable tissue where any has at least 0.5, else background: tissues don't overlap."""
    highest, tissue = probability.max(dim=1)
    return torch.where(highest >= 0.5, tissue + 1, 0).to(torch.uint8)
