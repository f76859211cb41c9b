"""Where a signal has looked like now before, and what followed there: found among symbols that a
decoder has already, so that nothing is sent.

Everything is whole numbers. Squared distances of clipped symbols stay below 2 ** 24, so that their
products may be worked out in float32 and are exact in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["MATCHES", "MatchRule", "Matches", "changes", "matches", "refined"]

MATCHES = 3
MATCH_LIMIT = 255
# floor(log2(1 + distance)) where there is no match.
NO_MATCH = 31
# Beyond every distance, with and without what refines it, and what has been taken.
_FAR, _TAKEN = 1 << 29, (1 << 31) - 1

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
        distances: of every pair looked at, int32 (rows, columns), the latest column first.
        changes: of the symbols that followed each match, float32 (MATCHES, channels, rows); zero
            where there is none.
        nearness: floor(log2(1 + distance)), float32 (MATCHES, rows).
    """

    distances: Ints
    changes: Floats
    nearness: Floats


def changes(symbols: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """What is compared of symbols (channels, steps): the first channel, which follows the baseline,
    by its change from step to step."""
    found = symbols.copy()
    found[0, 1:] -= symbols[0, :-1]
    return found


def matches(change: npt.NDArray[np.int32], first: int, last: int, rule: MatchRule) -> Matches:
    """Matches of the steps `first` to `last` (exclusive) by the steps before them.

    Args:
        change: what `changes` gives of all steps known, int32 (channels, steps); before them there
            is nothing but zeros, or at least `rule.reach` steps are here.
        first, last: rows; those of `change` before `last` - 1 must be known.
        rule: of the model.
    """
    back = len(rule.history)
    begin = max(0, first - rule.furthest)
    columns = last - begin
    # Column j is step begin - back + j.
    there = np.zeros((len(change), columns + back), np.float32)
    earliest = max(0, begin - back)
    part = np.clip(change[:, earliest:last], -MATCH_LIMIT, MATCH_LIMIT)
    there[:, back + earliest - begin :] = part
    error = _distances(there[:, first - begin :], there)
    count = last - first
    distance = np.zeros((count, columns), np.int32)
    for k, weight in enumerate(rule.history, 1):
        start = back - k
        distance += np.int32(weight) * error[start : start + count, start : start + columns]
    # From the latest step backwards: of equal distances the first is taken.
    distance = distance[:, ::-1]
    lag = np.arange(first, last)[:, None] - np.arange(last - 1, begin - 1, -1)[None, :]
    distance[(lag < rule.nearest) | (lag > rule.furthest)] = _FAR
    return _found(distance, change, last)


def refined(
    known: Matches, change: npt.NDArray[np.int32], first: int, last: int, rule: MatchRule
) -> Matches:
    """Matches of steps `first` to `last` by their own first channels too, which must be known in
    `change` (channels, steps)."""
    begin = max(0, first - rule.furthest)
    here = np.clip(change[: rule.refine_channels, begin:last], -MATCH_LIMIT, MATCH_LIMIT)
    planes = here.astype(np.float32)
    more = _distances(planes[:, first - begin :], planes[:, ::-1])
    more *= np.int32(rule.refine_weight)
    more += known.distances
    return _found(more, change, last)


def _distances(rows: Floats, columns: Floats) -> Ints:
    """Squared distances, int32 (rows, columns), of steps (channels, rows) and (channels,
    columns)."""
    norms = [np.square(part).sum(axis=0) for part in (rows, columns)]
    found = rows.T @ (-2 * columns)
    found += norms[0][:, None]
    found += norms[1][None, :]
    whole: Ints = found.astype(np.int32)
    return whole


def _found(distances: Ints, change: npt.NDArray[np.int32], last: int) -> Matches:
    """The best of each row; columns go from step `last` - 1 backwards."""
    count = len(distances)
    best = np.zeros((MATCHES, len(change), count), np.float32)
    nearness = np.full((MATCHES, count), NO_MATCH, np.float32)
    left, rows = distances.copy(), np.arange(count)
    for i in range(MATCHES):
        place = left.argmin(axis=1)
        found = left[rows, place]
        there = np.flatnonzero(found < _FAR)
        if not len(there):
            break
        best[i][:, there] = change[:, last - 1 - place[there]]
        # frexp gives the bit length of a whole number, exactly.
        bits = np.frexp((found[there] + 1).astype(np.float64))[1] - 1
        nearness[i, there] = np.minimum(bits, NO_MATCH)
        left[rows, place] = _TAKEN
    return Matches(distances, best, nearness)
