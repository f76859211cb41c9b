"""The .eae file of items that are coded one by one as vectors of latents, byte by byte.

The whole form is chunks, see `edgeae.coding.container`:

    magic    89 45 41 56 0D 0A 1A 0A
    HEAD     codec id (16 bytes) and the header
    BLOK     its number, from 0 (a varint), and the coded latents of up to 256 items
    crCS     the CRCs of HEAD and all BLOK
    DONE     nothing; the end

The small form, for up to 256 items, is

    magic    89 76
    codec    the first 4 bytes of the codec id
    header, block
    CRC-32   of all that stands before it

docs/FORMAT.md, section 14, says the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeae.coding import container
from edgeae.coding.container import Chunk, read_varint, varint
from edgeae.coding.rate import LEVELS
from edgeae.errors import BitstreamError

__all__ = [
    "BLOCK_ITEMS",
    "DTYPES",
    "MAGIC",
    "MAX_ITEMS",
    "SMALL_MAGIC",
    "Header",
    "ItemFile",
    "read",
    "read_header",
    "write",
]

MAGIC = b"\x89EAV\r\n\x1a\n"
SMALL_MAGIC = b"\x89v"
# Items of a block: 16 latents each make some kilobytes, a damaged one of which costs the file.
BLOCK_ITEMS = 256
# More would be 2 ** 16 chunks, each with its 12 bytes around it.
MAX_ITEMS = 1 << 24
MAX_FILE_BYTES = 1 << 30
# Types of items, in the order of their codes.
DTYPES = ("float32", "float64", "uint8")
_SINGLE = 1 << 4
_ID_BYTES, _SMALL_ID_BYTES = 16, 4


@dataclass(frozen=True)
class Header:
    """What a reader must know before the first block.

    Attributes:
        codec_id: 16 bytes, or the first 4 of them in the small form.
        level: quantization level, 0 (coarsest) to 64.
        dtype: one of `DTYPES`, the type in which items come back.
        items: how many, from 1 to `MAX_ITEMS`.
        single: one item without the axis of a batch.
    """

    codec_id: bytes
    level: int
    dtype: str
    items: int
    single: bool

    @property
    def blocks(self) -> int:
        """How many blocks hold so many items."""
        return -(-self.items // BLOCK_ITEMS)

    def body(self) -> bytes:
        """All but the codec's id."""
        kind = DTYPES.index(self.dtype) | _SINGLE * self.single
        return bytes([kind, self.level]) + varint(self.items)


@dataclass(frozen=True)
class ItemFile:
    """What a file holds: its header and its blocks in order."""

    header: Header
    blocks: Sequence[bytes | memoryview]


def write(header: Header, blocks: Sequence[bytes]) -> bytes:
    """The bytes of a file, in the small form where there is one block."""
    if len(blocks) == 1:
        return container.sealed(
            SMALL_MAGIC + header.codec_id[:_SMALL_ID_BYTES] + header.body() + blocks[0]
        )
    chunks = [Chunk(b"HEAD", header.codec_id + header.body())]
    chunks += [Chunk(b"BLOK", varint(i) + block) for i, block in enumerate(blocks)]
    return container.write(MAGIC, chunks)


def read_header(data: bytes) -> Header:
    """The header of a file, of which only the beginning need be there. Raises BitstreamError."""
    if data.startswith(SMALL_MAGIC):
        return _small_header(data)[0]
    return _head(container.first_chunk(data, MAGIC))


def read(data: bytes) -> ItemFile:
    """What a whole file holds, every CRC checked.

    Raises BitstreamError: no .eae file of items, cut off, damaged, put together of several, or with
    bytes after its end.
    """
    if len(data) > MAX_FILE_BYTES:
        raise BitstreamError(f"the file has {len(data)} bytes, expected at most {MAX_FILE_BYTES}")
    if data.startswith(SMALL_MAGIC):
        header, begin = _small_header(data)
        body = container.unsealed(data, least=begin)
        if header.blocks != 1:
            raise BitstreamError(f"the file claims {header.items} items in one block")
        return ItemFile(header, [body[begin:]])
    # Besides blocks there are the header, the check of all and the end.
    chunks = container.read(data, MAGIC, max_chunks=MAX_ITEMS // BLOCK_ITEMS + 3)
    header = _head(chunks[0] if chunks else Chunk(b"", b""))
    blocks: list[bytes | memoryview] = []
    for chunk in chunks[1:]:
        if chunk.kind == b"BLOK":
            number, begin = read_varint(chunk.body, 0)
            if number != len(blocks):
                raise BitstreamError(f"the file has block {number} where {len(blocks)} should be")
            blocks.append(chunk.body[begin:])
        elif chunk.critical:
            kind = chunk.kind.decode("ascii")
            raise BitstreamError(f"the file has a chunk {kind}, which this version cannot read")
    if len(blocks) != header.blocks:
        raise BitstreamError(f"the file has {len(blocks)} blocks, expected {header.blocks}")
    return ItemFile(header, blocks)


def _small_header(data: bytes) -> tuple[Header, int]:
    begin = len(SMALL_MAGIC) + _SMALL_ID_BYTES
    return _body(data, begin, data[len(SMALL_MAGIC) : begin])


def _head(chunk: Chunk) -> Header:
    if chunk.kind != b"HEAD" or len(chunk.body) < _ID_BYTES:
        raise BitstreamError("the file does not begin with a header that can be read here")
    header, end = _body(chunk.body, _ID_BYTES, bytes(chunk.body[:_ID_BYTES]))
    if end != len(chunk.body):
        raise BitstreamError("the file's header is longer than what it holds")
    return header


def _body(data: bytes | memoryview, begin: int, codec_id: bytes) -> tuple[Header, int]:
    """The header whose `body` stands there, and where it ends. Raises BitstreamError."""
    if len(data) < begin + 2:
        raise BitstreamError(f"the file is cut off after {len(data)} bytes")
    kind, level = data[begin], data[begin + 1]
    items, end = read_varint(data, begin + 2)
    single, code = bool(kind & _SINGLE), kind & ~_SINGLE
    sound = code < len(DTYPES) and level < LEVELS and 1 <= items <= MAX_ITEMS
    if not sound or (single and items != 1):
        raise BitstreamError("the file's header makes no sense")
    return Header(bytes(codec_id), level, DTYPES[code], items, single), end
