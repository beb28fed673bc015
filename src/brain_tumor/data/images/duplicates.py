"""Near-duplicates among images: candidates by perceptual hash or thumbnail, confirmed by correlation of fine detail.

Images may have been saved again, resized, cropped, shifted, brightened, sharpened, mirrored or rotated by 180 degrees.
Neighbouring slices of one patient look alike too, but differ in fine detail.
"""

from collections.abc import Sequence
from itertools import chain, product

import cv2
import numpy as np
import pandas as pd
import scipy  # its parts are imported when used
from jaxtyping import Bool, Float32, UInt8, UInt64
from pydantic import BaseModel, Field

from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.common.sets import join_groups

VIEW = 128
"""Side of the cropped images that are compared."""

THUMBNAIL = 16
"""Side of the thumbnails that are correlated."""

FLIPS = ("as it is", "mirrored", "upside down", "turned by 180 degrees")
"""Flips of the second image of a pair. The second bit of the number reverses rows, the first columns."""

FREQUENCIES = 8
"""Number of lowest frequencies along each axis whose signs make the hash."""


BLOCK = 512
"""Images whose distances to all others are computed at once."""

PART = 256
"""Pairs that a worker compares at once."""


class DuplicateSettings(BaseModel, frozen=True, extra="forbid"):
    """Thresholds of near-duplicates.

    Attributes:
        distance: largest Hamming distance of the hashes of a candidate pair, of 64 bits.
        correlation: smallest correlation of the thumbnails of a candidate pair, whatever the distance: bits of weak
            frequencies flip easily.
        similarity: smallest correlation of the fine detail of an aligned pair.
    """

    distance: int = Field(10, ge=0, le=64)
    correlation: float = Field(0.88, gt=0, lt=1)
    similarity: float = Field(0.85, gt=0, lt=1)


def perceptual_hash(view: UInt8[np.ndarray, "s s"]) -> np.uint64:
    """64-bit hash of the signs of the lowest frequencies, stable under resizing, brightness, contrast and compression.

    Source: Zauner 2010, "Implementation and benchmarking of perceptual image hash functions".
    """
    small = cv2.resize(view, (32, 32), interpolation=cv2.INTER_AREA)
    spectrum = scipy.fft.dctn(small.astype(np.float32), norm="ortho")
    lowest = spectrum[:FREQUENCIES, :FREQUENCIES]
    # Signs, not a comparison with the median: a flip of the image then inverts known bits.
    return _pack_bits(lowest > 0)


def _pack_bits(bits: Bool[np.ndarray, "f f"]) -> np.uint64:
    """64 bits as one number."""
    return np.packbits(bits).view(np.uint64)[0]


def _thumbnail(view: UInt8[np.ndarray, "s s"]) -> Float32[np.ndarray, "t t"]:
    """Local contrast of the reduced image, with mean 0 and norm 1, so that products are correlations."""
    small = cv2.resize(view, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
    radius = THUMBNAIL / 8
    band = small - cv2.GaussianBlur(small, (0, 0), radius)
    strength = np.sqrt(cv2.GaussianBlur(band * band, (0, 0), radius))
    # 8 grey levels keep noise in dark parts from counting as contrast.
    local = band / (strength + 8)
    local -= local.mean()
    return local / max(np.linalg.norm(local), 1e-9)


def _flip_masks() -> UInt64[np.ndarray, " f"]:
    """Bits of the hash that each flip inverts: frequencies that are odd along the flipped axis."""
    odd = np.arange(FREQUENCIES) % 2 == 1
    masks = []
    # In the order of FLIPS.
    for down, across in product((False, True), repeat=2):
        rows, columns = down & odd, across & odd
        # A frequency that both flips invert is as it was.
        mask = rows[:, None] ^ columns[None]
        masks.append(_pack_bits(mask))
    return np.stack(masks)


def find_candidates(
    hashes: UInt64[np.ndarray, " n"],
    views: UInt8[np.ndarray, "n s s"],
    settings: DuplicateSettings,
) -> pd.DataFrame:
    """Candidate pairs, with near hashes or correlated thumbnails.

    Returns: rows `first`, `second`, `flip`, `distance`, the nearest first.
    """
    thumbnails = np.stack([_thumbnail(view) for view in views])
    parts = []
    # In blocks, to bound the memory of all pairs.
    for start in range(0, len(hashes), BLOCK):
        end = start + BLOCK
        block = thumbnails[start:end].reshape(-1, THUMBNAIL**2)
        for flip, mask in enumerate(_flip_masks()):
            # The bits in which two hashes differ, once those that the flip inverts are inverted back.
            differing = hashes[start:end, None] ^ hashes[None, start:] ^ mask
            distance = np.bitwise_count(differing)
            others = flipped(thumbnails[start:], flip).reshape(-1, THUMBNAIL**2)
            correlation = block @ others.T
            near = (distance <= settings.distance) | (correlation >= settings.correlation)
            first, second = np.nonzero(near)
            pairs = pd.DataFrame(
                {
                    "first": first + start,
                    "second": second + start,
                    "flip": flip,
                    "distance": distance[first, second].astype(int),
                }
            )
            # Each pair once, and no image with itself.
            parts.append(pairs[pairs["first"] < pairs["second"]])
    candidates = pd.concat(parts)
    return candidates.sort_values(["distance", "first", "second", "flip"], ignore_index=True)


def find_near_duplicates(
    hashes: UInt64[np.ndarray, " n"],
    views: UInt8[np.ndarray, "n s s"],
    settings: DuplicateSettings,
    workers: WorkerSettings,
) -> pd.DataFrame:
    """Compared pairs: rows `first`, `second`, `flip`, `distance`, `similarity`, the nearest hashes first."""
    group = np.arange(len(views))
    compared = pd.DataFrame({name: np.array([], dtype) for name, dtype in COLUMNS.items()})
    candidates = find_candidates(hashes, views, settings)
    # Candidates by their thumbnails alone are one group, the last, whatever the distance of their hashes.
    distances = candidates["distance"].clip(upper=settings.distance + 1)
    for distance, pairs in candidates.groupby(distances):
        # Images of one group aren't compared again: published sets hold dozens of copies of one image.
        apart = group[pairs["first"]] != group[pairs["second"]]
        pairs = pairs[apart]
        numbers = list(pairs[["first", "second", "flip"]].itertuples(index=False, name=None))
        starts = range(0, len(pairs), PART)
        tasks = [(views, numbers[start : start + PART]) for start in starts]
        title = f"comparing at distance {distance}"
        if distance > settings.distance:
            title += " and more"
        parts = parallel_map(compare_pairs, tasks, workers, title, unit="part")
        similarity = np.array(list(chain.from_iterable(parts)), float)
        pairs = pairs.assign(similarity=similarity)
        compared = pd.concat([compared, pairs], ignore_index=True)
        same = compared[compared["similarity"] >= settings.similarity]
        group = join_groups(len(views), same["first"].to_numpy(), same["second"].to_numpy())
    return compared


COLUMNS = {"first": int, "second": int, "flip": int, "distance": int, "similarity": float}


def flipped(view: np.ndarray, flip: int) -> np.ndarray:
    """A view, or many, flipped by a number of FLIPS."""
    down = -1 if flip & 2 else 1
    across = -1 if flip & 1 else 1
    # OpenCV takes no views that run backwards.
    return np.ascontiguousarray(view[..., ::down, ::across])


def compare_pairs(
    views: UInt8[np.ndarray, "n s s"],
    pairs: Sequence[tuple[int, int, int]],
) -> list[float]:
    """Similarity of each pair (first, second, flip)."""
    similarities = []
    for first, second, flip in pairs:
        other = flipped(views[second], flip)
        similarities.append(compare(views[first], other))
    return similarities


def compare(first: UInt8[np.ndarray, "s s"], second: UInt8[np.ndarray, "s s"]) -> float:
    """Correlation of the fine detail of two views, after affine registration; 0 if they can't be registered.

    Registration maximises the correlation (ECC, Evangelidis and Psarakis 2008). Detail is a band of a few pixels,
    divided by its local strength, so that neither brightness nor sharpening counts.
    """
    one = first.astype(np.float32)
    other = second.astype(np.float32)
    try:
        matrix = _align(one, other)
    except cv2.error:
        # ECC diverges where images have nothing in common.
        return 0.0
    if matrix is None:
        return 0.0
    moved = _warp(other, matrix)
    # Away from the edges of the moved image, whose detail is that of the edge.
    covered = _warp(np.ones_like(moved), matrix)
    inside = cv2.erode(covered, np.ones((7, 7))) > 0.99
    anatomy = cv2.GaussianBlur(first, (0, 0), 3) > 12
    return _correlation(_detail(one), _detail(moved), inside & anatomy)


MIN_CORRELATION = 0.9
"""Correlation after coarse registration below which a pair isn't compared further. Near-duplicates have more."""


def _align(
    first: Float32[np.ndarray, "s s"],
    second: Float32[np.ndarray, "s s"],
) -> Float32[np.ndarray, "2 3"] | None:
    matrix: np.ndarray = np.eye(2, 3, dtype=np.float32)
    # At half the size first: faster, and larger shifts converge.
    half = cv2.resize(first, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    other = cv2.resize(second, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    correlation, matrix = _maximise_correlation(half, other, matrix, steps=10)
    if correlation < MIN_CORRELATION:
        return None
    linear = matrix[:, :2]
    shift = matrix[:, 2]
    # Pixel centres of the large image lie between those of the half.
    matrix[:, 2] = 2 * shift + 0.5 * (linear.sum(1) - 1)
    _, matrix = _maximise_correlation(first, second, matrix, steps=3)
    return matrix


def _maximise_correlation(
    first: Float32[np.ndarray, "s s"],
    second: Float32[np.ndarray, "s s"],
    start: Float32[np.ndarray, "2 3"],
    steps: int,
) -> tuple[float, Float32[np.ndarray, "2 3"]]:
    """Correlation and affine map after at most so many steps of ECC."""
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, steps, 1e-4)
    all_pixels = np.ones(first.shape, np.uint8)
    smoothing = 3
    return cv2.findTransformECC(first, second, start, cv2.MOTION_AFFINE, criteria, all_pixels, smoothing)


def _warp(
    image: Float32[np.ndarray, "s s"],
    matrix: Float32[np.ndarray, "2 3"],
) -> Float32[np.ndarray, "s s"]:
    # OpenCV has columns before rows; ECC's matrix leads from the first image to the second.
    size = image.shape[::-1]
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _detail(image: Float32[np.ndarray, "s s"]) -> Float32[np.ndarray, "s s"]:
    fine = cv2.GaussianBlur(image, (0, 0), 0.8)
    coarse = cv2.GaussianBlur(image, (0, 0), 2)
    band = fine - coarse
    strength = np.sqrt(cv2.GaussianBlur(band * band, (0, 0), 4))
    # 2 grey levels keep noise in flat parts from counting as detail.
    return band / (strength + 2)


def _correlation(
    first: Float32[np.ndarray, "s s"],
    second: Float32[np.ndarray, "s s"],
    where: Bool[np.ndarray, "s s"],
) -> float:
    a = first[where]
    b = second[where]
    # So few pixels may be alike by chance.
    if a.size < 100:
        return 0.0
    a = a - a.mean()
    b = b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / max(norm, 1e-9))
