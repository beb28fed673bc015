"""Augmentation of whole batches of slices on their device.

The parameters of a slice are a function of seed, epoch, batch and index in the batch, so that training can be resumed.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, one_hot

from brain_tumor.training.device import send
from brain_tumor.training.settings import Augmentation


def sample_augmentation(size: int, modalities: int, *key: int) -> dict[str, Tensor]:
    """Augmentation parameters of each slice of a batch, uniform from -1 to 1.

    Args:
        size: slices in the batch, over all processes.
        key: seed, epoch, number of the batch.
    """
    rng = np.random.default_rng(key)
    # In a fixed order: each draw advances the generator.
    shapes: dict[str, tuple[int, ...]] = {
        "horizontal_flip": (),
        "affine": (),
        "rotation": (),
        "scaling": (),
        "intensity": (),
        "contrast": (modalities,),
        "brightness": (modalities,),
        "modality_dropout": (),
        "modality": (),
    }
    params = {}
    # All are drawn, whatever the settings, so that one that is switched on leaves the others as they were.
    for name, shape in shapes.items():
        values = rng.uniform(-1, 1, (size, *shape))
        params[name] = torch.from_numpy(values.astype(np.float32))
    return params


def augment(
    image: Float[Tensor, "b m h w"],
    labels: UInt8[Tensor, "b h w"],
    params: dict[str, Tensor],
    settings: Augmentation,
) -> tuple[Float[Tensor, "b m h w"], UInt8[Tensor, "b h w"]]:
    """Random flips, affine maps, intensities and missing modalities; labels are moved with the image.

    Args:
        params: from `sample_augmentation`, on the host.
    """
    # Decided on the host, where the parameters are: a choice that is read from a GPU would make the host wait.
    device = image.device
    apply = {}
    # A uniform value from -1 to 1 is below 2p - 1 with probability p.
    for name in ("horizontal_flip", "affine", "intensity", "modality_dropout"):
        apply[name] = params[name] < 2 * getattr(settings, name) - 1
    if settings.horizontal_flip:
        # Rows run from right to left in every scan (L, P, S), so the second axis from the end is the one to mirror.
        flip = send(apply["horizontal_flip"], device)
        image = torch.where(flip[:, None, None, None], image.flip(-2), image)
        labels = torch.where(flip[:, None, None], labels.flip(-2), labels)
    # Only the chosen slices: resampling costs as much as all the rest.
    chosen = torch.from_numpy(np.flatnonzero(apply["affine"].numpy()))
    if len(chosen):
        angle = params["rotation"][chosen] * settings.rotation
        scale = 1 + params["scaling"][chosen] * settings.scaling
        matrix = send(_matrix(angle, scale, image.shape[-2:]), device)
        chosen = send(chosen, device)
        grid = affine_grid(matrix, [len(chosen), 1, *image.shape[-2:]], align_corners=True)
        moved_image = grid_sample(image[chosen], grid, align_corners=True)
        image = image.index_copy(0, chosen, moved_image)
        # By the nearest pixel: labels between two tissues would be a third one.
        as_image = labels[chosen, None].to(image.dtype)
        moved_labels = grid_sample(as_image, grid, mode="nearest", align_corners=True).squeeze(1)
        labels = labels.index_copy(0, chosen, moved_labels.to(torch.uint8))
    if settings.intensity:
        image = _change_intensity(image, apply["intensity"], params, settings)
    if settings.modality_dropout:
        image = image * send(_kept_modalities(apply["modality_dropout"], params["modality"], image.shape[1]), device)
    return image, labels


def _kept_modalities(
    apply: Bool[Tensor, " b"],
    position: Float[Tensor, " b"],
    modalities: int,
) -> Float[Tensor, "b m 1 1"]:
    """1, and 0 for the modality at the position from -1 to 1 in the slices that lose one."""
    dropped = ((position + 1) / 2 * modalities).long().clamp(max=modalities - 1)
    lost = one_hot(dropped, modalities) * apply[:, None]
    return (1 - lost)[:, :, None, None].float()


def _change_intensity(
    image: Float[Tensor, "b m h w"],
    apply: Bool[Tensor, " b"],
    params: dict[str, Tensor],
    settings: Augmentation,
) -> Float[Tensor, "b m h w"]:
    on = apply[:, None] * torch.ones_like(params["contrast"])
    scale = 1 + on * params["contrast"] * settings.contrast
    offset = on * params["brightness"] * settings.brightness
    # Of each modality, broadcast over its pixels.
    scale = send(scale, image.device)[:, :, None, None]
    offset = send(offset, image.device)[:, :, None, None]
    changed = image * scale + offset
    # 0 is outside the brain, and stays 0.
    return torch.where(image == 0, 0, changed)


def _matrix(
    angle: Float[Tensor, " b"],
    scale: Float[Tensor, " b"],
    shape: torch.Size,
) -> Float[Tensor, "b 2 3"]:
    """Affine maps from the new to the old slice, in units of half its sides from the centre.

    Args:
        angle: degrees.
        scale: above 1 enlarges.
    """
    radians = torch.deg2rad(angle)
    # From the new slice to the old one, so that an enlargement divides.
    cosine = radians.cos() / scale
    sine = radians.sin() / scale
    # Millimetres are alike along both sides, halves of the sides are not.
    height, width = shape
    ratio = (height - 1) / (width - 1)
    zero = torch.zeros_like(cosine)
    first = torch.stack([cosine, sine * ratio, zero], 1)
    second = torch.stack([-sine / ratio, cosine, zero], 1)
    return torch.stack([first, second], 1)
