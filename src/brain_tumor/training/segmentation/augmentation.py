"""Augmentation of whole batches on their device.

What happens to a slice is a function of seed, epoch, batch and place in the batch.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from kornia.geometry.transform import get_affine_matrix2d, warp_affine
from torch import Tensor

from brain_tumor.training.settings import Augmentation


def sample_augmentation(size: int, modalities: int, *place: int) -> dict[str, Tensor]:
    """Uniform random numbers from -1 to 1 for each slice of a batch.

    Args:
        size: slices in the batch, over all processes.
        place: seed, epoch, number of the batch.
    """
    rng = np.random.default_rng(place)
    shapes = {
        "horizontal_flip": (),
        "affine": (),
        "rotation": (),
        "scaling": (),
        "intensity": (),
        "contrast": (modalities,),
        "brightness": (modalities,),
    }
    return {
        name: torch.from_numpy(rng.uniform(-1, 1, (size, *shape)).astype(np.float32)) for name, shape in shapes.items()
    }


def augment(
    image: Float[Tensor, "b m h w"], labels: UInt8[Tensor, "b h w"], chances: dict[str, Tensor], settings: Augmentation
) -> tuple[Float[Tensor, "b m h w"], UInt8[Tensor, "b h w"]]:
    """Mirrored, turned, scaled, stretched and shifted at random; labels are moved with the image and stay labels."""
    chances = {name: value.to(image.device) for name, value in chances.items()}
    happens = {
        name: chances[name] < 2 * getattr(settings, name) - 1 for name in ("horizontal_flip", "affine", "intensity")
    }
    if settings.horizontal_flip:
        # Rows run from right to left in every scan (L, P, S), so the second axis from the end is the one to mirror.
        image = torch.where(happens["horizontal_flip"][:, None, None, None], image.flip(-2), image)
        labels = torch.where(happens["horizontal_flip"][:, None, None], labels.flip(-2), labels)
    if settings.affine:
        chosen = happens["affine"].nonzero().squeeze(1)  # a warp costs as much as all the rest
        matrix = _matrix(
            chances["rotation"][chosen] * settings.rotation,
            1 + chances["scaling"][chosen] * settings.scaling,
            image.shape[-2:],
        )
        image = image.index_copy(0, chosen, _warp(image[chosen], matrix, "bilinear"))
        labels = labels.index_copy(
            0, chosen, _warp(labels[chosen, None].to(image.dtype), matrix, "nearest").squeeze(1).to(torch.uint8)
        )
    if settings.intensity:
        on = happens["intensity"][:, None] * torch.ones_like(chances["contrast"])
        stretch, shift = (
            1 + on * chances["contrast"] * settings.contrast,
            on * chances["brightness"] * settings.brightness,
        )
        image = torch.where(
            image == 0, 0, image * stretch[:, :, None, None] + shift[:, :, None, None]
        )  # 0 is not brain
    return image, labels


def _matrix(angle: Float[Tensor, " b"], scale: Float[Tensor, " b"], shape: torch.Size) -> Float[Tensor, "b 2 3"]:
    """Rotation in degrees and scaling around the middle, in pixels."""
    middle = torch.tensor([(shape[1] - 1) / 2, (shape[0] - 1) / 2], device=angle.device).expand(len(angle), 2)
    return get_affine_matrix2d(torch.zeros_like(middle), middle, scale[:, None].expand(-1, 2), angle)[:, :2]


def _warp(x: Float[Tensor, "b c h w"], matrix: Float[Tensor, "b 2 3"], mode: str) -> Float[Tensor, "b c h w"]:
    return warp_affine(x, matrix, (x.shape[-2], x.shape[-1]), mode=mode, align_corners=True)
