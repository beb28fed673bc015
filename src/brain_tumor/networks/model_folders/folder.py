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

import numpy as np
from jaxtyping import Float, Num

from brain_tumor.networks.library import find_version, first_line
from brain_tumor.networks.model_folders import monai_bundle, nnunet
from brain_tumor.networks.model_folders.axes import reorient

PredictScan = Callable[[Num[np.ndarray, "m x y z"], Float[np.ndarray, "4 4"], str], Float[np.ndarray, "k x y z"]]
"""Channels on one grid, its affine, and the axes of the scan's files > the probability of each class on that grid."""

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
        digest: of its weights and configuration, 12 hexadecimal digits.
        simulated: whether it was trained on phantoms that this project exported.
        axes: that it is given volumes in, such as `RAS`; None: those of the scan's files.
    """

    path: Path
    kind: str
    name: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    exclusive: bool
    digest: str
    simulated: bool = False
    axes: str | None = None

    @property
    def experiment(self) -> str:
        """Its name, where networks of this project bear that of an experiment."""
        return self.name

    @property
    def tumour_classes(self) -> tuple[str, ...]:
        """Its classes without background."""
        return self.classes[1:] if self.exclusive else self.classes

    @property
    def software(self) -> str:
        """The package that predicts with it, and its version."""
        package = KINDS[self.kind].PACKAGE
        return f"{package} {find_version(package)}"

    @property
    def patients(self) -> None:
        """Names of the patients that it was trained on, which aren't recorded."""

    def require_installed(self) -> None:
        """Refuse a folder that nothing here can open.

        Raises:
            ImportError: with the command that installs the other project.
        """
        package = KINDS[self.kind].PACKAGE
        if find_spec(package) is None:
            raise ImportError(
                f"{self.path} is {_name(self.kind)}, and {package} isn't installed: pip install {package}"
            )

    def open(self, device: str, *, mirrored: bool) -> PredictScan:
        """The network, ready to predict.

        Args:
            device: by torch's name.
            mirrored: average over mirrored volumes, where the other project does so.

        Raises:
            ValueError: if the folder can't be opened, such as one whose weights don't fit. So does what is given back,
                if it can't predict.
        """
        from torch import device as find_device

        with self._run("opened"):
            predict = KINDS[self.kind].open_network(self.path, find_device(device), mirrored=mirrored)

        def run(
            image: Num[np.ndarray, "m x y z"], affine: Float[np.ndarray, "4 4"], axes: str
        ) -> Float[np.ndarray, "k x y z"]:
            turned, turned_affine, turn_back = reorient(image, affine, self.axes or axes)
            with self._run("used"):
                probability = predict(turned, turned_affine)
                found, scan = probability.shape, turned.shape[1:]
                if found != (len(self.classes), *scan):
                    raise ValueError(
                        f"it gives {_write(found)} values for {len(self.classes)} classes of {_write(scan)} voxels"
                    )
            return turn_back(probability)

        return run

    @contextmanager
    def _run(self, verb: str) -> Iterator[None]:
        """Without what the other project prints, and warns whoever trained the network of."""
        try:
            with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        except Exception as error:
            # Any error: code of others fails in its own ways.
            remedy = f"try it with {KINDS[self.kind].PACKAGE} alone"
            raise ValueError(f"{self.path} can't be {verb}: {first_line(error)}; {remedy}") from error


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
            f"{path} is {_name(kind)}: opening it runs code that it holds; if you trust who wrote it, add its path to "
            "the parameter trusted_packages, as in `--params trusted_packages=PATH`"
        )
    try:
        about = KINDS[kind].describe(path)
    except OSError as error:
        raise ValueError(
            f"{error.filename or path} can't be read ({error.strerror}); is the folder complete?"
        ) from error
    except KeyError as error:
        raise ValueError(f"{path}: its JSON files lack {error}; is it a folder of an earlier version?") from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path} can't be used: {first_line(error)}") from error
    name = f"{kind} {about.pop('name')}"
    return ModelFolder(path, kind, name, digest=_digest(about.pop("files")), **about)


def _name(kind: str) -> str:
    return f"a {kind}" if kind == monai_bundle.KIND else f"a model folder of {kind}"


def _write(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _digest(files: Sequence[Path]) -> str:
    mark = hashlib.blake2b(digest_size=6)
    for file in files:
        with file.open("rb") as content:
            mark.update(hashlib.file_digest(content, "blake2b").digest())
    return mark.hexdigest()
