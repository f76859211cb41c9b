"""How the symbols of a frame of speech are distributed, by those before: graphs of exact integers.

Like `edgeae.signal.contexts`, without matches: one graph makes a summary of the frames before each
frame, and one a slice says of its channels, from that, from the two frames before and from the
slices of the frame that are coded before, an index of a scale and a middle in eighths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edgeae.coding.context import SCALES
from edgeae.errors import BundleError
from edgeae.runtime import Graph
from edgeae.signal.contexts import SIGNED_LIMIT, Distribution, Past, Symbols

__all__ = ["SpeechContexts"]

# Frames that are worked on at a time.
_CHUNK_FRAMES = 4096

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class SpeechContexts:
    """The context model of a speech codec; safe to use from many threads."""

    def __init__(self, slices: Sequence[int], reach: int, graphs: Sequence[Graph]) -> None:
        """
        Args:
            slices: of the symbols of a frame, in their order.
            reach: frames before a frame that bear on it.
            graphs: that of the past, then one of each slice.
        """
        self.slices = tuple(slices)
        self.channels = sum(slices)
        self._reach = max(2, reach)
        self._history, self._heads = graphs[0], tuple(graphs[1:])

    def past(self) -> Past:
        """Nothing known yet."""
        return Past(self.channels, self._reach)

    def distribution(self, past: Past, symbols: Symbols, level: int) -> Distribution:
        """Of symbols int32 (channels, frames), each by the past and the symbols before it."""
        setting, known, parts = _setting(level), past.symbols, []
        for begin in range(0, symbols.shape[1], _CHUNK_FRAMES):
            together = np.concatenate([known, symbols[:, begin : begin + _CHUNK_FRAMES]], axis=1)
            parts.append(self._chunk(together, known.shape[1], setting))
            known = together[:, -self._reach :]
        return Distribution(
            np.concatenate([part.index for part in parts], axis=1),
            np.concatenate([part.middle for part in parts], axis=1),
        )

    def distributions(self, parts: Sequence[tuple[Past, Symbols]], level: int) -> Distribution:
        """What `distribution` gives of each part, (channels, frames of all), side by side."""
        found = [self.distribution(past, symbols, level) for past, symbols in parts]
        return Distribution(
            np.concatenate([part.index for part in found], axis=1),
            np.concatenate([part.middle for part in found], axis=1),
        )

    def decode(
        self, past: Past, steps: int, level: int, take: Callable[[Distribution], Ints]
    ) -> Symbols:
        """The symbols int32 (channels, steps) that follow the past, frame by frame.

        `take` gives the symbols of a distribution of (channels,) of one slice. Raises what it
        raises.
        """
        before = past.symbols.shape[1]
        symbols = np.zeros((self.channels, before + steps), np.int32)
        symbols[:, :before] = past.symbols
        setting = _setting(level)
        for step in range(before, before + steps):
            first = max(0, step - self._reach)
            here = symbols[:, first : step + 1]
            summary, numbers = self._given(here, step - first, setting)
            begin = 0
            for head, own in zip(self._heads, self.slices, strict=True):
                known = here[:begin, -1:]
                part = _asked(head, own, setting, summary, numbers, known)
                symbols[begin : begin + own, step] = take(
                    Distribution(part.index[:, 0], part.middle[:, 0])
                )
                begin += own
        return symbols[:, before:]

    def _chunk(self, symbols: Symbols, first: int, setting: Floats) -> Distribution:
        """Of the frames from `first` on."""
        summary, numbers = self._given(symbols, first, setting)
        found, begin = [], 0
        for head, own in zip(self._heads, self.slices, strict=True):
            found.append(_asked(head, own, setting, summary, numbers, symbols[:begin, first:]))
            begin += own
        return Distribution(
            np.concatenate([part.index for part in found]),
            np.concatenate([part.middle for part in found]),
        )

    def _given(self, symbols: Symbols, first: int, setting: Floats) -> tuple[Floats, Floats]:
        """Of the frames from `first` on, the summary of those before, and the last two."""
        padded = np.zeros((self.channels, symbols.shape[1] + 1), np.float32)
        padded[:, 2:] = symbols[:, :-1]
        (summary,) = self._history(setting, np.ascontiguousarray(padded[None, :, None, 1:]))
        numbers = np.concatenate([padded[:, 1 + first :], padded[:, first:-1]])
        np.clip(numbers, -SIGNED_LIMIT, SIGNED_LIMIT, out=numbers)
        return np.ascontiguousarray(summary[..., first:]), numbers[None, :, None]


def _asked(
    head: Graph, own: int, setting: Floats, summary: Floats, numbers: Floats, known: Symbols
) -> Distribution:
    """What the graph of a slice says; `known` are the frames' symbols before it, (n, frames)."""
    given = [setting, summary, numbers]
    if len(known):
        given.append(known.astype(np.float32)[None, :, None])
    index, middle = head(*given)
    shape = (1, own, 1, summary.shape[3])
    if index.shape != shape or middle.shape != shape:
        raise BundleError(f"{head.file.name} gives shape {index.shape}, expected {shape}")
    low, high = int(index.min(initial=0)), int(index.max(initial=0))
    if low < 0 or high >= SCALES:
        raise BundleError(
            f"{head.file.name} gives index {low if low < 0 else high}, expected 0 to {SCALES - 1}"
        )
    return Distribution(index[0, :, 0].astype(np.int64), middle[0, :, 0].astype(np.int64))


def _setting(level: int) -> Floats:
    return np.full((1, 1, 1, 1), level, np.float32)
