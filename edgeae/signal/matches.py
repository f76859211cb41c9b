"""Where a signal has looked like now before, and what followed there: found among symbols that a
decoder has already, so that nothing is sent.

Everything is whole numbers. Squared distances of clipped symbols stay below 2 ** 24, so that their
products may be worked out in float32 and are exact in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

__all__ = [
    "MATCHES",
    "MatchRule",
    "Matches",
    "changes",
    "matches",
    "matches_of_both_kinds",
    "past_distances",
    "refined",
]

MATCHES = 3
MATCH_LIMIT = 255
# floor(log2(1 + distance)) where there is no match.
NO_MATCH = 31
# Beyond every distance, with and without what refines it, and what has been taken.
_FAR, _TAKEN = 1 << 29, (1 << 31) - 1
# Rows worked on at a time: their distances then stay in a processor's near memory.
_ROWS = 64
# Products of matrices with so many multiplications are worked out by one thread in OpenBLAS, which
# numpy brings (interface/gemm.c: SMP_THRESHOLD_MIN * GEMM_MULTITHREAD_THRESHOLD). More threads
# take several times the processor's time for such small ones.
_ONE_THREAD = 1 << 18

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MatchRule:
    """Which earlier steps count as like this one.

    Attributes:
        nearest, furthest: lags in steps that are looked at, at most 4095.
        history: weights of the steps before, the latest first, on squared differences of symbols.
        refine_channels: how many channels of this step count too once they are known.
        refine_weight: their weight.
    """

    nearest: int
    furthest: int
    history: tuple[int, ...]
    refine_channels: int
    refine_weight: int

    @property
    def reach(self) -> int:
        """How many steps before a step may bear on its matches."""
        return self.furthest + len(self.history) + 1


@dataclass(frozen=True)
class Matches:
    """The best matches of some steps.

    Attributes:
        changes: of the symbols that followed each match, float32 (MATCHES, channels, rows); zero
            where there is none.
        nearness: floor(log2(1 + distance)), float32 (MATCHES, rows).
    """

    changes: Floats
    nearness: Floats


class _Steps:
    """Steps as the factors of a product that gives their squared distances, the latest first.

    |a - b|^2 is |a|^2 * 1 + 1 * |b|^2 - 2 a * b: norms come along as two channels more.
    """

    def __init__(self, change: npt.NDArray[np.int32], last: int, count: int) -> None:
        """Of the `count` steps of `change` (..., channels, steps) before the step `last`, clipped;
        zeros stand before the first."""
        there = np.zeros((*change.shape[:-1], count), np.float32)
        known = change[..., max(0, last - count) : last]
        there[..., : known.shape[-1]] = known[..., ::-1]
        np.clip(there, -MATCH_LIMIT, MATCH_LIMIT, out=there)
        norms = np.square(there).sum(axis=-2, keepdims=True)
        ones = np.ones_like(norms)
        factors = np.concatenate([there, norms, ones], axis=-2)
        self.rows = np.ascontiguousarray(factors.swapaxes(-1, -2))
        self.columns = np.concatenate([-2 * there, ones, norms], axis=-2)

    def distances(self, skip: int, rows: int, columns: int) -> Ints:
        """Squared distances, int32 (..., rows + 1, columns), of rows to columns, both from the step
        that lies so many before the last; the last row is none."""
        left = self.rows[..., skip : skip + rows, :]
        right = self.columns[..., skip : skip + columns]
        found = np.zeros((*left.shape[:-2], rows + 1, columns), np.float32)
        some = max(1, _ONE_THREAD // (right.shape[-2] * right.shape[-1]))
        for begin in range(0, rows, some):
            end = min(rows, begin + some)
            np.matmul(left[..., begin:end, :], right, out=found[..., begin:end, :])
        return found.astype(np.int32)


@dataclass(frozen=True)
class _Best:
    """The best matches of rows: how many steps back each lies, beyond the nearest lag, and its
    distance; (MATCHES, ..., rows) both, whole numbers."""

    place: npt.NDArray[np.intp]
    distance: Ints


def changes(symbols: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """What is compared of symbols (..., channels, steps): the first channel, which follows the
    baseline, by its change from step to step."""
    found = symbols.copy()
    found[..., 0, 1:] -= symbols[..., 0, :-1]
    return found


def matches_of_both_kinds(
    change: npt.NDArray[np.int32], first: int, last: int, rule: MatchRule
) -> tuple[Matches, Matches]:
    """Matches of the steps `first` to `last` (exclusive) of `change` (channels, steps) by the steps
    before them, and by their own first channels too: what `matches` and `refined` give.

    `change` may be (parts, channels, steps) of parts that know nothing of each other: rows are then
    those of all parts, one part after the other.
    """
    # A lag that leads to before the first step matches none: after a key few lags are left.
    there = max(last - 1, rule.nearest + MATCHES - 1)
    rule = replace(rule, furthest=min(rule.furthest, there))
    count = last - first
    steps = _Steps(change, last, count + rule.furthest + len(rule.history))
    own = _Steps(change[..., : rule.refine_channels, :], last, count + rule.furthest)
    by_past, by_step = [], []
    for end in range(last, first, -_ROWS):
        rows = min(_ROWS, end - first)
        distances = _past(steps, end, last - end, rows, rule)
        by_step.append(_best(_with_own(distances, own, last - end, rule)))
        by_past.append(_best(distances))
    return _followed(by_past, change, last, rule), _followed(by_step, change, last, rule)


def matches(distances: Ints, change: npt.NDArray[np.int32], last: int, rule: MatchRule) -> Matches:
    """Matches of the steps before the step `last`, by what `past_distances` gives of them."""
    return _followed([_best(distances.copy())], change, last, rule)


def refined(distances: Ints, change: npt.NDArray[np.int32], last: int, rule: MatchRule) -> Matches:
    """As `matches`, by the steps' own first channels too, which must be known in `change`."""
    own = _Steps(change[: rule.refine_channels], last, len(distances) + rule.furthest)
    return _followed([_best(_with_own(distances, own, 0, rule))], change, last, rule)


def past_distances(change: npt.NDArray[np.int32], first: int, last: int, rule: MatchRule) -> Ints:
    """How far what came before each step is from what came before the steps before it, int32 (rows,
    lags): the latest step first, lags from the nearest on.

    Args:
        change: what `changes` gives of all steps known, int32 (channels, steps); before them there
            is nothing but zeros, or at least `rule.reach` steps are here.
        first, last: the steps; those of `change` before `last` - 1 must be known.
        rule: of the model.
    """
    rows = last - first
    steps = _Steps(change, last, rows + rule.furthest + len(rule.history))
    return _past(steps, last, 0, rows, rule)


def _past(steps: _Steps, last: int, skip: int, rows: int, rule: MatchRule) -> Ints:
    back = len(rule.history)
    error = steps.distances(skip, rows + back, rows + rule.furthest + back)
    found = np.zeros((*error.shape[:-2], rows, rule.furthest - rule.nearest + 1), np.int32)
    for k, weight in enumerate(rule.history, 1):
        part = _by_lag(error, k, rows, rule)
        found += part if weight == 1 else np.int32(weight) * part
    if last - rows < rule.furthest:
        # Before the first step there is none to match.
        lags = np.arange(rule.nearest, rule.furthest + 1)
        before = lags[None, :] > np.arange(last - 1, last - 1 - rows, -1)[:, None]
        np.copyto(found, np.int32(_FAR), where=before)
    return found


def _with_own(distances: Ints, own: _Steps, skip: int, rule: MatchRule) -> Ints:
    rows = distances.shape[-2]
    error = own.distances(skip, rows, rows + rule.furthest)
    more: Ints = np.int32(rule.refine_weight) * _by_lag(error, 0, rows, rule)
    more += distances
    return more


def _by_lag(error: Ints, earlier: int, rows: int, rule: MatchRule) -> Ints:
    """A view (..., rows, lags) of squared distances: of the steps so many earlier than each row's.

    Rows and columns go backwards alike, so that a lag lies one column further in every next row: in
    memory the rows of this view are longer by one.
    """
    width = error.shape[-1] + 1
    begin = earlier * width + rule.nearest
    flat = error.reshape(*error.shape[:-2], -1)[..., begin : begin + rows * width]
    longer = flat.reshape(*error.shape[:-2], rows, width)
    return longer[..., : rule.furthest - rule.nearest + 1]


def _best(left: Ints) -> _Best:
    """The best of each row of distances (..., rows, lags), which are taken out of `left`."""
    *shape, lags = left.shape
    left = left.reshape(-1, lags)
    count = len(left)
    rows = np.arange(0, count * lags, lags)
    place, distance = np.empty((MATCHES, count), np.intp), np.empty((MATCHES, count), np.int32)
    for i in range(MATCHES):
        left.argmin(axis=1, out=place[i])
        spot = rows + place[i]
        left.take(spot, out=distance[i], mode="clip")
        left.put(spot, _TAKEN)
    return _Best(place.reshape(MATCHES, *shape), distance.reshape(MATCHES, *shape))


def _followed(
    parts: Sequence[_Best], change: npt.NDArray[np.int32], last: int, rule: MatchRule
) -> Matches:
    """What followed the best matches of rows that go backwards from the step `last` - 1."""
    place = np.concatenate([part.place for part in parts], axis=-1)[..., ::-1]
    distance = np.concatenate([part.distance for part in parts], axis=-1)[..., ::-1]
    step = np.arange(last - place.shape[-1], last) - rule.nearest - place
    if change.ndim == 3:
        # The steps of all parts side by side.
        count, channels, steps = change.shape
        step = step.clip(0, steps - 1) + steps * np.arange(count)[:, None]
        change = change.transpose(1, 0, 2).reshape(channels, -1)
        step, distance = step.reshape(MATCHES, -1), distance.reshape(MATCHES, -1)
    best = change.take(step, axis=1, mode="clip").astype(np.float32)
    # frexp gives the bit length of a whole number, exactly.
    bits = np.frexp(distance + 1.0)[1] - 1
    nearness = np.minimum(bits, NO_MATCH).astype(np.float32)
    there = distance < _FAR
    if not there.all():
        best *= there
        nearness[~there] = NO_MATCH
    return Matches(np.ascontiguousarray(best.transpose(1, 0, 2)), nearness)
