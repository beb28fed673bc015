"""Sources of raw files: a folder of the user, Kaggle, or a simulated sample."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from joblib import cpu_count
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from brain_tumor.data.common.archive import MANIFEST, check_manifest
from brain_tumor.data.common.atomic import replacing
from brain_tumor.data.common.files import SIMULATED_MARK
from brain_tumor.data.common.kaggle import download
from brain_tumor.data.common.parallel import WorkerSettings
from brain_tumor.data.outlined_slices import SAMPLE, write_outlined_slices
from brain_tumor.data.simulation.images import simulate_images
from brain_tumor.data.simulation.scans import simulate_data_set, simulate_masks
from brain_tumor.datasets.preview import show_files

logger = logging.getLogger(__name__)

MADE_FROM = "made_from.txt"
"""In a folder of slices: the images that they were made from."""


class FolderDataset(AbstractDataset[Any, Path]):
    """A folder of raw files (or one file), exactly as published; loading it gives its path.

    Args:
        filepath: the folder.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        # A folder named 2023 is a number in YAML.
        self._folder = Path(str(filepath)).expanduser()
        self.metadata = metadata

    def load(self) -> Path:
        """The folder; the index checks its content."""
        return self._folder

    def save(self, data: Any) -> None:
        """Not supported: raw files are read only."""
        raise DatasetError(f"{self._folder} holds raw files; nothing is saved there")

    def preview(self) -> TablePreview:
        """Number and size of the files of each kind."""
        return show_files(self._folder)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}

    def _exists(self) -> bool:
        return self._folder.exists()


class FoldersDataset(AbstractDataset[Any, dict[str, Path]]):
    """Several folders of raw files by name; loading it gives their paths.

    Args:
        folders: name > folder.
    """

    def __init__(self, *, folders: dict[str, str] | None, metadata: dict[str, Any] | None = None) -> None:
        self._folders = {name: Path(str(folder)).expanduser() for name, folder in (folders or {}).items()}
        self.metadata = metadata

    def load(self) -> dict[str, Path]:
        """Name > folder."""
        return dict(self._folders)

    def save(self, data: Any) -> None:
        """Not supported: raw files are read only."""
        raise DatasetError("these folders hold raw files; nothing is saved there")

    def preview(self) -> TablePreview:
        """Number and size of the files of each kind, folder by folder."""
        if not self._folders:
            raise DatasetError("no folder is given")
        columns, rows = ["folder"], []
        for name, folder in self._folders.items():
            shown = show_files(folder)
            columns = ["folder", *shown["columns"]]
            rows += [[name, *row] for row in shown["data"]]
        return TablePreview({"columns": columns, "index": list(range(len(rows))), "data": rows})

    def _describe(self) -> dict[str, Any]:
        return {"folders": {name: str(folder) for name, folder in self._folders.items()}}

    def _exists(self) -> bool:
        return all(folder.exists() for folder in self._folders.values())


class KaggleDataset(FolderDataset):
    """A data set published on Kaggle, downloaded when first loaded, then checked against its manifest.

    Args:
        filepath: the folder to unpack into.
        slug: `owner/name` on Kaggle.
        parameter: run parameter for a folder that the user downloaded.
        instead: that folder.
    """

    def __init__(
        self,
        *,
        filepath: str,
        slug: str,
        parameter: str,
        instead: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=instead or filepath, metadata=metadata)
        self._own, self._slug, self._parameter = instead is not None, slug, parameter

    def load(self) -> Path:
        """The folder, downloaded first if it isn't there."""
        if self._own:
            return self._folder
        if not self._folder.is_dir():
            logger.info("downloading %s from Kaggle into %s", self._slug, self._folder)
            download(self._slug, self._folder, self._parameter)
        elif (self._folder / MANIFEST).is_file():
            check_manifest(self._folder)
        return self._folder

    def _describe(self) -> dict[str, Any]:
        return super()._describe() | ({} if self._own else {"slug": self._slug})


class _MadeDataset(FolderDataset):
    """A folder that is made when first loaded, and again when it would be made from something else.

    Args:
        filepath: the folder to make.
        instead: a folder of the user, used instead.
        mark: name of the file in the folder that says what it was made from.
        made_from: a line of that file.
    """

    def __init__(
        self, *, filepath: str, instead: str | None, mark: str, made_from: str, metadata: dict[str, Any] | None
    ) -> None:
        super().__init__(filepath=instead or filepath, metadata=metadata)
        self._own, self._mark, self._made_from = instead is not None, mark, made_from

    def load(self) -> Path:
        """The folder, made first if it isn't there or was made from something else."""
        mark = self._folder / self._mark
        if self._own or (mark.is_file() and self._made_from in mark.read_text(encoding="utf-8").splitlines()):
            return self._folder
        # A folder without the mark may be the user's own, and isn't overwritten.
        if not mark.is_file() and self._folder.is_dir() and any(self._folder.iterdir()):
            raise DatasetError(f"{self._folder} holds files that were not {self._explain_foreign()}")
        with replacing(self._folder) as draft:
            self._make(draft)
            with (draft / self._mark).open("a", encoding="utf-8") as file:
                file.write(f"{self._made_from}\n")
        return self._folder

    @abstractmethod
    def _make(self, draft: Path) -> None:
        """Write the content."""

    @abstractmethod
    def _explain_foreign(self) -> str:
        """End of the sentence that a folder holds files which were not made here, with the remedy."""


class _Simulated(_MadeDataset):
    """A sample that is simulated.

    Args:
        instead: a folder of the user, used instead of the sample.
    """

    def __init__(
        self,
        simulate: Callable[..., None],
        settings: dict[str, Any],
        filepath: str,
        instead: str | None,
        metadata: dict[str, Any] | None,
    ) -> None:
        made_from = f"Settings: {settings}"
        super().__init__(
            filepath=filepath, instead=instead, mark=SIMULATED_MARK, made_from=made_from, metadata=metadata
        )
        self._simulate, self._settings = simulate, settings

    def _make(self, draft: Path) -> None:
        shown = ", ".join(f"{name} {value}" for name, value in self._settings.items())
        logger.info("simulating into %s: %s", self._folder, shown)
        # All cores, even beside other nodes: what is simulated is the first thing that they wait for.
        self._simulate(draft, workers=cpu_count(), **self._settings)

    def _explain_foreign(self) -> str:
        return (
            f"simulated here (it has no {SIMULATED_MARK}), so nothing is simulated into it; "
            "scans and images of your own are given with `--params segmentation_source=PATH`, "
            "`classification_source=PATH` or `survival_source=PATH`"
        )

    def _describe(self) -> dict[str, Any]:
        return super()._describe() | ({} if self._own else self._settings)


class OutlinedSlicesDataset(_MadeDataset):
    """Slices with masks, written from classification images with outlines.

    Args:
        filepath: the folder to write into.
        images: folder that holds `Training` and `Testing` of the Brain Tumor MRI Dataset; None: the images of 20
            patients that ship with the project.
        instead: a folder of the user, used instead of the slices.
    """

    def __init__(
        self,
        *,
        filepath: str,
        images: str | None = None,
        instead: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._images = Path(images).expanduser().absolute() if images else SAMPLE
        super().__init__(
            filepath=filepath, instead=instead, mark=MADE_FROM, made_from=str(self._images), metadata=metadata
        )

    def _make(self, draft: Path) -> None:
        logger.info("writing slices with outlined tumours into %s", self._folder)
        write_outlined_slices(self._images, draft, WorkerSettings())

    def _explain_foreign(self) -> str:
        return f"written here (it has no {MADE_FROM}); move them, or give them with `--params segmentation_source=PATH`"

    def _describe(self) -> dict[str, Any]:
        return super()._describe() | ({} if self._own else {"images": str(self._images)})


class SimulatedDataset(_Simulated):
    """The simulated sample for segmentation.

    Args:
        filepath: the folder to simulate into.
        instead: a folder of the user, used instead of the sample.
        patients: number of patients.
        slices: start, stop and step of the slice numbers of each patient (BraTS has 155).
        seed: the same seed gives the same patients.
    """

    def __init__(
        self,
        *,
        filepath: str,
        patients: int,
        slices: Sequence[int],
        seed: int = 0,
        instead: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        settings = {"patients": patients, "slices": range(*slices), "seed": seed}
        super().__init__(simulate_data_set, settings, filepath, instead, metadata)


class SimulatedImagesDataset(_Simulated):
    """The simulated sample for classification.

    Args:
        filepath: the folder to simulate into.
        instead: a folder of the user, used instead of the sample.
        training: images of each class in the training folder.
        testing: the same for the testing folder.
        duplicates: additional planted duplicates of each class.
        seed: the same seed gives the same images.
    """

    def __init__(
        self,
        *,
        filepath: str,
        training: int,
        testing: int,
        duplicates: int,
        seed: int = 0,
        instead: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        settings = {"training": training, "testing": testing, "duplicates": duplicates, "seed": seed}
        super().__init__(simulate_images, settings, filepath, instead, metadata)


class SimulatedMasksDataset(_Simulated):
    """The simulated sample for survival: masks only, of more patients. Arguments are those of `SimulatedDataset`."""

    def __init__(
        self,
        *,
        filepath: str,
        patients: int,
        slices: Sequence[int],
        seed: int = 0,
        instead: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        settings = {"patients": patients, "slices": range(*slices), "seed": seed}
        super().__init__(simulate_masks, settings, filepath, instead, metadata)
