"""Cache of the inspections of raw files."""

from pathlib import Path
from typing import Any

import joblib
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from brain_tumor.datasets.preview import show_files


class InspectionsDataset(AbstractDataset[Any, joblib.Memory]):
    """A folder of cached inspections, as a `joblib.Memory`. Safe to delete: the files are then read again.

    Args:
        filepath: the folder.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> joblib.Memory:
        """The cache."""
        return joblib.Memory(self._folder, verbose=0)

    def save(self, data: Any) -> None:
        """Not supported: cached functions fill the folder."""
        raise DatasetError(f"{self._folder} is filled by the functions cached in it, not saved")

    def preview(self) -> TablePreview:
        """Number and size of the cached files."""
        return show_files(self._folder)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}

    def _exists(self) -> bool:
        # An empty cache is a valid one.
        return True
