"""Parts that several networks share."""

from jaxtyping import Float
from torch import Tensor, nn


def double_convolution(in_channels: int, out_channels: int, middle: int | None = None) -> nn.Sequential:
    """(3x3 convolution, ReLU) twice; the size of the map stays."""
    middle = middle or out_channels
    return nn.Sequential(
        nn.Conv2d(in_channels, middle, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, out_channels, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def inverted_bottleneck(in_channels: int, middle: int, out_channels: int) -> nn.Sequential:
    """Depthwise 7x7 convolution, BatchNorm, 1x1 to `middle` channels, ReLU, 1x1 back; the size of the map stays."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 7, padding=3, groups=in_channels),
        nn.BatchNorm2d(in_channels),
        nn.Conv2d(in_channels, middle, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, out_channels, 1),
    )


def require_sides(x: Float[Tensor, "b c h w"], multiple: int) -> None:
    """Refuse maps that can't be halved as often as the network does.

    Raises:
        ValueError: if height or width isn't a multiple.
    """
    height, width = x.shape[-2:]
    if height % multiple or width % multiple:
        nearest = -(-max(height, width) // multiple) * multiple
        raise ValueError(f"height and width must be multiples of {multiple}, got {height}x{width}; set `slice_size` to {nearest}")


def initialise(network: nn.Module) -> None:
    """He initialisation of every convolution that a ReLU follows; without normalisation layers, signals fade with torch's default.

    Source: He et al. 2015, arXiv:1502.01852.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
