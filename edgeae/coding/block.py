"""Coded blocks: float latents to bytes and bytes to symbols, by a model's contexts and tables."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from edgeae.coding import context, entropy
from edgeae.coding.context import ContextModel, Symbols
from edgeae.coding.rounding import rounding

__all__ = ["BlockCoder"]

Floats = npt.NDArray[np.float32]
Shape = tuple[int, int]


class BlockCoder:
    """Codes blocks of latents, each on its own; safe to use from many threads."""

    def __init__(self, contexts: ContextModel, tables: entropy.Tables, steps: Floats) -> None:
        """`steps` are the quantization steps, float32 (levels, channels)."""
        self.contexts = contexts
        self.tables = tables
        self.steps = steps
        self.rounding = rounding(tables)

    def chooser(self, latents: Floats, level: int) -> context.Decide:
        """What turns latents float32 (channels, h, w) into symbols at a level, stage by stage."""
        quantized = latents / self.steps[level][:, None, None]
        np.clip(quantized, -context.SYMBOL_LIMIT, context.SYMBOL_LIMIT, out=quantized)
        return functools.partial(self.rounding, quantized)

    def quantize(self, latents: Floats, level: int) -> Symbols:
        """The symbols int32 (channels, h, w) that `encode` writes of latents of that shape."""
        walk = self.contexts.walk(_shape(latents), level)
        return context.drive(walk, self.chooser(latents, level))

    def encode(self, latents: Floats, level: int) -> bytes:
        """The coded block of latents float32 (channels, h, w)."""
        encoder = entropy.Encoder(self.tables)
        context.code(self.contexts, _shape(latents), level, encoder, self.chooser(latents, level))
        return encoder.finish()

    def encode_symbols(self, symbols: npt.NDArray[np.integer], level: int) -> bytes:
        """The coded block of symbols (channels, h, w) as they are.

        Raises:
            ValueError: a place that is not coded holds another symbol than its context says.
        """
        encoder = entropy.Encoder(self.tables)

        def choose(stage: context.Stage) -> context.Ints:
            here: context.Ints = symbols[stage.channels].reshape(-1)[stage.places].astype(np.int64)
            return here

        written = context.code(self.contexts, _shape(symbols), level, encoder, choose)
        if not np.array_equal(written, symbols):
            raise ValueError(
                "symbols differ where this codec's contexts leave no choice: no file can hold them"
            )
        return encoder.finish()

    def decode(self, block: bytes | memoryview, shape: Shape, level: int) -> Symbols:
        """The symbols int32 (channels, h, w) of a coded block of (h, w).

        Raises:
            BitstreamError: damaged.
        """
        decoder = entropy.Decoder(self.tables, bytes(block))
        return context.decode(self.contexts, shape, level, decoder)


def _shape(latents: npt.NDArray[np.generic]) -> Shape:
    return latents.shape[1], latents.shape[2]
