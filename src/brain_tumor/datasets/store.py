"""Stores of rows in HDF5, written once for each fingerprint of files and settings."""

import logging
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import ImagePreview

from brain_tumor.data.common.atomic import replacing
from brain_tumor.data.common.store import Store, StoreContent, write_store
from brain_tumor.datasets.preview import show_figure

logger = logging.getLogger(__name__)


class StoreDataset(AbstractDataset[StoreContent, Store]):
    """Rows of arrays in one HDF5 file.

    Content whose fingerprint the file already has isn't written again.

    Args:
        filepath: the HDF5 file.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> Store:
        """A handle that reads arrays on demand."""
        if not self._exists():
            raise DatasetError(f"{self._path} isn't there; run the pipeline that writes it first")
        return Store(self._path)

    def save(self, data: StoreContent) -> None:
        """Write the rows; the old file is replaced in one step."""
        fingerprint = data.description.get("fingerprint")
        if fingerprint and self._fingerprint() == fingerprint:
            # Content is an iterator that prepares rows on demand, so that this saves the preparation too.
            words = "%s is up to date: same files, same settings (fingerprint %s); not prepared again"
            logger.info(words, self._path, fingerprint)
            return
        with replacing(self._path) as draft:
            rows = write_store(draft, data)
        logger.info("wrote %d rows to %s", rows, self._path)

    def preview(self, rows: int = 30, transpose: bool = False) -> ImagePreview:
        """Pictures of some rows, evenly spaced; `transpose` for scans, whose rows run from right to left."""
        from brain_tumor.figures.store import draw_store, spread

        store = self.load()
        shapes = store.shapes
        length = max((shape[0] for shape in shapes.values()), default=0)
        chosen = spread(length, rows)
        names = [name for name, shape in shapes.items() if len(shape) > 1]
        arrays = dict(zip(names, store.read(chosen, *names), strict=True))
        # Some stores have arrays only.
        table = store.rows.take(chosen) if len(store.rows) else store.rows
        return show_figure(draw_store(table, arrays, store.description, transpose))

    def _fingerprint(self) -> str | None:
        try:
            return Store(self._path).description.get("fingerprint")
        except (OSError, KeyError):
            return None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}

    def _exists(self) -> bool:
        return self._path.is_file()
