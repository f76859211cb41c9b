"""Range coding of small blocks in one lane: the state costs half a byte, tables are fine.

The coder is rANS (Duda 2013, arXiv:1311.2540) with 16-bit frequencies and a state of up to 48 bits
in plain Python integers, renormalized by 16 bits. The state begins at 1, and as long as a block is
short nothing but the state is written: a block has no lanes, no length and no bits to align, so
that ten symbols may cost three bytes. `edgeae.coding.entropy`, for large blocks, works in
vectors instead.

Bytes of a block: 16-bit words, big-endian, last taken first; then the final state in as few bytes
as it needs, big-endian. What the state begins with is known, and a reader that comes to anything
else has read a damaged block.
"""

from __future__ import annotations

from collections.abc import Sequence
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
_LOW_BITS, _WORD_BITS = 32, 16
_LOW = 1 << _LOW_BITS
# A symbol of this frequency can be put while the state is below frequency << this.
_ROOM = _LOW_BITS + _WORD_BITS - PRECISION_BITS
_HIGH_BYTES = (_LOW_BITS + _WORD_BITS) // 8

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
        frequencies = self.frequencies[tables, symbols].tolist()
        starts = self.starts[tables, symbols].tolist()
        events = list(zip(frequencies, starts, strict=True))
        if not shifts.any() and not (symbols == ESCAPE).any():
            return events
        found: list[Symbol] = []
        done = 0
        for place in np.flatnonzero((shifts > 0) | (symbols == ESCAPE)).tolist():
            found += events[done : place + 1]
            done = place + 1
            value, shift = int(values[place]), int(shifts[place])
            if value >> shift >= ESCAPE:
                beyond = (value >> shift) - ESCAPE
                put_bits(found, beyond.bit_length(), _LENGTH_BITS)
                put_bits(found, beyond, beyond.bit_length())
            put_bits(found, value & ((1 << shift) - 1), shift)
        return found + events[done:]

    @cached_property
    def rows(self) -> list[tuple[list[int], int]]:
        """Cumulative frequencies with the total at their end, and the shift, of each table, as
        plain integers."""
        ends = np.append(self.starts, np.full((len(self.starts), 1), _TOTAL), axis=1).tolist()
        return list(zip(ends, self.shifts.tolist(), strict=True))


def put_bits(events: list[Symbol], value: int, bits: int) -> None:
    """Events of a value of so many bits, all equally likely, the low ones first."""
    while bits > 0:
        some = min(bits, _WORD_BITS - 4)
        width = _TOTAL >> some
        events.append((width, (value & ((1 << some) - 1)) * width))
        value >>= some
        bits -= some


def encode(events: Sequence[Symbol]) -> bytes:
    """The block of these events, in the order in which a decoder gets them back."""
    state = 1
    words: list[int] = []
    for frequency, start in reversed(events):
        if state >= frequency << _ROOM:
            words.append(state & 0xFFFF)
            state >>= _WORD_BITS
        quotient, rest = divmod(state, frequency)
        state = (quotient << PRECISION_BITS) + rest + start
    tail = state.to_bytes((state.bit_length() + 7) // 8, "big")
    return np.array(words, ">u2").tobytes() + tail


class Decoder:
    """Takes the values of one block, in the order in which they were put."""

    def __init__(self, tables: FineTables, block: bytes | memoryview) -> None:
        """Raises BitstreamError if this can be no block."""
        data = bytes(block)
        # A state that has given words away has 33 to 48 bits.
        own = len(data) if len(data) <= _HIGH_BYTES else _HIGH_BYTES - len(data) % 2
        if not data or not data[len(data) - own]:
            raise BitstreamError("a coded block is empty or begins with nothing")
        self._rows = tables.rows
        self._state = int.from_bytes(data[len(data) - own :], "big")
        self._words = np.frombuffer(data[: len(data) - own], ">u2").tolist()
        if self._words and self._state < _LOW:
            raise BitstreamError("a coded block begins with a state that no writer leaves")

    def take(self, table: int) -> int:
        """The next value, by its table. Raises BitstreamError at the block's end."""
        ends, shift = self._rows[table]
        slot = self._state & 0xFFFF
        # Values near zero are most of them.
        symbol = 0
        while slot >= ends[symbol + 1]:
            symbol += 1
        self._drop(ends[symbol + 1] - ends[symbol], ends[symbol], slot)
        if symbol == ESCAPE:
            symbol += self.bits(self.bits(_LENGTH_BITS))
        return (symbol << shift) | self.bits(shift) if shift else symbol

    def take_all(self, tables: Sequence[int]) -> list[int]:
        """The next values, each by its table. Raises BitstreamError at the block's end."""
        return [self.take(table) for table in tables]

    def bits(self, bits: int) -> int:
        """The next value of so many bits, all equally likely. Raises BitstreamError."""
        value = place = 0
        while bits > 0:
            some = min(bits, _WORD_BITS - 4)
            width = _TOTAL >> some
            slot = self._state & 0xFFFF
            part = slot // width
            self._drop(width, part * width, slot)
            value |= part << place
            place += some
            bits -= some
        return value

    def _drop(self, frequency: int, start: int, slot: int) -> None:
        state = frequency * (self._state >> PRECISION_BITS) + slot - start
        if state < _LOW and self._words:
            state = state << _WORD_BITS | self._words.pop()
        if state < 1:
            raise BitstreamError("a coded block ends too early")
        self._state = state

    def finish(self) -> None:
        """Checks that the block ends here. Raises BitstreamError if it does not."""
        if self._state != 1 or self._words:
            raise BitstreamError("a coded block does not end in its starting state")
