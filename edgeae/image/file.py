"""The .eae file of an image, in two forms that a reader tells apart by their first bytes.

docs/FORMAT.md says all of it byte by byte. The whole form is chunks, see `coding/container.py`:

    magic    89 45 41 45 0D 0A 1A 0A
    HEAD     codec id (16 bytes), level (1), channels (1), height and width (uint32 each)
    exIF     EXIF, and xmPP an XMP packet, if there are any
    ALPH     transparency, if there are 4 channels; before the first tile
    TILE     its number, from 0 (a varint), and its coded block; tiles follow each other row by row
    heAD     the body of HEAD once more, if there are several tiles: read only where HEAD is lost
    crCS     the CRCs of HEAD, ALPH and all TILE
    DONE     nothing; the end

How many tiles there are follows from the header, it is never read.

The small form, for an image of one tile without transparency and metadata, adds about 15 bytes to
its block:

    magic    89 65
    codec    the first 4 bytes of the codec id
    image    level * 3 + (0 for (H, W), 1 for one channel, 2 for three), one byte
    size     height and width, varints
    block    the coded block
    CRC-32   of all that stands before it
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeae.coding import container
from edgeae.coding.container import Chunk, read_varint, varint
from edgeae.errors import BitstreamError
from edgeae.image import exact
from edgeae.image.header import (
    SHORT_CHANNELS,
    Header,
    Limits,
    Metadata,
    read_body,
    read_short,
    short_bytes,
)

__all__ = [
    "MAGIC",
    "SMALL_MAGIC",
    "ImageFile",
    "read",
    "read_header",
    "read_metadata",
    "salvage",
    "write",
]

MAGIC = b"\x89EAE\r\n\x1a\n"
SMALL_MAGIC = b"\x89e"
SMALL_ID_BYTES = 4
EXIF, XMP = b"exIF", b"xmPP"
_NONE = Metadata()
# What is looked for in a damaged file.
_SALVAGED = (b"HEAD", b"heAD", b"ALPH", b"TILE", EXIF, XMP)


@dataclass(frozen=True)
class ImageFile:
    """What a file holds.

    Attributes:
        header: the image's.
        blocks: coded blocks by the number of their tile.
        alpha: packed transparency, if there are 4 channels and it is not lost.
        metadata: EXIF and XMP, those that are there.
    """

    header: Header
    blocks: Mapping[int, bytes | memoryview]
    alpha: bytes | memoryview | None = None
    metadata: Metadata = _NONE


def write(
    header: Header,
    blocks: Sequence[bytes | memoryview],
    alpha: bytes | memoryview | None = None,
    metadata: Metadata | None = None,
) -> bytes:
    """The bytes of a file of one coded block a tile, in the small form where that can hold it."""
    if len(blocks) == 1 and header.channels in SHORT_CHANNELS and metadata in (None, _NONE):
        short = short_bytes(header)
        return container.sealed(SMALL_MAGIC + header.codec_id[:SMALL_ID_BYTES] + short + blocks[0])
    chunks = [Chunk(b"HEAD", header.body())]
    chunks += [
        Chunk(kind, body)
        for kind, body in ((EXIF, (metadata or _NONE).exif), (XMP, (metadata or _NONE).xmp))
        if body is not None
    ]
    if alpha is not None:
        chunks.append(Chunk(b"ALPH", alpha))
    chunks += [Chunk(b"TILE", varint(i) + bytes(block)) for i, block in enumerate(blocks)]
    if len(blocks) > 1:
        chunks.append(Chunk(b"heAD", header.body()))
    return container.write(MAGIC, chunks)


def read_header(data: bytes, limits: Limits | None = None) -> Header:
    """The header of a file, of which only the beginning need be there.

    Raises:
        BitstreamError: not an .eae file, cut off, damaged, or over a limit.
    """
    limits = limits or Limits()
    if data.startswith(SMALL_MAGIC):
        return _small_header(data, limits)[0]
    return _head(container.first_chunk(data, MAGIC), limits)


def read(data: bytes, limits: Limits | None = None) -> ImageFile:
    """What a whole file holds, every CRC checked.

    Raises:
        BitstreamError: not an .eae file, cut off, damaged, over a limit, or with bytes after its
            end.
    """
    limits = _allowed(data, limits)
    if data.startswith(exact.MAGIC):
        raise BitstreamError("the file keeps its image exactly and holds no latent")
    if data.startswith(SMALL_MAGIC):
        return _read_small(data, limits)
    chunks = container.read(data, MAGIC, max_chunks=limits.chunks)
    header = _head(chunks[0] if chunks else Chunk(b"", b""), limits)
    blocks: dict[int, bytes | memoryview] = {}
    alpha: bytes | memoryview | None = None
    for chunk in chunks[1:]:
        if chunk.kind == b"TILE":
            index, begin = read_varint(chunk.body, 0)
            if index != len(blocks):
                raise BitstreamError(f"the file has tile {index} where {len(blocks)} should be")
            blocks[index] = chunk.body[begin:]
        elif chunk.kind == b"ALPH" and alpha is None and not blocks:
            alpha = chunk.body
        elif chunk.critical:
            raise BitstreamError(
                f"the file has a chunk {chunk.kind.decode()!r} that is out of place"
            )
    if (alpha is not None) != (header.channels == 4):
        raise BitstreamError("the file's transparency does not fit its header")
    return ImageFile(header, blocks, alpha, _metadata(chunks))


def read_metadata(data: bytes, limits: Limits | None = None) -> Metadata:
    """The EXIF and XMP of a whole file, of which no tile is decoded.

    Raises:
        BitstreamError: not an .eae file, cut off, damaged, or over a limit.
    """
    if data.startswith(exact.MAGIC):
        return exact.read_metadata(data, limits)
    return read(data, limits).metadata


def _metadata(chunks: Sequence[Chunk]) -> Metadata:
    """The first EXIF and the first XMP of the chunks."""
    found: dict[bytes, bytes] = {}
    for chunk in chunks:
        if chunk.kind in (EXIF, XMP):
            found.setdefault(chunk.kind, bytes(chunk.body))
    return Metadata(found.get(EXIF), found.get(XMP))


def salvage(data: bytes, limits: Limits | None = None) -> ImageFile:
    """All that is sound in a file which may be damaged or cut off.

    A small file is one piece, whole or nothing.

    Raises:
        BitstreamError: no header is left, or it is over a limit.
    """
    limits = _allowed(data, limits)
    if data.startswith(SMALL_MAGIC):
        try:
            return _read_small(data, limits)
        except BitstreamError:
            # One flipped bit makes the whole form's magic begin like the small one's.
            if not re.search(b"|".join(_SALVAGED), data):
                raise
    found: Header | None = None
    blocks: dict[int, bytes | memoryview] = {}
    alpha: bytes | memoryview | None = None
    chunks = container.salvage(data, _SALVAGED, copy_of_head=b"heAD", max_chunks=limits.chunks)
    for chunk in chunks:
        if chunk.kind in (b"HEAD", b"heAD"):
            found = found or read_body(chunk.body, limits)
        elif chunk.kind == b"TILE":
            index, begin = read_varint(chunk.body, 0)
            blocks.setdefault(index, chunk.body[begin:])
        elif chunk.kind == b"ALPH" and alpha is None:
            alpha = chunk.body
    if found is None:
        raise BitstreamError("this is not an .eae file, or nothing is left of its header")
    return ImageFile(found, blocks, alpha if found.channels == 4 else None, _metadata(chunks))


def _allowed(data: bytes, limits: Limits | None) -> Limits:
    limits = limits or Limits()
    if len(data) > limits.file_bytes:
        raise BitstreamError(
            f"the file has {len(data)} bytes, expected at most {limits.file_bytes}"
        )
    return limits


def _head(chunk: Chunk, limits: Limits) -> Header:
    if chunk.kind != b"HEAD":
        raise BitstreamError("the file does not begin with a header that can be read here")
    return read_body(chunk.body, limits)


def _read_small(data: bytes, limits: Limits) -> ImageFile:
    if len(data) < len(SMALL_MAGIC) + container.SEAL_BYTES:
        raise BitstreamError(f"the file is cut off after {len(data)} bytes")
    body = container.unsealed(data)
    header, begin = _small_header(body, limits)
    return ImageFile(header, {0: body[begin:]})


def _small_header(data: bytes | memoryview, limits: Limits) -> tuple[Header, int]:
    """The header of the small form, and where its block begins."""
    begin = len(SMALL_MAGIC) + SMALL_ID_BYTES
    return read_short(data, begin, bytes(data[len(SMALL_MAGIC) : begin]), limits)
