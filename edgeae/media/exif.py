"""What EXIF and XMP say of an image's pixels, read without trust, and put right once it is applied.

Metadata are written by many programs and often broken; they never make an image unreadable. So only
the few fields that matter are looked up (EXIF 2.32, TIFF 6.0), each within the bounds of the data
and without following anything twice, and what cannot be read counts as not there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Entry", "Metadata", "entries", "is_adobe_rgb", "neutral", "orientation"]

ORIENTATION = 0x0112
EXIF_IFD = 0x8769
INTEROPERABILITY_IFD = 0xA005
COLOR_SPACE = 0xA001
INTEROPERABILITY_INDEX = 0x0001

# Bytes of one value of each type of TIFF 6.0, and the struct letter of the integer ones.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}  # BigTIFF
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I"}
_INTEGERS |= {16: "Q", 17: "q", 18: "Q"}
# More fields than any camera writes.
_MOST_ENTRIES = 4096

_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation(\s*=\s*["']|\s*>\s*)([1-8])(?=["'<\s])""")


@dataclass(frozen=True)
class Metadata:
    """EXIF (from its TIFF header on) and XMP of an image, as bytes, None where there is none; and
    the bits of a sample in its file, of which reading gives 8."""

    exif: bytes | None = None
    xmp: bytes | None = None
    bits: int = 8


@dataclass(frozen=True)
class Entry:
    """One field of a TIFF directory: where its value lies, and the value if it is a number."""

    tag: int
    kind: int
    count: int
    at: int  # of the value's first byte
    order: str  # "<" or ">"

    def integers(self, data: bytes, most: int = 1 << 16) -> list[int]:
        """The values, [] if they are no integers, too many, or lie outside the data."""
        letter, size = _INTEGERS.get(self.kind), _SIZES.get(self.kind, 0)
        if letter is None or self.count > most or self.at + size * self.count > len(data):
            return []
        return list(struct.unpack_from(f"{self.order}{self.count}{letter}", data, self.at))

    def raw(self, data: bytes) -> bytes:
        """The value's bytes, b"" if they lie outside the data."""
        end = self.at + _SIZES.get(self.kind, 0) * self.count
        return bytes(data[self.at : end]) if end <= len(data) else b""


def entries(data: bytes, base: int, offset: int, *, big: bool = False) -> Iterator[Entry]:
    """The readable fields of the directory at `offset` after the TIFF header at `base`."""
    order = "<" if data[base : base + 2] == b"II" else ">"
    head, step, word = ("Q", 20, "Q") if big else ("H", 12, "I")
    start = base + offset
    if start < 0 or start + struct.calcsize(order + head) > len(data):
        return
    (count,) = struct.unpack_from(order + head, data, start)
    start += struct.calcsize(order + head)
    for index in range(min(count, _MOST_ENTRIES)):
        at = start + step * index
        if at + step > len(data):
            return
        tag, kind, number = struct.unpack_from(f"{order}HH{word}", data, at)
        inline = at + (12 if big else 8)
        if _SIZES.get(kind, 0) * number > (8 if big else 4):
            inline = base + struct.unpack_from(order + word, data, inline)[0]
        yield Entry(tag, kind, number, inline, order)


def _header(exif: bytes) -> tuple[int, int] | None:
    """Where the TIFF header lies, and the offset of the first directory.

    Some writers put "Exif" and two zeros before it, once or twice, where a format has none.
    """
    for match in re.finditer(rb"II\x2a\0|MM\0\x2a", exif[:64]):
        base = match.start()
        if base + 8 <= len(exif):
            order = "<" if exif[base : base + 1] == b"I" else ">"
            return base, struct.unpack_from(order + "I", exif, base + 4)[0]
    return None


def _find(exif: bytes, *path: int) -> Entry | None:
    """The field at the end of a path of directories."""
    header = _header(exif)
    if header is None:
        return None
    base, offset = header
    *folders, last = path
    for folder in folders:
        found = next((e for e in entries(exif, base, offset) if e.tag == folder), None)
        values = found.integers(exif) if found is not None else []
        if not values:
            return None
        offset = values[0]
    return next((e for e in entries(exif, base, offset) if e.tag == last), None)


def orientation(metadata: Metadata) -> int:
    """1 to 8 as in TIFF 6.0: EXIF's if it can be read, else XMP's, else 1 (upright)."""
    if metadata.exif:
        found = _find(metadata.exif, ORIENTATION)
        values = found.integers(metadata.exif) if found is not None else []
        if values and 1 <= values[0] <= 8:
            return values[0]
        if found is not None and found.kind == 2:  # text
            text = found.raw(metadata.exif)[:1]
            if text.isdigit() and 1 <= int(text) <= 8:
                return int(text)
    match = _XMP_ORIENTATION.search(metadata.xmp or b"")
    return int(match[2]) if match else 1


def is_adobe_rgb(exif: bytes | None) -> bool:
    """Whether EXIF says Adobe RGB as cameras do (DCF 2.0): interoperability index R03."""
    if not exif:
        return False
    found = _find(exif, EXIF_IFD, INTEROPERABILITY_IFD, INTEROPERABILITY_INDEX)
    if found is not None and found.raw(exif)[:3] == b"R03":
        return True
    space = _find(exif, EXIF_IFD, COLOR_SPACE)
    # 2 is no value of the standard, and what some cameras and editors write for Adobe RGB.
    return space is not None and space.integers(exif)[:1] == [2]


def neutral(metadata: Metadata) -> Metadata:
    """The metadata for pixels that are upright and sRGB now: a reader must not turn them again.

    EXIF comes without an "Exif" mark before its TIFF header; what has no TIFF header is left out.
    """
    exif = metadata.exif
    if exif:
        header = _header(exif)
        exif = exif[header[0] :] if header is not None else None
    if exif:
        patched = bytearray(exif)
        for path, value in (((ORIENTATION,), 1), ((EXIF_IFD, COLOR_SPACE), 1)):
            found = _find(exif, *path)
            if found is not None and found.integers(exif):
                letter = _INTEGERS[found.kind]
                struct.pack_into(found.order + letter, patched, found.at, value)
            elif found is not None and path == (ORIENTATION,) and found.raw(exif):
                patched[found.at : found.at + 1] = b"1" if found.kind == 2 else b"\0"
        index = _find(exif, EXIF_IFD, INTEROPERABILITY_IFD, INTEROPERABILITY_INDEX)
        if index is not None and index.raw(exif)[:3] == b"R03":
            patched[index.at : index.at + 3] = b"R98"
        exif = bytes(patched)
    xmp = _XMP_ORIENTATION.sub(rb"tiff:Orientation\g<1>1", metadata.xmp) if metadata.xmp else None
    return Metadata(exif, xmp)
