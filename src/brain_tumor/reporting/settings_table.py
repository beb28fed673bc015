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
    rows = pd.DataFrame(
        [(name, str(value)) for name, value in flatten(settings) if value is not None], columns=["setting", "value"]
    )
    tables = [("Settings", rows), ("Versions", list_versions(packages))]
    return Section("Settings and versions", "", tables, folded=True)


def merge_settings(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Setting > its value, or where they differ what it is for each; `settings`: network > its settings."""
    flat = {name: dict(flatten(own)) for name, own in settings.items()}
    keys = dict.fromkeys(key for own in flat.values() for key in own)
    values = {key: {name: str(own.get(key, "–")) for name, own in flat.items()} for key in keys}
    return {
        key: next(iter(of.values())) if len(set(of.values())) == 1 else "; ".join(f"{n}: {v}" for n, v in of.items())
        for key, of in values.items()
    }


def list_versions(packages: tuple[str, ...]) -> pd.DataFrame:
    """Rows `package`, `version`; Python first."""
    rows = [("python", python_version()), *((name, version(name)) for name in (*PACKAGES, *packages))]
    return pd.DataFrame(rows, columns=["package", "version"])


def flatten(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that is no block, with the names that lead to it joined by dots.

    Blocks in a list are numbered, settings that were checked are blocks.
    """
    for key, value in tree.items():
        block = (
            dict(enumerate(value))
            if isinstance(value, list) and all(isinstance(part, Mapping) for part in value)
            else value
        )
        block = block.model_dump() if isinstance(block, BaseModel) else block
        if isinstance(block, Mapping):
            yield from flatten(block, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
