"""The .eae file, in two forms that a reader tells apart by their first bytes.

The whole form is an 8-byte magic, then chunks of length, type, body and CRC-32, like a PNG:

    magic    89 45 41 45 0D 0A 1A 0A
    chunk    length of the body (uint32, little-endian), type (4 ASCII letters), body, CRC-32 of
             type and body
    HEAD     codec id (16 bytes), level (1), channels (1), height and width (uint32 each)
    ALPH     transparency, if there are 4 channels; before the first tile
    TILE     one coded block; tiles follow each other row by row
    DONE     nothing; the end

A type that begins with a small letter is ancillary and may be skipped; an unknown one that begins
with a capital cannot be. Numbers of tiles follow from the header, they are never read. All lengths
are checked against what is there before anything is allocated.

The small form, for a picture of one tile without transparency, adds about 15 bytes to its block:

    magic    89 65
    codec    the first 4 bytes of the codec id
    picture  level * 3 + (0 for (H, W), 1 for one channel, 2 for three), one byte
    size     height and width, each in bytes of 7 bits, low ones first, the top bit set on all but
             the last
    block    the coded block
    CRC-32   of all that stands before it
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .errors import BitstreamError

__all__ = ["Content", "Header", "Limits", "read", "read_header", "write"]

MAGIC = b"\x89EAE\r\n\x1a\n"
SMALL_MAGIC = b"\x89e"
# Channels that the small form can say, in the order of their codes.
_SMALL_CHANNELS = (0, 1, 3)
_SMALL_ID_BYTES = 4
_HEAD = struct.Struct("<16sBBII")
_MAX_CHUNKS = 1 << 17
# Channels of the given array: 0 stands for (H, W), without a channel axis.
CHANNELS = (0, 1, 3, 4)


@dataclass(frozen=True)
class Limits:
    """What a file may ask for before it is refused."""

    pixels: int = 1 << 28
    side_pixels: int = 1 << 16


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


def write(header: Header, content: Content) -> bytes:
    """The bytes of a file, in the small form where that can hold it."""
    if len(content.blocks) == 1 and header.channels in _SMALL_CHANNELS:
        return _write_small(header, content.blocks[0])
    head = _HEAD.pack(header.codec_id, header.level, header.channels, header.height, header.width)
    chunks = [_chunk(b"HEAD", head)]
    if content.alpha is not None:
        chunks.append(_chunk(b"ALPH", content.alpha))
    chunks += [_chunk(b"TILE", block) for block in content.blocks]
    return b"".join([MAGIC, *chunks, _chunk(b"DONE", b"")])


def _write_small(header: Header, block: bytes | memoryview) -> bytes:
    picture = header.level * len(_SMALL_CHANNELS) + _SMALL_CHANNELS.index(header.channels)
    body = b"".join(
        [
            SMALL_MAGIC,
            header.codec_id[:_SMALL_ID_BYTES],
            bytes([picture]),
            _varint(header.height),
            _varint(header.width),
            block,
        ]
    )
    return body + struct.pack("<I", zlib.crc32(body))


def _varint(value: int) -> bytes:
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
    if data.startswith(SMALL_MAGIC):
        return _small_header(data, limits or Limits())[0]
    return _header(*_next_chunk(data, _start(data)), limits or Limits())


def read(data: bytes, limits: Limits | None = None) -> tuple[Header, Content]:
    """The header and the content of a whole file, every CRC checked.

    Raises:
        BitstreamError: not an .eae file, cut off, damaged, over a limit, or with bytes after its
            end.
    """
    if data.startswith(SMALL_MAGIC):
        return _read_small(data, limits or Limits())
    chunks = _chunks(data)
    header = _header(*next(chunks, (b"", memoryview(b""))), limits or Limits())
    blocks: list[bytes | memoryview] = []
    alpha: memoryview | None = None
    for kind, body in chunks:
        if kind == b"TILE":
            blocks.append(body)
        elif kind == b"ALPH" and alpha is None and not blocks:
            alpha = body
        elif kind[:1].isupper() and kind != b"DONE":
            raise BitstreamError(f"the file has a chunk {kind.decode()!r} that is out of place")
    if (alpha is not None) != (header.channels == 4):
        raise BitstreamError("the file's transparency does not fit its header")
    return header, Content(blocks, alpha)


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


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    position = _start(data)
    for _ in range(_MAX_CHUNKS):
        kind, body = _next_chunk(data, position)
        position += 12 + len(body)
        yield kind, body
        if kind == b"DONE":
            if body:
                raise BitstreamError(f"the file's end holds {len(body)} bytes, expected none")
            if position != len(data):
                raise BitstreamError(f"the file has {len(data) - position} bytes after its end")
            return
    raise BitstreamError(f"the file has more than {_MAX_CHUNKS} chunks")


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
    begin = len(SMALL_MAGIC) + _SMALL_ID_BYTES
    if len(data) <= begin:
        raise BitstreamError(f"the file is cut off after {len(data)} bytes")
    level, code = divmod(data[begin], len(_SMALL_CHANNELS))
    height, begin = _read_varint(data, begin + 1)
    width, begin = _read_varint(data, begin)
    codec_id = data[len(SMALL_MAGIC) : len(SMALL_MAGIC) + _SMALL_ID_BYTES]
    return _checked(Header(codec_id, level, height, width, _SMALL_CHANNELS[code]), limits), begin


def _read_varint(data: bytes, begin: int) -> tuple[int, int]:
    value = 0
    # Five bytes hold 35 bits, more than any size that the limits could allow.
    for i, byte in enumerate(data[begin : begin + 5]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, begin + i + 1
    raise BitstreamError("the file is cut off, or its header makes no sense")


def _header(kind: bytes, body: memoryview, limits: Limits) -> Header:
    if kind != b"HEAD" or len(body) != _HEAD.size:
        raise BitstreamError("the file does not begin with a header that can be read here")
    codec_id, level, channels, height, width = _HEAD.unpack(body)
    return _checked(Header(codec_id, level, height, width, channels), limits)


def _checked(header: Header, limits: Limits) -> Header:
    height, width = header.height, header.width
    if not height or not width or header.channels not in CHANNELS or header.level > 64:
        raise BitstreamError("the file's header makes no sense")
    if max(height, width) > limits.side_pixels or height * width > limits.pixels:
        raise BitstreamError(
            f"the file holds {width} x {height} pixels, allowed are {limits.pixels} in all "
            f"and {limits.side_pixels} a side"
        )
    return header
