"""Masks that networks found, as NIfTI files in one folder."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from brain_tumor.data.masks import Mask
from brain_tumor.datasets.preview import show_files

logger = logging.getLogger(__name__)


class MasksDataset(AbstractDataset[Iterator[Mask], Path]):
    """A NIfTI file for each patient, written as they come; loading gives the folder. Masks of patients that are no longer there go.

    Args:
        filepath: the folder.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """The folder of the masks."""
        if not self._exists():
            raise DatasetError(f"{self._folder} isn't there; run the pipeline that writes it first")
        return self._folder

    def save(self, data: Iterator[Mask]) -> None:
        """Write each mask under another name first, so that a file is whole or not there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        written = set()
        for mask in data:
            path, draft = self._folder / mask.file, self._folder / f"draft.{mask.file}"  # NIfTI goes by the ending
            mask.write(draft)
            draft.replace(path)
            written.add(path)
        for path in set(self._folder.glob("*.nii.gz")) - written:
            path.unlink()
        logger.info("wrote %d masks to %s", len(written), self._folder)

    def preview(self) -> TablePreview:
        """How many masks there are."""
        return show_files(self._folder)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}

    def _exists(self) -> bool:
        return self._folder.is_dir()
