"""Volumes of patients as files in one folder, which holds those of the last run only."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from kedro.io import DatasetError

from brain_tumor.data.common.atomic import replacing
from brain_tumor.datasets.source import FolderDataset

logger = logging.getLogger(__name__)

WRITTEN = ".volumes.json"
"""File with the names of the files that this dataset wrote in the folder; others aren't deleted."""


@runtime_checkable
class Writable(Protocol):
    """What has a name and can be written."""

    @property
    def file(self) -> str:
        """Its name in the folder."""

    def write(self, path: Path) -> None:
        """Write it."""


class VolumesDataset(FolderDataset):
    """A file for each volume; loading gives the folder. Files of earlier runs that this one doesn't write are removed.

    Args:
        filepath: the folder.
    """

    def load(self) -> Path:
        """The folder of the volumes."""
        if not self._exists():
            raise DatasetError(f"{self._folder} isn't there; run the pipeline that writes it first")
        return self._folder

    def save(self, data: Iterator[Writable]) -> None:
        """Write the files one by one, so that one volume is in memory at a time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        before = self._written()
        names: set[str] = set()
        for item in data:
            # Before the file: after an interruption it isn't taken for somebody else's.
            names.add(item.file)
            self._note(before | names)
            self._write(item)
        for name in before - names:
            (self._folder / name).unlink(missing_ok=True)
        self._note(names)
        logger.info("wrote %d files to %s", len(names), self._folder)

    def _write(self, item: Writable) -> None:
        # The ending of a draft tells no format: it is written in a folder of its own.
        with replacing(self._folder / f"{item.file}.folder") as draft:
            draft.mkdir()
            item.write(draft / item.file)
            (draft / item.file).replace(self._folder / item.file)
        (self._folder / f"{item.file}.folder").rmdir()

    def _note(self, names: set[str]) -> None:
        with replacing(self._folder / WRITTEN) as draft:
            draft.write_text(json.dumps(sorted(names)), encoding="utf-8")

    def _written(self) -> set[str]:
        try:
            return set(json.loads((self._folder / WRITTEN).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return set()
