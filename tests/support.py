"""Helpers of several tests."""

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from beartype import BeartypeConf, beartype
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.runner import AbstractRunner

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data"

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""Checks annotations while tests run; an int will do for a float."""


def real(name: str) -> Path:
    """A folder of the real data, or a skip that says so."""
    folder = REAL / name
    if not folder.is_dir():
        pytest.skip(f"real data {name} is not here (looked in ../shared/data)")
    return folder


sees_processes = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="finds processes in /proc, which this system does not have"
)


def copy_project(folder: Path) -> Path:
    """The project's configuration in a folder that runs may write into."""
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "src").mkdir()  # the package itself is installed
    return folder


def run(
    project: Path,
    pipeline: str = "segmentation",
    node_names: list[str] | None = None,
    runner: AbstractRunner | None = None,
    **params: object,
) -> dict:
    """`kedro run --env test` in a project, or some of its nodes."""
    bootstrap_project(project)
    with KedroSession.create(project, env="test", runtime_params=params) as session:
        return session.run(pipeline_names=[pipeline], node_names=node_names, runner=runner)


def read_code_again() -> None:
    """What a new process does: no digest of code is remembered."""
    from brain_tumor import code_digest

    for function in vars(code_digest).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def ask_who_works(workers: int) -> tuple[int, set[int]]:
    """This process, and those that do work for it. Here and not in a test, for processes to find it."""
    from brain_tumor.data.common.parallel import (
        WorkerSettings,
        parallel_map,
    )  # whose annotations are checked with what is defined here

    return os.getpid(), set(parallel_map(os.getpid, [()] * 4, WorkerSettings(workers=workers), "asking"))


def wait_until(happened: Callable[[], object], seconds: float = 120) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def save_patient(folder: Path, name: str, volumes: np.ndarray, mask: np.ndarray) -> None:
    """A NIfTI patient in the names and the orientation of BraTS 2020. Volumes are FLAIR, T1, T1ce, T2."""
    folder.mkdir(parents=True)
    affine = np.diag([-1, -1, 1, 1])
    for modality, volume in zip(("flair", "t1", "t1ce", "t2"), volumes, strict=True):
        nib.save(nib.Nifti1Image(volume, affine), folder / f"{name}_{modality}.nii.gz")
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), folder / f"{name}_seg.nii.gz")


def save_masks(folder: Path, patients: int) -> Path:
    """Small masks and what is known of their patients, in the names of BraTS 2020."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"p{k:02d}" for k in range(patients)]
    for name in names:
        labels = np.zeros((24, 24, 24), np.uint8)
        a, b, c, d = rng.integers(4, 12, 4)
        labels[6 : 6 + a, 6 : 6 + b, 6 : 6 + c] = 2
        labels[7:9, 7 : 7 + d // 2, 7:10] = 4
        labels[7, 7, 7 : 7 + d // 4] = 1
        nib.save(nib.Nifti1Image(labels, np.diag([3.0, 3.0, 3.0, 1.0])), folder / f"{name}_seg.nii.gz")
    ages, days = rng.uniform(40, 80, patients).round(1).astype(str), rng.integers(50, 900, patients).astype(str)
    survival = {"Brats20ID": names, "Age": ages, "Survival_days": days, "Extent_of_Resection": "GTR"}
    pd.DataFrame(survival).to_csv(folder / "survival_info.csv", index=False)
    pd.DataFrame({"Grade": "HGG", "BraTS_2020_subject_ID": names}).to_csv(folder / "name_mapping.csv", index=False)
    return folder


def require_pictures(cells: list, least: int) -> None:
    """Every cell tagged `figure` gives a PNG, which shows wherever a notebook is rendered; no picture is only named.

    Args:
        cells: code cells of an executed notebook.
        least: number of cells that draw, at least.
    """
    drawing = [cell for cell in cells if "figure" in cell.metadata.get("tags", ())]
    assert len(drawing) >= least
    for cell in drawing:
        assert any("image/png" in output.get("data", {}) for output in cell.outputs), cell.source
    for cell in cells:
        for data in (output.get("data", {}) for output in cell.outputs):
            named = re.search(r"<(Figure|IPython\S+Image|Axes)\b", data.get("text/plain", ""))
            assert named is None or "image/png" in data, cell.source


def rows_of(card: str, caption: str) -> list[list[str]]:
    """Cells of the Markdown table under a caption, the headings first."""
    lines = card.split(f"{caption}:\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:1] + lines[2:]]


def hold(number: int) -> int:
    """Keep 350 MB from the third task on, in a second: joblib replaces a worker whose memory has grown like that."""
    held = sys.modules.setdefault("held", [])
    if number > 1:
        held.append(np.ones(350 * 2**17))
    time.sleep(1.1)
    return number
