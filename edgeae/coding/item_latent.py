"""Latents of items to symbols and bytes: a step for each latent and level, static tables.

Each latent is rounded to a whole number of steps from its center, and coded by a table of its own,
which was counted on the training items. There is no context: items are few numbers each and come
alone, so a block of one item is as well coded as a block of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeae.coding.item_file import BLOCK_ITEMS
from edgeae.coding.rate import LEVELS
from edgeae.coding.single_lane import ALPHABET, Decoder, FineTables, encode
from edgeae.errors import BitstreamError

__all__ = [
    "MAX_FREQUENCY",
    "MAX_SYMBOL",
    "QUALITIES",
    "ItemLatent",
    "folded",
    "quality_index",
    "table_bytes",
]

# Tables are counted at whole qualities; the levels between use the nearest.
QUALITIES = 9
_LEVELS_PER_QUALITY = (LEVELS - 1) // (QUALITIES - 1)
# No symbol costs less than 1/64 bit, so that a byte stands for 512 symbols at most and a few bytes
# cannot claim minutes of work: 65536 * 2 ** (-1 / 64).
MAX_FREQUENCY = 64_830
_SYMBOLS_PER_BYTE = 512
# Bytes that a coded block may have saved at its end, see `single_lane`.
_END_BYTES = 6
# Symbols are int32; latents further from their center are coded as being there.
MAX_SYMBOL = (1 << 30) - 1

Floats = npt.NDArray[np.float32]
Symbols = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ItemLatent:
    """What codes the latents of one model.

    Attributes:
        centers: of each latent, float32 (latents,).
        steps: positive float32 (LEVELS, latents).
        tables: QUALITIES * latents of them, those of the coarsest quality first.
    """

    centers: Floats
    steps: Floats
    tables: FineTables

    @staticmethod
    def from_bytes(data: bytes, latents: int) -> ItemLatent:
        """What tables.bin holds of so many latents.

        Raises ValueError: another number of bytes, a table that is none or gives a symbol for less
        than 1/64 bit, a step that is no positive number.
        """
        count = QUALITIES * latents
        sizes = [2 * ALPHABET * count, count, 4 * latents, 4 * LEVELS * latents]
        if len(data) != sum(sizes):
            raise ValueError(f"{len(data)} bytes, expected {sum(sizes)}")
        frequencies = np.frombuffer(data, "<u2", ALPHABET * count).astype(np.uint16)
        shifts = np.frombuffer(data, np.uint8, count, offset=sizes[0])
        numbers = np.frombuffer(data, "<f4", offset=sizes[0] + sizes[1]).astype(np.float32)
        centers, steps = numbers[:latents], numbers[latents:].reshape(LEVELS, latents)
        if not np.isfinite(numbers).all() or not (steps > 0).all():
            raise ValueError("a step is not a positive number, or a center not finite")
        if int(frequencies.max()) > MAX_FREQUENCY:
            raise ValueError(
                f"a frequency is {frequencies.max()}, expected at most {MAX_FREQUENCY}"
            )
        tables = FineTables(frequencies.reshape(count, ALPHABET), shifts)
        return ItemLatent(centers, steps, tables)

    def quantize(self, latents: Floats, level: int) -> Symbols:
        """Whole steps from the centers, int32 (N, latents), of latents float32 (N, latents)."""
        whole = np.rint((latents.astype(np.float64) - self.centers) / self.steps[level])
        symbols: Symbols = whole.clip(-MAX_SYMBOL, MAX_SYMBOL).astype(np.int32)
        return symbols

    def dequantize(self, symbols: Symbols, level: int) -> Floats:
        """The latents that symbols stand for, float32 (N, latents)."""
        found: Floats = (symbols * self.steps[level].astype(np.float64) + self.centers).astype("f4")
        return found

    def encode(self, symbols: Symbols, level: int) -> list[bytes]:
        """Coded blocks of up to `BLOCK_ITEMS` items each, of symbols (N, latents)."""
        values, tables = folded(symbols), self._tables(level)
        blocks = []
        for start in range(0, len(values), BLOCK_ITEMS):
            block = values[start : start + BLOCK_ITEMS]
            events = self.tables.events(block.ravel(), np.tile(tables, len(block)))
            blocks.append(encode(events))
        return blocks

    def decode(self, blocks: Sequence[bytes | memoryview], items: int, level: int) -> Symbols:
        """Symbols int32 (items, latents) of blocks.

        Raises BitstreamError: a block holds something else, or claims more than its bytes can hold.
        """
        tables = self._tables(level).tolist()
        parts: list[int] = []
        for number, block in enumerate(blocks):
            count = min(BLOCK_ITEMS, items - number * BLOCK_ITEMS)
            if count * len(tables) > _SYMBOLS_PER_BYTE * (len(block) + _END_BYTES):
                raise BitstreamError(f"a block claims {count} items in {len(block)} bytes")
            decoder = Decoder(self.tables, block)
            parts += decoder.take_all(tables * count)
            decoder.finish()
        if max(parts, default=0) > 2 * MAX_SYMBOL:
            raise BitstreamError("a block holds a symbol that no writer makes")
        return _unfolded(np.array(parts, np.int64)).reshape(items, len(tables))

    def _tables(self, level: int) -> Ints:
        """The table of each latent, int64 (latents,)."""
        latents = len(self.centers)
        return quality_index(level) * latents + np.arange(latents)


def quality_index(level: int) -> int:
    """The whole quality next to a level, 0 (coarsest) to 8; halves go to the finer one."""
    return (level + _LEVELS_PER_QUALITY // 2) // _LEVELS_PER_QUALITY


def folded(symbols: Symbols) -> Ints:
    """Symbols 0, 1, -1, 2, -2 ... as 0, 1, 2, 3, 4 ..., int64."""
    wide = symbols.astype(np.int64)
    return np.where(wide > 0, 2 * wide - 1, -2 * wide)


def _unfolded(values: Ints) -> Symbols:
    return np.where(values % 2 == 1, (values + 1) // 2, -(values // 2)).astype(np.int32)


def table_bytes(latent: ItemLatent) -> bytes:
    """tables.bin: frequencies, shifts, centers and steps, little-endian."""
    return b"".join(
        [
            latent.tables.frequencies.astype("<u2").tobytes(),
            latent.tables.shifts.astype(np.uint8).tobytes(),
            latent.centers.astype("<f4").tobytes(),
            latent.steps.astype("<f4").tobytes(),
        ]
    )
