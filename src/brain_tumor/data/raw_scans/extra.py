"""Libraries of the extras `raw` and `dicom`, imported when they are needed."""

from importlib import import_module
from types import ModuleType


def require_extra(name: str, extra: str = "raw", who: str = "raw scans need") -> ModuleType:
    """A library that few need.

    Args:
        extra: what installs it.
        who: the beginning of the sentence that says what is missing.

    Raises:
        ImportError: with the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        remedy = f"pip install 'brain-tumor-mri[{extra}]'"
        raise ImportError(f"{who} {name.partition('.')[0]}, which isn't installed: {remedy}") from error
