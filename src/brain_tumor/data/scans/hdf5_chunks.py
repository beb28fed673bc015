"""Whole HDF5 datasets, their gzip chunks cut straight out of the file and inflated by zlib-ng.

Inflating is most of the time that reading a published slice takes: 64 chunks of gzip each. The values are those that
h5py gives, bit for bit; where a dataset is stored in another way, h5py reads it.
"""

from math import ceil, prod

import h5py
import numpy as np
from zlib_ng import zlib_ng

WINDOW_BITS = 15
"""The largest window of zlib, which reads streams of every smaller one."""


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
    *sides, depth = data.shape
    planes = np.empty((depth, *sides), dtype)
    result = np.moveaxis(planes, 0, -1)
    chunks_along = [ceil(side / part) for side, part in zip(data.shape, chunk, strict=True)]
    missing = prod(chunks_along)

    def place(info: h5py.h5d.StoreInfo) -> None:
        nonlocal missing
        end = info.byte_offset + info.size
        packed = content[info.byte_offset : end]
        inflated = zlib_ng.decompress(packed, WINDOW_BITS, size)
        values = np.frombuffer(inflated, dtype).reshape(chunk)
        ranges = zip(info.chunk_offset, chunk, strict=True)
        region = tuple(slice(start, start + part) for start, part in ranges)
        target = result[region]
        # Every chunk is stored at full size; the last ones of an axis reach beyond the array.
        within = tuple(slice(side) for side in target.shape)
        target[...] = values[within]
        missing -= 1

    try:
        data.id.chunk_iter(place)
    except (zlib_ng.error, ValueError):  # type: ignore[misc]
        # The bytes are not what they were taken for: HDF5 reads them, or fails with the reason.
        return data[()]
    # Chunks that were never written hold the fill value, which HDF5 gives.
    return data[()] if missing else result


def _is_gzip_alone(data: h5py.Dataset) -> bool:
    plain = data.chunks is not None and data.dtype.kind in "iuf" and data.dtype.isnative
    if not plain or data.compression != "gzip":
        return False
    # A second filter, such as shuffle, changes the bytes before gzip packs them.
    return data.id.get_create_plist().get_nfilters() == 1
