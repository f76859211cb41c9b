"""What an audio file is made of: its kind by its first bytes, and that it is whole.

libsndfile opens two dozen formats by their content and returns the part that is there without a
word. Here a file is walked first: only kinds of an allow-list go on, each with its length, its
checksums and its sequence verified. Where a header gives no length, because the file came through a
pipe, the true one is put before libsndfile.

Sources: RIFF WAVE, EBU Tech 3306 (RF64), AIFF 1.3, RFC 3533 (Ogg), RFC 9639 (FLAC), Sony Wave64,
Apple Core Audio Format 1.0, the AU header.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from edgeae.media.audio_found import AudioParts, DamagedAudio, cut_by, id3_bytes
from edgeae.media.mpeg import mpeg, starts_mpeg

__all__ = ["Chunk", "Overlay", "chunks", "parts"]

NO_LENGTH = "its header gives no length: it is read to its end"


@dataclass(frozen=True)
class Chunk:
    """One chunk of a RIFF or FORM file: where its body lies."""

    name: bytes
    start: int
    length: int


class Overlay(io.RawIOBase):
    """A file up to its `end` with other bytes in place of its first ones, which seems longer.

    There is nothing to read in the `reach` bytes behind its end, but for zeros in the last 128,
    where players look for a tag.
    """

    def __init__(self, file: BinaryIO, found: AudioParts) -> None:
        self._file, self._head, self._skip = file, found.head or b"", found.skip
        end = file.seek(0, os.SEEK_END) if found.end is None else found.end
        self._end = len(self._head) + end - found.skip
        self._length = self._end + found.reach
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        size = self._length - self._at if size < 0 else size
        if self._at >= self._end:
            zeros = min(size, self._length - self._at)
            zeros = zeros if self._length - self._at <= 128 else 0
            self._at += zeros
            return bytes(zeros)
        size = min(size, self._end - self._at)
        part = self._head[self._at : self._at + size]
        self._at += len(part)
        if len(part) < size:
            self._file.seek(self._skip + self._at - len(self._head))
            more = self._file.read(size - len(part))
            self._at += len(more)
            part += more
        return part

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)


def parts(file: BinaryIO) -> AudioParts:
    """What an audio file is, once it is found whole; DamagedAudio if it is not, or of no kind."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(64)
    for at, mark, kind, command in _REFUSED:
        if head[at : at + len(mark)] == mark:
            raise DamagedAudio(f"{kind} is not read; convert it first: {command}")
    for matches, check in _KINDS:
        if matches(head):
            try:
                return check(file, size)
            except (struct.error, IndexError):
                raise DamagedAudio("cut off inside its header") from None
    raise DamagedAudio("not an audio file of a known kind, or its beginning is damaged")


_FFMPEG = "ffmpeg -i IN OUT.flac"
_REFUSED = (
    (4, b"ftyp", "M4A or MP4 (AAC, ALAC)", _FFMPEG),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska", _FFMPEG),
    (0, b"0&\xb2u\x8ef\xcf\x11", "WMA", _FFMPEG),
    (0, b"#!AMR", "AMR", _FFMPEG),
    (0, b"MAC ", "Monkey's Audio", _FFMPEG),
    (0, b"wvpk", "WavPack", _FFMPEG),
    (0, b"MPCK", "Musepack", _FFMPEG),
    (0, b"TTA1", "True Audio", _FFMPEG),
    (0, b"DSD ", "DSD", _FFMPEG),
    (0, b"FRM8", "DSD", _FFMPEG),
    (0, b"\x0bw", "AC-3", _FFMPEG),
    (0, b"NIST_1A", "NIST SPHERE", "sox IN OUT.flac"),
    (0, b"Creative Voice File", "VOC", "sox IN OUT.flac"),
    (8, b"8SVX", "8SVX", "sox IN OUT.flac"),
    (0, b"MThd", "MIDI", "render it with a synthesizer"),
)


# --- RIFF and FORM ----------------------------------------------------------------------------

# The least and the most of lengths that recorders leave for a pipe: 0x7FFF0000, 0x7FFFF000,
# 0x7FFFFFDB, 0x7FFFFFFF, 0x80000000, and all ones less a header.
_PLACEHOLDERS = ((0x7FFF0000, 0x80000000), (0xFFFF0000, 0xFFFFFFFF))


def chunks(file: BinaryIO, size: int, order: str = "<", start: int = 12) -> Iterator[Chunk]:
    """The chunks of a RIFF ("<") or FORM (">") file, up to the first that ends beyond it."""
    while start + 8 <= size:
        file.seek(start)
        name, length = struct.unpack(order + "4sI", file.read(8))
        yield Chunk(name, start + 8, length)
        if start + 8 + length > size:
            return
        start += 8 + length + length % 2


def _wave(file: BinaryIO, size: int) -> AudioParts:
    file.seek(0)
    form, declared, _ = struct.unpack("<4sI4s", file.read(12))
    order = ">" if form == b"RIFX" else "<"
    long_size: int | None = None
    formats = ("WAV", "WAVEX", "RF64")
    for chunk in chunks(file, size, order):
        end = chunk.start + chunk.length
        if chunk.name == b"ds64" and chunk.length >= 24:
            file.seek(chunk.start)
            long_size = struct.unpack("<QQQ", file.read(24))[1]
        if chunk.name == b"data":
            rest = size - chunk.start
            length = chunk.length
            if form == b"RF64" and length == 0xFFFFFFFF and long_size:
                length = long_size
            if length == 0 and rest and not _are_chunks(file, chunk.start, size, order):
                # Some readers take 0 for no data: say how much there is.
                file.seek(0)
                given = struct.pack(order + "I", min(rest, 0xFFFFFFFE))
                return AudioParts(
                    formats, (NO_LENGTH,), file.read(chunk.start - 4) + given, chunk.start
                )
            if length > rest and any(a <= length <= b for a, b in _PLACEHOLDERS):
                return AudioParts(formats, (NO_LENGTH,))
            if length > rest:
                raise cut_by(length - rest)
            continue
        if end > size:
            raise cut_by(end - size)
    return AudioParts(formats)


def _are_chunks(file: BinaryIO, start: int, size: int, order: str) -> bool:
    """Whether chunks with printable names go from `start` exactly to the end."""
    for chunk in chunks(file, size, order, start):
        if not all(32 <= c < 127 for c in chunk.name) or chunk.start + chunk.length > size:
            return False
        start = chunk.start + chunk.length + chunk.length % 2
    return start in (size, size + 1)


def _aiff(file: BinaryIO, size: int) -> AudioParts:
    file.seek(4)
    (declared,) = struct.unpack(">I", file.read(4))
    if 8 + declared > size:
        raise cut_by(8 + declared - size)
    for chunk in chunks(file, size, ">"):
        if chunk.start + chunk.length > size:
            raise cut_by(chunk.start + chunk.length - size)
    return AudioParts(("AIFF",))


# --- AU, Wave64, CAF --------------------------------------------------------------------------


def _au(file: BinaryIO, size: int) -> AudioParts:
    file.seek(0)
    mark = file.read(4)
    start, length = struct.unpack((">" if mark == b".snd" else "<") + "II", file.read(8))
    if length == 0xFFFFFFFF:
        return AudioParts(("AU",), (NO_LENGTH,))
    if start + length > size:
        raise cut_by(start + length - size)
    return AudioParts(("AU",))


_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")


def _w64(file: BinaryIO, size: int) -> AudioParts:
    file.seek(16)
    (declared,) = struct.unpack("<Q", file.read(8))
    open_end = declared in (0, 2**63 - 1, 2**64 - 1)
    if not open_end and declared > size:
        raise cut_by(declared - size)
    position, found = 40, False
    while position + 24 <= size:
        file.seek(position)
        name, length = struct.unpack("<16sQ", file.read(24))
        if name[:4] == b"data":
            found = True
            if open_end and not 24 <= length <= size - position:
                head = _w64_head(file, position, size)
                return AudioParts(("W64",), (NO_LENGTH,), head, len(head))
        if length < 24 or position + length > size:
            raise cut_by(position + length - size)
        position += -(-length // 8) * 8
    if not found:
        raise DamagedAudio("cut off before its data")
    return AudioParts(("W64",))


def _w64_head(file: BinaryIO, position: int, size: int) -> bytes:
    """The header up to the data, with the lengths that the file has."""
    file.seek(0)
    head = bytearray(file.read(position + 24))
    struct.pack_into("<Q", head, 16, size)
    struct.pack_into("<Q", head, position + 16, size - position)
    return bytes(head)


def _caf(file: BinaryIO, size: int) -> AudioParts:
    notes: tuple[str, ...] = ()
    head: bytes | None = None
    position = 8
    seen: dict[bytes, tuple[int, int]] = {}
    while position + 12 <= size:
        file.seek(position)
        name, length = struct.unpack(">4sq", file.read(12))
        if name == b"data" and length == -1:
            length = size - position - 12
            notes = (NO_LENGTH,)
            file.seek(0)
            head = file.read(position + 4) + struct.pack(">q", length)
        if length < 0 or position + 12 + length > size:
            raise cut_by(position + 12 + length - size)
        seen[name] = (position + 12, length)
        position += 12 + length
    file.seek(position)
    # libsndfile puts zeros behind ALAC data of odd length, which begin no chunk.
    if file.read().strip(b"\0"):
        raise DamagedAudio("cut off inside the header of a chunk")
    if b"data" not in seen or b"desc" not in seen:
        raise DamagedAudio("cut off before its data")
    file.seek(seen[b"desc"][0] + 8)
    if file.read(4) == b"alac":
        if b"pakt" not in seen:
            raise DamagedAudio("cut off before its packet table")
        _check_packets(file, seen[b"pakt"], seen[b"data"][1] - 4)
    return AudioParts(("CAF",), notes, head, len(head or b""))


def _check_packets(file: BinaryIO, table: tuple[int, int], data_bytes: int) -> None:
    """DamagedAudio unless the packets of a CAF packet table are all of its data."""
    file.seek(table[0])
    body = file.read(table[1])
    (count,) = struct.unpack_from(">q", body)
    sizes, value = [], 0
    for byte in body[24:]:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            sizes.append(value)
            value = 0
            if len(sizes) == count:
                break
    if len(sizes) != count or sum(sizes) > data_bytes:
        raise DamagedAudio("damaged: its packet table does not fit its data")


# --- Ogg --------------------------------------------------------------------------------------

# Ogg's CRC takes bits from the other end than zlib's: bytes are turned round before and the sum is
# turned round after.
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_crc(page: bytes) -> int:
    turned = zlib.crc32(page.translate(_TURNED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{turned:032b}"[::-1], 2)


def _ogg(file: BinaryIO, size: int) -> AudioParts:
    position, serial, expected, ended = 0, None, 0, False
    while position < size:
        file.seek(position)
        header = file.read(27)
        if header[:4] != b"OggS":
            if position == 0 or not ended:
                raise DamagedAudio(f"cut off or damaged: no Ogg page begins at byte {position}")
            break  # what is appended to a file is none of its pages
        if len(header) < 27:
            raise DamagedAudio("cut off inside an Ogg page, the end of the stream is missing")
        lacing = file.read(header[26])
        body = file.read(sum(lacing))
        if len(lacing) < header[26] or len(body) < sum(lacing):
            raise DamagedAudio("cut off inside an Ogg page, the end of the stream is missing")
        page = header[:22] + bytes(4) + header[26:] + lacing + body
        number, checksum = struct.unpack_from("<II", header, 18)
        (stream,) = struct.unpack_from("<I", header, 14)
        if _ogg_crc(page) != checksum:
            raise DamagedAudio(f"damaged: the checksum of the Ogg page at byte {position} is wrong")
        if serial is None:
            serial = stream
        if stream != serial or (ended and header[5] & 2):
            raise DamagedAudio(
                "it holds more than one Ogg stream; part them first: ffmpeg -i IN OUT.flac"
            )
        if number != expected:
            raise DamagedAudio(f"damaged: Ogg page {expected} is missing, {number} comes instead")
        expected = number + 1
        ended = bool(header[5] & 4)
        position += len(page)
    if not ended:
        raise DamagedAudio("cut off, the end of the Ogg stream is missing")
    return AudioParts(("OGG",))


# --- FLAC -------------------------------------------------------------------------------------


def _flac(file: BinaryIO, size: int) -> AudioParts:
    start = id3_bytes(file)
    file.seek(start)
    if file.read(4) != b"fLaC":
        raise DamagedAudio("damaged: no FLAC stream begins after its tag")
    position = start + 4
    last = False
    while not last:
        file.seek(position)
        block = file.read(4)
        last = bool(block[0] & 0x80)
        position += 4 + int.from_bytes(block[1:4], "big")
        if position > size:
            raise cut_by(position - size)
    file.seek(start + 8)
    info = bytearray(file.read(34))
    if len(info) < 34:
        raise DamagedAudio("cut off inside its header")
    if int.from_bytes(info[13:18], "big") & (2**36 - 1):
        return AudioParts(("FLAC",))  # libsndfile checks the frames, and that all of them are there
    total = _flac_samples(file, position, size, info)
    info[13] = info[13] & 0xF0 | total >> 32
    info[14:18] = (total & 0xFFFFFFFF).to_bytes(4, "big")
    file.seek(0)
    head = file.read(start + 8) + bytes(info)
    return AudioParts(("FLAC",), (NO_LENGTH,), head, len(head))


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    """A CRC of FLAC: the highest bit first, from zero."""
    value, top, mask = 0, 1 << bits - 1, (1 << bits) - 1
    for byte in data:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
    return value


# A frame is seldom longer than its samples; one of 65,535 samples of 8 channels can be 2 MB.
_FLAC_TAILS = (1 << 15, 1 << 18, 1 << 21)


def _flac_samples(file: BinaryIO, first: int, size: int, info: bytearray) -> int:
    """Samples of a stream up to the end of its last frame, which must be whole."""
    for window in _FLAC_TAILS:
        start = max(first, size - window)
        file.seek(start)
        tail = file.read(size - start)
        at = len(tail)
        while (at := max(tail.rfind(b"\xff\xf8", 0, at), tail.rfind(b"\xff\xf9", 0, at))) >= 0:
            found = _flac_frame_end(tail[at : at + 16], info)
            if found is not None and _crc(tail[at:-2], 16, 0x8005) == int.from_bytes(
                tail[-2:], "big"
            ):
                return found
        if start == first:
            break
    raise DamagedAudio("cut off, its last frame is not whole")


def _flac_frame_end(head: bytes, info: bytearray) -> int | None:
    """The number of the sample after a frame, from its header; None if it is no header."""
    if len(head) < 6:
        return None
    first = head[4]
    more = 0 if first < 0x80 else 8 - (first ^ 0xFF).bit_length() - 1
    if first >= 0x80 and not 1 <= more <= 6:
        return None
    number = first if first < 0x80 else first & (1 << 6 - more) - 1
    for byte in head[5 : 5 + more]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    at = 5 + more
    code = head[2] >> 4
    if code == 6:
        block, at = head[at] + 1, at + 1
    elif code == 7:
        block, at = int.from_bytes(head[at : at + 2], "big") + 1, at + 2
    elif code == 0:
        return None
    else:
        block = 192 if code == 1 else 576 << code - 2 if code <= 5 else 256 << code - 8
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if at >= len(head) or _crc(head[:at], 8, 0x07) != head[at]:
        return None
    usual = int.from_bytes(info[0:2], "big")
    return block + (number if head[1] & 1 else number * usual)


# --- what begins how ---------------------------------------------------------------------------


def _tagged(file: BinaryIO, size: int) -> AudioParts:
    """An ID3 tag stands before MPEG frames, and before FLAC streams of some programs."""
    file.seek(id3_bytes(file))
    return (_flac if file.read(4) == b"fLaC" else mpeg)(file, size)


_KINDS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], AudioParts]], ...] = (
    (lambda head: head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE", _wave),
    (lambda head: head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"), _aiff),
    (lambda head: head[:4] == b"OggS", _ogg),
    (lambda head: head[:4] == b"fLaC", _flac),
    (lambda head: head[:4] in (b".snd", b"dns."), _au),
    (lambda head: head[:16] == _W64_RIFF, _w64),
    (lambda head: head[:4] == b"caff", _caf),
    (lambda head: head[:3] == b"ID3", _tagged),
    (starts_mpeg, mpeg),
)
