"""What an image codec is timed at, and what must hold of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeae.bench.trials import check_damage, large_photo, photo_of
from edgeae.bench.workloads import Workload
from edgeae.errors import EdgeaeError
from edgeae.image.codec import ImageCodec
from edgeae.metrics import psnr_db

__all__ = ["self_test", "typical_runs", "workloads"]

QUALITY = 5
CALIBRATION_QUALITIES = (1.0, 5.0, 9.0)
MOST_CALIBRATION_IMAGES = 6

Image = NDArray[np.uint8]


def workloads(codec: ImageCodec, *, source: Path | None = None) -> list[Workload]:
    """Compressing and decompressing a photo: the package's own, or the one in `source`.

    Raises MediaError for a source that cannot be read.
    """
    image = photo_of(source)
    rows, columns = image.shape[:2]
    what = f"a photo of {columns}x{rows} pixels, quality {QUALITY}"
    amount, unit = rows * columns / 1e6, "megapixel"
    blobs: list[bytes] = []

    def compress() -> None:
        blobs[:] = [codec.compress(image, quality=QUALITY)]

    def decompress() -> None:
        if not blobs:  # nobody has compressed yet, and a first call has to be a first call
            compress()
        codec.decompress(blobs[0])

    return [
        Workload("compress", f"compress {what}", amount, unit, compress),
        Workload("decompress", f"decompress {what}", amount, unit, decompress),
    ]


def self_test(codec: ImageCodec) -> Iterator[str]:
    """One line for each check of an image made here; EdgeaeError says which one failed."""
    image = _test_image()
    told = []
    for quality in (1, 5, 9):
        blob = codec.compress(image, quality=quality)
        if codec.compress(image, quality=quality) != blob:
            raise EdgeaeError(f"self-test failed: quality {quality} gave two different files")
        restored = codec.decompress(blob)
        if restored.shape != image.shape or restored.dtype != image.dtype:
            raise EdgeaeError(
                f"self-test failed: {image.shape} came back as {restored.shape} {restored.dtype}"
            )
        if not np.array_equal(restored, codec.decode(codec.encode(image, quality=quality))):
            raise EdgeaeError("self-test failed: the bytes decode to another image than the latent")
        told.append(f"{len(blob):,} bytes {psnr_db(image, restored):.1f} dB")
    yield f"qualities 1, 5, 9 of a test image: {', '.join(told)}"
    yield "the same bytes twice, and the bytes decode to what the latent does"
    yield check_damage(codec.decompress, blob)


def typical_runs(codec: ImageCodec, *, size: tuple[int, int]) -> int:
    """Compresses and decompresses pieces of the package's photo, of so many rows and columns."""
    for image, quality in itertools.product(_pieces(*size), CALIBRATION_QUALITIES):
        codec.decompress(codec.compress(image, quality=quality))
    return 1


def _pieces(height: int, width: int) -> list[Image]:
    """Pieces of the photo of a size, all over it, mirrored at its edges where it is too small."""
    photo = large_photo(height, width)
    pieces = [
        photo[top : top + height, left : left + width]
        for top in range(0, photo.shape[0] - height + 1, height)
        for left in range(0, photo.shape[1] - width + 1, width)
    ]
    return pieces[:: -(-len(pieces) // MOST_CALIBRATION_IMAGES)]


def _test_image() -> Image:
    """Slopes, edges and noise, at a size that no stride divides."""
    rows, columns = np.mgrid[:93, :131]
    slope = np.stack([rows + columns, 220 - rows, 90 + columns], axis=-1)
    slope[20:60, 30:80] = (200, 60, 40)
    noise = np.random.default_rng(0).normal(0, 6, slope.shape)
    return np.clip(slope + noise, 0, 255).astype(np.uint8)
