"""Checkpoints of training, in a folder named after the fingerprint of settings and data.

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


def code_fingerprint() -> str:
    """Digest of the code of networks and training and of torch's version; other code never resumes a checkpoint."""
    package = Path(brain_tumor.__file__).parent
    files = [*(package / "networks").rglob("*.py"), *(package / "training").rglob("*.py")]
    code = b"".join(file.read_bytes() for file in sorted(files))
    return hashlib.blake2b(code + version("torch").encode(), digest_size=8).hexdigest()
