"""Names of parameters and of entries in files that earlier versions wrote, and what they are called now."""

from collections.abc import Mapping
from typing import Any

RECIPE = {
    "missed_weight": "tversky_beta",
    "focal": "focal_gamma",
    "empty_slices": "empty_slice_rate",
    "ema": "ema_decay",
    "keep": "checkpoint",
    "flips": "tta_flip",
    "augmentation.flip": "augmentation.horizontal_flip",
    "augmentation.upside_down": "augmentation.vertical_flip",
    "augmentation.warp": "augmentation.affine",
    "augmentation.blend": "augmentation.mixup",
}
"""Settings of a recipe."""

NETWORK_FILE = {
    "started_from": "initialised_from",
    "learned_from": "trained_on",
    "learned_images": "images_trained_on",
    "looks_inside": "saliency_inside",
    "looks_inside_flat": "saliency_inside_uniform",
} | {f"recipe.{old}": f"recipe.{new}" for old, new in RECIPE.items()}
"""Entries of a network's header."""

PARAMETERS = {
    **{f"*.recipe.{old}": f"*.recipe.{new}" for old, new in RECIPE.items()},
    "*.ema": "*.ema_decay",
    "segmentation.prediction.flips": "segmentation.prediction.tta_flip",
    "segmentation.prediction.smallest_ml": "segmentation.prediction.min_component_ml",
    "segmentation.prediction.least": "segmentation.prediction.min_volume",
    "segmentation.prediction.min_volume.*.otherwise": "segmentation.prediction.min_volume.*.replace_with",
    "data_segmentation.data_set.modalities.*.endings": "data_segmentation.data_set.modalities.*.suffixes",
    "data_classification.copies": "data_classification.duplicates",
    "survival.protocol.smallest": "survival.protocol.min_deaths",
}
"""Parameters; `*` stands for any names."""


def rename_entries(entries: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """The same entries under their names of today.

    Args:
        renamed: old and new name; those in blocks as `block.name`.
    """
    result: dict[str, Any] = {}
    for name, value in entries.items():
        new = renamed.get(name, name)
        if isinstance(value, Mapping):
            inside = {
                old.removeprefix(f"{name}."): to.removeprefix(f"{new}.")
                for old, to in renamed.items()
                if old.startswith(f"{name}.")
            }
            value = rename_entries(value, inside)
        result[new] = value
    return result


def find_new_name(path: str) -> str | None:
    """What a parameter is called now, such as `segmentation.recipe.tversky_beta`; None if it was not renamed.

    >>> find_new_name("segmentation.recipe.missed_weight")
    'segmentation.recipe.tversky_beta'
    """
    names = path.split(".")
    for old, new in PARAMETERS.items():
        star = _match(old.split("."), names)
        if star is not None:
            # Stars of the new name stand for the same names, in the same order.
            parts = [star.pop(0) if part == "*" else part for part in new.split(".")]
            return ".".join(parts)
    return None


def _match(pattern: list[str], names: list[str]) -> list[str] | None:
    """The names that stars stand for; None if the names are others. A star at the start stands for one or more."""
    if pattern[0] == "*" and len(names) > len(pattern):
        head = len(names) - len(pattern) + 1
        names = [".".join(names[:head]), *names[head:]]
    if len(pattern) != len(names):
        return None
    pairs = list(zip(pattern, names, strict=True))
    if any(part not in ("*", name) for part, name in pairs):
        return None
    return [name for part, name in pairs if part == "*"]
