"""Puts conf/, notebooks/, weights/ and the layers of data/ into the package, from where `brain_tumor new` takes them.

They stay at the top of the repository, where Kedro and people look for them, and are copied when a wheel is built.
Everything else is in pyproject.toml.
"""

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithTemplate(build_py):
    """The package's files, then those of a project folder. An editable install finds them in the checkout."""

    def run(self) -> None:
        """Copy them."""
        super().run()
        if self.editable_mode:
            return
        template = Path(self.build_lib) / "brain_tumor" / "template"
        shutil.rmtree(template, ignore_errors=True)  # of an earlier build
        copy_template = runpy.run_path(str(ROOT / "src/brain_tumor/project/template.py"))["copy_template"]
        copy_template(ROOT, template)


setup(cmdclass={"build_py": BuildWithTemplate})
