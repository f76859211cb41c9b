"""The .eae file of a signal, and its packets; docs/FORMAT.md says all of it byte by byte.

The whole form is chunks, see `coding/container.py`:

    magic    89 45 41 53 0D 0A 1A 0A
    HEAD     codec id (16 bytes) and the header
    naMe     names and units, if there are any: UTF-8, a line a channel, name and unit by a tab
    BLOK     its number, from 0 (a varint), and its block; blocks follow each other
    crCS     the CRCs of HEAD and all BLOK
    DONE     nothing; the end

A block is the coded blocks of all channels: all but the last with their lengths, varints. The
small form, for one block without names, is

    magic    89 73
    codec    the first 4 bytes of the codec id
    header, block
    CRC-32   of all that stands before it

Packets of a signal are one that opens it, which must not be lost, and one for every block:

    opening  80 + number of the signal (0 to 127), the header, CRC-32 of the codec id (16 bytes) and
             all that stands before it
    block    the low 7 bits of its number, the block, CRC-16 (CCITT) of all that stands before it,
             begun with the low 16 bits of the opening's CRC-32
"""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from edgeae.coding import container
from edgeae.coding.container import Chunk, read_varint, varint
from edgeae.errors import BitstreamError
from edgeae.signal.codec_header import Header, Limits, read_body

__all__ = [
    "MAGIC",
    "SMALL_MAGIC",
    "SignalFile",
    "Opening",
    "join",
    "opening_check",
    "read",
    "read_block_packet",
    "read_header",
    "read_opening",
    "readable",
    "split",
    "write",
    "write_block_packet",
    "write_opening",
]

MAGIC = b"\x89EAS\r\n\x1a\n"
SMALL_MAGIC = b"\x89s"
SMALL_ID_BYTES = 4
_NAMES = b"naMe"
_CRC_BYTES, _SHORT_CRC_BYTES = 4, 2
_OPENING = 0x80


@dataclass(frozen=True)
class SignalFile:
    """What a file holds: its header, its blocks in order, names and units of the channels."""

    header: Header
    blocks: Sequence[bytes | memoryview]
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()


def write(
    header: Header,
    blocks: Sequence[bytes],
    names: Sequence[str] = (),
    units: Sequence[str] = (),
) -> bytes:
    """The bytes of a file, in the small form where that can hold it."""
    if len(blocks) == 1 and not names and not units:
        body = SMALL_MAGIC + header.codec_id[:SMALL_ID_BYTES] + header.body() + blocks[0]
        return container.sealed(body)
    chunks = [Chunk(b"HEAD", header.codec_id + header.body())]
    if names or units:
        pairs = zip(names, units or [""] * len(names), strict=True)
        lines = ["\t".join((_line(name), _line(unit))) for name, unit in pairs]
        chunks.append(Chunk(_NAMES, "\n".join(lines).encode()))
    chunks += [Chunk(b"BLOK", varint(i) + block) for i, block in enumerate(blocks)]
    return container.write(MAGIC, chunks)


def _line(text: str) -> str:
    return " ".join(text.split())


def read_header(data: bytes, limits: Limits | None = None) -> Header:
    """The header of a file, of which only the beginning need be there. Raises BitstreamError."""
    limits = limits or Limits()
    if data.startswith(SMALL_MAGIC):
        return _small_header(data, limits)[0]
    return _head(container.first_chunk(data, MAGIC), limits)


def read(data: bytes, limits: Limits | None = None) -> SignalFile:
    """What a whole file holds, every CRC checked.

    Raises BitstreamError: no .eae file of a signal, cut off, damaged, over a limit, or with bytes
    after its end.
    """
    limits = limits or Limits()
    if len(data) > limits.file_bytes:
        raise BitstreamError(
            f"the file has {len(data)} bytes, expected at most {limits.file_bytes}"
        )
    if data.startswith(SMALL_MAGIC):
        header, begin = _small_header(data, limits)
        body = container.unsealed(data, least=begin)
        return _sound(SignalFile(header, [body[begin:]]), len(data), limits)
    chunks = container.read(data, MAGIC, max_chunks=limits.chunks)
    header = _head(chunks[0] if chunks else Chunk(b"", b""), limits)
    blocks: list[bytes | memoryview] = []
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    for chunk in chunks[1:]:
        if chunk.kind == b"BLOK":
            number, begin = read_varint(chunk.body, 0)
            if number != len(blocks):
                raise BitstreamError(f"the file has block {number} where {len(blocks)} should be")
            blocks.append(chunk.body[begin:])
        elif chunk.kind == _NAMES and not names:
            names, units = _names(bytes(chunk.body), header.channels)
        elif chunk.critical:
            kind = chunk.kind.decode("ascii")
            raise BitstreamError(f"the file has a chunk {kind}, which this version cannot read")
    return _sound(SignalFile(header, blocks, names, units), len(data), limits)


def readable(blob: bytes, limits: Limits | None = None) -> bytes:
    """The file itself. Raises ValueError if a reader with these limits would refuse it."""
    try:
        read(blob, limits)
    except BitstreamError as error:
        raise ValueError(f"no reader would take it: {error}") from None
    return blob


def _sound(content: SignalFile, file_bytes: int, limits: Limits) -> SignalFile:
    """The content itself. Raises BitstreamError for another number of blocks than its samples
    need, or for more samples than so many bytes may stand for."""
    header = content.header
    length = header.block_steps * 16
    count = -(-header.samples // length)
    if not header.samples or len(content.blocks) != count:
        raise BitstreamError(f"the file has {len(content.blocks)} blocks, expected {count}")
    samples = header.samples * header.channels
    if samples > max(1 << 20, limits.samples_per_byte * file_bytes):
        raise BitstreamError(f"the file claims {samples} samples in {file_bytes} bytes")
    return content


def _small_header(data: bytes, limits: Limits) -> tuple[Header, int]:
    begin = len(SMALL_MAGIC) + SMALL_ID_BYTES
    return read_body(data, begin, data[len(SMALL_MAGIC) : begin], limits)


def _head(chunk: Chunk, limits: Limits) -> Header:
    if chunk.kind != b"HEAD" or len(chunk.body) < 16:
        raise BitstreamError("the file does not begin with a header that can be read here")
    header, end = read_body(chunk.body, 16, bytes(chunk.body[:16]), limits)
    if end != len(chunk.body):
        raise BitstreamError("the file's header is longer than what it holds")
    return header


def _names(body: bytes, channels: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and units, as far as they are text of so many channels; nothing depends on them."""
    lines = body.decode("utf-8", "replace").split("\n")
    if len(lines) != channels:
        return (), ()
    pairs = [line.partition("\t")[::2] for line in lines]
    return tuple(name for name, _ in pairs), tuple(unit for _, unit in pairs)


def join(parts: Sequence[bytes]) -> bytes:
    """The block of the coded blocks of all channels."""
    return b"".join([*(varint(len(part)) + part for part in parts[:-1]), parts[-1]])


def split(block: bytes | memoryview, channels: int) -> list[bytes]:
    """What `join` was given. Raises BitstreamError if it does not hold so many."""
    parts, begin = [], 0
    for _ in range(channels - 1):
        length, begin = read_varint(block, begin)
        if length > len(block) - begin:
            raise BitstreamError("a block holds less than it says")
        parts.append(bytes(block[begin : begin + length]))
        begin += length
    return [*parts, bytes(block[begin:])]


@dataclass(frozen=True)
class Opening:
    """The packet that opens a signal: its header, its number and what checks its blocks."""

    header: Header
    number: int
    check: int


def write_opening(header: Header, number: int) -> bytes:
    """The packet that opens a signal."""
    body = bytes([_OPENING | number]) + header.body()
    return body + struct.pack("<I", zlib.crc32(body, zlib.crc32(header.codec_id)))


def read_opening(data: bytes, codec_id: bytes, limits: Limits | None = None) -> Opening:
    """What `write_opening` wrote. Raises BitstreamError if it is no such packet of this codec."""
    if len(data) < 1 + _CRC_BYTES or data[0] < _OPENING:
        raise BitstreamError("this is not a packet that opens a signal")
    body, crc = data[:-_CRC_BYTES], int.from_bytes(data[-_CRC_BYTES:], "little")
    if zlib.crc32(body, zlib.crc32(codec_id)) != crc:
        raise BitstreamError("a packet is damaged, or was made by another codec")
    header, end = read_body(body, 1, codec_id, limits or Limits())
    if end != len(body):
        raise BitstreamError("a packet is longer than what it holds")
    return Opening(header, data[0] & 0x7F, opening_check(data))


def opening_check(data: bytes) -> int:
    """What checks the blocks behind an opening packet: its checksum's low bits, not verified."""
    return int.from_bytes(data[-_CRC_BYTES:], "little") & 0xFFFF


def write_block_packet(number: int, block: bytes, check: int) -> bytes:
    """The packet of a block."""
    body = bytes([number & 0x7F]) + block
    return body + struct.pack("<H", binascii.crc_hqx(body, check))


def read_block_packet(data: bytes, check: int) -> tuple[int, bytes]:
    """The low 7 bits of the block's number, and the block. Raises BitstreamError."""
    # A block of what is all but certain has no bytes.
    if len(data) < 1 + _SHORT_CRC_BYTES or data[0] >= _OPENING:
        raise BitstreamError("this is not a packet of a block")
    body = data[:-_SHORT_CRC_BYTES]
    if binascii.crc_hqx(body, check) != int.from_bytes(data[-_SHORT_CRC_BYTES:], "little"):
        raise BitstreamError("a packet is damaged, or of another signal")
    return data[0], body[1:]
