"""Tables for `edgeae.coding.single_lane`: counts of symbols blended with the logistic model."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from edgeae.coding.context import FRACTIONS, MIDDLE_UNITS, SCALES
from edgeae.coding.single_lane import ALPHABET, ESCAPE, PRECISION_BITS, FineTables
from train.entropy_model import FIRST_LOG_SCALE, LOG_SCALE_STEP, logistic_scale

__all__ = ["TABLES", "counted", "fine_tables", "scale_of_index"]

TABLES = SCALES * FRACTIONS
# The logistic model counts as much as this many observed symbols.
_PRIOR = 100.0
# A table's alphabet reaches so many scales from its middle.
_REACH_SCALES = 12.0

Counts = npt.NDArray[np.float64]


def scale_of_index(index: int) -> float:
    """The scale of the logistic distribution of an index."""
    raw = torch.tensor(FIRST_LOG_SCALE + LOG_SCALE_STEP * index, dtype=torch.float64)
    return float(logistic_scale(raw))


def counted(values: npt.NDArray[np.int64], tables: npt.NDArray[np.int64], counts: Counts) -> None:
    """Add coded values to `counts` (tables, 64)."""
    np.add.at(counts, (tables, np.minimum(values >> _SHIFTS[tables], ESCAPE)), 1)


def fine_tables(counts: Counts) -> FineTables:
    """Tables from counts of symbols, (tables, 64); zeros give the logistic distributions."""
    rows = []
    for table in range(TABLES):
        weights = counts[table] + _PRIOR * _masses(table)
        rows.append(_frequencies(weights))
    return FineTables(np.stack(rows).astype(np.uint16), _SHIFTS.astype(np.uint8))


def _shift(table: int) -> int:
    scale = scale_of_index(table // FRACTIONS)
    return max(0, math.ceil(math.log2(2 * _REACH_SCALES * scale / ESCAPE)))


_SHIFTS = np.array([_shift(table) for table in range(TABLES)])


def _masses(table: int) -> Counts:
    scale, width = scale_of_index(table // FRACTIONS), 1 << int(_SHIFTS[table])
    values = np.arange(ESCAPE * width)
    # Offsets 0, 1, -1, 2, -2 ... from the whole number nearest to the middle.
    offsets = np.where(values % 2 == 1, (values + 1) // 2, -(values // 2))
    middle = table % FRACTIONS / MIDDLE_UNITS
    upper, lower = (offsets + 0.5 - middle) / scale, (offsets - 0.5 - middle) / scale
    masses = 0.5 * (np.tanh(upper / 2) - np.tanh(lower / 2))
    symbols = masses.reshape(ESCAPE, width).sum(axis=1)
    return np.append(symbols, max(1 - symbols.sum(), 1e-9))


def _frequencies(weights: Counts) -> npt.NDArray[np.int64]:
    """Whole frequencies of sum 65536, each at least 1."""
    total = 1 << PRECISION_BITS
    ideal = weights / weights.sum() * (total - ALPHABET) + 1
    whole = np.floor(ideal).astype(np.int64)
    largest = np.argsort(ideal - whole)[::-1]
    whole[largest[: total - whole.sum()]] += 1
    return whole
