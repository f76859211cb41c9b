"""The integer tables of a codec: fitted to what the context model's indices really stand for.

For every scale index the distribution of symbols is counted on calibration pictures and blended
with the logistic distribution that the index means in training, so that rare indices have sound
tables too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from edgeae.coding.context import FRACTIONS, MIDDLE_UNITS, SCALES, TABLES
from edgeae.coding.entropy import ALPHABET, ESCAPE, PRECISION_BITS, Tables
from train.entropy_model import FIRST_LOG_SCALE, LOG_SCALE_STEP, logistic_scale

# The logistic model counts as much as this many observed symbols.
PRIOR_WEIGHT = 200.0
# A table's alphabet reaches at least this many scales from its middle.
REACH_SCALES = 10.0

Counts = npt.NDArray[np.float64]


def logistic_tables() -> Tables:
    """The tables that the training's logistic distributions give, without any counts."""
    return fit_tables(np.zeros((TABLES, ALPHABET)))


def fit_tables(counts: Counts) -> Tables:
    """Tables from counts of symbols, (tables, 64), blended with the logistic model."""
    rows = [
        quantize_frequencies(counts[table] + PRIOR_WEIGHT * logistic_masses(table))
        for table in range(TABLES)
    ]
    return Tables(np.stack(rows).astype(np.uint16), _SHIFTS.astype(np.uint8))


def count_symbols(
    stages: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]], counts: Counts
) -> None:
    """Add coded values to `counts`.

    Args:
        stages: pairs (tables, values), int64 (n,) each.
        counts: how often each table coded each symbol, float64 (tables, 64), which is changed.
    """
    for tables, values in stages:
        np.add.at(counts, (tables, np.minimum(values >> _SHIFTS[tables], ESCAPE)), 1)


def _scale(table: int) -> float:
    index = table if table < SCALES else (table - SCALES) // FRACTIONS
    raw = torch.tensor(FIRST_LOG_SCALE + LOG_SCALE_STEP * index, dtype=torch.float64)
    return float(logistic_scale(raw))


def _shift(table: int) -> int:
    """Open bits of a table: its 63 symbols reach REACH_SCALES scales on the sides that it codes."""
    sides = 1 if table < SCALES else 2
    return max(0, math.ceil(math.log2(sides * REACH_SCALES * _scale(table) / ESCAPE)))


_SHIFTS = np.array([_shift(table) for table in range(TABLES)])


def logistic_masses(table: int) -> Counts:
    """Probabilities of the 64 symbols of a table under the logistic distribution."""
    scale, width = _scale(table), 1 << _shift(table)
    values = np.arange(ESCAPE * width)
    if table < SCALES:
        masses = _mass(values, 0.0, scale) * np.where(values > 0, 2.0, 1.0)
    else:
        # Offsets 0, 1, -1, 2, -2 ... from the integer nearest to the middle.
        offsets = np.where(values % 2 == 1, (values + 1) // 2, -(values // 2))
        middle = (table - SCALES) % FRACTIONS / MIDDLE_UNITS
        masses = _mass(offsets, middle, scale)
    symbols = masses.reshape(ESCAPE, width).sum(axis=1)
    return np.append(symbols, max(1 - symbols.sum(), 1e-9))


def _mass(values: npt.NDArray[np.int64], middle: float, scale: float) -> Counts:
    upper, lower = (values + 0.5 - middle) / scale, (values - 0.5 - middle) / scale
    return 0.5 * (np.tanh(upper / 2) - np.tanh(lower / 2))


def quantize_frequencies(weights: Counts) -> npt.NDArray[np.int64]:
    """Integer frequencies of sum 4096, each at least 1, near to the weights in code length.

    Args:
        weights: how often each symbol of one table came, float64 (64,), at least 0, not all 0.

    Returns:
        int64 (64,).
    """
    total = 1 << PRECISION_BITS
    ideal = weights / weights.sum() * total
    whole = np.maximum(1, np.floor(ideal)).astype(np.int64)
    while whole.sum() != total:
        # Give to the symbol that gains most from one more, take from the one that loses least.
        if whole.sum() < total:
            whole[np.argmax(ideal * np.log1p(1 / whole))] += 1
        else:
            loss = np.where(whole > 1, -ideal * np.log1p(-1 / np.maximum(whole, 2)), np.inf)
            whole[np.argmin(loss)] -= 1
    return whole
