"""Coded blocks: float latents to bytes and bytes to symbols, by a model's contexts and tables."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from edgeae.coding import context, entropy
from edgeae.coding.context import ContextModel, Symbols
from edgeae.coding.many import MAX_LANES, Decoders, Encoders
from edgeae.coding.rounding import rounding

__all__ = ["BlockCoder"]

Floats = npt.NDArray[np.float32]
Shape = tuple[int, int]
# Fewer blocks than this are as fast one by one; more than these would take the memory of more than
# a usual tile, and save no more time.
_WORTHWHILE = 4
_MAX_BLOCKS, _MAX_LATENTS = 512, 1 << 12


class BlockCoder:
    """Codes blocks of latents, each on its own; safe to use from many threads."""

    def __init__(self, contexts: ContextModel, tables: entropy.Tables, steps: Floats) -> None:
        """`steps` are the quantization steps, float32 (levels, channels)."""
        self.contexts = contexts
        self.tables = tables
        self.steps = steps
        self.rounding = rounding(tables)

    def chooser(self, latents: Floats, level: int) -> context.Decide:
        """What turns latents float32 (channels, ...) into symbols at a level, stage by stage."""
        steps = self.steps[level].reshape(-1, *(1 for _ in latents.shape[1:]))
        quantized = latents / steps
        np.clip(quantized, -context.SYMBOL_LIMIT, context.SYMBOL_LIMIT, out=quantized)
        return functools.partial(self.rounding, quantized)

    def quantize(self, latents: Floats, level: int) -> Symbols:
        """The symbols int32 (channels, h, w) that `encode` writes of float32 latents of that shape.

        Raises:
            EdgeaeError: a context graph failed to run.
        """
        walk = self.contexts.walk(_shape(latents), level)
        symbols: Symbols = context.drive(walk, self.chooser(latents, level))[:, 0]
        return symbols

    def encode(self, latents: Floats, level: int) -> bytes:
        """The coded block of latents float32 (channels, h, w).

        Raises:
            EdgeaeError: a context graph failed to run.
        """
        encoder = entropy.Encoder(self.tables)
        context.code(self.contexts, _shape(latents), level, encoder, self.chooser(latents, level))
        return encoder.finish()

    def encode_symbols(self, symbols: npt.NDArray[np.integer], level: int) -> bytes:
        """The coded block of symbols (channels, h, w), integers of any type, as they are.

        Raises:
            ValueError: a place that is not coded holds another symbol than its context says.
        """
        encoder = entropy.Encoder(self.tables)

        def choose(stage: context.Stage) -> context.Ints:
            here: context.Ints = symbols[stage.channels].reshape(-1)[stage.places].astype(np.int64)
            return here

        written = context.code(self.contexts, _shape(symbols), level, encoder, choose)
        if not np.array_equal(written[:, 0], symbols):
            raise ValueError(
                "symbols differ where this codec's contexts leave no choice: no file can hold them"
            )
        return encoder.finish()

    def encode_many(self, latents: Sequence[Floats], level: int) -> list[bytes]:
        """What `encode` gives for each latent, float32 (channels, h, w), in less time where
        they are small and many.

        Raises:
            EdgeaeError: a context graph failed to run.
        """
        blocks: dict[int, bytes] = {}
        for group in self._groups([_shape(part) for part in latents], range(len(latents))):
            shape = _shape(latents[group[0]])
            together = np.stack([latents[i] for i in group], axis=1)
            encoder = Encoders(self.tables, len(group))
            choose = self.chooser(together, level)
            context.code(self.contexts, shape, level, encoder, choose, len(group))
            blocks.update(zip(group, encoder.finish(), strict=True))
        return [
            blocks[i] if i in blocks else self.encode(part, level) for i, part in enumerate(latents)
        ]

    def decode(self, block: bytes | memoryview, shape: Shape, level: int) -> Symbols:
        """The symbols int32 (channels, h, w) of a coded block of (h, w).

        Raises:
            BitstreamError: damaged.
        """
        decoder = entropy.Decoder(self.tables, bytes(block))
        symbols: Symbols = context.decode(self.contexts, shape, level, decoder)[:, 0]
        return symbols

    def decode_many(
        self, blocks: Sequence[bytes | memoryview], shapes: Sequence[Shape], level: int
    ) -> list[Symbols]:
        """What `decode` gives for each block, int32 (channels, h, w), in less time where they are
        small and many. `shapes` are (h, w) of each.

        Raises:
            BitstreamError: one of them is damaged.
        """
        decoders = {i: entropy.Decoder(self.tables, bytes(block)) for i, block in enumerate(blocks)}
        # Blocks of more lanes than their size is worth would take the others' memory with them.
        small = [i for i, d in decoders.items() if len(d.states) <= self._most_lanes(shapes[i])]
        found: dict[int, Symbols] = {}
        for group in self._groups(shapes, small):
            together = Decoders(self.tables, [decoders.pop(i) for i in group])
            symbols = context.decode(self.contexts, shapes[group[0]], level, together, len(group))
            found.update((i, symbols[:, n]) for n, i in enumerate(group))
        for i, decoder in decoders.items():
            found[i] = context.decode(self.contexts, shapes[i], level, decoder)[:, 0]
        return [found[i] for i in range(len(blocks))]

    def _most_lanes(self, shape: Shape) -> int:
        """The most lanes that an encoder gives a block of h rows and w columns."""
        return 1 << entropy.lanes_log2(shape[0] * shape[1] * self.contexts.channels)

    def _groups(self, shapes: Sequence[Shape], numbers: Iterable[int]) -> Iterator[list[int]]:
        """Which of the blocks of these numbers are coded side by side: small ones of one shape."""
        by_shape: dict[Shape, list[int]] = {}
        for i in numbers:
            by_shape.setdefault(shapes[i], []).append(i)
        for (height, width), same in by_shape.items():
            area = height * width
            lanes = self._most_lanes((height, width))
            if lanes > MAX_LANES or len(same) < _WORTHWHILE or not self.contexts.batches:
                continue
            together = max(_WORTHWHILE, min(_MAX_BLOCKS, _MAX_LATENTS // area))
            for begin in range(0, len(same), together):
                group = same[begin : begin + together]
                if len(group) >= _WORTHWHILE:
                    yield group


def _shape(latents: npt.NDArray[np.generic]) -> Shape:
    return latents.shape[1], latents.shape[2]
