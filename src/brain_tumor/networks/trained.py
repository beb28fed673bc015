"""A trained network as a plain value: name, sizes, weights, and a description of its data and training."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brain_tumor.data.common.renamed import NETWORK_FILE, rename_entries
from brain_tumor.data.common.store import Store
from brain_tumor.networks import build
from brain_tumor.networks.familiarity import Familiarity
from brain_tumor.networks.library import require_trusted

if TYPE_CHECKING:
    from torch import Tensor, nn

    Weights = dict[str, Tensor]
else:
    Weights = dict


FAMILIARITY = "familiarity."
"""Before the number of a member and the name of one of its tensors, which are no weights."""

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Last parts of the names of buffers, which are no parameters. A network with other buffers needs them added here."""


@dataclass(frozen=True)
class TrainedNetwork:
    """Weights of a network, or of an ensemble of networks trained on different folds.

    Attributes:
        name: one of NETWORKS, or a library's: the path of a class, or `timm:NAME`.
        sizes: keyword arguments of `build`.
        description: plain values: data set, modalities, tissues, preparation, recipe, scores, whether simulated. Of
            segmentation networks also the number of training patients and slices of each member. The names of the
            patients that it was trained on (of classifiers, where a patient isn't known, of groups of duplicates), and
            the description of the initial checkpoint.
        members: a state dict for each member of the ensemble; one for a single network.
        familiarity: of classifiers, for each member what tells images apart that are unlike its training images; empty
            if it isn't known.
    """

    name: str
    sizes: dict[str, Any]
    description: dict[str, Any]
    members: tuple[Weights, ...]
    familiarity: tuple[Familiarity, ...] = ()

    @property
    def experiment(self) -> str:
        """Name of the experiment that trained it."""
        # Earlier files name the network only, when each was trained in one experiment.
        return self.description.get("experiment", self.name)

    @property
    def simulated(self) -> bool:
        """Whether it was trained on phantoms."""
        return bool(self.description.get("simulated"))

    def module(self) -> "nn.Module":
        """The network with its weights, or the ensemble, in evaluation mode."""
        if len(self.members) == 1:
            return self.member(0)
        # Imported here: it needs torch, and this module is read where no network is built.
        from brain_tumor.networks.ensemble import ClassifierEnsemble, Ensemble

        members = [self.member(k) for k in range(len(self.members))]
        kind = ClassifierEnsemble if "classes" in self.description else Ensemble
        return kind(members).eval()

    def of_fold(self, number: int) -> "TrainedNetwork":
        """The member that was trained in one fold, as a network of its own."""
        if len(self.members) == 1:
            return self
        return replace(self, members=(self.members[number],), familiarity=self.familiarity[number : number + 1])

    def member(self, number: int) -> "nn.Module":
        """One member of the ensemble, in evaluation mode."""
        network = build(self.name, **self.sizes)
        network.load_state_dict(self.members[number])
        return network.eval()

    def require_preparation(self, version: int | None) -> None:
        """Refuse to give it data that are prepared in another way than what it was trained on.

        Args:
            version: of the preparation of slices or images. Files and stores of 0.1.0 name none: it is the same still.

        Raises:
            ValueError: with both versions.
        """
        own = self.description.get("preparation", version)
        if version is not None and own != version:
            raise ValueError(
                f"{self.name} was trained on data of preparation {own}, and this version of the project prepares them "
                f"in another way ({version}); train it again, or use the version of the project that it is from"
            )

    @property
    def digest(self) -> str:
        """Hash of the weights, 12 hexadecimal digits."""
        mark = hashlib.blake2b(digest_size=6)
        for member in self.members:
            # Sorted, because a safetensors file has an order of its own.
            for name, value in sorted(member.items()):
                mark.update(name.encode())
                mark.update(value.numpy().tobytes())
        return mark.hexdigest()

    @property
    def patients(self) -> frozenset[str] | None:
        """Names of the training and validation patients of all members and of the initial checkpoint.

        None if they aren't recorded.
        """
        about = self.description
        before = about.get("initialised_from")
        # An initial checkpoint without names may have been trained on anybody of the same kind of data. Phantoms and
        # real patients never overlap, though their names do.
        if before and before["simulated"] == about["simulated"] and before.get("scored") is None:
            return None
        if "patients" in about:
            return frozenset(about["patients"])
        # Earlier files name validation patients only. In a cross-validation every patient is one of them, once.
        if len(self.members) > 1 and "validation_patients" in about:
            return frozenset().union(*about["validation_patients"])
        return None

    @property
    def parameters(self) -> int:
        """Number of trainable parameters of one member."""
        # Networks of libraries have buffers of any name; training counted their parameters.
        if "parameters" in self.description:
            return self.description["parameters"]
        # Counted in the weights: building a large network to count them takes a second.
        count = 0
        for name, value in self.members[0].items():
            if name.rpartition(".")[2] not in STATISTICS:
                count += value.numel()
        return count


def require_made_by(made: Store, network: TrainedNetwork) -> None:
    """Refuse a store of predictions if the network has been replaced since.

    Raises:
        ValueError: if they were predicted with other weights.
    """
    if made.description.get("weights") != network.digest:
        raise ValueError(
            f"{made.path} was not made by the weights that {network.experiment} has now; run what makes it "
            "again, such as the whole pipeline"
        )


def write_network(path: Path, network: TrainedNetwork, *, half: bool = False) -> None:
    """Write one safetensors file, with name, sizes and description as JSON in its header.

    Args:
        half: in fp16, half the size; `docs/experiments/shipped_weights.md` has what it changes.

    Raises:
        ValueError: if a weight is beyond fp16's range.
    """
    from safetensors.torch import save

    header = {"name": network.name, "sizes": network.sizes, "description": network.description}
    weights: Weights = {}
    for number, member in enumerate(network.members):
        weights |= {f"{number}.{name}": value for name, value in member.items()}
    for number, each in enumerate(network.familiarity):
        weights |= {f"{FAMILIARITY}{number}.{name}": value for name, value in _to_tensors(each).items()}
    if half:
        weights = {name: _halve(name, value) for name, value in weights.items()}
    metadata = {key: json.dumps(value) for key, value in header.items()}
    # Not safetensors' `save_file`, whose files only their owner can read.
    path.write_bytes(save(weights, metadata))


def _to_tensors(familiarity: Familiarity) -> Weights:
    from torch import as_tensor, float32

    return {name: as_tensor(value, dtype=float32).contiguous() for name, value in vars(familiarity).items()}


def _from_tensors(tensors: Weights) -> Familiarity:
    limit = tensors.pop("limit").item()
    return Familiarity(**{name: value.numpy() for name, value in tensors.items()}, limit=limit)


def _halve(name: str, value: "Tensor") -> "Tensor":
    if not value.is_floating_point():
        return value
    halved = value.half()
    if not halved.isfinite().all():
        raise ValueError(f"{name} has values beyond fp16's range; write it in fp32")
    return halved


def read_network(path: Path, trusted: Sequence[str] = ()) -> TrainedNetwork:
    """The network of a file that `write_network` wrote, its weights on the CPU.

    Args:
        trusted: packages whose code may run when the network is built, besides those of `networks/library.py`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is another one, or the network's code is from outside and its package isn't trusted.
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
            metadata = file.metadata() or {}
            if "sizes" not in metadata:
                raise ValueError("its header has no sizes; weights of a library are for `pretrained`")
            header = {key: json.loads(value) for key, value in metadata.items()}
            # Entries that an earlier version wrote under other names.
            if "description" in header:
                header["description"] = rename_entries(header["description"], NETWORK_FILE)
            # Files in fp16 too are computed with in fp32, or in what autocast takes.
            tensors = {key: _widen(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118
        familiar = {
            key.removeprefix(FAMILIARITY): tensors.pop(key) for key in [*tensors] if key.startswith(FAMILIARITY)
        }
        familiarity = tuple(map(_from_tensors, _group_members(familiar)))
        network = TrainedNetwork(**header, members=_group_members(tensors), familiarity=familiarity)
    except (SafetensorError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} isn't a network that this project wrote ({error}); give the path of one of its .safetensors files"
        ) from error
    require_trusted(network.name, trusted, f"the network of {path}")
    return network


def _widen(value: "Tensor") -> "Tensor":
    return value.float() if value.is_floating_point() else value


def _group_members(tensors: Weights) -> tuple[Weights, ...]:
    """`{member}.{name}` > tensor as a dict for each member, by number: the file sorts "10" before "2"."""
    members: dict[int, Weights] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        members.setdefault(int(number), {})[name] = value
    return tuple(members[number] for number in sorted(members))
