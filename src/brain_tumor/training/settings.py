"""Settings of training, checked before a run starts. Imports no torch."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

import numpy as np
from jaxtyping import UInt8
from pydantic import AfterValidator, BaseModel, Field

from brain_tumor.data.scans.components import remove_small_components, replace_small_volume


class EngineSettings(BaseModel, frozen=True, extra="forbid"):
    """How the machine is used.

    Only `seed` and `precision` change what is learned, and on CPUs the number of processes, where a network has
    BatchNorm.

    Attributes:
        device: "auto" is CUDA where there is one, else Apple's GPU ("mps") where one process trains, else the CPU.
        precision: "auto" is bf16 autocast where the device computes it natively, else fp32; on "mps" fp32.
        seed: of the first weights, the order of the data and the augmentation.
        resident_gb: slices are kept in the device's memory up to this size (10^9 bytes), streamed from the store above
            it.
        loader_workers: processes that read the store when it is streamed; with those of all `devices` no more than
            cores.
        devices: processes that train together on this machine, each with a share of every batch.
        nodes: machines that train together; each runs the same command.
        rendezvous: `host:port` where machines meet; the host is one of them.
        mlflow: where to track experiments, such as `sqlite:///mlflow.db`; nothing is tracked without.
    """

    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = 0
    resident_gb: float = Field(4, ge=0)
    loader_workers: int = Field(2, ge=0)
    devices: int = Field(1, ge=1)
    nodes: int = Field(1, ge=1)
    rendezvous: str | None = None
    mlflow: str | None = None


class Augmentation(BaseModel, frozen=True, extra="forbid"):
    """What is done to slices at random while training; masks stay labels.

    Attributes:
        horizontal_flip: probability to be mirrored left and right.
        affine: probability to be turned and scaled.
        rotation: degrees, at most, to either side.
        scaling: at most, as a fraction of the size.
        intensity: probability that each modality's values are stretched and shifted.
        contrast: stretch, at most, as a fraction.
        brightness: shift, at most, in standard deviations of the brain.
    """

    horizontal_flip: float = Field(0.5, ge=0, le=1)
    affine: float = Field(0.0, ge=0, le=1)
    rotation: float = Field(15.0, ge=0, le=180)
    scaling: float = Field(0.15, ge=0, lt=1)
    intensity: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.2, ge=0, lt=1)
    brightness: float = Field(0.2, ge=0)


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """How long and how fast a network learns.

    Attributes:
        epochs: at most; fewer if validation stops improving.
        epoch_steps: batches in an epoch, at least; a small data set is passed over as often as it takes.
        patience: epochs without a better validation score before training stops; where the last epoch is kept, it never
            stops early.
        batch_size: over all devices together.
        optimiser: "adam" adds its weight decay to the gradient (L2), "adamw" takes it off the weights.
        learning_rate: at its highest.
        schedule: "cosine" warms up over the first tenth and falls to 0 along a cosine, "exponential" falls by a tenth
            after each epoch, "halving" by half after each ten.
        weight_decay: of the optimiser.
        gradient_clip: largest norm of a gradient; 0 clips nothing.
        ema_decay: weights used are a moving average that keeps this share at each step; 0 uses those of the last step.
        checkpoint: the weights of the epoch that validates "best", or of the "last" one: better where few patients validate.
    """

    epochs: int = Field(20, ge=1)
    epoch_steps: int = Field(25, ge=1)
    patience: int = Field(10, ge=1)
    batch_size: int = Field(16, ge=1)
    optimiser: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["cosine", "exponential", "halving"] = "cosine"
    weight_decay: float = Field(1e-4, ge=0)
    gradient_clip: float = Field(0.0, ge=0)
    ema_decay: float = Field(0.0, ge=0, lt=1)
    checkpoint: Literal["best", "last"] = "best"


class SegmentationRecipe(Recipe, frozen=True, extra="forbid"):
    """A recipe for masks.

    Attributes:
        dice_weight: share of soft Dice in the loss; the rest is binary cross-entropy.
        tversky_beta: what a missed pixel counts against one found where there is none; 0.5 is Dice, other values a
            Tversky index.
        focal_gamma: exponent by which pixels that are right already count less in cross-entropy; 0 is plain.
        attention_weight: weight of a loss that asks each attention gate to show the whole tumour.
        deep_supervision: weight of the loss of masks that a layer of their own draws from the decoder's map of half the
            size; half of it at each coarser one. The layers are not part of the network.
        empty_slice_rate: share of the slices without tumour that a pass over the data learns from, the next ones in the
            next pass.
    """

    dice_weight: float = Field(0.5, ge=0, le=1)
    tversky_beta: float = Field(0.5, gt=0, lt=1)
    focal_gamma: float = Field(0.0, ge=0)
    attention_weight: float = Field(0.0, ge=0)
    deep_supervision: float = Field(0.0, ge=0)
    empty_slice_rate: float = Field(1.0, ge=0, le=1)
    augmentation: Augmentation = Augmentation()


class MinimumVolume(BaseModel, frozen=True, extra="forbid"):
    """How much of a tissue a patient must have, 0 for any, and which tissue a smaller amount is taken for."""

    ml: float = Field(ge=0)
    replace_with: str


class PredictionSettings(BaseModel, frozen=True, extra="forbid"):
    """How masks are made of a trained network's output.

    Attributes:
        tta_flip: each slice is also seen mirrored left and right, and the mean is taken; twice the time.
        min_component_ml: connected pieces of tumour below this volume are dropped, but for the largest; where slices make a
            volume. 0 drops none.
        min_volume: of each tissue, in a whole volume; of data sets that have both tissues.
    """

    tta_flip: bool = True
    min_component_ml: float = Field(1.0, ge=0)
    min_volume: dict[str, MinimumVolume] = {}

    def postprocess(
        self, labels: UInt8[np.ndarray, "a b c"], voxel_ml: float, tissues: Sequence[str]
    ) -> UInt8[np.ndarray, "a b c"]:
        """The labels of a volume without small pieces, and with no tissue of which there is too little.

        Args:
            tissues: names of the labels from 1 up.
        """
        labels = remove_small_components(labels, voxel_ml, self.min_component_ml)
        for tissue, minimum in self.min_volume.items():
            if tissue in tissues and minimum.replace_with in tissues:
                labels = replace_small_volume(
                    labels, voxel_ml, tissues.index(tissue) + 1, minimum.ml, tissues.index(minimum.replace_with) + 1
                )
        return labels


AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


class ExperimentSettings(BaseModel, frozen=True, extra="forbid"):
    """Which network an experiment trains.

    Attributes:
        sizes: keyword arguments of `build`.
        epochs: instead of the recipe's; so is all that follows.
    """

    network: str
    sizes: dict[str, Annotated[int | float, AfterValidator(lambda size: int(size) if size == int(size) else size)]] = {}
    epochs: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    batch_size: int | None = Field(None, ge=1)
    ema_decay: float | None = Field(None, ge=0, lt=1)

    def adapt(self, recipe: AnyRecipe) -> AnyRecipe:
        """The task's recipe with what this experiment does otherwise."""
        return type(recipe).model_validate(
            recipe.model_dump() | self.model_dump(exclude={"network", "sizes"}, exclude_none=True)
        )


class ImageAugmentation(BaseModel, frozen=True, extra="forbid"):
    """What is done to images at random while training to classify them.

    Attributes:
        horizontal_flip: probability to be mirrored left and right.
        vertical_flip: probability to be mirrored top and bottom.
        affine: probability to be turned, scaled and shifted.
        rotation: degrees, at most, to either side.
        scaling: at most, as a fraction of the size.
        shift: at most, as a fraction of the side.
        intensity: probability that contrast and brightness change.
        contrast: stretch around the middle grey, at most, as a fraction.
        brightness: factor, at most, as a fraction above or below 1.
        mixup: share of another image, at most, that is blended in, with its class (mixup).
    """

    horizontal_flip: float = Field(0.5, ge=0, le=1)
    vertical_flip: float = Field(0.0, ge=0, le=1)
    affine: float = Field(0.0, ge=0, le=1)
    rotation: float = Field(10.0, ge=0, le=180)
    scaling: float = Field(0.1, ge=0, lt=1)
    shift: float = Field(0.05, ge=0, lt=1)
    intensity: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.2, ge=0, lt=1)
    brightness: float = Field(0.2, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0, le=0.5)


class ClassificationRecipe(Recipe, frozen=True, extra="forbid"):
    """A recipe for classes.

    Attributes:
        label_smoothing: share of each label that is spread evenly over the classes.
        balanced: rare classes count as much in the loss as frequent ones.
        tta_flip: an image is also seen mirrored left and right when it is classified, and the mean is taken. Part of the
            recipe, because the temperature is
            fitted to it: a network's file says it, and classifying new images does as the file says.
    """

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    balanced: bool = False
    tta_flip: bool = False
    augmentation: ImageAugmentation = ImageAugmentation()
