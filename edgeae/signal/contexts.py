"""How the symbols of a signal are distributed, by those before them: graphs of exact integers.

One graph makes a summary of the past of every step by causal convolutions, and one a slice says of
its channels, from that, from matches (`edgeae.signal.matches`) and from the slices of the step that
are coded before, where the middle of each symbol's distribution lies, in eighths, and which of 64
scales it has. All are causal, so an encoder, who knows all symbols, asks for all steps at once,
and a decoder for one after the other; they get the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.coding.context import FRACTIONS, MIDDLE_UNITS, SCALES, SYMBOL_LIMIT
from edgeae.errors import BitstreamError, BundleError
from edgeae.runtime import Graph
from edgeae.signal.matches import (
    Matches,
    MatchRule,
    changes,
    matches,
    matches_of_both_kinds,
    past_distances,
    refined,
)

__all__ = ["TABLES", "Contexts", "Distribution", "Past", "code_values", "symbols_taken"]

# A table for each scale and distance of the middle from the nearest whole number.
TABLES = SCALES * FRACTIONS
SIGNED_LIMIT = 1023
_HALF = MIDDLE_UNITS // 2
# How far a middle is from the nearest whole number, by its place behind the one below.
_SIDES = [min(place, MIDDLE_UNITS - place) for place in range(MIDDLE_UNITS)]
# Steps that are worked on at a time.
_CHUNK_STEPS = 1024
# Steps times lags of parts that are matched together: distances of 1 MB, as of one long part.
_TOGETHER = 1 << 18

Symbols = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Distribution:
    """Of symbols of any shape: an index of a scale, 0 to 63, and a middle in eighths, int64."""

    index: Ints
    middle: Ints

    @property
    def centers(self) -> Ints:
        """The whole number nearest to each middle."""
        return (self.middle + MIDDLE_UNITS // 2) // MIDDLE_UNITS

    @property
    def tables(self) -> Ints:
        """The table that codes each symbol's distance from its center."""
        fractions = np.abs(self.middle - MIDDLE_UNITS * self.centers)
        tables: Ints = self.index * FRACTIONS + fractions
        return tables

    @property
    def flipped(self) -> npt.NDArray[np.bool_]:
        """True where the middle lies below its center, so that sides change places."""
        return self.middle < MIDDLE_UNITS * self.centers


def code_values(symbols: Symbols, known: Distribution) -> Ints:
    """What is coded of symbols, int32 in their shape: 0, 1, 2, 3, 4 for distances 0, 1, -1, 2, -2
    from their centers, the side of the middle first."""
    offset = symbols - known.centers
    offset = np.where(known.flipped, -offset, offset)
    values: Ints = np.where(offset > 0, 2 * offset - 1, -2 * offset)
    return values


def symbols_taken(known: Distribution, take_all: Callable[[Sequence[int]], Sequence[int]]) -> Ints:
    """The symbols (channels,) that `code_values` was given, whose values `take_all` gives by their
    tables. Raises BitstreamError if one is beyond 30,000.

    In plain integers, for a few symbols at a time: there arrays take twice as long.
    """
    middles = known.middle.tolist()
    indices = known.index.tolist()
    tables = [
        FRACTIONS * i + _SIDES[m % MIDDLE_UNITS] for i, m in zip(indices, middles, strict=True)
    ]
    values = take_all(tables)
    # Odd values lie on the middle's side of its center, even ones opposite; a middle whose low
    # bits are half a unit or more lies below the center.
    symbols = [
        (m + _HALF) // MIDDLE_UNITS + (n + 1) // 2 * (1 if n % 2 != m // _HALF % 2 else -1)
        for n, m in zip(values, middles, strict=True)
    ]
    # An escape may stand for more than 64 bits hold.
    if max(symbols) > SYMBOL_LIMIT or min(symbols) < -SYMBOL_LIMIT:
        raise BitstreamError(f"a coded block has a symbol beyond {SYMBOL_LIMIT}")
    return np.array(symbols, np.int64)


class Past:
    """Symbols since the last key, as many as may bear on the next step."""

    def __init__(self, channels: int, reach: int) -> None:
        self._reach = reach
        self.symbols: Symbols = np.zeros((channels, 0), np.int32)

    def add(self, symbols: Symbols) -> None:
        """Takes in the steps (channels, steps) that came."""
        together = np.concatenate([self.symbols, symbols], axis=1)
        self.symbols = together[:, -self._reach :]

    def followed_by(self, symbols: Symbols) -> Past:
        """This past and the steps (channels, steps) that came; this one stays as it is."""
        found = Past(len(self.symbols), self._reach)
        found.symbols = self.symbols
        found.add(symbols)
        return found


class Contexts:
    """The context model of a signal codec; safe to use from many threads."""

    def __init__(
        self, slices: Sequence[int], rule: MatchRule, reach: int, graphs: Sequence[Graph]
    ) -> None:
        """
        Args:
            slices: of the latent channels, in their order.
            rule: of matches.
            reach: steps before a step that the first graph looks at.
            graphs: that of the past, then one of each slice.
        """
        self.slices = tuple(slices)
        self.channels = sum(slices)
        self._rule, self._reach = rule, reach
        self._history, self._heads = graphs[0], tuple(graphs[1:])

    def past(self) -> Past:
        """Nothing known yet."""
        # One more step than bears on the next: the first's change would be wrong.
        return Past(self.channels, max(self._reach, self._rule.reach) + 8)

    def distribution(self, past: Past, symbols: Symbols, level: int) -> Distribution:
        """Of symbols int32 (channels, steps), each by the past and the symbols before it."""
        return self.distributions([(past, symbols)], level)

    def distributions(self, parts: Sequence[tuple[Past, Symbols]], level: int) -> Distribution:
        """What `distribution` gives of each part, (channels, steps of all), side by side.

        The graphs of slices look at one step alone and run on many short parts at once.
        """
        found: list[Distribution] = []
        pieces: list[tuple[Symbols, int]] = []
        steps = 0
        for past, symbols in parts:
            known = past.symbols
            for begin in range(0, symbols.shape[1], _CHUNK_STEPS):
                here = symbols[:, begin : begin + _CHUNK_STEPS]
                if pieces and steps + here.shape[1] > _CHUNK_STEPS:
                    found.append(self._chunk(pieces, level))
                    pieces, steps = [], 0
                together = np.concatenate([known, here], axis=1)
                pieces.append((together, known.shape[1]))
                steps += here.shape[1]
                known = together[:, -(max(self._reach, self._rule.reach) + 8) :]
        if pieces:
            found.append(self._chunk(pieces, level))
        return Distribution(
            np.concatenate([part.index for part in found], axis=1),
            np.concatenate([part.middle for part in found], axis=1),
        )

    def _chunk(self, pieces: Sequence[tuple[Symbols, int]], level: int) -> Distribution:
        """Of the steps of each piece from its first on, side by side."""
        setting = _setting(level)
        order = sorted(range(len(pieces)), key=lambda i: (pieces[i][0].shape[1], pieces[i][1]))
        groups = _alike([pieces[i] for i in order])
        given = [self._given(np.stack(alike), first, setting) for alike, first in groups]
        summary, here, *inputs = (_joined(arrays) for arrays in zip(*given, strict=True))
        found, begin = [], 0
        for head, own in zip(self._heads, self.slices, strict=True):
            seen, numbers = inputs[2:] if begin >= self._rule.refine_channels else inputs[:2]
            known = here[:, :begin]
            found.append(self._head(head, own, setting, summary, (seen, numbers), known))
            begin += own
        columns = _columns(pieces, order)
        return Distribution(
            np.concatenate([part.index for part in found])[:, columns],
            np.concatenate([part.middle for part in found])[:, columns],
        )

    def _given(self, parts: Symbols, first: int, setting: Floats) -> tuple[Floats, ...]:
        """What heads see of the steps from `first` on of parts (parts, channels, steps), one part
        after the other: summary, symbols, and the inputs of those before and after the own channels
        refine the matches."""
        last = parts.shape[2]
        summaries = [self._summary(symbols, first, setting) for symbols in parts]
        change = changes(parts if len(parts) > 1 else parts[0])
        by_past, by_step = matches_of_both_kinds(change, first, last, self._rule)
        before = np.stack([_beside(_earlier(parts, first, last, lag)) for lag in (1, 2)])
        past, step = self._matched(by_past, before), self._matched(by_step, before)
        early, late = self._inputs(before, past, past), self._inputs(before, past, step)
        here = _planes(_beside(parts[:, :, first:]))
        return _joined(summaries), here, *early, *late

    def decode(
        self,
        past: Past,
        steps: int,
        level: int,
        take: Callable[[Distribution], Ints],
    ) -> Symbols:
        """The symbols int32 (channels, steps) that follow the past, step by step.

        `take` gives the symbols of a distribution of (channels,) of one slice. Raises what it
        raises.
        """
        before = past.symbols.shape[1]
        symbols = np.zeros((self.channels, before + steps), np.int32)
        symbols[:, :before] = past.symbols
        change = np.zeros_like(symbols)
        change[:, :before] = changes(past.symbols)
        setting = _setting(level)
        for step in range(before, before + steps):
            summary = self._summary(symbols[:, : step + 1], step, setting)
            distances = past_distances(change, step, step + 1, self._rule)
            before_it = self._before(symbols, step, step + 1)
            by_past = self._matched(matches(distances, change, step + 1, self._rule), before_it)
            inputs = self._inputs(before_it, by_past, by_past)
            refines, begin = True, 0
            for head, own in zip(self._heads, self.slices, strict=True):
                if refines and begin >= self._rule.refine_channels:
                    found = refined(distances, change, step + 1, self._rule)
                    inputs = self._inputs(before_it, by_past, self._matched(found, before_it))
                    refines = False
                known = _planes(symbols[:begin, step : step + 1])
                part = self._head(head, own, setting, summary, inputs, known)
                values = take(Distribution(part.index[:, 0], part.middle[:, 0]))
                symbols[begin : begin + own, step] = values
                change[begin : begin + own, step] = values
                if begin == 0 and step:
                    change[0, step] -= symbols[0, step - 1]
                begin += own
        return symbols[:, before:]

    def _summary(self, symbols: Symbols, first: int, setting: Floats) -> Floats:
        """What the first graph says of the steps from `first` on."""
        begin = max(0, first - self._reach + 1)
        shifted = np.zeros((self.channels, symbols.shape[1] - begin), np.float32)
        if begin:
            shifted[:] = symbols[:, begin - 1 : -1]
        else:
            shifted[:, 1:] = symbols[:, :-1]
        (summary,) = self._history(setting, shifted[None, :, None])
        return summary[..., first - begin :]

    def _before(self, symbols: Symbols, first: int, last: int) -> Floats:
        """The symbols one and two steps before each step, (2, channels, steps)."""
        return np.stack([_earlier(symbols, first, last, lag) for lag in (1, 2)])

    def _matched(self, found: Matches, before: Floats) -> tuple[Floats, Floats]:
        """What heads see of matches of one kind, (n, steps), and the symbols of the best."""
        planes = found.changes.copy()
        planes[:, 0] += before[0, 0]
        np.clip(planes, -SIGNED_LIMIT, SIGNED_LIMIT, out=planes)
        seen = np.concatenate([planes.reshape(-1, planes.shape[2]), found.nearness])
        return seen, planes[0]

    def _inputs(
        self, before: Floats, first: tuple[Floats, Floats], second: tuple[Floats, Floats]
    ) -> tuple[Floats, Floats]:
        """What a head sees of matches of two kinds, and the numbers for its last layer, (1, n, 1,
        steps)."""
        numbers = np.concatenate([*before, first[1], second[1]])
        np.clip(numbers, -SIGNED_LIMIT, SIGNED_LIMIT, out=numbers)
        return _planes(np.concatenate([first[0], second[0]])), _planes(numbers)

    def _head(
        self,
        head: Graph,
        own: int,
        setting: Floats,
        summary: Floats,
        inputs: tuple[Floats, Floats],
        known: Floats,
    ) -> Distribution:
        given = [setting, summary, *inputs]
        if known.shape[1]:
            given.append(known)
        index, middle = head(*given)
        shape = (1, own, 1, summary.shape[3])
        if index.shape != shape or middle.shape != shape:
            raise BundleError(f"{head.file.name} gives shape {index.shape}, expected {shape}")
        low, high = int(index.min(initial=0)), int(index.max(initial=0))
        if low < 0 or high >= SCALES:
            raise BundleError(
                f"{head.file.name} gives index {low if low < 0 else high}, expected 0 to "
                f"{SCALES - 1}"
            )
        return Distribution(index[0, :, 0].astype(np.int64), middle[0, :, 0].astype(np.int64))


def _setting(level: int) -> Floats:
    return np.full((1, 1, 1, 1), level, np.float32)


def _planes(values: npt.NDArray[np.generic]) -> Floats:
    """(n, steps) as a graph takes it."""
    return np.ascontiguousarray(values, np.float32)[None, :, None]


def _earlier(symbols: Symbols, first: int, last: int, lag: int) -> Floats:
    """The symbols so many steps before each step, zero before the first, float32."""
    found = np.zeros((*symbols.shape[:-1], last - first), np.float32)
    begin = max(0, first - lag)
    there = symbols[..., begin : max(begin, last - lag)]
    found[..., last - first - there.shape[-1] :] = there
    return found


def _columns(pieces: Sequence[tuple[Symbols, int]], order: Sequence[int]) -> Ints | slice:
    """Where the steps of pieces are that were put into another order."""
    if len(pieces) == 1:
        return slice(None)
    lengths = [symbols.shape[1] - first for symbols, first in pieces]
    begins = np.zeros(len(pieces), np.int64)
    begins[order] = np.cumsum([0, *(lengths[i] for i in order[:-1])])
    found: Ints = np.concatenate(
        [begin + np.arange(length) for begin, length in zip(begins, lengths, strict=True)]
    )
    return found


def _beside(parts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(channels, steps of all) of parts (parts, channels, steps), one after the other."""
    if len(parts) == 1:
        only: npt.NDArray[Any] = parts[0]
        return only
    side_by_side: npt.NDArray[Any] = parts.transpose(1, 0, 2).reshape(parts.shape[1], -1)
    return side_by_side


def _joined(arrays: Sequence[Floats]) -> Floats:
    """Arrays (..., steps) side by side."""
    return np.concatenate(arrays, axis=-1) if len(arrays) > 1 else arrays[0]


def _alike(pieces: Sequence[tuple[Symbols, int]]) -> Iterator[tuple[list[Symbols], int]]:
    """Pieces that follow each other, and where they begin: together where they have the same sizes,
    so many at a time that their matches stay small."""
    group: list[Symbols] = []
    begin = 0
    for symbols, first in pieces:
        size = (len(group) + 1) * (symbols.shape[1] - first) * symbols.shape[1]
        same = bool(group) and (group[0].shape, begin) == (symbols.shape, first)
        if group and (not same or size > _TOGETHER):
            yield group, begin
            group = []
        group.append(symbols)
        begin = first
    if group:
        yield group, begin
