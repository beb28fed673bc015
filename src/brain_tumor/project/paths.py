"""Parameters that are paths mean the same wherever they are given."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from brain_tumor.project.parameters import MISSING, look_up

PATHS = {
    "segmentation_source": "a folder of scans",
    "classification_source": "a folder with Training and Testing in it",
    "classification_patients": "a table with the patient of each image",
    "survival_source": "a folder of masks",
    "survival_tables": "a folder with survival_info.csv",
    "inference_source": "a folder of scans or images",
    "inference_network": "a .safetensors file, or the model folder of nnU-Net or MONAI",
    "inference_output": "a folder to write to",
    "raw_source": "a folder of DICOM files or NIfTI volumes",
    "data_raw_scans.brain_masks": "a folder of brain masks",
    "data_raw_scans.atlas": "a NIfTI file of a brain",
    "segmentation.initial_weights": "a .safetensors file",
    "nnunet_folder": "a new folder",
    "score_reference": "a folder of masks",
    "score_predictions": "a folder of masks",
}
"""Parameters that are paths, or blocks of paths by name, and what each is."""

WRITTEN = ("inference_output",)
"""Those of folders that are written to, and need not be there."""


def resolve_paths(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Each path that is given, whole: `~` is the home folder, and what is relative starts at the working directory.

    Raises:
        ValueError: if one is empty or can't be a path.
    """
    resolved = {}
    for name, what, value in _list_paths(parameters):
        if value is None or value is MISSING:
            continue
        # a folder named 2023 comes as a number
        if isinstance(value, bool) or not isinstance(value, str | int | float | os.PathLike):
            raise ValueError(f"{name} must be a path, got {value!r}; give {what}")
        if not str(value).strip():
            remedy = f"give {what}, or null for none, and check that the shell variable in it is set"
            raise ValueError(f"{name} is empty; {remedy}")
        try:
            # `..` is no name of a patient, and links stay as they are
            resolved[name] = os.path.abspath(Path(str(value)).expanduser())  # noqa: PTH100
        except RuntimeError as error:
            raise ValueError(f"{name} is {value}, but there is no such home folder; write it out") from error
    return resolved


def _list_paths(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Name, what it is, and value of each path; of a block, of each path in it."""
    for name, what in PATHS.items():
        value = look_up(parameters, name)
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", what, path) for inner, path in value.items())
        else:
            yield name, what, value


def require_there(name: str, path: str) -> None:
    """Refuse a path that leads nowhere.

    Raises:
        FileNotFoundError: naming parameter and path.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{name} is {path}, which isn't there; give {_name_kind(name)}")


def _name_kind(name: str) -> str:
    """What a path is; those of a block are all of one kind."""
    return PATHS.get(name) or PATHS[name.rpartition(".")[0]]


def require_folder(name: str, path: str) -> None:
    """Refuse a path that no folder can have.

    Raises:
        NotADirectoryError: naming parameter and path.
    """
    existing = next(part for part in (Path(path), *Path(path).parents) if part.exists())
    if not existing.is_dir():
        raise NotADirectoryError(f"{name} is {path}, but {existing} is a file; give {_name_kind(name)}")
