"""Rate control: from a quality or a number of bytes to a quantization level."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

__all__ = [
    "DEFAULT_QUALITY",
    "LEVELS",
    "QUALITIES",
    "byte_budget",
    "finest_that_fits",
    "level_of_quality",
    "quality_of_level",
]

# Quantization levels, 0 (coarsest) to LEVELS - 1.
LEVELS = 65
# The coarsest quality and the finest.
QUALITIES = (1, 9)
DEFAULT_QUALITY = 5
_LEVELS_PER_QUALITY = (LEVELS - 1) // (QUALITIES[1] - QUALITIES[0])


def level_of_quality(quality: float) -> int:
    """The quantization level of a quality from 1 to 9, the nearest of eight for each.

    Raises:
        ValueError: no number, or outside.
    """
    # numpy's numbers are Real too.
    if not isinstance(quality, Real) or not QUALITIES[0] <= quality <= QUALITIES[1]:
        raise ValueError(f"quality is {quality!r}, expected 1 (smallest) to 9")
    return round((float(quality) - 1) * _LEVELS_PER_QUALITY)


def quality_of_level(level: int) -> float:
    """The quality of a quantization level, 1 to 9."""
    return 1 + level / _LEVELS_PER_QUALITY


def byte_budget(name: str, value: float) -> int:
    """Whole bytes of an argument called `name`.

    Raises:
        ValueError: no finite number, or below 1.
    """
    # Every comparison with NaN is false.
    if not isinstance(value, Real) or not 1 <= value < math.inf:
        raise ValueError(f"{name} is {value!r}, expected at least 1")
    return int(value)


def finest_that_fits(write: Callable[[int], bytes], max_bytes: float) -> bytes:
    """What `write` gives at the finest level at which that is not longer than `max_bytes`.

    Found by bisection, as if a finer level were never shorter.

    Raises:
        ValueError: `max_bytes` is no number of bytes, or the coarsest level does not fit.
    """
    allowed = byte_budget("max_bytes", max_bytes)
    low, best = 0, write(0)
    if len(best) > allowed:
        raise ValueError(f"max_bytes is {max_bytes}, expected at least {len(best)} bytes")
    high = LEVELS
    while high - low > 1:
        middle = (low + high) // 2
        blob = write(middle)
        if len(blob) <= allowed:
            low, best = middle, blob
        else:
            high = middle
    return best
