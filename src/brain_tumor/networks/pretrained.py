"""Weights of other people to start from: read, matched with a network's layers, the first convolution adapted."""

import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from brain_tumor.networks.adapted import AdaptedNetwork
from brain_tumor.networks.library import TIMM, first_line, is_library

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's channels, of values from 0 to 1, which most weights expect."""

PREFIXES = ("module.", "model.", "network.", "state_dict.")
"""What training programs put before all names of a state dict."""

SHOWN = 3
"""Layers that a message names."""


@dataclass
class Loaded:
    """What was taken from weights.

    Attributes:
        names: parameters and buffers of the network that were set.
        fitted: number of tensors of the file that fit, of `total`.
        first_convolution: the layer that was adapted to the number of channels; empty if none was.
        random: number of tensors of the network that stay random.
    """

    total: int
    names: set[str] = field(default_factory=set)
    first_convolution: str = ""
    random: int = 0

    @property
    def fitted(self) -> int:
        """Number of tensors of the file that fit."""
        return len(self.names)


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict of a safetensors file or of one that torch saved; its code is never run.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds anything but tensors, or is a network of this project.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there are no pretrained weights at {path}; give the path of a file, or true")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
            # Of how a file was pickled, whether it can be read or not.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors, and loading it could run code: it isn't read. Save the state dict alone "
            "as safetensors where you trust it: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error
    # Any error: a file of another kind fails in its own way.
    except Exception as error:
        raise ValueError(f"{path} can't be read as weights ({first_line(error)}); give a safetensors file") from error
    for key in ("state_dict", "model", "state_dict_ema"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    return _clean({str(name): value for name, value in _items(content) if isinstance(value, Tensor)}, path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            if "sizes" in (file.metadata() or {}):
                remedy = "give it as segmentation.initial_weights or classification.initial_weights"
                raise ValueError(f"{path} is a trained network of this project; {remedy}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no sound safetensors file ({first_line(error)}); fetch it again") from error
    return _clean(tensors, path)


def _items(content: Any) -> Iterator[tuple[Any, Any]]:
    return iter(content.items()) if isinstance(content, Mapping) else iter(())


def _clean(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights under the names that the network had before it was wrapped; none, and no finite ones, are refused."""
    if not tensors:
        raise ValueError(f"{path} holds no state dict; save that of the network")
    for name, value in tensors.items():
        if not value.to_dense().isfinite().all():
            raise ValueError(f"{path}: {name} holds values that aren't finite; fetch it again, or give other weights")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def fetch_weights(path: str, sizes: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """A library's own weights of a network, which it downloads or has kept, and where they are from.

    Raises:
        ValueError: if the library has none.
        OSError: if they can't be fetched, with the address and what to do without a network.
    """
    if path.startswith(TIMM):
        return _fetch_timm(path)
    if path.startswith("segmentation_models_pytorch."):
        return _fetch_smp(path, sizes)
    raise ValueError(f"{path} has no weights that can be fetched; give a file: `pretrained: PATH`")


def _fetch_timm(path: str) -> tuple[dict[str, Tensor], str]:
    import timm

    name = path.removeprefix(TIMM)
    address = _find_address_of_timm(name)
    with _explain_fetching(path, address):
        model = timm.create_model(name, pretrained=True)
    return model.state_dict(), address


def _find_address_of_timm(name: str) -> str:
    import timm

    about = timm.get_pretrained_cfg(name)
    if about is None or not about.has_weights:
        raise ValueError(f"timm has no weights of {name}; give a file: `pretrained: PATH`")
    if about.hf_hub_id:
        return f"https://huggingface.co/{about.hf_hub_id}/resolve/main/model.safetensors"
    return str(about.url or "the hub of timm")


def _fetch_smp(path: str, sizes: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    import segmentation_models_pytorch as smp

    encoder = sizes.get("encoder_name", "resnet34")
    of_timm = encoder.startswith("tu-")
    settings = smp.encoders.encoders.get(encoder, {}).get("pretrained_settings", {}).get("imagenet")
    if of_timm:
        address = _find_address_of_timm(encoder.removeprefix("tu-"))
    elif settings is None:
        raise ValueError(f"smp has no weights of {encoder}; give a file: `pretrained: PATH`")
    elif settings.get("repo_id"):
        address = f"https://huggingface.co/{settings['repo_id']}/resolve/main/model.safetensors"
    else:
        address = settings.get("url", "")
    with _explain_fetching(f"{path} with {encoder}", address):
        # smp names a set of weights, timm has one.
        module = smp.encoders.get_encoder(encoder, in_channels=3, weights=True if of_timm else "imagenet")
    return module.state_dict(), address


@contextmanager
def _explain_fetching(what: str, address: str) -> Iterator[None]:
    """A download that fails ends in an OSError that says how to fetch the file elsewhere, without the hub's retries."""
    # Each of its retries is a warning of its own, which says less.
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        yield
    # Any error: hubs fail in their own ways.
    except Exception as error:
        raise OSError(
            f"the pretrained weights of {what} can't be fetched ({first_line(error)}); fetch {address} on a machine "
            "with a network, and give the file: `pretrained: PATH`"
        ) from error
    finally:
        hub.setLevel(level)


def find_normalisation(path: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel that a network's pretrained weights expect, of values from 0 to 1."""
    if path.startswith(TIMM):
        import timm

        about = timm.get_pretrained_cfg(path.removeprefix(TIMM))
        if about is not None:
            return tuple(about.mean), tuple(about.std)
    return IMAGENET


def load_weights(
    network: nn.Module, weights: Mapping[str, Tensor], how: Literal["sum", "repeat"], source: str
) -> Loaded:
    """Set the layers of a network that weights have; the output layer stays random where its shape differs.

    Args:
        how: the first convolution's weights of three channels become those of another number.
        source: where the weights are from; for messages.

    Raises:
        ValueError: if a layer has another shape, or less than half of the file is the network's.
    """
    inner = network.network if isinstance(network, AdaptedNetwork) else network
    assert isinstance(inner, nn.Module)
    own = inner.state_dict()
    prefix = _find_prefix(own, weights)
    first, last = _first_and_last(inner)
    loaded, wrong, values = Loaded(len(weights)), [], {}
    for name, value in weights.items():
        key = prefix + name
        if key not in own:
            continue
        wanted = own[key].shape
        if value.shape == wanted:
            values[key] = value
        elif key == first and value.shape[:1] + value.shape[2:] == wanted[:1] + wanted[2:]:
            values[key] = adapt_channels(value, wanted[1], how)
            loaded.first_convolution = key
        elif key.rpartition(".")[0] != last:
            wrong.append(f"{key} is {tuple(value.shape)} in the file and {tuple(wanted)} in the network")
    fitting = f"{len(values)} of {len(weights)} tensors of {source} fit {type(inner).__name__}"
    if wrong:
        shown = "; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
        raise ValueError(f"{fitting}: {shown}. Give weights of the same network and sizes")
    if 2 * len(values) < len(weights):
        names = f"names like {next(iter(weights))} in the file, like {next(iter(own))} in the network"
        raise ValueError(f"{fitting} ({names}). Give weights of the same network, under its names")
    inner.load_state_dict(own | values)
    stem = "network." if inner is not network else ""
    loaded.names = {stem + name for name in values}
    loaded.random = len(own) - len(values)
    return loaded


def adapt_channels(weight: Tensor, channels: int, how: Literal["sum", "repeat"]) -> Tensor:
    """A convolution's weights for another number of input channels, scaled by the ratio of the numbers.

    Args:
        weight: (out, in, h, w).
        how: "sum" gives each channel the same share of the sum, "repeat" takes those of the file in turn.
    """
    if how == "sum":
        return (weight.sum(1, keepdim=True) / channels).expand(-1, channels, -1, -1).contiguous()
    inputs = weight.shape[1]
    # Scaled by number: with 4 channels for 3, each counts for three quarters.
    return weight[:, [k % inputs for k in range(channels)]] * (inputs / channels)


def _find_prefix(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """What stands before the names of the file in those of the network: weights of an encoder alone have less."""
    steps = (accumulate(name.split(".")[:-1], lambda left, right: f"{left}.{right}") for name in own)
    prefixes = {"", *(f"{stem}." for stem in chain.from_iterable(steps))}
    return max(sorted(prefixes), key=lambda prefix: sum(prefix + name in own for name in weights))


def _first_and_last(network: nn.Module) -> tuple[str, str]:
    """Name of the weight of the first convolution, and name of the last layer that has weights."""
    convolutions = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return f"{convolutions[0]}.weight" if convolutions else "", layers[-1] if layers else ""


def normalises(path: str, pretrained: bool | str) -> bool:
    """Whether the normalisation of a library's pretrained weights is known, and is another one than the project's."""
    return is_library(path) and (path.startswith(TIMM) or pretrained is True)
