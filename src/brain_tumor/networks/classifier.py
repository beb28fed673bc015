"""Parts that classification networks share: the check of the image size, and the linear layers at the end."""

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
    """Side of the last feature map of CNN and AlexNet, in pixels.

    Raises:
        ValueError: if the map would be empty.
    """
    # A 9x9 convolution with stride 4 and a pooling, a 5x5 convolution without padding and a pooling, a last pooling.
    side = ((image_size - 9) // 4 + 1) // 2
    side = (side - 4) // 2
    side = side // 2
    if side < 1:
        raise ValueError(f"image_size must be at least 69, got {image_size}")
    return side


def head(
    widths: tuple[int, ...],
    activation: Callable[[], nn.Module],
    dropout: float = 0.0,
) -> nn.Sequential:
    """Linear layers on a flattened map, with an activation and dropout between them.

    Args:
        widths: of the flattened map, of the hidden layers, and the number of classes.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs), activation()]
        # Left out rather than 0: layers are numbered in the weights' files, and AlexNet's has no dropout.
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))
