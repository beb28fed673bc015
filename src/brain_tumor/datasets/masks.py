"""Predicted masks as NIfTI files in one folder."""

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from brain_tumor.data.survival.tumour_masks import Mask
from brain_tumor.datasets.written import WrittenFolderDataset

logger = logging.getLogger(__name__)


class MasksDataset(WrittenFolderDataset):
    """A NIfTI file for each patient; loading gives the folder. Other files in it are left alone.

    Args:
        filepath: the folder.
    """

    def save(self, data: Iterator[Mask]) -> None:
        """Write the masks one by one."""
        # Beside the folder first, so that a file in it is whole or not there.
        self._folder.mkdir(parents=True, exist_ok=True)
        count = 0
        with TemporaryDirectory(prefix=f".{self._folder.name}.", dir=self._folder.parent) as draft:
            for mask in data:
                mask.write(Path(draft) / mask.file)
                (Path(draft) / mask.file).replace(self._folder / mask.file)
                count += 1
        logger.info("wrote %d masks to %s", count, self._folder)
