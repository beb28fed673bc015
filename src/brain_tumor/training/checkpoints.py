"""Checkpoints of training, in a folder named after the fingerprint of settings and data.

Imports torch only to read one.
"""

import json
import logging
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from pydantic import BaseModel

from brain_tumor.code_digest import digest_each
from brain_tumor.data.common.store import fingerprint
from brain_tumor.data.common.words import list_names
from brain_tumor.networks import NETWORKS
from brain_tumor.networks.library import find_version, is_library, is_outside, package_of
from brain_tumor.training.settings import EngineSettings, list_classes

logger = logging.getLogger(__name__)

MADE_FROM = "made_from.json"
"""Beside the checkpoints: what their weights are made from."""

CHANGED = "%s: trained before with other %s; training anew, the earlier checkpoints stay in %s"

NAMED = 4
"""Changes that are named."""

KEPT = 2
"""Number of checkpoints kept: the last, and the one before in case the last is damaged."""


@dataclass(frozen=True)
class Checkpoints:
    """A folder of checkpoints of the last epochs."""

    folder: Path

    @property
    def experiment(self) -> str:
        """Name of the experiment, from the folder `{experiment}/checkpoints`."""
        return self.folder.absolute().parent.name

    def of(self, fingerprint: str) -> "Checkpoints":
        """The folder inside of one fingerprint of settings and data."""
        return Checkpoints(self.folder / fingerprint)

    @property
    def fingerprint(self) -> str:
        """That of the settings and data whose folder this is."""
        return self.folder.name

    def open(self, made_from: dict[str, str]) -> "Checkpoints":
        """The folder of one training; a line in the log says what differs from the training before.

        Args:
            made_from: what the weights are made from, by name: settings, data, code. `fold` tells trainings of one
                experiment apart.
        """
        checkpoints = self.of(fingerprint(made_from))
        record = checkpoints.folder / MADE_FROM
        if not record.exists():
            before = self._last_made_from(made_from.get("fold"))
            if before:
                changed = [name for name in made_from | before if made_from.get(name) != before.get(name)]
                logger.info(CHANGED, self.experiment, list_names(changed, NAMED), self.folder)
            checkpoints.folder.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps(made_from, indent=1, sort_keys=True), encoding="utf-8")
        return checkpoints

    def _last_made_from(self, fold: str | None) -> dict[str, str] | None:
        """What the newest training of the same fold was made from."""
        records = sorted(self.folder.glob(f"*/{MADE_FROM}"), key=lambda path: path.stat().st_mtime, reverse=True)
        for record in records:
            made_from = json.loads(record.read_text(encoding="utf-8"))
            if made_from.get("fold") == fold:
                return made_from
        return None

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """Path and content of the last checkpoint that can be read; damaged ones are renamed to `.damaged`."""
        for path in self._all():
            try:
                return path, _read(path)
            except Exception as error:
                # Any error, because a damaged file fails in many ways.
                aside = path.rename(path.with_suffix(".damaged"))
                message = "%s can't be read (%s); set aside as %s, going on from the checkpoint before it"
                logger.warning(message, path, error, aside.name)
        return None

    def path(self, epoch: int) -> Path:
        """Path of the checkpoint of an epoch."""
        return self.folder / f"epoch_{epoch:05d}.ckpt"

    def keep(self, draft: Path, epoch: int) -> None:
        """Rename a written draft to the checkpoint of an epoch, and remove old ones."""
        # A rename is atomic: a run that is killed leaves a whole checkpoint or none.
        os.replace(draft, self.path(epoch))  # noqa: PTH105
        for path in self._all()[KEPT:]:
            path.unlink()

    def _all(self) -> list[Path]:
        # Newest first; numbers in names have leading zeros.
        return sorted(self.folder.glob("epoch_*.ckpt"), reverse=True)


def _read(path: Path) -> dict[str, Any]:
    import torch

    with zipfile.ZipFile(path) as archive:
        # `torch.load` doesn't check them.
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"{damaged} has a wrong checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def describe_training(
    task: str, network: str, sizes: Mapping[str, Any], recipe: BaseModel, engine: EngineSettings
) -> dict[str, str]:
    """The settings and the code that decide the weights of a network, by name."""
    from brain_tumor.training.device import what_is_computed

    precision, processes = what_is_computed(engine)
    named: dict[str, Any] = {"network": network, "seed": engine.seed, "precision": precision, "processes": processes}
    named |= {"sizes": sizes, "recipe": recipe.model_dump()}
    if engine.compile:
        # Compiled kernels round otherwise.
        named["compiled"] = True
    code = describe_code(network, task)
    for chosen in list_classes(recipe):
        code |= _describe_library(chosen)
    return {name: str(value) for name, value in _flatten(named)} | code


def _flatten(block: Mapping[str, Any], parents: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in block.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{parents}{name}.")
        else:
            yield f"{parents}{name}", value


def describe_code(network: str, task: str) -> dict[str, str]:
    """Digests of the code that decides the weights of a network: its own, that of its training, and torch's version.

    Comments, docstrings and the other networks don't count. Other code never resumes a checkpoint.
    """
    package = "brain_tumor"
    own = f"{package}.networks.{'adapted' if is_library(network) else network}"
    # Imported, so that a network outside the package is found. Not by `import_module`, which to the digest means that
    # any module may be imported.
    resolve_name(f"{own}:")
    # A network may be built on another one.
    its_own = digest_each([own])
    others = {f"{package}.networks.{name}" for name in NETWORKS} - set(its_own)
    # The package itself has the version, that of networks the table of all of them; paths of libraries are theirs.
    apart = others | {package, f"{package}.networks"}
    if not is_library(network):
        apart.add(f"{package}.networks.library")
    digests = digest_each([own, f"{package}.training.fit", f"{package}.training.{task}.task"], apart)
    counted = (f"{package}.networks.", f"{package}.training")
    code = {name: digest for name, digest in digests.items() if name.startswith(counted)}
    return code | {"torch": version("torch")} | (_describe_library(network) if is_library(network) else {})


def _describe_library(network: str) -> dict[str, str]:
    """The version of a library; of the user's own package the code itself, which changes without one."""
    package = package_of(network)
    if not is_outside(network):
        return {package: str(find_version(package))}
    module = network.rpartition(".")[0]
    resolve_name(f"{module}:")
    return digest_each([module])
