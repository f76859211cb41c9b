"""Signal axes, padding and tiling: how arrays of any size meet graphs of a fixed stride."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Tile", "inside", "overlap", "pad_to_stride", "scaled", "tiles"]


@dataclass(frozen=True)
class Tile:
    """A rectangle of a grid that is worked on at a time, and the larger one that must be read for
    it.

    Attributes:
        rows, columns: the kept part, in the whole grid.
        seen_rows, seen_columns: the kept part and its halo, in the whole grid.
        inner_rows, inner_columns: the kept part inside what is seen.
    """

    rows: slice
    columns: slice
    seen_rows: slice
    seen_columns: slice
    inner_rows: slice
    inner_columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the kept part."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def view(self) -> tuple[int, ...]:
        """How the tile lies in what is seen, and how large both are."""
        return (
            *self.shape,
            self.inner_rows.start,
            self.inner_columns.start,
            self.seen_rows.stop - self.seen_rows.start,
            self.seen_columns.stop - self.seen_columns.start,
        )


def tiles(height: int, width: int, *, side: int, halo: int) -> Iterator[Tile]:
    """The tiles of a grid, row by row, none larger than `side` squared and a halo clipped at the
    grid's edge."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            rows, seen_rows, inner_rows = _span(top, min(top + side, height), height, halo)
            columns, seen_columns, inner_columns = _span(left, min(left + side, width), width, halo)
            yield Tile(rows, columns, seen_rows, seen_columns, inner_rows, inner_columns)


def _span(start: int, stop: int, size: int, halo: int) -> tuple[slice, slice, slice]:
    seen = slice(max(0, start - halo), min(size, stop + halo))
    return slice(start, stop), seen, slice(start - seen.start, stop - seen.start)


def scaled(part: slice, factor: int) -> slice:
    """The same part of a grid that is `factor` times finer."""
    return slice(part.start * factor, part.stop * factor)


def overlap(one: slice, other: slice) -> slice | None:
    """What two parts of an axis have in common, None if nothing."""
    common = slice(max(one.start, other.start), min(one.stop, other.stop))
    return common if common.start < common.stop else None


def inside(part: slice, whole: slice) -> slice:
    """Where a part of an axis lies in a larger part of it."""
    return slice(part.start - whole.start, part.stop - whole.start)


def pad_to_stride(image: npt.NDArray[np.uint8], stride: int) -> npt.NDArray[np.uint8]:
    """The image (H, W, C) with its last row and column repeated up to multiples of `stride`."""
    height, width = image.shape[:2]
    below, right = -height % stride, -width % stride
    if not below and not right:
        return image
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")
