"""AlexNet (Krizhevsky et al. 2012), five convolutions without normalisation.

Differs in a 9x9 first layer for smaller images, no padding around the 5x5 layer, a fourth layer as wide as the third,
and a narrower head without dropout.
"""

from jaxtyping import Float
from torch import Tensor, nn

from brain_tumor.networks.blocks import kaiming_init
from brain_tumor.networks.classifier import head, require_size, side_of_stem


class AlexNet(nn.Module):
    """Five convolutions, three poolings, four linear layers.

    Args:
        image_size: side of the images, 69 at least.
        n_filters: channels of the first convolution, a multiple of 3; the others are 8/3 and 4 times as wide.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 4,
        image_size: int = 128,
        n_filters: int = 96,
    ) -> None:
        super().__init__()
        n = n_filters
        middle = 8 * n // 3
        flat = middle * side_of_stem(image_size) ** 2
        self.image_size = image_size
        # The paper's first layer is 11x11 for images of 224; smaller images keep more of their detail with 9x9.
        self.features = nn.Sequential(
            *layer(in_channels, n, 9, stride=4),
            nn.MaxPool2d(2),
            *layer(n, middle, 5),
            nn.MaxPool2d(2),
            *layer(middle, 4 * n, 3, padding=1),
            *layer(4 * n, 4 * n, 3, padding=1),
            *layer(4 * n, middle, 3, padding=1),
            nn.MaxPool2d(2),
        )
        self.head = head((flat, 512, 512, 128, out_channels), nn.ReLU)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Class logits."""
        require_size(x, self.image_size)
        return self.head(self.features(x))


def layer(
    in_channels: int,
    out_channels: int,
    size: int,
    *,
    stride: int = 1,
    padding: int = 0,
) -> tuple[nn.Module, nn.Module]:
    """Convolution and ReLU."""
    # Two modules, not a Sequential of them: names in the weights' files are places in `features`.
    convolution = nn.Conv2d(in_channels, out_channels, size, stride, padding)
    return kaiming_init(convolution), nn.ReLU(inplace=True)
