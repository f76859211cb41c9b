"""Which table codes which symbol: the order of coding, and the context graphs that choose, in
exact integers.

Latent channels are coded in slices, each in the two halves of a checkerboard where its manifest
says so. For every stage a small graph sees the symbols coded before and gives each next symbol an
index into the tables and, in *centered* slices, the value around which it lies. The graphs carry
integers in float32: every weight is an integer, every sum stays below 2 ** 24 (export proves it),
so every machine gets the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.coding.entropy import Decoder, Encoder
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
        places: flat positions of the coded symbols inside the slice (channels, h, w).
        tables: the table of each, (count,).
        centers: the integer around which each lies, or None in a symmetric slice.
        flipped: True where positive and negative change places, or None in a symmetric slice.
    """

    channels: slice
    places: Ints
    tables: Ints
    centers: Ints | None = None
    flipped: npt.NDArray[np.bool_] | None = None


Decide = Callable[[Stage], Ints]
# Yields every stage in coding order and is sent its symbols; returns all of them.
Walk = Generator[Stage, Ints, Symbols]


class ContextModel:
    """The slices of a latent and the graph of each."""

    def __init__(self, slices: Sequence[SliceSpec], graphs: Sequence[Graph]) -> None:
        self.slices = tuple(slices)
        self.graphs = tuple(graphs)
        self.channels = sum(part.channels for part in slices)

    @property
    def stages(self) -> int:
        """How many stages a block has."""
        return sum(part.phases for part in self.slices)

    def walk(self, shape: tuple[int, int], level: int) -> Walk:
        """Goes through all stages of a block of h rows and w columns in coding order.

        Whoever drives it sends the symbols at each stage's places: an encoder rounds latents
        there, a decoder takes them from the bytes. A symbol that is not coded is its slice's
        middle. Returns int32 (channels, h, w).

        Raises:
            BundleError: a graph gives another shape than its slice's, or an index or a middle out
                of range.
        """
        height, width = shape
        known = np.zeros((1, self.channels, height, width), np.float32)
        halves = _checkerboard(height, width)
        start = 0
        for part, graph in zip(self.slices, self.graphs, strict=True):
            channels = slice(start, start + part.channels)
            own = known[:, channels]
            for phase in range(part.phases):
                inputs = [np.array([level, phase], np.float32).reshape(1, 2, 1, 1)]
                if start:
                    inputs.append(known[:, :start])
                if part.phases == 2:
                    inputs.append(own)
                indices, *middles = graph(*inputs)
                _check_outputs(graph, own.shape, indices, middles)
                coded = indices > 0
                if part.phases == 2:
                    coded &= halves[phase]
                stage = _stage(channels, coded, indices, middles[0] if middles else None)
                if middles:
                    here = halves[phase] if part.phases == 2 else True
                    np.copyto(own, _nearest(middles[0]), where=here, casting="unsafe")
                own.reshape(-1)[stage.places] = yield stage
            start = channels.stop
        symbols: Symbols = known[0].astype(np.int32)
        return symbols


def drive(walk: Walk, decide: Decide) -> Symbols:
    """The symbols int32 (channels, h, w) of a walk whose stages `decide` fills."""
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
    places = np.flatnonzero(coded)
    scales = indices.reshape(-1)[places].astype(np.int64)
    if middles is None:
        return Stage(channels, places, scales)
    eighths = middles.reshape(-1)[places].astype(np.int64)
    centers = _nearest(eighths)
    fractions = eighths - MIDDLE_UNITS * centers
    tables = SCALES + scales * FRACTIONS + np.abs(fractions)
    return Stage(channels, places, tables, centers, fractions < 0)


def code(
    model: ContextModel, shape: tuple[int, int], level: int, encoder: Encoder, choose: Decide
) -> Symbols:
    """Puts the symbols that `choose` gives into the encoder; all of them, int32 (channels, h, w).

    Raises:
        BundleError: a graph gives what no table can code.
    """
    signs: list[npt.NDArray[np.bool_]] = []

    def decide(stage: Stage) -> Ints:
        values = choose(stage)
        if stage.centers is None or stage.flipped is None:
            encoder.put(np.abs(values), stage.tables)
            signs.append(values[values != 0] < 0)
        else:
            offset = values - stage.centers
            offset = np.where(stage.flipped, -offset, offset)
            encoder.put(np.where(offset > 0, 2 * offset - 1, -2 * offset), stage.tables)
        return values

    try:
        symbols = drive(model.walk(shape, level), decide)
    except ValueError as error:
        raise BundleError(f"the tables do not fit the contexts: {error}") from None
    for part in signs:
        encoder.put_signs(part)
    return symbols


def decoding(
    model: ContextModel, shape: tuple[int, int], level: int
) -> Generator[Ints, Ints, Unsigned]:
    """Decodes one block: yields the tables of each stage, is sent the values.

    Returns the symbols without the signs of symmetric slices, and where those are.

    Raises:
        BitstreamError: a symbol is out of range.
    """
    unsigned: list[tuple[slice, Ints]] = []
    walk = model.walk(shape, level)
    try:
        stage = next(walk)
        while True:
            values = yield stage.tables
            if stage.centers is None or stage.flipped is None:
                unsigned.append((stage.channels, stage.places[values != 0]))
            else:
                offset = np.where(values & 1, (values + 1) >> 1, -(values >> 1))
                values = np.where(stage.flipped, -offset, offset) + stage.centers
            if values.size and np.abs(values).max() > SYMBOL_LIMIT:
                raise BitstreamError(f"a coded block has a symbol beyond {SYMBOL_LIMIT}")
            stage = walk.send(values)
    except StopIteration as end:
        return Unsigned(end.value, unsigned)


@dataclass(frozen=True)
class Unsigned:
    """Symbols of a block whose signs in symmetric slices are still to come.

    Attributes:
        symbols: int32 (channels, h, w), which `signed` changes.
        places: for each symmetric stage its channels and the flat positions of what is not 0.
    """

    symbols: Symbols
    places: Sequence[tuple[slice, Ints]]

    def signed(self, decoder: Decoder) -> Symbols:
        """The symbols, with the signs that the decoder has.

        Raises:
            BitstreamError: the block has another length than its content.
        """
        negative = decoder.take_signs(sum(len(places) for _, places in self.places))
        begin = 0
        for channels, places in self.places:
            flat = self.symbols[channels].reshape(-1)
            some = places[negative[begin : begin + len(places)]]
            flat[some] = -flat[some]
            begin += len(places)
        return self.symbols


def decode(model: ContextModel, shape: tuple[int, int], level: int, decoder: Decoder) -> Symbols:
    """The symbols int32 (channels, h, w) of a coded block.

    Raises:
        BitstreamError: damaged.
    """
    block = decoding(model, shape, level)
    try:
        tables = next(block)
        while True:
            tables = block.send(decoder.take(tables))
    except StopIteration as end:
        unsigned: Unsigned = end.value
    return unsigned.signed(decoder)
