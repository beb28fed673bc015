"""VGG-16 (Simonyan and Zisserman 2015, arXiv:1409.1556), configuration D, without normalisation.

Differs in the size of the image, which makes the first linear layer narrower.
"""

from jaxtyping import Float
from torch import Tensor, nn

from brain_tumor.networks.blocks import kaiming_init
from brain_tumor.networks.classifier import head, require_size

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""(width as a multiple of the first, number of 3x3 convolutions) of each stage; each ends in a pooling."""

DROPOUT = 0.5


class VGG16(nn.Module):
    """Thirteen convolutions, five poolings, three linear layers.

    Args:
        image_size: side of the images, a multiple of 32.
        n_filters: channels of the first stage.
        hidden: width of the linear layers.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 4,
        image_size: int = 128,
        n_filters: int = 64,
        hidden: int = 4096,
    ) -> None:
        super().__init__()
        if image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32, got {image_size}")
        self.image_size = image_size
        layers: list[nn.Module] = []
        channels = in_channels
        for multiple, convolutions in STAGES:
            width = multiple * n_filters
            for _ in range(convolutions):
                convolution = nn.Conv2d(channels, width, 3, padding=1)
                # Without normalisation thirteen layers only train from weights of the right variance.
                layers += [kaiming_init(convolution), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        # Five poolings leave a map of image_size / 32.
        flat = channels * (image_size // 32) ** 2
        self.head = head((flat, hidden, hidden, out_channels), nn.ReLU, DROPOUT)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Class logits."""
        require_size(x, self.image_size)
        return self.head(self.features(x))
