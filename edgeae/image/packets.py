"""Images in packets that may be lost, doubled or come in any order: each packet stands alone.

    side      E0 and the base-2 logarithm of the tiles' side in latents, one byte
    number    of the image, one byte, so that packets of the next one are told apart
    image     level * 3 + (0 for (H, W), 1 for one channel, 2 for three), one byte
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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgeae.coding.container import read_varint, varint
from edgeae.errors import BitstreamError
from edgeae.image.header import Header, Limits, read_short, short_bytes

__all__ = [
    "MAX_SIDE_LOG2",
    "Packet",
    "PacketHeader",
    "Received",
    "gather",
    "overhead_bytes",
    "read_packet",
    "write_packets",
]

MARK = 0xE0
MAX_SIDE_LOG2 = 10
CRC_BYTES = 4


@dataclass(frozen=True)
class PacketHeader:
    """What all packets of one image share.

    Attributes:
        image: as a file's header says it, with the whole codec id.
        number: 0 to 255.
        side_log2: the tiles' side is 2 ** side_log2 latents.
    """

    image: Header
    number: int
    side_log2: int

    def tiles(self, stride: int) -> int:
        """How many tiles the image has, if a latent is of `stride` pixels."""
        pixels = stride << self.side_log2
        return -(-self.image.height // pixels) * -(-self.image.width // pixels)


@dataclass(frozen=True)
class Packet:
    """One packet: its tiles are `first`, `first + 1` and so on, one for each block.

    Attributes:
        header: what it shares with the image's other packets.
        first: number of its first tile.
        content: its blocks with their lengths, a view into the packet.
    """

    header: PacketHeader
    first: int
    content: memoryview

    @property
    def blocks(self) -> list[memoryview]:
        """The coded blocks, in the order of their tiles."""
        return list(_blocks(self.content))


@dataclass(frozen=True)
class Received:
    """What came of one image.

    Attributes:
        header: what its packets share.
        blocks: coded blocks by the number of their tile.
        packet_bytes: all bytes of its packets.
    """

    header: PacketHeader
    blocks: Mapping[int, memoryview]
    packet_bytes: int


def gather(
    packets: Iterable[bytes], codec_id: bytes, *, max_side: int, stride: int, limits: Limits
) -> Received:
    """The blocks of the image of which the most packets came; of a tile that came twice the first.

    Packets that are damaged, of another codec, of tiles of more than `max_side` latents or of none
    that the image has are passed over, and so are blocks beyond its last tile. What is kept is
    the packets themselves and one block for each tile.

    Raises:
        TypeError: something that is no bytes.
        BitstreamError: no packet is left, or more than `limits.chunks` came.
    """
    sound: list[tuple[Packet, int]] = []
    came = 0
    for came, packet in enumerate(packets, 1):
        if not isinstance(packet, bytes | bytearray | memoryview):
            raise TypeError(f"a packet is {type(packet).__name__}, expected bytes")
        if came > limits.chunks:
            raise BitstreamError(f"more than {limits.chunks} packets came")
        try:
            held = read_packet(bytes(packet), codec_id, limits)
        except BitstreamError:
            continue
        # No writer makes larger ones: they would take many times the memory of the codec's tiles.
        if 1 << held.header.side_log2 <= max_side and held.first < held.header.tiles(stride):
            sound.append((held, len(packet)))
    if not sound:
        raise BitstreamError(f"of {came} packets none is sound and of this codec")
    header = Counter(held.header for held, _ in sound).most_common(1)[0][0]
    count = header.tiles(stride)
    blocks: dict[int, memoryview] = {}
    packet_bytes = 0
    for held, size in sound:
        if held.header == header:
            packet_bytes += size
            for tile, block in zip(range(held.first, count), _blocks(held.content), strict=False):
                blocks.setdefault(tile, block)
    return Received(header, blocks, packet_bytes)


def write_packets(
    header: PacketHeader, blocks: Sequence[bytes], max_packet_bytes: int
) -> list[bytes]:
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
                f"max_packet_bytes is {max_packet_bytes}, expected at least "
                f"{max_packet_bytes - room + len(blocks[first])} for tile {first}"
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
        packets.append(body + struct.pack("<I", _crc(header.image.codec_id, body)))
        first = last + 1
    return packets


def overhead_bytes(header: PacketHeader, tiles: int) -> int:
    """The most that a packet of one block adds to it in an image of so many tiles."""
    return len(_start(header)) + len(varint(tiles - 1)) + 1 + CRC_BYTES


def read_packet(data: bytes, codec_id: bytes, limits: Limits | None = None) -> Packet:
    """What a packet holds.

    Raises:
        BitstreamError: no packet of this codec, cut off, damaged or over a limit.
    """
    limits = limits or Limits()
    if len(data) > limits.file_bytes:
        raise BitstreamError(
            f"a packet has {len(data)} bytes, expected at most {limits.file_bytes}"
        )
    if len(data) < 3 + CRC_BYTES or not MARK <= data[0] <= MARK + MAX_SIDE_LOG2:
        raise BitstreamError("this is not a packet of an image, or it is cut off")
    body = memoryview(data)[:-CRC_BYTES]
    if struct.unpack("<I", data[-CRC_BYTES:])[0] != _crc(codec_id, body):
        raise BitstreamError("a packet is damaged, or was made by another codec")
    image, place = read_short(body, 2, codec_id, limits)
    first, place = read_varint(body, place)
    header = PacketHeader(image, data[1], data[0] - MARK)
    for count, _ in enumerate(_blocks(body[place:]), 1):
        if count > limits.chunks:
            raise BitstreamError(f"a packet has more than {limits.chunks} blocks")
    return Packet(header, first, body[place:])


def _blocks(content: memoryview) -> Iterator[memoryview]:
    """The blocks of a packet. Raises BitstreamError if they do not use it up exactly."""
    place = 0
    while True:
        length, place = read_varint(content, place)
        if length == 0:
            yield content[place:]
            return
        if length > len(content) - place:
            raise BitstreamError("a packet holds less than it says")
        yield content[place : place + length]
        place += length


def _start(header: PacketHeader) -> bytes:
    return bytes([MARK + header.side_log2, header.number]) + short_bytes(header.image)


def _crc(codec_id: bytes, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(codec_id))
