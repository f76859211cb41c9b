"""Lost latents filled in smoothly from those around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.image.tiles import Tile

__all__ = ["fill", "lost_latents", "quartered"]

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
        filled = _filled(known, (~lost).astype(np.float32), _LEVELS)
        part[:, lost] = np.rint(filled[:, lost]).astype(symbols.dtype)


def _filled(values: Floats, weights: Floats, levels: int) -> Floats:
    """The values (channels, h, w), which are 0 where their weight (h, w) is, filled in there."""
    if levels == 0 or weights.all() or weights.size == 1:
        return values
    height, width = weights.shape
    even = (0, height % 2), (0, width % 2)
    sums = quartered(np.pad(values * weights, ((0, 0), *even)))
    counts = quartered(np.pad(weights, even))
    means = (sums / np.maximum(counts, 1e-6)).astype(np.float32)
    coarse = _filled(means, np.minimum(counts, 1).astype(np.float32), levels - 1)
    pulled = coarse.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
    hidden = weights == 0
    found: Floats = np.where(hidden, pulled, values)
    for _ in range(_SMOOTHINGS):
        around = np.pad(found, ((0, 0), (1, 1), (1, 1)), mode="edge")
        rows = around[:, :-2] + around[:, 1:-1] + around[:, 2:]
        near = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / np.float32(9)
        found = np.where(hidden, near, found)
    return found


def quartered(values: Floats) -> Floats:
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
