"""What lies below a folder, linked folders included."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

SIMULATED_MARK = "SIMULATED.txt"
"""A file of this name in a folder marks what is in it as simulated."""

SYSTEM_NAMES = frozenset(
    {
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler", "recycled"),  # Windows
        *("system volume information", "found.000", "found.001", "found.002"),  # Windows
        *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
        *("@eadir", "@recycle", "#recycle", "@recently-snapshot", "#snapshot", "~snapshot"),  # network drives
        *("@tmp", "@sharebin", "@sharesnap", "lost+found"),  # network drives, Linux
        "__pycache__",  # Python
    }
)
"""Files and folders that operating systems and network drives leave beside data, in lower case.

Hidden ones start with a dot.
"""


def is_system_name(name: str) -> bool:
    """Whether a file or folder of this name belongs to the operating system, an editor or a notebook server.

    It is no data.

    >>> all(is_system_name(name) for name in ("._P1_t1.nii.gz", "Thumbs.db", ".ipynb_checkpoints"))
    True
    >>> is_system_name("P1_t1.nii.gz")
    False
    """
    return name.startswith((".", "~$")) or name.lower() in SYSTEM_NAMES


def list_files(folder: Path) -> list[Path]:
    """Every file below a folder, sorted; broken links are among them, to be reported by who opens them.

    What belongs to the operating system is passed over (`is_system_name`). A folder that can't be listed, and a file
    whose name isn't UTF-8 and can't be written in a table, are excluded with a warning.
    """
    files = [parent / name for parent, _, names in _walk(folder) for name in names]
    unwritable = [file for file in files if not _is_utf8(file)]
    for file in unwritable:
        logger.warning("excluded: %r: its name is not UTF-8; rename it", str(file))
    return sorted(set(files) - set(unwritable))


def list_folders(folder: Path) -> list[Path]:
    """Every folder below a folder, sorted."""
    return sorted(parent / name for parent, names, _ in _walk(folder) for name in names)


def file_state(file: Path) -> str:
    """Another one when the file was written, moved or became readable."""
    try:
        stat = file.stat()
    except OSError as error:
        return f"{file}|{error.strerror}|"
    return f"{file}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|"


def is_simulated(path: Path) -> bool:
    """Whether the file or folder lies in what was simulated, or anything below it was.

    What is made of both counts as simulated.
    """
    above = any((parent / SIMULATED_MARK).is_file() for parent in path.absolute().parents)
    return above or any(SIMULATED_MARK in names for _, _, names in _walk(path))


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`, through links, without system files; no folder is entered twice."""
    if not folder.is_dir():
        return
    entered = {folder.resolve()}
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_warn):
        # os.walk enters what is left in its own list, so that is changed in place.
        known, folders[:] = sorted(folders), []
        for name in known:
            real = (Path(parent) / name).resolve()
            if real not in entered and not is_system_name(name):
                entered.add(real)
                folders.append(name)
        kept = [name for name in files if not is_system_name(name)]
        yield Path(parent), folders, kept


def _warn(error: OSError) -> None:
    logger.warning("excluded: %s: can't be listed (%s); see that you may read it", error.filename, error.strerror)


def _is_utf8(file: Path) -> bool:
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return False
    return True
