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
# Frames from which on graphs are bound to arrays, which costs as much as it saves in a few.
_WORTH_BINDING = 8

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
        before, reach = past.symbols.shape[1], self._reach
        symbols = np.zeros((self.channels, before + steps), np.int32)
        symbols[:, :before] = past.symbols
        setting, bound = _setting(level), None
        for step in range(before, before + steps):
            if bound is None and step >= reach and before + steps - step >= _WORTH_BINDING:
                bound = _Bound(self._history, self._heads, self.slices, reach, setting)
            if bound is not None:
                bound.give(symbols[:, step - reach : step])
            else:
                here = symbols[:, max(0, step - reach) : step + 1]
                summary, numbers = self._given(here, here.shape[1] - 1, setting)
            begin = 0
            for number, (head, own) in enumerate(zip(self._heads, self.slices, strict=True)):
                if bound is not None:
                    part = bound.asked(number)
                else:
                    known = here[:begin, -1:]
                    found = _asked(head, own, setting, summary, numbers, known)
                    part = Distribution(found.index[:, 0], found.middle[:, 0])
                taken = take(part)
                symbols[begin : begin + own, step] = taken
                if bound is not None:
                    bound.frame[begin : begin + own] = taken
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


class _Bound:
    """The graphs, bound to arrays of one frame with all that bears on it before: the numbers that
    `_asked` gives, without what a call of a graph costs."""

    def __init__(
        self,
        history: Graph,
        heads: Sequence[Graph],
        slices: Sequence[int],
        reach: int,
        setting: Floats,
    ) -> None:
        channels, width = sum(slices), int(history.outputs[0].shape[1])
        # As where nothing is bound: a first frame of zeros, then those that bear on this one.
        self._before = np.zeros((1, channels, 1, reach + 1), np.float32)
        self._numbers = np.zeros((1, 2 * channels, 1, 1), np.float32)
        self._summaries = np.zeros((1, width, 1, reach + 1), np.float32)
        self._summary = np.zeros((1, width, 1, 1), np.float32)
        # The frame's symbols, as they become known.
        known = np.zeros((1, channels, 1, 1), np.float32)
        self.frame: Floats = known[0, :, 0, 0]
        self._summarize = history.bind([setting, self._before], [self._summaries])
        self._heads: list[tuple[Callable[[], None], Graph, Symbols, Symbols]] = []
        begin = 0
        for head, own in zip(heads, slices, strict=True):
            index, middle = np.zeros((2, 1, own, 1, 1), np.int32)
            given = [setting, self._summary, self._numbers]
            if begin:
                given.append(known[:, :begin])
            run = head.bind(given, [index, middle])
            self._heads.append((run, head, index[0, :, 0, 0], middle[0, :, 0, 0]))
            begin += own

    def give(self, before: Symbols) -> None:
        """The frames before this one that bear on it, (channels, reach)."""
        self._before[0, :, 0, 1:] = before
        numbers = self._numbers.reshape(2, -1)
        numbers[0], numbers[1] = before[:, -1], before[:, -2]
        np.clip(numbers, -SIGNED_LIMIT, SIGNED_LIMIT, out=numbers)
        self._summarize()
        self._summary[..., 0] = self._summaries[..., -1]

    def asked(self, number: int) -> Distribution:
        """What the graph of a slice says, by `frame` up to there."""
        run, head, index, middle = self._heads[number]
        run()
        _check_scales(head, index)
        return Distribution(index.astype(np.int64), middle.astype(np.int64))


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
    _check_scales(head, index)
    return Distribution(index[0, :, 0].astype(np.int64), middle[0, :, 0].astype(np.int64))


def _check_scales(head: Graph, index: npt.NDArray[np.integer]) -> None:
    low, high = int(index.min(initial=0)), int(index.max(initial=0))
    if low < 0 or high >= SCALES:
        raise BundleError(
            f"{head.file.name} gives index {low if low < 0 else high}, expected 0 to {SCALES - 1}"
        )


def _setting(level: int) -> Floats:
    return np.full((1, 1, 1, 1), level, np.float32)
