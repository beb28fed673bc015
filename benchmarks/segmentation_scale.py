"""Time and memory of indexing and preparing a data set of the size of BraTS 2020.

    python benchmarks/segmentation_scale.py FOLDER --slices 5000 57195

FOLDER holds HDF5 slices in the published layout; they are repeated by hard links until there are as many as asked for,
155 to a patient. Each size runs in a process of its own. Memory is the sum of the peaks of that process and of its
workers.
"""

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import joblib
import yaml

from brain_tumor.data.common.parallel import WorkerSettings
from brain_tumor.data.common.store import write_store
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.preparation import PreparationSettings
from brain_tumor.pipelines.data_segmentation.nodes import index_slices, prepare_slices

SLICES_OF_A_PATIENT = 155


def link(folder: Path, target: Path, count: int) -> None:
    """`count` slices of made-up patients, each a hard link to a copy of a real one."""
    originals = [shutil.copy(file, target / f"{k}.original") for k, file in enumerate(sorted(folder.rglob("*.h5")))]
    for k in range(count):
        volume, number = divmod(k, SLICES_OF_A_PATIENT)
        os.link(originals[k % len(originals)], target / f"volume_{volume + 1}_slice_{number}.h5")
    for original in originals:
        Path(original).unlink()


def peaks_mib() -> list[int]:
    """Peak resident memory of this process, then of each of its children."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    status = [Path(f"/proc/{pid}/status").read_text() for pid in ("self", *children)]
    return [int(text.split("VmHWM:")[1].split()[0]) // 1024 for text in status]


def measure(folder: Path, count: int) -> None:
    """Index, index again, prepare; print seconds and memory."""
    parameters = yaml.safe_load((Path(__file__).parents[1] / "conf/base/parameters_data_segmentation.yml").read_text())
    data_set, workers = DataSet.model_validate(parameters["data_segmentation"]["data_set"]), WorkerSettings()
    logging.disable()
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        link(folder, source, count)
        memory = joblib.Memory(Path(scratch) / "inspections", verbose=0)
        seconds = []
        for _ in range(2):
            start = perf_counter()
            index = index_slices(source, memory, data_set, workers)
            seconds.append(perf_counter() - start)
        start = perf_counter()
        rows = write_store(
            Path(scratch) / "store.h5", prepare_slices(index, source, data_set, PreparationSettings(), workers)
        )
        seconds.append(perf_counter() - start)
        peaks = peaks_mib()
        size = (Path(scratch) / "store.h5").stat().st_size / 2**30
        print(
            f"{rows:9,}{seconds[0]:10.1f}{seconds[1]:12.1f}{seconds[2]:12.1f}{rows / seconds[2]:11.0f}"
            f"{sum(peaks):11}{size:11.2f}  {peaks}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slices", type=int, nargs="+", default=[5000, 57195])
    arguments = parser.parse_args()
    if len(arguments.slices) == 1:
        measure(arguments.folder, arguments.slices[0])
    else:
        print(
            f"{'slices':>9}{'index s':>10}{'again s':>12}{'prepare s':>12}{'slices/s':>11}"
            f"{'peak MiB':>11}{'store GiB':>11}  of each process",
            flush=True,
        )
        for count in arguments.slices:
            subprocess.run([sys.executable, __file__, str(arguments.folder), "--slices", str(count)], check=True)
