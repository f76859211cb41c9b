"""The header of an image in bytes, and what a reader lets it ask for."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edgeae.coding.container import read_varint, varint
from edgeae.coding.rate import LEVELS
from edgeae.errors import BitstreamError

__all__ = [
    "CHANNELS",
    "SHORT_CHANNELS",
    "USUAL_PIXELS",
    "Header",
    "Limits",
    "Metadata",
    "check_metadata",
    "check_proportion",
    "check_readable",
    "checked",
    "read_body",
    "read_short",
    "short_bytes",
]

# Channels of the given array: 0 stands for (H, W), without a channel axis.
CHANNELS = (0, 1, 3, 4)
# What any file may hold however short it is, the photo of any usual camera, so that what is written
# is also read: see `Limits.pixels_per_byte`.
USUAL_PIXELS = 1 << 27
# Channels that the short header can say, in the order of their codes.
SHORT_CHANNELS = (0, 1, 3)
_BODY = struct.Struct("<16sBBII")


@dataclass(frozen=True)
class Limits:
    """What a file, or the packets of an image, may ask for before they are refused.

    Attributes:
        file_bytes: the file, or one packet.
        pixels, side_pixels: the image, and each of its sides.
        chunks: those of a file, or the packets of one image and its tiles.
        pixels_per_byte: how much of an image each byte of its file may stand for, beyond 2 ** 27
            pixels: a few bytes cannot claim minutes of work. A photo of 0.25 bits a pixel has 32;
            larger images of less detail are decoded in regions, or by who sets this higher.
        concealed_pixels_per_byte: how much of an image each byte that is there may leave to
            concealment, beyond 2 ** 20 pixels: a few bytes cannot claim a huge image that is
            all but lost.
    """

    file_bytes: int = 1 << 30
    pixels: int = 1 << 28
    side_pixels: int = 1 << 16
    chunks: int = 1 << 17
    pixels_per_byte: int = 1 << 5
    concealed_pixels_per_byte: int = 1 << 12


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

    def body(self) -> bytes:
        """The body of a HEAD chunk, 26 bytes."""
        return _BODY.pack(self.codec_id, self.level, self.channels, self.height, self.width)


@dataclass(frozen=True)
class Metadata:
    """What a camera or an editor says of an image, kept byte for byte.

    Attributes:
        exif: EXIF, a TIFF structure that begins with "II" or "MM".
        xmp: an XMP packet, XML in UTF-8.
    """

    exif: bytes | None = None
    xmp: bytes | None = None


def read_body(body: bytes | memoryview, limits: Limits) -> Header:
    """The header in the body of a HEAD chunk.

    Raises:
        BitstreamError: of another length, makes no sense, or over a limit.
    """
    if len(body) != _BODY.size:
        raise BitstreamError("the file does not begin with a header that can be read here")
    codec_id, level, channels, height, width = _BODY.unpack(body)
    return checked(Header(codec_id, level, height, width, channels), limits)


def short_bytes(header: Header) -> bytes:
    """The header without its codec id as the small form and packets hold it: level and channels in
    one byte, then height and width as varints."""
    code = header.level * len(SHORT_CHANNELS) + SHORT_CHANNELS.index(header.channels)
    return bytes([code]) + varint(header.height) + varint(header.width)


def read_short(
    data: bytes | memoryview, begin: int, codec_id: bytes, limits: Limits
) -> tuple[Header, int]:
    """The header that `short_bytes` wrote, and where it ends.

    Raises:
        BitstreamError: cut off, makes no sense, or over a limit.
    """
    if len(data) <= begin:
        raise BitstreamError(f"the file is cut off after {len(data)} bytes")
    level, code = divmod(data[begin], len(SHORT_CHANNELS))
    height, begin = read_varint(data, begin + 1)
    width, begin = read_varint(data, begin)
    header = Header(bytes(codec_id), level, height, width, SHORT_CHANNELS[code])
    return checked(header, limits), begin


def check_proportion(pixels: int, file_bytes: int, limits: Limits | None) -> None:
    """Raises BitstreamError for more pixels than a file of so many bytes may stand for."""
    if offence := _disproportion(pixels, file_bytes, limits):
        raise BitstreamError(f"{offence}: take a region, or set limits=Limits(pixels_per_byte=...)")


def check_readable(pixels: int, file_bytes: int, limits: Limits | None) -> None:
    """Raises ValueError for a file that `check_proportion` would refuse, before it is there."""
    if offence := _disproportion(pixels, file_bytes, limits):
        raise ValueError(
            f"no reader would take the file: {offence}: choose a higher quality, or set "
            "limits=Limits(pixels_per_byte=...), as its readers must then too"
        )


def _disproportion(pixels: int, file_bytes: int, limits: Limits | None) -> str:
    """What is too much about so many pixels in so many bytes, or nothing."""
    per_byte = (limits or Limits()).pixels_per_byte
    if pixels <= max(USUAL_PIXELS, per_byte * file_bytes):
        return ""
    return (
        f"the file holds {pixels} pixels in {file_bytes} bytes, expected at most {USUAL_PIXELS}, "
        f"or {per_byte} a byte"
    )


def check_metadata(metadata: Metadata | None) -> None:
    """Raises TypeError for anything but bytes in it."""
    if metadata is None:
        return
    if not isinstance(metadata, Metadata):
        raise TypeError(f"metadata is {type(metadata).__name__}, expected Metadata")
    for name, value in (("exif", metadata.exif), ("xmp", metadata.xmp)):
        if value is not None and not isinstance(value, bytes):
            raise TypeError(f"metadata.{name} is {type(value).__name__}, expected bytes")


def checked(header: Header, limits: Limits) -> Header:
    """The header itself.

    Raises:
        BitstreamError: it makes no sense or is over a limit.
    """
    height, width = header.height, header.width
    if not height or not width or header.channels not in CHANNELS or header.level >= LEVELS:
        raise BitstreamError("the file's header makes no sense")
    if max(height, width) > limits.side_pixels or height * width > limits.pixels:
        raise BitstreamError(
            f"the file holds {width} x {height} pixels, expected at most {limits.pixels} in all "
            f"and {limits.side_pixels} a side"
        )
    return header
