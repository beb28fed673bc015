"""What nodes share: the entries of each experiment by name, so that none can be taken for another's; a warning."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

logger = logging.getLogger(__name__)

Figures = dict[str, Any]
"""Name > a figure of matplotlib, or an animation. Nodes import what draws them when they draw: it takes half a second,
which every command would wait for.
"""


def name_entries(experiments: Iterable[str], entries: Iterable[str]) -> dict[str, str]:
    """Inputs of a node that takes `**results`: `<experiment>.<entry>` > the name of the entry inside the pipeline."""
    experiments = list(experiments)
    return {f"{experiment}.{entry}": f"{experiment}_{entry}" for entry in entries for experiment in experiments}


def gather(results: Mapping[str, Any], entry: str) -> dict[str, Any]:
    """Experiment > its entry, of the keyword arguments `<experiment>.<entry>`."""
    return {name.rpartition(".")[0]: value for name, value in results.items() if name.rpartition(".")[2] == entry}


def warn_of_missed(what: str, missed: Iterable[str]) -> None:
    """A warning of each tissue or class that is there but never found."""
    for name in missed:
        logger.warning("%s: %s is there but never found; try more epochs, or another learning rate", what, name)
