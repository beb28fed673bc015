r"""What `--env full` costs at the size of BraTS 2020: seconds, memory and disk of each step, on SIMULATED patients.

    python benchmarks/full_size.py FOLDER --patients 92 369 --out RESULTS.csv --networks classic_unet \
        --set segmentation.recipe.epochs=1 segmentation.classic_unet.sizes.n_filters=4

FOLDER gets 12 simulated patients of 155 slices in the published layout. They are repeated by hard links until there
are as many as asked for: 369 patients are 57,195 slices. Then `kedro run --env full --pipelines segmentation` runs in a
copy of the project, once for each number of patients, with the parameters of `--set`. Memory is the sum over the
processes of a run, each page that they share counted once, twice a second.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import pandas as pd
import yaml

from brain_tumor.data.common.files import SIMULATED_MARK
from brain_tumor.data.simulation.scans import CONTENT, simulate_data_set
from brain_tumor.networks import networks_of

PROJECT = Path(__file__).parents[1]
SLICES = range(155)
DIFFERENT = 12
"""Patients that are simulated; the others are hard links to their files."""

NODE = re.compile(r"> (\d+)/(\d+) (\S+)")


def make_source(folder: Path, patients: int) -> Path:
    """Simulated BraTS of so many patients, made anew unless it is there."""
    # What an interrupted run left.
    shutil.rmtree(folder / "started", ignore_errors=True)
    originals = folder / "different"
    if not originals.is_dir():
        simulate_data_set(folder / "started", patients=DIFFERENT, slices=SLICES, seed=20)
        (folder / "started").rename(originals)
    target = folder / f"brats_{patients}"
    if target.is_dir():
        return target
    content = folder / "started" / CONTENT
    content.mkdir(parents=True)
    shutil.copy(originals / SIMULATED_MARK, folder / "started")
    pairs = [(volume, (volume - 1) % DIFFERENT + 1) for volume in range(1, patients + 1)]
    for volume, original in pairs:
        for number in SLICES:
            os.link(
                originals / CONTENT / f"volume_{original}_slice_{number}.h5",
                content / f"volume_{volume}_slice_{number}.h5",
            )
    for file in (originals / CONTENT).glob("*.csv"):
        repeat_table(file, pairs).to_csv(content / file.name, index=False, na_rep="NA")
    (folder / "started").rename(target)
    return target


def repeat_table(file: Path, pairs: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """The rows of each original for every patient that has its slices."""
    table = pd.read_csv(file, keep_default_na=False)
    known = table.columns[table.columns.isin(["volume", "BraTS_2020_subject_ID", "Brats20ID"])][0]
    numbers = table[known].astype(str).str.extract(r"(\d+)$")[0].astype(int)
    parts = []
    for volume, original in pairs:
        rows = table[numbers == original]
        name = volume if known == "volume" else f"BraTS20_Training_{volume:03d}"
        parts.append(rows.assign(**{known: name}))
    return pd.concat(parts)


def memory_mib(root: int) -> float:
    """Memory of a process and all its descendants; pages shared by n of them count as 1/n each (PSS)."""
    total, waiting = 0.0, [root]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        try:
            for task in (process / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            total += int((process / "smaps_rollup").read_text().split("\nPss:")[1].split()[0]) / 1024
        except (OSError, IndexError):
            continue  # it has just ended
    return total


class Meter:
    """Peak of the memory since the last call of `take`."""

    def __init__(self, root: int) -> None:
        self.root, self.peak, self.ended = root, 0.0, threading.Event()

    def take(self) -> float:
        """The peak, which starts anew."""
        peak, self.peak = self.peak, 0.0
        return peak

    def _watch(self) -> None:
        while not self.ended.wait(0.5):
            self.peak = max(self.peak, memory_mib(self.root))

    @contextmanager
    def watching(self) -> Iterator["Meter"]:
        """Measure until the block ends."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield self
        finally:
            self.ended.set()
            thread.join()


def disk_mib(folder: Path) -> float:
    """Size of the files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def keep_networks(settings: Path, kept: Sequence[str]) -> None:
    """Leave the other experiments out: a block that is null is none."""
    parameters = yaml.safe_load(settings.read_text(encoding="utf-8"))
    others = [name for name in networks_of("segmentation") if name not in kept]
    parameters["segmentation"] |= dict.fromkeys(others)
    settings.write_text(yaml.safe_dump(parameters), encoding="utf-8")


def measure_run(
    source: Path, patients: int, scratch: Path, networks: Sequence[str], parameters: Sequence[str]
) -> pd.DataFrame:
    """A row for each node: seconds, peak memory in MiB, MiB written.

    Raises:
        subprocess.CalledProcessError: if the run fails; its last lines are printed.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    shutil.copy(PROJECT / "pyproject.toml", scratch)
    for name in ("conf", "src"):
        shutil.copytree(PROJECT / name, scratch / name, ignore=shutil.ignore_patterns("local", "__pycache__"))
    keep_networks(scratch / "conf/full/parameters_segmentation.yml", networks)
    command = [sys.executable, "-m", "kedro", "run", "--env", "full", "--pipelines", "segmentation"]
    command += ["--params", ",".join([f"segmentation_source={source}", *parameters])]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(scratch / "src")}
    run = subprocess.Popen(
        command, cwd=scratch, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    rows, lines = [], []
    with Meter(run.pid).watching() as meter:
        name, start, before = "start of the program", perf_counter(), 0.0
        for line in run.stdout or ():
            lines.append(line)
            found = NODE.search(line)
            if not found:
                continue
            now, size = perf_counter(), disk_mib(scratch / "data")
            rows.append((name, now - start, meter.take(), size - before))
            name, start, before = found[3], now, size
            print(f"{patients} patients: {found[1]}/{found[2]} {name}", file=sys.stderr, flush=True)
        code = run.wait()
        rows.append((name, perf_counter() - start, meter.take(), disk_mib(scratch / "data") - before))
    if code:
        print("".join(lines[-30:]), file=sys.stderr)
        raise subprocess.CalledProcessError(code, command)
    table = pd.DataFrame(rows, columns=["node", "seconds", "peak_mib", "written_mib"])
    return table.assign(patients=patients).round(1)


def compare_sizes(table: pd.DataFrame) -> pd.DataFrame:
    """Each node at each size; `growth`: seconds a patient at the largest over those at the smallest (1: linear)."""
    seconds = table.pivot_table(index="node", columns="patients", values="seconds", sort=False)
    most = table[table["patients"] == table["patients"].max()].set_index("node")
    shown = seconds.add_prefix("seconds_").assign(peak_mib=most["peak_mib"], written_mib=most["written_mib"])
    sizes = sorted(table["patients"].unique())
    if len(sizes) > 1:
        ratio = seconds[sizes[-1]] / seconds[sizes[0]]
        shown["growth"] = ratio / (sizes[-1] / sizes[0])
    return shown


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, nargs="+", default=[92, 369])
    parser.add_argument("--networks", nargs="+", default=list(networks_of("segmentation")), help="default: all four")
    parser.add_argument("--set", nargs="*", default=[], help="parameters of the run")
    parser.add_argument("--out", type=Path, help="the table as CSV")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for patients in given.patients:
        source = make_source(given.folder.absolute(), patients)
        tables.append(
            measure_run(source, patients, given.folder.absolute() / f"run_{patients}", given.networks, given.set)
        )
        table = pd.concat(tables)
        if given.out:
            table.to_csv(given.out, index=False)
    print(compare_sizes(table).round(2).to_string())


if __name__ == "__main__":
    main()
