"""Sources of raw files: a folder of the user, Kaggle, or a simulated sample."""

import logging
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
from brain_tumor.data.images.outlined_slices import write_outlined_slices
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


class _Simulated(FolderDataset):
    """A sample that is simulated when first loaded, and again when its settings change.

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
        super().__init__(filepath=instead or filepath, metadata=metadata)
        self._own, self._simulate, self._settings = instead is not None, simulate, settings

    def load(self) -> Path:
        """The folder, simulated first if it isn't there or has other settings."""
        mark = self._folder / SIMULATED_MARK
        settings = f"Settings: {self._settings}\n"
        if self._own or (mark.is_file() and settings in mark.read_text(encoding="utf-8")):
            return self._folder
        # A folder without the mark may be the user's own, and isn't overwritten.
        if not mark.is_file() and self._folder.is_dir() and any(self._folder.iterdir()):
            raise DatasetError(
                f"{self._folder} holds files that were not simulated here (it has no {SIMULATED_MARK}), so "
                "nothing is simulated into it; "
                "scans and images of your own are given with `--params segmentation_source=PATH`, "
                "`classification_source=PATH` or `survival_source=PATH`"
            )
        shown = ", ".join(f"{name} {value}" for name, value in self._settings.items())
        logger.info("simulating into %s: %s", self._folder, shown)
        with replacing(self._folder) as draft:
            # All cores, even beside other nodes: what is simulated is the first thing that they wait for.
            self._simulate(draft, workers=cpu_count(), **self._settings)
            with (draft / SIMULATED_MARK).open("a", encoding="utf-8") as file:
                file.write(settings)
        return self._folder

    def _describe(self) -> dict[str, Any]:
        return super()._describe() | ({} if self._own else self._settings)


class OutlinedSlicesDataset(FolderDataset):
    """Slices with masks, written from classification images with outlines when first loaded.

    Args:
        filepath: the folder to write into; a folder inside for each source.
        images: folder that holds `Training` and `Testing` of the Brain Tumor MRI Dataset.
        instead: a folder of the user, used instead of the slices.
    """

    def __init__(
        self, *, filepath: str, images: str, instead: str | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=instead or filepath, metadata=metadata)
        self._own, self._images = instead is not None, Path(images).expanduser()

    def load(self) -> Path:
        """The folder, written first if it isn't there or was made from other images."""
        if self._own:
            return self._folder
        source = f"{self._images.absolute()}\n"
        mark = self._folder / MADE_FROM
        if mark.is_file() and mark.read_text(encoding="utf-8") == source:
            return self._folder
        if not mark.is_file() and self._folder.is_dir() and any(self._folder.iterdir()):
            raise DatasetError(
                f"{self._folder} holds files that were not written here (it has no {MADE_FROM}); move them, or give "
                "them with `--params segmentation_source=PATH`"
            )
        logger.info("writing slices with outlined tumours into %s", self._folder)
        with replacing(self._folder) as draft:
            write_outlined_slices(self._images, draft, WorkerSettings())
            (draft / MADE_FROM).write_text(source, encoding="utf-8")
        return self._folder

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
