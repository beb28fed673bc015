"""AlexNet (Krizhevsky et al. 2012), five convolutions without normalisation.

Differs in a 9x9 first layer for smaller images, no padding behind the stem's 5x5, a fourth layer as wide as the third,
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
        self, *, in_channels: int = 3, out_channels: int = 4, image_size: int = 128, n_filters: int = 96
    ) -> None:
        super().__init__()
        n, middle = n_filters, 8 * n_filters // 3
        self.image_size = image_size
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
        self.head = head((middle * side_of_stem(image_size) ** 2, 512, 512, 128, out_channels), nn.ReLU)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Logits of each class."""
        require_size(x, self.image_size)
        return self.head(self.features(x))


def layer(
    in_channels: int, out_channels: int, size: int, *, stride: int = 1, padding: int = 0
) -> tuple[nn.Module, nn.Module]:
    """Convolution and ReLU."""
    return kaiming_init(nn.Conv2d(in_channels, out_channels, size, stride, padding)), nn.ReLU(inplace=True)
