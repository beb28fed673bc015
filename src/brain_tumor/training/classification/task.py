"""Lightning module of classification."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from brain_tumor.training.batches import Batch
from brain_tumor.training.classification.augmentation import augment, mixup, sample_augmentation
from brain_tumor.training.classification.normalisation import to_input
from brain_tumor.training.segmentation.losses import all_reduce_sum, create_loss
from brain_tumor.training.settings import CROSS_ENTROPY, ClassificationRecipe
from brain_tumor.training.task import Task, count_cells

MONITOR = "validation_likelihood"
"""Score of checkpoint selection: geometric mean of the probabilities of the validation images' true classes.

A proper score between 0 and 1. Accuracy has few values on a few hundred images, so epochs often tie.
"""

NAMES = ("image", "label")
"""Arrays of the store that batches hold."""


class ClassificationTask(Task):
    """Classification by softmax.

    Args:
        channels: of the network's input.
        counts: training images of each class.
    """

    weight: Tensor

    def __init__(
        self,
        network: nn.Module,
        channels: int,
        counts: Sequence[int],
        recipe: ClassificationRecipe,
        seed: int,
    ) -> None:
        super().__init__(network, recipe, seed)
        self.channels = channels
        self.num_classes = len(counts)
        self.smoothing = recipe.label_smoothing
        self.augmentation = recipe.augmentation
        weight = torch.ones(self.num_classes)
        if recipe.balanced:
            frequency = torch.tensor(counts, dtype=torch.float32) / sum(counts)
            # A class as frequent as the mean has weight 1.
            weight = 1 / (self.num_classes * frequency)
        # A buffer moves to the device with the task; checkpoints needn't hold it.
        self.register_buffer("weight", weight, persistent=False)
        self.loss: nn.Module | None = None
        if recipe.loss != CROSS_ENTROPY:
            self.loss = create_loss(recipe.loss, recipe.loss_arguments, torch.zeros(2, self.num_classes))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one augmented batch."""
        params = sample_augmentation(self.recipe.batch_size, self.seed, self.current_epoch, index)
        # Parameters of the whole batch, of which each process takes its own: the same for any number of processes.
        ranks, rank = self.trainer.world_size, self.global_rank
        local = {name: value[rank::ranks] for name, value in params.items()}
        # fp32, because coordinates in bf16 are off by up to a quarter of a pixel.
        with torch.autocast(self.device.type, enabled=False):
            image = augment(batch["image"], local, self.augmentation)
        target = self.target(batch["label"])
        image, target = mixup(image, target, local["mixup"], self.augmentation)
        logits = self.predict_in_training(to_input(image, self.channels)).float()
        loss = self._loss(logits, target)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=self.recipe.batch_size)
        return loss

    def _loss(self, logits: Float[Tensor, "b k"], target: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
        if self.loss is not None:
            return self.loss(logits, target)
        entropy = cross_entropy(logits, target, reduction="sum")
        # Divided by the sum over all processes: with class weights their parts differ.
        return all_reduce_sum(entropy) / all_reduce_sum(target.sum())

    def target(self, label: UInt8[Tensor, " b"]) -> Float[Tensor, "b k"]:
        """Smoothed one-hot target of each image, times the weight of its class."""
        label = label.long()
        hot = one_hot(label, self.num_classes)
        smoothed = (1 - self.smoothing) * hot + self.smoothing / self.num_classes
        return smoothed * self.weight[label, None]

    def on_validation_epoch_start(self) -> None:
        """Reset the counts."""
        # Flat: a cell for each pair of a true and a predicted class.
        self.confusion = torch.zeros(self.num_classes**2, dtype=torch.long, device=self.device)
        self.entropy = torch.zeros((), device=self.device)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Add one batch to the confusion matrix and the cross-entropy."""
        label = batch["label"].long()
        logits = self.network(to_input(batch["image"], self.channels)).float()
        self.entropy += cross_entropy(logits, label, reduction="sum")
        cell = label * self.num_classes + logits.argmax(1)
        self.confusion += count_cells(cell, self.num_classes**2)

    def on_validation_epoch_end(self) -> None:
        """Log the scores over all validation images."""
        confusion = all_reduce_sum(self.confusion).reshape(self.num_classes, -1)
        images = confusion.sum()
        loss = all_reduce_sum(self.entropy) / images
        self.log("validation_loss", loss)
        self.log("validation_accuracy", confusion.diag().sum() / images)
        self.log("validation_macro_f1", macro_f1(confusion))
        self.log(MONITOR, (-loss).exp(), prog_bar=True)


def macro_f1(confusion: Int64[Tensor, "k k"]) -> Float[Tensor, ""]:
    """F1 averaged over the classes, from images by true class (rows) and predicted class (columns)."""
    correct = confusion.diag()
    # A class that is neither there nor predicted counts as 0.
    total = (confusion.sum(0) + confusion.sum(1)).clamp(min=1)
    return (2 * correct / total).float().mean()
