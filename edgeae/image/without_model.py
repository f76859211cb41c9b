"""What a file says, or gives back, without the model that wrote it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeae.coding.rate import quality_of_level
from edgeae.image import exact, file, pixels
from edgeae.image.header import Limits, check_proportion
from edgeae.image.pixels import Region

__all__ = ["decompress_exact", "file_codec_id", "file_info"]

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def decompress_exact(
    data: bytes,
    *,
    errors: Literal["strict", "conceal"] = "strict",
    region: Region | None = None,
    limits: Limits | None = None,
) -> Image | tuple[Image, Mask]:
    """The image of a file that keeps it exactly, uint8 in its shape, which takes no codec.

    Takes the options of `ImageCodec.decompress` and raises as it does; such a file is one piece,
    whole or nothing, and the mask of "conceal" is False throughout.
    """
    header = exact.read_header(data, limits)
    shown = pixels.window(region, header.height, header.width)
    shown_pixels = (shown[0].stop - shown[0].start) * (shown[1].stop - shown[1].start)
    check_proportion(shown_pixels, len(data), limits)
    image = np.ascontiguousarray(exact.read(data, limits).image[shown])
    return image if errors == "strict" else (image, np.zeros(image.shape[:2], np.bool_))


def file_codec_id(
    data: bytes,
    *,
    errors: Literal["strict", "conceal"] = "strict",
    limits: Limits | None = None,
    **_: Any,
) -> bytes:
    """The id of the codec that wrote an image file: 16 bytes, or the first 4 in the small form;
    empty if the image is kept exactly, see `decompress_exact`.

    Takes the options of `ImageCodec.decompress`. Raises BitstreamError if there is no sound header.
    """
    if data.startswith(exact.MAGIC):
        return exact.read_header(data, limits).codec_id
    if errors == "conceal":
        return file.salvage(data, limits).header.codec_id
    return file.read_header(data, limits).codec_id


def file_info(data: bytes) -> dict[str, Any]:
    """What the header of an image file says: {"kind", "width", "height", "channels", "quality",
    "level", "codec_id", "lossless"}.

    `channels` are those of the array, 0 for (H, W); `codec_id` is hexadecimal, short in the small
    form. A file that keeps its image exactly has no quality, level or id: they are None. Only the
    beginning of the file need be there. Raises BitstreamError.
    """
    lossless = data.startswith(exact.MAGIC)
    header = (exact if lossless else file).read_header(data)
    return {
        "kind": "image",
        "width": header.width,
        "height": header.height,
        "channels": header.channels,
        "quality": None if lossless else quality_of_level(header.level),
        "level": None if lossless else header.level,
        "codec_id": None if lossless else header.codec_id.hex(),
        "lossless": lossless,
    }
