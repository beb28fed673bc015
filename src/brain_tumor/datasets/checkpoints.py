"""Folders of checkpoints."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from brain_tumor.datasets.preview import show_files
from brain_tumor.training.checkpoints import Checkpoints


class CheckpointsDataset(AbstractDataset[Any, Checkpoints]):
    """Checkpoints from which an experiment's training resumes. Safe to delete: training then starts anew.

    Args:
        filepath: the folder.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> Checkpoints:
        """The folder, to which training writes."""
        return Checkpoints(self._folder)

    def save(self, data: Any) -> None:
        """Not supported: training writes checkpoints itself."""
        raise DatasetError(f"{self._folder} is written by training, not saved")

    def preview(self) -> TablePreview:
        """Number and size of the checkpoints."""
        return show_files(self._folder)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}

    def _exists(self) -> bool:
        # An empty folder is a valid one: training starts anew.
        return True
