"""A trained network applied to new scans or images: what `kedro segment` and `kedro classify` run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession

SOURCES = {
    "inference_segmentation": "inference_source",
    "inference_raw": "raw_source",
    "inference_classification": "inference_source",
}
"""Pipeline > parameter that names its source."""

PREPARATION, QUALITY = "preparation_report", "preparation_quality"
"""Entries of the page that shows how raw scans were registered and brain-extracted, and of its table."""


def run_inference(
    project: Path,
    pipeline: str,
    source: str | os.PathLike,
    network: str | os.PathLike | None = None,
    output: str | os.PathLike | None = None,
    env: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> dict[str, Path]:
    """Run a pipeline on new data; gives entry > file or folder, such as `report`.

    Args:
        project: the project's folder.
        pipeline: one of SOURCES.
        source: a folder of scans or images, at any depth, or one image.
        network: a .safetensors file, or the folder of an nnU-Net model or a MONAI bundle; None: that of the catalog.
        output: a folder for all results; None: those of the catalog.
        params: as of `--params`, nested.

    Raises:
        ValueError: if the folder for results of raw scans holds the scans, or lies among them.
    """
    if pipeline == "inference_raw" and output is not None:
        _require_apart(Path(source), Path(output))
    given = {SOURCES[pipeline]: source, "inference_network": network, "inference_output": output}
    paths = {name: os.fspath(path) for name, path in given.items() if path is not None}
    with KedroSession.create(project, env=env, runtime_params={**(params or {}), **paths}) as session:
        # Kedro declares less than it has.
        session.run(pipeline_names=[pipeline])  # type: ignore[call-arg]
        catalog = session.load_context().catalog  # type: ignore[attr-defined]
    # Raw scans, once prepared, go through the nodes of prepared ones.
    spaces = ("inference_segmentation", pipeline) if pipeline == "inference_raw" else (pipeline,)
    entries = {name.partition(".")[2]: name for name in catalog if name.partition(".")[0] in spaces}
    if pipeline == "inference_raw":
        entries |= {PREPARATION: "data_raw_scans.report", QUALITY: "data_raw_scans.quality"}
    # Kedro has no public way to a dataset's file.
    return {entry: Path(catalog[name]._describe()["filepath"]) for entry, name in entries.items()}


def _require_apart(source: Path, output: Path) -> None:
    """Volumes that are written would be taken for scans, or take the place of some."""
    source, output = source.expanduser().resolve(), output.expanduser().resolve()
    if source.is_relative_to(output) or output.is_relative_to(source):
        raise ValueError(f"{output} holds the scans, or lies among them; give the results a folder of their own")


def list_viewers(paths: Mapping[str, Path]) -> dict[str, Path]:
    """Patient > page of those that the last run wrote.

    Args:
        paths: of `run_inference`.
    """
    from brain_tumor.datasets import ViewersDataset

    return ViewersDataset(filepath=str(paths["viewers"]), address="").files()


def find_masks(paths: Mapping[str, Path]) -> Path:
    """Folder of the masks on the grid of the scans as they were given.

    Args:
        paths: of `run_inference`.
    """
    return paths.get("native_masks", paths["masks"])


def tell_segmented(paths: Mapping[str, Path]) -> str:
    """How many patients were segmented, and where the results are, in a line.

    Args:
        paths: of `run_inference`.
    """
    done, excluded = _count(paths["volumes"])
    if QUALITY in paths:
        # Who could not be prepared was never given to the network.
        excluded += _count(paths[QUALITY])[1]
    words = f"{done:,} patient{'s' * (done != 1)} segmented{_tell_excluded(excluded)}"
    if PREPARATION in paths:
        words += f". Look first at {_show(paths[PREPARATION])}"
    return f"{words}. Masks: {_show(find_masks(paths))}. Report: {_show(paths['report'])}"


def tell_classified(paths: Mapping[str, Path]) -> str:
    """The same of images."""
    done, excluded = _count(paths["classes"])
    words = f"{done:,} image{'s' * (done != 1)} classified{_tell_excluded(excluded)}"
    return f"{words}. Classes: {_show(paths['classes'])}. Report: {_show(paths['report'])}"


def _count(table: Path) -> tuple[int, int]:
    """Rows in use, and excluded ones."""
    import pandas as pd

    is_excluded = pd.read_csv(table, usecols=["excluded"])["excluded"].notna()
    return int((~is_excluded).sum()), int(is_excluded.sum())


def _tell_excluded(number: int) -> str:
    return f", {number:,} excluded (the report has the reasons)" if number else ""


def _show(path: Path) -> str:
    """From the working directory, where it is below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
