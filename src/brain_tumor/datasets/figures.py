"""Figures as PNG files and animations as GIF files in one folder."""

import io
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from matplotlib.figure import Figure
from PIL import Image

from brain_tumor.datasets.atomic import replacing
from brain_tumor.figures.segmentation_data import Animation

SUFFIXES = (".png", ".gif")


class FiguresDataset(AbstractDataset[dict[str, Figure | Animation], dict[str, bytes]]):
    """Figures by name, a PNG or GIF file each; loading gives the files' content.

    Args:
        filepath: the folder.
        dots: per inch.
    """

    def __init__(self, *, filepath: str, dots: int = 110, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self._dots = dots
        self.metadata = metadata

    def load(self) -> dict[str, bytes]:
        """Name > PNG or GIF."""
        return {file.stem: file.read_bytes() for file in self._files()}

    def save(self, data: dict[str, Figure | Animation]) -> None:
        """Write the figures; files of figures that are no longer drawn go."""
        written = set()
        for name, figure in data.items():
            path = self._folder / f"{name}{'.gif' if isinstance(figure, Animation) else '.png'}"
            with replacing(path) as draft:
                draft.write_bytes(self._render(figure))
            written.add(path)
        for file in set(self._files()) - written:
            file.unlink()

    def _files(self) -> list[Path]:
        return sorted(file for file in self._folder.glob("*") if file.suffix in SUFFIXES)

    def _render(self, figure: Figure | Animation) -> bytes:
        content = io.BytesIO()
        if isinstance(figure, Animation):
            first, *others = (Image.fromarray(frame) for frame in figure.frames)
            first.save(content, format="gif", save_all=True, append_images=others, duration=figure.milliseconds, loop=0)
        else:
            figure.savefig(content, format="png", dpi=self._dots)
        return content.getvalue()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}

    def _exists(self) -> bool:
        return self._folder.is_dir()
