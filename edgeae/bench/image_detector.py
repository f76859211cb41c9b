"""What a detector of images is timed at, and what must hold of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeae.bench.trials import large_photo, photo_of
from edgeae.bench.workloads import Workload
from edgeae.errors import EdgeaeError
from edgeae.image.detector import ImageDetector

__all__ = ["self_test", "typical_runs", "workloads"]


def workloads(detector: ImageDetector, *, source: Path | None = None) -> list[Workload]:
    """Scoring a photo, the package's own or the one in `source`.

    Raises MediaError for a source that cannot be read.
    """
    image = photo_of(source)
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
    detector.score(np.ascontiguousarray(large_photo(*size)[: size[0], : size[1]]))
    return 1
