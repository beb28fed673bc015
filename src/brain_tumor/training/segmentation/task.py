"""What is learned: the Lightning module of each task."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from brain_tumor.data.common.store import Store
from brain_tumor.networks.attention import attention_modules, capture_attention, capture_outputs
from brain_tumor.networks.attention_unet import AttentionGate
from brain_tumor.training.batches import Batch, Rows
from brain_tumor.training.segmentation.augmentation import augment, sample_augmentation
from brain_tumor.training.segmentation.losses import DiceBCELoss, all_reduce_sum, attention_loss
from brain_tumor.training.settings import SegmentationRecipe
from brain_tumor.training.task import Task

MONITOR = "validation_dice"
"""What the best weights are chosen by: Dice averaged over the targets, each pooled over all validation slices."""


def training_rows(slices: Store, rows: np.ndarray, recipe: SegmentationRecipe) -> Rows:
    """Slices to learn from, of which an epoch sees all that show tumour and the recipe's share of the others."""
    if recipe.empty_slice_rate == 1:
        return Rows(slices, rows)
    return Rows(
        slices, rows, undersampled=slices.rows["tumour_pixels"].to_numpy()[rows] == 0, share=recipe.empty_slice_rate
    )


class SegmentationTask(Task):
    """Learn a mask of each tissue.

    Args:
        targets: name > labels that make it up, tissues first (`DataSet.targets`); validation scores each.
        tissues: number of tissues, the network's output channels.
        example: a slice that is looked at after each epoch: a snapshot holds the probabilities of the tissues and every
            attention map.
    """

    def __init__(
        self,
        network: nn.Module,
        targets: Mapping[str, Sequence[int]],
        tissues: int,
        recipe: SegmentationRecipe,
        seed: int,
        example: Float[Tensor, "m h w"] | None = None,
    ) -> None:
        super().__init__(network, recipe, seed)
        self.example = example
        self.targets, self.tissues, self.augmentation = dict(targets), tissues, recipe.augmentation
        self.attention_weight, self.deep_supervision = recipe.attention_weight, recipe.deep_supervision
        gates = {
            name: gate.score for name, gate in attention_modules(network).items() if isinstance(gate, AttentionGate)
        }
        self.gates = gates if self.attention_weight else {}
        self.loss = DiceBCELoss(recipe.dice_weight, recipe.tversky_beta, recipe.focal_gamma)
        coarse: dict[str, int] = getattr(network, "aux_maps", {}) if recipe.deep_supervision else {}
        if recipe.deep_supervision and not coarse:
            raise ValueError(
                f"{type(network).__name__} doesn't say which of its maps are coarse; give it an attribute "
                "`aux_maps`, or set deep_supervision to 0"
            )
        self.aux_modules = {name: network.get_submodule(name) for name in coarse}
        self.aux_heads = nn.ModuleList(nn.Conv2d(channels, tissues, 1) for channels in coarse.values())

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one augmented batch."""
        ranks, rank = self.trainer.world_size, self.global_rank
        chances = sample_augmentation(
            self.recipe.batch_size, batch["image"].shape[1], self.seed, self.current_epoch, index
        )
        mine = {name: value[rank::ranks] for name, value in chances.items()}
        with torch.autocast(
            self.device.type, enabled=False
        ):  # in bf16 a turned slice would be off by a quarter of a pixel
            image, labels = augment(batch["image"], batch["labels"], mine, self.augmentation)
        truth = to_channels(labels, self.tissues)
        with capture_outputs(self.gates) as maps, capture_outputs(self.aux_modules) as coarse:
            loss = self.loss(self.network(image), truth)
        if maps:
            loss = loss + self.attention_weight * attention_loss(maps, (labels > 0)[:, None].float())
        for head, name in zip(self.aux_heads, self.aux_modules, strict=True):
            x = coarse[name]
            height, width = x.shape[-2:]
            weight = self.deep_supervision * width / (truth.shape[-1] / 2)
            loss = loss + weight * self.loss(head(x), adaptive_avg_pool2d(truth, (height, width)))
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=self.recipe.batch_size)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Look at the example, start counting."""
        if self.example is not None:
            with capture_attention(self.network) as maps:
                probability = self.network(self.example[None].to(self.device)).sigmoid()
            self.snapshots.append(
                {name: value[0].half().cpu() for name, value in ({"probability": probability} | maps).items()}
            )
        self.pairs = torch.zeros((self.tissues + 1) ** 2, dtype=torch.long, device=self.device)
        self.sums = torch.zeros(5, self.tissues, device=self.device)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Add one batch to the sums that the loss is made of, and to the count of each pair of labels there and found."""
        labels = batch["labels"]
        logits = self.network(batch["image"])
        self.sums += self.loss.sums(logits, to_channels(labels, self.tissues))
        kinds = self.tissues + 1
        self.pairs += torch.bincount(
            (labels.long() * kinds + to_labels(logits.sigmoid())).flatten(), minlength=kinds**2
        )

    def on_validation_epoch_end(self) -> None:
        """Dice of each target over all validation slices; 1 where there is nothing and nothing was found."""
        self.log("validation_loss", self.loss.value(all_reduce_sum(self.sums)))
        dice = dice_of_pairs(all_reduce_sum(self.pairs).reshape(self.tissues + 1, -1), self.targets)
        self.log_dict({f"validation_dice_{name}": value for name, value in dice.items()})
        self.log(MONITOR, torch.stack(list(dice.values())).mean(), prog_bar=True)


def dice_of_pairs(pairs: Int64[Tensor, "k k"], targets: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Dice of each target from pixels counted by label there (rows) and found (columns).

    1 where there is nothing and nothing was found.
    """
    dice = {}
    for name, labels in targets.items():
        there, found = pairs[list(labels)].sum(), pairs[:, list(labels)].sum()
        both = pairs[list(labels)][:, list(labels)].sum()
        dice[name] = torch.where(there + found > 0, 2 * both / (there + found).clamp(min=1), 1.0).float()
    return dice


def to_channels(labels: UInt8[Tensor, "b h w"], tissues: int) -> Float[Tensor, "b k h w"]:
    """One channel of 0 and 1 for each tissue."""
    return torch.stack([labels == label for label in range(1, tissues + 1)], dim=1).float()


def to_labels(probability: Float[Tensor, "b k h w"]) -> UInt8[Tensor, "b h w"]:
    """The most probable tissue where any has at least 0.5, else background: tissues don't overlap."""
    highest, tissue = probability.max(dim=1)
    return torch.where(highest >= 0.5, tissue + 1, 0).to(torch.uint8)
