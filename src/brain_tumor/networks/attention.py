"""What modules that attend have in common.

A map of where they look, and what they would give if they looked nowhere in particular.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class Attention(nn.Module, ABC):
    """A module with a map over the places of its input."""

    @abstractmethod
    def attention_map(self, inputs: tuple[Any, ...], output: Any) -> Float[Tensor, "b 1 h w"]:
        """The map, given what went in and came out."""

    @abstractmethod
    def level(self, inputs: tuple[Any, ...], output: Any) -> Any:
        """What would have come out if the map were flat: its mean at every place of the slice."""


def attention_modules(network: nn.Module) -> dict[str, Attention]:
    """The modules that attend, by their name in the network, in the order of its definition; none in most networks."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Attention)}


@contextmanager
def capture_attention(network: nn.Module) -> Iterator[dict[str, Float[Tensor, "b 1 h w"]]]:
    """While open, the maps of the last forward pass by the name of their module.

    >>> with capture_attention(network) as maps:
    ...     logits = network(x)
    """
    with capture_outputs(
        attention_modules(network), lambda module, inputs, output: module.attention_map(inputs, output)
    ) as maps:
        yield maps


@contextmanager
def capture_outputs(
    modules: Mapping[str, nn.Module], read: Callable[[Any, tuple[Any, ...], Any], Tensor] | None = None
) -> Iterator[dict[str, Tensor]]:
    """While open, what modules gave in the last forward pass, or what `read` makes of what went in and came out, by name."""
    found: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        found[name] = read(module, inputs, output) if read else output

    handles = [module.register_forward_hook(partial(keep, name)) for name, module in modules.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def ablate_attention(network: nn.Module, name: str) -> Iterator[None]:
    """While open, the map of one module is flat."""
    handle = attention_modules(network)[name].register_forward_hook(
        lambda module, inputs, output: module.level(inputs, output)
    )
    try:
        yield
    finally:
        handle.remove()
