"""Folders of people's scans and images, read under pseudonyms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from brain_tumor.datasets.source import FolderDataset, FoldersDataset

Rename = Callable[[Path], Path]
"""Makes links under pseudonyms to the files of a folder, and gives the folder of the links."""


class PseudonymousDataset(FolderDataset):
    """Links to the files of a folder, whose names say nothing of persons; loading gives their folder.

    Args:
        source: the folder as the catalog has it.
        rename: brings the links up to date.
    """

    def __init__(self, *, source: AbstractDataset[Any, Path], rename: Rename) -> None:
        super().__init__(filepath=source._describe()["filepath"], metadata=getattr(source, "metadata", None))
        self._source, self._rename = source, rename

    def load(self) -> Path:
        """The folder of the links."""
        return self._rename(self._source.load())


class PseudonymousFoldersDataset(FoldersDataset):
    """The same of several folders."""

    def __init__(self, *, source: FoldersDataset, rename: Rename) -> None:
        super().__init__(folders=source._describe()["folders"], metadata=source.metadata)
        self._source, self._rename = source, rename

    def load(self) -> dict[str, Path]:
        """Name > folder of the links."""
        return {name: self._rename(folder) for name, folder in self._source.load().items()}
