"""What datasets that write folders share: a folder that a run wrote, and the files in it that are a dataset's own."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, TypeVar

from kedro.io import DatasetError

from brain_tumor.data.common.atomic import replacing
from brain_tumor.datasets.source import FolderDataset

T = TypeVar("T")


class WrittenFolderDataset(FolderDataset):
    """A folder that a run writes; loading gives the folder, if it is there."""

    remedy: ClassVar[str] = "run the pipeline that writes it first"

    def load(self) -> Path:
        """The folder.

        Raises:
            DatasetError: if it isn't there.
        """
        if not self._exists():
            raise DatasetError(f"{self._folder} isn't there; {self.remedy}")
        return self._folder


class WrittenFiles:
    """Files that a dataset wrote in a folder which may hold others; their names are in a file there.

    Args:
        folder: where they are.
        note: name of the file with their names.
        suffix: what follows a name in that of its file.
    """

    def __init__(self, folder: Path, note: str, suffix: str = "") -> None:
        self._folder, self._note, self._suffix = folder, folder / note, suffix

    def path(self, name: str) -> Path:
        """The file of a name."""
        return self._folder / f"{name}{self._suffix}"

    def recorded(self) -> list[str] | None:
        """Names in the order in which they were written; None if they aren't recorded, as by earlier versions."""
        try:
            names = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return list(names)

    def names(self) -> list[str]:
        """Those of files that are still there."""
        return [name for name in self.recorded() or [] if self.path(name).is_file()]

    def renew(self, items: Iterable[tuple[str, T]], write: Callable[[Path, T], None]) -> int:
        """Write items one by one, and delete the files of an earlier run that aren't written any more.

        Args:
            items: name and content of each, one in memory at a time.
            write: writes the content into a file.

        Returns: their number.
        """
        before = self.names()
        written: list[str] = []
        for name, content in items:
            written.append(name)
            # First, so that after an interruption none of them is taken for somebody else's.
            self._write([*written, *(other for other in before if other not in written)])
            write(self.path(name), content)
        for name in set(before) - set(written):
            self.path(name).unlink(missing_ok=True)
        self._write(written)
        return len(written)

    def _write(self, names: list[str]) -> None:
        with replacing(self._note) as draft:
            draft.write_text(json.dumps(names), encoding="utf-8")
