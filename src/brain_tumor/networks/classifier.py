"""What the networks for classification share.

The size of image they are built for, and the last layers of those that are convolutional.
"""

from collections.abc import Callable
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn


def require_size(x: Float[Tensor, "b c h w"], size: int) -> None:
    """Refuse images of another size than the network is built for.

    Raises:
        ValueError: if height or width differs.
    """
    height, width = x.shape[-2:]
    if (height, width) != (size, size):
        raise ValueError(
            f"the network is built for images of {size}x{size}, got {height}x{width}; build it with "
            f"image_size={height}, or prepare images of {size}"
        )


def side_of_stem(image_size: int) -> int:
    """Side of the map that the stem of CNN and AlexNet leaves.

    A 9x9 convolution with stride 4, a 5x5, and three poolings.

    Raises:
        ValueError: if nothing would be left.
    """
    side = (((image_size - 9) // 4 + 1) // 2 - 4) // 2 // 2
    if side < 1:
        raise ValueError(f"image_size must be at least 69, got {image_size}")
    return side


def head(widths: tuple[int, ...], activation: Callable[[], nn.Module], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers of these widths behind a flattened map, an activation and dropout between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inside, outside in pairwise(widths[:-1]):
        layers += [nn.Linear(inside, outside), activation(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))
