"""The exact form of an image file, for what the network cannot code well: text, line art, patterns.

docs/FORMAT.md says it byte by byte. No model is needed to read it:

    magic    89 78
    flags    channels (0 to 3 for 0, 1, 3, 4), + 4 with a palette, + 8 with EXIF, + 16 with XMP
    size     height and width, varints
    EXIF, XMP, if there are: varint length, then the bytes
    palette  number of colors less 1, then channels bytes for each
    rows     filtered as in a PNG, then deflated (zlib)
    CRC-32   of all that stands before it
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae import metrics
from edgeae.coding.container import SEAL_BYTES, read_varint, sealed, unsealed, varint
from edgeae.coding.rate import QUALITIES
from edgeae.errors import BitstreamError
from edgeae.image.header import CHANNELS, Header, Limits, Metadata, checked

__all__ = [
    "MAGIC",
    "ExactFile",
    "falls_short",
    "looks_plain",
    "read",
    "read_header",
    "read_metadata",
    "write",
]

Image = npt.NDArray[np.uint8]

MAGIC = b"\x89x"
_PALETTE, _EXIF, _XMP = 4, 8, 16
# Level 6 of zlib finds the best filter as well as level 9 does, in half the time.
_TRIAL_LEVEL, _LEVEL = 6, 9
# Rows are filtered so many bytes at a time, and the filter is chosen on so many of a large image.
_BAND_BYTES, _TRIAL_BYTES = 1 << 16, 1 << 19
_FILTERS = 5
# Pillow's name of rows of so many bytes a pixel, or of so many bits an index.
_RAW = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("RGBA", "RGBA")}
_RAW_INDEX = {1: "P;1", 2: "P;2", 4: "P;4", 8: "P"}

# Half of all pixels like their left neighbor, or under 20 dB left of half the resolution: 9 of 150
# photographs are such, and are only looked at more closely.
_ALIKE, _HALF_RESOLUTION_DB = 0.5, 20.0
# The least PSNR at quality 9, and how much less a quality below may have; photographs keep 38 dB at
# 9 and 25 at 1.
_LEAST_PSNR_DB, _LEAST_PSNR_STEP_DB = 35.0, 4.0
# Enough to know the content by, in strips of so many rows spread over the image.
_LOOKED_AT_PIXELS, _STRIP_ROWS = 1 << 17, 8


@dataclass(frozen=True)
class ExactFile:
    """What an exact file holds.

    Attributes:
        image: uint8 in the shape that was given.
        metadata: EXIF and XMP, those that are there.
    """

    image: Image
    metadata: Metadata


def looks_plain(image: Image) -> bool:
    """Whether an image, uint8 (H, W) or (H, W, C), looks like text, line art or a fine pattern
    rather than a photo: whether an exact file may be the better one."""
    pixels = image[:, :, None] if image.ndim == 2 else image[..., :3]
    if pixels.shape[0] < 2 or pixels.shape[1] < 2:
        return False
    part = _strips(pixels[:, : pixels.shape[1] // 2 * 2])
    # Every photograph is looked at: whole planes and sums, a sixth of the time of reductions.
    same = part[:, 1:] == part[:, :-1]
    if np.logical_and.reduce([same[..., i] for i in range(same.shape[2])]).mean() > _ALIKE:
        return True
    part = part[: part.shape[0] // 2 * 2]
    sums = np.add(part[::2, ::2], part[::2, 1::2], dtype=np.uint16)
    sums += part[1::2, ::2]
    sums += part[1::2, 1::2]
    # What a mean of four values loses of their squares; float64 holds these whole numbers exactly.
    lost = (_energy(part) - _energy(sums) / 4) / part.size
    return lost > 255**2 * 10 ** (-_HALF_RESOLUTION_DB / 10)


def _strips(pixels: Image) -> Image:
    """All rows of a small image (H, W, C), strips of a large one."""
    every = -(-pixels.shape[0] * pixels.shape[1] // _LOOKED_AT_PIXELS)
    starts = range(0, pixels.shape[0] - _STRIP_ROWS + 1, every * _STRIP_ROWS)
    if every == 1 or not starts:
        return pixels
    return np.concatenate([pixels[start : start + _STRIP_ROWS] for start in starts])


def _energy(values: npt.NDArray[Any]) -> float:
    """The sum of the squares of whole numbers."""
    flat = values.astype(np.float64).ravel()
    # Not `flat @ flat`, which wakes a linear algebra library's threads for each image.
    return float(np.einsum("i,i->", flat, flat))


def falls_short(image: Image, restored: Image, quality: float) -> bool:
    """Whether a restored image has less than the least PSNR of a quality, 1 to 9.

    Both are uint8 of one shape, (H, W) or (H, W, C); transparency, which is exact, does not count.
    """
    shown = (slice(None), slice(None), *[slice(3)][: image.ndim - 2])
    least_db = _LEAST_PSNR_DB - _LEAST_PSNR_STEP_DB * (QUALITIES[1] - quality)
    return metrics.psnr_db(image[shown], restored[shown]) < least_db


def write(image: Image, metadata: Metadata | None = None) -> bytes:
    """The bytes of an image, uint8 (H, W), or (H, W, C) of 1, 3 or 4 channels, kept exactly."""
    metadata = metadata or Metadata()
    channels = image.shape[2] if image.ndim == 3 else 0
    height, width = image.shape[:2]
    values = image.reshape(height, width, -1)
    flags = CHANNELS.index(channels)
    candidates = [(0, b"", _deflated(values.reshape(height, -1), values.shape[2]))]
    if (found := _palette(values)) is not None:
        colors, indexes = found
        prefix = bytes([len(colors) - 1]) + colors.tobytes()
        candidates.append((_PALETTE, prefix, _deflated(_packed(indexes, len(colors)), 1)))
    kind, prefix, rows = min(candidates, key=lambda parts: len(parts[1]) + len(parts[2]))
    described = b""
    for flag, part in ((_EXIF, metadata.exif), (_XMP, metadata.xmp)):
        if part is not None:
            flags |= flag
            described += varint(len(part)) + part
    body = b"".join(
        [MAGIC, bytes([flags | kind]), varint(height), varint(width), described, prefix, rows]
    )
    return sealed(body)


def read_header(data: bytes, limits: Limits | None = None) -> Header:
    """The header of an exact file, of which only the beginning need be there; it names no codec.

    Raises:
        BitstreamError: not an exact file, cut off, or over a limit.
    """
    return _header(data, limits or Limits())[0]


def read_metadata(data: bytes, limits: Limits | None = None) -> Metadata:
    """The EXIF and XMP of a whole exact file, of which no row is unpacked.

    Raises:
        BitstreamError: not an exact file, cut off, damaged, or over a limit.
    """
    return _described(data, limits or Limits())[1]


def read(data: bytes, limits: Limits | None = None) -> ExactFile:
    """The image of an exact file, in memory bounded by its size.

    Raises:
        BitstreamError: not an exact file, cut off, damaged, or over a limit.
    """
    header, metadata, position = _described(data, limits or Limits())
    body, flags = memoryview(data)[:-SEAL_BYTES], data[len(MAGIC)]
    channels = max(1, header.channels)
    size = (header.height, header.width)
    if not flags & _PALETTE:
        image = _inflated(body[position:], size, channels, *_RAW[channels])
        return ExactFile(_shaped(image, header), metadata)
    count, position = _taken(body, position, 1)
    palette, position = _taken(body, position, (count[0] + 1) * channels)
    colors = np.frombuffer(palette, np.uint8).reshape(-1, channels)
    bits = _index_bits(len(colors))
    indexes = _inflated(body[position:], size, bits / 8, "P", _RAW_INDEX[bits])
    if int(indexes.max()) >= len(colors):
        raise BitstreamError("the file names a color that its palette does not hold")
    return ExactFile(_shaped(colors[indexes], header), metadata)


def _described(data: bytes, limits: Limits) -> tuple[Header, Metadata, int]:
    """The header and the metadata of a file whose checksum is right, and where they end."""
    if len(data) > limits.file_bytes:
        raise BitstreamError(
            f"the file has {len(data)} bytes, expected {limits.file_bytes} at most"
        )
    header, position = _header(data, limits)
    body = unsealed(data)
    flags = data[len(MAGIC)]
    parts: list[bytes | None] = []
    for flag in (_EXIF, _XMP):
        part = None
        if flags & flag:
            length, position = read_varint(body, position)
            part, position = _taken(body, position, length)
        parts.append(part)
    return header, Metadata(*parts), position


def _header(data: bytes, limits: Limits) -> tuple[Header, int]:
    """The header, and where it ends."""
    if not data.startswith(MAGIC):
        raise BitstreamError("this is not an exact .eae file")
    if len(data) <= len(MAGIC):
        raise BitstreamError(f"the file is cut off after {len(data)} bytes")
    flags = data[len(MAGIC)]
    if flags >= 2 * _XMP:
        raise BitstreamError("the file's header makes no sense")
    height, position = read_varint(data, len(MAGIC) + 1)
    width, position = read_varint(data, position)
    return checked(Header(b"", 0, height, width, CHANNELS[flags & 3]), limits), position


def _taken(body: memoryview, begin: int, length: int) -> tuple[bytes, int]:
    """So many bytes from there, and where they end."""
    if length > len(body) - begin:
        raise BitstreamError("the file is cut off, or a number in it makes no sense")
    return bytes(body[begin : begin + length]), begin + length


def _shaped(image: Image, header: Header) -> Image:
    shape = (header.height, header.width, header.channels)
    return np.ascontiguousarray(image.reshape(shape if header.channels else shape[:2]))


# --- palettes ---------------------------------------------------------------------------------


def _palette(values: Image) -> tuple[Image, npt.NDArray[np.uint8]] | None:
    """The colors (count, C), ascending, and the index (H, W) of each pixel, of at most 256."""
    height, width, channels = values.shape
    keys: npt.NDArray[np.uint32] = np.zeros((height, width), np.uint32)
    for channel in range(channels):
        keys = keys << np.uint32(8) | values[:, :, channel]
    found: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)
    # Photos are known by their first rows, which saves sorting all of them.
    band = max(1, _BAND_BYTES // width)
    for top in range(0, height, band):
        found = np.union1d(found, keys[top : top + band])
        if len(found) > 256:
            return None
    indexes = np.searchsorted(found, keys)
    shifts = np.arange(8 * (channels - 1), -1, -8, dtype=np.uint32)
    colors = (found[:, None] >> shifts & 0xFF).astype(np.uint8)
    return colors, indexes.astype(np.uint8)


def _index_bits(colors: int) -> int:
    return next(bits for bits in (1, 2, 4, 8) if colors <= 1 << bits)


def _packed(indexes: Image, colors: int) -> Image:
    """Rows of indexes (H, W) with several in a byte, the first in its highest bits."""
    bits = _index_bits(colors)
    each = 8 // bits
    height, width = indexes.shape
    padded = np.zeros((height, -(-width // each) * each), np.uint8)
    padded[:, :width] = indexes
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    shifted = padded.reshape(height, -1, each) << shifts
    packed: Image = np.bitwise_or.reduce(shifted, axis=2)
    return packed


# --- rows -------------------------------------------------------------------------------------


def _deflated(rows: Image, pixel_bytes: int) -> bytes:
    """Rows of bytes (H, N), filtered in the way that is smallest and deflated."""
    trials = [zlib.compressobj(_TRIAL_LEVEL) for _ in range(_FILTERS + 1)]
    sizes = np.zeros(len(trials), np.int64)
    for filtered, kinds in _bands(rows, pixel_bytes, step=-(-rows.size // _TRIAL_BYTES)):
        for i, trial in enumerate(trials):
            sizes[i] += len(trial.compress(_chosen(filtered, kinds[i])))
    sizes += [len(trial.flush()) for trial in trials]
    best, packing = int(sizes.argmin()), zlib.compressobj(_LEVEL)
    parts = [packing.compress(_chosen(f, kinds[best])) for f, kinds in _bands(rows, pixel_bytes)]
    return b"".join([*parts, packing.flush()])


def _bands(
    rows: Image, pixel_bytes: int, *, step: int = 1
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.intp]]]:
    """Every `step`-th band of rows: each filter's result (5, h, N), and six choices of a filter for
    each row (6, h): always one of the five, or that of the smallest differences."""
    height = max(1, _BAND_BYTES // rows.shape[1])
    for top in range(0, len(rows), height * step):
        filtered = _filtered(rows[max(0, top - 1) : top + height], pixel_bytes)
        filtered = filtered[:, min(top, 1) :]
        # A difference near zero is small whatever its sign.
        costs = np.minimum(filtered, 0 - filtered).sum(axis=2, dtype=np.int64)
        fixed = np.repeat(np.arange(_FILTERS)[:, None], costs.shape[1], axis=1)
        yield filtered, np.concatenate([fixed, costs.argmin(axis=0)[None]])


def _chosen(filtered: npt.NDArray[np.uint8], kinds: npt.NDArray[np.intp]) -> bytes:
    """Rows as a PNG holds them: the number of the filter, then its result."""
    rows = filtered[kinds, np.arange(len(kinds))]
    return np.column_stack([kinds.astype(np.uint8), rows]).tobytes()


def _filtered(rows: Image, pixel_bytes: int) -> npt.NDArray[np.uint8]:
    """Rows (H, N) less what each of PNG's five filters predicts, (5, H, N), modulo 256.

    Source: the PNG specification, third edition, section 9.2.
    """
    above = np.zeros_like(rows)
    above[1:] = rows[:-1]
    left, corner = np.zeros_like(rows), np.zeros_like(rows)
    left[:, pixel_bytes:] = rows[:, :-pixel_bytes]
    corner[:, pixel_bytes:] = above[:, :-pixel_bytes]
    a, b, c = (part.astype(np.int16) for part in (left, above, corner))
    to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    nearest = np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))
    predicted = (np.zeros_like(rows), left, above, (a + b) // 2, nearest)
    return np.stack([rows - part.astype(np.uint8) for part in predicted])


def _inflated(
    packed: memoryview, size: tuple[int, int], pixel_bytes: float, mode: str, raw: str
) -> Image:
    """The pixels (H, W) or (H, W, C) of deflated rows.

    Raises:
        BitstreamError: damaged, cut off, or of another size.
    """
    from PIL import Image as pillow

    height, width = size
    length = height * (1 + -(-int(width * pixel_bytes * 8) // 8))
    inflate = zlib.decompressobj()
    try:
        # One byte more than expected tells rows that are too long from those that fit.
        rows = inflate.decompress(packed, length + 1)
    except zlib.error:
        raise BitstreamError("the rows of the file are damaged") from None
    if len(rows) != length or not inflate.eof or inflate.unused_data:
        raise BitstreamError("the file's rows have another size than its image")
    if max(rows[:: length // height]) > _FILTERS - 1:
        raise BitstreamError("the file's rows are filtered in a way that is not known here")
    return np.asarray(pillow.frombytes(mode, (width, height), bytes(packed), "zip", raw))
