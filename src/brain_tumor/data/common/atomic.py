"""Files and folders that are either whole or not there, whoever else writes them at the same time."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

DRAFT = ".draft"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write a file or a folder to.

    On leaving it takes the place of `path`, and on an error it is removed and `path` stays as it was.

    Each draft has a name of its own: two processes that write the same file don't meet, and the last one to finish
    stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    draft = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{uuid4().hex[:8]}{DRAFT}")
    try:
        yield draft
        if draft.is_dir() and path.is_dir():
            _remove(path)  # a folder can't take the place of another in one step
        draft.replace(path)
    finally:
        _remove(draft)


def _clear(path: Path) -> None:
    """Remove the drafts of this file that killed processes of this machine left behind."""
    for draft in path.parent.glob(f".{path.name}.*{DRAFT}"):
        *_, host, process, _, _ = draft.name.split(".")
        if host == _host() and not _is_running(int(process)):
            _remove(draft)


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks only
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
