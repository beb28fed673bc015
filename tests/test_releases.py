"""Files that say the same thing in several places: the version, and what is checked before a commit."""

import re
import tomllib
from importlib.metadata import distribution

import yaml
from packaging.specifiers import SpecifierSet
from support import ROOT

import brain_tumor


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_version_and_date_are_the_same_everywhere():
    citation = yaml.safe_load(read("CITATION.cff"))
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", read("CHANGELOG.md"), re.M)
    assert (brain_tumor.__version__, citation["date-released"]) == versions[0]
    assert citation["version"] == brain_tumor.__version__
    assert citation["license"] == tomllib.loads(read("pyproject.toml"))["project"]["license"]


def test_changelog_is_kept_as_it_says():
    """Every version has its link, and only the kinds of change that Keep a Changelog names."""
    text = read("CHANGELOG.md")
    titles = re.findall(r"^## \[([^]]+)\]", text, re.M)
    assert titles[0] == "Unreleased"
    assert re.findall(r"^\[([^]]+)\]: ", text, re.M) == titles
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= kinds


def test_before_a_commit_runs_what_ci_runs():
    (local,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    hooks = [hook["entry"].replace(".venv/bin", "$(BIN)") for hook in local["hooks"]]
    recipes = re.findall(r"^(?:lint|types): .*\n((?:\t.+\n)+)", read("Makefile"), re.M)
    assert hooks == [line.strip() for recipe in recipes for line in recipe.splitlines()]
    assert "make lint types" in read(".github/workflows/ci.yml")


def test_image_gets_what_the_package_is_built_from():
    kept = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    needed = {"src", "conf", "data", "notebooks", "weights", "setup.py", "pyproject.toml", "MANIFEST.in"}
    assert needed | {"requirements.lock", "README.md", "LICENSE", ".telemetry"} <= kept


def test_locked_versions_install_on_every_python_that_the_project_names():
    # 3.11.2 is that of Debian 12; a version that wants 3.11.5 stops its users at the first command.
    lowest = SpecifierSet(tomllib.loads(read("pyproject.toml"))["project"]["requires-python"])
    pythons = [f"3.{minor}.0" for minor in (11, 12, 13)]
    assert all(python in lowest for python in pythons)
    names = [line.partition("==")[0] for line in read("requirements.lock").splitlines() if not line.startswith("#")]
    wanted = {name: distribution(name).metadata.get("Requires-Python") or "" for name in names}
    refusing = {name: own for name, own in wanted.items() if not all(python in SpecifierSet(own) for python in pythons)}
    assert not refusing
    assert len(wanted) > 100
