"""What the trials of several kinds of models share: the package's photo, and damage to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae.bench.workloads import ASSETS
from edgeae.errors import BitstreamError, EdgeaeError
from edgeae.media import read_image

__all__ = ["check_damage", "large_photo", "photo_of"]

# Rows and columns of an image of Kodak's set, which codecs are compared on.
PHOTO_SHAPE = 512, 768
_DAMAGED = 50

Image = NDArray[np.uint8]


def photo_of(source: Path | None) -> Image:
    """The image in a file, or the package's photo, uint8 (512, 768, 3).

    Raises MediaError for a source that cannot be read.
    """
    if source is not None:
        return read_image(source)
    return read_image(ASSETS / "photo.webp")[: PHOTO_SHAPE[0], : PHOTO_SHAPE[1]]


def large_photo(height: int, width: int) -> Image:
    """The package's photo, uint8 (H, W, 3), mirrored at its edges to at least so many rows and
    columns."""
    photo = read_image(ASSETS / "photo.webp")
    below, right = max(0, height - photo.shape[0]), max(0, width - photo.shape[1])
    return np.pad(photo, ((0, below), (0, right), (0, 0)), mode="symmetric")


def check_damage(decompress: Callable[[bytes], Any], blob: bytes) -> str:
    """Change a bit of a file in some fifty places; in words, how many such files were refused.

    Raises EdgeaeError if one was not.
    """
    positions = range(0, len(blob), max(1, len(blob) // _DAMAGED))
    for position in positions:
        damaged = bytearray(blob)
        damaged[position] ^= 0x10
        try:
            decompress(bytes(damaged))
        except BitstreamError:
            continue
        raise EdgeaeError(f"self-test failed: damage at byte {position} went unnoticed")
    return f"{len(positions)} files with one bit changed are refused"
