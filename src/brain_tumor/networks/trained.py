"""A trained network as a plain value: its name, sizes, weights, and what it expects of its input."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brain_tumor.data.common.renamed import NETWORK_FILE, rename_entries
from brain_tumor.data.common.store import Store
from brain_tumor.networks import build

if TYPE_CHECKING:
    from torch import Tensor, nn

    Weights = dict[str, Tensor]
else:
    Weights = dict


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""What normalisation keeps beside its parameters. A network with other buffers would have to be added here."""


@dataclass(frozen=True)
class TrainedNetwork:
    """Everything needed to use a network, and nothing of how it was trained.

    Attributes:
        name: one of NETWORKS.
        sizes: keyword arguments of `build`.
        description: plain values: data set, modalities, tissues, preparation, recipe, scores, whether simulated;
            of masks also how many patients and slices each member learned from, who they all were, and what the weights
            that it started from knew.
        members: the state dict of the network; of each network where several, trained on different folds, answer
            together.
    """

    name: str
    sizes: dict[str, Any]
    description: dict[str, Any]
    members: tuple[Weights, ...]

    @property
    def experiment(self) -> str:
        """The experiment that it was trained in, by which it is told from others of its kind.

        In earlier files the name of the network.
        """
        return self.description.get("experiment", self.name)

    def module(self) -> "nn.Module":
        """The network with its weights, in evaluation mode; the mean of its members where there are several."""
        if len(self.members) == 1:
            return self.member(0)
        from brain_tumor.networks.ensemble import Ensemble

        return Ensemble([self.member(k) for k in range(len(self.members))]).eval()

    def member(self, number: int) -> "nn.Module":
        """One of the networks that answer together, in evaluation mode."""
        network = build(self.name, **self.sizes)
        network.load_state_dict(self.members[number])
        return network.eval()

    @property
    def digest(self) -> str:
        """A few characters that tell these weights from others."""
        mark = hashlib.blake2b(digest_size=6)
        for member in self.members:
            for name, value in sorted(member.items()):
                mark.update(name.encode())
                mark.update(value.numpy().tobytes())
        return mark.hexdigest()

    @property
    def patients(self) -> frozenset[str] | None:
        """Names of all whom it learned from or was validated with, by any of its members or before.

        None if its file doesn't say.
        """
        about = self.description
        before = about.get("initialised_from")
        if before and before["simulated"] == about["simulated"] and before.get("scored") is None:
            return None
        if "patients" in about:
            return frozenset(about["patients"])
        return frozenset().union(*about["validation_patients"]) if len(self.members) > 1 else None

    @property
    def parameters(self) -> int:
        """Number of trainable parameters of one member, counted in its weights.

        Building the network to ask it takes a second where it is large.
        """
        return sum(
            value.numel() for name, value in self.members[0].items() if name.rpartition(".")[2] not in STATISTICS
        )


def require_made_by(made: Store, network: TrainedNetwork) -> None:
    """Refuse a store of what a network answered, if the network has been replaced since.

    Raises:
        ValueError: if the answers are of other weights.
    """
    if made.description.get("weights") != network.digest:
        raise ValueError(
            f"{made.path} was not made by the weights that {network.experiment} has now; run what makes it "
            "again, such as the whole pipeline"
        )


def write_network(path: Path, network: TrainedNetwork) -> None:
    """One safetensors file; name, sizes and description are in its header as JSON."""
    from safetensors.torch import save

    header = {"name": network.name, "sizes": network.sizes, "description": network.description}
    weights = {f"{k}.{name}": value for k, member in enumerate(network.members) for name, value in member.items()}
    path.write_bytes(
        save(weights, {key: json.dumps(value) for key, value in header.items()})
    )  # its own `save_file` lets nobody else read the file


def read_network(path: Path) -> TrainedNetwork:
    """What `write_network` wrote; weights on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it isn't such a file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        remedy = (
            "train one (`kedro run --pipelines segmentation`), or give the path of a .safetensors file that "
            "this project wrote"
        )
        raise FileNotFoundError(f"there is no network at {path}; {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            header = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            if "description" in header:  # as an earlier version may have written it
                header["description"] = rename_entries(header["description"], NETWORK_FILE)
            members: dict[int, dict[str, Tensor]] = {}
            for key in file.keys():  # noqa: SIM118
                number, name = key.split(".", 1)
                members.setdefault(int(number), {})[name] = file.get_tensor(key)
        return TrainedNetwork(**header, members=tuple(members[k] for k in sorted(members)))
    except (SafetensorError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} isn't a network that this project wrote ({error}); give the path of one of its .safetensors files"
        ) from error
