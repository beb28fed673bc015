"""Pages that show the scans and masks of one patient each, in one folder."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from brain_tumor.data.common.atomic import replacing

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
        self._address = address
        self.metadata = metadata

    def load(self) -> dict[str, str]:
        """Patient > address, in the order in which they were written."""
        return {patient: f"{self._address}/{quote(f'{patient}.html')}" for patient in self._read()}

    def files(self) -> dict[str, Path]:
        """Patient > file, in the same order."""
        return {patient: self._file(patient) for patient in self._read()}

    def save(self, data: Iterator[tuple[str, str]]) -> None:
        """Write patients' pages one by one, and delete those of an earlier run that aren't made any more."""
        before = self._read()
        written: list[str] = []
        for patient, page in data:
            written.append(patient)
            # First, so that after an interruption none of them is taken for somebody else's.
            self._note([*written, *(name for name in before if name not in written)])
            with replacing(self._file(patient)) as draft:
                draft.write_text(page, encoding="utf-8")
        for patient in set(before) - set(written):
            self._file(patient).unlink(missing_ok=True)
        self._note(written)
        if written:
            logger.info("wrote %d viewers to %s", len(written), self._folder)

    def preview(self) -> TablePreview:
        """The patients, and the size of their pages.

        Raises:
            DatasetError: if there are none.
        """
        patients = self._read()
        if not patients:
            raise DatasetError(f"{self._folder} holds no viewers; run the pipeline that writes them first")
        rows = [[patient, f"{self._file(patient).stat().st_size / 1e6:.1f}"] for patient in patients]
        return TablePreview({"columns": ["patient", "MB"], "index": list(range(len(rows))), "data": rows})

    def _file(self, patient: str) -> Path:
        return self._folder / f"{patient}.html"

    def _note(self, patients: list[str]) -> None:
        with replacing(self._folder / WRITTEN) as draft:
            draft.write_text(json.dumps(patients), encoding="utf-8")

    def _read(self) -> list[str]:
        try:
            patients = json.loads((self._folder / WRITTEN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return [patient for patient in patients if self._file(patient).is_file()]

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}

    def _exists(self) -> bool:
        return (self._folder / WRITTEN).is_file()
