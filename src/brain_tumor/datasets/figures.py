"""Figures as PNG files in one folder."""

import io
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from matplotlib.figure import Figure

from brain_tumor.datasets.atomic import replacing


class FiguresDataset(AbstractDataset[dict[str, Figure], dict[str, bytes]]):
    """Figures by name, a PNG file each; loading gives the PNGs.

    Args:
        filepath: the folder.
        dots: per inch.
    """

    def __init__(self, *, filepath: str, dots: int = 110, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self._dots = dots
        self.metadata = metadata

    def load(self) -> dict[str, bytes]:
        """Name > PNG."""
        return {file.stem: file.read_bytes() for file in sorted(self._folder.glob("*.png"))}

    def save(self, data: dict[str, Figure]) -> None:
        """Write the figures; files of figures that are no longer drawn go."""
        for name, figure in data.items():
            png = io.BytesIO()
            figure.savefig(png, format="png", dpi=self._dots)
            with replacing(self._folder / f"{name}.png") as draft:
                draft.write_bytes(png.getvalue())
        for file in self._folder.glob("*.png"):
            if file.stem not in data:
                file.unlink()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}

    def _exists(self) -> bool:
        return self._folder.is_dir()
