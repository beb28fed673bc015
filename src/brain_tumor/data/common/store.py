"""The store: rows of arrays in one HDF5 file that describes itself, written in chunks and read row by row."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pandas as pd

from brain_tumor.data.common.bounding_box import BoundingBox

Chunk = Mapping[str, np.ndarray]
"""Arrays that share their first axis, a row each; text columns are arrays of `object`."""


@dataclass(frozen=True)
class StoreContent:
    """What a store is written from.

    Attributes:
        description: plain values, kept as JSON in the file; its `fingerprint` says what the rows were made from.
        chunks: consumed only if the file isn't there with the same fingerprint.
    """

    description: dict[str, Any]
    chunks: Iterator[Chunk]


@dataclass(frozen=True)
class Store:
    """A written store. Holds its path, not an open file: it can be sent to another process."""

    path: Path

    @property
    def description(self) -> dict[str, Any]:
        """What the file says of itself."""
        with h5py.File(self.path) as file:
            return json.loads(file.attrs["description"])

    @property
    def rows(self) -> pd.DataFrame:
        """The columns that hold one value a row, as a table."""
        columns = {}
        with h5py.File(self.path) as file:
            for name, data in file.items():
                if data.ndim == 1:
                    # HDF5 holds text as bytes.
                    is_text = h5py.check_string_dtype(data.dtype)
                    columns[name] = data.asstr()[()] if is_text else data[()]
        return pd.DataFrame(columns)

    def read_columns(self, *names: str) -> tuple[np.ndarray, ...]:
        """Columns of numbers, whole."""
        with h5py.File(self.path) as file:
            return tuple(file[name][()] for name in names)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every array and column; the first number is that of the rows."""
        with h5py.File(self.path) as file:
            return {name: data.shape for name, data in file.items()}

    def read(self, rows: np.ndarray, *names: str, window: BoundingBox | None = None) -> tuple[np.ndarray, ...]:
        """Arrays at the rows given, in their order; of images only what is in the window."""
        arrays = []
        with h5py.File(self.path) as file:
            for name in names:
                data = file[name]
                # Columns of one value a row have no rows and columns of pixels.
                is_image = data.ndim > 2
                arrays.append(_take(data, rows, window if is_image else None))
        return tuple(arrays)


def require_made_from(made: Store, source: Store) -> None:
    """Refuse a store that names rows of another one which has been replaced since.

    Raises:
        ValueError: if it was made from other rows than are there now.
    """
    if made.description.get("made_from") != source.description["fingerprint"]:
        raise ValueError(
            f"{made.path} was not made from the rows that {source.path} holds now; run what makes it "
            "again, with the same source and settings"
        )


def _take(data: h5py.Dataset, rows: np.ndarray, window: BoundingBox | None) -> np.ndarray:
    """Rows of a data set, read in runs of neighbours: h5py's own indexing with a list takes time for each row."""
    inside = np.s_[..., window.top : window.bottom, window.left : window.right] if window else np.s_[...,]
    shape = (*data.shape[1:-2], *window.shape) if window else data.shape[1:]
    result = np.empty((len(rows), *shape), data.dtype)
    # -2 is no row's neighbour, so that the first row starts a run.
    starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    # Without rows there is no run to end.
    ends = [*starts[1:], len(rows)][: len(starts)]
    for start, end in zip(starts, ends, strict=True):
        run = slice(rows[start], rows[end - 1] + 1)
        data.read_direct(result, (run, *inside), np.s_[start:end])
    return result


def write_store(path: Path, content: StoreContent) -> int:
    """Write all chunks to a new file; returns the number of rows."""
    count = 0
    with h5py.File(path, "w") as file:
        file.attrs["description"] = json.dumps(content.description)
        for chunk in content.chunks:
            length = len(next(iter(chunk.values())))
            for name, array in chunk.items():
                # Shapes and types are those of the first chunk.
                data = file[name] if name in file else _create(file, name, array)
                data.resize(count + length, axis=0)
                data[count:] = array
            count += length
    return count


def _create(file: h5py.File, name: str, array: np.ndarray) -> h5py.Dataset:
    shape = array.shape[1:]
    dtype = h5py.string_dtype() if array.dtype == object else array.dtype
    # One row a chunk. LZ4 reads rows nearly as fast as no compression, in a third of the space:
    # docs/experiments/data_speed.md has the table.
    compression: Mapping[str, Any] = {}
    rows_each = 1024
    if shape:
        compression = hdf5plugin.Blosc(cname="lz4", clevel=3, shuffle=hdf5plugin.Blosc.NOSHUFFLE)
        rows_each = 1
    return file.create_dataset(
        name,
        shape=(0, *shape),
        dtype=dtype,
        maxshape=(None, *shape),
        chunks=(rows_each, *shape),
        **compression,
    )


def fingerprint(*parts: Any) -> str:
    """Short digest of plain values: two equal ones were made from the same."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
