"""A library's network as the project uses networks: sizes are padded, one output is returned, inputs are normalised."""

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from brain_tumor.networks.cpu import compute_depthwise_in_fp32
from brain_tumor.networks.library import first_line, make

logger = logging.getLogger(__name__)

MULTIPLES = (16, 32, 64, 128)
"""What sides are padded to multiples of, the first that a network takes. Images of one size are tried without too."""


class AdaptedNetwork(nn.Module):
    """A network of a library, by its path.

    Args:
        image_size: side of the images, for networks that are built for one size.
        pad_to: sides are padded with 0 to a multiple of it; the output is cut back.
        input_mean: of each channel, in the units of the input; with `input_std`, the normalisation that the weights of
            the network expect.
        cam_layer: module whose output saliency maps are made from; None takes the last map.
    """

    def __init__(
        self,
        path: str,
        *,
        in_channels: int,
        out_channels: int,
        image_size: int | None = None,
        pad_to: int = 1,
        input_mean: Sequence[float] | None = None,
        input_std: Sequence[float] | None = None,
        cam_layer: str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        self.path, self.pad_to, self.cam_layer = path, pad_to, cam_layer
        self.out_channels = out_channels
        self.input_shape = (in_channels, image_size or 0, image_size or 0)
        self.normalisation = (input_mean, input_std) if input_mean and input_std else None
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "image_size": image_size}
        self.network, is_told_size = make(path, sizes, arguments)
        compute_depthwise_in_fp32(self.network)
        self.side = image_size if is_told_size else None
        # Some libraries have a layer under two names; files hold its weights once.
        self.register_state_dict_post_hook(_drop_aliases)
        self.register_load_state_dict_pre_hook(_add_aliases)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k ..."]:
        """Logits: of classes, or of tissues at the size of the input."""
        if self.normalisation:
            mean, std = (x.new_tensor(values)[:, None, None] for values in self.normalisation)
            x = (x - mean) / std
        padding = self.padding(*x.shape[-2:])
        if any(padding):
            x = pad(x, padding)
        y = first_output(self.network(x))
        if y.ndim == 4 and any(padding):
            left, right, top, bottom = padding
            y = y[..., top : y.shape[-2] - bottom, left : y.shape[-1] - right]
        return y

    def padding(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Pixels that are added left, right, above and below an image.

        Raises:
            ValueError: if the network is built for smaller images.
        """
        if self.side and max(height, width) > self.side:
            raise ValueError(
                f"{self.path} is built for images of {self.side}x{self.side}, got {height}x{width}; give a larger "
                "image_size in its `sizes`"
            )
        rows, columns = (self.side or ceil(side / self.pad_to) * self.pad_to for side in (height, width))
        top, left = (rows - height) // 2, (columns - width) // 2
        return left, columns - width - left, top, rows - height - top

    def find_cam_layer(self, x: Float[Tensor, "b c h w"]) -> str:
        """The module whose output saliency maps are made from: the one declared, or the last that gives a map.

        Raises:
            ValueError: if there is none.
        """
        modules = dict(self.network.named_modules())
        if self.cam_layer is not None:
            if self.cam_layer in modules:
                return self.cam_layer
            raise ValueError(f"{self.path} has no module {self.cam_layer}; correct cam_layer in its `sizes`")
        maps: list[str] = []

        def note(name: str) -> Any:
            def look(module: nn.Module, inputs: Any, output: Any) -> None:  # what a hook is given  # noqa: ARG001
                # Square as the image is, which tells channels from places.
                if isinstance(output, Tensor) and output.ndim == 4 and 1 < output.shape[-2] == output.shape[-1]:
                    maps.append(name)

            return look

        handles = [module.register_forward_hook(note(name)) for name, module in modules.items() if name]
        with torch.no_grad():
            self(x)
        for handle in handles:
            handle.remove()
        if not maps:
            raise ValueError(
                f"no module of {self.path} gives a map that can be explained; name one: cam_layer in `sizes`"
            )
        return maps[-1]


def _find_aliases(module: nn.Module) -> dict[str, str]:
    """Other names of parameters and buffers that have several > the first name."""
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    for name, value in named:
        first.setdefault(id(value), name)
    return {name: first[id(value)] for name, value in named if first[id(value)] != name}


def _drop_aliases(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:  # noqa: ARG001
    for name in _find_aliases(module):
        state.pop(prefix + name, None)


def _add_aliases(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:  # noqa: ARG001
    for name, original in _find_aliases(module).items():
        if prefix + original in state:
            state[prefix + name] = state[prefix + original]


def first_output(output: Any) -> Tensor:
    """The output, or the first of several.

    Raises:
        ValueError: if that is no tensor.
    """
    while isinstance(output, list | tuple) and len(output):
        output = output[0]
    if not isinstance(output, Tensor):
        raise ValueError(f"it gives a {type(output).__name__}, not a tensor of logits")
    return output


def find_padding(path: str, sizes: dict[str, Any], *, maps: bool) -> dict[str, Any]:
    """Sizes with the least `pad_to` with which the network gives logits of the right shape, in training too.

    Args:
        sizes: arguments of AdaptedNetwork; a `pad_to` among them is tried alone.
        maps: whether it gives a map of logits, of slices with sides of multiples of 16; else logits of an image.

    Raises:
        ValueError: if there is none, with what is wrong.
    """
    tried: Sequence[int] = MULTIPLES if maps else (1, *MULTIPLES)
    if "pad_to" in sizes:
        tried = [sizes["pad_to"]]
    with _sandbox():
        network = AdaptedNetwork(path, **sizes)
    problem = ""
    for pad_to in tried:
        network.pad_to = pad_to
        # Odd multiples, for which no smaller padding would do.
        shape: tuple[int, int] = (3 * pad_to, 5 * pad_to)
        if not maps:
            shape = (sizes["image_size"], sizes["image_size"])
        elif network.side:
            shape = (network.side - 16, network.side)
        problem = problem_of(network, sizes["in_channels"], shape, maps=maps)
        if not problem:
            if gives_probabilities(network, sizes["in_channels"], shape):
                words = "%s: its outputs lie between 0 and 1, and the losses take logits; leave out its last activation"
                logger.warning(words, path)
            return sizes | {"pad_to": pad_to}
    raise ValueError(f"{path} can't be trained here: {problem}")


def problem_of(network: AdaptedNetwork, channels: int, shape: Sequence[int], *, maps: bool) -> str:
    """What is wrong with the logits of a batch of zeros, in evaluation and in training; empty if nothing is."""
    x = torch.zeros(2, channels, *shape)
    expected = [2, network.out_channels, *(shape if maps else ())]
    with _sandbox(), torch.no_grad():
        # A copy, for training changes the statistics of BatchNorm.
        copied = copy.deepcopy(network)
        for training in (False, True):
            try:
                found = list(copied.train(training)(x).shape)
            except Exception as error:
                # Any error: a library refuses sizes in its own ways.
                return f"a slice of {shape[0]}x{shape[1]} is refused ({first_line(error)})"
            if found != expected:
                return _explain_shape(found, expected, training=training)
    return ""


def gives_probabilities(network: AdaptedNetwork, channels: int, shape: Sequence[int]) -> bool:
    """Whether the outputs of weak and of strong noise differ and lie between 0 and 1; the network is evaluated."""
    with _sandbox(), torch.no_grad():
        torch.manual_seed(0)
        strength = torch.tensor([1.0, 100.0])[:, None, None, None]
        outputs = network.eval()(strength * torch.randn(2, channels, *shape))
    return bool(0 <= outputs.min() < outputs.max() <= 1)


def _explain_shape(found: list[int], expected: list[int], *, training: bool) -> str:
    when = "in training " if training else ""
    words = f"{when}it gives logits of shape {found} for a batch of 2, not {expected}"
    if len(found) > len(expected):
        return f"{words}; switch deep supervision off in its `sizes`"
    if found[2:] and found[2:] < expected[2:]:
        return f"{words}: its output is smaller than its input; give a network whose output has the size of its input"
    return words


@contextmanager
def _sandbox() -> Iterator[None]:
    """What is drawn here leaves the random numbers of training as they are."""
    with torch.random.fork_rng(devices=[]):
        yield
