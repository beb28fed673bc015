"""How fast images are cleaned, and how well, against a plain way in the same run.

    python benchmarks/classification_data.py speed FOLDER      # images a second from reading to writing
    python benchmarks/classification_data.py borders FOLDER    # boxes found on images with frames drawn around them

FOLDER holds Training and Testing. The plain way does what the reference does, with OpenCV: grey, 3x3 blur, threshold
45, erode and dilate twice, the largest contour, crop to its extreme points, resize to 256 x 256, write a JPEG. Ours
reads, finds the borders, cuts, resizes to the same size and writes the store. Rounds alternate between the ways;
medians are printed.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

import cv2
import joblib
import numpy as np

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.store import StoreContent, write_store
from brain_tumor.data.images.borders import cut, find_box
from brain_tumor.data.images.class_folders import read_image

SIZE, PART = 256, 64


def find_plainly(image: np.ndarray) -> BoundingBox:
    """The box that the reference finds."""
    mask = cv2.threshold(cv2.GaussianBlur(image, (3, 3), 0), 45, 255, cv2.THRESH_BINARY)[1]
    mask = cv2.dilate(cv2.erode(mask, None, iterations=2), None, iterations=2)
    contours = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    largest = max(contours, key=cv2.contourArea)[:, 0]
    (left, top), (right, bottom) = largest.min(0), largest.max(0)
    return BoundingBox(int(top), int(bottom), int(left), int(right))


def clean_plainly(files: list[Path], target: Path) -> None:
    """One image after the other, read, cut and written."""
    for number, file in enumerate(files):
        image = cv2.imread(str(file))
        box = find_plainly(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        cv2.imwrite(
            str(target / f"{number}.jpg"), cv2.resize(image[box.top : box.bottom, box.left : box.right], (SIZE, SIZE))
        )


def clean(files: list[Path]) -> dict[str, np.ndarray]:
    """Rows of the store."""
    pictures = [read_image(file).grey for file in files]
    return {"image": np.stack([cut(grey, find_box(grey), SIZE) for grey in pictures])}


def clean_ours(files: list[Path], target: Path, pool: joblib.Parallel) -> None:
    """Parts of the images in the processes of the pool, written as they come."""
    chunks = pool(joblib.delayed(clean)(files[start : start + PART]) for start in range(0, len(files), PART))
    write_store(target / "images.h5", StoreContent({}, iter(chunks)))


def measure_speed(folder: Path, rounds: int, count: int) -> None:
    """Images a second of each way."""
    cv2.setNumThreads(1)
    files = sorted(folder.rglob("*.jpg"))
    files = files[:: max(1, len(files) // count)]
    times: dict[str, list[float]] = {}
    with joblib.Parallel(n_jobs=2, return_as="generator") as two, tempfile.TemporaryDirectory() as scratch:
        list(two(joblib.delayed(clean)(files[:8]) for _ in range(4)))
        one = joblib.Parallel(n_jobs=1, return_as="generator")
        ways = {
            "plain, one process": lambda: clean_plainly(files, Path(scratch)),
            "ours, one process": lambda: clean_ours(files, Path(scratch), one),
            "ours, two processes": lambda: clean_ours(files, Path(scratch), two),
        }
        for _ in range(rounds):
            for name, work in ways.items():
                start = perf_counter()
                work()
                times.setdefault(name, []).append(perf_counter() - start)
    speeds = {name: len(files) / statistics.median(seconds) for name, seconds in times.items()}
    for name, speed in speeds.items():
        print(f"{name:24}{speed:8.0f} images/s{speed / speeds['plain, one process']:8.2f} x")


def overlap(a: BoundingBox, b: BoundingBox) -> float:
    """Intersection over union."""
    tall, wide = min(a.bottom, b.bottom) - max(a.top, b.top), min(a.right, b.right) - max(a.left, b.left)
    both = max(0, tall) * max(0, wide)
    return both / ((a.bottom - a.top) * (a.right - a.left) + (b.bottom - b.top) * (b.right - b.left) - both)


def known_box(image: np.ndarray) -> BoundingBox | None:
    """The box of what is not black, where that is beyond doubt.

    Wherever the line is drawn between 8 and 40, it differs by 3 pixels at most.
    """
    bright, faint = ([np.flatnonzero((image > level).sum(axis) >= 3) for axis in (1, 0)] for level in (40, 8))
    if not all(side.size for side in bright) or any(
        abs(int(a[end]) - int(b[end])) > 3 for a, b in zip(bright, faint, strict=True) for end in (0, -1)
    ):
        return None
    box = BoundingBox(int(bright[0][0]), int(bright[0][-1]) + 1, int(bright[1][0]), int(bright[1][-1]) + 1)
    return box if min(box.top, box.left, image.shape[0] - box.bottom, image.shape[1] - box.right) > 6 else None


def measure_borders(folder: Path) -> None:
    """Overlap of the box found with the true one, for each kind of frame."""
    known = [
        (image, box)
        for image in (read_image(file).grey for file in sorted(folder.rglob("*.jpg"))[::3])
        if (box := known_box(image))
    ]
    print(f"{len(known)} images whose box is known; intersection over union, mean (least)")
    for name, level, width in (
        ("none", 0, 0),
        ("white, 5 px", 255, 5),
        ("white, 50 px", 255, 50),
        ("grey, 5 px", 128, 5),
        ("grey, 50 px", 128, 50),
    ):
        scores: dict[str, list[float]] = {"ours": [], "plain": []}
        for image, box in known:
            framed = cv2.imencode(".jpg", np.pad(image, width, constant_values=level), [cv2.IMWRITE_JPEG_QUALITY, 85])[
                1
            ]
            framed = cv2.imdecode(framed, cv2.IMREAD_GRAYSCALE)
            truth = BoundingBox(*(side + width for side in box))
            scores["ours"].append(overlap(find_box(framed) or truth, truth))
            scores["plain"].append(overlap(find_plainly(framed), truth))
        print(
            f"{name:14}"
            + "".join(f"{way:>8} {np.mean(values):.3f} ({np.min(values):.3f})" for way, values in scores.items())
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "borders"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1400, help="images of the comparison of speed")
    arguments = parser.parse_args()
    if arguments.what == "speed":
        measure_speed(arguments.folder, arguments.rounds, arguments.count)
    else:
        measure_borders(arguments.folder)
