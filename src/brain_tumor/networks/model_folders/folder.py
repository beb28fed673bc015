"""What a model folder says of the network in it."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from brain_tumor.networks.model_folders import monai_bundle, nnunet

Predict = Callable[[Num[np.ndarray, "m h w d"], Float[np.ndarray, "4 4"]], Float[np.ndarray, "k h w d"]]
"""Channels on one grid (axes L, P, S), and its affine > the probability of each class on it."""

KINDS = {nnunet.KIND: nnunet, monai_bundle.KIND: monai_bundle}


@dataclass(frozen=True)
class ModelFolder:
    """A network that another project trained.

    Attributes:
        path: of the folder.
        kind: one of KINDS.
        name: the kind, and the data set that it was trained on, or the bundle.
        channels: what it calls the modalities, in the order of its input.
        classes: what it calls the channels of its output.
        exclusive: whether a voxel has one class, the most probable, of which the first is background. Otherwise classes
            are regions, which lie in one another.
        digest: of its weights, 12 hexadecimal digits.
        simulated: whether it was trained on phantoms that this project exported.
    """

    path: Path
    kind: str
    name: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    exclusive: bool
    digest: str
    simulated: bool = False

    @property
    def experiment(self) -> str:
        """Its name, where networks of this project bear that of an experiment."""
        return self.name

    @property
    def patients(self) -> None:
        """Names of the patients that it was trained on, which aren't recorded."""

    @property
    def description(self) -> dict[str, Any]:
        """Of what the files of this project say, the little that is known."""
        return {"tissues": list(self.classes), "simulated": self.simulated}

    def open(self, device: str, *, mirrored: bool) -> Predict:
        """The network, ready to predict.

        Args:
            device: by torch's name.
            mirrored: average over mirrored volumes, where the other project does so.

        Raises:
            ImportError: if the other project isn't installed.
            ValueError: if weights don't fit.
        """
        from torch import device as find_device

        return KINDS[self.kind].open_network(self.path, find_device(device), mirrored=mirrored)


def read_model_folder(path: Path, trusted: Sequence[str] = ()) -> ModelFolder:
    """Read what a folder says of its network; nothing in it is run.

    Args:
        trusted: folders whose code may run, later, when the network is opened.

    Raises:
        ValueError: if it is neither kind of folder, is damaged, or isn't trusted.
    """
    kind = next((kind for kind, module in KINDS.items() if (path / module.MARK).is_file()), None)
    if kind is None:
        marks = " nor ".join(f"{module.MARK} ({kind})" for kind, module in KINDS.items())
        raise ValueError(
            f"{path} is a folder without {marks}; give a .safetensors file of this project, or the folder of a trained "
            "model, such as nnUNet_results/Dataset501_BraTS/nnUNetTrainer__nnUNetPlans__2d"
        )
    # Pickles of nnU-Net and expressions of bundles are programs.
    if not any(Path(os.path.abspath(Path(each).expanduser())) == path.absolute() for each in trusted):  # noqa: PTH100
        raise ValueError(
            f"{path} is a folder of {kind}: opening it runs code that it holds; if you trust who wrote it, add "
            f"`--params trusted_packages={path}`"
        )
    try:
        about: dict[str, Any] = KINDS[kind].describe(path)
    except (KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise ValueError(f"{path / KINDS[kind].MARK} can't be read ({error!r}); is the folder complete?") from error
    name = f"{kind} {about.pop('name')}"
    return ModelFolder(path, kind, name, digest=_digest(about.pop("weights")), **about)


def _digest(files: Sequence[Path]) -> str:
    mark = hashlib.blake2b(digest_size=6)
    for file in files:
        with file.open("rb") as content:
            mark.update(hashlib.file_digest(content, "blake2b").digest())
    return mark.hexdigest()
