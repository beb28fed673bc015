"""Volumes of patients as files in one folder, which holds those of the last run only."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from brain_tumor.data.common.atomic import replacing
from brain_tumor.datasets.written import WrittenFiles, WrittenFolderDataset

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


class VolumesDataset(WrittenFolderDataset):
    """A file for each volume; loading gives the folder. Files of earlier runs that this one doesn't write are removed.

    Args:
        filepath: the folder.
    """

    def save(self, data: Iterator[Writable]) -> None:
        """Write the files one by one, so that one volume is in memory at a time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        named = ((item.file, item) for item in data)
        count = WrittenFiles(self._folder, WRITTEN).renew(named, _write)
        logger.info("wrote %d files to %s", count, self._folder)


def _write(path: Path, item: Writable) -> None:
    # The ending of a draft tells no format: it is written in a folder of its own.
    beside = path.with_name(f"{path.name}.folder")
    with replacing(beside) as draft:
        draft.mkdir()
        item.write(draft / path.name)
        (draft / path.name).replace(path)
    beside.rmdir()
