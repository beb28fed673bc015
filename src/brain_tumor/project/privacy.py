"""`privacy.pseudonymise`: sources of people's scans are read under pseudonyms, before anything sees a name."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import Pipeline

from brain_tumor.data.common.pseudonyms import PrivacySettings, Pseudonyms
from brain_tumor.data.images.class_folders import ImageSet
from brain_tumor.data.images.patients import PatientSettings
from brain_tumor.data.images.pseudonymous_images import (
    list_kept,
    make_pseudonymous_images,
    make_pseudonymous_table,
)
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.pseudonymous_folder import make_pseudonymous
from brain_tumor.datasets import FolderDataset, FoldersDataset
from brain_tumor.datasets.pseudonymous import PseudonymousDataset, PseudonymousFoldersDataset, Rename
from brain_tumor.datasets.written import WrittenFolderDataset

SCANS = (
    "inference_segmentation.source",
    "data_raw_scans.source",
    "segmentation.source",
    "survival.source",
    "survival.tables",
    "survival.predicted_tables",
    "score.reference",
    "score.predictions",
)
IMAGES = ("inference_classification.source", "classification.source")
PATIENTS = "classification.patients"
"""Entries that are read under pseudonyms: of scans, masks and their tables; of images; of the patients of images."""

KEY = Path("conf/local")
"""Of salt and key, apart from everything that runs write; git ignores what is in it."""

LINKS = Path("data/.pseudonymous")


class Privacy:
    """Puts pseudonyms in place of names at the one place where names come in: the sources in the catalog."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep where the project is."""
        self.folder = Path(context.project_path)

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog, parameters: dict[str, Any]) -> None:
        """Have sources of scans read under pseudonyms, if that is asked for."""
        values = parameters.get("parameters", {})
        self.settings = PrivacySettings.model_validate(values.get("privacy") or {})
        if not self.settings.pseudonymise:
            return
        renames = self._make_renames(values)
        made = _list_made(catalog)
        for name in [*SCANS, *IMAGES, PATIENTS]:
            source = catalog.get(name)
            if source is None or not _is_own(source, made):
                continue
            replaced: AbstractDataset
            if isinstance(source, FoldersDataset):
                replaced = PseudonymousFoldersDataset(source=source, rename=renames[name])
            else:
                replaced = PseudonymousDataset(source=source, rename=renames[name])
            # Kedro would warn that an entry is replaced.
            catalog._datasets[name] = replaced

    def _make_renames(self, values: dict[str, Any]) -> dict[str, Rename]:
        """Entry > what gives its links."""
        data_set = DataSet.model_validate(values["data_segmentation"]["data_set"])
        images = values["data_classification"]
        kept = list_kept(ImageSet.model_validate(images["data_set"]))
        columns = PatientSettings.model_validate(images["patients"])
        places = str(self.folder / LINKS), str(self.folder / KEY), data_set
        renames: dict[str, Rename] = {PATIENTS: _RenameTable(*places, kept, columns)}
        return (
            renames | dict.fromkeys(SCANS, _RenameScans(*places)) | dict.fromkeys(IMAGES, _RenameImages(*places, kept))
        )

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse to read people's files whose names would stay.

        Raises:
            ValueError: naming the entries.
        """
        if not self.settings.pseudonymise:
            return
        made = _list_made(catalog)
        covered = PseudonymousDataset | PseudonymousFoldersDataset | WrittenFolderDataset
        named = []
        for name in sorted(pipeline.inputs()):
            source = catalog.get(name)
            if not isinstance(source, FolderDataset | FoldersDataset) or isinstance(source, covered):
                continue
            if _is_own(source, made):
                named.append(name)
        if named:
            raise ValueError(
                f"privacy.pseudonymise doesn't cover {' and '.join(named)}, where names would stay; run pipelines that "
                "read them with `--params privacy.pseudonymise=false`"
            )


@dataclass(frozen=True)
class _RenameScans:
    """Links under pseudonyms. Not a function: what it does is compared from run to run by its text.

    Attributes:
        links: where they are.
        key: where salt and key are.
        data_set: how files of patients are named, and which visits are of one person.
    """

    links: str
    key: str
    data_set: DataSet

    def __call__(self, folder: Path) -> Path:
        return make_pseudonymous(folder, Path(self.links), self.names, self.data_set)

    @property
    def names(self) -> Pseudonyms:
        return Pseudonyms(Path(self.key), self.data_set.find_person)


@dataclass(frozen=True)
class _RenameImages(_RenameScans):
    kept: tuple[str, ...]

    def __call__(self, folder: Path) -> Path:
        return make_pseudonymous_images(folder, Path(self.links), self.names, self.kept)


@dataclass(frozen=True)
class _RenameTable(_RenameImages):
    columns: PatientSettings

    def __call__(self, folder: Path) -> Path:
        return make_pseudonymous_table(folder, Path(self.links), self.names, self.columns, self.kept)


def _list_made(catalog: DataCatalog) -> set[str]:
    """Folders of samples and published sets. Tables lie in the folders of scans, those of the sample too."""
    entries = [catalog.get(name) for name in (*SCANS, *IMAGES)]
    return {_path(each) for each in entries if each is not None and not getattr(each, "_own", True)}


def _is_own(source: AbstractDataset, made: Collection[str]) -> bool:
    """Whether a folder may be the user's: what is simulated or published names nobody."""
    path = _path(source)
    return getattr(source, "_own", True) and not any(path == each or Path(each) in Path(path).parents for each in made)


def _path(source: AbstractDataset) -> str:
    return str(source._describe().get("filepath"))
