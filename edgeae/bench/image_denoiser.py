"""What a denoiser of images is timed at, and what must hold of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeae.bench.trials import large_photo, photo_of
from edgeae.bench.workloads import Workload
from edgeae.errors import EdgeaeError
from edgeae.image.denoiser import ImageDenoiser

__all__ = ["self_test", "typical_runs", "workloads"]

# Calibration: noise of these standard deviations, in 8-bit values, on squares of the photo.
CALIBRATION_LEVELS = (5, 15, 25, 50)

Pixels = NDArray[np.uint8]


def workloads(denoiser: ImageDenoiser, *, source: Path | None = None) -> list[Workload]:
    """Denoising a photo, the package's own or the one in `source`, and filling scratches in it.

    Raises MediaError for a source that cannot be read.
    """
    image = photo_of(source)
    rows, columns = image.shape[:2]
    what = f"a photo of {columns}x{rows} pixels"
    amount, unit = rows * columns / 1e6, "megapixel"
    found = [Workload("denoise", f"denoise {what}", amount, unit, lambda: denoiser.denoise(image))]
    if rows > 1:  # what is one row has nothing to be filled from
        scratches = np.zeros((rows, columns), np.bool_)
        scratches[:: max(2, rows // 8)] = True
        words = f"fill scratches all over {what}"
        found.append(Workload("fill", words, amount, unit, lambda: denoiser.fill(image, scratches)))
    return found


def self_test(denoiser: ImageDenoiser) -> Iterator[str]:
    """One line for each check of an image made here; EdgeaeError says which one failed."""
    rows, columns = np.mgrid[:93, :131]
    slope = np.stack([rows + columns, 220 - rows, 90 + columns], axis=-1)
    noisy = _noisy(slope.clip(0, 255).astype(np.uint8), 15)
    for image in (noisy, noisy[:, :, 0], noisy.astype(np.uint16) * 257):
        clean = denoiser.denoise(image)
        if clean.shape != image.shape or clean.dtype != image.dtype:
            raise EdgeaeError(
                f"self-test failed: {image.shape} {image.dtype} came back as "
                f"{clean.shape} {clean.dtype}"
            )
    yield "a noisy image comes back in its shape, in 8 and in 16 bits, in color and in gray"
    hole = np.zeros(noisy.shape[:2], np.bool_)
    hole[40:60, 50:90] = True
    filled = denoiser.fill(noisy, hole)
    if not np.array_equal(filled[~hole], noisy[~hole]):
        raise EdgeaeError("self-test failed: filling a hole has changed what is around it")
    yield "a hole is filled, and what is around it is kept exactly"


def typical_runs(denoiser: ImageDenoiser, *, size: tuple[int, int]) -> int:
    """Denoises a piece of the package's photo of so many rows and columns, and fills it."""
    piece = np.ascontiguousarray(large_photo(*size)[: size[0], : size[1]])
    for level in CALIBRATION_LEVELS:
        denoiser.denoise(_noisy(piece, level))
    hole = np.zeros(piece.shape[:2], np.bool_)
    hole[:: max(1, size[0] // 8)] = True
    denoiser.fill(piece, hole)
    return 1


def _noisy(image: Pixels, sigma: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    noisy: Pixels = np.rint((image + noise).clip(0, 255)).astype(np.uint8)
    return noisy
