"""Trained networks as safetensors files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview

from brain_tumor.data.common.atomic import replacing
from brain_tumor.networks.trained import TrainedNetwork, read_network, write_network
from brain_tumor.reporting.settings_table import flatten


class NetworkDataset(AbstractDataset[TrainedNetwork, TrainedNetwork]):
    """Weights, with name, sizes and description in the header of the file.

    Args:
        filepath: the safetensors file.
        trusted: packages whose code a network may be built with.
    """

    def __init__(self, *, filepath: str, trusted: Sequence[str] = (), metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self._trusted = [trusted] if isinstance(trusted, str) else [*trusted]
        self.metadata = metadata

    def load(self) -> TrainedNetwork:
        """Read header and weights (on the CPU)."""
        return read_network(self._path, self._trusted)

    def save(self, data: TrainedNetwork) -> None:
        """Write the file; the old one is replaced in one step."""
        with replacing(self._path) as draft:
            write_network(draft, data)

    def preview(self) -> TablePreview:
        """Name, sizes, validation scores of the selected epoch (`kept`) and the rest of the description."""
        network = self.load()
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
        return TablePreview({"columns": ["what", "value"], "index": list(range(len(rows))), "data": rows})

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}

    def _exists(self) -> bool:
        return self._path.is_file()


def _write(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
