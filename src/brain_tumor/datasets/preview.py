"""Previews of catalog entries in kedro-viz. Entries that aren't written yet raise, and are shown without a preview."""

import base64
import io
from collections import Counter
from pathlib import Path

from kedro.io import DatasetError
from kedro_datasets._typing import ImagePreview, TablePreview
from matplotlib.figure import Figure
from PIL import Image

from brain_tumor.data.common.files import list_files


def show_figure(figure: Figure, dots: int = 90) -> ImagePreview:
    """Preview of a figure, rendered at `dots` per inch."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dots)
    return show_image(Image.open(content))


def show_image(image: Image.Image) -> ImagePreview:
    """Preview of a picture, on a white sheet of 3:2."""
    # kedro-viz stretches other pictures to 3:2.
    size = max(image.width, image.height * 3 // 2), max(image.height, image.width * 2 // 3)
    content = io.BytesIO()
    sheet = Image.new("RGB", size, "white")
    sheet.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    sheet.save(content, format="png", optimize=True)
    return ImagePreview(base64.b64encode(content.getvalue()).decode())


def show_files(folder: Path) -> TablePreview:
    """Number and size of the files of each kind in a folder.

    Raises:
        DatasetError: if there is no such folder.
    """
    if not folder.exists():
        raise DatasetError(f"{folder} isn't there; run the pipeline that reads it first")
    files, sizes = Counter[str](), Counter[str]()
    for file in [folder] if folder.is_file() else list_files(folder):
        if file.is_file():
            # .nii.gz is one kind.
            kind = "".join(file.suffixes[-2:]) if file.suffix == ".gz" else file.suffix or file.name
            files[kind] += 1
            sizes[kind] += file.stat().st_size
    # The commonest first.
    ordered = sorted(files.items(), key=lambda item: (-item[1], item[0]))
    rows = [[kind, f"{count:,}", f"{sizes[kind] / 1e6:,.1f}"] for kind, count in ordered]
    return TablePreview({"columns": ["files", "number", "MB"], "index": list(range(len(rows))), "data": rows})
