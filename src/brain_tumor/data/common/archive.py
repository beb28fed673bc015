"""Zip archives from elsewhere, unpacked without trusting them."""

import hashlib
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from brain_tumor.data.common.parallel import show_progress

MANIFEST = "manifest.csv"

LARGEST_EXPANSION = 50
"""How many times larger than the archive its members may be together: the published sets stay below 10."""

BLOCK = 1 << 20


def expanded_size(archive: Path) -> int:
    """Bytes that the members of an archive will take, as it says.

    Raises:
        ValueError: if it isn't a zip archive, or holds a member that must not be unpacked.
    """
    if not zipfile.is_zipfile(archive):
        raise ValueError(f"{archive} is not a zip archive; delete it and run again")
    with zipfile.ZipFile(archive) as content:
        members = content.infolist()
    for member in members:
        _check(member, archive)
    total = sum(member.file_size for member in members)
    # A zip bomb of a few megabytes would fill the disk.
    if total > LARGEST_EXPANSION * archive.stat().st_size:
        raise ValueError(
            f"{archive} of {archive.stat().st_size:,} bytes would unpack to {total:,}: more than "
            f"{LARGEST_EXPANSION} times its size, refused"
        )
    return total


def _check(member: zipfile.ZipInfo, archive: Path) -> None:
    # Windows takes backslashes and drive letters for paths too.
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
        raise ValueError(f"{archive} holds a member outside its folder, refused: {member.filename}")
    # Unix modes lie in the upper 16 bits.
    if stat.S_ISLNK(member.external_attr >> 16):
        raise ValueError(f"{archive} holds a link, refused: {member.filename}")


def unpack(archive: Path, folder: Path) -> pd.DataFrame:
    """Unpack into a folder and write its manifest: `file`, `bytes`, `blake2b` of each file.

    Raises:
        ValueError: as `expanded_size`, or if a member is not what the archive says.
    """
    total = expanded_size(archive)
    rows = []
    with (
        zipfile.ZipFile(archive) as content,
        show_progress(total, f"unpacking {archive.name}", "B") as progress,
    ):
        for member in content.infolist():
            if member.is_dir():
                continue
            target = folder / member.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            digest, size = hashlib.blake2b(digest_size=16), 0
            with target.open("wb") as file:
                for block in _blocks(content, member, archive):
                    file.write(block)
                    digest.update(block)
                    size += len(block)
                    progress.update(len(block))
            rows.append((member.filename, size, digest.hexdigest()))
    manifest = pd.DataFrame(rows, columns=["file", "bytes", "blake2b"])
    manifest.to_csv(folder / MANIFEST, index=False)
    return manifest


def _blocks(content: zipfile.ZipFile, member: zipfile.ZipInfo, archive: Path) -> Iterator[bytes]:
    """What a member unpacks to, never more than it declares."""
    read = 0
    try:
        with content.open(member) as source:
            while block := source.read(BLOCK):
                read += len(block)
                if read > member.file_size:
                    raise ValueError(f"{archive}: {member.filename} is larger than the archive says, refused")
                yield block
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{archive} is damaged at {member.filename} ({error}); delete it and run again") from error


def check_manifest(folder: Path) -> None:
    """Compare the sizes of the files with the manifest.

    Raises:
        ValueError: naming the first file that is missing or has another size.
    """
    manifest = pd.read_csv(folder / MANIFEST)
    for row in manifest.itertuples():
        file = folder / row.file
        size = file.stat().st_size if file.is_file() else None
        if size != row.bytes:
            what = "is missing" if size is None else f"has {size:,} bytes, {row.bytes:,} were unpacked"
            raise ValueError(f"{file} {what}; delete {folder} and run again to fetch it anew")
