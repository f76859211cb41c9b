"""Lost latents filled in smoothly from those around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.image.tiles import Tile

__all__ = ["fill", "lost_latents", "pulled"]

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

# What is further than 2 ** 6 latents from all that came, 1024 pixels of the usual stride, is left
# neutral.
_LEVELS = 6
# So many channels at a time: the memory of a few planes is enough.
_CHANNELS = 16
_SMOOTHINGS = 2


def fill(symbols: npt.NDArray[Any], lost: Mask) -> None:
    """Replaces lost symbols by means of those around them, in place.

    Push and pull over a pyramid (Gortler et al. 1996, "The Lumigraph", section 3.3): coarser grids
    hold the means of what is known, and give it to the places that know nothing. High frequencies
    average out to zero, so that what is filled in is smooth.

    Args:
        symbols: integers of any type (channels, h, w), all at one level.
        lost: bool (h, w), True where symbols are lost.
    """
    if not lost.any() or lost.all():
        return
    for begin in range(0, len(symbols), _CHANNELS):
        part = symbols[begin : begin + _CHANNELS]
        known: Floats = np.where(lost, 0, part).astype(np.float32)
        filled = pulled(known, (~lost).astype(np.float32), _smoothed, levels=_LEVELS)
        part[:, lost] = np.rint(filled[:, lost]).astype(symbols.dtype)


def pulled(
    values: Floats,
    weights: Floats,
    smooth: Callable[[Floats, Mask], Floats],
    *,
    levels: int | None = None,
) -> Floats:
    """Values with those that are not known filled in from coarser grids.

    Args:
        values: float32 (..., h, w), 0 where they are not known.
        weights: float32 (h, w), 0 where they are not known, up to 1 elsewhere.
        smooth: makes values smooth where a mask (h, w) is True; called at each grid.
        levels: how many coarser grids at most; None goes on until all is known.
    """
    hidden = weights == 0
    if levels == 0 or weights.size == 1 or not hidden.any():
        return values
    height, width = weights.shape
    even = (0, height % 2), (0, width % 2)
    sums = _quartered(np.pad(values * weights, (*[(0, 0)] * (values.ndim - 2), *even)))
    counts = _quartered(np.pad(weights, even))
    means = (sums / np.maximum(counts, 1e-6)).astype(np.float32)
    below = None if levels is None else levels - 1
    coarse = pulled(means, np.minimum(counts, 1).astype(np.float32), smooth, levels=below)
    spread = coarse.repeat(2, axis=-2).repeat(2, axis=-1)[..., :height, :width]
    return smooth(np.where(hidden, spread, values), hidden)


def _smoothed(values: Floats, hidden: Mask) -> Floats:
    """Values (channels, h, w), the hidden ones twice the mean of 3x3 around them."""
    found = values
    for _ in range(_SMOOTHINGS):
        around = np.pad(found, ((0, 0), (1, 1), (1, 1)), mode="edge")
        rows = around[:, :-2] + around[:, 1:-1] + around[:, 2:]
        near = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / np.float32(9)
        found = np.where(hidden, near, found)
    return found


def _quartered(values: Floats) -> Floats:
    """Sums of each 2x2 values, float32 (..., h, w) with even sides to (..., h / 2, w / 2)."""
    rows = values[..., 0::2, :] + values[..., 1::2, :]
    sums: Floats = rows[..., 0::2] + rows[..., 1::2]
    return sums


def lost_latents(layout: Sequence[Tile], blocks: Iterable[int]) -> npt.NDArray[np.bool_]:
    """True for the latents of tiles without a block: bool (h, w)."""
    lost = np.ones((layout[-1].rows.stop, layout[-1].columns.stop), np.bool_)
    for i in blocks:
        lost[layout[i].rows, layout[i].columns] = False
    return lost
