"""The networks of the project by name. Looking a name up imports nothing; building one imports torch."""

from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from brain_tumor.networks.library import describe_code, is_library, require_installed

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


def build(name: str, **sizes: Any) -> "nn.Module":
    """A new network with random weights.

    Args:
        name: one of NETWORKS, or a library's: the path of a class, or `timm:NAME`.
        sizes: the network's keyword arguments, such as `n_filters`.

    Raises:
        ValueError: if the name is unknown, or a library refuses the sizes.
        TypeError: if a size is not one of the network's.
        ImportError: if a library isn't installed.

    >>> network = build("classic_unet", n_filters=16)
    """
    if is_library(name):
        from brain_tumor.networks.adapted import AdaptedNetwork

        return AdaptedNetwork(name, **sizes)
    require_network(name)
    return _find_class(name)(**sizes)


def require_network(name: str) -> None:
    """Refuse a name that is neither one of NETWORKS nor in a package that is installed. Imports nothing.

    Raises:
        ValueError: with the nearest name.
        ImportError: with the command that installs the package.
    """
    if is_library(name):
        require_installed(name)
    elif name not in NETWORKS:
        # A misspelt name is most often one letter off.
        close = get_close_matches(name, NETWORKS, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ValueError(f"there is no network '{name}'; {hint}networks are {', '.join(NETWORKS)}")


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
    """The docstring of a network's module (name, paper, differences from it) on one line; of a library its version."""
    if is_library(name):
        code = describe_code(name)
        return f"{name}, of {code['package']} {code['version'] or 'without a version'}"
    text = import_module(f"brain_tumor.networks.{name}").__doc__ or name
    return " ".join(text.split())
