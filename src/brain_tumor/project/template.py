"""A project folder: settings, notebooks, weights and the layers of data.

`setup.py` runs this file by its path, before the package is there: it imports nothing but the standard library.
"""

import shutil
from importlib.metadata import version
from pathlib import Path

TEMPLATE = Path(__file__).parents[1] / "template"
"""Where an installed package has what `setup.py` put into it."""

FILES = (
    ".telemetry",
    "conf/**/*.yml",
    "conf/local/.gitkeep",
    "data/*/.gitkeep",
    "notebooks/*.ipynb",
    "weights/*.md",
    "weights/*.safetensors",
)
"""What a project folder begins with. Settings in conf/local are somebody's own and stay where they are."""

PYPROJECT = """\
# A project folder of brain-tumor-mri: `kedro run` in this folder reads its conf/ and writes into its data/.
# The code is in the installed package.
[tool.kedro]
package_name = "brain_tumor"
project_name = "Brain tumour MRI"
kedro_init_version = "{kedro}"
source_dir = "."
"""

IGNORED = """\
# What runs write, and what is your own
data/**
!data/*/
!data/**/.gitkeep
conf/local/**
!conf/local/.gitkeep
logs/
.viz/
__pycache__/
.ipynb_checkpoints/
"""


def make_project(folder: Path) -> None:
    """Make a folder in which `kedro run` works, wherever the package is installed.

    Raises:
        FileExistsError: if there is something in the folder already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already and isn't an empty folder; give another name")
    copy_template(find_template(), folder)
    texts = {"pyproject.toml": PYPROJECT.format(kedro=version("kedro")), ".gitignore": IGNORED}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def find_template() -> Path:
    """The folder that holds FILES: in the installed package, or the checkout that it is installed from.

    Raises:
        FileNotFoundError: if neither is there.
    """
    # From `src/brain_tumor/template` to the folder that holds `src`.
    checkout = TEMPLATE.parents[2]
    for folder in (TEMPLATE, checkout):
        if (folder / "conf" / "base").is_dir():
            return folder
    remedy = "install the package again, or copy conf/ and weights/ from the repository"
    raise FileNotFoundError(f"the package has no settings in {TEMPLATE}, nor has {checkout}; {remedy}")


def copy_template(source: Path, folder: Path) -> list[Path]:
    """Copy FILES from one folder to another: returns the copies."""
    found = {file for pattern in FILES for file in source.glob(pattern)}
    copies = []
    for file in sorted(found):
        name = file.relative_to(source)
        # `conf/**/*.yml` finds the settings of a checkout's owner too.
        if name.parts[:2] == ("conf", "local") and name.name != ".gitkeep":
            continue
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        copies.append(copy)
    return copies
