"""Normalisation of images. Apart from the task: prediction needs no Lightning."""

from jaxtyping import Float
from torch import Tensor

from brain_tumor.training.device import layout_on

MEAN, STANDARD_DEVIATION = 64.0, 64.0
"""Grey levels of the normalisation, near those of a cropped head."""


def to_input(grey: Float[Tensor, "b 1 h w"], channels: int) -> Float[Tensor, "b c h w"]:
    """Normalised images, repeated in each input channel.

    Args:
        grey: levels from 0 to 255.
    """
    # By constants, not by the image: its contrast may tell classes apart.
    normalised = (grey - MEAN) / STANDARD_DEVIATION
    repeated = normalised.expand(-1, channels, -1, -1)
    return repeated.contiguous(memory_format=layout_on(grey.device.type))
