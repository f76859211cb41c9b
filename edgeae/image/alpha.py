"""A plane of 8-bit values kept exactly, for transparency: row differences, then deflate."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from edgeae.errors import BitstreamError

__all__ = ["pack_plane", "unpack_plane"]

Plane = npt.NDArray[np.uint8]

# The first byte says which of the two was smaller.
_PLAIN, _ROW_DIFFERENCES = 0, 1


def pack_plane(plane: Plane) -> bytes:
    """The bytes of a plane (H, W)."""
    differences = np.diff(plane, axis=0, prepend=np.zeros((1, plane.shape[1]), np.uint8))
    packed = [
        bytes([kind]) + zlib.compress(np.ascontiguousarray(values).tobytes(), 9)
        for kind, values in ((_PLAIN, plane), (_ROW_DIFFERENCES, differences))
    ]
    return min(packed, key=len)


def unpack_plane(data: bytes, height: int, width: int) -> Plane:
    """The plane (H, W) of its bytes, in memory bounded by its size.

    Raises:
        BitstreamError: damaged, cut off, or of another size.
    """
    size = height * width
    inflate = zlib.decompressobj()
    try:
        # One byte more than allowed tells a plane that is too large from one that fits.
        values = inflate.decompress(data[1:], size + 1)
    except zlib.error:
        raise BitstreamError("the transparency of the file is damaged") from None
    if len(values) != size or not inflate.eof or inflate.unused_data:
        raise BitstreamError("the transparency of the file has another size than its image")
    plane = np.frombuffer(values, np.uint8).reshape(height, width)
    if data[0] == _PLAIN:
        return plane
    if data[0] == _ROW_DIFFERENCES:
        return np.cumsum(plane, axis=0, dtype=np.uint8)
    raise BitstreamError("the transparency of the file is kept in a way that is not known here")
