"""Patients in the layout of nnU-Net."""

import logging

from kedro.io import DatasetError

from brain_tumor.data.common.atomic import replacing
from brain_tumor.data.common.parallel import show_progress
from brain_tumor.data.scans.nnunet import NnunetData
from brain_tumor.datasets.written import WrittenFolderDataset

logger = logging.getLogger(__name__)


class NnunetDataset(WrittenFolderDataset):
    """A folder as nnU-Net v2 takes it; loading gives the folder. One that holds files isn't overwritten.

    Args:
        filepath: the folder.
    """

    remedy = "write it with `kedro export nnunet FOLDER`"

    def save(self, data: NnunetData) -> None:
        """Write the patients; the folder is whole, or not there."""
        if self._folder.exists() and (not self._folder.is_dir() or any(self._folder.iterdir())):
            raise DatasetError(f"{self._folder} isn't empty; give a new folder, or delete it first")
        with (
            replacing(self._folder) as draft,
            show_progress(len(data.cases), f"writing {self._folder.name}") as progress,
        ):
            for _ in data.write(draft):
                progress.update()
        logger.info("wrote %d patients and %d folds to %s", len(data.cases), len(data.splits), self._folder)
