"""The package without its repository: what a wheel carries, and the project folder that it makes."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import ROOT

from brain_tumor.__main__ import main, new
from brain_tumor.project import template

LAYERS = ["01_raw", "02_intermediate", "03_primary", "05_model_input", "06_models", "07_model_output", "08_reporting"]


def names_below(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: setuptools leaves its own folders beside what it builds."""
    pytest.importorskip("build", reason="the package `build` is not installed")
    pytest.importorskip("setuptools", minversion="77", reason="setuptools is too old to build without fetching another")
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    for name in listed.stdout.splitlines():
        if not name.startswith(("tests/", "docs/", "benchmarks/")) and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).hardlink_to(ROOT / name) if _same_disk(source) else _copy(ROOT / name, source / name)
    (source / "conf/local/secret.yml").write_text("password: 1\n", encoding="utf-8")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = built.glob("*.whl")
    return file


def _same_disk(folder: Path) -> bool:
    return folder.stat().st_dev == ROOT.stat().st_dev


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """A Python with the wheel in it, and what it needs from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=os.name != "nt")
    packages = Path(next(folder.glob("lib/python3*/site-packages")))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    needed = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "needed.pth").write_text("\n".join(needed) + "\n", encoding="utf-8")
    return folder / "bin" / "python"


def call(python: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    # Without the paths of this process, on which the checkout lies
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, *words], cwd=folder, env=environment, capture_output=True, text=True)


def test_a_wheel_carries_all_that_a_project_folder_begins_with(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    inside = {name.removeprefix("brain_tumor/template/") for name in names if name.startswith("brain_tumor/template/")}
    settings = {file.relative_to(ROOT).as_posix() for file in (ROOT / "conf").rglob("*.yml")}
    settings = {name for name in settings if not name.startswith("conf/local/")}
    weights = {f"weights/{file.name}" for file in (ROOT / "weights").glob("*.safetensors")}
    notebooks = {f"notebooks/{file.name}" for file in (ROOT / "notebooks").glob("*.ipynb")}
    layers = {f"data/{name}/.gitkeep" for name in LAYERS}
    assert len(settings) > 15
    assert settings | weights | notebooks | layers | {"conf/local/.gitkeep", ".telemetry"} <= inside
    assert "conf/local/secret.yml" not in inside
    code = {f"brain_tumor/{name}" for name in names_below(ROOT / "src/brain_tumor") if not name.endswith(".pyc")}
    assert code <= names


def test_installed_it_makes_a_folder_in_which_it_runs(python, tmp_path):
    made = call(python, tmp_path, "-m", "brain_tumor", "new", "mine")
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[0] == "mine is ready. Next:"
    where = call(python, tmp_path / "mine", "-c", "import brain_tumor; print(brain_tumor.__file__)")
    assert where.stdout.startswith(str(python.parents[1]))
    upto = ("--env", "test", "--pipelines", "segmentation", "--to-outputs", "segmentation.splits")
    for program in (("-m", "kedro", "run"), ("-m", "brain_tumor")):
        done = call(python, tmp_path / "mine", *program, *upto)
        assert done.returncode == 0, done.stderr
        assert "Done: " in done.stderr
    assert list((tmp_path / "mine/data").rglob("splits.csv"))


def test_a_checkout_makes_the_same_folder(tmp_path):
    result = CliRunner().invoke(new, [str(tmp_path / "mine")])
    assert result.exit_code == 0, result.output
    names = names_below(tmp_path / "mine")
    assert {"pyproject.toml", ".gitignore", "conf/base/catalog.yml", "weights/cnn.safetensors"} <= names
    assert sorted(path.name for path in (tmp_path / "mine/data").iterdir()) == LAYERS


def test_what_is_in_a_folder_stays(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/note").write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main("new", str(tmp_path / "mine"))
    assert stopped.value.code == 1
    assert names_below(tmp_path) == {"mine/note"}


def test_a_package_without_its_settings_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(template, "TEMPLATE", tmp_path / "lib/site-packages/brain_tumor/template")
    with pytest.raises(FileNotFoundError, match="install the package again"):
        template.find_template()
