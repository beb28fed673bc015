"""Pictures as a page embeds them: photographs as WebP, the frames of an animation below each other."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageSequence

QUALITY = 85
"""Of WebP; scans at it can't be told from PNG by eye."""

TALLEST = 16_000
"""Pixels; WebP allows 16,383."""


def find_kind(content: bytes) -> str:
    """The subtype of the picture's media type."""
    if content.startswith(b"GIF8"):
        return "gif"
    # A WebP begins with RIFF and four bytes of its size.
    return "webp" if content[8:12] == b"WEBP" else "png"


def encode_photo(content: bytes) -> bytes:
    """A picture as WebP."""
    # Matplotlib writes an alpha channel, which no picture uses.
    with Image.open(io.BytesIO(content)) as image:
        return _encode(image.convert("RGB"))


def encode_pixels(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A picture of red, green and blue as WebP."""
    return _encode(Image.fromarray(pixels))


def lay_strip(content: bytes) -> tuple[bytes, int, int, int]:
    """The frames of an animation below each other as WebP, how many they are, and width and height of one.

    Of more frames than a WebP can hold, some are dropped, evenly.
    """
    with Image.open(io.BytesIO(content)) as animation:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]
    width, height = frames[0].size
    # At least one frame, however high it is.
    count = max(1, min(len(frames), TALLEST // height))
    # The first and the last frame are always there.
    step = (len(frames) - 1) / max(count - 1, 1)
    strip = Image.new("RGB", (width, height * count))
    for k in range(count):
        frame = frames[round(k * step)]
        strip.paste(frame, (0, k * height))
    return _encode(strip), count, width, height


def _encode(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, format="webp", quality=QUALITY, method=4)
    return content.getvalue()
