"""Figures of benchmarks: their means, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

__all__ = ["mean_of", "shown"]


def mean_of(values: Iterable[float]) -> float | None:
    """The mean of those that are finite, as PESQ is not where it finds no speech; None of none."""
    numbers = [value for value in values if np.isfinite(value)]
    return round(float(np.mean(numbers)), 4) if numbers else None


def shown(value: float | None, places: int) -> str:
    """A figure with so many decimal places, or - for none."""
    return "-" if value is None else f"{value:,.{places}f}"
