"""What a model folder says of the network in it."""

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from brain_tumor.networks.library import first_line
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

    def require_installed(self) -> None:
        """Refuse a folder that nothing here can open.

        Raises:
            ImportError: with the command that installs the other project.
        """
        package = KINDS[self.kind].PACKAGE
        if find_spec(package) is None:
            raise ImportError(f"{self.path} is a folder of {self.kind}, which isn't installed: pip install {package}")

    def open(self, device: str, *, mirrored: bool) -> Predict:
        """The network, ready to predict.

        Args:
            device: by torch's name.
            mirrored: average over mirrored volumes, where the other project does so.

        Raises:
            ValueError: if weights don't fit, or the folder can't be opened for another reason.
        """
        from torch import device as find_device

        try:
            with _quiet():
                predict = KINDS[self.kind].open_network(self.path, find_device(device), mirrored=mirrored)
        except Exception as error:
            # Any error: the code of the folder fails in its own ways.
            raise ValueError(
                f"{self.path} can't be opened: {first_line(error)}; does {self.kind} predict with it?"
            ) from error
        return _quiet()(predict)


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what other projects print, and warn whoever trained the network of."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _digest(files: Sequence[Path]) -> str:
    mark = hashlib.blake2b(digest_size=6)
    for file in files:
        with file.open("rb") as content:
            mark.update(hashlib.file_digest(content, "blake2b").digest())
    return mark.hexdigest()
