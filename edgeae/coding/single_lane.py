"""Range coding of small blocks in one lane: ends cost half a byte, tables are fine.

The coder is Martin's range coder (1979) with 16-bit frequencies and a range of up to 48 bits in
plain Python integers. A block is the shortest number in the last interval, without zeros at its
end: a reader takes zeros for what is beyond. It has no length and nothing to align, so that ten
symbols may cost three bytes, and what is all but certain none. `edgeae.coding.entropy`, for large
blocks, works in vectors instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgeae.errors import BitstreamError

__all__ = [
    "ALPHABET",
    "ESCAPE",
    "PRECISION_BITS",
    "Decoder",
    "FineTables",
    "Symbol",
    "encode",
    "put_bits",
]

PRECISION_BITS = 16
ALPHABET = 64
ESCAPE = ALPHABET - 1
# What lies beyond the last symbol of a table: its length in so many bits, then itself.
_LENGTH_BITS = 6
_MAX_SHIFT = 40
_TOTAL = 1 << PRECISION_BITS
# The range has 41 to 48 bits; open bits are coded so many at a time.
_TOP_BITS = 48
_LEAST_BITS = _TOP_BITS - 8
_LEAST, _TOP = 1 << _LEAST_BITS, 1 << _TOP_BITS
_PART_BITS = 12

Ints = npt.NDArray[np.int64]
# Frequency and start of one coded event.
Symbol = tuple[int, int]


@dataclass(frozen=True)
class FineTables:
    """Frequencies of symbols, for coding non-negative values.

    Table `t` codes a value `v` as the symbol `v >> shift[t]` and `shift[t]` open bits. Symbol 63
    is the escape: `(v >> shift[t]) - 63` follows, its bit length first.

    Attributes:
        frequencies: (tables, 64) uint16, every entry at least 1, every row summing to 65536.
        shifts: (tables,) uint8, at most 40.
    """

    frequencies: npt.NDArray[np.uint16]
    shifts: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        rows = self.frequencies.astype(np.int64)
        if rows.ndim != 2 or rows.shape[1] != ALPHABET or self.shifts.shape != rows.shape[:1]:
            raise ValueError(f"tables have shape {rows.shape}, expected (tables, {ALPHABET})")
        if rows.min(initial=1) < 1 or (rows.sum(axis=1) != _TOTAL).any():
            raise ValueError(f"every table must be positive and sum to {_TOTAL}")
        if self.shifts.max(initial=0) > _MAX_SHIFT:
            raise ValueError(f"shifts reach {self.shifts.max()}, expected at most {_MAX_SHIFT}")

    @cached_property
    def starts(self) -> Ints:
        """Cumulative frequencies, int64 (tables, 64)."""
        rows = self.frequencies.astype(np.int64)
        starts: Ints = np.cumsum(rows, axis=1) - rows
        return starts

    @cached_property
    def bits(self) -> npt.NDArray[np.float64]:
        """What each symbol costs, float64 (tables, 64), without its open bits."""
        return PRECISION_BITS - np.log2(self.frequencies.astype(np.float64))

    def events(self, values: Ints, tables: Ints) -> list[Symbol]:
        """What coding the values needs, in order.

        Args:
            values: not negative, int64 (count,).
            tables: the table of each, int64 (count,).
        """
        shifts = self.shifts[tables].astype(np.int64)
        symbols = np.minimum(values >> shifts, ESCAPE)
        spot = tables * ALPHABET + symbols
        first = zip(
            self.frequencies.take(spot).tolist(), self.starts.take(spot).tolist(), strict=True
        )
        # Behind some symbols stand others: what they leave open.
        places = np.flatnonzero((shifts > 0) | (symbols == ESCAPE))
        left = zip(places.tolist(), values[places].tolist(), shifts[places].tolist(), strict=True)
        found: list[Symbol] = []
        begin = 0
        for place, value, shift in left:
            found += itertools.islice(first, place + 1 - begin)
            begin = place + 1
            if value >> shift >= ESCAPE:
                beyond = (value >> shift) - ESCAPE
                put_bits(found, beyond.bit_length(), _LENGTH_BITS)
                put_bits(found, beyond, beyond.bit_length())
            put_bits(found, value & ((1 << shift) - 1), shift)
        found += first
        return found

    @cached_property
    def rows(self) -> list[tuple[list[int], int]]:
        """Cumulative frequencies with the total at their end, and the shift, of each table, as
        plain integers."""
        ends = np.append(self.starts, np.full((len(self.starts), 1), _TOTAL), axis=1).tolist()
        return list(zip(ends, self.shifts.tolist(), strict=True))


def put_bits(events: list[Symbol], value: int, bits: int) -> None:
    """Events of a value of so many bits, all equally likely, the low ones first."""
    while bits > 0:
        some = min(bits, _PART_BITS)
        width = _TOTAL >> some
        events.append((width, (value & ((1 << some) - 1)) * width))
        value >>= some
        bits -= some


def encode(events: Iterable[Symbol]) -> bytes:
    """The block of these events, in the order in which a decoder gets them back."""
    out = bytearray()
    low, width = 0, _TOP
    for frequency, start in events:
        part = width >> PRECISION_BITS
        low += part * start
        width = part * frequency
        while width <= _LEAST:
            _push(out, low >> _LEAST_BITS)
            low = (low & (_LEAST - 1)) << 8
            width <<= 8
    # The number in the interval that has the most zeros at its end.
    for bits in range(_TOP_BITS, -1, -8):
        number = (low + (1 << bits) - 1) >> bits << bits
        if number < low + width:
            break
    _push(out, number >> _LEAST_BITS)
    out += (number & (_LEAST - 1)).to_bytes(_LEAST_BITS // 8, "big")
    return bytes(out).rstrip(b"\0")


def _push(out: bytearray, number: int) -> None:
    """Appends a byte; what is beyond it is carried into those before."""
    if number > 0xFF:
        place = len(out) - 1
        while out[place] == 0xFF:
            out[place] = 0
            place -= 1
        out[place] += 1
    out.append(number & 0xFF)


class Decoder:
    """Takes the values of one block, in the order in which they were put."""

    def __init__(self, tables: FineTables, block: bytes | memoryview) -> None:
        """Raises BitstreamError if this can be no block."""
        self._data = bytes(block)
        if self._data[-1:] == b"\0":
            raise BitstreamError("a coded block ends in a zero, which no writer leaves")
        self._rows = tables.rows
        self._position = _TOP_BITS // 8
        first = self._data[: self._position].ljust(self._position, b"\0")
        self._code, self._width = int.from_bytes(first, "big"), _TOP

    def take(self, table: int) -> int:
        """The next value, by its table. Raises BitstreamError where no writer would come to."""
        (value,) = self.take_all((table,))
        return value

    def take_all(self, tables: Sequence[int]) -> list[int]:
        """The next values, each by its table. Raises BitstreamError as `take`."""
        # `_drop` is written out, and all is in local names: half of what decoding takes.
        rows, data, end = self._rows, self._data, len(self._data)
        code, width, here = self._code, self._width, self._position
        values = []
        for table in tables:
            ends, shift = rows[table]
            part = width >> PRECISION_BITS
            slot = code // part
            if slot >= _TOTAL:
                raise BitstreamError("a coded block holds a number that no writer makes")
            # Values near zero are most of them.
            symbol = 0
            while slot >= ends[symbol + 1]:
                symbol += 1
            start = ends[symbol]
            code -= part * start
            width = part * (ends[symbol + 1] - start)
            while width <= _LEAST:
                code = code << 8 | (data[here] if here < end else 0)
                here += 1
                width <<= 8
            if shift or symbol == ESCAPE:
                self._code, self._width, self._position = code, width, here
                if symbol == ESCAPE:
                    symbol += self.bits(self.bits(_LENGTH_BITS))
                symbol = symbol << shift | self.bits(shift)
                code, width, here = self._code, self._width, self._position
            values.append(symbol)
        self._code, self._width, self._position = code, width, here
        return values

    def bits(self, bits: int) -> int:
        """The next value of so many bits, all equally likely. Raises BitstreamError."""
        value = place = 0
        while bits > 0:
            some = min(bits, _PART_BITS)
            width, part = _TOTAL >> some, self._width >> PRECISION_BITS
            found = self._code // part // width
            if found >> some:
                raise BitstreamError("a coded block holds a number that no writer makes")
            self._drop(part, width, found * width)
            value |= found << place
            place += some
            bits -= some
        return value

    def _drop(self, part: int, frequency: int, start: int) -> None:
        code, width = self._code - part * start, part * frequency
        while width <= _LEAST:
            here = self._position
            code = code << 8 | (self._data[here] if here < len(self._data) else 0)
            self._position += 1
            width <<= 8
        self._code, self._width = code, width

    def finish(self) -> None:
        """Checks that the block ends here. Raises BitstreamError if it does not."""
        if self._position < len(self._data) or self._code >= self._width:
            raise BitstreamError("a coded block is longer than what it holds")
