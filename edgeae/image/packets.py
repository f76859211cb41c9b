"""Pictures in packets that may be lost, doubled or come in any order: each packet stands alone.

    side      E0 and the base-2 logarithm of the tiles' side in latents, one byte
    number    of the picture, one byte, so that packets of the next one are told apart
    picture   level * 3 + (0 for (H, W), 1 for one channel, 2 for three), one byte
    size      height and width, varints
    first     the number of the packet's first tile, a varint
    blocks    one coded block for each tile from there on: its length, a varint, and the block; the
              last has length 0 and reaches up to the CRC
    CRC-32    of the codec id (16 bytes) and all that stands before it

The codec's id is not sent: a packet of another codec has another checksum. docs/FORMAT.md says
more.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from edgeae.coding.container import SMALL_CHANNELS, Header, Limits, checked, read_varint, varint
from edgeae.errors import BitstreamError

__all__ = ["MAX_SIDE_LOG2", "Packet", "PacketHeader", "overhead_bytes", "read", "write"]

MARK = 0xE0
MAX_SIDE_LOG2 = 10
CRC_BYTES = 4


@dataclass(frozen=True)
class PacketHeader:
    """What all packets of one picture share.

    Attributes:
        picture: as a file's header says it, with the whole codec id.
        number: 0 to 255.
        side_log2: the tiles' side is 2 ** side_log2 latents.
    """

    picture: Header
    number: int
    side_log2: int


@dataclass(frozen=True)
class Packet:
    """One packet: its tiles are `first`, `first + 1` and so on, one for each block."""

    header: PacketHeader
    first: int
    blocks: Sequence[bytes | memoryview]


def write(header: PacketHeader, blocks: Sequence[bytes], max_packet_bytes: int) -> list[bytes]:
    """Packets with as many blocks each as fit, in the order of their tiles.

    Raises:
        ValueError: a block and what is around it needs more than `max_packet_bytes`.
    """
    packets: list[bytes] = []
    start = _start(header)
    first = 0
    while first < len(blocks):
        body = start + varint(first)
        room = max_packet_bytes - len(body) - 1 - CRC_BYTES
        if len(blocks[first]) > room:
            raise ValueError(
                f"tile {first} needs {max_packet_bytes - room + len(blocks[first])} bytes, "
                f"max_packet_bytes is {max_packet_bytes}"
            )
        last = first
        room -= len(blocks[first])
        while last + 1 < len(blocks):
            # What was the last block gets a length, and the next one takes its place.
            room -= len(varint(len(blocks[last]))) + len(blocks[last + 1])
            if room < 0:
                break
            last += 1
        for block in blocks[first:last]:
            body += varint(len(block)) + block
        body += b"\0" + blocks[last]
        packets.append(body + struct.pack("<I", _crc(header.picture.codec_id, body)))
        first = last + 1
    return packets


def overhead_bytes(header: PacketHeader, tiles: int) -> int:
    """The most that a packet of one block adds to it in a picture of so many tiles."""
    return len(_start(header)) + len(varint(tiles - 1)) + 1 + CRC_BYTES


def read(data: bytes, codec_id: bytes, limits: Limits | None = None) -> Packet:
    """What a packet holds.

    Raises:
        BitstreamError: no packet of this codec, cut off, damaged or over a limit.
    """
    limits = limits or Limits()
    if len(data) > limits.file_bytes:
        raise BitstreamError(f"a packet has {len(data)} bytes, allowed are {limits.file_bytes}")
    if len(data) < 3 + CRC_BYTES or not MARK <= data[0] <= MARK + MAX_SIDE_LOG2:
        raise BitstreamError("this is not a packet of a picture, or it is cut off")
    body = memoryview(data)[:-CRC_BYTES]
    if struct.unpack("<I", data[-CRC_BYTES:])[0] != _crc(codec_id, body):
        raise BitstreamError("a packet is damaged, or was made by another codec")
    level, code = divmod(data[2], len(SMALL_CHANNELS))
    height, place = read_varint(body, 3)
    width, place = read_varint(body, place)
    first, place = read_varint(body, place)
    picture = checked(Header(codec_id, level, height, width, SMALL_CHANNELS[code]), limits)
    header = PacketHeader(picture, data[1], data[0] - MARK)
    return Packet(header, first, _blocks(body, place, limits))


def _blocks(body: memoryview, place: int, limits: Limits) -> list[bytes | memoryview]:
    blocks: list[bytes | memoryview] = []
    while True:
        if len(blocks) == limits.chunks:
            raise BitstreamError(f"a packet has more than {limits.chunks} blocks")
        length, place = read_varint(body, place)
        if length == 0:
            return [*blocks, body[place:]]
        if length > len(body) - place:
            raise BitstreamError("a packet holds less than it says")
        blocks.append(body[place : place + length])
        place += length


def _start(header: PacketHeader) -> bytes:
    picture = header.picture
    code = picture.level * len(SMALL_CHANNELS) + SMALL_CHANNELS.index(picture.channels)
    start = bytes([MARK + header.side_log2, header.number, code])
    return start + varint(picture.height) + varint(picture.width)


def _crc(codec_id: bytes, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(codec_id))
