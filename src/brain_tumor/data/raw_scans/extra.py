"""Libraries of the extra `raw`, imported when they are needed."""

from importlib import import_module
from types import ModuleType


def require_extra(name: str) -> ModuleType:
    """A library that only raw scans need.

    Raises:
        ImportError: with the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        remedy = "pip install 'brain-tumor-mri[raw]'"
        raise ImportError(f"raw scans need {name}, which isn't installed: {remedy}") from error
