"""Learning to tell classes of images apart.

The Lightning module, and what is done to images before a network sees them.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from brain_tumor.training.batches import Batch
from brain_tumor.training.classification.augmentation import augment, blend, sample_augmentation
from brain_tumor.training.device import layout_on
from brain_tumor.training.segmentation.losses import all_reduce_sum
from brain_tumor.training.settings import ClassificationRecipe
from brain_tumor.training.task import Task

MONITOR = "validation_likelihood"
"""What the best weights are chosen by.

The geometric mean of the probability that each validation image's class is given.

Accuracy takes few values on a few hundred images; this is a proper score, between 0 and 1, that tells epochs of one
accuracy apart.
"""

NAMES = ("image", "label")
"""Arrays of the store to learn from."""

MIDDLE, SPREAD = 64.0, 64.0
"""Grey levels that become 0 and the unit of a network's input; near the mean and the deviation of a cut-out head."""


def to_input(grey: Float[Tensor, "b 1 h w"], channels: int) -> Float[Tensor, "b c h w"]:
    """Grey levels from 0 to 255 as a network wants them, the same in each of its channels."""
    return ((grey - MIDDLE) / SPREAD).expand(-1, channels, -1, -1).contiguous(memory_format=layout_on(grey.device.type))


class ClassificationTask(Task):
    """Learn the class of an image.

    Args:
        channels: of the network's input.
        counts: training images of each class.
    """

    weight: Tensor

    def __init__(
        self, network: nn.Module, channels: int, counts: Sequence[int], recipe: ClassificationRecipe, seed: int
    ) -> None:
        super().__init__(network, recipe, seed)
        self.channels, self.kinds, self.smoothing, self.augmentation = (
            channels,
            len(counts),
            recipe.label_smoothing,
            recipe.augmentation,
        )
        frequency = torch.tensor(counts, dtype=torch.float32) / sum(counts)
        weight = 1 / (len(counts) * frequency) if recipe.balanced else torch.ones(len(counts))
        self.register_buffer("weight", weight, persistent=False)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one augmented batch."""
        ranks, rank = self.trainer.world_size, self.global_rank
        chances = sample_augmentation(self.recipe.batch_size, self.seed, self.current_epoch, index)
        mine = {name: value[rank::ranks] for name, value in chances.items()}
        with torch.autocast(
            self.device.type, enabled=False
        ):  # in bf16 places would be off by up to a quarter of a pixel
            image = augment(batch["image"], mine, self.augmentation)
        image, truth = blend(image, self.truth(batch["label"]), mine["mixup"], self.augmentation)
        entropy = cross_entropy(self.network(to_input(image, self.channels)).float(), truth, reduction="sum")
        loss = all_reduce_sum(entropy) / all_reduce_sum(truth.sum())
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=self.recipe.batch_size)
        return loss

    def truth(self, label: UInt8[Tensor, " b"]) -> Float[Tensor, "b k"]:
        """Probability of each class as it should be, smoothed, times the weight of the image's class."""
        return ((1 - self.smoothing) * one_hot(label.long(), self.kinds) + self.smoothing / self.kinds) * self.weight[
            label.long(), None
        ]

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        self.pairs = torch.zeros(self.kinds**2, dtype=torch.long, device=self.device)
        self.entropy = torch.zeros((), device=self.device)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Count each pair of classes there and found, and add up the cross-entropy."""
        label = batch["label"].long()
        logits = self.network(to_input(batch["image"], self.channels)).float()
        self.entropy += cross_entropy(logits, label, reduction="sum")
        self.pairs += torch.bincount(label * self.kinds + logits.argmax(1), minlength=self.kinds**2)

    def on_validation_epoch_end(self) -> None:
        """Scores over all validation images."""
        pairs = all_reduce_sum(self.pairs).reshape(self.kinds, -1)
        loss = all_reduce_sum(self.entropy) / pairs.sum()
        self.log_dict(
            {
                "validation_loss": loss,
                "validation_accuracy": pairs.diag().sum() / pairs.sum(),
                "validation_macro_f1": macro_f1(pairs),
            }
        )
        self.log(MONITOR, (-loss).exp(), prog_bar=True)


def macro_f1(pairs: Int64[Tensor, "k k"]) -> Float[Tensor, ""]:
    """Mean over the classes of F1, from images counted by class there (rows) and found (columns)."""
    hit = pairs.diag()
    return (2 * hit / (pairs.sum(0) + pairs.sum(1)).clamp(min=1)).float().mean()
