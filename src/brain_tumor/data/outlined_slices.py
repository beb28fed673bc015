"""Slices for segmentation from classification images whose tumours are outlined: figshare 1512427 (Cheng, CC BY 4.0).

`images/published/README.md` describes table, outlines and sample. Each slice of figshare is written once: an image that
is its mirror image is mirrored back.
"""

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import scipy  # its parts are imported when used
from jaxtyping import UInt8

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.files import list_files
from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.images.borders import ImagePreparation
from brain_tumor.data.images.class_folders import read_image
from brain_tumor.data.images.outlines import Outline, draw_tumour, read_outline, read_outlines
from brain_tumor.data.images.patients import PUBLISHED
from brain_tumor.data.scans.hdf5_slices import write_arrays

logger = logging.getLogger(__name__)

SIDE = 256
"""Pixels of a side: half of the published pictures', as fine as slices are prepared."""

BACKGROUND = 12
"""Grey levels up to which a pixel is background. JPEG leaves noise where no signal was."""

TABLE = PUBLISHED / "brain_tumor_mri_dataset.csv"

SAMPLE = PUBLISHED / "sample"
"""Images of 20 patients that ship with the project."""


def write_outlined_slices(source: Path, folder: Path, workers: WorkerSettings) -> None:
    """Write `volume_{patient}_slice_{image}.h5`, the layout of BraTS 2020, and `name_mapping.csv` with the tumour type.

    `image` is (256, 256, 1), `mask` (256, 256, 1). Rows run to the image's right and columns down, as those of BraTS
    run to the patient's left and back. Patients are numbered by their place in the published table, slices by that of
    figshare.

    Args:
        source: a folder that holds `Training` and `Testing` of the Brain Tumor MRI Dataset, or some of its images.

    Raises:
        ValueError: if none of the images is in the published table.
    """
    # The table has paths such as Training/glioma/1.jpg.
    paths = {"/".join(path.parts[-3:]): path for path in list_files(source)}
    table = pd.read_csv(TABLE, dtype={"file": str, "patient": str})
    outlines = read_outlines(TABLE)
    table["volume"] = table["patient"].rank(method="dense").astype(int)
    # The image that isn't mirrored is first, where a slice is there both ways.
    slices = table[table["file"].isin(list(paths))].sort_values(["mirrored", "file"])
    slices = slices.drop_duplicates("figshare_image").sort_values("figshare_image")
    if slices.empty:
        raise ValueError(
            f"none of the {len(paths)} files in {source} is in the table of patients; give the folder of the Brain "
            "Tumor MRI Dataset with `--params classification_source=PATH`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        (paths[row.file], read_outline(outline), bool(row.mirrored), folder / _name(row))
        for row, outline in zip(slices.itertuples(), outlines[slices["figshare_image"]], strict=True)
    ]
    problems = [problem for problem in parallel_map(_write, tasks, workers, "outlining", unit="slice") if problem]
    for problem in problems:
        logger.warning("left out: %s", problem)
    if len(problems) == len(tasks):
        raise ValueError(f"none of the {len(tasks)} images can be read; the first: {problems[0]}")
    patients = slices.drop_duplicates("patient")
    names = [f"figshare_{volume:03d}" for volume in patients["volume"]]
    mapping = pd.DataFrame(
        {"Grade": patients["class"], "BraTS_2020_subject_ID": names, "figshare_patient": patients["patient"]}
    )
    mapping.sort_values("BraTS_2020_subject_ID").to_csv(folder / "name_mapping.csv", index=False)
    logger.info("%d slices of %d patients have an outline", len(tasks) - len(problems), len(patients))


def _name(row: Any) -> str:
    return f"volume_{row.volume}_slice_{row.figshare_image}.h5"


def _write(path: Path, outline: Outline, mirrored: bool, target: Path) -> str:
    """Write one slice; the problem if its image can't be read."""
    try:
        grey = read_image(path).grey
    except ValueError as error:
        return f"{path}: {error}"
    height, width = grey.shape
    whole = BoundingBox(0, height, 0, width)
    mask = draw_tumour(outline, width, height, whole, ImagePreparation(image_size=SIDE, fit="stretch"))
    image = keep_head(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    # Outlines are those of figshare's slice.
    if mirrored:
        image = image[:, ::-1]
    write_arrays(target, image.T[None].astype(np.float32), mask.T[..., None])
    return ""


def keep_head(image: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The image with 0 outside of the largest bright part and what it encloses, and at least 1 inside."""
    smooth = cv2.GaussianBlur(image, (5, 5), 0)
    parts, count = scipy.ndimage.label(smooth > BACKGROUND)
    if not count:
        return np.zeros_like(image)
    largest = np.bincount(parts.ravel())[1:].argmax() + 1
    head = scipy.ndimage.binary_fill_holes(parts == largest)
    return np.where(head, np.maximum(image, 1), 0).astype(np.uint8)
