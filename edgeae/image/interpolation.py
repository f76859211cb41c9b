"""Holes of an image filled smoothly from around them: what a model's own fill begins with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.image.concealment import pulled

__all__ = ["smooth_fill"]

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

# Conjugate gradients: of the membrane at every scale, then of the thin plate at the finest. On
# seven photographs twice as many of the plate's changed PSNR in holes by less than 0.03 dB.
MEMBRANE_STEPS, PLATE_STEPS = 8, 20
# A residual below this, with values from 0 to 1, is rounding.
_ROUNDING = 1e-12


def smooth_fill(colors: Pixels, hole: Mask) -> Pixels:
    """The image with smooth holes, of its shape and dtype; all else stays as it is.

    A pyramid of means (Gortler et al. 1996, "The Lumigraph", section 3.3) gives every hole a start,
    which is relaxed at each scale towards the smoothest membrane, Laplace's equation, and at the
    finest towards the thin plate that bends least, the biharmonic equation, so that edges go on
    across thin holes.

    Args:
        colors: uint8 or uint16 (H, W, channels).
        hole: bool (H, W), True in holes, not everywhere.
    """
    filled = colors.copy()
    if not hole.any():
        return filled
    most = np.float32(np.iinfo(colors.dtype).max)
    known = (~hole).astype(np.float32)
    plate = _Neighbors(hole)
    for channel in range(colors.shape[2]):  # one at a time: large images must fit in memory
        values = np.where(hole, np.float32(0), colors[:, :, channel] / most)
        start = pulled(values, known, _membrane)
        plate.relax(start, PLATE_STEPS, bending=True)
        filled[hole, channel] = np.rint(start[hole].clip(0, 1) * most)
    return filled


def _membrane(values: Floats, hidden: Mask) -> Floats:
    """Values (h, w) relaxed towards the smoothest membrane where they are hidden, in place."""
    _Neighbors(hidden).relax(values, MEMBRANE_STEPS, bending=False)
    return values


class _Neighbors:
    """The hidden pixels of a grid and those around them: hidden ones first, then their neighbors,
    then theirs."""

    def __init__(self, hidden: Mask) -> None:
        near = _spread(hidden)
        wide = _spread(near)
        rings = hidden, near & ~hidden, wide & ~near
        places = [np.flatnonzero(ring) for ring in rings]
        self._places: npt.NDArray[np.int64] = np.concatenate(places)
        self._hidden, self._near = int(hidden.sum()), int(near.sum())
        order = np.full(hidden.size, -1, np.int32)
        order[self._places] = np.arange(len(self._places), dtype=np.int32)
        height, width = hidden.shape
        row, column = np.divmod(self._places[: self._near], width)
        # At the border a pixel is its own neighbor: nothing flows across it.
        self._around = [
            order[row.clip(min=1) * width - width + column],
            order[(row + 1).clip(max=height - 1) * width + column],
            order[row * width + (column - 1).clip(min=0)],
            order[row * width + (column + 1).clip(max=width - 1)],
        ]

    def relax(self, grid: Floats, steps: int, *, bending: bool) -> None:
        """Moves the hidden values of a grid (h, w), in place, so many steps of conjugate gradients
        towards the least bending, or the least stretching."""
        count = self._hidden
        values = grid.reshape(-1)[self._places]
        residual = -self._force(values, bending=bending)
        way = np.zeros_like(values)
        way[:count] = residual
        left = float(residual @ residual)
        for _ in range(steps):
            if left <= _ROUNDING:
                break
            force = self._force(way, bending=bending)
            length = np.float32(left / float(way[:count] @ force))
            values[:count] += length * way[:count]
            residual -= length * force
            before, left = left, float(residual @ residual)
            way[:count] = residual + np.float32(left / before) * way[:count]
        grid.reshape(-1)[self._places[:count]] = values[:count]

    def _force(self, values: Floats, *, bending: bool) -> Floats:
        """Gradient of the energy at the hidden pixels, of values at all places."""
        if not bending:
            return -self._laplacian(values, self._hidden)
        return self._laplacian(self._laplacian(values, self._near), self._hidden)

    def _laplacian(self, values: Floats, count: int) -> Floats:
        found: Floats = np.float32(-4) * values[:count]
        for around in self._around:
            found += values[around[:count]]
        return found


def _spread(mask: Mask) -> Mask:
    """The mask and the pixels beside it."""
    found = mask.copy()
    found[1:] |= mask[:-1]
    found[:-1] |= mask[1:]
    found[:, 1:] |= mask[:, :-1]
    found[:, :-1] |= mask[:, 1:]
    return found
