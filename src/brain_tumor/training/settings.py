"""Settings of training, checked before a run starts. Imports no torch."""

from typing import Literal

from pydantic import BaseModel, Field


class EngineSettings(BaseModel, frozen=True, extra="forbid"):
    """How the machine is used; none of it is meant to change what is learned.

    Attributes:
        device: "auto" is CUDA where there is one, else the CPU.
        precision: "auto" is bf16 autocast where the device computes it natively, else fp32.
        seed: of the first weights, the order of the data and the augmentation.
    """

    device: Literal["auto", "cuda", "cpu"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = 0


class SegmentationRecipe(BaseModel, frozen=True, extra="forbid"):
    """What is learned and how long.

    Attributes:
        epochs: at most; fewer if validation stops improving.
        epoch_steps: batches in an epoch, at least; a small data set is passed over as often as it takes.
        patience: epochs without a better validation Dice before training stops.
        learning_rate: peak of a schedule that warms up and falls along a cosine.
        weight_decay: of AdamW.
        dice_weight: share of the soft Dice loss; the rest is binary cross-entropy.
        flip: mirror left and right at random.
    """

    epochs: int = Field(20, ge=1)
    epoch_steps: int = Field(25, ge=1)
    patience: int = Field(10, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    dice_weight: float = Field(0.5, ge=0, le=1)
    flip: bool = True


class ExperimentSettings(BaseModel, frozen=True, extra="forbid"):
    """Which network an experiment trains, and its sizes (keyword arguments of `build`)."""

    network: str
    sizes: dict[str, int] = {}
