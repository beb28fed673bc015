"""`privacy.pseudonymise`: sources of people's scans are read under pseudonyms, before anything sees a name."""

from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from brain_tumor.data.common.pseudonyms import PrivacySettings
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.datasets import FolderDataset, FoldersDataset
from brain_tumor.datasets.pseudonymous import PseudonymousDataset
from brain_tumor.datasets.written import WrittenFolderDataset

COVERED = ("inference_segmentation.source", "data_raw_scans.source", "segmentation.source")
"""Entries that are read under pseudonyms."""

NAMELESS = ("classification.patients",)
"""Entries that hold no scans. Where images are the user's own, `classification.source` is refused."""

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
        data_set = DataSet.model_validate(values["data_segmentation"]["data_set"])
        for name in COVERED:
            source = catalog.get(name)
            if isinstance(source, FolderDataset) and _is_own(source):
                # Kedro would warn that an entry is replaced.
                catalog._datasets[name] = PseudonymousDataset(
                    source=source, links=str(self.folder / LINKS), key=str(self.folder / KEY), data_set=data_set
                )

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse to read people's files whose names would stay.

        Raises:
            ValueError: naming the entries.
        """
        if not self.settings.pseudonymise:
            return
        sources = {name: catalog.get(name) for name in sorted(pipeline.inputs()) if name in catalog}
        folders = {name: each for name, each in sources.items() if isinstance(each, FolderDataset | FoldersDataset)}
        # Tables lie in the folders of scans, those of the sample too.
        made = [str(each._describe().get("filepath")) for each in folders.values() if not _is_own(each)]
        named = []
        for name, each in folders.items():
            is_kept = isinstance(each, PseudonymousDataset | WrittenFolderDataset)
            if (
                not is_kept
                and _is_own(each)
                and name not in NAMELESS
                and str(each._describe().get("filepath")) not in made
            ):
                named.append(name)
        if named:
            raise ValueError(
                f"privacy.pseudonymise doesn't cover {' and '.join(named)}, where names would stay; run pipelines that "
                "read them with `--params privacy.pseudonymise=false`"
            )


def _is_own(source: object) -> bool:
    """Whether a folder may be the user's: what is simulated or published names nobody."""
    return getattr(source, "_own", True)
