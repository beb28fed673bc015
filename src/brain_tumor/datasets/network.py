"""Trained networks as safetensors files that describe themselves."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview

from brain_tumor.data.common.atomic import replacing
from brain_tumor.networks.trained import TrainedNetwork, read_network, write_network
from brain_tumor.reporting.settings_table import flatten


class NetworkDataset(AbstractDataset[TrainedNetwork, TrainedNetwork]):
    """Weights, with name, sizes and description in the header of the file: nothing else is needed to use it.

    Args:
        filepath: the safetensors file.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> TrainedNetwork:
        """Read header and weights (on the CPU)."""
        return read_network(self._path)

    def save(self, data: TrainedNetwork) -> None:
        """Write to a temporary file that then takes the place of the old one."""
        with replacing(self._path) as draft:
            write_network(draft, data)

    def preview(self) -> TablePreview:
        """Name, sizes, validation scores of the selected epoch (`kept`, for each fold), and the rest of the header."""
        network = self.load()
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
    return (
        ", ".join(map(str, value))
        if isinstance(value, list)
        else f"{value:.4g}"
        if isinstance(value, float)
        else str(value)
    )
