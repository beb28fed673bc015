"""A folder of people's scans, read under pseudonyms."""

from pathlib import Path

from brain_tumor.data.common.pseudonyms import Pseudonyms
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.pseudonymous_folder import make_pseudonymous
from brain_tumor.datasets.source import FolderDataset


class PseudonymousDataset(FolderDataset):
    """Links to the files of a folder, whose names say nothing of persons; loading gives their folder.

    Args:
        source: the folder as the catalog has it.
        links: where the links are.
        key: where salt and key are.
        data_set: how files of patients are named.
    """

    def __init__(self, *, source: FolderDataset, links: str, key: str, data_set: DataSet) -> None:
        super().__init__(filepath=source._describe()["filepath"], metadata=source.metadata)
        self._source, self._links, self._key, self._data_set = source, Path(links), Path(key), data_set

    def load(self) -> Path:
        """The folder of the links, which are brought up to date first."""
        names = Pseudonyms(self._key, self._data_set.find_person)
        return make_pseudonymous(self._source.load(), self._links, names, self._data_set)
