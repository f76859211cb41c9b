"""A file as a sequence of checked chunks, whatever they hold.

A file is an 8-byte magic, then chunks like those of a PNG:

    length   of the body, uint32, little-endian
    type     4 ASCII letters
    body
    CRC-32   of type and body, uint32, little-endian

The last chunk has the type DONE and no body. A type that begins with a small letter is ancillary: a
reader that does not know it skips it. One that begins with a capital is critical. All lengths are
checked against what is there before anything is allocated. docs/FORMAT.md says all of it.

Before DONE stands a chunk crCS with the CRCs of all critical chunks, so that a chunk of another
file in the place of one of this file's is noticed. Files without it are read as well.

A varint is a number in bytes of 7 bits, low ones first, the top bit set on all but the last.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from edgeae.errors import BitstreamError

__all__ = [
    "DONE",
    "FRAME_BYTES",
    "SEAL_BYTES",
    "Chunk",
    "as_bytes",
    "first_chunk",
    "read",
    "read_varint",
    "sealed",
    "unsealed",
    "salvage",
    "varint",
    "write",
]

DONE = b"DONE"
# The CRCs of the critical chunks before it, 4 bytes each.
CHECK = b"crCS"
_HEAD = b"HEAD"
# Length, type and CRC around a body.
SEAL_BYTES = 4
FRAME_BYTES = 12
# How many times over the bytes of a file may go into checksums while it is salvaged: chunks that
# only look like some could name the whole rest of the file each.
_SALVAGE_PASSES = 8


@dataclass(frozen=True)
class Chunk:
    """One chunk of a file.

    Attributes:
        kind: type, 4 ASCII letters.
        body: what it holds; of a chunk that was read a view into the file.
    """

    kind: bytes
    body: bytes | memoryview

    @property
    def crc(self) -> int:
        """CRC-32 of type and body."""
        return zlib.crc32(self.body, zlib.crc32(self.kind))

    @property
    def critical(self) -> bool:
        """Whether a reader that does not know the type must refuse the file."""
        return self.kind[:1].isupper()


def as_bytes(blob: Any) -> bytes:
    """A file that a caller gave, as bytes. Raises TypeError for anything else."""
    if not isinstance(blob, bytes | bytearray | memoryview):
        raise TypeError(f"blob is {type(blob).__name__}, expected bytes")
    return bytes(blob)


def sealed(body: bytes) -> bytes:
    """A file in one piece: what it holds, and the CRC-32 of that."""
    return body + struct.pack("<I", zlib.crc32(body))


def unsealed(data: bytes, *, least: int = 0) -> memoryview:
    """What `sealed` was given. Raises BitstreamError if the CRC does not match, or if it is shorter
    than `least` bytes."""
    body = memoryview(data)[:-SEAL_BYTES]
    sound = int.from_bytes(data[-SEAL_BYTES:], "little") == zlib.crc32(body)
    if len(body) < least or not sound:
        raise BitstreamError("the file is cut off or damaged: its checksum does not match")
    return body


def write(magic: bytes, chunks: Iterable[Chunk]) -> bytes:
    """The bytes of a file of these chunks; the check of the whole and the end are added."""
    parts, crcs = [magic], []
    for chunk in chunks:
        parts.append(_framed(chunk))
        if chunk.critical:
            crcs.append(chunk.crc)
    check = Chunk(CHECK, struct.pack(f"<{len(crcs)}I", *crcs))
    return b"".join([*parts, _framed(check), _framed(Chunk(DONE, b""))])


def _framed(chunk: Chunk) -> bytes:
    length = struct.pack("<I", len(chunk.body))
    return b"".join([length, chunk.kind, chunk.body, struct.pack("<I", chunk.crc)])


def read(data: bytes, magic: bytes, *, max_chunks: int) -> list[Chunk]:
    """Every chunk of a whole file after its magic, in order and without DONE, every CRC checked.

    Raises:
        BitstreamError: another magic, cut off, damaged, put together of several files, more than
            `max_chunks` chunks (DONE counts), or bytes after the end.
    """
    _check_magic(data, magic)
    position = len(magic)
    chunks: list[Chunk] = []
    critical: list[int] = []
    checked = False
    while len(chunks) < max_chunks:
        chunk = _chunk_at(data, position)
        position += FRAME_BYTES + len(chunk.body)
        if chunk.kind != DONE:
            chunks.append(chunk)
            if chunk.kind == CHECK:
                checked = True
                if chunk.body != struct.pack(f"<{len(critical)}I", *critical):
                    raise BitstreamError("the file is put together of chunks of several files")
            elif chunk.critical:
                if checked:
                    raise BitstreamError("the file has a chunk after the check of all its chunks")
                critical.append(int.from_bytes(data[position - 4 : position], "little"))
            continue
        if chunk.body:
            raise BitstreamError(f"the file's end holds {len(chunk.body)} bytes, expected none")
        if position != len(data):
            raise BitstreamError(f"the file has {len(data) - position} bytes after its end")
        return chunks
    raise BitstreamError(f"the file has more than {max_chunks} chunks")


def first_chunk(data: bytes, magic: bytes) -> Chunk:
    """The first chunk of a file, of which only the beginning need be there.

    Raises:
        BitstreamError: another magic, or the chunk is cut off or damaged.
    """
    _check_magic(data, magic)
    return _chunk_at(data, len(magic))


def salvage(
    data: bytes, kinds: Collection[bytes], *, copy_of_head: bytes, max_chunks: int
) -> list[Chunk]:
    """The chunks of these types whose CRC is right, wherever they stand in a damaged file.

    Reading goes on at the next chunk whose CRC is right, after `max_chunks` of them it ends. It
    ends with the file: at DONE or at the HEAD of another one. Chunks that the file's check does
    not list are those of another file and left out.

    Args:
        data: the file.
        kinds: types of the chunks, HEAD among them.
        copy_of_head: the one of them that has the body of HEAD once more.
        max_chunks: how many sound chunks are looked at.
    """
    found: list[Chunk] = []
    listed: bytes | memoryview | None = None
    headed = False
    for chunk in _sound_chunks(data, {*kinds, CHECK, DONE}, max_chunks):
        if chunk.kind in (_HEAD, DONE):
            if headed:
                break
            # What came before is of a file whose header is lost.
            found, listed = [], None
        if chunk.kind == CHECK:
            listed = chunk.body if listed is None else listed
        elif chunk.kind != DONE:
            found.append(chunk)
            headed = headed or chunk.kind in (_HEAD, copy_of_head)
    if listed is None:
        return found
    crcs = {int.from_bytes(listed[i : i + 4], "little") for i in range(0, len(listed), 4)}
    heads = [Chunk(_HEAD, c.body).crc for c in found if c.kind in (_HEAD, copy_of_head)]
    if not heads or heads[0] not in crcs:
        return found
    return [chunk for chunk in found if not chunk.critical or chunk.crc in crcs]


def _sound_chunks(data: bytes, kinds: Collection[bytes], max_chunks: int) -> Iterator[Chunk]:
    view, types = memoryview(data), re.compile(b"|".join(map(re.escape, kinds)))
    position, count, left = 0, 0, _SALVAGE_PASSES * len(data)
    while (match := types.search(data, position)) and count < max_chunks:
        place, position = match.start(), match.start() + 1
        length = int.from_bytes(view[max(0, place - 4) : place], "little")
        end = place + 4 + length
        if place < 4 or end + 4 > len(data) or length > left:
            continue
        left -= length
        if zlib.crc32(view[place:end]) == int.from_bytes(view[end : end + 4], "little"):
            yield Chunk(match.group(), view[place + 4 : end])
            position, count = end + 4, count + 1


def _check_magic(data: bytes, magic: bytes) -> None:
    if not data.startswith(magic):
        cut = magic.startswith(data)
        raise BitstreamError("the file is cut off" if cut else "this is not an .eae file")


def _chunk_at(data: bytes, begin: int) -> Chunk:
    if len(data) - begin < FRAME_BYTES:
        raise BitstreamError(f"the file is cut off after {len(data)} bytes")
    length, kind = struct.unpack_from("<I4s", data, begin)
    if length > len(data) - begin - FRAME_BYTES:
        raise BitstreamError(f"the file is cut off after {len(data)} bytes")
    if not (kind.isalpha() and kind.isascii()):
        raise BitstreamError(f"the file is damaged near byte {begin}")
    body = memoryview(data)[begin + 8 : begin + 8 + length]
    (crc,) = struct.unpack_from("<I", data, begin + 8 + length)
    if crc != zlib.crc32(body, zlib.crc32(kind)):
        raise BitstreamError(f"the file is damaged near byte {begin}: a checksum does not match")
    return Chunk(kind, body)


def varint(value: int) -> bytes:
    """The bytes of a number from 0: 7 bits each, low ones first, the top bit on all but the
    last."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes | memoryview, begin: int) -> tuple[int, int]:
    """The varint that begins there, and where it ends.

    Raises:
        BitstreamError: it does not end within 5 bytes.
    """
    value = 0
    # Five bytes hold 35 bits, more than any size that the limits could allow.
    for i, byte in enumerate(data[begin : begin + 5]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, begin + i + 1
    raise BitstreamError("the file is cut off, or a number in it makes no sense")
