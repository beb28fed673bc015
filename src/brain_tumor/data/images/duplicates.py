"""Duplicates among images.

Identical images have the same pixels. Candidates for near-duplicates have similar perceptual hashes or thumbnails; they
are confirmed by the correlation of their fine detail after alignment. Found are images that were saved again, resized,
cropped, shifted, brightened, sharpened, mirrored or turned by 180 degrees. Neighbouring slices of one patient look
alike too, but differ in the fine detail.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
import scipy  # its parts are imported when used
from jaxtyping import Bool, Float32, UInt8, UInt64
from pydantic import BaseModel, Field

from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.common.sets import join_groups

VIEW = 128
"""Side of the cleaned images that are compared."""

THUMBNAIL = 16
"""Side of the thumbnails that are correlated."""

FLIPS = ("as it is", "mirrored", "upside down", "turned by 180 degrees")
"""Orientations of the second image of a pair: bit 1 of the number reverses its rows, bit 0 its columns."""

FREQUENCIES = 8
"""The hash holds the signs of the lowest FREQUENCIES x FREQUENCIES coefficients."""


class DuplicateSettings(BaseModel, frozen=True, extra="forbid"):
    """What counts as a near-duplicate.

    Attributes:
        distance: bits in which the hashes of a pair may differ, of 64, to be compared further.
        correlation: of the local contrast of a pair's thumbnails, from which it is compared further whatever its hashes
            say: bits of weak frequencies turn over easily.
        similarity: of the fine detail of the aligned pair, at least; 1 for equal detail.
    """

    distance: int = Field(10, ge=0, le=64)
    correlation: float = Field(0.88, gt=0, lt=1)
    similarity: float = Field(0.85, gt=0, lt=1)


def perceptual_hash(view: UInt8[np.ndarray, "s s"]) -> np.uint64:
    """64-bit hash of an image: the signs of its lowest frequencies.

    It hardly changes with size, brightness, contrast or compression.

    Source: Zauner 2010, "Implementation and benchmarking of perceptual image hash functions". Signs instead of a
    comparison with the median make the hash of a flipped image that of the image with some bits inverted.
    """
    small = cv2.resize(view, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.packbits(scipy.fft.dctn(small, norm="ortho")[:FREQUENCIES, :FREQUENCIES] > 0).view(np.uint64)[0]


def _thumbnail(view: UInt8[np.ndarray, "s s"]) -> Float32[np.ndarray, "t t"]:
    """Local contrast of the whole, with mean 0 and length 1."""
    small = cv2.resize(view, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
    band = small - cv2.GaussianBlur(small, (0, 0), THUMBNAIL / 8)
    local = band / (np.sqrt(cv2.GaussianBlur(band * band, (0, 0), THUMBNAIL / 8)) + 8)
    local -= local.mean()
    return local / max(np.linalg.norm(local), 1e-9)


def _flip_masks() -> UInt64[np.ndarray, " f"]:
    """Bits that a flip inverts: frequencies that are odd along the flipped axis."""
    odd = np.arange(FREQUENCIES) % 2 == 1
    masks = [(down & odd)[:, None] ^ (across & odd)[None] for down in (False, True) for across in (False, True)]
    return np.stack([np.packbits(mask).view(np.uint64)[0] for mask in masks])


def find_candidates(
    hashes: UInt64[np.ndarray, " n"], views: UInt8[np.ndarray, "n s s"], settings: DuplicateSettings
) -> pd.DataFrame:
    """Pairs whose hashes are near or whose thumbnails correlate.

    Rows `first`, `second`, `flip`, `distance`, the nearest first.
    """
    small = np.stack([_thumbnail(view) for view in views])
    parts = []
    for start in range(0, len(hashes), 512):
        here = small[start : start + 512].reshape(-1, THUMBNAIL**2)
        for flip, mask in enumerate(_flip_masks()):
            bits = np.bitwise_count(hashes[start : start + 512, None] ^ hashes[None, start:] ^ mask)
            correlation = here @ flipped(small[start:], flip).reshape(-1, THUMBNAIL**2).T
            first, second = np.nonzero((bits <= settings.distance) | (correlation >= settings.correlation))
            found = pd.DataFrame(
                {
                    "first": first + start,
                    "second": second + start,
                    "flip": flip,
                    "distance": bits[first, second].astype(int),
                }
            )
            parts.append(found[found["first"] < found["second"]])
    return pd.concat(parts).sort_values(["distance", "first", "second", "flip"], ignore_index=True)


def find_near_duplicates(
    hashes: UInt64[np.ndarray, " n"],
    views: UInt8[np.ndarray, "n s s"],
    settings: DuplicateSettings,
    workers: WorkerSettings,
) -> pd.DataFrame:
    """Pairs that were compared: rows `first`, `second`, `flip`, `distance`, `similarity`, the nearest hashes first.

    Two images that are duplicates through others are not compared again: published sets hold dozens of duplicates of
    one image.
    """
    group = np.arange(len(views))
    compared = pd.DataFrame({name: np.array([], dtype) for name, dtype in COLUMNS.items()})
    candidates = find_candidates(hashes, views, settings)
    for distance, pairs in candidates.groupby(candidates["distance"].clip(upper=settings.distance + 1)):
        pairs = pairs[group[pairs["first"]] != group[pairs["second"]]]
        numbers = pairs[["first", "second", "flip"]].to_numpy()
        tasks = [(views, [*map(tuple, numbers[start : start + 256].tolist())]) for start in range(0, len(pairs), 256)]
        title = f"comparing at distance {distance}{' and more' * (distance > settings.distance)}"
        parts = parallel_map(compare_pairs, tasks, workers, title, unit="part")
        pairs = pairs.assign(similarity=np.array([value for part in parts for value in part], float))
        compared = pd.concat([compared, pairs], ignore_index=True)
        same = compared[compared["similarity"] >= settings.similarity]
        group = join_groups(len(views), same["first"].to_numpy(), same["second"].to_numpy())
    return compared


COLUMNS = {"first": int, "second": int, "flip": int, "distance": int, "similarity": float}


def flipped(view: np.ndarray, flip: int) -> np.ndarray:
    """A view, or a stack of views, in one of the orientations of FLIPS."""
    return np.ascontiguousarray(view[..., :: -1 if flip & 2 else 1, :: -1 if flip & 1 else 1])


def compare_pairs(views: UInt8[np.ndarray, "n s s"], pairs: Sequence[tuple[int, int, int]]) -> list[float]:
    """Similarity of each pair (first, second, flip)."""
    return [compare(views[first], flipped(views[second], flip)) for first, second, flip in pairs]


def compare(first: UInt8[np.ndarray, "s s"], second: UInt8[np.ndarray, "s s"]) -> float:
    """Correlation of the fine detail after the second was laid over the first; 0 if they can't be aligned.

    Aligned by an affine map that maximises the correlation of the whole (Evangelidis and Psarakis 2008), coarsely, then
    finely. Detail is what is a few pixels wide, divided by its own local strength, so neither brightness nor sharpening
    counts.
    """
    try:
        matrix = _align(first.astype(np.float32), second.astype(np.float32))
    except cv2.error:  # nothing in common
        return 0.0
    if matrix is None:
        return 0.0
    moved = _warp(second.astype(np.float32), matrix)
    inside = cv2.erode(_warp(np.ones_like(moved), matrix), np.ones((7, 7))) > 0.99
    anatomy = cv2.GaussianBlur(first, (0, 0), 3) > 12
    return _correlation(_detail(first.astype(np.float32)), _detail(moved), inside & anatomy)


MIN_CORRELATION = 0.9
"""Minimum correlation of whole images after coarse alignment. Duplicates exceed it; other pairs stop here."""


def _align(first: Float32[np.ndarray, "s s"], second: Float32[np.ndarray, "s s"]) -> Float32[np.ndarray, "2 3"] | None:
    matrix: np.ndarray = np.eye(2, 3, dtype=np.float32)
    half = cv2.resize(first, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    other = cv2.resize(second, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    correlation, matrix = cv2.findTransformECC(half, other, matrix, cv2.MOTION_AFFINE, _steps(10), _whole(half), 3)
    if correlation < MIN_CORRELATION:
        return None
    # Pixel centres of the full image lie between those of the half.
    matrix[:, 2] = 2 * matrix[:, 2] + 0.5 * (matrix[:, :2].sum(1) - 1)
    return cv2.findTransformECC(first, second, matrix, cv2.MOTION_AFFINE, _steps(3), _whole(first), 3)[1]


def _steps(count: int) -> tuple[int, int, float]:
    return cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, count, 1e-4


def _whole(image: np.ndarray) -> UInt8[np.ndarray, "s s"]:
    """The mask of all pixels."""
    return np.ones(image.shape, np.uint8)


def _warp(image: Float32[np.ndarray, "s s"], matrix: Float32[np.ndarray, "2 3"]) -> Float32[np.ndarray, "s s"]:
    return cv2.warpAffine(image, matrix, image.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _detail(image: Float32[np.ndarray, "s s"]) -> Float32[np.ndarray, "s s"]:
    band = cv2.GaussianBlur(image, (0, 0), 0.8) - cv2.GaussianBlur(image, (0, 0), 2)
    return band / (np.sqrt(cv2.GaussianBlur(band * band, (0, 0), 4)) + 2)


def _correlation(
    first: Float32[np.ndarray, "s s"], second: Float32[np.ndarray, "s s"], where: Bool[np.ndarray, "s s"]
) -> float:
    a, b = first[where], second[where]
    if a.size < 100:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(np.sqrt((a @ a) * (b @ b)), 1e-9))
