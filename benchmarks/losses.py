"""Which packets of a link are lost, drawn for the benchmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Lost", "gilbert"]

Lost = NDArray[np.bool_]


def gilbert(
    count: int, loss: float, burst: float, rng: np.random.Generator, *, opens_well: bool = False
) -> Lost:
    """Which of so many packets are lost, bool (count,): a part `loss` of them, in runs of `burst`
    on average (Gilbert, Capacity of a Burst-Noise Channel, 1960).

    The first is as likely lost as any, or, where the link `opens_well`, as one behind one that
    came. From the same random numbers a higher loss takes these packets and more.
    """
    to_good = 1 / burst
    to_bad = to_good * loss / (1 - loss)
    lost = np.zeros(count, np.bool_)
    chance = to_bad if opens_well else loss
    for i, drawn in enumerate(rng.random(count)):
        lost[i] = drawn < chance
        chance = 1 - to_good if lost[i] else to_bad
    return lost
