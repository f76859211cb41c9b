"""What JPEG and PNG would make of a picture, to say when a learned codec is the wrong tool."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgeae import metrics

__all__ = ["best_jpeg", "encode_jpeg", "is_suspicious", "jpeg_pixels", "png_bytes", "warning"]

Picture = NDArray[np.uint8]

# Half of all pixels like their left neighbor, or under 20 dB left of half the resolution: 9 of 150
# photographs are such, and are only looked at more closely.
_ALIKE, _HALF_RESOLUTION_DB = 0.5, 20.0
# Below this a photograph is not recognized as itself; the shipped codec keeps 23 dB at quality 1.
_LEAST_PSNR_DB = 20.0
# Enough to know the content by.
_LOOKED_AT_PIXELS = 1 << 20


def best_jpeg(image: Picture, size_bytes: int) -> tuple[int, bytes]:
    """The quality and bytes of the best progressive JPEG of at most `size_bytes`, or else the
    smallest there is; `image` is uint8 (H, W, 3)."""
    low, high = 1, 96  # libjpeg's scale; above 95 it only adds bytes
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high) if len(encode_jpeg(image, middle)) <= size_bytes else (low, middle)
        )
    return low, encode_jpeg(image, low)


def encode_jpeg(image: Picture, quality: int) -> bytes:
    """A progressive JPEG of uint8 (H, W, 3), 4:2:0, at libjpeg's quality."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(
        buffer, "JPEG", quality=quality, optimize=True, progressive=True, subsampling="4:2:0"
    )
    return buffer.getvalue()


def jpeg_pixels(data: bytes) -> Picture:
    """The pixels of a JPEG, uint8 (H, W, 3)."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.uint8)


def png_bytes(image: Picture) -> int:
    """How many bytes PNG, which loses nothing, needs for uint8 (H, W, 3)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return len(buffer.getvalue())


def is_suspicious(image: Picture) -> bool:
    """Whether uint8 (H, W, 3) looks like text, line art or a fine pattern rather than a photo."""
    rows = max(2, min(image.shape[0], _LOOKED_AT_PIXELS // max(1, image.shape[1])) // 2 * 2)
    top = max(0, (image.shape[0] - rows) // 2)
    part = image[top : top + rows, : image.shape[1] // 2 * 2]
    if part.shape[0] < 2 or part.shape[1] < 2:
        return False
    alike = (part[:, 1:] == part[:, :-1]).all(axis=2).mean()
    height, width = part.shape[0] // 2, part.shape[1] // 2
    blocks = part[: 2 * height].reshape(height, 2, width, 2, 3).astype(np.float32)
    lost = ((blocks - blocks.mean(axis=(1, 3), keepdims=True)) ** 2).mean()
    return bool(alike > _ALIKE or lost > 255**2 * 10 ** (-_HALF_RESOLUTION_DB / 10))


def warning(image: Picture, size_bytes: int, restore: Callable[[], Picture]) -> str | None:
    """Why plain coding would have been better for a picture, or None if it would not.

    Args:
        image: uint8 (H, W, 3).
        size_bytes: of the learned codec's file.
        restore: gives the picture back from that file; called for suspicious pictures alone.
    """
    if not is_suspicious(image):
        return None
    advice = "text, line art and fine patterns are not what a photo codec is for"
    png = png_bytes(image)
    if png <= size_bytes:
        return f"PNG loses nothing and takes {png:,} bytes instead of {size_bytes:,}: {advice}"
    ours_db = metrics.psnr_db(image, restore()[..., :3])
    _, jpeg = best_jpeg(image, size_bytes)
    if len(jpeg) <= size_bytes:
        better_db = metrics.psnr_db(image, jpeg_pixels(jpeg)) - ours_db
        if better_db > 0:
            return f"a JPEG of that size is {better_db:.1f} dB better: {advice}"
    if ours_db < _LEAST_PSNR_DB:
        return f"the PSNR is only {ours_db:.1f} dB: {advice}"
    return None
