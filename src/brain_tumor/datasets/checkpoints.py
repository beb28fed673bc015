"""Folders of checkpoints."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from brain_tumor.datasets.preview import show_files
from brain_tumor.training.checkpoints import Checkpoints


class CheckpointsDataset(AbstractDataset[Any, Checkpoints]):
    """Where an experiment's training goes on after an interruption. Safe to delete: training then starts anew.

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
        """Training writes them."""
        raise DatasetError(f"{self._folder} is written by training, not saved")

    def preview(self) -> TablePreview:
        """How many there are."""
        return show_files(self._folder)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}

    def _exists(self) -> bool:
        return True
