"""Helpers of several tests."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from beartype import BeartypeConf, beartype
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

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


def copy_project(folder: Path) -> Path:
    """The project's configuration in a folder that runs may write into."""
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "src").mkdir()  # the package itself is installed
    return folder


def run(project: Path, pipeline: str = "segmentation", node_names: list[str] | None = None, **params: object) -> dict:
    """`kedro run --env test` in a project, or some of its nodes."""
    bootstrap_project(project)
    with KedroSession.create(project, env="test", runtime_params=params) as session:
        return session.run(pipeline_names=[pipeline], node_names=node_names)


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
