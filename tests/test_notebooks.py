import json
import shutil
import subprocess
import sys

import pytest
from support import ROOT, run, save_masks


def test_survival_notebook_runs_on_the_results_of_its_pipeline(project, tmp_path):
    run(project, "survival", survival_source=str(save_masks(tmp_path / "masks", 40)))
    (project / "notebooks").mkdir()
    notebook = shutil.copy(ROOT / "notebooks/survival.ipynb", project / "notebooks")
    command = [sys.executable, "-c", "from nbclient.cli import main; main()", "--timeout", "120", "--inplace", str(notebook)]
    result = subprocess.run(command, cwd=project / "notebooks", capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 0, result.stderr[-3000:]
    cells = json.loads((project / "notebooks/survival.ipynb").read_text())["cells"]
    assert all(cell["outputs"] for cell in cells[2:] if cell["cell_type"] == "code")


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
