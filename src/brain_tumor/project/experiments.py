"""Experiments: the blocks of a task's parameters that name a network."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.framework.project import PACKAGE_NAME, pipelines
from kedro.utils import find_kedro_project

from brain_tumor.networks import networks_of
from brain_tumor.project.parameters import look_up

Experiments = dict[str, dict[str, str]]
"""Task > name of each experiment > its network."""

TASKS = ("segmentation", "classification")

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

RESERVED = ("expert",)
"""Names of what isn't a network's: survival has an experiment on expert masks."""

MERGE = {"parameters": "soft"}
"""An environment names what it changes, the rest is base's."""


class _Registered:
    """Experiments that pipelines are to be made of, and those that they were made of last."""

    wanted: Experiments | None = None
    made_of: Experiments | None = None


def find_experiments(written: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Experiments:
    """The experiments of each task, in the order of the files.

    Args:
        written: parameters of the files; a block that is null there is none.
        given: parameters of the run, which may give an experiment another network.

    Raises:
        ValueError: if a name can't be that of a namespace, or a task has no experiment.
    """
    found: Experiments = {}
    for task in TASKS:
        inside = written.get(task)
        named = inside if isinstance(inside, Mapping) else {}
        blocks = {str(name): block for name, block in named.items() if isinstance(block, Mapping)}
        found[task] = {name: str(block["network"]) for name, block in blocks.items() if block.get("network")}
        for name in found[task]:
            if not NAME.fullmatch(name) or name in RESERVED:
                rule = "is no name of an experiment: it must be letters, digits and _, and not 'expert'"
                raise ValueError(f"{task}.{name} {rule}; rename the block")
            changed = look_up(given or {}, f"{task}.{name}.network")
            if isinstance(changed, str):
                found[task][name] = changed
        if not found[task]:
            raise ValueError(f"{task} has no experiment; give it a block with `network: NAME` in the parameters")
    return found


def read_experiments(conf: str, env: str | None = None, given: Mapping[str, Any] | None = None) -> Experiments | None:
    """Experiments of a folder of configuration; None where it can't be read, which a run explains when it reads it."""
    loader = OmegaConfigLoader(conf, env, base_env="base", default_run_env="local", merge_strategy=MERGE)
    try:
        return find_experiments(loader["parameters"], given)
    # Any error: files are wrong in many ways.
    except Exception:
        return None


def current_experiments() -> Experiments:
    """Those that were chosen for the run, or else those of the project that the working directory is in.

    Outside of a project they are the networks of the package.
    """
    wanted, _Registered.wanted = _Registered.wanted, None
    if wanted is None:
        project = find_kedro_project(Path.cwd())
        if project is not None:
            wanted = read_experiments(str(project / "conf"), os.environ.get("KEDRO_ENV"))
    if wanted is None:
        wanted = {task: {name: name for name in networks_of(task)} for task in TASKS}
    _Registered.made_of = wanted
    return wanted


def choose_experiments(experiments: Experiments | None) -> None:
    """Make the project's pipelines of these experiments, if they are made of others."""
    len(pipelines)  # made, if they aren't yet
    if experiments is None or _describe(experiments) == _describe(_Registered.made_of):
        return
    _Registered.wanted = experiments
    pipelines.configure(f"{PACKAGE_NAME or 'brain_tumor'}.pipeline_registry")


def _describe(experiments: Experiments | None) -> list[tuple[str, list[tuple[str, str]]]]:
    """In order too, which is that of tables and reports."""
    return [(task, list(networks.items())) for task, networks in (experiments or {}).items()]
