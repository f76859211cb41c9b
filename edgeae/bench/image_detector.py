"""What a detector of images is timed at, and what must hold of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeae.bench.image_codec import PHOTO_SHAPE
from edgeae.bench.workloads import ASSETS, Workload
from edgeae.errors import EdgeaeError
from edgeae.image.detector import ImageDetector
from edgeae.media import read_image

__all__ = ["self_test", "typical_runs", "workloads"]


def workloads(detector: ImageDetector, *, source: Path | None = None) -> list[Workload]:
    """Scoring a photo, the package's own or the one in `source`.

    Raises MediaError for a source that cannot be read.
    """
    if source is None:
        image = read_image(ASSETS / "photo.webp")[: PHOTO_SHAPE[0], : PHOTO_SHAPE[1]]
    else:
        image = read_image(source)
    rows, columns = image.shape[:2]
    what = f"score an image of {columns}x{rows} pixels"
    amount = rows * columns / 1e6
    return [Workload("score", what, amount, "megapixel", lambda: detector.score(image))]


def self_test(detector: ImageDetector) -> Iterator[str]:
    """One line for each check of an image made here; EdgeaeError says which one failed."""
    rows, columns = np.mgrid[:93, :131]
    image = np.stack([rows + columns, 220 - rows, 90 + columns], axis=-1).astype(np.uint8)
    found = detector.score(image)
    if found.map.shape != image.shape[:2] or not np.isfinite(found.map).all():
        raise EdgeaeError(f"self-test failed: a map of {found.map.shape} came of {image.shape}")
    if abs(detector.score(image.astype(np.uint16) * 257).score - found.score) > 1e-3:
        raise EdgeaeError("self-test failed: 16 bits are scored otherwise than 8")
    if detector.flag(image) != (found.score > detector.threshold):
        raise EdgeaeError("self-test failed: the flag is not what score and threshold say")
    yield "an image is scored, pixel by pixel, in 8 bits as in 16"


def typical_runs(detector: ImageDetector, *, size: tuple[int, int], **_: Any) -> int:
    """Scores a piece of the package's photo of so many rows and columns."""
    photo = read_image(ASSETS / "photo.webp")
    below, right = max(0, size[0] - photo.shape[0]), max(0, size[1] - photo.shape[1])
    photo = np.pad(photo, ((0, below), (0, right), (0, 0)), mode="symmetric")
    detector.score(np.ascontiguousarray(photo[: size[0], : size[1]]))
    return 1
