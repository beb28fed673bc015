"""Figures as PNG files and animations as GIF files in one folder."""

import io
from collections.abc import Iterable, Mapping
from math import sqrt
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import ImagePreview
from matplotlib.figure import Figure
from PIL import Image

from brain_tumor.data.common.atomic import replacing
from brain_tumor.datasets.preview import show_image
from brain_tumor.datasets.written import WrittenFiles
from brain_tumor.figures.segmentation_data import Animation

SUFFIXES = (".png", ".gif")

WRITTEN = ".figures.json"
"""File with the names of the figures that this dataset wrote in the folder; others aren't deleted."""


Drawn = Figure | Animation


class FiguresDataset(AbstractDataset[Mapping[str, Drawn] | Iterable[tuple[str, Drawn]], dict[str, bytes]]):
    """Figures by name, as PNG files, and animations as GIF files; loading gives the files' bytes.

    Pairs of name and figure are written one by one, so that one is in memory at a time.

    Args:
        filepath: the folder.
        dots: resolution, in dots per inch.
    """

    def __init__(
        self,
        *,
        filepath: str,
        dots: int = 110,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._folder = Path(filepath)
        self._written = WrittenFiles(self._folder, WRITTEN)
        self._dots = dots
        self.metadata = metadata

    def load(self) -> dict[str, bytes]:
        """Name > PNG or GIF."""
        return {file.stem: file.read_bytes() for file in self._files()}

    def save(self, data: Mapping[str, Drawn] | Iterable[tuple[str, Drawn]]) -> None:
        """Write the figures, and delete those of an earlier run that aren't drawn any more."""
        pairs = data.items() if isinstance(data, Mapping) else data
        files = ((f"{name}{'.gif' if isinstance(figure, Animation) else '.png'}", figure) for name, figure in pairs)
        self._written.renew(files, self._write)

    def _write(self, path: Path, figure: Drawn) -> None:
        with replacing(path) as draft:
            draft.write_bytes(self._render(figure))

    def preview(self, width: int = 800) -> ImagePreview:
        """All figures on one sheet, each `width` pixels wide; of an animation its last frame.

        Raises:
            DatasetError: if there are none.
        """
        if not self._files():
            raise DatasetError(f"{self._folder} holds no figures; run the pipeline that draws them first")
        return show_image(_lay_out([_open(file) for file in self._files()], width))

    def _files(self) -> list[Path]:
        written = self._written.recorded()
        # Hidden files are drafts of a run that was killed.
        shown = [file for file in self._folder.glob("*") if not file.name.startswith(".")]
        files = [file for file in shown if file.suffix in SUFFIXES]
        return sorted(file for file in files if written is None or file.name in written)

    def _render(self, figure: Drawn) -> bytes:
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


def _open(file: Path) -> Image.Image:
    with Image.open(file) as image:
        image.seek(getattr(image, "n_frames", 1) - 1)
        return image.convert("RGB")


def _lay_out(pictures: list[Image.Image], width: int) -> Image.Image:
    """Pictures in columns on a sheet of about 3:2, each in the column that is shortest so far."""
    pictures = [picture.resize((width, round(picture.height * width / picture.width))) for picture in pictures]
    columns = round(sqrt(1.5 * sum(picture.height for picture in pictures) / width))
    heights = [0] * min(max(1, columns), len(pictures))
    places = []
    for picture in pictures:
        column = heights.index(min(heights))
        places.append((column * width, heights[column]))
        heights[column] += picture.height
    sheet = Image.new("RGB", (len(heights) * width, max(heights)), "white")
    for picture, place in zip(pictures, places, strict=True):
        sheet.paste(picture, place)
    return sheet
