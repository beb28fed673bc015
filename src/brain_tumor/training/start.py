"""The network that a training starts from: sizes of a library's network, and pretrained weights."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brain_tumor.code_digest import digest_each
from brain_tumor.networks import build, pretrained
from brain_tumor.networks.adapted import find_padding
from brain_tumor.networks.attention import capture_outputs
from brain_tumor.networks.library import describe_code, is_library, rename_sizes
from brain_tumor.networks.pretrained import fetch_weights, find_normalisation, load_weights, normalises, read_weights
from brain_tumor.training.settings import ExperimentSettings
from brain_tumor.training.task import FineTuning

logger = logging.getLogger(__name__)

EACH = 255.0
"""Grey levels of a value of 1."""

SIDE = 128
"""Of a slice that the project's networks take."""


@dataclass(frozen=True)
class Start:
    """How the network of an experiment is made.

    Attributes:
        experiment: network, and its pretrained weights.
        sizes: of `build`.
    """

    experiment: ExperimentSettings
    sizes: dict[str, Any]

    def made_from(self) -> dict[str, str]:
        """What of it decides the trained weights, by name; nothing without pretrained weights."""
        settings = self.experiment
        if not settings.pretrained:
            return {}
        named = {name: getattr(settings, name) for name in ("first_convolution", "pretrained_rate", "frozen_epochs")}
        code = digest_each([pretrained.__name__])[pretrained.__name__]
        made_from = {name: str(value) for name, value in named.items()}
        return made_from | {"pretrained": _digest(settings.pretrained), pretrained.__name__: code}

    def build(self, output_prior: float | None = None) -> tuple[nn.Module, FineTuning | None, dict[str, Any]]:
        """The network, how its pretrained layers are trained, and entries of its file's description.

        Args:
            output_prior: of `set_output_prior`; 0 or None leaves the bias of the output layer.
        """
        settings = self.experiment
        network = build(settings.network, **self.sizes)
        if output_prior:
            # Of the size that a library's network is built for.
            side = self.sizes.get("image_size") or SIDE
            example = torch.zeros(1, self.sizes["in_channels"], side, side)
            if not set_output_prior(network, example, self.sizes["out_channels"], output_prior):
                logger.warning("%s: no output layer with a bias is found; output_prior isn't used", settings.network)
        about: dict[str, Any] = {}
        if is_library(settings.network):
            about["code"] = describe_code(settings.network)
            about["parameters"] = sum(parameter.numel() for parameter in network.parameters())
        if not settings.pretrained:
            return network, None, about
        if settings.pretrained is True:
            weights, source = fetch_weights(settings.network, self.sizes)
        else:
            source = Path(settings.pretrained).name
            weights = read_weights(Path(settings.pretrained).expanduser())
        loaded = load_weights(network, weights, settings.first_convolution, source)
        words = "%s: %d of %d pretrained tensors of %s fit, %d of the network stay random"
        logger.info(words, settings.network, loaded.fitted, loaded.total, source, loaded.random)
        about["pretrained"] = {
            "source": source,
            "digest": _digest(settings.pretrained),
            "fitted": loaded.fitted,
            "total": loaded.total,
            "first_convolution": settings.first_convolution if loaded.first_convolution else "",
        }
        return network, FineTuning(frozenset(loaded.names), settings.pretrained_rate, settings.frozen_epochs), about


def prepare_start(
    experiment: ExperimentSettings,
    needed: Mapping[str, Any],
    *,
    maps: bool,
    grey: tuple[float, float] | None = None,
) -> Start:
    """Sizes of an experiment's network, tried where it is a library's.

    Args:
        needed: what the store says: channels, and for images their size.
        maps: whether the network gives a map of logits.
        grey: mean and standard deviation of the grey levels that the input is normalised by; None for slices, which are
            standardised already.

    Raises:
        ValueError: if a library's network can't be trained with these sizes, with what is wrong.
    """
    name = experiment.network
    sizes = dict(needed) | rename_sizes(name, experiment.sizes)
    if not is_library(name):
        sizes = {size: value for size, value in sizes.items() if size != "image_size" or not maps}
        return Start(experiment, sizes)
    if grey and experiment.pretrained and "input_mean" not in sizes and normalises(name, experiment.pretrained):
        sizes |= _normalisation(name, sizes["in_channels"], *grey)
    return Start(experiment, find_padding(name, sizes, maps=maps))


def set_output_prior(network: nn.Module, example: Float[Tensor, "1 c h w"], tissues: int, prior: float) -> bool:
    """Start the bias of a segmentation network's output layer at the log odds of a probability.

    A random network gives about half of all pixels to each tissue, and takes them back in its first epochs. The output
    layer is the last convolution to the number of tissues.

    Source: Lin et al. 2017, arXiv:1708.02002, section 3.3.

    Args:
        example: of a slice; its values don't matter.

    Returns:
        Whether such a layer with a bias was found.
    """
    convolutions = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.out_channels == tissues
    }
    training = network.training
    with torch.no_grad(), capture_outputs(convolutions) as outputs:
        network.eval()(example)
    network.train(training)
    # By use, because modules needn't be listed in the order in which they are called.
    bias = convolutions[list(outputs)[-1]].bias if outputs else None
    if bias is None:
        return False
    nn.init.constant_(bias, log(prior / (1 - prior)))
    return True


def _normalisation(name: str, channels: int, grey_mean: float, grey_std: float) -> dict[str, list[float]]:
    """What the weights expect, in units of the normalised grey levels that the network is given."""
    means, stds = find_normalisation(name)
    # Of one grey channel the mean of the three colours.
    if len(means) != channels:
        means, stds = ((sum(values) / len(values),) * channels for values in (means, stds))
    return {
        "input_mean": [(EACH * mean - grey_mean) / grey_std for mean in means],
        "input_std": [EACH * std / grey_std for std in stds],
    }


def _digest(pretrained: bool | str) -> str:
    """Digest of the content of a file, so that a moved file is the same; that a library's own are used, without one."""
    if isinstance(pretrained, str):
        path = Path(pretrained).expanduser()
        # A file that is missing is refused when it is read.
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() if path.is_file() else ""
    return "the library's"
