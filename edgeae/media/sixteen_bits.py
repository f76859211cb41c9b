"""Images of 16 bits a sample as PNG and TIFF, which Pillow writes of gray alone.

Pillow writes the file, with the metadata, around other samples of 8 bits, `stand_in`; `exchanged`
then puts those of 16 in their place. Sources: PNG (third edition), TIFF 6.0.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgeae.media.exif import entries

__all__ = ["FORMATS", "exchanged", "narrowed", "stand_in"]

# Pillow's names of the formats that have 16 bits here.
FORMATS = ("PNG", "TIFF")

_PNG_KINDS = {1: 0, 3: 2, 4: 6}  # channels: gray, RGB and RGBA of IHDR
_SUB = 1  # the filter that takes the difference to the pixel before
_WIDTH, _BITS = 256, 258  # fields of a TIFF
# Bytes of the rows that are packed at a time.
_STRIP_BYTES = 1 << 24


def narrowed(levels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Levels of 0 to 65535 as the nearest of 0 to 255."""
    return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 257 = 255


def stand_in(image: NDArray[np.uint16], format_name: str) -> NDArray[np.uint8]:
    """What Pillow is to write in the place of an image (H, W), (H, W, 3) or (H, W, 4).

    In a TIFF the bytes of the samples in this machine's order, as twice as many pixels: as such
    they are packed just as they would be. In a PNG, whose filters look at whole pixels, one pixel.
    """
    if format_name == "PNG":
        return narrowed(image[:1, :1])
    height, width, *channels = image.shape
    plain = np.ascontiguousarray(image, dtype=np.uint16)
    return plain.view(np.uint8).reshape(height, 2 * width, *channels)


def exchanged(data: bytes, image: NDArray[np.uint16], format_name: str) -> bytes:
    """The file of an image, out of the file that Pillow wrote of its `stand_in`."""
    return _png(data, image) if format_name == "PNG" else _tiff(data, image.shape[1])


def _png(data: bytes, image: NDArray[np.uint16]) -> bytes:
    height, width = image.shape[:2]
    channels = image.shape[2] if image.ndim == 3 else 1
    parts = [data[:8]]
    position = 8
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if name == b"IHDR":
            kind = _PNG_KINDS[channels]
            parts.append(_chunk(name, struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)))
        elif name == b"IDAT":  # one pixel has one of them
            parts.extend(_chunk(name, packed) for packed in _packed(image, 2 * channels))
        else:
            parts.append(data[position:end])
        position = end
    return b"".join(parts)


def _packed(image: NDArray[np.uint16], pixel_bytes: int) -> Iterator[bytes]:
    """The filtered rows of a PNG, deflated, in several parts."""
    height, width = image.shape[:2]
    pack = zlib.compressobj()
    rows = max(1, _STRIP_BYTES // (width * pixel_bytes))
    for top in range(0, height, rows):
        samples = image[top : top + rows].astype(">u2", order="C").view(np.uint8)
        samples = samples.reshape(-1, width * pixel_bytes)
        filtered = np.empty((len(samples), 1 + samples.shape[1]), np.uint8)
        filtered[:, 0] = _SUB
        filtered[:, 1 : 1 + pixel_bytes] = samples[:, :pixel_bytes]
        # Modulo 256, as the filter asks.
        filtered[:, 1 + pixel_bytes :] = samples[:, pixel_bytes:] - samples[:, :-pixel_bytes]
        yield pack.compress(filtered.tobytes())
    yield pack.flush()


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _tiff(data: bytes, width: int) -> bytes:
    order = "<" if data[:2] == b"II" else ">"
    patched = bytearray(data)
    for entry in entries(data, 0, struct.unpack_from(order + "I", data, 4)[0]):
        letter = {3: "H", 4: "I"}.get(entry.kind, "")
        if entry.tag == _WIDTH:
            struct.pack_into(order + letter, patched, entry.at, width)
        elif entry.tag == _BITS:
            struct.pack_into(f"{order}{entry.count}H", patched, entry.at, *[16] * entry.count)
    return bytes(patched)
