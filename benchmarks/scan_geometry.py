"""How well masks of resampled, tilted and cropped scans agree with the mask of the same scan untouched.

    # a folder of prepared patients at 1 mm, or some of them
    python benchmarks/scan_geometry.py FOLDER --out RESULTS.csv
    python benchmarks/scan_geometry.py FOLDER --patients P1 P2 --out RESULTS.csv
    python benchmarks/scan_geometry.py --show RESULTS.csv

Each scan is changed in memory, segmented, and its mask brought back to the grid of the scan by the nearest voxel.
Changes within slices are tried on every 24th slice (`--every`): the networks see single slices. `--volumes` adds
changes across slices, on all of them: ten times the time.
`filled` prepares slices as until 0.1.0: the larger side of the scan fills the network's square, whatever its
millimetres. `there and back` is the mask of the untouched scan itself, on the grid of the changed scan and back: what
no network can exceed. A scan that is in RESULTS.csv already is not segmented again.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.find_scans import find_scans, read_image, read_labels
from brain_tumor.data.scans.slice_geometry import SliceGeometry
from brain_tumor.networks.trained import read_network
from brain_tumor.training.device import choose_device
from brain_tumor.training.segmentation.prediction import segment_volume
from brain_tumor.training.settings import EngineSettings, PredictionSettings

ROOT = Path(__file__).parents[1]
BASE = ROOT / "conf/base"
DATA_SET = DataSet.model_validate(
    yaml.safe_load((BASE / "parameters_data_segmentation.yml").read_text())["data_segmentation"]["data_set"]
)
THICK = 5
"""Slices that are averaged to a thick one."""

REGIONS = ("WT", "TC", "ET")


@dataclass(frozen=True)
class Grid:
    """A grid in a scan: voxel i of the grid lies at voxel `matrix @ i + offset` of the scan.

    Attributes:
        block: voxels of the scan that a voxel of the grid averages; 1 where it interpolates.
    """

    shape: tuple[int, ...]
    matrix: np.ndarray
    offset: np.ndarray
    block: tuple[int, int, int] = (1, 1, 1)

    def measure_spacing(self, of_scan: tuple[float, float, float]) -> tuple[float, float, float]:
        """Millimetres of the grid, (row, column, slice), from those of the scan."""
        row, column, depth = np.linalg.norm(np.diag(of_scan) @ self.matrix, axis=0).tolist()
        return row, column, depth

    def take(self, image: np.ndarray) -> np.ndarray:
        """The scan on this grid. The background stays 0."""
        brain = (image != 0).any(0).astype(np.float32)
        volumes = [*image.astype(np.float32), brain]
        if max(self.block) > 1:
            moved = np.stack([self._average(volume) for volume in volumes])
        else:
            moved = np.stack([self._interpolate(volume) for volume in volumes])
        return moved[:-1] * (moved[-1] >= 0.5)

    def _average(self, volume: np.ndarray) -> np.ndarray:
        a, b, c = self.block
        h, w, d = self.shape
        return volume[: h * a, : w * b, : d * c].reshape(h, a, w, b, d, c).mean((1, 3, 5))

    def _interpolate(self, volume: np.ndarray, order: int = 1) -> np.ndarray:
        return affine_transform(volume, self.matrix, self.offset, self.shape, order=order)

    def take_labels(self, labels: np.ndarray) -> np.ndarray:
        """Labels on this grid, those of the nearest voxels."""
        return self._interpolate(labels, order=0)

    def bring_back(self, labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Labels of this grid on that of the scan."""
        inverse = np.linalg.inv(self.matrix)
        return affine_transform(labels, inverse, -inverse @ self.offset, shape, order=0)


def spaced(shape: tuple[int, ...], step: tuple[float, float, float], field: tuple[int, int] | None = None) -> Grid:
    """Voxels of other sizes.

    Args:
        step: voxels of the scan to one of the grid.
        field: voxels of the scan in the slices around the same centre; None: all of them.
    """
    sides = (*(field or shape[:2]), shape[2])
    new = tuple(int(side / length) for side, length in zip(sides, step, strict=True))
    centred = [(old - side) / 2 for old, side in zip(shape, sides, strict=True)]
    # Index 0 is the centre of a voxel.
    offset = np.array(centred) + (np.array(step) - 1) / 2
    whole = all(float(length).is_integer() for length in step) and not field
    block = tuple(int(length) for length in step) if whole else (1, 1, 1)
    return Grid(new, np.diag(np.array(step, float)), offset, block)


def cropped(image: np.ndarray, step: float = 1.0) -> Grid:
    """Slices as small as the brain, with a voxel around it."""
    rows, columns = ((image != 0).any((0, *axes)).nonzero()[0] for axes in ((2, 3), (1, 3)))
    first = np.array([rows[0] - 1, columns[0] - 1, 0])
    sides = (int((rows[-1] - rows[0] + 3) / step), int((columns[-1] - columns[0] + 3) / step), image.shape[-1])
    return Grid(sides, np.diag([step, step, 1.0]), first + np.array([step - 1, step - 1, 0]) / 2)


def turned(shape: tuple[int, ...], axis: str, degrees: float) -> Grid:
    """A scan with oblique axes."""
    matrix = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    centre = (np.array(shape) - 1) / 2
    return Grid(shape, matrix, centre - matrix @ centre)


def change_slices(image: np.ndarray) -> Iterator[tuple[str, Grid]]:
    """What is tried within slices, and the grid of each scan."""
    shape = image.shape[1:]
    yield "0.5 mm", spaced(shape, (0.5, 0.5, 1))
    yield "2 mm", spaced(shape, (2, 2, 1))
    yield "1 x 2 mm", spaced(shape, (1, 2, 1))
    yield "field of view 320 mm", spaced(shape, (1, 1, 1), (320, 320))
    yield "cropped to the brain", cropped(image)
    yield "cropped to the brain, 0.5 mm", cropped(image, 0.5)
    yield "turned by 15 degrees in plane", turned(shape, "z", 15)


def change_volume(image: np.ndarray) -> Iterator[tuple[str, Grid]]:
    """What is tried across slices, and the grid of each scan."""
    shape = image.shape[1:]
    yield f"slices of {THICK} mm", spaced(shape, (1, 1, THICK))
    yield "tilted by 15 degrees", turned(shape, "y", 15)


FILLED = ("1 x 2 mm", "field of view 320 mm", "cropped to the brain", "cropped to the brain, 0.5 mm")
"""Whose pixels were others until 0.1.0."""


def measure(
    folder: Path, chosen: list[str] | None, out: Path, network_file: Path, every: int, *, volumes: bool
) -> None:
    """Rows `patient`, `scan`, `preparation`, `target`, `dice`, `expert_dice`; written after each patient."""
    network = read_network(network_file)
    device = choose_device(EngineSettings())
    module, geometry = network.module(), SliceGeometry.of(network.description)
    settings = PredictionSettings.model_validate(
        yaml.safe_load((BASE / "parameters_segmentation.yml").read_text())["segmentation"]["prediction"]
    )

    def segment(image: np.ndarray, spacing: tuple[float, float, float], geometry: SliceGeometry) -> np.ndarray:
        found, _ = segment_volume(module, image, spacing, geometry, device, tta_flip=settings.tta_flip)
        return settings.postprocess(found, prod(spacing) / 1000, DATA_SET.tissue_names)

    table = pd.read_csv(out) if out.exists() else pd.DataFrame(columns=["patient"])
    for scan in find_scans(folder, DATA_SET, need_mask=False):
        if scan.problem or scan.patient in set(table["patient"]) or (chosen and scan.patient not in chosen):
            continue
        volume = read_image(scan, DATA_SET)
        expert = read_labels(scan, DATA_SET)
        rows = []
        parts = [(every, change_slices)] + ([(1, change_volume)] if volumes else [])
        for step, changes in parts:
            image = volume.image[..., step // 2 :: step]
            own_expert = None if expert is None else expert[..., step // 2 :: step]
            row_mm, column_mm, slice_mm = volume.spacing
            spacing = (row_mm, column_mm, slice_mm * step)
            untouched = segment(image, spacing, geometry)
            name = "untouched" if step == 1 else f"untouched, every {step}th slice"
            rows += score(scan.patient, name, "", untouched, untouched, own_expert)
            for name, grid in changes(image):
                moved, own_spacing = grid.take(image), grid.measure_spacing(spacing)
                ways = {"scaled": geometry}
                if name in FILLED:
                    side = max(moved.shape[1:3]) / geometry.size
                    filled = side * own_spacing[0], side * own_spacing[1]
                    ways["filled"] = SliceGeometry(geometry.size, filled, geometry.window)
                masks = {way: segment(moved, own_spacing, used) for way, used in ways.items()}
                masks["there and back"] = grid.take_labels(untouched)
                for way, mask in masks.items():
                    back = grid.bring_back(mask, untouched.shape)
                    rows += score(scan.patient, name, way, back, untouched, own_expert)
        table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
        table.to_csv(out, index=False)
        print(scan.patient, flush=True)


def score(
    patient: str,
    name: str,
    way: str,
    mask: np.ndarray,
    untouched: np.ndarray,
    expert: np.ndarray | None,
) -> list[dict]:
    """Dice against the mask of the untouched scan, and against the expert's."""
    rows = []
    for target in REGIONS:
        own, first = (np.isin(labels, DATA_SET.targets[target]) for labels in (mask, untouched))
        row = {"patient": patient, "scan": name, "preparation": way, "target": target, "dice": dice(own, first)}
        if expert is not None:
            row["expert_dice"] = dice(own, np.isin(expert, DATA_SET.targets[target]))
        rows.append(row)
    return rows


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """1 where both are empty, the rule of BraTS 2020."""
    total = one.sum() + other.sum()
    return float(2 * (one & other).sum() / total) if total else 1.0


def show(file: Path) -> None:
    """Means over patients, and the lowest, as a table in Markdown."""
    table = pd.read_csv(file).fillna({"preparation": ""})
    print(f"| scan of {table['patient'].nunique()} patients | slices | WT | TC | ET | lowest WT | expert WT |")
    print("|---|---|---|---|---|---|---|")
    for (scan, way), rows in table.groupby(["scan", "preparation"], sort=False):
        by_target = rows.groupby("target")
        means = by_target["dice"].mean()
        lowest, expert = by_target["dice"].min()["WT"], by_target["expert_dice"].mean()["WT"]
        cells = [scan, way, *(f"{means[target]:.3f}" for target in REGIONS), f"{lowest:.3f}", f"{expert:.3f}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--patients", nargs="+")
    parser.add_argument("--network", type=Path, default=ROOT / "weights/residual_attention_unet.safetensors")
    parser.add_argument("--out", type=Path, default=Path("scan_geometry.csv"))
    parser.add_argument("--every", type=int, default=24)
    parser.add_argument("--volumes", action="store_true")
    parser.add_argument("--show", type=Path)
    options = parser.parse_args()
    if options.folder:
        measure(options.folder, options.patients, options.out, options.network, options.every, volumes=options.volumes)
    show(options.show or options.out)
