"""Two runs at once in one project: the second doesn't write what the first reads or writes."""

import json
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

try:
    import fcntl
except ImportError:  # Windows, where runs are not kept apart
    fcntl = None  # type: ignore[assignment]


class AnotherRunError(RuntimeError):
    """Another run holds what this one needs."""


class RunLocks:
    """Locks the entries of a run while it lasts.

    Those that it writes for itself alone, those that it only reads together with other readers.

    Entries are locked in groups, the first parts of their names: `segmentation`, `segmentation.classic_unet`. Files in
    `data/.locks` hold who has a lock; the locks themselves are the system's and end with the process, however it ends.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep where the project is."""
        self.folder = Path(context.project_path) / "data" / ".locks"

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Take the locks.

        Raises:
            AnotherRunError: if another run has one of them.
        """
        self.held: list[TextIOWrapper] = []
        if fcntl is None or _trains_on_several_machines(catalog):
            return
        kept = [name for name in pipeline.all_outputs() if name in catalog]
        inputs = [name for name in pipeline.inputs() if name in catalog]
        written = _groups(kept)
        read = _groups(name for name in inputs if not name.startswith(("params:", "parameters"))) - written
        try:
            # In one order, so that no two runs wait for each other.
            for group in sorted(written | read):
                self.held.append(_lock(self.folder / f"{group}.lock", alone=group in written))
        except AnotherRunError:
            self._release()
            raise

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Give the locks back."""
        self._release()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Give the locks back."""
        self._release()

    def _release(self) -> None:
        for file in self.held:
            file.close()
        self.held = []


def _trains_on_several_machines(catalog: DataCatalog) -> bool:
    """Whether each of several machines runs the same command, which is no second run.

    All but the first stop after training.
    """
    training = catalog.load("params:training") if "params:training" in catalog else None
    return getattr(training, "nodes", 1) > 1


def _groups(names: Iterable[str]) -> set[str]:
    return {name.rpartition(".")[0] or name for name in names}


def _lock(path: Path, *, alone: bool) -> TextIOWrapper:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Opened to append: what the holder has written stays until this run has the lock.
    file = path.open("a+", encoding="utf-8")
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = _describe_holder(file.read()) if _is_written(file) else ""
        file.close()
        raise AnotherRunError(
            f"another run{holder} is using {path.stem} in this project; wait until it ends, or stop it"
        ) from error
    except OSError:
        # On a file system without locks runs are not kept apart.
        return file
    if alone:
        about = {
            "process": os.getpid(),
            "machine": socket.gethostname(),
            "since": f"{datetime.now():%H:%M:%S on %d %B}",
        }
        file.truncate(0)
        file.write(json.dumps(about))
        file.flush()
    return file


def _is_written(file: TextIOWrapper) -> bool:
    """Whether the holder of a lock is a run that writes, which says who it is; readers, who share it, don't."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _describe_holder(text: str) -> str:
    with suppress(ValueError, KeyError, TypeError):
        about = json.loads(text)
        # Of another machine's processes nothing is known.
        if about["machine"] != socket.gethostname() or _lives(about["process"]):
            return f" (process {about['process']} on {about['machine']}, since {about['since']})"
    return ""


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True
