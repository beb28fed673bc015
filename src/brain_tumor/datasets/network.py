"""Trained networks: safetensors files of this project, and folders of others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview

from brain_tumor.data.common.atomic import replacing
from brain_tumor.networks.model_folders import ModelFolder, read_model_folder
from brain_tumor.networks.trained import TrainedNetwork, read_network, write_network
from brain_tumor.reporting.settings_table import flatten


class NetworkDataset(AbstractDataset[TrainedNetwork, TrainedNetwork | ModelFolder]):
    """Weights, with name, sizes and description in the header of the file; or the model folder of another project.

    Args:
        filepath: the safetensors file, or the folder.
        trusted: packages whose code a network may be built with, and folders whose code may run.
    """

    def __init__(self, *, filepath: str, trusted: Sequence[str] = (), metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self._trusted = [trusted] if isinstance(trusted, str) else [*trusted]
        self.metadata = metadata

    def load(self) -> TrainedNetwork | ModelFolder:
        """Read header and weights (on the CPU), or what a folder says of its network."""
        if self._path.is_dir():
            return read_model_folder(self._path, self._trusted)
        return read_network(self._path, self._trusted)

    def save(self, data: TrainedNetwork) -> None:
        """Write the file; the old one is replaced in one step."""
        with replacing(self._path) as draft:
            write_network(draft, data)

    def preview(self) -> TablePreview:
        """Name, sizes, validation scores of the selected epoch (`kept`) and the rest of the description."""
        network = self.load()
        if isinstance(network, ModelFolder):
            return _tabulate([[name, _write(value)] for name, value in vars(network).items()])
        # What a reader looks for comes first.
        first = {
            "network": network.name,
            "simulated": None,
            "data_set": None,
            "parameters": f"{network.parameters:,}",
            "sizes": network.sizes,
            "kept": {},
        }
        rows = [[name, _write(value)] for name, value in flatten(first | network.description)]
        return _tabulate(rows)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}

    def _exists(self) -> bool:
        return self._path.exists()


def _tabulate(rows: list[list[str]]) -> TablePreview:
    return TablePreview({"columns": ["what", "value"], "index": list(range(len(rows))), "data": rows})


def _write(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
