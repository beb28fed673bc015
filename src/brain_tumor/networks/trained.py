"""A trained network as a plain value: its name, sizes, weights, and what it expects of its input."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brain_tumor.networks import build

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TrainedNetwork:
    """Everything needed to use a network, and nothing of how it was trained.

    Attributes:
        name: one of NETWORKS.
        sizes: keyword arguments of `build`.
        description: plain values: data set, modalities, tissues, preparation, best validation score, whether simulated.
        weights: the state dict.
    """

    name: str
    sizes: dict[str, int]
    description: dict[str, Any]
    weights: dict[str, "Tensor"]

    def module(self) -> "nn.Module":
        """The network with its weights, in evaluation mode."""
        network = build(self.name, **self.sizes)
        network.load_state_dict(self.weights)
        return network.eval()

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in build(self.name, **self.sizes).parameters())
