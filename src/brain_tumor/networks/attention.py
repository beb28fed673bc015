"""Base class of attention modules, and context managers that capture or ablate their maps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class Attention(nn.Module, ABC):
    """A module with an attention map over the pixels of its input."""

    # Both methods take what a forward hook gets, so that maps are computed only while somebody captures them.

    @abstractmethod
    def attention_map(self, inputs: tuple[Any, ...], output: Any) -> Float[Tensor, "b 1 h w"]:
        """The map of one forward pass, from the module's inputs and output."""

    @abstractmethod
    def ablated_output(self, inputs: tuple[Any, ...], output: Any) -> Any:
        """The module's output for a uniform map: its mean over each slice, at every pixel."""


def attention_modules(network: nn.Module) -> dict[str, Attention]:
    """The network's attention modules by name, in the order of its definition; empty for most networks."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Attention)}


@contextmanager
def capture_attention(network: nn.Module) -> Iterator[dict[str, Float[Tensor, "b 1 h w"]]]:
    """While open, the attention maps of the last forward pass by module name.

    >>> with capture_attention(network) as maps:
    ...     logits = network(x)
    """

    def read_map(module: Attention, inputs: tuple[Any, ...], output: Any) -> Tensor:
        return module.attention_map(inputs, output)

    with capture_outputs(attention_modules(network), read_map) as maps:
        yield maps


@contextmanager
def capture_outputs(
    modules: Mapping[str, nn.Module],
    read: Callable[[Any, tuple[Any, ...], Any], Tensor] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """While open, the outputs of modules in the last forward pass, by name.

    Args:
        read: what to store instead of the output, from (module, inputs, output).
    """
    outputs: dict[str, Tensor] = {}

    def store(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        outputs[name] = read(module, inputs, output) if read else output

    handles = [module.register_forward_hook(partial(store, name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        # Also after an error: a hook that stays would keep every later batch's maps in memory.
        for handle in handles:
            handle.remove()


@contextmanager
def ablate_attention(network: nn.Module, name: str) -> Iterator[None]:
    """While open, the map of one attention module is uniform (mean ablation)."""

    def ablate(module: Attention, inputs: tuple[Any, ...], output: Any) -> Any:
        return module.ablated_output(inputs, output)

    # A forward hook that returns a value replaces the module's output.
    module = attention_modules(network)[name]
    handle = module.register_forward_hook(ablate)
    try:
        yield
    finally:
        handle.remove()
