"""The range coder over many small blocks at a time, to the bytes that it makes of each alone.

A block of a few latents has one lane or two, over which numpy loops symbol by symbol. Side by side
the lanes of some hundred blocks make vectors that are worth a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.coding.entropy import (
    ESCAPE,
    ESCAPE_BITS,
    PRECISION_BITS,
    Decoder,
    Encoder,
    Ints,
    Tables,
    Words,
    block_bytes,
    first_states,
)
from edgeae.errors import BitstreamError

__all__ = ["MAX_LANES", "Decoders", "Encoders"]

# Blocks of more lanes are about as fast on their own: 24 of up to 32 lanes take a third of the time
# side by side.
MAX_LANES = 128

_TOTAL = np.uint32(1 << PRECISION_BITS)
_SLOT, _PRECISION = _TOTAL - np.uint32(1), np.uint32(PRECISION_BITS)
_LEAST, _WORD = np.uint32(1 << 16), np.uint32(16)
_NONE: Ints = np.zeros(0, np.int64)


class _Lanes:
    """The lanes of several blocks side by side.

    Attributes:
        counts: lanes of each block.
        ends: where the lanes of each block end.
        block: the block of each lane.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = np.array(counts)
        self.ends = np.cumsum(self.counts)
        self.block = np.repeat(np.arange(len(counts)), counts)

    def places(self, block: Ints) -> tuple[int, Ints]:
        """For the values of a stage, given the block of each, blocks in order: how often all lanes
        take one, and where in that many rows of all lanes each value lies, flat."""
        lengths = np.bincount(block, minlength=len(self.counts))
        number = np.arange(len(block)) - (np.cumsum(lengths) - lengths)[block]
        row, lane = np.divmod(number, self.counts[block])
        height = int((-(-lengths // self.counts)).max(initial=0))
        return height, row * len(self.block) + (self.ends - self.counts)[block] + lane


class Encoders:
    """Collects the stages of many blocks, then codes them backwards."""

    def __init__(self, tables: Tables, blocks: int) -> None:
        self._stages = Encoder(tables)
        self._count = blocks
        self._block: list[Ints] = []
        self._open_block: list[Ints] = []
        self._signs: list[npt.NDArray[np.uint8]] = []
        self._sign_block: list[Ints] = []

    def put(self, values: Ints, tables: Ints, block: Ints | None) -> None:
        """Adds a stage: non-negative values, the table and the block of each, blocks in order.

        All are int64 (count,); no block means that there is one.

        Raises:
            ValueError: a value is negative or beyond what its table can code.
        """
        owner = np.zeros(len(values), np.int64) if block is None else block
        self._open_block.append(owner[self._stages.add(values, tables)])
        self._block.append(owner)

    def put_signs(self, negative: npt.NDArray[np.bool_], block: Ints | None) -> None:
        """Adds signs, bool (count,), and the block of each, int64 (count,) in order; the decoder
        gets them after all stages."""
        self._signs.append(negative.astype(np.uint8))
        self._sign_block.append(np.zeros(len(negative), np.int64) if block is None else block)

    def finish(self) -> list[bytes]:
        """The coded blocks."""
        count = self._count
        symbols = np.bincount(np.concatenate([_NONE, *self._block]), minlength=count)
        no_signs = np.zeros(0, np.uint8)
        signs = _parted(np.concatenate([no_signs, *self._signs]), self._sign_block, count)
        states = [first_states(int(n), own) for n, own in zip(symbols, signs, strict=True)]
        lanes = _Lanes([len(state) for state in states])
        x: Words = np.concatenate(states)
        words, owners = self._code(x, lanes)
        open_values, open_lengths = self._stages.opened()
        parts = zip(
            np.split(x, lanes.ends[:-1]),
            _parted(words, [owners], count),
            signs,
            _parted(open_values, self._open_block, count),
            _parted(open_lengths, self._open_block, count),
            strict=True,
        )
        return [block_bytes(*part) for part in parts]

    def _code(self, x: Words, lanes: _Lanes) -> tuple[npt.NDArray[np.uint16], Ints]:
        """Pushes all stages onto the states x, last values first; words and the block of each, in
        the decoder's order."""
        made: list[tuple[npt.NDArray[np.uint16], Ints]] = []
        stages = zip(self._stages.coded_stages, self._block, strict=True)
        for (widths, begins), block in reversed(list(stages)):
            height, places = lanes.places(block)
            shape = height, len(x)
            # Where there is no value the state stays: x // 1 * 0 + 0 is added to it.
            frequencies, factors = np.ones(shape, np.uint32), np.zeros(shape, np.uint32)
            starts, active = np.zeros(shape, np.uint32), np.zeros(shape, np.bool_)
            frequencies.reshape(-1)[places] = widths
            factors.reshape(-1)[places] = _TOTAL - widths
            starts.reshape(-1)[places] = begins
            active.reshape(-1)[places] = True
            limits = frequencies << np.uint32(32 - PRECISION_BITS)
            for row in range(height - 1, -1, -1):
                full = x >= limits[row]
                full &= active[row]
                some = full.nonzero()[0]
                if len(some):
                    high = x[some]
                    made.append((high.astype(np.uint16), lanes.block[some]))
                    high >>= _WORD
                    x[some] = high
                quotient = x // frequencies[row]
                quotient *= factors[row]
                x += quotient
                x += starts[row]
        made.reverse()
        words = np.concatenate([np.zeros(0, np.uint16), *(part for part, _ in made)])
        return words, np.concatenate([_NONE, *(owner for _, owner in made)])


class Decoders:
    """Takes the stages of many blocks, each in the order in which they were put."""

    def __init__(self, tables: Tables, decoders: Sequence[Decoder]) -> None:
        self._tables = tables
        self._decoders = decoders
        self._lanes = _Lanes([len(decoder.states) for decoder in decoders])
        self._states: Words = np.concatenate([decoder.states for decoder in decoders])
        sizes = [len(decoder.words) for decoder in decoders]
        self._ends = np.cumsum(sizes)
        self._begins = self._ends - sizes
        self._positions = self._begins.copy()
        # One more, so that there is a word to read where all are used up.
        self._words = np.concatenate([*(d.words for d in decoders), np.zeros(1, np.uint32)])

    def take(self, tables: Ints, block: Ints | None) -> Ints:
        """The values of the next stage, given the table and the block of each, blocks in order.

        All are int64 (count,); no block means that there is one.

        Raises:
            BitstreamError: a block ends too early, or has too few lanes.
        """
        owner = np.zeros(len(tables), np.int64) if block is None else block
        lengths = np.bincount(owner, minlength=len(self._decoders))
        for decoder, length in zip(self._decoders, lengths.tolist(), strict=True):
            decoder.expect(length)
        height, places = self._lanes.places(owner)
        shape = height, len(self._states)
        bases, active = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        bases.reshape(-1)[places] = tables << PRECISION_BITS
        active.reshape(-1)[places] = True
        entries = np.empty(shape, np.uint32)
        for row in range(height):
            self._step(bases[row], active[row], entries[row])
        if (self._positions > self._ends).any():
            raise BitstreamError("a coded block ends too early")
        values = (entries.reshape(-1)[places] >> np.uint32(24)).astype(np.int64)
        shifts = self._tables.shifts[tables].astype(np.int64)
        some = np.flatnonzero((shifts > 0) | (values == ESCAPE))
        if len(some):
            open_bits = shifts[some] + ESCAPE_BITS * (values[some] == ESCAPE)
            values[some] = (values[some] << shifts[some]) + self._open(open_bits, owner[some])
        return values

    def _step(self, bases: Ints, active: npt.NDArray[np.bool_], found: Words) -> None:
        """Takes one value for each active lane."""
        x = self._states
        np.take(self._tables.slots, (x & _SLOT) + bases, out=found, mode="clip")
        next_states = x >> _PRECISION
        next_states *= (found >> _PRECISION) & _SLOT
        next_states += found & _SLOT
        np.copyto(x, next_states, where=active)
        some = (x < _LEAST).nonzero()[0]
        if len(some):
            owners = self._lanes.block[some]
            counts = np.bincount(owners, minlength=len(self._positions))
            rank = np.arange(len(some)) - (np.cumsum(counts) - counts)[owners]
            high = x[some] << _WORD
            places = np.minimum(self._positions[owners] + rank, len(self._words) - 1)
            high |= self._words[places]
            x[some] = high
            self._positions += counts

    def _open(self, lengths: Ints, owner: Ints) -> Ints:
        """The open bits of values, given how many each has and its block."""
        ends = np.cumsum(np.bincount(owner, minlength=len(self._decoders)))
        parts = [
            decoder.take_open(part)
            for decoder, part in zip(self._decoders, np.split(lengths, ends[:-1]), strict=True)
            if len(part)
        ]
        return np.concatenate(parts)

    def take_signs(self, counts: Ints) -> npt.NDArray[np.bool_]:
        """All signs, bool (n,), so many of each block, int64 (blocks,), after all stages; True is
        negative.

        Raises:
            BitstreamError: a block is longer or shorter than what it holds.
        """
        states = np.split(self._states, self._lanes.ends[:-1])
        positions = self._positions - self._begins
        signs = []
        for decoder, own, position, count in zip(
            self._decoders, states, positions.tolist(), counts.tolist(), strict=True
        ):
            decoder.states, decoder.position = own, position
            signs.append(decoder.take_signs(count))
        return np.concatenate(signs)


def _parted(values: npt.NDArray[Any], block: Sequence[Ints], count: int) -> list[npt.NDArray[Any]]:
    """The values of each of so many blocks, in their order, given the block of each value."""
    owner = np.concatenate([_NONE, *block])
    ends = np.cumsum(np.bincount(owner, minlength=count))
    return np.split(values[np.argsort(owner, kind="stable")], ends[:-1])
