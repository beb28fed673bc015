"""What tests share: a tiny simulated source, a project of its own for whole runs, the real data where it is."""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny networks lose by a second thread
os.environ["DO_NOT_TRACK"] = "1"

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from support import ROOT, copy_project

from brain_tumor.data.scans.data_set import DataSet


@pytest.fixture(autouse=True)
def seeded() -> None:
    """torch draws the same numbers in a test, whatever ran before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def brats() -> DataSet:
    """BraTS as the project declares it."""
    parameters = yaml.safe_load((ROOT / "conf/base/parameters_data_segmentation.yml").read_text(encoding="utf-8"))
    return DataSet.model_validate(parameters["data_segmentation"]["data_set"])


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five simulated patients of five slices each."""
    from brain_tumor.data.simulation.scans import simulate_data_set

    folder = tmp_path_factory.mktemp("raw") / "sample"
    simulate_data_set(folder, patients=5, slices=range(50, 110, 12), seed=0, workers=1)
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """76 simulated images of four classes, 32 of them planted copies."""
    from brain_tumor.data.simulation.images import simulate_images

    folder = tmp_path_factory.mktemp("raw") / "images"
    simulate_images(folder, training=8, testing=3, duplicates=8, seed=0, workers=1)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project's configuration that runs write into."""
    return copy_project(tmp_path)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def execute_notebook() -> Callable[[str, Path], list]:
    """Runs a notebook in a project where its pipeline has run; gives its code cells."""

    def execute(name: str, project: Path) -> list:
        import nbformat
        from nbclient import NotebookClient

        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(project)}}).execute()
        return [cell for cell in notebook.cells if cell.cell_type == "code"]

    return execute
