"""Lightning module of segmentation."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from brain_tumor.data.common.store import Store
from brain_tumor.networks.attention import attention_modules, capture_attention, capture_outputs
from brain_tumor.networks.attention_unet import AttentionGate
from brain_tumor.training.batches import Batch, Rows
from brain_tumor.training.segmentation.augmentation import augment, sample_augmentation
from brain_tumor.training.segmentation.labels import to_channels, to_labels
from brain_tumor.training.segmentation.losses import DiceBCELoss, LibraryLoss, all_reduce_sum, attention_loss
from brain_tumor.training.settings import DICE_BCE, SegmentationRecipe
from brain_tumor.training.task import Task, count_cells

MONITOR = "validation_dice"
"""Score of checkpoint selection: Dice pooled over all validation slices, averaged over the targets."""


def training_rows(slices: Store, rows: np.ndarray, recipe: SegmentationRecipe) -> Rows:
    """Training slices, with those without tumour sampled at the recipe's `empty_slice_rate`."""
    if recipe.empty_slice_rate == 1:
        return Rows(slices, rows)
    empty = slices.rows["tumour_pixels"].to_numpy()[rows] == 0
    return Rows(slices, rows, undersampled=empty, rate=recipe.empty_slice_rate)


class SegmentationTask(Task):
    """Segmentation of each tissue by independent sigmoids.

    Args:
        targets: name > its labels, tissues first (`DataSet.targets`); validation scores each.
        tissues: number of tissues, the network's output channels.
        example: a slice whose probabilities and attention maps are stored after each epoch, as a snapshot.
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
        self.targets = dict(targets)
        self.tissues = tissues
        self.augmentation = recipe.augmentation
        self.attention_weight = recipe.attention_weight
        self.deep_supervision = recipe.deep_supervision
        # The logits of gates, at half the size of their maps.
        self.gates: dict[str, nn.Module] = {}
        if self.attention_weight:
            for name, module in attention_modules(network).items():
                if isinstance(module, AttentionGate):
                    self.gates[name] = module.score
        self.loss: DiceBCELoss | LibraryLoss
        if recipe.loss == DICE_BCE:
            self.loss = DiceBCELoss(recipe.dice_weight, recipe.tversky_beta, recipe.focal_gamma)
        else:
            self.loss = LibraryLoss(recipe.loss, recipe.loss_arguments, tissues)
        aux_maps: dict[str, int] = {}
        if recipe.deep_supervision:
            aux_maps = getattr(network, "aux_maps", {})
        if recipe.deep_supervision and not aux_maps:
            raise ValueError(
                f"{type(network).__name__} names no maps for deep supervision; give it an attribute "
                "`aux_maps`, or set deep_supervision to 0"
            )
        self.aux_modules = {name: network.get_submodule(name) for name in aux_maps}
        # Beside the network, not in it: its file holds nothing that prediction doesn't need.
        heads = [nn.Conv2d(channels, tissues, 1) for channels in aux_maps.values()]
        self.aux_heads = nn.ModuleList(heads)

    def compile_network(self) -> None:
        """Compile the network for training steps.

        Raises:
            ValueError: if the loss needs maps from inside the network, which a compiled one doesn't hand out.
        """
        needed = "attention_weight" if self.gates else "deep_supervision" if self.aux_modules else ""
        if needed:
            raise ValueError(
                f"training.compile is true, but the recipe's {needed} needs maps from inside the network, which a "
                f"compiled one doesn't give; set training.compile to false or {needed} to 0"
            )
        super().compile_network()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one augmented batch."""
        image, labels = self._augment(batch, index)
        truth = to_channels(labels, self.tissues)
        with capture_outputs(self.gates) as maps, capture_outputs(self.aux_modules) as aux_maps:
            loss = self.loss(self.predict_in_training(image), truth)
        if maps:
            tumour = (labels > 0)[:, None].float()
            loss = loss + self.attention_weight * attention_loss(maps, tumour)
        for head, name in zip(self.aux_heads, self.aux_modules, strict=True):
            aux_map = aux_maps[name]
            height, width = aux_map.shape[-2:]
            # deep_supervision for half the size of the mask, half of it for each halving.
            weight = self.deep_supervision * width / (truth.shape[-1] / 2)
            small_truth = adaptive_avg_pool2d(truth, (height, width))
            loss = loss + weight * self.loss(head(aux_map), small_truth)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=self.recipe.batch_size)
        return loss

    def _augment(self, batch: Batch, index: int) -> tuple[Tensor, Tensor]:
        modalities = batch["image"].shape[1]
        params = sample_augmentation(self.recipe.batch_size, modalities, self.seed, self.current_epoch, index)
        # Parameters of the whole batch, of which each process takes its own: the same for any number of processes.
        ranks, rank = self.trainer.world_size, self.global_rank
        local = {name: value[rank::ranks] for name, value in params.items()}
        # fp32, because coordinates in bf16 are off by a quarter of a pixel.
        with torch.autocast(self.device.type, enabled=False):
            return augment(batch["image"], batch["labels"], local, self.augmentation)

    def on_validation_epoch_start(self) -> None:
        """Take a snapshot of the example, and reset the counts."""
        if self.example is not None:
            batch = self.example[None].to(self.device)
            with capture_attention(self.network) as maps:
                probability = self.network(batch).sigmoid()
            shown = {"probability": probability} | maps
            snapshot = {name: value[0].half().cpu() for name, value in shown.items()}
            self.snapshots.append(snapshot)
        num_labels = self.tissues + 1
        # Flat: a cell for each pair of a true and a predicted label, background included.
        self.confusion = torch.zeros(num_labels**2, dtype=torch.long, device=self.device)
        self.sums = torch.zeros(self.loss.PARTS, self.tissues, device=self.device)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Add one batch to the sums of the loss and to the confusion matrix."""
        labels = batch["labels"]
        logits = self.network(batch["image"])
        truth = to_channels(labels, self.tissues)
        self.sums += self.loss.sums(logits, truth)
        num_labels = self.tissues + 1
        cell = labels.long() * num_labels + to_labels(logits.sigmoid())
        self.confusion += count_cells(cell, num_labels**2)

    def on_validation_epoch_end(self) -> None:
        """Log the loss and the Dice of each target, pooled over all validation slices."""
        sums = all_reduce_sum(self.sums)
        self.log("validation_loss", self.loss.value(sums))
        confusion = all_reduce_sum(self.confusion).reshape(self.tissues + 1, -1)
        dice = dice_of_confusion(confusion, self.targets)
        named = {f"validation_dice_{name}": value for name, value in dice.items()}
        self.log_dict(named)
        mean = torch.stack(list(dice.values())).mean()
        self.log(MONITOR, mean, prog_bar=True)


def dice_of_confusion(
    confusion: Int64[Tensor, "k k"],
    targets: Mapping[str, Sequence[int]],
) -> dict[str, Tensor]:
    """Dice of each target; 1 where both masks are empty.

    Args:
        confusion: pixels by true label (rows) and predicted label (columns).
    """
    dice = {}
    for name, labels in targets.items():
        own = list(labels)
        # Of all labels of the target together, because a pixel of another tissue of the target is right.
        true = confusion[own].sum()
        predicted = confusion[:, own].sum()
        overlap = confusion[own][:, own].sum()
        total = true + predicted
        ratio = 2 * overlap / total.clamp(min=1)
        dice[name] = torch.where(total > 0, ratio, 1.0).float()
    return dice
