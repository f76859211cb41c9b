"""What goes along with audio: tags, a broadcast extension, markers, and which channel is where."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from edgeae.media.audio_parts import chunks

__all__ = ["AudioMetadata", "carry", "finish_wave", "gather", "layout_is_usual"]

# Chunks of a WAV file that describe it (EBU Tech 3285, iXML, ADM, markers); they hold positions in
# frames, and denoised audio has as many.
_KEPT_CHUNKS = (b"bext", b"iXML", b"axml", b"chna", b"cue ", b"smpl", b"inst", b"plst")
_MOST_CHUNK_BYTES = 1 << 20
# What 32 bits of a RIFF header hold, less a little.
_MOST_PLAIN_BYTES = 0xFFFFFFF0
# Vorbis comments that libsndfile carries, by their names there.
_KNOWN_COMMENTS = {
    "TITLE", "COPYRIGHT", "ENCODER", "ARTIST", "COMMENT", "DATE", "ALBUM", "LICENSE",
    "TRACKNUMBER", "GENRE", "DESCRIPTION", "SOFTWARE",
}  # fmt: skip
# Where speakers stand if nothing else is said, for 1 to 8 channels (RFC 9639, section 9.1.3).
_USUAL_MASKS = {1: 4, 2: 3, 3: 7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}


@dataclass(frozen=True)
class AudioMetadata:
    """Tags by libsndfile's names, chunks of a WAV file, the channel mask of WAVEFORMATEXTENSIBLE.

    `others` name what the file has besides and cannot be carried.
    """

    tags: dict[str, str] = field(default_factory=dict)
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    channel_mask: int | None = None
    others: tuple[str, ...] = ()


def gather(file: BinaryIO, decoder: Any) -> AudioMetadata:
    """The metadata of a file that was found whole; `decoder` is libsndfile's view of it."""
    tags = {key: value for key, value in decoder.copy_metadata().items() if value}
    size = file.seek(0, 2)
    file.seek(0)
    form = file.read(12)
    if form[:4] in (b"RIFF", b"RF64"):
        kept, mask = _wave_chunks(file, size)
        return AudioMetadata(tags, kept, mask)
    if form[:4] == b"fLaC":
        return AudioMetadata(tags, others=_flac_others(file))
    return AudioMetadata(tags)


def _wave_chunks(file: BinaryIO, size: int) -> tuple[tuple[tuple[bytes, bytes], ...], int | None]:
    kept: list[tuple[bytes, bytes]] = []
    mask = None
    for chunk in chunks(file, size):
        file.seek(chunk.start)
        if chunk.name == b"fmt " and chunk.length >= 40:
            body = file.read(40)
            if body[:2] == b"\xfe\xff":
                mask = struct.unpack_from("<I", body, 20)[0]
        elif chunk.name in _KEPT_CHUNKS and chunk.length <= _MOST_CHUNK_BYTES:
            kept.append((chunk.name, file.read(chunk.length)))
        elif chunk.name == b"LIST" and chunk.length <= _MOST_CHUNK_BYTES:
            body = file.read(chunk.length)
            if body[:4] == b"adtl":  # names of the markers
                kept.append((chunk.name, body))
    return tuple(kept), mask


def _flac_others(file: BinaryIO) -> tuple[str, ...]:
    found: list[str] = []
    position, last = 4, False
    while not last:
        file.seek(position)
        block = file.read(4)
        if len(block) < 4:
            break
        last, kind, length = (
            bool(block[0] & 0x80),
            block[0] & 0x7F,
            int.from_bytes(block[1:], "big"),
        )
        if kind == 6:
            found.append("cover art")
        elif kind == 5:
            found.append("a cue sheet")
        elif kind == 4:
            names = _comment_names(file.read(min(length, _MOST_CHUNK_BYTES)))
            found += sorted(names - _KNOWN_COMMENTS)
        position += 4 + length
    return tuple(found)


def _comment_names(body: bytes) -> set[str]:
    names: set[str] = set()
    try:
        at = 4 + struct.unpack_from("<I", body)[0]
        (count,) = struct.unpack_from("<I", body, at)
        at += 4
        for _ in range(min(count, 1024)):
            (length,) = struct.unpack_from("<I", body, at)
            name, _, _ = body[at + 4 : at + 4 + length].partition(b"=")
            names.add(name.decode("ascii", "replace").upper())
            at += 4 + length
    except struct.error:
        pass  # what cannot be read is not named
    return names


def layout_is_usual(metadata: AudioMetadata, channels: int) -> bool:
    """Whether the channel mask says what is meant without one."""
    return metadata.channel_mask in (None, 0, _USUAL_MASKS.get(channels))


def carry(metadata: AudioMetadata, encoder: Any) -> None:
    """Give the tags to a libsndfile file that is being written, as far as its format takes them."""
    for name, value in metadata.tags.items():
        try:
            setattr(encoder, name, value)
        except (RuntimeError, AttributeError, ValueError):
            continue  # what is not there afterwards is told


def finish_wave(file: BinaryIO, metadata: AudioMetadata, *, plain: bool) -> None:
    """Put chunks and channel mask into a WAV file that libsndfile wrote.

    With `plain` an RF64 file that came out small becomes a plain WAV file, its room for long sizes
    a chunk that readers pass over (EBU Tech 3306, section 3).
    """
    size = file.seek(0, 2)
    file.seek(0)
    form = file.read(4)
    found = {chunk.name: chunk for chunk in chunks(file, size)}
    header = found[b"fmt "]
    if metadata.channel_mask is not None and header.length >= 40:
        file.seek(header.start + 20)
        file.write(struct.pack("<I", metadata.channel_mask))
    file.seek(0, 2)
    if size % 2:
        file.write(b"\0")
    for name, body in metadata.chunks:
        file.write(name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2))
    size = file.seek(0, 2)
    if form != b"RF64":
        file.seek(4)
        file.write(struct.pack("<I", size - 8))
        return
    long = found[b"ds64"]
    file.seek(long.start)
    file.write(struct.pack("<Q", size - 8))
    data_bytes = struct.unpack("<Q", file.read(8))[0]
    if not plain or size - 8 > _MOST_PLAIN_BYTES:
        return
    file.seek(0)
    file.write(b"RIFF" + struct.pack("<I", size - 8))
    file.seek(long.start - 8)
    file.write(b"JUNK")
    file.seek(found[b"data"].start - 4)
    file.write(struct.pack("<I", data_bytes))
    file.seek(header.start)
    body = file.read(40)
    # libsndfile writes the long form of the header into RF64, which says no more than the short
    # one for one or two channels.
    if header.length == 40 and metadata.channel_mask is None and body[2:4] in (b"\1\0", b"\2\0"):
        file.seek(header.start - 4)
        file.write(struct.pack("<I", 16) + body[24:26] + body[2:16])
        file.write(b"JUNK" + struct.pack("<I", 16) + bytes(16))
