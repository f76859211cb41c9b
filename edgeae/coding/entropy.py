"""Interleaved range coding over static integer tables: symbols to bytes and back, exactly, in
numpy.

The coder is rANS (Duda 2013, arXiv:1311.2540) with 32-bit states, 16-bit renormalization and
12-bit frequencies, run in parallel lanes so that numpy works on whole vectors (Giesen 2014,
arXiv:1402.3392). A *stage* is a run of symbols whose tables are known together; symbol `i` of a
stage belongs to lane `i % lanes`.

Each symbol of a table stands for a bucket of values, see `Tables`: what the bucket leaves open is
written as plain bits. Signs of symmetric stages carry no information that a model could use, so
they are plain bits too; the first of them fill the starting states of the lanes, which would
otherwise be wasted.

Everything here is integer arithmetic. Bytes of one coded block:

    lanes, one byte: log2 of their number
    final state of every lane: 4 bits of length, then the bits below the leading one
    16-bit words, little-endian, in the order in which the decoder takes them
    signs that did not fit into the starting states
    open bits of buckets and escapes, from the last byte of the block backwards
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgeae.errors import BitstreamError

PRECISION_BITS = 12
ALPHABET = 64
ESCAPE = ALPHABET - 1
ESCAPE_BITS = 16
MAX_LANES_LOG2 = 9
# About one byte of a lane is overhead; at this many symbols a lane that is 1 % or less.
SYMBOLS_PER_LANE_LOG2 = 9

_TOTAL = 1 << PRECISION_BITS
_LOW = 1 << 16  # states live in [2 ** 16, 2 ** 32)
# The same in the type of the states.
_PRECISION, _SLOT = np.uint32(PRECISION_BITS), np.uint32(_TOTAL - 1)
_LEAST, _WORD = np.uint32(_LOW), np.uint32(16)

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Tables:
    """Frequencies of symbols, for coding non-negative values.

    Table `t` codes a value `v` as the symbol `v >> shift[t]` and `shift[t]` open bits. Symbol 63
    is the escape: 16 open bits say how far `v >> shift[t]` lies beyond it.

    Attributes:
        frequencies: (tables, 64) uint16, every entry at least 1, every row summing to 4096.
        shifts: (tables,) uint8, at most 12.
    """

    frequencies: npt.NDArray[np.uint16]
    shifts: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        rows = self.frequencies.astype(np.int64)
        if rows.ndim != 2 or rows.shape[1] != ALPHABET or self.shifts.shape != rows.shape[:1]:
            raise ValueError(f"tables have shape {rows.shape}, expected (tables, {ALPHABET})")
        if rows.min(initial=1) < 1 or (rows.sum(axis=1) != _TOTAL).any():
            raise ValueError(
                f"a table has a zero or another sum, expected positive numbers that sum to {_TOTAL}"
            )
        if self.shifts.max(initial=0) > 12:
            raise ValueError(f"shifts reach {self.shifts.max()}, expected at most 12")

    @property
    def largest(self) -> Ints:
        """The largest value that each table can code, int64 (tables,)."""
        top = np.int64(ESCAPE + (1 << ESCAPE_BITS))
        return (top << self.shifts.astype(np.int64)) - 1

    @cached_property
    def widths(self) -> Words:
        """The frequencies, uint32, flat (tables * 64)."""
        widths: Words = self.frequencies.astype(np.uint32).ravel()
        return widths

    @cached_property
    def starts(self) -> Words:
        """Cumulative frequencies, uint32, flat (tables * 64)."""
        rows = self.frequencies.astype(np.uint32)
        starts: Words = (np.cumsum(rows, axis=1, dtype=np.uint32) - rows).ravel()
        return starts

    @cached_property
    def slots(self) -> Words:
        """What each of a table's 4096 slots decodes to, flat uint32:
        symbol << 24 | frequency << 12 | offset in it."""
        rows = self.frequencies
        symbols = np.repeat(
            np.tile(np.arange(ALPHABET, dtype=np.uint32), len(rows)), rows.ravel().astype(np.intp)
        )
        table = np.repeat(np.arange(len(rows), dtype=np.uint32), _TOTAL)
        place = table * ALPHABET + symbols
        slot = np.tile(np.arange(_TOTAL, dtype=np.uint32), len(rows))
        frequency = self.widths[place]
        slots: Words = (symbols << 24) | (frequency << 12) | (slot - self.starts[place])
        return slots


def lanes_log2(symbols: int) -> int:
    """How many lanes a block of so many symbols is worth, as a power of two."""
    return max(0, min(MAX_LANES_LOG2, symbols.bit_length() - 1 - SYMBOLS_PER_LANE_LOG2))


class Encoder:
    """Collects the stages of one block, then codes them backwards."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._frequencies: list[Words] = []
        self._starts: list[Words] = []
        self._open_values: list[Ints] = []
        self._open_lengths: list[Ints] = []
        self._signs: list[npt.NDArray[np.uint8]] = []

    def put(self, values: Ints, tables: Ints) -> None:
        """Adds a stage: non-negative values and the table of each, both int64 (count,).

        Raises:
            ValueError: a value is negative or beyond what its table can code.
        """
        self.add(values, tables)

    def add(self, values: Ints, tables: Ints) -> Ints:
        """What `put` does; gives back the places, int64 (n,), of the values that have open bits.

        Raises:
            ValueError: a value is negative or beyond what its table can code.
        """
        if values.min(initial=0) < 0:
            raise ValueError(
                "a value is negative, expected 0 to the largest that its table can code"
            )
        shifts = self._tables.shifts[tables]
        symbols = values
        # Most values are their own symbol; only the others have open bits.
        some = np.flatnonzero((shifts > 0) | (values >= ESCAPE))
        if len(some):
            symbols = values.copy()
            symbols[some] = self._open(values[some], tables[some])
        place = tables * ALPHABET + symbols
        self._frequencies.append(self._tables.widths[place])
        self._starts.append(self._tables.starts[place])
        return some

    def _open(self, values: Ints, tables: Ints) -> Ints:
        """The symbols of values, whose open bits are kept for the end of the block."""
        if (values > self._tables.largest[tables]).any():
            raise ValueError(
                "a value is too large, expected 0 to the largest that its table can code"
            )
        shifts = self._tables.shifts[tables].astype(np.int64)
        whole = values >> shifts
        symbols: Ints = np.minimum(whole, ESCAPE)
        beyond = np.where(symbols == ESCAPE, (whole - ESCAPE) << shifts, 0)
        self._open_values.append(beyond | (values & ((1 << shifts) - 1)))
        self._open_lengths.append(shifts + ESCAPE_BITS * (symbols == ESCAPE))
        return symbols

    @property
    def coded_stages(self) -> list[tuple[Words, Words]]:
        """Frequencies and starts, uint32 (count,), of each stage, in the order of `put`."""
        return list(zip(self._frequencies, self._starts, strict=True))

    def opened(self) -> tuple[Ints, Ints]:
        """The open bits of all values that have some, and how many each has, both int64 (n,)."""
        none = np.zeros(0, np.int64)
        return (
            np.concatenate([none, *self._open_values]),
            np.concatenate([none, *self._open_lengths]),
        )

    def put_signs(self, negative: npt.NDArray[np.bool_]) -> None:
        """Adds signs, bool (count,), True is negative; the decoder gets them after all stages."""
        self._signs.append(negative.astype(np.uint8))

    def finish(self) -> bytes:
        """The coded block."""
        signs = np.concatenate([np.zeros(0, np.uint8), *self._signs])
        states = first_states(sum(len(stage) for stage in self._frequencies), signs)
        words: list[npt.NDArray[np.uint16]] = []
        for frequencies, starts in reversed(self.coded_stages):
            _encode_stage(states, frequencies, starts, words)
        words.reverse()
        return block_bytes(
            states,
            np.concatenate([np.zeros(0, np.uint16), *words]),
            signs,
            *self.opened(),
        )


def first_states(symbols: int, signs: npt.NDArray[np.uint8]) -> Words:
    """The states, uint32 (lanes,), with which the coding of so many symbols begins.

    They hold the first of the signs, uint8 (count,) of 0 and 1.
    """
    lanes = 1 << lanes_log2(symbols)
    payload = np.zeros(2 * lanes, np.uint8)
    packed = np.packbits(signs[: 16 * lanes])
    payload[: len(packed)] = packed
    states: Words = payload.view(">u2").astype(np.uint32) | np.uint32(_LOW)
    return states


def block_bytes(
    states: Words,
    words: npt.NDArray[np.uint16],
    signs: npt.NDArray[np.uint8],
    open_values: Ints,
    open_lengths: Ints,
) -> bytes:
    """A coded block of the final states of its lanes and of all that follows them.

    Args:
        states: uint32 (lanes,).
        words: uint16 (n,), in the order in which the decoder takes them.
        signs: uint8 (n,) of 0 and 1: all, those in the starting states too.
        open_values, open_lengths: int64 (n,), see `Encoder.opened`.
    """
    lanes = len(states)
    opened = b""
    if len(open_values):
        opened = np.packbits(_ints_to_bits(open_values, open_lengths)).tobytes()[::-1]
    return b"".join(
        [
            bytes([lanes.bit_length() - 1]),
            _states_bytes(states),
            words.astype("<u2").tobytes(),
            np.packbits(signs[16 * lanes :]).tobytes(),
            opened,
        ]
    )


class Decoder:
    """Takes the stages of one block in the order in which they were put.

    Attributes:
        states: of the lanes.
        words: all 16-bit words of the block, as uint32.
        position: how many of them were taken.
    """

    def __init__(self, tables: Tables, block: bytes) -> None:
        """Raises BitstreamError if the block is too short to hold its lanes."""
        if not block or block[0] > MAX_LANES_LOG2:
            raise BitstreamError("a coded block is empty or asks for too many lanes")
        self._tables = tables
        self._lanes_log2, self._count = block[0], 0
        lanes = 1 << block[0]
        bits = np.unpackbits(
            np.frombuffer(block, np.uint8, count=min(len(block) - 1, 5 * lanes), offset=1)
        )
        self.states, used = _read_states(bits, lanes)
        self._block = block
        self._first = 1 + (used + 7) // 8
        body = block[self._first :]
        self.words = np.frombuffer(body[: len(body) & ~1], "<u2").astype(np.uint32)
        self.position = 0
        self._backwards = np.unpackbits(np.frombuffer(body, np.uint8)[::-1])
        self._open_position = 0

    def take(self, tables: Ints) -> Ints:
        """The values of the next stage, int64 (count,), given the table of each, int64 (count,).

        Raises:
            BitstreamError: the block ends too early, or has too few lanes.
        """
        self.expect(len(tables))
        found = np.empty(len(tables), np.uint32)
        bases = tables << PRECISION_BITS
        self.position = _decode_stage(
            self.states, bases, self._tables.slots, self.words, self.position, found
        )
        values = (found >> np.uint32(24)).astype(np.int64)
        shifts = self._tables.shifts[tables]
        some = np.flatnonzero((shifts > 0) | (values == ESCAPE))
        if len(some):
            shifted = shifts[some].astype(np.int64)
            opened = self.take_open(shifted + ESCAPE_BITS * (values[some] == ESCAPE))
            values[some] = (values[some] << shifted) + opened
        return values

    def expect(self, symbols: int) -> None:
        """Counts symbols that are about to be taken. Raises BitstreamError for too few lanes."""
        # One lane for a million symbols would be a slow loop over them: 14 s for one tile.
        self._count += symbols
        if lanes_log2(self._count) > self._lanes_log2:
            raise BitstreamError("a coded block has too few lanes for its symbols")

    def take_open(self, lengths: Ints) -> Ints:
        """The next open bits, int64 (n,), given how many each value has, int64 (n,).

        Raises BitstreamError at the block's end.
        """
        end = self._open_position + int(lengths.sum())
        if end > len(self._backwards):
            raise BitstreamError("a coded block ends too early")
        opened = _bits_to_ints(self._backwards[self._open_position : end], lengths)
        self._open_position = end
        return opened

    def take_signs(self, count: int) -> npt.NDArray[np.bool_]:
        """All signs, bool (count,), after all stages; True is negative.

        Checks that the block ends here.

        Raises:
            BitstreamError: the block is longer or shorter than what it holds.
        """
        lanes = len(self.states)
        payload = _ints_to_bits(
            (self.states & np.uint32(0xFFFF)).astype(np.int64), np.full(lanes, 16)
        )
        rest = max(0, count - len(payload))
        begin = self._first + 2 * self.position
        end = begin + (rest + 7) // 8
        if (self.states >> 16 != 1).any() or payload[count:].any():
            raise BitstreamError("a coded block does not end in its starting state")
        if end + (self._open_position + 7) // 8 != len(self._block):
            raise BitstreamError("a coded block has another length than its content")
        outside = np.unpackbits(np.frombuffer(self._block[begin:end], np.uint8))
        if outside[rest:].any():
            raise BitstreamError("a coded block has stray bits")
        return np.concatenate([payload[:count], outside[:rest]]).astype(np.bool_)


# The loops below run some 800 times for a Kodak image, on vectors so short that numpy's own
# overhead is most of their time: every call, cast and new array counts.


def _encode_stage(
    states: Words, frequencies: Words, starts: Words, words: list[npt.NDArray[np.uint16]]
) -> None:
    """Push one stage onto the states, last symbols first; words are listed last to first."""
    lanes = len(states)
    limits = frequencies << np.uint32(32 - PRECISION_BITS)
    # (x // f << 12) + x % f  =  x + (x // f) (4096 - f)
    factors = np.uint32(_TOTAL) - frequencies
    above, quotients = np.empty(lanes, np.bool_), np.empty(lanes, np.uint32)
    for begin in range((len(frequencies) - 1) // lanes * lanes, -1, -lanes):
        end = begin + lanes
        frequency = frequencies[begin:end]
        count = len(frequency)
        x, full, quotient = states[:count], above[:count], quotients[:count]
        np.greater_equal(x, limits[begin:end], out=full)
        some = full.nonzero()[0]
        if len(some):
            high = x[some]
            words.append(high.astype(np.uint16))
            high >>= _WORD
            x[some] = high
        np.floor_divide(x, frequency, out=quotient)
        quotient *= factors[begin:end]
        x += quotient
        x += starts[begin:end]


def _decode_stage(
    states: Words, bases: Ints, slots: Words, words: Words, position: int, found: Words
) -> int:
    """Pop one stage off the states into `found`; the new position in the words."""
    lanes = len(states)
    places, factors = np.empty(lanes, np.int64), np.empty(lanes, np.uint32)
    below = np.empty(lanes, np.bool_)
    for begin in range(0, len(bases), lanes):
        end = begin + lanes
        entry = found[begin:end]
        count = len(entry)
        x, place, factor, short = states[:count], places[:count], factors[:count], below[:count]
        np.bitwise_and(x, _SLOT, out=place)
        place += bases[begin:end]
        slots.take(place, out=entry, mode="clip")
        x >>= _PRECISION
        np.right_shift(entry, _PRECISION, out=factor)
        factor &= _SLOT
        x *= factor
        np.bitwise_and(entry, _SLOT, out=factor)
        x += factor
        np.less(x, _LEAST, out=short)
        some = short.nonzero()[0]
        if len(some):
            end = position + len(some)
            if end > len(words):
                raise BitstreamError("a coded block ends too early")
            high = x[some]
            high <<= _WORD
            high |= words[position:end]
            x[some] = high
            position = end
    return position


def _states_bytes(states: Words) -> bytes:
    """The lanes' states as variable-length fields, filled up with zeros to whole bytes."""
    # As in `_read_states`, text is faster than arrays of bits.
    fields = (f"{state:b}" for state in states.tolist())
    text = "".join(f"{len(field) - 17:04b}{field[1:]}" for field in fields)
    size = -(-len(text) // 8)
    return int(text.ljust(8 * size, "0"), 2).to_bytes(size, "big")


def _read_states(bits: npt.NDArray[np.uint8], lanes: int) -> tuple[Words, int]:
    """The lanes' states from variable-length fields, and how many bits they took."""
    # Python reads a number from text faster than numpy from an array of bits.
    text = (bits + ord("0")).tobytes()
    states, position = [], 0
    for _ in range(lanes):
        field = text[position : position + 4]
        length = 16 + int(field, 2) if len(field) == 4 else 0
        begin, position = position + 4, position + 4 + length
        if length == 0 or position > len(text):
            raise BitstreamError("a coded block ends inside its states")
        states.append((1 << length) | int(text[begin:position], 2))
    return np.array(states, np.uint32), position


def _ints_to_bits(values: Ints, lengths: Ints) -> npt.NDArray[np.uint8]:
    """The lowest `lengths[i]` bits of each value, highest first, one after the other."""
    ends = np.cumsum(lengths)
    place = np.repeat(ends, lengths) - 1 - np.arange(ends[-1] if len(ends) else 0)
    return ((np.repeat(values, lengths) >> place) & 1).astype(np.uint8)


def _bits_to_ints(bits: npt.NDArray[np.uint8], lengths: Ints) -> Ints:
    """The inverse of `_ints_to_bits`."""
    ends = np.cumsum(lengths)
    values = np.zeros(len(lengths), np.int64)
    for place in range(int(lengths.max(initial=0))):
        some = np.flatnonzero(lengths > place)
        values[some] |= bits[ends[some] - 1 - place].astype(np.int64) << place
    return values
