"""Images as callers give them: what is accepted, and what of it is asked for."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.image.header import Limits
from edgeae.image.tiles import Window

__all__ = ["Region", "parts", "window"]

Image = npt.NDArray[np.uint8]
# Top, left, height and width in pixels.
Region = tuple[int, int, int, int]


def parts(
    image: Any, *, dtypes: Sequence[type[np.generic]] = (np.uint8,)
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, int]:
    """Colors (H, W, 3), transparency (H, W) or None, and channels as a header says them.

    Args:
        image: (H, W, 3), (H, W, 4), (H, W, 1) or (H, W).
        dtypes: those that the image may have.

    Raises:
        TypeError: no array of such a dtype, or a masked one.
        ValueError: another shape, no pixels, or more of them than a file may hold.
    """
    named = " or ".join(np.dtype(dtype).name for dtype in dtypes)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image is {type(image).__name__}, expected a {named} array (H, W, 3)")
    if isinstance(image, np.ma.MaskedArray):
        raise TypeError(
            "image is a masked array, expected a plain one: what is masked has no color"
        )
    # Not of another byte order either: what equals one of them is one.
    if image.dtype not in dtypes:
        raise TypeError(f"image has dtype {image.dtype}, expected {named}")
    channels = image.shape[2] if image.ndim == 3 else 0
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) and image.ndim == 3:
        raise ValueError(
            f"image has shape {image.shape}, expected (H, W, 3), (H, W, 4), (H, W, 1) or (H, W)"
        )
    if image.size == 0:
        raise ValueError(f"image has shape {image.shape}, expected at least one pixel")
    limits = Limits()
    if max(image.shape[:2]) > limits.side_pixels or image.shape[0] * image.shape[1] > limits.pixels:
        raise ValueError(
            f"image has shape {image.shape}, expected at most {limits.pixels} pixels in all "
            f"and {limits.side_pixels} a side"
        )
    if channels >= 3:
        return image[:, :, :3], image[:, :, 3] if channels == 4 else None, channels
    return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2), None, channels


def window(region: Region | None, height: int, width: int) -> Window:
    """The rows and columns of a region of (top, left, height, width) pixels, or all.

    Raises:
        TypeError: no four integers.
        ValueError: the region is empty or reaches beyond the image.
    """
    if region is None:
        return slice(0, height), slice(0, width)
    try:
        top, left, rows, columns = map(operator.index, region)
    except (TypeError, ValueError):
        raise TypeError(f"region is {region!r}, expected (top, left, height, width)") from None
    inner = top + rows <= height and left + columns <= width
    if not inner or min(top, left) < 0 or min(rows, columns) < 1:
        raise ValueError(
            f"region is {region!r}, expected (top, left, height, width) "
            f"inside an image of {height} rows and {width} columns"
        )
    return slice(top, top + rows), slice(left, left + columns)
