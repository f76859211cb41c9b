"""What an image file is made of: checked for damage, and parted into pixels, color and metadata.

Decoders differ in what damage they let pass, and in what broken metadata they fail on. So the parts
of a file are walked here first: checksums are verified, coded bytes are counted, and Pillow is
handed the parts that make pixels and no others.

Sources: PNG (third edition), JPEG (ITU-T T.81), GIF89a, WebP (RFC 9649), TIFF 6.0 with Adobe's and
BigTIFF's additions, ISO base media files (ISO/IEC 14496-12) for AVIF and HEIF.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edgeae.media import color
from edgeae.media.exif import Entry, Metadata, entries, is_adobe_rgb

__all__ = ["BROKEN_PROFILE", "DamagedImage", "ImageParts", "TiffPage", "parts"]

# Stands for an ICC profile that is there and cannot be read.
BROKEN_PROFILE = b""

# More than any profile or text of metadata has; what unfolds to more is left out.
_MOST_UNFOLDED = 1 << 24


class DamagedImage(ValueError):
    """The file is cut off, damaged or more than it can be; the message says which."""


@dataclass(frozen=True)
class TiffPage:
    """What TIFF fields say of the samples of one page."""

    bits: int
    samples: int
    photometric: int
    sample_format: int
    small_palette: bytes | None = None  # of 8-bit entries, where 16 bits are the rule

    def __str__(self) -> str:
        kinds = {1: "unsigned", 2: "signed", 3: "floating point"}
        kind = kinds.get(self.sample_format, "undefined")
        return f"{self.samples} x {self.bits} bits, {kind}, photometric {self.photometric}"


@dataclass(frozen=True)
class ImageParts:
    """A file's parts: `data` is what Pillow reads, `coded_bytes` count pixels' coded data alone.

    `profile` is None if there is no ICC profile here (Pillow may still find one), `space` what
    other tags say of the colors. `scan` is where a JPEG's last scan lies in `data`.
    """

    data: bytes
    coded_bytes: int
    metadata: Metadata = field(default_factory=Metadata)
    profile: bytes | None = None
    space: color.Space | None = None
    most_pixels: int | None = None
    scan: tuple[int, int] | None = None
    progressive: bool = False
    key_16: tuple[int, ...] | None = None  # the transparent level of a PNG of 16 bits
    tiff: TiffPage | None = None


def parts(data: bytes) -> ImageParts:
    """The parts of an image file; DamagedImage or color.UnreadableColor if it is to be refused.

    A file of a kind that is not looked into here comes back as it is.
    """
    for matches, read in _READERS:
        if matches(data):
            try:
                return read(data)
            except (struct.error, IndexError):
                raise DamagedImage("cut off") from None
    return ImageParts(data, len(data))


# --- PNG --------------------------------------------------------------------------------------

# What makes pixels. Text, times and sizes on paper are left out.
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def _png(data: bytes) -> ImageParts:
    found: dict[bytes, bytes] = {}
    texts: list[bytes] = []
    kept = [data[:8]]
    coded, position, frames = 0, 8, 1
    while True:
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise DamagedImage(f"cut off inside its {_shown(name)} chunk")
        view = memoryview(data)[position:end]
        if zlib.crc32(view[4:-4]) != struct.unpack_from(">I", view, 8 + length)[0]:
            raise DamagedImage(
                f"damaged: the checksum of the {_shown(name)} chunk at byte {position} is wrong"
            )
        if name in _PNG_PIXELS:
            kept.append(data[position:end])
        body = data[position + 8 : end - 4] if name != b"IDAT" else b""
        if name == b"IDAT":
            coded += length
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            texts.append(name + body)
        elif name == b"acTL" and length >= 8:
            frames = struct.unpack_from(">I", body)[0]
        else:
            found.setdefault(name, body)
        position = end
        if name == b"IEND":
            break
    if b"IHDR" not in found or len(found[b"IHDR"]) != 13:
        raise DamagedImage("damaged: its header is not where it must be")
    if frames > 1:
        raise DamagedImage(f"it holds {frames} frames; save the one you want as its own file")
    width, height, depth, kind = struct.unpack_from(">IIBB", found[b"IHDR"])
    key = found.get(b"tRNS", b"") if depth == 16 and kind in (0, 2) else b""
    bits_per_pixel = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(kind, 4)
    return ImageParts(
        b"".join(kept),
        coded,
        Metadata(found.get(b"eXIf") or _text_exif(texts), _text_xmp(texts)),
        _png_profile(found.get(b"iCCP")) if b"cICP" not in found else None,
        _png_space(found),
        # The most bytes that deflate makes of one: 258 for two bits (RFC 1951).
        8 * 1032 * coded // bits_per_pixel if bits_per_pixel else None,
        key_16=struct.unpack(f">{len(key) // 2}H", key) if len(key) in (2, 6) else None,
    )


def _shown(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace") if name.isalpha() else repr(name)[1:]


def _png_space(found: dict[bytes, bytes]) -> color.Space | None:
    """What cICP, sRGB, gAMA and cHRM say, in this order; iCCP comes before the last three."""
    if len(found.get(b"cICP", b"")) == 4:
        primaries, transfer, _, is_full_range = found[b"cICP"]
        if not is_full_range:
            raise color.UnreadableColor("its levels are of narrow range; convert it to full range")
        return color.from_code_points(primaries, transfer)
    if b"iCCP" in found or b"sRGB" in found:
        return None
    gamma, points = found.get(b"gAMA", b""), found.get(b"cHRM", b"")
    if not (gamma or points):
        return None
    return color.from_png_chunks(
        struct.unpack(">I", gamma)[0] if len(gamma) == 4 else None,
        struct.unpack(">8I", points) if len(points) == 32 else None,
    )


def _png_profile(chunk: bytes | None) -> bytes | None:
    if chunk is None:
        return None
    _, _, rest = chunk.partition(b"\0")
    return _unfold(rest[1:]) or BROKEN_PROFILE


def _unfold(packed: bytes) -> bytes | None:
    """What deflate made `packed` of; None if it is damaged, cut off or unfolds to too much."""
    unfold = zlib.decompressobj()
    try:
        data = unfold.decompress(packed, _MOST_UNFOLDED)
    except zlib.error:
        return None
    return data if unfold.eof else None


def _text_exif(texts: list[bytes]) -> bytes | None:
    """EXIF in hexadecimal text, as ImageMagick writes it: a name, a length, then the digits."""
    for text in texts:
        name, _, value = text[4:].partition(b"\0")
        if name not in (b"Raw profile type exif", b"Raw profile type APP1"):
            continue
        plain = _unfold(value[1:]) if text[:4] == b"zTXt" else value
        words = (plain or b"").split()
        try:
            return bytes.fromhex(b"".join(words[2:]).decode("ascii"))
        except ValueError:
            continue
    return None


def _text_xmp(texts: list[bytes]) -> bytes | None:
    for text in texts:
        name, _, value = text[4:].partition(b"\0")
        if text[:4] == b"iTXt" and name == b"XML:com.adobe.xmp" and len(value) > 2:
            plain = value[2:].split(b"\0", 2)[-1]
            return _unfold(plain) if value[0] else plain
    return None


# --- JPEG -------------------------------------------------------------------------------------

# A marker that ends a scan: no stuffed byte, no restart, no fill.
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
# Segments that metadata have: APP1 (EXIF, XMP), APP3 to APP13 and APP15 of makers, comments.
_JPEG_METADATA = {0xE1, *range(0xE3, 0xEE), 0xEF, 0xFE}
# A block of 64 pixels takes a bit in a first DC scan, so a byte makes 512 pixels at the most.
_JPEG_PIXELS_PER_BYTE = 512
# Each scan of a progressive file costs a walk over its blocks, however few bytes it has. libjpeg
# writes scans of eight or nine times the pixels; this is for 2**29 at 0.5 to 2 s.
_SCANNED_PIXELS, _SCANNED_PIXELS_PER_BYTE, _MOST_SCANS = 2**29, 256, 500


def _jpeg(data: bytes) -> ImageParts:
    kept, exif, xmp = [data[:2]], None, None
    profile: dict[int, bytes] = {}
    has_profile, coded, scanned, scans, kept_bytes, scan = False, 0, 0, 0, 2, (0, 0)
    frame: tuple[int, int, int, dict[int, int]] | None = None
    missing: dict[tuple[int, int], int] = {}
    position = 2
    while True:
        if data[position] != 0xFF:
            position = data.find(b"\xff", position)
            if position < 0:
                raise DamagedImage("cut off: its end marker is missing")
        while data[position + 1] == 0xFF:  # fill bytes
            position += 1
        marker = data[position + 1]
        if marker == 0xD9:
            break
        if 0xD0 <= marker <= 0xD8 or marker == 0x01:
            position += 2
            continue
        end = position + 2 + struct.unpack_from(">H", data, position + 2)[0]
        if end > len(data):
            raise DamagedImage("cut off inside a segment")
        body = data[position + 4 : end]
        if marker == 0xE1 and body.startswith(b"Exif\0"):
            exif = (exif or b"") + body[6:]
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = body[29:]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            has_profile = True
            if len(body) > 14:
                profile[body[12]] = body[14:]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if marker not in (*_SEQUENTIAL, _PROGRESSIVE):
                raise DamagedImage("arithmetic or lossless coding, which few programs read")
            frame = _jpeg_frame(marker, body)
            missing = {(name, i): 1 for name in frame[3] for i in range(64)}
        kept_segment = marker not in _JPEG_METADATA and marker != 0xE2
        if marker == 0xDA:
            if frame is None:
                raise DamagedImage("damaged: a scan before the frame")
            found = _SCAN_END.search(data, end)
            if found is None:
                raise DamagedImage("cut off: its end marker is missing")
            scan_bytes = found.start() - end
            coded += scan_bytes
            scans += 1
            scanned += _scanned(frame, body, missing)
            end = found.start()
        if kept_segment:
            kept.append(data[position:end])
            kept_bytes += end - position
            if marker == 0xDA:
                scan = kept_bytes - scan_bytes, kept_bytes
        position = end
    if frame is None or not scans:
        raise DamagedImage("damaged: it holds no scan")
    if scans > _MOST_SCANS or scanned > max(_SCANNED_PIXELS, _SCANNED_PIXELS_PER_BYTE * coded):
        raise DamagedImage(f"{scans} scans of {coded:,} bytes are more than an image needs")
    if frame[0] == _PROGRESSIVE and any(missing.values()):
        raise DamagedImage("cut off: scans with its detail are missing")
    kept.append(b"\xff\xd9")
    joined = b"".join(profile[number] for number in sorted(profile))
    return ImageParts(
        b"".join(kept),
        coded,
        Metadata(exif, xmp),
        (joined or BROKEN_PROFILE) if has_profile else None,
        color.ADOBE_RGB if not has_profile and is_adobe_rgb(exif) else None,
        most_pixels=_JPEG_PIXELS_PER_BYTE * coded,
        scan=scan,
        progressive=frame[0] == _PROGRESSIVE,
    )


def _jpeg_frame(marker: int, body: bytes) -> tuple[int, int, int, dict[int, int]]:
    """Marker, pixels, components' count, and each one's share of 16ths of the pixels."""
    _, height, width, count = struct.unpack_from(">BHHB", body)
    sampling = {body[6 + 3 * i]: body[7 + 3 * i] for i in range(count)}
    areas = {name: (both >> 4) * (both & 15) for name, both in sampling.items()}
    most = max(areas.values(), default=1) or 1
    return marker, height * width, count, {n: -(-16 * a // most) for n, a in areas.items()}


def _scanned(
    frame: tuple[int, int, int, dict[int, int]],
    body: bytes,
    missing: dict[tuple[int, int], int],
) -> int:
    """Pixels that a scan walks over; notes which coefficients' lowest bits have not come yet."""
    marker, pixels, _, shares = frame
    names = [body[1 + 2 * i] for i in range(body[0])]
    first, last, bits = body[1 + 2 * len(names) : 4 + 2 * len(names)]
    if marker == _PROGRESSIVE:
        for name in names:
            for coefficient in range(first, min(last, 63) + 1):
                missing[name, coefficient] = bits & 15
    return sum(pixels * shares.get(name, 16) // 16 for name in names)


# --- GIF, WebP --------------------------------------------------------------------------------


def _gif(data: bytes) -> ImageParts:
    flags = data[10]
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    coded = 0
    while True:
        kind = data[position]
        if kind == 0x3B:
            return ImageParts(data[: position + 1], coded)
        if kind == 0x21:
            position += 2
            coding = False
        elif kind == 0x2C:
            flags = data[position + 9]
            position += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
            coding = True
        else:
            raise DamagedImage(f"damaged: no block begins at byte {position}")
        while data[position]:
            coded += data[position] if coding else 0
            position += 1 + data[position]
        position += 1


def _webp(data: bytes) -> ImageParts:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise DamagedImage(
            f"cut off, its header says {end - len(data):,} bytes more than are there"
        )
    chunks: dict[bytes, bytes] = {}
    coded, position = 0, 12
    while position + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, position)
        if position + 8 + length > end:
            raise DamagedImage(f"cut off inside its {_shown(name)} chunk")
        if name in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF"):
            coded += length
        else:
            chunks.setdefault(name, data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    exif = chunks.get(b"EXIF")
    profile = chunks.get(b"ICCP")
    return ImageParts(
        data,
        coded,
        Metadata(exif, chunks.get(b"XMP ")),
        profile,
        color.ADOBE_RGB if profile is None and is_adobe_rgb(exif) else None,
    )


# --- AVIF, HEIF -------------------------------------------------------------------------------


# The outermost boxes of images.
_MEDIA_BOXES = (b"ftyp", b"meta", b"mdat", b"moov", b"moof", b"free", b"skip", b"uuid", b"idat")


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte of the content, and end of each box."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        stop = end if size == 0 else start + size
        if size and (size < head or stop > end):
            if start and name not in _MEDIA_BOXES and end == len(data):
                return  # what is appended to a file is none of its boxes
            raise DamagedImage(f"cut off inside its {_shown(name)} box")
        yield name, start + head, stop
        start = stop


def _media_file(data: bytes) -> ImageParts:
    coded = 0
    space, has_profile = None, False
    for name, start, end in _boxes(data, 0, len(data)):
        if name == b"mdat":
            coded += end - start
        elif name == b"meta":
            space, has_profile, inside = _item_colors(data, start + 4, end)
            coded += inside
    return ImageParts(data, coded, space=None if has_profile else space)


def _item_colors(data: bytes, start: int, end: int) -> tuple[color.Space | None, bool, int]:
    """The nclx space of the primary item, whether it has an ICC profile, and bytes of idat."""
    primary, inside = None, 0
    properties: list[tuple[bytes, int, int]] = []
    associated: dict[int, list[int]] = {}
    for name, first, last in _boxes(data, start, end):
        if name == b"pitm":
            primary = struct.unpack_from(">H" if data[first] == 0 else ">I", data, first + 4)[0]
        elif name == b"idat":
            inside = last - first
        elif name == b"iprp":
            for inner, a, b in _boxes(data, first, last):
                if inner == b"ipco":
                    properties = list(_boxes(data, a, b))
                elif inner == b"ipma":
                    associated |= _associations(data, a)
    numbers = associated.get(primary or 0)
    mine = (
        [properties[n - 1] for n in numbers if 0 < n <= len(properties)] if numbers else properties
    )
    points: tuple[int, int] | None = None
    has_profile = False
    for name, first, _ in mine:
        if name == b"colr" and data[first : first + 4] == b"nclx" and points is None:
            points = struct.unpack_from(">HH", data, first + 4)
        has_profile |= name == b"colr" and data[first : first + 4] in (b"prof", b"rICC")
    known = color.from_code_points(*points) if points is not None and not has_profile else None
    return known, has_profile, inside


def _associations(data: bytes, at: int) -> dict[int, list[int]]:
    """Numbers of each item's properties, from an ipma box."""
    version, wide = data[at], data[at + 3] & 1
    (count,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    found: dict[int, list[int]] = {}
    for _ in range(min(count, 1 << 16)):
        (item,) = struct.unpack_from(">H" if version < 1 else ">I", data, at)
        at += 2 if version < 1 else 4
        number = data[at]
        at += 1
        letter, mask = ("H", 0x7FFF) if wide else ("B", 0x7F)
        values = struct.unpack_from(f">{number}{letter}", data, at)
        at += number * (2 if wide else 1)
        found[item] = [value & mask for value in values]
    return found


# --- TIFF -------------------------------------------------------------------------------------

# The fields that make pixels, in TIFF 6.0's numbers, Adobe's and the profile's. All others, a
# camera's and an editor's, are left out of what Pillow reads.
_TIFF_PIXELS = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 297, 301, 317, 320}
_TIFF_PIXELS |= {321, 322, 323, 324, 325, 332, 333, 334, 336, 338, 339, 347, *range(512, 522)}
_TIFF_PIXELS |= {529, 530, 531, 532, 34675}
_TIFF_MOST_PAGES, _TIFF_MOST_STRIPS = 1024, 1 << 24
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE = 0, 1, 3


def _tiff(data: bytes) -> ImageParts:
    order = "<" if data[:1] == b"I" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    word, step = ("Q", 20) if big else ("I", 12)
    pages: list[tuple[int, dict[int, Entry]]] = []
    (offset,) = struct.unpack_from(order + word, data, 8 if big else 4)
    seen: set[int] = set()
    while offset and offset not in seen and len(pages) < _TIFF_MOST_PAGES:
        seen.add(offset)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, offset)
        start = offset + (8 if big else 2)
        if start + count * step > len(data):
            raise DamagedImage("cut off inside a directory of fields")
        found = {entry.tag: entry for entry in entries(data, 0, offset, big=big)}
        pages.append((offset, found))
        (offset,) = struct.unpack_from(order + word, data, start + count * step)
    if not pages:
        raise DamagedImage("damaged: it holds no page")
    # 254 bit 0, and 255 of the time before, mark a page as a small version of another.
    whole = [p for p in pages if not _value(data, p[1], 254) & 1 and _value(data, p[1], 255) != 2]
    if len(whole) > 1:
        raise DamagedImage(f"it holds {len(whole)} frames; save the one you want as its own file")
    offset, found = whole[0] if whole else pages[0]
    _check_tiff_ends(data, found)
    page = _tiff_page(data, found)
    return ImageParts(
        _one_page(data, offset, big=big, page=page),
        sum(_tiff_lengths(data, found)) or len(data),
        _tiff_metadata(data, found),
        (found[34675].raw(data) or BROKEN_PROFILE) if 34675 in found else None,
        tiff=page,
    )


def _check_tiff_ends(data: bytes, found: dict[int, Entry]) -> None:
    """DamagedImage if values of the pixels' fields, strips or tiles lie beyond the end."""
    for tag, entry in found.items():
        if tag in _TIFF_PIXELS and entry.count and not entry.raw(data):
            raise DamagedImage(f"cut off: the values of its field {tag} lie beyond the end")
    for at, lengths in ((273, 279), (324, 325)):
        if at in found and lengths in found:
            starts = found[at].integers(data, _TIFF_MOST_STRIPS)
            sizes = found[lengths].integers(data, _TIFF_MOST_STRIPS)
            if any(a + b > len(data) for a, b in zip(starts, sizes, strict=False)):
                raise DamagedImage("cut off: some of its pixels lie beyond the end")


def _value(data: bytes, found: dict[int, Entry], tag: int, default: int = 0) -> int:
    values = found[tag].integers(data) if tag in found else []
    return values[0] if values else default


def _tiff_lengths(data: bytes, found: dict[int, Entry]) -> list[int]:
    """Coded bytes of strips or tiles."""
    return next(
        (found[tag].integers(data, _TIFF_MOST_STRIPS) for tag in (279, 325) if tag in found), []
    )


def _tiff_page(data: bytes, found: dict[int, Entry]) -> TiffPage:
    small = None
    if _value(data, found, 262) == _PALETTE and 320 in found:
        entries_16 = found[320].integers(data)
        if entries_16 and max(entries_16) < 256:
            small = bytes(entries_16)
    return TiffPage(
        _value(data, found, 258, 1),
        _value(data, found, 277, 1),
        _value(data, found, 262),
        _value(data, found, 339, 1),
        small,
    )


def _tiff_metadata(data: bytes, found: dict[int, Entry]) -> Metadata:
    """Orientation alone as EXIF (the rest lies all over the file), and XMP."""
    turned = _value(data, found, 274)
    exif = None
    if 1 <= turned <= 8:
        exif = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 274, 3, 1, turned, 0)
    return Metadata(exif, found[700].raw(data) or None if 700 in found else None)


def _one_page(data: bytes, offset: int, *, big: bool, page: TiffPage) -> bytes:
    """The file with one page that has the fields of its pixels alone.

    Gray of 9 to 16 bits with white as zero becomes black as zero, which Pillow reads; its caller
    turns it round.
    """
    order = "<" if data[:1] == b"I" else ">"
    head, word, step = ("Q", "Q", 20) if big else ("H", "I", 12)
    out = bytearray(data)
    struct.pack_into(order + word, out, 8 if big else 4, offset)
    (count,) = struct.unpack_from(order + head, data, offset)
    start = offset + struct.calcsize(head)
    kept = []
    for index in range(count):
        row = data[start + step * index : start + step * (index + 1)]
        (tag,) = struct.unpack_from(order + "H", row)
        if tag == 262 and page.photometric == _WHITE_IS_ZERO and 8 < page.bits <= 16:
            row = struct.pack(order + "HHI", 262, 3, 1) + struct.pack(order + "HH", 1, 0)
        if tag in _TIFF_PIXELS:
            kept.append(row)
    struct.pack_into(order + head, out, offset, len(kept))
    table = b"".join(kept) + bytes(struct.calcsize(word))
    out[start : start + len(table)] = table
    return bytes(out)


_READERS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], ImageParts]], ...] = (
    (lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    (lambda data: data.startswith(b"\xff\xd8"), _jpeg),
    (lambda data: data[:6] in (b"GIF87a", b"GIF89a"), _gif),
    (lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp),
    (lambda data: data[4:8] == b"ftyp", _media_file),
    (lambda data: data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
)
