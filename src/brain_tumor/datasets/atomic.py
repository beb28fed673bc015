"""Files that are either whole or not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; on leaving it takes the place of `path`, and on an error it is removed and `path` stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")  # what a killed run left under this name is written over
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
