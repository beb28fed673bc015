"""A folder of links to files under other names."""

import os
from collections.abc import Mapping
from pathlib import Path

from brain_tumor.data.common.files import list_files


def write_links(root: Path, links: Mapping[Path, Path], texts: Mapping[Path, str]) -> None:
    """Bring a folder up to date; what is as it was keeps its time, by which runs tell what has changed.

    Args:
        root: what lies below it and is in neither of the others is removed.
        links: path below the root > file that it leads to.
        texts: path below the root > content of a file.
    """
    for path, file in links.items():
        original = file.absolute()
        if not (path.is_symlink() and path.readlink() == original):
            draft = _draft(path)
            draft.symlink_to(original)
            draft.replace(path)
    for path, text in texts.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            draft = _draft(path)
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
    for path in set(list_files(root)) - links.keys() - texts.keys():
        path.unlink(missing_ok=True)


def _draft(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}")
