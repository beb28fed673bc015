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
from brain_tumor.data.simulation.phantoms import (
    GRID,
    MIDDLE_SLICE,
    MODALITIES,
    TISSUES,
    Head,
    acquire,
    draw_place,
    grow_tumour,
    measure_length,
    subtract,
)

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
FOLDERS = {"Training": "Tr", "Testing": "Te"}

PLANTED = "planted.csv"
"""Table of the planted duplicates in the sample: file, its original, and the change."""

PATIENTS = "patients.csv"
"""Table of the patient of each image: one for each head, whatever duplicates there are."""

SIDES = (225, 236, 256, 350, 442, 512)
ET = 3

WHITE, GREY = 255, 128
"""Grey levels of frames."""

FIRST_PLANTED = 9000
"""Number in the file name of a class's first planted duplicate: above those of all images."""


def simulate_images(
    folder: Path,
    *,
    training: int,
    testing: int,
    duplicates: int,
    seed: int,
    workers: int = -1,
) -> None:
    """Write simulated images in the folders of the Kaggle set `masoudnickparvar/brain-tumor-mri-dataset`.

    Args:
        training: images of each class in Training.
        testing: the same for Testing.
        duplicates: additional duplicates of each class, planted in either folder; the first is identical.
        workers: processes; -1 is one for each core.
    """
    counts = {"Training": training, "Testing": testing}
    tasks = []
    for kind, (name, count) in product(CLASSES, counts.items()):
        tasks += [(folder, kind, name, number, seed) for number in range(count)]
    for name in FOLDERS:
        for kind in CLASSES:
            (folder / name / kind).mkdir(parents=True)
    written = parallel_map(_write_image, tasks, WorkerSettings(workers=workers), "simulating images", unit="image")
    # The work is done as results are taken.
    list(written)
    # After all images are written: a duplicate is made of a file.
    planted = [_plant(folder, kind, number, seed) for kind, number in product(CLASSES, range(duplicates))]
    table = pd.DataFrame(planted, columns=["file", "copy_of", "how"])
    table.to_csv(folder / PLANTED, index=False)
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
    name = f"{FOLDERS[folder]}-{kind[:2]}_{number:04d}.jpg"
    return Path(folder) / kind / name


def _write_image(folder: Path, kind: str, name: str, number: int, seed: int) -> None:
    # A generator for each image: workers may take them in any order.
    folder_number = list(FOLDERS).index(name)
    rng = np.random.default_rng([seed, CLASSES.index(kind), folder_number, number])
    head = simulate_slice(kind, rng)
    grey = _publish(head, rng)
    _save(grey, folder / _file(name, kind, number), rng)


def simulate_slice(kind: str, rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """Axial slice of a head with a tumour of that class, grey levels from 0 to 1, anterior on top."""
    centre, radius = _draw_place(kind, rng)
    # The slice goes through the tumour, though seldom through its middle; it stays where the brain is wide.
    height = MIDDLE_SLICE + centre[2] + rng.uniform(-0.3, 0.3) * radius
    number = int(np.clip(height, 28, 130))
    head = Head((number,), rng, (centre, radius))
    labels, distance = _grow(kind, head, rng)
    # As likely for each class, so that the modality doesn't tell them apart.
    modality = "T1ce" if rng.random() < 0.8 else rng.choice(["FLAIR", "T2"])
    modalities = acquire(head, labels, distance, 55.0, rng)[0]
    image = modalities[MODALITIES.index(modality)].astype(np.float32)
    # A percentile and not the highest value, which may be a single bright pixel.
    brightest = np.percentile(image[head.brain[0]], 99.5)
    canvas = np.zeros(GRID[1:], np.float32)
    canvas[head.rows, head.columns] = image / brightest
    whole_head = _add_scalp(canvas, rng)
    # The grid's rows run to the left; transposed, they are the columns of an upright image.
    return np.clip(whole_head.T, 0, 1)


def _grow(kind: str, head: Head, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a tumour of that class, and the signed distance to the surface of its core in millimetres.

    A tumour outside the brain is added to `head.brain`.
    """
    labels = np.zeros(head.brain.shape, np.uint8)
    if kind == "notumor":
        return labels, np.full(head.brain.shape, 1e3, np.float32)
    if kind == "glioma":
        tumour = grow_tumour(head, "HGG", rng)
        for label, tissue in enumerate(TISSUES, start=1):
            labels[tumour[tissue]] = label
        return labels, tumour["core_distance"]
    # Meningiomas and pituitary tumours are one solid mass that takes up contrast agent.
    centre, radius = head.seed_centre, head.radius
    from_centre = measure_length(subtract(head.position, centre))
    distance = from_centre + 0.1 * radius * head.noise(10, rng) - radius
    # The pituitary lies below the brain.
    allowed = head.brain | (kind == "pituitary")
    inside = (distance < 0) & allowed
    labels[inside] = ET
    head.brain = head.brain | inside
    return labels, distance


def _draw_place(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Centre in millimetres from the middle of the brain (right, front, up), and radius.

    Gliomas lie inside, meningiomas at the surface, pituitary tumours low in the middle.
    """
    if kind == "meningioma":
        angle = rng.uniform(0, 2 * np.pi)
        height = rng.uniform(-5, 45)
        # On an ellipsoid near the surface of the brain, of 60, 76 and 75 mm.
        reach = np.sqrt(1 - (height / 75) ** 2)
        right = 60 * reach * np.cos(angle)
        front = 76 * reach * np.sin(angle)
        centre = np.array([right, front, height], np.float32)
        return centre, float(rng.uniform(12, 22))
    if kind == "pituitary":
        right = rng.normal(0, 1.5)
        front = rng.uniform(10, 20)
        height = rng.uniform(-34, -24)
        centre = np.array([right, front, height], np.float32)
        return centre, float(rng.uniform(8, 13))
    centre, radius = draw_place(rng)
    if kind == "notumor":
        # Slices without tumour are as high or low as those of any class: height doesn't tell them apart.
        centre[2] = rng.uniform(-38, 45)
    return centre, radius


def _add_scalp(
    image: Float[np.ndarray, "h w"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "h w"]:
    """Around the brain: fluid and bone, dark, then scalp, bright."""
    # The skull bridges the gap between the hemispheres, and so does the closed brain.
    closed = scipy.ndimage.binary_closing(image > 0, iterations=20)
    filled = scipy.ndimage.binary_fill_holes(closed)
    outside = scipy.ndimage.distance_transform_edt(filled == 0)
    inner = rng.uniform(5, 8)
    thickness = rng.uniform(4, 7)
    # Millimetres inside the nearer edge of the scalp; half a pixel more than that is its share of a pixel.
    depth = np.minimum(outside - inner, inner + thickness - outside)
    ring = np.clip(depth + 0.5, 0, 1)
    noise = rng.normal(0, 1, image.shape)
    noise = scipy.ndimage.gaussian_filter(noise, 2)
    brightness = rng.uniform(0.6, 0.9) + 0.3 * noise
    return image + ring * brightness


def _publish(
    image: Float[np.ndarray, "h w"],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "h2 w2"]:
    """As it would be put on the web: cropped, resized, sometimes framed or written on."""
    image = _crop(image, rng)
    side = int(rng.choice(SIDES))
    scale = side / max(image.shape)
    height, width = image.shape
    # OpenCV takes the width first.
    size = (round(width * scale), round(height * scale))
    brightness = rng.uniform(0.7, 1)
    resized = brightness * cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    # Cubic interpolation goes beyond the values at edges.
    levels = 255 * np.clip(resized, 0, 1)
    grey = np.rint(levels).astype(np.uint8)
    # One draw for all: of 100 images 8 have a white frame, 4 a grey one, 13 a text.
    draw = rng.random()
    if draw < 0.12:
        thickness = int(rng.integers(4, 30))
        return np.pad(grey, thickness, constant_values=WHITE if draw < 0.08 else GREY)
    if draw < 0.25:
        drawn = Image.fromarray(np.pad(grey, 14))
        ImageDraw.Draw(drawn).text((4, 2), "R  SE 4", fill=220)
        return np.asarray(drawn)
    return grey


def _crop(image: Float[np.ndarray, "h w"], rng: np.random.Generator) -> Float[np.ndarray, "h2 w2"]:
    """The head with an uneven margin, as cut by hand."""
    head = BoundingBox.from_mask(image > 0.2)
    above, below, left, right = rng.integers(2, 30, 4)
    # A slice that begins below 0 would begin at the other end; one may end after the image.
    top = max(0, head.top - above)
    bottom = head.bottom - 1 + below
    first = max(0, head.left - left)
    last = head.right - 1 + right
    return image[top:bottom, first:last]


def _save(grey: UInt8[np.ndarray, "h w"], path: Path, rng: np.random.Generator) -> None:
    image = Image.fromarray(grey)
    if rng.random() < 0.02:
        # Some published files have another format than their names.
        image.convert("RGBA").save(path, format="png")
        return
    # Published files are grey or in colour, whatever they show.
    if rng.random() < 0.5:
        image = image.convert("RGB")
    quality = int(rng.integers(80, 96))
    image.save(path, format="jpeg", quality=quality)


def _plant(folder: Path, kind: str, number: int, seed: int) -> tuple[str, str, str]:
    """Write one duplicate into the folder of its original or the other one; returns its row of PLANTED."""
    how = list(CHANGES)[number % len(CHANGES)]
    # The 77 keeps these draws apart from those of the images.
    rng = np.random.default_rng([seed, 77, CLASSES.index(kind), number])
    original = _file("Training", kind, number)
    into = "Testing" if number % 2 == 0 else "Training"
    path = _file(into, kind, FIRST_PLANTED + number)
    if how == "identical":
        # Bytes are copied: an image that is saved again has other bytes.
        (folder / path).write_bytes((folder / original).read_bytes())
    else:
        with Image.open(folder / original) as image:
            grey = np.asarray(image.convert("L"))
        changed = CHANGES[how](grey, rng)
        Image.fromarray(changed).save(folder / path, format="jpeg", quality=88)
    return str(path), str(original), how


def _resized(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scale = rng.uniform(0.6, 0.9)
    return cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _cropped(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    margins = np.repeat(grey.shape, 2) * rng.uniform(0.01, 0.03, 4)
    top, bottom, left, right = map(round, margins.tolist())
    height, width = grey.shape
    cropped = grey[top : height - bottom, left : width - right]
    return np.ascontiguousarray(cropped)


def _shifted(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    down, right = rng.integers(3, 9, 2)
    return np.pad(grey, ((down, 0), (right, 0)))


def _brightened(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    brighter = grey * rng.uniform(1.15, 1.4)
    return np.clip(brighter, 0, 255).astype(np.uint8)


def _sharpened(grey: np.ndarray, _: np.random.Generator) -> np.ndarray:
    # An unsharp mask: what a blur takes away is added once more.
    blurred = cv2.GaussianBlur(grey, (0, 0), 1.5)
    return cv2.addWeighted(grey, 2.0, blurred, -1.0, 0)


def _mirrored(grey: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(grey[:, ::-1])


def _unchanged(grey: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return grey


CHANGES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "identical": _unchanged,
    "saved again": _unchanged,
    "mirrored": _mirrored,
    "resized": _resized,
    "cropped": _cropped,
    "shifted": _shifted,
    "brightened": _brightened,
    "sharpened": _sharpened,
}
"""Name > change of an image before it is planted again."""
