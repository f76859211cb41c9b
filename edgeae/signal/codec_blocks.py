"""Blocks of a signal to bytes and back, of latents and of exact samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeae.coding.context import SYMBOL_LIMIT
from edgeae.coding.single_lane import Decoder, FineTables, encode
from edgeae.errors import BitstreamError
from edgeae.signal.contexts import (
    Distribution,
    Past,
    Symbols,
    code_values,
    symbols_taken,
)
from edgeae.signal.exact import OWN_ORDER, ExactTables, decode_block, encode_block

__all__ = ["ContextModel", "ExactCoder", "LatentCoder"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
# At a high rate the distortion of a uniform quantizer is step ** 2 / 12 and falls by 2 ln 2 of
# itself a bit; so much of what a symbol nearer to its middle saves pays for what it loses.
# train/signal/codec_context.py, behind the wall, has the same numbers.
_ERROR_PER_BIT = 2 * np.log(2) / 12
_STEPS = 0.8
# Steps of short blocks that are worked on together.
_TOGETHER_STEPS = 1024


class ContextModel(Protocol):
    """What says how symbols are distributed by those before them: `Contexts` and others like it."""

    def past(self) -> Past:
        """Nothing known yet."""

    def distributions(self, parts: Sequence[tuple[Past, Symbols]], level: int) -> Distribution:
        """Of parts (channels, steps), each symbol by its part's past and the symbols before it; all
        side by side."""

    def decode(
        self, past: Past, steps: int, level: int, take: Callable[[Distribution], Ints]
    ) -> Symbols:
        """The symbols (channels, steps) that follow the past, each slice's as `take` gives them."""


class LatentCoder:
    """Codes the latents of one lead, block after block; safe to use from many threads."""

    def __init__(
        self, contexts: ContextModel, tables: FineTables, steps: Floats, *, exact_channels: int = 0
    ) -> None:
        """
        Args:
            contexts: say how symbols are distributed.
            tables: of symbols.
            steps: the quantization steps, float32 (levels, channels).
            exact_channels: so many of the first channels are rounded to the nearest, whatever that
                costs.
        """
        self.contexts, self.tables, self.steps = contexts, tables, steps
        self._exact = exact_channels

    def quantize(self, latents: Floats, level: int, segments: Sequence[slice]) -> Symbols:
        """The symbols int32 (channels, steps) of latents.

        The segments follow each other from the first step to the last; each begins with a key.
        """
        scaled = latents / self.steps[level][:, None]
        np.clip(scaled, -SYMBOL_LIMIT, SYMBOL_LIMIT, out=scaled)
        found: Symbols = np.rint(scaled).astype(np.int32)
        for group in _groups(segments):
            parts = [(self.contexts.past(), found[:, segment]) for segment in group]
            known = self.contexts.distributions(parts, level)
            here = slice(group[0].start, group[-1].stop)
            nearer = self._nearer(scaled[:, here], found[:, here], known)
            found[self._exact :, here] = nearer[self._exact :]
        return found

    def _nearer(self, scaled: Floats, near: Symbols, known: Distribution) -> Symbols:
        """The nearest symbols, or those next to them towards the middle where that pays."""
        offset = near - known.middle / 8
        inner = (near - np.sign(offset) * (np.abs(offset) > 0.5)).astype(np.int32)
        some = np.nonzero((inner != near) & (np.abs(inner) < SYMBOL_LIMIT))
        if not len(some[0]):
            return near
        part = Distribution(known.index[some], known.middle[some])
        saved = self._bits(near[some], part) - self._bits(inner[some], part)
        values = scaled[some]
        lost = np.square(values - inner[some]) - np.square(values - near[some])
        found = near.copy()
        found[some] = np.where(lost < _STEPS * _ERROR_PER_BIT * saved, inner[some], near[some])
        return found

    def _bits(self, symbols: Symbols, known: Distribution) -> npt.NDArray[np.float64]:
        tables = known.tables
        values = code_values(symbols, known) >> self.tables.shifts[tables].astype(np.int64)
        last = self.tables.bits.shape[1] - 1
        bits: npt.NDArray[np.float64] = self.tables.bits[tables, np.minimum(values, last)]
        return bits

    def encode(self, past: Past, symbols: Symbols, level: int) -> bytes:
        """The coded block of symbols (channels, steps), which are added to the past."""
        known = self.contexts.distributions([(past, symbols)], level)
        past.add(symbols)
        (block,) = self._coded(symbols, known, [slice(0, symbols.shape[1])])
        return block

    def encode_all(self, symbols: Symbols, level: int, steps: int, key_blocks: int) -> list[bytes]:
        """The coded blocks of symbols (channels, steps), `steps` long, the last may be shorter.

        Each block leans on those before it, but for the first and, if `key_blocks` is not 0, one in
        so many.
        """
        total = symbols.shape[1]
        slices = [slice(i, min(total, i + steps)) for i in range(0, total, steps)]
        past, blocks = self.contexts.past(), list[bytes]()
        for group in _groups(slices):
            parts = []
            for number, block in enumerate(group, len(blocks)):
                if key_blocks and number % key_blocks == 0:
                    past = self.contexts.past()
                parts.append((past, symbols[:, block]))
                if not key_blocks or (number + 1) % key_blocks:
                    past = past.followed_by(symbols[:, block])
            known = self.contexts.distributions(parts, level)
            blocks += self._coded(symbols, known, group)
        return blocks

    def _coded(self, symbols: Symbols, known: Distribution, slices: Sequence[slice]) -> list[bytes]:
        """The blocks of slices of symbols that follow each other, whose distributions are known."""
        first = slices[0].start
        # Step by step, in the order of the channels.
        values = code_values(symbols[:, first : slices[-1].stop], known).T
        tables = known.tables.T
        rows = [slice(one.start - first, one.stop - first) for one in slices]
        return [encode(self.tables.events(values[i].ravel(), tables[i].ravel())) for i in rows]

    def decode(self, past: Past, steps: int, block: bytes, level: int) -> Symbols:
        """The symbols (channels, steps) of a coded block, which are added to the past.

        Raises BitstreamError if it is damaged.
        """
        decoder = Decoder(self.tables, block)

        def take(known: Distribution) -> Ints:
            return symbols_taken(known, decoder.take_all)

        symbols = self.contexts.decode(past, steps, level, take)
        decoder.finish()
        past.add(symbols)
        return symbols


def _groups(parts: Sequence[slice]) -> Iterator[list[slice]]:
    """Parts that follow each other, as many at a time as are together no longer than
    `_TOGETHER_STEPS`, or one."""
    group: list[slice] = []
    for part in parts:
        if group and part.stop - group[0].start > _TOGETHER_STEPS:
            yield group
            group = []
        group.append(part)
    if group:
        yield group


class ExactCoder:
    """Codes whole numbers block after block; one for each signal."""

    def __init__(self, tables: ExactTables, channels: int) -> None:
        self._tables, self._channels = tables, channels
        self.reset()

    def reset(self) -> None:
        """What follows stands alone."""
        self._before: Ints = np.zeros((0, self._channels), np.int64)
        self._kept: Ints | None = None

    def encode(self, samples: Ints) -> bytes:
        """The block of samples (n, channels)."""
        block, self._kept = encode_block(self._tables, self._before, samples, self._kept)
        self._remember(samples)
        return block

    def decode(self, samples: int, block: bytes | memoryview) -> Ints:
        """The samples (n, channels) of a block. Raises BitstreamError if it is damaged."""
        try:
            found, self._kept = decode_block(self._tables, self._before, samples, block, self._kept)
        except OverflowError:
            raise BitstreamError("a coded block has numbers that no writer makes") from None
        self._remember(found)
        return found

    def _remember(self, samples: Ints) -> None:
        self._before = np.concatenate([self._before, samples])[-OWN_ORDER:]
