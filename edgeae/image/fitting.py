"""Packets of an image whose tiles are as large as fit into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeae.coding.block import BlockCoder
from edgeae.image.packets import PacketHeader, overhead_bytes, write_packets
from edgeae.image.tiles import Synthesis

__all__ = ["fitting_packets"]

Floats = npt.NDArray[np.float32]

# The side of the tiles that tell whether larger ones need be tried, as a power of two.
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
    image, largest, missing = header.image, header.side_log2, 0
    if largest > _PROBE_LOG2:
        # What is too much in a small tile is too much in the large one around it.
        probes = _parts(synthesis, latents, replace(header, side_log2=_PROBE_LOG2))
        if len(coder.encode(_busiest(probes), image.level)) > max_packet_bytes:
            largest = _PROBE_LOG2 - 1
    for side_log2 in range(largest, -1, -1):
        made = replace(header, side_log2=side_log2)
        count = made.tiles(synthesis.stride)
        if count > max_tiles:
            raise ValueError(
                f"max_packet_bytes is {max_packet_bytes}, which would take {count} tiles: "
                f"{max_tiles} are allowed"
            )
        room = max_packet_bytes - overhead_bytes(made, count)
        parts = _parts(synthesis, latents, made)
        # Most sizes of tiles are given up for the tile that has the most in it.
        missing = len(coder.encode(_busiest(parts), image.level)) - room
        if missing <= 0:
            blocks = coder.encode_many(parts, image.level)
            missing = max(map(len, blocks)) - room
            if missing <= 0:
                return write_packets(made, blocks, max_packet_bytes)
    raise ValueError(
        f"a tile of one latent needs {missing} bytes more than max_packet_bytes, "
        f"which is {max_packet_bytes}"
    )


def _parts(synthesis: Synthesis, latents: Floats, header: PacketHeader) -> list[Floats]:
    """The latents of each tile."""
    image = header.image
    layout = synthesis.layout(image.height, image.width, 1 << header.side_log2)
    return [latents[:, tile.rows, tile.columns] for tile in layout]


def _busiest(parts: Sequence[Floats]) -> Floats:
    """The tile that has the most in it."""
    return max(parts, key=lambda part: float(np.abs(part).sum()))
