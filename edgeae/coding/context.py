"""Which table codes which symbol: the order of coding, and the context graphs that choose, in
exact integers.

Latent channels are coded in slices, each in the two halves of a checkerboard where its manifest
says so. For every stage a small graph sees the symbols coded before and gives each next symbol an
index into the tables and, in *centered* slices, the value around which it lies. The graphs carry
integers in float32: every weight is an integer, every sum stays below 2 ** 24 (export proves it),
so every machine gets the same result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.coding.entropy import Decoder, Encoder
from edgeae.coding.many import Decoders, Encoders
from edgeae.errors import BitstreamError, BundleError
from edgeae.runtime import Graph

# Indices of the distribution's scale. At index 0 a symbol is all but certain: it is not coded at
# all.
SCALES = 64
# A middle is given in eighths; its distance to the nearest integer, 0 to 4 eighths, picks the
# table.
MIDDLE_UNITS = 8
FRACTIONS = MIDDLE_UNITS // 2 + 1
TABLES = SCALES + SCALES * FRACTIONS
# Symbols beyond this are clipped by the encoder; the widest table reaches 4 million.
SYMBOL_LIMIT = 30_000
# Every center is a symbol.
_MIDDLE_LIMIT = MIDDLE_UNITS * SYMBOL_LIMIT

Symbols = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SliceSpec:
    """One slice of the latent channels: how many, with a middle or symmetric, in one phase or
    two."""

    channels: int
    centered: bool
    phases: int


@dataclass(frozen=True)
class Stage:
    """One run of symbols that are coded together.

    Attributes:
        channels: the slice, in the latent.
        places: flat positions of the coded symbols inside the slice (channels, blocks, h, w), one
            block after the other.
        tables: the table of each, (count,).
        centers: the integer around which each lies, or None in a symmetric slice.
        flipped: True where positive and negative change places, or None in a symmetric slice.
        block: the block of each if there are several, else None.
    """

    channels: slice
    places: Ints
    tables: Ints
    centers: Ints | None = None
    flipped: npt.NDArray[np.bool_] | None = None
    block: Ints | None = None


Decide = Callable[[Stage], Ints]
Shape = tuple[int, int]
# Yields every stage in coding order and is sent its symbols; returns all of them.
Walk = Generator[Stage, Ints, Symbols]


class ContextModel:
    """The slices of a latent and the graph of each.

    Attributes:
        slices: of the latent channels, in their order.
        graphs: the graph of each, for one block at a time.
    """

    def __init__(
        self,
        slices: Sequence[SliceSpec],
        graphs: Sequence[Graph],
        batched: Callable[[], Sequence[Graph] | None] = lambda: None,
    ) -> None:
        """`batched` gives the graphs for several blocks at a time, None if there are none; it is
        asked when they are first needed."""
        self.slices = tuple(slices)
        self.graphs = tuple(graphs)
        self.channels = sum(part.channels for part in slices)
        self._batched = functools.cache(batched)

    @property
    def batches(self) -> bool:
        """Whether several blocks can be walked at once."""
        return self._batched() is not None

    def walk(self, shape: Shape, level: int, blocks: int = 1) -> Walk:
        """Goes through all stages of blocks of h rows and w columns in coding order.

        Whoever drives it sends the symbols at each stage's places: an encoder rounds latents
        there, a decoder takes them from the bytes. A symbol that is not coded is its slice's
        middle. Returns int32 (channels, blocks, h, w).

        Raises:
            BundleError: a graph gives another shape than its slice's, or an index or a middle out
                of range.
        """
        height, width = shape
        known = np.zeros((self.channels, blocks, height, width), np.float32)
        halves = _checkerboard(height, width)
        graphs = self.graphs if blocks == 1 else self._batched() or ()
        start = 0
        for part, graph in zip(self.slices, graphs, strict=True):
            channels = slice(start, start + part.channels)
            own = known[channels]
            for phase in range(part.phases):
                inputs = [np.array([level, phase], np.float32).reshape(1, 2, 1, 1)]
                if start:
                    inputs.append(_by_block(known[:start]))
                if part.phases == 2:
                    inputs.append(_by_block(own))
                indices, *middles = graph(*inputs)
                _check_outputs(graph, (blocks, *own[:, 0].shape), indices, middles)
                coded = indices > 0
                if part.phases == 2:
                    coded &= halves[phase]
                stage = _stage(channels, coded, indices, middles[0] if middles else None)
                if middles:
                    here = halves[phase] if part.phases == 2 else True
                    centers = _nearest(middles[0]).transpose(1, 0, 2, 3)
                    np.copyto(own, centers, where=here, casting="unsafe")
                own.reshape(-1)[stage.places] = yield stage
            start = channels.stop
        symbols: Symbols = known.astype(np.int32)
        return symbols


def _by_block(planes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Planes (channels, blocks, h, w) as a graph takes them, (blocks, channels, h, w)."""
    return np.ascontiguousarray(planes.transpose(1, 0, 2, 3))


def drive(walk: Walk, decide: Decide) -> Symbols:
    """The symbols int32 (channels, blocks, h, w) of a walk whose stages `decide` fills."""
    try:
        stage = next(walk)
        while True:
            stage = walk.send(decide(stage))
    except StopIteration as end:
        symbols: Symbols = end.value
        return symbols


def _check_outputs(
    graph: Graph,
    shape: tuple[int, ...],
    indices: npt.NDArray[np.int32],
    middles: Sequence[npt.NDArray[np.int32]],
) -> None:
    for array in (indices, *middles):
        if array.shape != shape:
            raise BundleError(f"{graph.file.name} gives shape {array.shape}, expected {shape}")
    for name, array, low, high in (
        ("index", indices, 0, SCALES - 1),
        *(("middle", middle, -_MIDDLE_LIMIT, _MIDDLE_LIMIT) for middle in middles),
    ):
        least, most = int(array.min()), int(array.max())
        if least < low or most > high:
            wrong = least if least < low else most
            raise BundleError(f"{graph.file.name} gives {name} {wrong}, expected {low} to {high}")


def _checkerboard(height: int, width: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    rows, columns = np.ogrid[0:height, 0:width]
    first = (rows + columns) % 2 == 0
    return first, ~first


def _nearest(middles: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return (middles + MIDDLE_UNITS // 2) // MIDDLE_UNITS


def _stage(
    channels: slice,
    coded: npt.NDArray[np.bool_],
    indices: npt.NDArray[np.int32],
    middles: npt.NDArray[np.int32] | None,
) -> Stage:
    found = np.flatnonzero(coded)
    places, block = found, None
    if len(coded) > 1:
        count, (planes, area) = len(coded), (coded.shape[1], coded[0, 0].size)
        block, place = np.divmod(found, planes * area)
        plane, place = np.divmod(place, area)
        places = (plane * count + block) * area + place
    scales = indices.reshape(-1)[found].astype(np.int64)
    if middles is None:
        return Stage(channels, places, scales, block=block)
    eighths = middles.reshape(-1)[found].astype(np.int64)
    centers = _nearest(eighths)
    fractions = eighths - MIDDLE_UNITS * centers
    tables = SCALES + scales * FRACTIONS + np.abs(fractions)
    return Stage(channels, places, tables, centers, fractions < 0, block)


def code(
    model: ContextModel,
    shape: Shape,
    level: int,
    encoder: Encoder | Encoders,
    choose: Decide,
    blocks: int = 1,
) -> Symbols:
    """Puts the symbols that `choose` gives into the encoder, which is `Encoders` of several blocks.

    Returns:
        All symbols, int32 (channels, blocks, h, w).

    Raises:
        BundleError: a graph gives what no table can code.
    """
    signs: list[tuple[npt.NDArray[np.bool_], Ints | None]] = []

    def put(values: Ints, stage: Stage) -> None:
        if isinstance(encoder, Encoders):
            encoder.put(values, stage.tables, stage.block)
        else:
            encoder.put(values, stage.tables)

    def decide(stage: Stage) -> Ints:
        values = choose(stage)
        if stage.centers is None or stage.flipped is None:
            put(np.abs(values), stage)
            some = values != 0
            signs.append((values[some] < 0, None if stage.block is None else stage.block[some]))
        else:
            offset = values - stage.centers
            offset = np.where(stage.flipped, -offset, offset)
            put(np.where(offset > 0, 2 * offset - 1, -2 * offset), stage)
        return values

    try:
        symbols = drive(model.walk(shape, level, blocks), decide)
    except ValueError as error:
        raise BundleError(f"the tables do not fit the contexts: {error}") from None
    for part, block in signs:
        if isinstance(encoder, Encoders):
            encoder.put_signs(part, block)
        else:
            encoder.put_signs(part)
    return symbols


def decode(
    model: ContextModel,
    shape: Shape,
    level: int,
    decoder: Decoder | Decoders,
    blocks: int = 1,
) -> Symbols:
    """The symbols int32 (channels, blocks, h, w) of coded blocks; `Decoders` has several.

    Raises:
        BitstreamError: damaged.
    """
    unsigned: list[tuple[Ints, Ints | None]] = []

    def decide(stage: Stage) -> Ints:
        if isinstance(decoder, Decoders):
            values = decoder.take(stage.tables, stage.block)
        else:
            values = decoder.take(stage.tables)
        if stage.centers is None or stage.flipped is None:
            some = values != 0
            begin = stage.channels.start * blocks * shape[0] * shape[1]
            block = None if stage.block is None else stage.block[some]
            unsigned.append((begin + stage.places[some], block))
        else:
            offset = np.where(values & 1, (values + 1) >> 1, -(values >> 1))
            values = np.where(stage.flipped, -offset, offset) + stage.centers
        if values.size and np.abs(values).max() > SYMBOL_LIMIT:
            raise BitstreamError(f"a coded block has a symbol beyond {SYMBOL_LIMIT}")
        return values

    symbols = drive(model.walk(shape, level, blocks), decide)
    places = np.concatenate([np.zeros(0, np.int64), *(part for part, _ in unsigned)])
    if isinstance(decoder, Decoders):
        owners = [block for _, block in unsigned if block is not None]
        owner = np.concatenate([np.zeros(0, np.int64), *owners])
        places = places[np.argsort(owner, kind="stable")]
        negative = decoder.take_signs(np.bincount(owner, minlength=blocks))
    else:
        negative = decoder.take_signs(len(places))
    flat = symbols.reshape(-1)
    flat[places[negative]] *= -1
    return symbols
