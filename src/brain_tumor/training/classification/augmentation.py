"""Augmentation of whole batches of images on their device."""

from math import ceil

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample

from brain_tumor.training.device import send
from brain_tumor.training.settings import ImageAugmentation


def sample_augmentation(size: int, *key: int) -> dict[str, Float[Tensor, " b"]]:
    """Augmentation parameters of each image of a batch, uniform from -1 to 1.

    Args:
        size: images in the batch, over all processes.
        key: seed, epoch, number of the batch.
    """
    rng = np.random.default_rng(key)
    # All are drawn, whatever the settings, so that one that is switched on leaves the others as they were.
    names = (*ImageAugmentation.model_fields, "down", "right")
    params = {}
    for name in names:
        values = rng.uniform(-1, 1, size)
        params[name] = torch.from_numpy(values.astype(np.float32))
    return params


def augment(
    grey: Float[Tensor, "b 1 h w"],
    params: dict[str, Float[Tensor, " b"]],
    settings: ImageAugmentation,
) -> Float[Tensor, "b 1 h w"]:
    """Random flips, affine maps and intensities; pixels from outside the image are black.

    Args:
        grey: levels from 0 to 255.
        params: from `sample_augmentation`, on the host.
    """
    # Decided on the host, where the parameters are: a choice that is read from a GPU would make the host wait.
    device = grey.device
    apply = {}
    # A uniform value from -1 to 1 is below 2p - 1 with probability p.
    for name in ("horizontal_flip", "vertical_flip", "affine", "intensity"):
        apply[name] = params[name] < 2 * getattr(settings, name) - 1
    mirrored = _per_image(send(apply["horizontal_flip"], device))
    grey = torch.where(mirrored, grey.flip(-1), grey)
    upside_down = _per_image(send(apply["vertical_flip"], device))
    grey = torch.where(upside_down, grey.flip(-2), grey)
    # Only the chosen images: resampling costs as much as all the rest.
    chosen = torch.from_numpy(np.flatnonzero(apply["affine"].numpy()))
    if len(chosen):
        of_chosen = {name: value[chosen] for name, value in params.items()}
        matrix = send(_matrix(of_chosen, settings), device)
        chosen = send(chosen, device)
        grid = affine_grid(matrix, [len(chosen), *grey.shape[1:]], align_corners=False)
        moved = grid_sample(grey[chosen], grid, align_corners=False)
        grey = grey.index_copy(0, chosen, moved)
    if settings.intensity:
        grey = _change_intensity(grey, apply["intensity"], params, settings)
    return grey


def _per_image(values: Tensor) -> Tensor:
    """Values of images, shaped to be broadcast over their pixels."""
    return values[:, None, None, None]


def _change_intensity(
    grey: Float[Tensor, "b 1 h w"],
    apply: Bool[Tensor, " b"],
    params: dict[str, Float[Tensor, " b"]],
    settings: ImageAugmentation,
) -> Float[Tensor, "b 1 h w"]:
    scale = _per_image(send(1 + params["contrast"] * settings.contrast, grey.device))
    factor = _per_image(send(1 + params["brightness"] * settings.brightness, grey.device))
    changed = grey
    if settings.gamma:
        exponent = _per_image(send((1 + settings.gamma) ** params["gamma"], grey.device))
        changed = 255 * (changed / 255) ** exponent
    if settings.blur:
        changed = _blur(changed, send((params["blur"] + 1) / 2 * settings.blur, grey.device), settings.blur)
    mean = changed.mean((1, 2, 3), keepdim=True)
    # Contrast is scaled around the mean; the background, 0, gets no mean back and stays dark.
    contrasted = (changed - mean) * scale + mean * (changed > 0)
    changed = contrasted * factor
    return torch.where(_per_image(send(apply, grey.device)), changed, grey).clamp(0, 255)


def _blur(grey: Float[Tensor, "b 1 h w"], sigma: Float[Tensor, " b"], largest: float) -> Float[Tensor, "b 1 h w"]:
    """Each image blurred by its own standard deviation, in pixels."""
    radius = ceil(3 * largest)
    offset = torch.arange(-radius, radius + 1, device=grey.device, dtype=grey.dtype)
    # Below a tenth of a pixel the kernel is 1 at its centre.
    kernel = torch.softmax(-(offset**2) / (2 * sigma.clamp(min=0.1)[:, None] ** 2), 1)
    # Images are the channels of one, each with its own kernel.
    image = grey.transpose(0, 1)
    for shape, padding in (((-1, 1, 1, 2 * radius + 1), (0, radius)), ((-1, 1, 2 * radius + 1, 1), (radius, 0))):
        image = conv2d(image, kernel.reshape(shape), padding=padding, groups=len(grey))
    return image.transpose(0, 1)


def mixup(
    image: Float[Tensor, "b 1 h w"],
    target: Float[Tensor, "b k"],
    params: Float[Tensor, " b"],
    settings: ImageAugmentation,
) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b k"]]:
    """Each image mixed with another of the batch, and the targets of both in the same proportion.

    Source: mixup, Zhang et al. 2018, arXiv:1710.09412; the mixing coefficient is uniform, and at most a half.
    """
    if not settings.mixup:
        return image, target
    # From -1 to 1 to a coefficient from 0 to `mixup`.
    coefficient = settings.mixup * (send(params, image.device)[:, None] + 1) / 2
    # The partner is half a batch away, also when the batch is divided over processes.
    half = len(image) // 2
    mixed_image = image.lerp(image.roll(half, 0), coefficient[:, :, None, None])
    mixed_target = target.lerp(target.roll(half, 0), coefficient)
    return mixed_image, mixed_target


def _matrix(
    params: dict[str, Float[Tensor, " b"]],
    settings: ImageAugmentation,
) -> Float[Tensor, "b 2 3"]:
    """Affine maps from the new to the old image, in units of half a side from the centre."""
    angle = torch.deg2rad(params["rotation"] * settings.rotation)
    # From the new image to the old one, so that an enlargement divides.
    scale = 1 / (1 + params["scaling"] * settings.scaling)
    cosine = scale * angle.cos()
    sine = scale * angle.sin()
    # The area stays as it is.
    stretch = (1 + settings.stretch) ** (params["stretch"] / 2)
    right = 2 * settings.shift * params["right"]
    down = 2 * settings.shift * params["down"]
    first = torch.stack([cosine * stretch, -sine * stretch, right], 1)
    second = torch.stack([sine / stretch, cosine / stretch, down], 1)
    return torch.stack([first, second], 1)
