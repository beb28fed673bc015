"""The networks of the project by name. Looking a name up imports nothing; building one imports torch."""

from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

NETWORKS = {
    # name: (task, class); the class is in the module of that name
    "classic_unet": ("segmentation", "ClassicUNet"),
    "improved_unet": ("segmentation", "ImprovedUNet"),
    "attention_unet": ("segmentation", "AttentionUNet"),
    "residual_attention_unet": ("segmentation", "ResidualAttentionUNet"),
    "cnn": ("classification", "CNN"),
    "alexnet": ("classification", "AlexNet"),
    "vgg16": ("classification", "VGG16"),
    "vit": ("classification", "ViT"),
}


def build(name: str, **sizes: float) -> "nn.Module":
    """A new network with random weights.

    Args:
        name: one of NETWORKS.
        sizes: the network's keyword arguments, such as `n_filters`.

    Raises:
        ValueError: if the name is unknown.
        TypeError: if a size is not one of the network's.

    >>> network = build("classic_unet", n_filters=16)
    """
    if name not in NETWORKS:
        # A misspelt name is most often one letter off.
        close = get_close_matches(name, NETWORKS, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ValueError(f"there is no network '{name}'; {hint}networks are {', '.join(NETWORKS)}")
    return _find_class(name)(**sizes)


def takes(name: str, size: str) -> bool:
    """Whether a network's constructor has an argument of this name."""
    return size in signature(_find_class(name)).parameters


def _find_class(name: str) -> "type[nn.Module]":
    # Imported here, so that listing networks (kedro registry, the command line) needs no torch.
    _, class_name = NETWORKS[name]
    return getattr(import_module(f"brain_tumor.networks.{name}"), class_name)


def networks_of(task: str) -> list[str]:
    """Names of the networks of one task, in the order of NETWORKS."""
    return [name for name, (its_task, _) in NETWORKS.items() if its_task == task]


def describe(name: str) -> str:
    """The docstring of a network's module (name, paper, differences from it) on one line."""
    text = import_module(f"brain_tumor.networks.{name}").__doc__ or name
    return " ".join(text.split())
