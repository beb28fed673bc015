"""Weights of this project to start from: read, matched with the network, and who they know. Imports no torch."""

import hashlib
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from brain_tumor.networks.trained import TrainedNetwork, read_network

logger = logging.getLogger(__name__)

NAMED = 10
"""Patients that a warning names."""


def read_initial(
    path: str | None, name: str, sizes: dict[str, Any], preparation: int | None, classes: list[str] | None = None
) -> TrainedNetwork | None:
    """The initial checkpoint; None without a path, or if the file holds another network.

    Args:
        preparation: version of that of the slices or images.
        classes: of the images, for a classifier.

    Raises:
        ValueError: if it tells other classes apart, or its sizes or preparation are others, with both.
    """
    if not path:
        return None
    initial = read_network(Path(path).expanduser())
    if initial.name != name:
        # One path serves all experiments of the task, and only one of them can start from it.
        logger.warning("%s holds a %s; %s starts from random weights", path, initial.name, name)
        return None
    before = initial.description.get("classes")
    # Before the sizes, which differ too where the number of classes does.
    if classes is not None and before != classes:
        raise ValueError(
            f"the network in {path} tells apart {before}, but the images have the classes {classes}; name the "
            "folders of the images alike, or leave classification.initial_weights out"
        )
    initial.require_preparation(preparation)
    if initial.sizes != sizes:
        raise ValueError(
            f"the network in {path} has sizes {initial.sizes}, but {name} is built with {sizes}; set `sizes` "
            "to those of the file"
        )
    return initial


def digest_file(path: str | None) -> str:
    """Digest of the content, so that a moved file is the same, and a replaced one another; empty without a file."""
    return hashlib.blake2b(Path(path).expanduser().read_bytes()).hexdigest() if path else ""


def describe_initial(
    initial: TrainedNetwork | None, scored: Collection[str], *, simulated: bool
) -> tuple[dict[str, Any] | None, frozenset[str]]:
    """Description of the initial checkpoint, and the patients that it was trained on.

    Entry `scored` names those of them that are going to be scored (leakage); None if its patients aren't recorded.

    Args:
        scored: names of the patients to be scored.
        simulated: whether they are phantoms.
    """
    if not initial:
        return None, frozenset()
    # Phantoms are named like patients of BraTS, but are nobody's images.
    same_kind = initial.description["simulated"] == simulated
    known = initial.patients if same_kind else frozenset()
    leaked = None if known is None else sorted(known & set(scored))
    if leaked:
        words = "the weights to start from know %d of the %d patients to be scored (%s): scores will flatter"
        names = ", ".join([*leaked[:NAMED], *(["..."] if len(leaked) > NAMED else [])])
        logger.warning(words, len(leaked), len(set(scored)), names)
    description = {
        "data_set": initial.description["data_set"],
        "simulated": initial.description["simulated"],
        "scored": leaked,
    }
    return description, known or frozenset()
