"""Random changes of images in training."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from brain_tumor.training.settings import ImageAugmentation


def sample_augmentation(size: int, *place: int) -> dict[str, Float[Tensor, " b"]]:
    """Uniform random numbers from -1 to 1 for each image of a batch.

    Args:
        size: images in the batch, over all processes.
        place: seed, epoch, number of the batch.
    """
    rng = np.random.default_rng(place)
    names = (*ImageAugmentation.model_fields, "down", "right")
    return {name: torch.from_numpy(rng.uniform(-1, 1, size).astype(np.float32)) for name in names}


def augment(
    grey: Float[Tensor, "b 1 h w"], chances: dict[str, Float[Tensor, " b"]], settings: ImageAugmentation
) -> Float[Tensor, "b 1 h w"]:
    """Mirrored, turned, scaled, shifted and brightened at random; what comes in from outside is black."""
    chances = {name: value.to(grey.device) for name, value in chances.items()}
    happens = {
        name: (chances[name] < 2 * getattr(settings, name) - 1)[:, None, None, None]
        for name in ("horizontal_flip", "vertical_flip", "intensity")
    }
    grey = torch.where(happens["horizontal_flip"], grey.flip(-1), grey)
    grey = torch.where(happens["vertical_flip"], grey.flip(-2), grey)
    chosen = (chances["affine"] < 2 * settings.affine - 1).nonzero().squeeze(1)
    if len(chosen):
        grid = affine_grid(
            _matrix({name: value[chosen] for name, value in chances.items()}, settings),
            [len(chosen), *grey.shape[1:]],
            align_corners=False,
        )
        grey = grey.index_copy(0, chosen, grid_sample(grey[chosen], grid, align_corners=False))
    if settings.intensity:
        stretch, factor = (
            1 + (chances[name] * getattr(settings, name))[:, None, None, None] for name in ("contrast", "brightness")
        )
        middle = grey.mean((1, 2, 3), keepdim=True)
        grey = torch.where(
            happens["intensity"], ((grey - middle) * stretch + middle * (grey > 0)) * factor, grey
        ).clamp(0, 255)
    return grey


def blend(
    image: Float[Tensor, "b 1 h w"],
    truth: Float[Tensor, "b k"],
    chances: Float[Tensor, " b"],
    settings: ImageAugmentation,
) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b k"]]:
    """Each image with a share of another of the batch, and the classes of both in the same shares.

    Source: mixup, Zhang et al. 2018, arXiv:1710.09412; shares here are uniform, and at most a half.
    """
    if not settings.mixup:
        return image, truth
    share = settings.mixup * (chances.to(image.device)[:, None] + 1) / 2
    half = len(image) // 2  # its partner is half a batch away, also when the batch is split over processes
    blended = image.lerp(image.roll(half, 0), share[:, :, None, None])
    return blended, truth.lerp(truth.roll(half, 0), share)


def _matrix(chances: dict[str, Float[Tensor, " b"]], settings: ImageAugmentation) -> Float[Tensor, "b 2 3"]:
    """Where each place of the new image is taken from, in halves of a side from the middle."""
    angle = torch.deg2rad(chances["rotation"] * settings.rotation)
    scale = 1 / (1 + chances["scaling"] * settings.scaling)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    across, down = (2 * settings.shift * chances[name] for name in ("right", "down"))
    return torch.stack([torch.stack([cosine, -sine, across], 1), torch.stack([sine, cosine, down], 1)], 1)
