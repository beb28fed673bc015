"""Two runs at once in one project don't meet."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from kedro.framework.context import KedroContext
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from support import sees_processes, wait_until

from brain_tumor.project.run_locks import AnotherRunError, RunLocks
from brain_tumor.training.settings import EngineSettings


def cook(x: int) -> int:
    return x


def prepare(task: str) -> Pipeline:
    return Pipeline([Node(cook, "source", "slices", name="prepare")], namespace=task, inputs="source")


def train(network: str) -> Pipeline:
    return Pipeline(
        [Node(cook, "slices", "network", name="train")], namespace=f"task.{network}", inputs={"slices": "task.slices"}
    )


PIPELINES = {
    "prepare": prepare("task"),
    "train": train("net"),
    "train another": train("other"),
    "unrelated": prepare("else"),
}
ENTRIES = ("source", "task.slices", "task.net.network", "task.other.network", "else.slices")


def start(folder: Path, name: str, also: dict[str, MemoryDataset] | None = None) -> RunLocks:
    locks = RunLocks()
    locks.after_context_created(Mock(spec=KedroContext, project_path=folder))
    locks.before_pipeline_run(
        {}, PIPELINES[name], DataCatalog({entry: MemoryDataset(0) for entry in ENTRIES} | (also or {}))
    )
    return locks


@pytest.mark.parametrize(
    ("first", "second", "may"),
    [
        ("prepare", "prepare", False),
        ("prepare", "train", False),  # the second reads what the first writes
        ("train", "prepare", False),
        ("train", "train", False),
        ("train", "train another", True),  # both read the same
        ("prepare", "unrelated", True),
    ],
)
def test_who_may_run_beside_whom(tmp_path, first, second, may):
    running = start(tmp_path, first)
    if may:
        start(tmp_path, second).after_pipeline_run()
    else:
        with pytest.raises(
            AnotherRunError, match=r"another run.* is using task.* in this project; wait until it ends, or stop it"
        ):
            start(tmp_path, second)
    running.on_pipeline_error()
    start(tmp_path, second).after_pipeline_run()


def test_a_run_that_is_refused_holds_nothing(tmp_path):
    running = start(tmp_path, "train")
    with pytest.raises(AnotherRunError):
        start(tmp_path, "prepare")
    start(tmp_path, "unrelated").after_pipeline_run()
    running.after_pipeline_run()
    start(tmp_path, "prepare").after_pipeline_run()


def test_the_holder_is_named_and_a_killed_run_holds_nothing(tmp_path):
    program = "\n".join(
        [
            "import pathlib, sys, time",
            "sys.path[:0] = sys.argv[2], str(pathlib.Path(sys.argv[2]).parent)",
            "from test_run_locks import start",
            "locks = start(pathlib.Path(sys.argv[1]), 'prepare')",
            "print('held', flush=True)",
            "time.sleep(60)",
        ]
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(AnotherRunError, match=rf"another run \(process {other.pid} on "):
            start(tmp_path, "prepare")
    finally:
        other.kill()
        other.communicate()
    start(tmp_path, "prepare").after_pipeline_run()


def test_who_is_gone_is_not_named_where_readers_hold_the_lock(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    reader = start(tmp_path, "train")
    about = {"process": int(gone.stdout), "machine": socket.gethostname(), "since": "noon"}
    (tmp_path / "data/.locks/task.lock").write_text(json.dumps(about))
    with pytest.raises(AnotherRunError, match="another run is using task in this project"):
        start(tmp_path, "prepare")
    reader.after_pipeline_run()
    writer = start(tmp_path, "prepare")
    (tmp_path / "data/.locks/task.lock").write_text(json.dumps(about))
    with pytest.raises(AnotherRunError, match="another run is using task in this project"):
        start(tmp_path, "train")
    writer.after_pipeline_run()


RUN_IN_PARALLEL = """
import pathlib, sys, time
from kedro.framework.project import configure_project
from kedro.io import SharedMemoryDataCatalog
from kedro.pipeline import Node, Pipeline
sys.path.insert(0, sys.argv[2])
from brain_tumor.project.runner import ParallelRunner
from test_run_locks import linger, start

if __name__ == "__main__":
    configure_project("brain_tumor")
    locks = start(pathlib.Path(sys.argv[1]), "prepare")
    pipeline = Pipeline([Node(linger, None, "done", name="linger")])
    ParallelRunner(max_workers=1).run(pipeline, SharedMemoryDataCatalog())
"""


def linger() -> int:
    """A node that takes a minute."""
    print("lingers", os.getpid(), flush=True)
    time.sleep(60)
    return 0


@sees_processes
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_an_ended_run_end_too_and_its_locks_are_free(tmp_path, number, method):
    (tmp_path / "run.py").write_text(RUN_IN_PARALLEL)
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path), str(Path(__file__).parent)]
    environment = os.environ | {"KEDRO_MP_CONTEXT": method, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert parent.stdout is not None
        word, worker = parent.stdout.readline().split()
        assert word == "lingers"
        with pytest.raises(AnotherRunError, match=f"process {parent.pid} on"):
            start(tmp_path, "prepare")
        parent.send_signal(number)
        assert parent.wait(20) == (128 + number if number == signal.SIGTERM else -number)
        wait_until(lambda: not Path(f"/proc/{worker}").exists(), 20)
        start(tmp_path, "prepare").after_pipeline_run()
    finally:
        parent.kill()
        parent.communicate()


def test_machines_that_train_together_are_one_run(tmp_path):
    """Each runs the same command in one shared folder."""
    training = {"params:training": MemoryDataset(EngineSettings(nodes=2))}
    for _ in range(2):
        start(tmp_path, "train", training)
    # One machine alone takes the lock, so a second run is refused.
    alone = start(tmp_path, "train")
    with pytest.raises(AnotherRunError):
        start(tmp_path, "train")
    alone.after_pipeline_run()
