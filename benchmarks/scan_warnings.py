"""How often the warnings about scans are right: on scans as they are, and on scans that are made wrong on purpose.

    python benchmarks/scan_warnings.py FOLDER FOLDER --raw RAW --out RESULTS.csv
    python benchmarks/scan_warnings.py --slices SLICES --out SLICES.csv
    python benchmarks/scan_warnings.py --show RESULTS.csv

Folders hold prepared patients at 1 mm, RAW patients as scanned, whose modalities are brought to the grid of T1ce,
SLICES published HDF5 slices, each of which the rules on contrasts take for a volume. Scans that are right are judged as
the pipeline judges them, wrong ones on every second voxel of each axis, by the rules that are about what is wrong.
"""

import argparse
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from nibabel.affines import voxel_sizes
from scipy.ndimage import affine_transform, binary_dilation, gaussian_filter

from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.find_scans import find_scans, read_image, read_slices
from brain_tumor.data.scans.nifti_volumes import read_volume
from brain_tumor.data.scans.plausibility import MOST_BRAIN
from brain_tumor.data.scans.preparation import find_brain
from brain_tumor.data.scans.scan import Slice
from brain_tumor.data.scans.scan_warnings import (
    BETWEEN,
    correlate_ranks,
    find_copies,
    find_warnings,
    judge_brain,
    judge_contrasts,
)

ROOT = Path(__file__).parents[1]
DATA_SET = DataSet.model_validate(
    yaml.safe_load((ROOT / "conf/base/parameters_data_segmentation.yml").read_text())["data_segmentation"]["data_set"]
)
NAMES = DATA_SET.modality_names
FEWEST_PIXELS = 8000
"""Of the brain in a slice that is taken for a volume."""

CUTS_MM = (4, 10, 20, 30)
SHELLS_MM = (4, 8, 12)
NOISE = (0.05, 0.2)

Spacing = tuple[float, float, float]


def judge(image: np.ndarray, spacing: Spacing) -> list[str]:
    """Warnings of a scan, after the note on a background of several values."""
    brain = np.stack([find_brain(plane) for plane in np.moveaxis(image, -1, 0)], axis=-1)
    note = [f"{brain.mean():.0%} of the scan differ from its background"] if brain.mean() > MOST_BRAIN else []
    return note + find_warnings(image, brain, spacing, NAMES)


def judge_wrong(image: np.ndarray, spacing: Spacing) -> Iterator[tuple[str, list[str]]]:
    """What is made wrong, and what is said of it.

    Args:
        image: whose background is 0.
    """
    brain = (image != 0).any(0)
    values = image[:, brain]
    yield from judge_orders(values)
    for kept, lost in ((1, 2), (3, 0)):
        for noise in NOISE:
            copied = _copy(image, brain, kept, lost, noise)
            yield f"{NAMES[kept]} given as {NAMES[lost]} too, noise {noise:.0%}", _judge_copy(copied)
    for axis, where in enumerate(("side", "front", "top")):
        for length in CUTS_MM:
            yield f"{length} mm cut off at the {where}", judge_brain(_cut(brain, axis, length, spacing), spacing)
    for length in SHELLS_MM:
        yield f"tissue of {length} mm around the brain", judge_brain(_wrap(brain, length, spacing), spacing)
    for factor in (0.5, 2.0):
        row, column, depth = spacing
        scaled = factor * row, factor * column, factor * depth
        yield f"spacing x {factor:g}", judge_brain(brain, scaled)
    yield "a block of 100 mm out of the brain", judge_brain(_take_block(brain, spacing), spacing)


def judge_orders(values: np.ndarray) -> Iterator[tuple[str, list[str]]]:
    """Every wrong order of the modalities, and what is said of it.

    Args:
        values: intensities over the brain, (modality, voxel).
    """
    ranks = correlate_ranks(values)
    for order in permutations(range(4)):
        moved = [k for k in range(4) if order[k] != k]
        if moved:
            names = " and ".join(NAMES[k] for k in moved) if len(moved) == 2 else f"{len(moved)} modalities"
            yield f"{names} swapped", judge_contrasts(values[list(order)], ranks[np.ix_(order, order)], NAMES)


def _judge_copy(values: np.ndarray) -> list[str]:
    ranks = correlate_ranks(values)
    return find_copies(ranks, NAMES) or judge_contrasts(values, ranks, NAMES)


def _copy(image: np.ndarray, brain: np.ndarray, kept: int, lost: int, noise: float) -> np.ndarray:
    """Intensities with a modality in place of another, blurred a little, with noise as a share of its deviation."""
    values = image[:, brain]
    drawn = np.random.default_rng(0).normal(0, noise * values[kept].std(), values.shape[1])
    values[lost] = gaussian_filter(image[kept], 0.5)[brain] + drawn
    return values


def _cut(brain: np.ndarray, axis: int, length: float, spacing: Spacing) -> np.ndarray:
    """Without that many millimetres of the brain at one end of an axis."""
    places = np.flatnonzero(brain.any(tuple(other for other in range(3) if other != axis)))
    planes = round(length / spacing[axis])
    # Index 0 is in front; the top is the last.
    keep = slice(None, places[-1] + 1 - planes) if axis == 2 else slice(places[0] + planes, None)
    return brain[tuple(keep if other == axis else slice(None) for other in range(3))]


def _wrap(brain: np.ndarray, length: float, spacing: Spacing) -> np.ndarray:
    """With tissue around the brain, as of a skull that was cut off too far outside."""
    steps = round(length / spacing[0])
    # With room for it, where the brain ends near the last plane.
    return binary_dilation(np.pad(brain, steps + 1), iterations=steps)


def _take_block(brain: np.ndarray, spacing: Spacing) -> np.ndarray:
    """A block from the middle of the brain, in empty space."""
    result = np.zeros_like(brain)
    middle = [round(float(places.mean())) for places in np.nonzero(brain)]
    half = [round(50 / step) for step in spacing]
    block = tuple(slice(centre - side, centre + side) for centre, side in zip(middle, half, strict=True))
    result[block] = brain[block]
    return result


def read_raw(folder: Path) -> tuple[np.ndarray, Spacing]:
    """A patient as scanned, all modalities on the grid of T1ce."""
    read = [read_volume(next(folder.glob(f"*_{modality.suffixes[0]}.nii.gz"))) for modality in DATA_SET.modalities]
    like, affine = read[NAMES.index("T1ce")]
    moved = []
    for voxels, own in read:
        there = np.linalg.inv(own) @ affine
        moved.append(affine_transform(voxels.astype(np.float32), there[:3, :3], there[:3, 3], like.shape, order=1))
    row, column, depth = voxel_sizes(affine).tolist()
    return np.stack(moved), (row, column, depth)


def make_heads(folder: Path) -> Iterator[tuple[str, np.ndarray, Spacing]]:
    """A raw scan as it is; with skull also on an empty background, and its lower and upper part alone."""
    image, spacing = read_raw(folder)
    yield "as scanned", image, spacing
    scaled = image / np.quantile(image, 0.99, axis=(1, 2, 3), keepdims=True)
    clean = image * (scaled.max(0) > 0.12)
    if (image != 0).any(0).mean() > 0.5:
        yield "skull on an empty background", clean, spacing
        for millimetres in (60, 80):
            planes = round(millimetres / spacing[2])
            yield f"lowest {millimetres} mm of the head", clean[..., :planes], spacing
            yield f"uppermost {millimetres} mm of the head", clean[..., -planes:], spacing


def measure(folders: list[Path], raw: Path | None, out: Path) -> None:
    """Rows `patient`, `scan`, `said`; written after each patient."""
    rows = []
    seen = set()
    for folder in folders:
        for scan in find_scans(folder, DATA_SET, need_mask=False, quiet=True):
            if scan.problem or scan.patient in seen:
                continue
            seen.add(scan.patient)
            volume = read_image(scan, DATA_SET)
            rows.append((scan.patient, "right", judge(volume.image, volume.spacing)))
            row, column, depth = volume.spacing
            sparse = volume.image[:, ::2, ::2, ::2].astype(np.float32)
            wrong = judge_wrong(sparse, (2 * row, 2 * column, 2 * depth))
            rows += [(scan.patient, name, said) for name, said in wrong]
            write(rows, out)
    for patient in sorted(raw.iterdir()) if raw else ():
        if patient.is_dir():
            for name, image, spacing in make_heads(patient):
                rows.append((patient.name, f"{patient.name} {name}", judge(image, spacing)))
    write(rows, out)


def measure_slices(folder: Path, out: Path) -> None:
    """The same of single slices: right, and with modalities in each other's place."""
    rows = []
    for scan in find_scans(folder, DATA_SET, quiet=True):
        for plane in read_slices(scan, DATA_SET):
            brain = find_brain(plane.image) if isinstance(plane, Slice) else np.zeros(1, bool)
            if np.count_nonzero(brain) >= FEWEST_PIXELS:
                values = plane.image[:, brain]
                rows.append((scan.patient, "right", judge_contrasts(values, correlate_ranks(values), NAMES)))
                rows += [(scan.patient, name, said) for name, said in judge_orders(values)]
    write(rows, out)


def write(rows: list[tuple[str, str, list[str]]], out: Path) -> None:
    """The table as a CSV file."""
    table = pd.DataFrame(rows, columns=["patient", "scan", "said"])
    table.assign(said=table["said"].str.join(BETWEEN)).to_csv(out, index=False)


def show(file: Path) -> None:
    """How many scans of each kind have a warning, and one of them, as a table in Markdown."""
    table = pd.read_csv(file, keep_default_na=False)
    print("| scan | with a warning | of | for example |\n|---|---|---|---|")
    for name, rows in table.groupby("scan", sort=False):
        warned = rows[rows["said"] != ""]
        example = warned["said"].iloc[0].split(BETWEEN)[0] if len(warned) else ""
        print(f"| {name} | {len(warned)} | {len(rows)} | {example} |")
    swaps = table[table["scan"].str.contains(" and .* swapped", regex=True)]
    named = [row.scan.replace(" swapped", " look swapped") in row.said for row in swaps.itertuples()]
    print(f"\nSwaps of two modalities that are named rightly: {sum(named)} of {len(named)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--slices", type=Path)
    parser.add_argument("--out", type=Path, default=Path("scan_warnings.csv"))
    parser.add_argument("--show", type=Path)
    options = parser.parse_args()
    if options.folders or options.raw:
        measure(options.folders, options.raw, options.out)
    if options.slices:
        measure_slices(options.slices, options.out)
    show(options.show or options.out)
