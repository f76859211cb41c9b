"""Whole numbers of a sensor, coded exactly: a linear prediction from earlier samples, and what it
misses in adaptive contexts.

A block's predictor is found by least squares on the block itself, with weights that bring it near
to least absolute errors, and written as whole numbers; a block may go on with that of the block
before. How widely the next error is spread is looked up by the errors just before it and by those
of some time: tables and look-up are trained and the same for all. An encoder works on whole blocks
in vectors, a decoder goes from sample to sample; both in whole numbers alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeae.coding.context import FRACTIONS, MIDDLE_UNITS, SCALES
from edgeae.coding.single_lane import Decoder, FineTables, Symbol, encode, put_bits
from edgeae.errors import BitstreamError

__all__ = [
    "BINS",
    "OWN_ORDER",
    "ExactTables",
    "bin_errors",
    "centered",
    "decode_block",
    "encode_block",
    "error_bins",
    "fitted_predictions",
]

# Samples of this channel, and of the channel before it from the present one on, that a prediction
# is made of.
OWN_ORDER, OTHER_ORDER = 20, 6
# Coefficients are multiples of 2 ** -11 and below 16.
_COEFFICIENT_BITS, _COEFFICIENT_WIDTH = 11, 16
_SHIFT = _COEFFICIENT_BITS - 3  # to eighths
# Errors that the look-up sees: the last three, the later ones twice, and the sum of so many.
_LONG = 24
BINS = 40
# Bin edges: three to a doubling of the error in eighths.
_EDGES = np.unique(np.rint(3 * 2.0 ** (np.arange(BINS - 1) / 2.2)).astype(np.int64))
# Shares of the inputs' power that are added to them, the smallest that will do.
_RIDGES = (1e-6, 1e-4, 1e-3, 1e-2)
# Values that fit, with their predictions, far within 64 bits.
_LIMIT = 1 << 36

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ExactTables:
    """What is trained: frequencies, and the scale for each pair of bins, uint8 (BINS, BINS)."""

    fine: FineTables
    scales: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        shape, count = self.scales.shape, len(self.fine.shifts)
        if shape != (BINS, BINS) or count != SCALES * FRACTIONS or self.scales.max() >= SCALES:
            raise ValueError(f"scales are {shape}, up to {self.scales.max()}, with {count} tables")


def encode_block(
    tables: ExactTables, before: Ints, block: Ints, kept: Ints | None
) -> tuple[bytes, Ints]:
    """A coded block of one or more channels, and the coefficients it leaves.

    Args:
        tables: trained.
        before: the samples before it, (n, channels), those that are known to the reader.
        block: (samples, channels).
        kept: coefficients of the block before, (channels, orders), or None.
    """
    together = np.concatenate([before, block])
    first = len(before)
    events: list[Symbol] = []
    left = np.zeros((block.shape[1], OWN_ORDER + OTHER_ORDER), np.int64)
    for channel in range(block.shape[1]):
        inputs = _inputs(together, first, channel)
        wanted = together[first:, channel] - _base(together, first)[channel]
        choices = [_fitted(inputs, wanted)]
        if kept is not None:
            choices.append(kept[channel])
        coded = [_coded(tables, inputs, wanted, each) for each in choices]
        head: list[list[Symbol]] = [[], []]
        head[0] = _bit(1) if kept is not None else []
        for value in choices[0].tolist():
            head[0] += _bits(value + (1 << (_COEFFICIENT_WIDTH - 1)), _COEFFICIENT_WIDTH)
        if kept is not None:
            head[1] = _bit(0)
        costs = [_cost(h) + _cost(c) for h, c in zip(head, coded, strict=False)]
        best = int(np.argmin(costs))
        events += head[best] + coded[best]
        left[channel] = choices[best]
    return encode(events), left


def decode_block(
    tables: ExactTables, before: Ints, samples: int, block: bytes | memoryview, kept: Ints | None
) -> tuple[Ints, Ints]:
    """The samples (samples, channels) of a block, and the coefficients it leaves.

    Raises BitstreamError if it is damaged.
    """
    channels = before.shape[1]
    decoder = Decoder(tables.fine, block)
    first = len(before)
    base = _base(before, first).tolist()
    columns = [(before[:, c] - base[c]).tolist() for c in range(channels)]
    left = np.zeros((channels, OWN_ORDER + OTHER_ORDER), np.int64)
    for channel in range(channels):
        if kept is None or decoder.bits(1):
            half = 1 << (_COEFFICIENT_WIDTH - 1)
            left[channel] = [decoder.bits(_COEFFICIENT_WIDTH) - half for _ in range(left.shape[1])]
        else:
            left[channel] = kept[channel]
        other = columns[channel - 1] if channel else None
        _decode_channel(tables, decoder, columns[channel], other, left[channel].tolist(), samples)
    decoder.finish()
    found = np.array([column[first:] for column in columns], np.int64).T + np.array(base)
    return found.reshape(samples, channels), left


def _decode_channel(
    tables: ExactTables,
    decoder: Decoder,
    own: list[int],
    other: list[int] | None,
    coefficients: list[int],
    samples: int,
) -> None:
    """Appends so many samples to `own`; `other` is whole already."""
    scales, edges = tables.scales.tolist(), _EDGES.tolist()
    first = len(own)
    own[:0] = [0] * OWN_ORDER
    shifted = None if other is None else [0] * OTHER_ORDER + other
    ours, theirs = coefficients[:OWN_ORDER], coefficients[OWN_ORDER:]
    backwards = ours[::-1]
    errors = [0] * _LONG
    recent = 0
    for n in range(samples):
        at = first + n
        past = own[at : at + OWN_ORDER]
        total = sum(map(int.__mul__, backwards, past))
        if shifted is not None:
            here = at + OTHER_ORDER
            total += sum(c * shifted[here - k] for k, c in enumerate(theirs))
        middle = total >> _SHIFT
        short = 2 * errors[-1] + errors[-2] + errors[-3]
        scale = scales[_bin(short, edges)][_bin(recent >> 2, edges)]
        center = (middle + MIDDLE_UNITS // 2) // MIDDLE_UNITS
        fraction = middle - MIDDLE_UNITS * center
        value = decoder.take(scale * FRACTIONS + abs(fraction))
        offset = (value + 1) >> 1 if value & 1 else -(value >> 1)
        sample = center + (-offset if fraction < 0 else offset)
        if not -_LIMIT < sample < _LIMIT:
            raise BitstreamError("a coded block has a sample that no writer makes")
        own.append(sample)
        error = abs(MIDDLE_UNITS * sample - middle)
        recent += error - errors[-_LONG]
        errors.append(error)
        if len(errors) > 4 * _LONG:
            del errors[:-_LONG]
    del own[:OWN_ORDER]


def _bin(value: int, edges: list[int]) -> int:
    low, high = 0, len(edges)
    while low < high:
        middle = (low + high) // 2
        if edges[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low


def error_bins(errors: Ints) -> tuple[Ints, Ints]:
    """The bins (n,) that the errors before each sample fall into, of errors in eighths (n,)."""
    padded = np.concatenate([np.zeros(_LONG, np.int64), errors])
    count = len(errors)
    sums = np.concatenate([[0], np.cumsum(padded)])
    # The error of sample n is padded[n + _LONG]: what is before it is known.
    recent = sums[_LONG : _LONG + count] - sums[:count]
    short = 2 * padded[_LONG - 1 : -1] + padded[_LONG - 2 : -2] + padded[_LONG - 3 : -3]
    return (
        np.searchsorted(_EDGES, short, side="right"),
        np.searchsorted(_EDGES, recent >> 2, side="right"),
    )


def predictions(inputs: Ints, coefficients: Ints) -> Ints:
    """The middle of each sample, in eighths."""
    middle: Ints = (inputs @ coefficients) >> _SHIFT
    return middle


def centered(wanted: Ints, middle: Ints) -> tuple[Ints, Ints]:
    """What is coded of samples with these middles, and how far each middle is from its center."""
    center = (middle + MIDDLE_UNITS // 2) // MIDDLE_UNITS
    fraction = middle - MIDDLE_UNITS * center
    offset = wanted - center
    offset = np.where(fraction < 0, -offset, offset)
    return np.where(offset > 0, 2 * offset - 1, -2 * offset), np.abs(fraction)


def fitted_predictions(together: Ints, first: int, channel: int) -> tuple[Ints, Ints]:
    """What is wanted of a channel of the samples from `first` on, and its middles in eighths, by
    coefficients fitted to them."""
    inputs = _inputs(together, first, channel)
    wanted: Ints = together[first:, channel] - _base(together, first)[channel]
    return wanted, predictions(inputs, _fitted(inputs, wanted))


def bin_errors() -> npt.NDArray[np.float64]:
    """About what error each pair of bins stands for, in whole units, float64 (BINS, BINS)."""
    low = np.concatenate([[1.0], _EDGES.astype(np.float64)])
    low = np.concatenate([low, np.full(BINS - len(low), low[-1])])
    # The short sum holds four errors, the long one a fourth of 24.
    found: npt.NDArray[np.float64] = np.add.outer(low / 4, low / 6) / 2 / MIDDLE_UNITS
    return found


def _coded(tables: ExactTables, inputs: Ints, wanted: Ints, coefficients: Ints) -> list[Symbol]:
    middle = predictions(inputs, coefficients)
    short, long = error_bins(np.abs(MIDDLE_UNITS * wanted - middle))
    values, fractions = centered(wanted, middle)
    scale = tables.scales[short, long].astype(np.int64)
    return list(tables.fine.events(values, scale * FRACTIONS + fractions))


def _base(samples: Ints, first: int) -> Ints:
    """What is taken off each channel: the sample before the block."""
    return samples[first - 1] if first else np.zeros(samples.shape[1], np.int64)


def _inputs(together: Ints, first: int, channel: int) -> Ints:
    """What each sample of the block is predicted from, (samples, orders)."""
    count = len(together) - first
    base = _base(together, first)
    centered_all = together - base
    own = np.concatenate([np.zeros(OWN_ORDER, np.int64), centered_all[:, channel]])
    columns = [own[first + OWN_ORDER - k :][:count] for k in range(1, OWN_ORDER + 1)]
    other = np.zeros(len(together) + OTHER_ORDER, np.int64)
    if channel:
        other[OTHER_ORDER:] = centered_all[:, channel - 1]
    columns += [other[first + OTHER_ORDER - k :][:count] for k in range(OTHER_ORDER)]
    return np.stack(columns, axis=1)


def _fitted(inputs: Ints, wanted: Ints) -> Ints:
    """Coefficients that leave small absolute errors, as whole numbers."""
    x, y = inputs.astype(np.float64), wanted.astype(np.float64)
    # Without noise many predictors fit, of which some have coefficients that no block can hold.
    for ridge in _RIDGES:
        found = _least_errors(x, y, ridge)
        if np.abs(found).max() < 2.0 ** (_COEFFICIENT_WIDTH - 1 - _COEFFICIENT_BITS) - 1:
            break
    half = (1 << (_COEFFICIENT_WIDTH - 1)) - 1
    whole = np.rint(found * 2.0**_COEFFICIENT_BITS).clip(-half, half)
    result: Ints = whole.astype(np.int64)
    return result


def _least_errors(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], ridge: float
) -> npt.NDArray[np.float64]:
    """Least squares in three rounds, each weighted by what the one before left."""
    weight = np.ones(len(y))
    found = np.zeros(x.shape[1])
    for _ in range(3):
        weighted = x * weight[:, None]
        square = weighted.T @ x
        square += np.eye(len(square)) * (ridge * np.trace(square) / len(square) + 1e-9)
        found[:] = np.linalg.solve(square, weighted.T @ y)
        error = np.abs(y - x @ found)
        weight[:] = 1 / (error + 0.5 * error.mean() + 0.1)
    return found


def _cost(events: list[Symbol]) -> float:
    if not events:
        return 0.0
    return float(16 * len(events) - np.log2(np.array([f for f, _ in events], np.float64)).sum())


def _bit(value: int) -> list[Symbol]:
    return _bits(value, 1)


def _bits(value: int, bits: int) -> list[Symbol]:
    found: list[Symbol] = []
    put_bits(found, value, bits)
    return found
