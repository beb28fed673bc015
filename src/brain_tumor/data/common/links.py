"""A folder of links to files under other names."""

import os
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from brain_tumor.data.common.atomic import replacing


def write_links(root: Path, links: Mapping[Path, Path], texts: Mapping[Path, str]) -> None:
    """Bring a folder up to date; what is as it was keeps its time, by which runs tell what has changed.

    Args:
        root: what lies below it and is in neither of the others is removed.
        links: path below the root > file that it leads to.
        texts: path below the root > content of a file.
    """
    # First: a link to what has become a folder would be gone through, into the folder of somebody's own.
    _remove_others(root, links.keys() | texts.keys())
    for path, file in links.items():
        original = file.absolute()
        if not (path.is_symlink() and path.readlink() == original):
            _link(path, original)
    for path, text in texts.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with replacing(path) as draft:
                draft.write_text(text, encoding="utf-8")


def _link(path: Path, original: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by `replacing`, which looks for old drafts in the whole folder: it has a link for each of 57,195 slices.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.symlink_to(original)
    draft.replace(path)


def _remove_others(root: Path, kept: Collection[Path]) -> None:
    """Remove links and files that aren't kept, and folders that hold nothing that is.

    Another process may write the same links: its drafts, which are hidden, and the folders that it makes stay.
    """
    needed = {folder for path in kept for folder in path.parents}
    for place, folders, files in os.walk(root, topdown=False):  # which doesn't follow links
        folder = Path(place)
        linked = [name for name in folders if (folder / name).is_symlink()]
        for path in (folder / name for name in (*files, *linked) if not name.startswith(".")):
            if path not in kept:
                path.unlink(missing_ok=True)
        if folder not in needed:
            with suppress(OSError):  # if a draft is in it
                folder.rmdir()
