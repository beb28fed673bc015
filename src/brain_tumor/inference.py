"""Masks of new scans and classes of new images from Python: the same as `kedro segment` and `kedro classify`.

    from brain_tumor.inference import segment
    result = segment("scans")
    result.volumes

What takes long to import is imported when a function is called.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

VIEWER = (
    '<div><iframe srcdoc="{page}" style="width: 100%; height: {height}px; border: 0" title="Viewer of {patient}">'
    "</iframe></div>"
)
"""In a box of its own: IPython warns of an `<iframe>` alone, which its class for files on a server can't replace."""


@dataclass(frozen=True)
class Segmented:
    """Results of `segment`.

    Attributes:
        masks: folder of the masks, one NIfTI file for each patient on the grid of the scan.
        report: HTML page.
        viewers: patient > HTML page with all slices.
        tables: entry > CSV file: `volumes` and `scores`; of raw scans `preparation` too.
    """

    masks: Path
    report: Path
    viewers: dict[str, Path]
    tables: dict[str, Path]

    @cached_property
    def volumes(self) -> "pd.DataFrame":
        """A row for each patient: millilitres of each tissue and region, or why the patient is excluded."""
        import pandas as pd

        volumes = _read_table(self.tables["volumes"], "patient", "folder")
        if "preparation" not in self.tables:
            return volumes
        # Who could not be prepared was never given to the network.
        prepared = _read_table(self.tables["preparation"], "patient")
        excluded = prepared.loc[prepared["excluded"].notna(), ["patient", "excluded"]]
        return pd.concat([volumes, excluded], ignore_index=True) if len(excluded) else volumes

    @cached_property
    def scores(self) -> "pd.DataFrame":
        """Scores against reference masks: rows `patient`, `target`, `metric`, `value`; empty without any such mask."""
        return _read_table(self.tables["scores"], "patient")

    def view(self, patient: str | None = None, height: int = 700) -> "HTML":
        """A patient's viewer in a notebook, whose output then holds the whole page; None: the first patient.

        Raises:
            ValueError: if the patient has no viewer.
        """
        from IPython.display import HTML

        name = patient if patient is not None else next(iter(self.viewers), None)
        if name is None or name not in self.viewers:
            raise ValueError(f"{name} has no viewer; those who have one: {', '.join(self.viewers) or 'nobody'}")
        page = self.viewers[name].read_text(encoding="utf-8")
        return HTML(VIEWER.format(page=escape(page), height=height, patient=escape(name)))


@dataclass(frozen=True)
class Classified:
    """Results of `classify`.

    Attributes:
        report: HTML page.
        table: CSV file.
    """

    report: Path
    table: Path

    @cached_property
    def classes(self) -> "pd.DataFrame":
        """A row for each file: predicted class, confidence, probability of each class, or why it is excluded."""
        return _read_table(self.table, "file", "predicted")


def segment(
    source: str | os.PathLike,
    *,
    raw: bool = False,
    network: str | os.PathLike | None = None,
    output: str | os.PathLike | None = None,
    env: str | None = None,
    params: Mapping[str, Any] | None = None,
    project: str | os.PathLike | None = None,
) -> Segmented:
    """Masks of the tumours in new scans.

    Args:
        source: a folder of NIfTI scans at any depth: FLAIR, T1, T1ce and T2 of each patient.
        raw: the scans are as scanned, DICOM or NIfTI: they are registered and brain-extracted first, and masks are on
            the grid of the T1ce.
        network: a .safetensors file of this project, or the folder of an nnU-Net model or a MONAI bundle, whose path
            must be among `trusted_packages` in `params`; None: the one that ships.
        output: a folder for all results; None: `data/` of the project.
        env: Kedro's configuration environment.
        params: parameters to change, such as `{"viewer": {"patients": 3}}`.
        project: the project's folder; None: the one that the working directory is in.

    Raises:
        ValueError: if there is no project, or the network doesn't segment.
        FileNotFoundError: if there are no scans.
    """
    from brain_tumor.project.inference import QUALITY, find_masks, list_viewers, run_inference

    pipeline = "inference_raw" if raw else "inference_segmentation"
    paths = run_inference(_find_project(project), pipeline, source, network, output, env, params)
    tables = {name: paths[name] for name in ("volumes", "scores")}
    if raw:
        tables["preparation"] = paths[QUALITY]
    return Segmented(find_masks(paths), paths["report"], list_viewers(paths), tables)


def classify(
    source: str | os.PathLike,
    *,
    network: str | os.PathLike | None = None,
    output: str | os.PathLike | None = None,
    env: str | None = None,
    params: Mapping[str, Any] | None = None,
    project: str | os.PathLike | None = None,
) -> Classified:
    """Classes of new images.

    Args:
        source: a folder of images at any depth, or one image.

    The other arguments, and what is raised, are those of `segment`.
    """
    from brain_tumor.project.inference import run_inference

    paths = run_inference(_find_project(project), "inference_classification", source, network, output, env, params)
    return Classified(paths["report"], paths["classes"])


def _find_project(project: str | os.PathLike | None) -> Path:
    """Folder of the project, made ready to run."""
    from kedro.framework.startup import bootstrap_project
    from kedro.utils import find_kedro_project

    folder = find_kedro_project(Path.cwd()) if project is None else Path(project).expanduser().absolute()
    if folder is None:
        remedy = "give the folder: project=PATH"
        raise ValueError(f"{Path.cwd()} is in no project of kedro; {remedy}")
    bootstrap_project(folder)
    return folder


def _read_table(file: Path, *texts: str) -> "pd.DataFrame":
    import pandas as pd

    # A patient may be called 007 or NA.
    return pd.read_csv(file, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=[""])
