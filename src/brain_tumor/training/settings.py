"""Settings of training, checked before a run starts. Imports no torch."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from jaxtyping import UInt8
from pydantic import AfterValidator, BaseModel, Field, model_validator

from brain_tumor.data.scans.components import remove_small_components, replace_small_volume
from brain_tumor.networks import NETWORKS
from brain_tumor.networks.library import is_library

DICE_BCE, CROSS_ENTROPY = "dice_bce", "cross_entropy"
"""The losses of the project."""

LIBRARY_PRIOR = 0.01
"""`output_prior` of a library's network: that of Lin et al. 2017; a tissue has 0.005 to 0.017 of the pixels of slices
with tumour (BraTS 2020)."""


def _require_name(name: str, names: Sequence[str], example: str) -> str:
    """A name of the project's own, or the path of a class."""
    if name in names or "." in name:
        return name
    raise ValueError(f"must be {' or '.join(names)}, or the path of a class, such as {example}; got {name!r}")


def _named(*names: str, example: str) -> AfterValidator:
    return AfterValidator(partial(_require_name, names=names, example=example))


Optimiser = Annotated[str, _named("adamw", "adam", example="torch.optim.NAdam")]
SegmentationLoss = Annotated[str, _named(DICE_BCE, example="monai.losses.DiceFocalLoss")]
ClassificationLoss = Annotated[str, _named(CROSS_ENTROPY, example="monai.losses.FocalLoss")]


def _to_integer(size: Any) -> Any:
    # The command line gives 16 as 16.0, which torch refuses as a number of channels.
    if isinstance(size, float) and size.is_integer():
        return int(size)
    if isinstance(size, list | tuple):
        return [_to_integer(value) for value in size]
    if isinstance(size, dict):
        return {name: _to_integer(value) for name, value in size.items()}
    return size


Size = Annotated[Any, AfterValidator(_to_integer)]


GIVEN = {
    "lr": "set the recipe's learning_rate",
    "weight_decay": "set the recipe's weight_decay",
    "fused": "it is on for adam and adamw, off for others",
}
"""Arguments of optimisers that the recipe or the project gives > what to do instead."""


def _refuse_given(arguments: dict[str, Any]) -> dict[str, Any]:
    for name in arguments:
        if name in GIVEN:
            raise ValueError(f"can't have {name}; {GIVEN[name]}")
    return arguments


class EngineSettings(BaseModel, frozen=True, extra="forbid"):
    """Devices, precision and processes.

    Results depend on `seed` and `precision` only, and on CPUs on the number of processes where a network has BatchNorm.

    Attributes:
        device: "auto" is CUDA where there is one, else Apple's GPU ("mps") where one process trains, else the CPU.
        precision: "auto" is bf16 autocast where the device computes it natively, else fp32; on "mps" fp32.
        seed: of the initial weights, the order of the data and the augmentation.
        resident_gb: size (10^9 bytes) up to which slices are kept in the device's memory; above, they are streamed.
        loader_workers: processes that read a streamed store, for all `devices` no more than cores.
        compile: compile the network's training steps with `torch.compile`, on CUDA into CUDA graphs. In one process,
            without `attention_weight` and `deep_supervision`.
        devices: training processes on this machine (data parallel).
        nodes: machines that train together; each runs the same command.
        rendezvous: `host:port` of one of the machines, for several `nodes`.
        mlflow: tracking URI, such as `sqlite:///mlflow.db`; no tracking without.
    """

    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = 0
    resident_gb: float = Field(4, ge=0)
    loader_workers: int = Field(2, ge=0)
    compile: bool = False
    devices: int = Field(1, ge=1)
    nodes: int = Field(1, ge=1)
    rendezvous: str | None = None
    mlflow: str | None = None


class Augmentation(BaseModel, frozen=True, extra="forbid"):
    """Random augmentation of training slices and their masks.

    Attributes:
        horizontal_flip: probability of a left-right flip.
        affine: probability of rotation and scaling.
        rotation: largest angle, in degrees.
        scaling: largest change of size, as a fraction.
        intensity: probability of a change of intensity, of each modality by itself.
        contrast: largest change of scale, as a fraction.
        brightness: largest offset, in standard deviations of the brain.
        modality_dropout: probability that one modality, each as likely, is 0 everywhere.
    """

    horizontal_flip: float = Field(0.5, ge=0, le=1)
    affine: float = Field(0.0, ge=0, le=1)
    rotation: float = Field(15.0, ge=0, le=180)
    scaling: float = Field(0.15, ge=0, lt=1)
    intensity: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.2, ge=0, lt=1)
    brightness: float = Field(0.2, ge=0)
    modality_dropout: float = Field(0.0, ge=0, le=1)


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """Training hyperparameters.

    Attributes:
        epochs: largest number of epochs.
        epoch_steps: smallest number of batches in an epoch; a small data set is passed over several times.
        patience: epochs without a better validation score before early stopping, with `checkpoint: best` only.
        batch_size: over all devices together.
        optimiser: "adam" adds its weight decay to the gradient (L2), "adamw" takes it off the weights; or the path of a
            class, such as `torch.optim.NAdam`.
        optimiser_arguments: of that class, besides learning rate and weight decay (0 for one that has none).
        learning_rate: peak learning rate.
        schedule: "cosine" warms up over the first tenth and falls to 0 along a cosine, "exponential" falls by a tenth
            after each epoch, "halving" by half after each ten.
        weight_decay: of the optimiser.
        gradient_clip: largest norm of the gradient; 0 is no clipping.
        ema_decay: decay of the exponential moving average of the weights; 0 is no average.
        checkpoint: epoch whose weights are used, the "best" in validation or the "last"; the last is better with few
            validation patients.
    """

    epochs: int = Field(20, ge=1)
    epoch_steps: int = Field(25, ge=1)
    patience: int = Field(10, ge=1)
    batch_size: int = Field(16, ge=1)
    optimiser: Optimiser = "adamw"
    optimiser_arguments: Annotated[dict[str, Size], AfterValidator(_refuse_given)] = {}
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["cosine", "exponential", "halving"] = "cosine"
    weight_decay: float = Field(1e-4, ge=0)
    gradient_clip: float = Field(0.0, ge=0)
    ema_decay: float = Field(0.0, ge=0, lt=1)
    checkpoint: Literal["best", "last"] = "best"


class SegmentationRecipe(Recipe, frozen=True, extra="forbid"):
    """Hyperparameters of segmentation.

    Attributes:
        loss: "dice_bce", or the path of a class that is called with logits and masks (b, tissues, h, w), such as
            `monai.losses.DiceFocalLoss`. `dice_weight`, `tversky_beta` and `focal_gamma` are of dice_bce.
        loss_arguments: of that class.
        dice_weight: weight of soft Dice in the loss; the rest is binary cross-entropy.
        tversky_beta: weight of false negatives against false positives; 0.5 is Dice, other values a Tversky index.
        focal_gamma: exponent of focal loss; 0 is cross-entropy.
        attention_weight: weight of a loss between each attention gate and the whole tumour.
        deep_supervision: weight of the loss of the decoder's output at half the size; half of it at each smaller size.
            The heads aren't part of the network.
        empty_slice_rate: fraction of the tumour-free slices that an epoch samples, in rotation.
        output_prior: probability of each tissue in each pixel that the bias of the output layer starts at; 0 leaves the
            bias as the network has it, None is 0.01 for a library's network and 0 for the project's.
    """

    loss: SegmentationLoss = DICE_BCE
    loss_arguments: dict[str, Size] = {}
    dice_weight: float = Field(0.5, ge=0, le=1)
    tversky_beta: float = Field(0.5, gt=0, lt=1)
    focal_gamma: float = Field(0.0, ge=0)
    attention_weight: float = Field(0.0, ge=0)
    deep_supervision: float = Field(0.0, ge=0)
    empty_slice_rate: float = Field(1.0, ge=0, le=1)
    output_prior: float | None = Field(None, ge=0, lt=1)
    augmentation: Augmentation = Augmentation()


def list_classes(recipe: Any) -> list[str]:
    """Paths of the classes of libraries that a recipe names."""
    named = (getattr(recipe, setting, "") for setting in ("loss", "optimiser"))
    return [name for name in named if "." in name]


class MinimumVolume(BaseModel, frozen=True, extra="forbid"):
    """Minimum volume of a tissue in a patient (ml), and the tissue that a smaller volume is relabelled as."""

    ml: float = Field(ge=0)
    replace_with: str


class PredictionSettings(BaseModel, frozen=True, extra="forbid"):
    """Test-time augmentation and postprocessing of masks.

    Attributes:
        tta_flip: average the probabilities of a slice and its left-right mirror image; twice the time.
        min_component_ml: smallest volume of a connected component of tumour; smaller ones but the largest are removed,
            where slices make a volume. 0 removes none.
        kept_with_ml: volume of a tissue that makes a small component stay.
        min_volume: of each tissue, in a whole volume; for data sets that have both tissues.
    """

    tta_flip: bool = True
    min_component_ml: float = Field(1.0, ge=0)
    kept_with_ml: dict[str, Annotated[float, Field(gt=0)]] = {}
    min_volume: dict[str, MinimumVolume] = {}

    def postprocess(
        self,
        labels: UInt8[np.ndarray, "a b c"],
        voxel_ml: float,
        tissues: Sequence[str],
    ) -> UInt8[np.ndarray, "a b c"]:
        """Labels of a volume without small components and without tissues below their minimum volume.

        Args:
            tissues: names of the labels from 1 up.
        """
        # Components first, so that what they leave decides whether a tissue has its minimum volume.
        number = {name: k for k, name in enumerate(tissues, 1)}
        kept_with = {number[tissue]: ml for tissue, ml in self.kept_with_ml.items() if tissue in tissues}
        labels = remove_small_components(labels, voxel_ml, self.min_component_ml, kept_with)
        for tissue, minimum in self.min_volume.items():
            if tissue in tissues and minimum.replace_with in tissues:
                fallback = number[minimum.replace_with]
                labels = replace_small_volume(labels, voxel_ml, number[tissue], minimum.ml, fallback)
        return labels


class StressSettings(BaseModel, frozen=True, extra="forbid"):
    """How test slices are corrupted. A modality is missing altogether, whatever the severities.

    Attributes:
        corruptions: those of `training/segmentation/corruption.py`.
        severities: each above 0, at most 1.
        missing_modalities: whether each modality in turn is missing too.
        seed: of noise, fields and movements.
    """

    corruptions: tuple[Literal["noise", "bias field", "ringing", "ghosting", "motion", "thick slices"], ...]
    severities: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(min_length=1)
    missing_modalities: bool = True
    seed: int = Field(0, ge=0)


AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


class ExperimentSettings(BaseModel, frozen=True, extra="forbid"):
    """Network of an experiment, and what it overrides in the task's recipe.

    Attributes:
        network: one of the project's, or a library's: the path of a class, or `timm:NAME`.
        sizes: keyword arguments of `build`.
        pretrained: weights to start from: a file of a library's weights, or true for those that the library has.
        first_convolution: how weights of three channels become those of another number: "sum" gives each channel the
            mean of their sum, "repeat" repeats them in turn; both scaled to the same response.
        pretrained_rate: learning rate of the pretrained layers, as a fraction of that of the others.
        frozen_epochs: first epochs in which the pretrained layers keep their weights.
    """

    network: str
    sizes: dict[str, Size] = {}
    pretrained: bool | str = False
    first_convolution: Literal["sum", "repeat"] = "sum"
    pretrained_rate: float = Field(1.0, gt=0, le=1)
    frozen_epochs: int = Field(0, ge=0)
    # None takes the recipe's.
    epochs: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    batch_size: int | None = Field(None, ge=1)
    ema_decay: float | None = Field(None, ge=0, lt=1)

    @model_validator(mode="after")
    def _require_numbers(self) -> "ExperimentSettings":
        """Sizes of the project's own networks are numbers; a library's may be anything."""
        for name, value in self.sizes.items():
            if self.network in NETWORKS and not isinstance(value, int | float):
                raise ValueError(f"sizes.{name} must be a number, got {value!r}")
        return self

    def adapt(self, recipe: AnyRecipe) -> AnyRecipe:
        """The task's recipe with this experiment's overrides."""
        overrides = self.model_dump(include={*type(recipe).model_fields}, exclude_none=True)
        if isinstance(recipe, SegmentationRecipe) and recipe.output_prior is None:
            # The project's networks were measured with their own bias.
            overrides["output_prior"] = LIBRARY_PRIOR if is_library(self.network) else 0.0
        # Validated again: the result must be as sound as a recipe of the parameters files.
        return type(recipe).model_validate(recipe.model_dump() | overrides)


class ImageAugmentation(BaseModel, frozen=True, extra="forbid"):
    """Random augmentation of training images.

    Attributes:
        horizontal_flip: probability of a left-right flip.
        vertical_flip: probability of a top-bottom flip.
        affine: probability of rotation, scaling, stretching and translation.
        rotation: largest angle, in degrees.
        scaling: largest change of size, as a fraction.
        shift: largest translation, as a fraction of the side.
        intensity: probability of a change of contrast, brightness, gamma and sharpness.
        contrast: largest change of scale around the mean grey level, as a fraction.
        brightness: largest change of the factor, as a fraction.
        mixup: largest mixing coefficient; 0 is no mixup.
        stretch: largest change of the ratio of height to width, as a fraction.
        gamma: largest change of the exponent of grey levels, as a fraction: from 1 / (1 + gamma) to 1 + gamma.
        blur: largest standard deviation of a Gaussian blur, in pixels.
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
    stretch: float = Field(0.0, ge=0, lt=1)
    gamma: float = Field(0.0, ge=0, le=2)
    blur: float = Field(0.0, ge=0, le=5)


class ClassificationRecipe(Recipe, frozen=True, extra="forbid"):
    """Hyperparameters of classification.

    Attributes:
        loss: "cross_entropy", or the path of a class that is called with logits and targets (b, classes), such as
            `torch.nn.MSELoss`. Targets are one-hot, smoothed, and weighted if `balanced`.
        loss_arguments: of that class.
        label_smoothing: part of each label that is spread evenly over the classes.
        balanced: weight the loss by the inverse frequency of the classes.
        source_balance: how much more often images of a scarce source are used, within each class: 0 not, 1 as often as
            the others together. Sources are the images whose patient is known, and the others.
        tta_flip: average the probabilities of an image and its left-right mirror image. Part of the recipe, because the
            temperature is fitted with it; the network's file holds it, and new images are classified with it.
    """

    loss: ClassificationLoss = CROSS_ENTROPY
    loss_arguments: dict[str, Size] = {}
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    balanced: bool = False
    source_balance: float = Field(0.0, ge=0, le=1)
    tta_flip: bool = False
    augmentation: ImageAugmentation = ImageAugmentation()
