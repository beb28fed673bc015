"""Whole HDF5 datasets, their gzip chunks cut straight out of the file and inflated by zlib-ng.

Inflating is most of the time that reading a published slice takes: 64 chunks of gzip each. The values are those that
h5py gives, bit for bit; where a dataset is stored in another way, h5py reads it.
"""

from math import ceil, prod

import h5py
import numpy as np
from zlib_ng import zlib_ng

WINDOW_BITS = 15


def read_whole(data: h5py.Dataset, content: memoryview) -> np.ndarray:
    """All values of a dataset; in memory the last axis comes first, so that planes of `image` are contiguous.

    Args:
        data: of a file that is open.
        content: all bytes of that file.
    """
    if not _is_gzip_alone(data):
        return data[()]
    chunk, dtype = data.chunks, data.dtype
    size = prod(chunk) * dtype.itemsize
    result = np.moveaxis(np.empty((data.shape[-1], *data.shape[:-1]), dtype), 0, -1)
    missing = prod(ceil(side / part) for side, part in zip(data.shape, chunk, strict=True))

    def place(info: h5py.h5d.StoreInfo) -> None:
        nonlocal missing
        packed = content[info.byte_offset : info.byte_offset + info.size]
        values = np.frombuffer(zlib_ng.decompress(packed, WINDOW_BITS, size), dtype).reshape(chunk)
        target = result[tuple(slice(start, start + part) for start, part in zip(info.chunk_offset, chunk, strict=True))]
        target[...] = values[tuple(slice(side) for side in target.shape)]
        missing -= 1

    try:
        data.id.chunk_iter(place)
    except (zlib_ng.error, ValueError):  # type: ignore[misc]  # not the bytes we took them for: let HDF5 read it, or say what is wrong
        return data[()]
    return data[()] if missing else result  # chunks that were never written hold the fill value


def _is_gzip_alone(data: h5py.Dataset) -> bool:
    plain = data.chunks is not None and data.dtype.kind in "iuf" and data.dtype.isnative
    return bool(plain and data.compression == "gzip" and data.id.get_create_plist().get_nfilters() == 1)
