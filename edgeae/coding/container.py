"""The .eae file, in two forms that a reader tells apart by their first bytes.

docs/FORMAT.md says all of it byte by byte. The whole form is an 8-byte magic, then chunks of
length, type, body and CRC-32, like a PNG:

    magic    89 45 41 45 0D 0A 1A 0A
    chunk    length of the body (uint32, little-endian), type (4 ASCII letters), body, CRC-32 of
             type and body
    HEAD     codec id (16 bytes), level (1), channels (1), height and width (uint32 each)
    ALPH     transparency, if there are 4 channels; before the first tile
    TILE     its number, from 0 (a varint), and its coded block; tiles follow each other row by row
    heAD     the body of HEAD once more, if there are several tiles: read only where HEAD is lost
    DONE     nothing; the end

A type that begins with a small letter is ancillary and may be skipped; an unknown one that begins
with a capital cannot be. How many tiles there are follows from the header, it is never read. All
lengths are checked against what is there before anything is allocated.

The small form, for a picture of one tile without transparency, adds about 15 bytes to its block:

    magic    89 65
    codec    the first 4 bytes of the codec id
    picture  level * 3 + (0 for (H, W), 1 for one channel, 2 for three), one byte
    size     height and width, varints
    block    the coded block
    CRC-32   of all that stands before it

A varint is a number in bytes of 7 bits, low ones first, the top bit set on all but the last.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgeae.errors import BitstreamError

__all__ = [
    "Content",
    "Header",
    "Limits",
    "Remains",
    "checked",
    "read",
    "read_header",
    "read_varint",
    "salvage",
    "varint",
    "write",
]

MAGIC = b"\x89EAE\r\n\x1a\n"
SMALL_MAGIC = b"\x89e"
# Channels that the small form can say, in the order of their codes.
SMALL_CHANNELS = (0, 1, 3)
SMALL_ID_BYTES = 4
_HEAD = struct.Struct("<16sBBII")
# Channels of the given array: 0 stands for (H, W), without a channel axis.
CHANNELS = (0, 1, 3, 4)


@dataclass(frozen=True)
class Limits:
    """What a file, or the packets of a picture, may ask for before they are refused.

    Attributes:
        file_bytes: the file, or one packet.
        pixels, side_pixels: the picture, and each of its sides.
        chunks: those of a file, or the packets of one picture and its tiles.
        pixels_per_byte: how much of a picture each byte of its file may stand for, beyond 2 ** 25
            pixels: a few bytes cannot claim minutes of work. A photo of 0.25 bits a pixel has 32;
            larger pictures of less detail are decoded in regions, or by who sets this higher.
        concealed_pixels_per_byte: how much of a picture each byte that is there may leave to
            concealment, beyond 2 ** 20 pixels: a few bytes cannot claim a huge picture that is
            all but lost.
    """

    file_bytes: int = 1 << 30
    pixels: int = 1 << 28
    side_pixels: int = 1 << 16
    chunks: int = 1 << 17
    pixels_per_byte: int = 1 << 5
    concealed_pixels_per_byte: int = 1 << 12


@dataclass(frozen=True)
class Header:
    """What a reader must know before the first tile.

    Attributes:
        codec_id: what names the codec whose tables wrote the file: 16 bytes, or the first 4 of
            them in the small form.
        level: quantization level, 0 (coarsest) to 64.
        height, width: pixels.
        channels: 1, 3 or 4 of an array (H, W, channels), 0 for (H, W).
    """

    codec_id: bytes
    level: int
    height: int
    width: int
    channels: int


@dataclass(frozen=True)
class Content:
    """What a file holds after its header: coded blocks, one a tile, and packed transparency."""

    blocks: Sequence[bytes | memoryview]
    alpha: bytes | memoryview | None = None


@dataclass(frozen=True)
class Remains:
    """What is sound in a damaged file: its header, coded blocks by the number of their tile, and
    packed transparency."""

    header: Header
    blocks: Mapping[int, memoryview]
    alpha: memoryview | None


def write(header: Header, content: Content) -> bytes:
    """The bytes of a file, in the small form where that can hold it."""
    if len(content.blocks) == 1 and header.channels in SMALL_CHANNELS:
        return _write_small(header, content.blocks[0])
    head = _HEAD.pack(header.codec_id, header.level, header.channels, header.height, header.width)
    chunks = [_chunk(b"HEAD", head)]
    if content.alpha is not None:
        chunks.append(_chunk(b"ALPH", content.alpha))
    chunks += [
        _chunk(b"TILE", b"".join([varint(i), block])) for i, block in enumerate(content.blocks)
    ]
    if len(content.blocks) > 1:
        chunks.append(_chunk(b"heAD", head))
    return b"".join([MAGIC, *chunks, _chunk(b"DONE", b"")])


def _write_small(header: Header, block: bytes | memoryview) -> bytes:
    picture = header.level * len(SMALL_CHANNELS) + SMALL_CHANNELS.index(header.channels)
    body = b"".join(
        [
            SMALL_MAGIC,
            header.codec_id[:SMALL_ID_BYTES],
            bytes([picture]),
            varint(header.height),
            varint(header.width),
            block,
        ]
    )
    return body + struct.pack("<I", zlib.crc32(body))


def varint(value: int) -> bytes:
    """The bytes of a number from 0: 7 bits each, low ones first, the top bit on all but the
    last."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_header(data: bytes, limits: Limits | None = None) -> Header:
    """The header of a file, of which only the beginning need be there.

    Raises:
        BitstreamError: not an .eae file, cut off, damaged, or over a limit.
    """
    limits = limits or Limits()
    if data.startswith(SMALL_MAGIC):
        return _small_header(data, limits)[0]
    return _header(*_next_chunk(data, _start(data)), limits)


def read(data: bytes, limits: Limits | None = None) -> tuple[Header, Content]:
    """The header and the content of a whole file, every CRC checked.

    Raises:
        BitstreamError: not an .eae file, cut off, damaged, over a limit, or with bytes after its
            end.
    """
    limits = _allowed(data, limits)
    if data.startswith(SMALL_MAGIC):
        return _read_small(data, limits)
    chunks = _chunks(data, limits)
    header = _header(*next(chunks, (b"", memoryview(b""))), limits)
    blocks: list[bytes | memoryview] = []
    alpha: memoryview | None = None
    for kind, body in chunks:
        if kind == b"TILE":
            index, begin = read_varint(body, 0)
            if index != len(blocks):
                raise BitstreamError(f"the file has tile {index} where {len(blocks)} should be")
            blocks.append(body[begin:])
        elif kind == b"ALPH" and alpha is None and not blocks:
            alpha = body
        elif kind[:1].isupper() and kind != b"DONE":
            raise BitstreamError(f"the file has a chunk {kind.decode()!r} that is out of place")
    if (alpha is not None) != (header.channels == 4):
        raise BitstreamError("the file's transparency does not fit its header")
    return header, Content(blocks, alpha)


def salvage(data: bytes, limits: Limits | None = None) -> Remains:
    """All that is sound in a file which may be damaged or cut off.

    The reader finds its feet again at the next chunk whose checksum is right. A small file is one
    piece, whole or nothing.

    Raises:
        BitstreamError: no header is left, or it is over a limit.
    """
    limits = _allowed(data, limits)
    if data.startswith(SMALL_MAGIC):
        try:
            header, content = _read_small(data, limits)
        except BitstreamError:
            # One flipped bit makes the whole form's magic begin like the small one's.
            if not _KINDS.search(data):
                raise
        else:
            return Remains(header, {0: memoryview(content.blocks[0])}, None)
    found: Header | None = None
    blocks: dict[int, memoryview] = {}
    alpha: memoryview | None = None
    for kind, body in _sound_chunks(data, limits):
        if kind in (b"HEAD", b"heAD"):
            found = found or _header(b"HEAD", body, limits)
        elif kind == b"TILE":
            index, begin = read_varint(body, 0)
            blocks.setdefault(index, body[begin:])
        elif alpha is None:
            alpha = body
    if found is None:
        raise BitstreamError("this is not an .eae file, or nothing is left of its header")
    if found.channels != 4:
        alpha = None
    return Remains(found, blocks, alpha)


_KINDS = re.compile(rb"HEAD|heAD|ALPH|TILE")
# How many times over the bytes of a file may go into checksums: chunks that only look like some
# could name the whole rest of the file each.
_SALVAGE_PASSES = 8


def _sound_chunks(data: bytes, limits: Limits) -> Iterator[tuple[bytes, memoryview]]:
    view = memoryview(data)
    position, count, left = 0, 0, _SALVAGE_PASSES * len(data)
    while (match := _KINDS.search(data, position)) and count < limits.chunks:
        place, position = match.start(), match.start() + 1
        length = int.from_bytes(view[max(0, place - 4) : place], "little")
        end = place + 4 + length
        if place < 4 or end + 4 > len(data) or length > left:
            continue
        left -= length
        if zlib.crc32(view[place:end]) == int.from_bytes(view[end : end + 4], "little"):
            yield match.group(), view[place + 4 : end]
            position, count = end + 4, count + 1


def _allowed(data: bytes, limits: Limits | None) -> Limits:
    limits = limits or Limits()
    if len(data) > limits.file_bytes:
        raise BitstreamError(f"the file has {len(data)} bytes, allowed are {limits.file_bytes}")
    return limits


def _chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    crc = zlib.crc32(body, zlib.crc32(kind))
    return b"".join([struct.pack("<I", len(body)), kind, body, struct.pack("<I", crc)])


def _start(data: bytes) -> int:
    if not data.startswith(MAGIC):
        short = MAGIC.startswith(data) or SMALL_MAGIC.startswith(data)
        raise BitstreamError("the file is cut off" if short else "this is not an .eae file")
    return len(MAGIC)


def _next_chunk(data: bytes, begin: int) -> tuple[bytes, memoryview]:
    if len(data) - begin < 12:
        raise BitstreamError(f"the file is cut off after {len(data)} bytes")
    length, kind = struct.unpack_from("<I4s", data, begin)
    if length > len(data) - begin - 12:
        raise BitstreamError(f"the file is cut off after {len(data)} bytes")
    if not (kind.isalpha() and kind.isascii()):
        raise BitstreamError(f"the file is damaged near byte {begin}")
    body = memoryview(data)[begin + 8 : begin + 8 + length]
    (crc,) = struct.unpack_from("<I", data, begin + 8 + length)
    if crc != zlib.crc32(body, zlib.crc32(kind)):
        raise BitstreamError(f"the file is damaged near byte {begin}: a checksum does not match")
    return kind, body


def _chunks(data: bytes, limits: Limits) -> Iterator[tuple[bytes, memoryview]]:
    position = _start(data)
    for _ in range(limits.chunks):
        kind, body = _next_chunk(data, position)
        position += 12 + len(body)
        yield kind, body
        if kind == b"DONE":
            if body:
                raise BitstreamError(f"the file's end holds {len(body)} bytes, expected none")
            if position != len(data):
                raise BitstreamError(f"the file has {len(data) - position} bytes after its end")
            return
    raise BitstreamError(f"the file has more than {limits.chunks} chunks")


def _read_small(data: bytes, limits: Limits) -> tuple[Header, Content]:
    if len(data) < len(SMALL_MAGIC) + 4:
        raise BitstreamError(f"the file is cut off after {len(data)} bytes")
    (crc,) = struct.unpack_from("<I", data, len(data) - 4)
    if crc != zlib.crc32(memoryview(data)[:-4]):
        raise BitstreamError("the file is cut off or damaged: its checksum does not match")
    header, begin = _small_header(data[:-4], limits)
    return header, Content([memoryview(data)[begin:-4]])


def _small_header(data: bytes, limits: Limits) -> tuple[Header, int]:
    """The header of the small form, and where its block begins."""
    begin = len(SMALL_MAGIC) + SMALL_ID_BYTES
    if len(data) <= begin:
        raise BitstreamError(f"the file is cut off after {len(data)} bytes")
    level, code = divmod(data[begin], len(SMALL_CHANNELS))
    height, begin = read_varint(data, begin + 1)
    width, begin = read_varint(data, begin)
    codec_id = data[len(SMALL_MAGIC) : len(SMALL_MAGIC) + SMALL_ID_BYTES]
    return checked(Header(codec_id, level, height, width, SMALL_CHANNELS[code]), limits), begin


def read_varint(data: bytes | memoryview, begin: int) -> tuple[int, int]:
    """The varint that begins there, and where it ends. Raises BitstreamError if it does not."""
    value = 0
    # Five bytes hold 35 bits, more than any size that the limits could allow.
    for i, byte in enumerate(data[begin : begin + 5]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, begin + i + 1
    raise BitstreamError("the file is cut off, or a number in it makes no sense")


def _header(kind: bytes, body: memoryview, limits: Limits) -> Header:
    if kind != b"HEAD" or len(body) != _HEAD.size:
        raise BitstreamError("the file does not begin with a header that can be read here")
    codec_id, level, channels, height, width = _HEAD.unpack(body)
    return checked(Header(codec_id, level, height, width, channels), limits)


def checked(header: Header, limits: Limits) -> Header:
    """The header itself. Raises BitstreamError if it makes no sense or is over a limit."""
    height, width = header.height, header.width
    if not height or not width or header.channels not in CHANNELS or header.level > 64:
        raise BitstreamError("the file's header makes no sense")
    if max(height, width) > limits.side_pixels or height * width > limits.pixels:
        raise BitstreamError(
            f"the file holds {width} x {height} pixels, allowed are {limits.pixels} in all "
            f"and {limits.side_pixels} a side"
        )
    return header
