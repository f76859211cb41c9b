"""How the symbols of a frame of speech are distributed, by those before: graphs of exact integers.

Like `edgeae.signal.contexts`, without matches: one graph makes a summary of the frames before each
frame, and one a slice says of its channels, from that, from the two frames before and from the
slices of the frame that are coded before, an index of a scale and a middle in eighths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from edgeae.coding.context import SCALES
from edgeae.errors import BundleError
from edgeae.runtime import Graph
from edgeae.signal.contexts import SIGNED_LIMIT, Distribution, Past, Symbols

__all__ = ["SpeechContexts"]

# Frames that are worked on at a time.
_CHUNK_FRAMES = 4096
# So few frames, with those that bear on them, are worked on in arrays that graphs are bound to and
# that are kept: there a call costs more than the graph does.
_FEW_FRAMES = 32

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
        # By their shapes, what is not in use: each is taken out by one thread and put back.
        self._idle: defaultdict[tuple[int, int], list[_Bound]] = defaultdict(list)

    def past(self) -> Past:
        """Nothing known yet."""
        return Past(self.channels, self._reach)

    def distribution(self, past: Past, symbols: Symbols, level: int) -> Distribution:
        """Of symbols int32 (channels, frames), each by the past and the symbols before it."""
        known, parts = past.symbols, []
        for begin in range(0, symbols.shape[1], _CHUNK_FRAMES):
            together = np.concatenate([known, symbols[:, begin : begin + _CHUNK_FRAMES]], axis=1)
            parts.append(self._chunk(together, known.shape[1], level))
            known = together[:, -self._reach :]
        return _side_by_side(parts)

    def distributions(self, parts: Sequence[tuple[Past, Symbols]], level: int) -> Distribution:
        """What `distribution` gives of each part, (channels, frames of all), side by side."""
        return _side_by_side([self.distribution(*part, level) for part in parts])

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
        for step in range(before, before + steps):
            here = symbols[:, max(0, step - reach) : step + 1]
            with self._lent(here.shape[1], 1) as bound:
                bound.give(here, level)
                begin = 0
                for number, own in enumerate(self.slices):
                    part = bound.asked(number)
                    taken = take(Distribution(part.index[:, 0], part.middle[:, 0]))
                    symbols[begin : begin + own, step] = taken
                    bound.know(begin, taken[:, None])
                    begin += own
        return symbols[:, before:]

    def _chunk(self, symbols: Symbols, first: int, level: int) -> Distribution:
        """Of the frames from `first` on."""
        found, begin = [], 0
        if symbols.shape[1] <= _FEW_FRAMES:
            with self._lent(symbols.shape[1], symbols.shape[1] - first) as bound:
                bound.give(symbols, level)
                for number, own in enumerate(self.slices):
                    found.append(bound.asked(number))
                    bound.know(begin, symbols[begin : begin + own, first:])
                    begin += own
        else:
            setting = _setting(level)
            summary, numbers = self._given(symbols, first, setting)
            for head, own in zip(self._heads, self.slices, strict=True):
                known = symbols[:begin, first:]
                found.append(_asked(head, own, setting, summary, numbers, known))
                begin += own
        return Distribution(
            np.concatenate([part.index for part in found]),
            np.concatenate([part.middle for part in found]),
        )

    @contextmanager
    def _lent(self, frames: int, asked: int) -> Iterator[_Bound]:
        """What is bound to so many frames, of which the last so many are asked for."""
        idle = self._idle[frames, asked]
        try:
            bound = idle.pop()
        except IndexError:
            bound = _Bound(self._history, self._heads, self.slices, frames, asked)
        yield bound
        # What an exception left half done is not used again.
        idle.append(bound)

    def _given(self, symbols: Symbols, first: int, setting: Floats) -> tuple[Floats, Floats]:
        """Of the frames from `first` on, the summary of those before, and the last two."""
        padded = np.zeros((self.channels, symbols.shape[1] + 1), np.float32)
        padded[:, 2:] = symbols[:, :-1]
        (summary,) = self._history(setting, np.ascontiguousarray(padded[None, :, None, 1:]))
        numbers = np.concatenate([padded[:, 1 + first :], padded[:, first:-1]])
        np.clip(numbers, -SIGNED_LIMIT, SIGNED_LIMIT, out=numbers)
        return np.ascontiguousarray(summary[..., first:]), numbers[None, :, None]


class _Bound:
    """The graphs, bound to arrays of a few frames: the numbers that `_asked` gives, without what a
    call of a graph costs, and what is asked again is not worked out again."""

    def __init__(
        self,
        history: Graph,
        heads: Sequence[Graph],
        slices: Sequence[int],
        frames: int,
        asked: int,
    ) -> None:
        channels, width = sum(slices), int(history.outputs[0].shape[1])
        self._setting = _setting(-1)
        # Behind what is before them all, zeros, each frame but the last.
        self._before = np.zeros((1, channels, 1, frames), np.float32)
        self._numbers = np.zeros((1, 2 * channels, 1, asked), np.float32)
        self._summaries = np.zeros((1, width, 1, frames), np.float32)
        # Where all are asked for nothing has to be copied.
        self._summary = self._summaries
        if asked < frames:
            self._summary = np.zeros((1, width, 1, asked), np.float32)
        # The frames' symbols, as they become known.
        self._known = np.zeros((1, channels, 1, asked), np.float32)
        self._summarize = history.bind([self._setting, self._before], [self._summaries])
        self._heads: list[tuple[Callable[[], None], Graph, Symbols, Symbols]] = []
        begin = 0
        for head, own in zip(heads, slices, strict=True):
            index, middle = np.zeros((2, 1, own, 1, asked), np.int32)
            given = [self._setting, self._summary, self._numbers]
            if begin:
                given.append(self._known[:, :begin])
            run = head.bind(given, [index, middle])
            self._heads.append((run, head, index[0, :, 0], middle[0, :, 0]))
            begin += own
        # What the first slices say of what is given now.
        self._said: list[Distribution] = []
        self._ends = np.cumsum(slices).tolist()

    def give(self, symbols: Symbols, level: int) -> None:
        """The frames (channels, frames); nothing of those that are asked for is known yet, and of
        the last one nothing is looked at."""
        frames, asked = self._before.shape[3], self._numbers.shape[3]
        before = self._before[0, :, 0, 1:]
        if self._setting[0, 0, 0, 0] == level and np.array_equal(before, symbols[:, :-1]):
            return
        self._said.clear()
        self._setting[...] = level
        before[...] = symbols[:, :-1]
        numbers = self._numbers.reshape(2, -1, asked)
        numbers[0] = self._before[0, :, 0, frames - asked :]
        earlier = max(0, frames - asked - 1)
        numbers[1, :, asked - (frames - 1 - earlier) :] = self._before[0, :, 0, earlier:-1]
        np.clip(numbers, -SIGNED_LIMIT, SIGNED_LIMIT, out=numbers)
        self._summarize()
        if self._summary is not self._summaries:
            self._summary[...] = self._summaries[..., frames - asked :]

    def know(self, begin: int, symbols: npt.NDArray[np.integer]) -> None:
        """The symbols (n, asked) of a slice whose first channel is `begin`."""
        known = self._known[0, begin : begin + len(symbols), 0]
        if not np.array_equal(known, symbols):
            del self._said[self._ends.index(begin + len(symbols)) + 1 :]
            known[...] = symbols

    def asked(self, number: int) -> Distribution:
        """What the graph of a slice says, by the slices that are known before it."""
        if number == len(self._said):
            run, head, index, middle = self._heads[number]
            run()
            _check_scales(head, index)
            self._said.append(Distribution(index.astype(np.int64), middle.astype(np.int64)))
        return self._said[number]


def _side_by_side(parts: Sequence[Distribution]) -> Distribution:
    """Distributions (channels, frames of each) one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Distribution(
        np.concatenate([part.index for part in parts], axis=1),
        np.concatenate([part.middle for part in parts], axis=1),
    )


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
