"""What JPEG would make of an image, to say when a learned codec is the wrong tool."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgeae import metrics
from edgeae.image.exact import looks_plain

__all__ = ["best_jpeg", "encode_jpeg", "jpeg_pixels", "warning"]

Pixels = NDArray[np.uint8]

# Below this a photograph is not recognized as itself; the shipped codec keeps 23 dB at quality 1.
_LEAST_PSNR_DB = 20.0


def best_jpeg(image: Pixels, size_bytes: int) -> tuple[int, bytes]:
    """The quality and bytes of the best progressive JPEG of at most `size_bytes`, or else the
    smallest there is; `image` is uint8 (H, W, 3)."""
    low, high = 1, 96  # libjpeg's scale; above 95 it only adds bytes
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high) if len(encode_jpeg(image, middle)) <= size_bytes else (low, middle)
        )
    return low, encode_jpeg(image, low)


def encode_jpeg(image: Pixels, quality: int) -> bytes:
    """A progressive JPEG of uint8 (H, W, 3), 4:2:0, at libjpeg's quality."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(
        buffer, "JPEG", quality=quality, optimize=True, progressive=True, subsampling="4:2:0"
    )
    return buffer.getvalue()


def jpeg_pixels(data: bytes) -> Pixels:
    """The pixels of a JPEG, uint8 (H, W, 3)."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.uint8)


def warning(image: Pixels, size_bytes: int, restore: Callable[[], Pixels]) -> str | None:
    """Why a JPEG would have been better for an image, or None if it would not.

    Args:
        image: uint8 (H, W, 3).
        size_bytes: of the learned codec's file.
        restore: gives the image back from that file; called for suspicious images alone.
    """
    if not looks_plain(image):
        return None
    advice = "text, line art and fine patterns are not what a photo codec is for"
    ours_db = metrics.psnr_db(image, restore()[..., :3])
    _, jpeg = best_jpeg(image, size_bytes)
    if len(jpeg) <= size_bytes:
        better_db = metrics.psnr_db(image, jpeg_pixels(jpeg)) - ours_db
        if better_db > 0:
            return f"a JPEG of that size is {better_db:.1f} dB better: {advice}"
    if ours_db < _LEAST_PSNR_DB:
        return f"the PSNR is only {ours_db:.1f} dB: {advice}"
    return None
