"""Checkpoints: everything a run needs to go on where it was killed, in a folder named after the settings and data it came from.

Imports torch only to read one.
"""

import hashlib
import logging
import os
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import brain_tumor

logger = logging.getLogger(__name__)

KEPT = 2
"""Checkpoints kept: the last, and the one before in case the last is damaged."""


@dataclass(frozen=True)
class Checkpoints:
    """A folder of checkpoints, one for each of the last epochs."""

    folder: Path

    @property
    def experiment(self) -> str:
        """The experiment whose networks are trained here: the folder is `{experiment}/checkpoints`."""
        return self.folder.absolute().parent.name

    def of(self, fingerprint: str) -> "Checkpoints":
        """The part that belongs to these settings and data."""
        return Checkpoints(self.folder / fingerprint)

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The last checkpoint that can be read, and what it holds; damaged ones are set aside."""
        for path in self._all():
            try:
                return path, _read(path)
            except Exception as error:  # a damaged file fails in many ways
                aside = path.rename(path.with_suffix(".damaged"))
                logger.warning(
                    "%s can't be read (%s); set aside as %s, going on from the checkpoint before it",
                    path,
                    error,
                    aside.name,
                )
        return None

    def path(self, epoch: int) -> Path:
        """Where the checkpoint of an epoch is."""
        return self.folder / f"epoch_{epoch:05d}.ckpt"

    def keep(self, draft: Path, epoch: int) -> None:
        """Make a written draft the checkpoint of an epoch, in one step; remove those that are too old."""
        os.replace(draft, self.path(epoch))  # noqa: PTH105
        for path in self._all()[KEPT:]:
            path.unlink()

    def _all(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("epoch_*.ckpt"), reverse=True)


def _read(path: Path) -> dict[str, Any]:
    import torch

    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()  # torch.load doesn't look at checksums
    if damaged:
        raise ValueError(f"{damaged} has a wrong checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def code_fingerprint() -> str:
    """Digest of what decides how a network is computed and trained: other code never goes on from a checkpoint."""
    package = Path(brain_tumor.__file__).parent
    files = sorted(file for folder in ("networks", "training") for file in (package / folder).rglob("*.py"))
    return hashlib.blake2b(
        b"".join(file.read_bytes() for file in files) + version("torch").encode(), digest_size=8
    ).hexdigest()
