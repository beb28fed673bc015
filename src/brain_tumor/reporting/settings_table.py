"""The last section of every report: the settings and the versions that a run was made with."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from platform import python_version
from typing import Any

import pandas as pd
from pydantic import BaseModel

from brain_tumor.reporting.page import Section

PACKAGES = ("brain-tumor-mri", "kedro", "numpy", "pandas")
"""Used by every task."""

TRAINING = ("torch", "lightning", "monai")
FITTING = ("scikit-learn", "lifelines", "scipy")
"""What networks are trained with, and what survival models are fitted with."""


def describe_settings(settings: Mapping[str, Any], packages: tuple[str, ...]) -> Section:
    """The section. `settings`: block > setting > value, or more blocks.

    Those that are None are not set, and not shown.
    """
    given = [(name, str(value)) for name, value in flatten(settings) if value is not None]
    rows = pd.DataFrame(given, columns=["setting", "value"])
    tables = [("Settings", rows), ("Versions", list_versions(packages))]
    return Section("Settings and versions", "", tables, folded=True)


def merge_settings(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Setting > its value, or where they differ what it is for each; `settings`: network > its settings."""
    flat = {network: dict(flatten(own)) for network, own in settings.items()}
    # A dictionary and not a set: settings keep their order.
    keys = dict.fromkeys(key for own in flat.values() for key in own)
    merged = {}
    for key in keys:
        # A network may lack a setting that others have.
        values = {network: str(own.get(key, "–")) for network, own in flat.items()}
        distinct = set(values.values())
        if len(distinct) == 1:
            merged[key] = distinct.pop()
        else:
            merged[key] = "; ".join(f"{network}: {value}" for network, value in values.items())
    return merged


def list_versions(packages: tuple[str, ...]) -> pd.DataFrame:
    """Rows `package`, `version`; Python first."""
    rows = [("python", python_version())]
    rows += [(name, version(name)) for name in (*PACKAGES, *packages)]
    return pd.DataFrame(rows, columns=["package", "version"])


def flatten(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that is no block, with the names that lead to it joined by dots.

    Blocks in a list are numbered, settings that were checked are blocks.
    """
    for key, value in tree.items():
        block = _as_block(value)
        if isinstance(block, Mapping):
            yield from flatten(block, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _as_block(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    # An empty list counts as a block without settings, and isn't shown.
    if isinstance(value, list) and all(isinstance(part, Mapping) for part in value):
        return dict(enumerate(value))
    return value
