"""Pages that show the scans and masks of one patient each, in one folder."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from brain_tumor.data.common.atomic import replacing
from brain_tumor.datasets.written import WrittenFiles

logger = logging.getLogger(__name__)

WRITTEN = ".viewers.json"
"""File with the patients whose pages this dataset wrote in the folder; other pages aren't deleted."""


class ViewersDataset(AbstractDataset[Iterator[tuple[str, str]], dict[str, str]]):
    """An HTML page for each patient; loading gives patient > address of the page, from the report beside the folder.

    Args:
        filepath: the folder.
        address: of the folder, from the report that links to the pages, such as `viewers`.
    """

    def __init__(self, *, filepath: str, address: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self._pages = WrittenFiles(self._folder, WRITTEN, ".html")
        self._address = address
        self.metadata = metadata

    def load(self) -> dict[str, str]:
        """Patient > address, in the order in which they were written."""
        return {patient: f"{self._address}/{quote(f'{patient}.html')}" for patient in self._pages.names()}

    def files(self) -> dict[str, Path]:
        """Patient > file, in the same order."""
        return {patient: self._pages.path(patient) for patient in self._pages.names()}

    def save(self, data: Iterator[tuple[str, str]]) -> None:
        """Write patients' pages one by one, and delete those of an earlier run that aren't made any more."""
        count = self._pages.renew(data, _write)
        if count:
            logger.info("wrote %d viewers to %s", count, self._folder)

    def preview(self) -> TablePreview:
        """The patients, and the size of their pages.

        Raises:
            DatasetError: if there are none.
        """
        patients = self._pages.names()
        if not patients:
            raise DatasetError(f"{self._folder} holds no viewers; run the pipeline that writes them first")
        rows = [[patient, f"{self._pages.path(patient).stat().st_size / 1e6:.1f}"] for patient in patients]
        return TablePreview({"columns": ["patient", "MB"], "index": list(range(len(rows))), "data": rows})

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}

    def _exists(self) -> bool:
        return (self._folder / WRITTEN).is_file()


def _write(path: Path, page: str) -> None:
    with replacing(path) as draft:
        draft.write_text(page, encoding="utf-8")
