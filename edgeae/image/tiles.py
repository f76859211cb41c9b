"""Tiles: how images of any size meet graphs of a fixed stride, a part at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.coding.rate import LEVELS
from edgeae.errors import BundleError, EdgeaeError
from edgeae.runtime import Graph

__all__ = ["Analysis", "Synthesis", "Tile", "Window", "pad_to_stride", "tiles"]

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
# Symbols (channels, h, w) of a row of tiles, by its number.
RowOfSymbols = Callable[[int], npt.NDArray[Any]]
# Rows and columns of pixels.
Window = tuple[slice, slice]


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


def pad_to_stride(image: npt.NDArray[Any], stride: int) -> npt.NDArray[Any]:
    """The image, (H, W, C), with its last row and column repeated to whole strides."""
    height, width = image.shape[:2]
    below, right = -height % stride, -width % stride
    if not below and not right:
        return image
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")


@dataclass(frozen=True)
class Analysis:
    """The encoder's graph, which sees an image tile by tile.

    Attributes:
        graph: float32 (1, 3, h * stride, w * stride) in [0, 1] to latents (1, channels, h, w).
        channels: of the latents.
        stride: pixels of a latent's side.
        side: latents of a tile's side.
        halo: latents around a tile whose pixels the graph must see for it.
    """

    graph: Graph
    channels: int
    stride: int
    side: int
    halo: int

    def __call__(self, pixels: Image) -> Iterator[tuple[Tile, Floats]]:
        """Every tile of an image uint8 (H, W, 3), row by row, and its latents float32
        (channels, h, w).

        Raises:
            BundleError: the graph gives another shape than the manifest says.
            EdgeaeError: it gives NaN or infinity.
        """
        stride = self.stride
        padded = pad_to_stride(pixels, stride)
        grid = padded.shape[0] // stride, padded.shape[1] // stride
        for tile in tiles(*grid, side=self.side, halo=self.halo):
            seen = padded[scaled(tile.seen_rows, stride), scaled(tile.seen_columns, stride)]
            planes = np.empty((1, 3, *seen.shape[:2]), np.float32)
            np.multiply(seen.transpose(2, 0, 1), np.float32(1 / 255), out=planes[0])
            (latents,) = self.graph(planes)
            height, width = seen.shape[0] // stride, seen.shape[1] // stride
            _check_output(self.graph, latents, (1, self.channels, height, width), stride)
            yield tile, latents[0, :, tile.inner_rows, tile.inner_columns]


@dataclass(frozen=True)
class Synthesis:
    """The decoder's graph, which makes a window of an image from the latents that it sees.

    Attributes:
        graph: float32 latents (1, channels, h, w) and a level in [0, 1] to pixels
            (1, 3, h * stride, w * stride).
        steps: quantization steps, float32 (levels, channels).
        stride: pixels of a latent's side.
        side: latents of the side of a tile, which is made at a time.
        halo: latents around a tile that the graph must see for it.
    """

    graph: Graph
    steps: Floats
    stride: int
    side: int
    halo: int

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of latents of so many pixels."""
        return -(-height // self.stride), -(-width // self.stride)

    def tile_count(self, height: int, width: int, side: int) -> int:
        """How many tiles of `side` latents so many pixels have."""
        rows, columns = self.grid(height, width)
        return -(-rows // side) * -(-columns // side)

    def layout(self, height: int, width: int, side: int) -> list[Tile]:
        """The tiles of `side` latents of so many pixels, row by row."""
        return list(tiles(*self.grid(height, width), side=side, halo=self.halo))

    def needed(self, layout: Sequence[Tile], window: Window) -> set[int]:
        """The numbers of the tiles whose symbols decide the pixels of the window."""
        rows, columns = (
            slice(part.start // self.stride, -(-part.stop // self.stride)) for part in window
        )
        shown = [
            tile for tile in layout if overlap(tile.rows, rows) and overlap(tile.columns, columns)
        ]
        # Tiles are in rows, so the first and the last span all that is seen.
        rows = slice(shown[0].seen_rows.start, shown[-1].seen_rows.stop)
        columns = slice(shown[0].seen_columns.start, shown[-1].seen_columns.stop)
        return {
            i
            for i, tile in enumerate(layout)
            if overlap(tile.rows, rows) and overlap(tile.columns, columns)
        }

    def touched(self, lost: Mask, height: int, width: int) -> Mask:
        """The pixels whose decoding sees a lost latent: bool (height, width) of bool (h, w)."""
        for axis in (0, 1):
            lost = _widened(lost, self.halo, axis)
        stride = self.stride
        return lost.repeat(stride, axis=0)[:height].repeat(stride, axis=1)[:, :width]

    def rows_of(self, symbols: npt.NDArray[Any]) -> RowOfSymbols:
        """The rows of tiles, int16, of symbols, integers (channels, h, w), that are all at hand."""
        side = self.side
        return lambda row: symbols[:, row * side : (row + 1) * side].astype(np.int16)

    def __call__(
        self,
        row_of_symbols: RowOfSymbols,
        level: int,
        window: Window,
        *,
        channels: int,
        blank: Mask,
    ) -> Image:
        """The pixels of the window, uint8 in as many channels (0: no axis of channels).

        The fourth channel is left to the caller. Symbols come from rows of tiles that are made when
        they are first needed. Where all latents that a tile sees are `blank` (h, w), of symbols 0,
        it is worked out once for each shape.

        Raises:
            BundleError: the graph gives another shape than the manifest says.
            EdgeaeError: it gives NaN or infinity.
        """
        stride, side = self.stride, self.side
        # A file whose first tiles are unsound is refused before there is room for its image.
        first = max(0, window[0].start // stride // side * side - self.halo) // side
        rows = {first: row_of_symbols(first)}
        shape = tuple(part.stop - part.start for part in window)
        image = np.empty((*shape, channels) if channels else shape, np.uint8)
        neutral: dict[tuple[int, ...], Image] = {}
        for tile in tiles(*blank.shape, side=side, halo=self.halo):
            whole = scaled(tile.rows, stride), scaled(tile.columns, stride)
            part = overlap(whole[0], window[0]), overlap(whole[1], window[1])
            if part[0] is None or part[1] is None:
                continue
            unseen = bool(blank[tile.seen_rows, tile.seen_columns].all())
            if unseen and tile.view in neutral:
                pixels = neutral[tile.view]
            else:
                first, last = tile.seen_rows.start // side, (tile.seen_rows.stop - 1) // side
                for row in range(first, last + 1):
                    if row not in rows:
                        rows[row] = row_of_symbols(row)
                for row in [row for row in rows if row < first]:
                    del rows[row]
                seen = np.concatenate(
                    [rows[row][:, :, tile.seen_columns] for row in range(first, last + 1)], axis=1
                )
                top = tile.seen_rows.start - first * side
                seen = seen[:, top : top + tile.seen_rows.stop - tile.seen_rows.start]
                pixels = self._tile(tile, seen, level)
                if unseen:
                    neutral[tile.view] = pixels
            pixels = pixels[:, inside(part[0], whole[0]), inside(part[1], whole[1])]
            _put(pixels, image[inside(part[0], window[0]), inside(part[1], window[1])], channels)
        return image

    def _tile(self, tile: Tile, seen: npt.NDArray[Any], level: int) -> Image:
        """The kept pixels (3, height, width) of a tile of which these symbols are seen."""
        latents = np.multiply(seen, self.steps[level][:, None, None], dtype=np.float32)
        (planes,) = self.graph(
            latents[None], np.full((1, 1, 1, 1), level / (LEVELS - 1), np.float32)
        )
        height, width = seen.shape[1] * self.stride, seen.shape[2] * self.stride
        _check_output(self.graph, planes, (1, 3, height, width), self.stride)
        rows, columns = (
            scaled(tile.inner_rows, self.stride), scaled(tile.inner_columns, self.stride)
        )  # fmt: skip
        return _to_bytes(planes[0, :, rows, columns])


def _put(pixels: Image, target: Image, channels: int) -> None:
    """Writes pixels (3, height, width) where they belong in an image of so many channels."""
    if channels >= 3:
        # One plane at a time is twice as fast as a transposed view.
        for plane in range(3):
            target[:, :, plane] = pixels[plane]
    else:
        gray = np.rint(pixels.mean(axis=0, dtype=np.float32)).astype(np.uint8)
        target[...] = gray.reshape(target.shape)


def _to_bytes(planes: Floats) -> Image:
    """Planes of [0, 1], and what lies outside clipped, as uint8 of the same shape."""
    values = np.clip(planes, 0, 1)
    values *= 255
    np.rint(values, out=values)
    return values.astype(np.uint8)


def _widened(marks: Mask, reach: int, axis: int) -> Mask:
    """The marks and all within `reach` of one along the axis."""
    wide = marks.copy()
    for step in range(1, min(reach, marks.shape[axis] - 1) + 1):
        near, far = [slice(None)] * 2, [slice(None)] * 2
        near[axis], far[axis] = slice(step, None), slice(None, -step)
        wide[tuple(near)] |= marks[tuple(far)]
        wide[tuple(far)] |= marks[tuple(near)]
    return wide


def _check_output(graph: Graph, values: Floats, shape: tuple[int, ...], stride: int) -> None:
    if values.shape != shape:
        raise BundleError(
            f"{graph.file.name} gives shape {values.shape}, expected {shape}: "
            f"the manifest's stride is {stride}"
        )
    # The extremes are infinite or NaN if any value is, and take no memory.
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise EdgeaeError(f"{graph.file.name} gives NaN or infinity, expected finite numbers")
