"""MPEG audio, frame by frame: layers I to III of ISO/IEC 11172-3 and 13818-3, and tags between."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from edgeae.media.audio_found import AudioParts, DamagedAudio, cut_by, id3_bytes

__all__ = ["mpeg", "mpeg_frame_bytes", "starts_mpeg"]

_KBPS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBPS[2, 3] = _KBPS[2, 2]
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MOST_FRAME_BYTES = 2881
# Version, layer and rate, which all frames of a stream share.
_SAME = 0xFFFE0C00


def mpeg_frame_bytes(word: int) -> int | None:
    """Bytes of the frame that a header begins; None if it is no header, or of free format."""
    version, layer, kbps, rate = (
        word >> 19 & 3,
        4 - (word >> 17 & 3),
        word >> 12 & 15,
        word >> 10 & 3,
    )
    if word >> 21 != 0x7FF or version == 1 or layer == 4 or not 0 < kbps < 15 or rate == 3:
        return None
    bits = 1000 * _KBPS[1 if version == 3 else 2, layer][kbps - 1]
    hz, padding = _RATES[version][rate], word >> 9 & 1
    if layer == 1:
        return (12 * bits // hz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // hz + padding


def _side_bytes(word: int) -> int:
    """Bytes between a header without checksum and what may be a Xing header (layer III)."""
    mono = word >> 6 & 3 == 3
    return (17 if mono else 32) if word >> 19 & 3 == 3 else (9 if mono else 17)


def mpeg(file: BinaryIO, size: int) -> AudioParts:
    """Every frame is walked over and counted.

    Where no Xing header counts them libsndfile guesses from the number of bytes, and stops there:
    so it is made to guess too many, and the true number is held against what it reads.
    """
    file.seek(0)
    data = file.read()
    tag = id3_bytes(file)
    start = data.find(b"\xff", tag)
    while start >= 0 and (start + 4 > size or not _two_frames(data, start)):
        start = data.find(b"\xff", start + 1)
    if start < 0 or (start > tag + 4096 and data[tag:start].strip(b"\0")):
        raise DamagedAudio("not an audio file of a known kind, or its beginning is damaged")
    (word,) = struct.unpack_from(">I", data, start)
    count, position = 0, start
    first_audio, announced = start, None
    while position + 4 <= size:
        (here,) = struct.unpack_from(">I", data, position)
        length = mpeg_frame_bytes(here) if here & _SAME == word & _SAME else None
        if length is None:
            after = _after_tag(data, position)
            if after is not None and after > position:
                position = after
                continue
            if _frames_follow(data, position, word):
                raise DamagedAudio(f"damaged: no MPEG frame begins at byte {position}")
            break
        if position + length > size:
            raise cut_by(position + length - size)
        if count == 0 and announced is None:
            announced = _announced(data[position : position + length], here)
            if announced is not None:
                first_audio = position
                position += length
                continue
        count += 1
        position += length
    if announced is not None and announced > count:
        raise DamagedAudio(f"cut off, its header says {announced} MPEG frames, {count} are there")
    if announced == count:
        return AudioParts(("MP3",))
    if announced is not None:  # a header of no audio that counts none, or a part of the frames
        first_audio += mpeg_frame_bytes(struct.unpack_from(">I", data, first_audio)[0]) or 0
    version, layer = word >> 19 & 3, 4 - (word >> 17 & 3)
    samples = 384 if layer == 1 else 1152 if layer == 2 or version == 3 else 576
    return AudioParts(
        ("MP3",),
        (),
        data[:start],
        first_audio,
        count * samples,
        position,
        _MOST_FRAME_BYTES * count + 128,
    )


def _two_frames(data: bytes, at: int) -> bool:
    (word,) = struct.unpack_from(">I", data, at)
    length = mpeg_frame_bytes(word)
    if length is None:
        return False
    if at + length + 4 > len(data):
        return True
    (after,) = struct.unpack_from(">I", data, at + length)
    return after & _SAME == word & _SAME or data[at + length : at + length + 3] in (b"TAG", b"ID3")


def _announced(frame: bytes, word: int) -> int | None:
    """Frames that a Xing, Info or VBRI header counts, -1 if it counts none, None if it is none."""
    at = 4 + _side_bytes(word) + (0 if word >> 16 & 1 else 2)
    for place in (at, 4 + _side_bytes(word)):
        if frame[place : place + 4] in (b"Xing", b"Info"):
            (flags,) = struct.unpack_from(">I", frame, place + 4)
            return struct.unpack_from(">I", frame, place + 8)[0] if flags & 1 else -1
    if frame[36:40] == b"VBRI":
        return -1  # libsndfile does not take its count
    return None


def _after_tag(data: bytes, at: int) -> int | None:
    """Where a tag that begins at `at` ends."""
    if data[at : at + 3] == b"TAG":
        return at + 128
    if data[at : at + 8] == b"APETAGEX" and at + 24 <= len(data):
        length, _, flags = struct.unpack_from("<III", data, at + 12)
        return at + 32 + (length if flags >> 29 & 1 else 0)
    if data[at : at + 3] == b"ID3":
        return at + id3_bytes(io.BytesIO(data[at : at + 10]))
    return None


def _frames_follow(data: bytes, at: int, word: int) -> bool:
    """Whether two frames of the stream stand one after the other somewhere behind."""
    mark = struct.pack(">I", word)[:2]
    at = data.find(mark, at + 1)
    while at >= 0 and at + 8 <= len(data):
        (here,) = struct.unpack_from(">I", data, at)
        length = mpeg_frame_bytes(here) if here & _SAME == word & _SAME else None
        if length and at + length + 4 <= len(data):
            (after,) = struct.unpack_from(">I", data, at + length)
            if after & _SAME == word & _SAME:
                return True
        at = data.find(mark, at + 1)
    return False


def starts_mpeg(head: bytes) -> bool:
    return len(head) >= 4 and mpeg_frame_bytes(struct.unpack_from(">I", head)[0]) is not None
