"""The simulated sample for classification: JPEG files of mixed sizes with frames, texts and planted duplicates."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import scipy  # its parts are imported when used
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.files import SIMULATED_MARK
from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.simulation.phantoms import GRID, MODALITIES, Head, acquire, draw_place, grow_tumour

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
FOLDERS = {"Training": "Tr", "Testing": "Te"}

PLANTED = "planted.csv"
"""Table of the planted duplicates in the sample: file, its original, and the change."""

PATIENTS = "patients.csv"
"""Table of the patient of each image: one for each head, whatever duplicates there are."""

SIDES = (225, 236, 256, 350, 442, 512)
ET = 3


def simulate_images(
    folder: Path, *, training: int, testing: int, duplicates: int, seed: int, workers: int = -1
) -> None:
    """Write simulated images in the folders of the Kaggle set `masoudnickparvar/brain-tumor-mri-dataset`.

    Args:
        training: images of each class in Training.
        testing: the same for Testing.
        duplicates: additional duplicates of each class, planted in either folder; the first is identical.
        workers: processes; -1 is one for each core.
    """
    tasks = []
    for kind, (name, count) in product(CLASSES, (("Training", training), ("Testing", testing))):
        tasks += [(folder, kind, name, number, seed) for number in range(count)]
    for name in FOLDERS:
        for kind in CLASSES:
            (folder / name / kind).mkdir(parents=True)
    list(parallel_map(_write_image, tasks, WorkerSettings(workers=workers), "simulating images", unit="image"))
    # After all images are written: a duplicate is made of a file.
    planted = [_plant(folder, kind, number, seed) for kind, number in product(CLASSES, range(duplicates))]
    pd.DataFrame(planted, columns=["file", "copy_of", "how"]).to_csv(folder / PLANTED, index=False)
    _list_patients(tasks, planted).to_csv(folder / PATIENTS, index=False)
    count = len(tasks) + len(planted)
    text = (
        f"{count} images SIMULATED by brain-tumor-mri (seed {seed}): phantoms, no scans of people. For trying "
        "and testing the project only.\n"
    )
    (folder / SIMULATED_MARK).write_text(text, encoding="utf-8")


def _list_patients(tasks: list[tuple], planted: list[tuple[str, str, str]]) -> pd.DataFrame:
    """Rows `file`, `patient`, `class`."""
    rows = [(str(_file(name, kind, number)), f"{kind}-{name}-{number:04d}", kind) for _, kind, name, number, _ in tasks]
    patient = {file: name for file, name, _ in rows}
    rows += [(file, patient[original], Path(file).parent.name) for file, original, _ in planted]
    return pd.DataFrame(rows, columns=["file", "patient", "class"])


def _file(folder: str, kind: str, number: int) -> Path:
    return Path(folder) / kind / f"{FOLDERS[folder]}-{kind[:2]}_{number:04d}.jpg"


def _write_image(folder: Path, kind: str, name: str, number: int, seed: int) -> None:
    # A generator for each image: workers may take them in any order.
    rng = np.random.default_rng([seed, CLASSES.index(kind), list(FOLDERS).index(name), number])
    grey = _publish(simulate_slice(kind, rng), rng)
    _save(grey, folder / _file(name, kind, number), rng)


def simulate_slice(kind: str, rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """Axial slice of a head with a tumour of that class, grey levels from 0 to 1, anterior on top."""
    centre, radius = _draw_place(kind, rng)
    # Through the tumour; slice 76 is the middle of the brain.
    number = int(np.clip(76 + centre[2] + rng.uniform(-0.3, 0.3) * radius, 28, 130))
    head = Head((number,), rng, (centre, radius))
    labels = np.zeros(head.brain.shape, np.uint8)
    distance = np.full(head.brain.shape, 1e3, np.float32)
    if kind == "glioma":
        tumour = grow_tumour(head, "HGG", rng)
        distance = tumour["core_distance"]
        for label, tissue in enumerate(("NCR", "ED", "ET"), start=1):
            labels[tumour[tissue]] = label
    elif kind != "notumor":
        # One solid mass.
        away = np.sqrt(((head.position - centre[:, None, None, None]) ** 2).sum(0))
        distance = away + 0.1 * radius * head.noise(10, rng) - radius
        # The pituitary lies below the brain.
        inside = (distance < 0) & (head.brain | (kind == "pituitary"))
        labels[inside] = ET
        head.brain = head.brain | inside
    # As likely for each class, so that the modality doesn't tell them apart.
    modality = "T1ce" if rng.random() < 0.8 else rng.choice(["FLAIR", "T2"])
    image = acquire(head, labels, distance, 55.0, rng)[0, MODALITIES.index(modality)].astype(np.float32)
    canvas = np.zeros(GRID[1:], np.float32)
    canvas[head.rows, head.columns] = image / np.percentile(image[head.brain[0]], 99.5)
    return np.clip(_add_scalp(canvas, rng).T, 0, 1)


def _draw_place(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Centre in millimetres from the middle of the brain (right, front, up), and radius.

    Gliomas lie inside, meningiomas at the surface, pituitary tumours low in the middle.
    """
    if kind == "meningioma":
        angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(-5, 45)
        # On an ellipsoid near the surface of the brain.
        reach = np.sqrt(1 - (height / 75) ** 2)
        centre = np.array([60 * reach * np.cos(angle), 76 * reach * np.sin(angle), height], np.float32)
        return centre, float(rng.uniform(12, 22))
    if kind == "pituitary":
        centre = np.array([rng.normal(0, 1.5), rng.uniform(10, 20), rng.uniform(-34, -24)], np.float32)
        return centre, float(rng.uniform(8, 13))
    centre, radius = draw_place(rng)
    if kind == "notumor":
        centre[2] = rng.uniform(-38, 45)
    return centre, radius


def _add_scalp(image: Float[np.ndarray, "h w"], rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """Around the brain: fluid and bone, dark, then scalp, bright."""
    closed = scipy.ndimage.binary_closing(image > 0, iterations=20)
    outside = scipy.ndimage.distance_transform_edt(scipy.ndimage.binary_fill_holes(closed) == 0)
    inner, thickness = rng.uniform(5, 8), rng.uniform(4, 7)
    ring = np.clip(np.minimum(outside - inner, inner + thickness - outside) + 0.5, 0, 1)
    noise = scipy.ndimage.gaussian_filter(rng.normal(0, 1, image.shape), 2)
    return image + ring * (rng.uniform(0.6, 0.9) + 0.3 * noise)


def _publish(image: Float[np.ndarray, "h w"], rng: np.random.Generator) -> UInt8[np.ndarray, "h2 w2"]:
    """As it would be put on the web: cropped, resized, sometimes framed or written on."""
    head, margins = BoundingBox.from_mask(image > 0.2), rng.integers(2, 30, 4)
    image = image[
        max(0, head.top - margins[0]) : head.bottom - 1 + margins[1],
        max(0, head.left - margins[2]) : head.right - 1 + margins[3],
    ]
    side = int(rng.choice(SIDES))
    scale = side / max(image.shape)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    brightness = rng.uniform(0.7, 1)
    resized = brightness * cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    grey = np.rint(255 * np.clip(resized, 0, 1)).astype(np.uint8)
    draw = rng.random()
    if draw < 0.12:
        # A white or a grey frame.
        return np.pad(grey, int(rng.integers(4, 30)), constant_values=255 if draw < 0.08 else 128)
    if draw < 0.25:
        drawn = Image.fromarray(np.pad(grey, 14))
        ImageDraw.Draw(drawn).text((4, 2), "R  SE 4", fill=220)
        return np.asarray(drawn)
    return grey


def _save(grey: UInt8[np.ndarray, "h w"], path: Path, rng: np.random.Generator) -> None:
    image = Image.fromarray(grey)
    if rng.random() < 0.02:
        # Some published files have another format than their names.
        image.convert("RGBA").save(path, format="png")
        return
    if rng.random() < 0.5:
        image = image.convert("RGB")
    image.save(path, format="jpeg", quality=int(rng.integers(80, 96)))


def _plant(folder: Path, kind: str, number: int, seed: int) -> tuple[str, str, str]:
    """Write one duplicate into the folder of its original or the other one; returns its row of PLANTED."""
    how = list(CHANGES)[number % len(CHANGES)]
    rng = np.random.default_rng([seed, 77, CLASSES.index(kind), number])
    original = _file("Training", kind, number)
    into = "Testing" if number % 2 == 0 else "Training"
    path = _file(into, kind, 9000 + number)
    if how == "identical":
        (folder / path).write_bytes((folder / original).read_bytes())
    else:
        with Image.open(folder / original) as image:
            grey = np.asarray(image.convert("L"))
        Image.fromarray(CHANGES[how](grey, rng)).save(folder / path, format="jpeg", quality=88)
    return str(path), str(original), how


def _resized(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scale = rng.uniform(0.6, 0.9)
    return cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _cropped(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    margins = np.repeat(grey.shape, 2) * rng.uniform(0.01, 0.03, 4)
    top, bottom, left, right = map(round, margins.tolist())
    return np.ascontiguousarray(grey[top : grey.shape[0] - bottom, left : grey.shape[1] - right])


def _shifted(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    down, right = rng.integers(3, 9, 2)
    return np.pad(grey, ((down, 0), (right, 0)))


def _brightened(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(grey * rng.uniform(1.15, 1.4), 0, 255).astype(np.uint8)


def _sharpened(grey: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return cv2.addWeighted(grey, 2.0, cv2.GaussianBlur(grey, (0, 0), 1.5), -1.0, 0)


CHANGES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "identical": lambda grey, _: grey,
    "saved again": lambda grey, _: grey,
    "mirrored": lambda grey, _: np.ascontiguousarray(grey[:, ::-1]),
    "resized": _resized,
    "cropped": _cropped,
    "shifted": _shifted,
    "brightened": _brightened,
    "sharpened": _sharpened,
}
"""Name > change of an image before it is planted again."""
