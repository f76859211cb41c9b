"""Times of repeated calls: taking them, summing them up, and telling a difference from noise."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Change", "Summary", "compare", "sample", "summarize"]

# Enough for the ends of a 95 % interval to be steady in the third digit.
RESAMPLES = 2000
# Times from one process follow each other: a slow moment slows its neighbors too. Drawing whole
# blocks keeps that together (Kuensch 1989, block bootstrap).
BLOCKS = 10
CONFIDENCE = 0.95

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Times of one thing in milliseconds; `deviation` is the standard deviation."""

    count: int
    mean: float
    deviation: float
    minimum: float
    p50: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Change:
    """How the second of two measurements compares to the first.

    `ratio` is second over first, of the medians; it lies in `low` to `high` with 95 % confidence,
    as far as noise inside the two measurements goes.
    """

    ratio: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """Whether no difference at all would also explain what was measured."""
        return self.low <= 1 <= self.high


def summarize(samples_ms: Sequence[float]) -> Summary:
    """Mean, spread and percentiles; those between two samples are interpolated.

    Raises ValueError without samples.
    """
    if not len(samples_ms):
        raise ValueError("there are no samples: at least one is needed")
    times = np.asarray(samples_ms, np.float64)
    p50, p90, p95, p99 = np.percentile(times, [50, 90, 95, 99])
    return Summary(
        count=len(times),
        mean=float(times.mean()),
        deviation=float(times.std()),
        minimum=float(times.min()),
        p50=float(p50),
        p90=float(p90),
        p95=float(p95),
        p99=float(p99),
    )


def compare(first_ms: Sequence[float], second_ms: Sequence[float], *, seed: int = 0) -> Change:
    """How the medians compare, by a block bootstrap over samples in the order they were taken.

    Raises ValueError for fewer than two samples on either side.
    """
    sides = [np.asarray(side, np.float64) for side in (first_ms, second_ms)]
    for side in sides:
        if len(side) < 2:
            raise ValueError(f"{len(side)} samples: at least 2 on each side are needed")
    rng = np.random.default_rng(seed)
    before, after = (_bootstrapped_medians(side, rng) for side in sides)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(after / before, [tail, 100 - tail])
    return Change(float(np.median(sides[1]) / np.median(sides[0])), float(low), float(high))


def _bootstrapped_medians(times: Times, rng: np.random.Generator) -> Times:
    """Medians of samples drawn with replacement in whole blocks, (RESAMPLES,)."""
    count = min(BLOCKS, len(times))
    # All blocks equally long, so that a draw is an array; up to BLOCKS - 1 last samples stay out.
    blocks = times[: len(times) // count * count].reshape(count, -1)
    drawn = rng.integers(0, count, (RESAMPLES, count))
    return np.asarray(np.median(blocks[drawn].reshape(RESAMPLES, -1), axis=1))


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """While open, Python's garbage collector does not interrupt what is timed.

    As in `timeit` nothing is collected first: beside a large library that takes longer than what is
    timed.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def sample(
    call: Callable[[], object],
    *,
    seconds: float,
    at_least: int = 1,
    at_most: int = 1 << 30,
    after: Callable[[], None] | None = None,
) -> list[float]:
    """Milliseconds of one call after the other until the time is up, first calls included.

    `after` is called after each, outside of what is timed.
    """
    times: list[float] = []
    with no_garbage_collection():
        end = time.perf_counter() + seconds
        while True:
            start = time.perf_counter()
            call()
            stop = time.perf_counter()
            times.append((stop - start) * 1e3)
            if after is not None:
                after()
            if len(times) >= at_most or (stop >= end and len(times) >= at_least):
                return times
