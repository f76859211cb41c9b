"""Packets of an image whose tiles are as large as fit into one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeae.coding.block import BlockCoder
from edgeae.image.packets import PacketHeader, overhead_bytes, write_packets
from edgeae.image.tiles import Synthesis, Tile

__all__ = ["fitting_packets"]

Floats = npt.NDArray[np.float32]

# The side, as a power of two, from which larger tiles are tried, then smaller ones.
# At packets of a kilobyte and a usual quality it is about the one that fits.
_PROBE_LOG2 = 3


def fitting_packets(
    coder: BlockCoder,
    synthesis: Synthesis,
    latents: Floats,
    header: PacketHeader,
    *,
    max_packet_bytes: int,
    max_tiles: int,
) -> list[bytes]:
    """The packets of an image's latents float32 (channels, h, w), in the largest tiles that fit.

    Args:
        coder: codes the tiles.
        synthesis: knows the tiles of an image.
        latents: of the whole image.
        header: of the packets, with the largest tiles that are allowed.
        max_packet_bytes: of each packet.
        max_tiles: how many tiles an image may have.

    Raises:
        ValueError: it would take more tiles, or not even a tile of one latent fits.
    """
    level, missing = header.image.level, 0
    content = _content(latents, coder.steps[level])

    def room(made: PacketHeader) -> int:
        return max_packet_bytes - overhead_bytes(made, made.tiles(synthesis.stride))

    def missing_bytes(made: PacketHeader) -> int:
        """What the tile that seems to have the most in it takes beyond the room for it."""
        tile = max(_layout(synthesis, made), key=lambda t: float(content[t.rows, t.columns].sum()))
        return len(coder.encode(latents[:, tile.rows, tile.columns], level)) - room(made)

    largest = header.side_log2
    for side_log2 in range(_PROBE_LOG2, header.side_log2 + 1):
        # What is too much in a small tile is too much in the large one around it.
        if missing_bytes(replace(header, side_log2=side_log2)) > 0:
            largest = side_log2 - 1
            break
    for side_log2 in range(largest, -1, -1):
        made = replace(header, side_log2=side_log2)
        count = made.tiles(synthesis.stride)
        if count > max_tiles:
            raise ValueError(
                f"max_packet_bytes is {max_packet_bytes}, which would take {count} tiles: "
                f"expected at most {max_tiles}"
            )
        missing = missing_bytes(made) if side_log2 < _PROBE_LOG2 else 0
        if missing <= 0:
            parts = [latents[:, tile.rows, tile.columns] for tile in _layout(synthesis, made)]
            blocks = coder.encode_many(parts, level)
            missing = max(map(len, blocks)) - room(made)
            if missing <= 0:
                return write_packets(made, blocks, max_packet_bytes)
    raise ValueError(
        f"max_packet_bytes is {max_packet_bytes}, expected {missing} more for a tile of one latent"
    )


def _layout(synthesis: Synthesis, header: PacketHeader) -> list[Tile]:
    """The tiles of an image in packets."""
    image = header.image
    return synthesis.layout(image.height, image.width, 1 << header.side_log2)


def _content(latents: Floats, steps: Floats) -> Floats:
    """Roughly the bits, float32 (h, w), that each place of latents (channels, h, w) will take."""
    bits: Floats = np.log2(np.abs(latents) / steps[:, None, None] + 1).sum(axis=0)
    return bits
