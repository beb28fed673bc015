"""Trained networks as safetensors files that describe themselves."""

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from brain_tumor.datasets.atomic import replacing
from brain_tumor.networks.trained import TrainedNetwork


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
        from safetensors import safe_open

        with safe_open(self._path, framework="pt") as file:
            header = {key: json.loads(value) for key, value in file.metadata().items()}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return TrainedNetwork(**header, weights=weights)

    def save(self, data: TrainedNetwork) -> None:
        """Write to a temporary file that then takes the place of the old one."""
        from safetensors.torch import save_file

        header = {"name": data.name, "sizes": data.sizes, "description": data.description}
        with replacing(self._path) as draft:
            save_file(data.weights, draft, {key: json.dumps(value) for key, value in header.items()})

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}

    def _exists(self) -> bool:
        return self._path.is_file()
