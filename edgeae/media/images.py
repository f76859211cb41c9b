"""Images from files and back.

Reading converts only where the meaning stays (orientation, color profile, 16 bits to 8) and
refuses the rest by name.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeae.errors import MediaError
from edgeae.media.files import atomic_write, first_line, named, read_bytes, unreadable, unwritable

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "image_writer", "read_image", "write_image"]

# Just above 16,000 x 16,000, the largest picture that edgeae promises to take.
MAX_PIXELS = 2**28

# A short file may unfold to a picture of any usual camera; a larger one needs a byte for so many of
# its pixels. A blank bilevel PNG has 8256, the most that deflate can do.
_USUAL_PIXELS = 2**25
_PIXELS_PER_BYTE = 2**14
# The most bytes that deflate makes of one: 258 for two bits (RFC 1951).
_DEFLATE_MOST = 1032

# What Pillow may try to open. An allow-list: some of its other readers start outside programs
# (EPS) or are seldom looked after, and a file's bytes are not to choose among them.
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "GIF", "JPEG2000")

# How each suffix is written. The lossy ones are as near to lossless as they go in usual viewers.
_IMAGE_WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".bmp": ("BMP", {}),
    ".ppm": ("PPM", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".avif": ("AVIF", {"quality": 95, "subsampling": "4:4:4"}),
}
_WITH_TRANSPARENCY = ("PNG", "WEBP", "TIFF", "AVIF")
IMAGE_SUFFIXES = frozenset({*_IMAGE_WRITERS, ".gif", ".jp2", ".j2k", ".pgm", ".pnm"})


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The picture as uint8 (H, W, 3) in sRGB, (H, W, 1) if it is gray, upright.

    Transparency that shows makes it (H, W, 4), not premultiplied; an alpha channel that is opaque
    everywhere is left out. The EXIF orientation is applied, an embedded ICC profile is converted
    to sRGB, and 16 bits become 8. Refused by name (MediaError): CMYK without a profile, floating
    point, several frames, more than 2**28 pixels, more than 2**25 that a file of so few bytes can
    hardly hold, and whatever is cut off, damaged or no picture.
    """
    from PIL import ImageOps

    data = read_bytes(path)
    # Decoders fail in as many ways as there are of them (OSError, SyntaxError, ValueError,
    # struct.error, zlib.error, IndexError ...); all of them mean that the file is at fault.
    try:
        picture = _open_image(path, data)
        picture.load()
        upright = ImageOps.exif_transpose(picture)
    except MediaError:
        raise
    except MemoryError:
        raise unreadable(path, "not enough memory for the picture") from None
    except Exception as error:
        raise unreadable(path, _image_fault(error)) from error
    opaque, alpha = _split(path, upright)
    plain = np.array(_to_srgb(path, opaque, upright.info.get("icc_profile")), dtype=np.uint8)
    if alpha is None:
        return plain if plain.ndim == 3 else plain[:, :, None]
    colors = plain if plain.ndim == 3 else np.repeat(plain[:, :, None], 3, axis=2)
    return np.dstack([colors, np.asarray(alpha)])


# Pillow's own limit is a module variable: it is lifted only while a header is read, by one thread.
_pillow_limit = threading.Lock()


def _open_image(path: str | os.PathLike[str], data: bytes) -> Image.Image:
    from PIL import Image

    Image.init()  # `formats` may only name readers that are loaded
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS
        try:
            picture = Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    pixels = picture.width * picture.height
    if pixels > MAX_PIXELS:
        raise unreadable(
            path,
            f"{picture.width}x{picture.height} is {pixels:,} pixels,"
            f" at most {MAX_PIXELS:,} are allowed",
        )
    if pixels == 0:
        raise unreadable(path, "the picture has no pixels")
    held = _PIXELS_PER_BYTE * len(data)
    if pixels > max(_USUAL_PIXELS, held) or (picture.format == "PNG" and not _png_can_hold(data)):
        raise unreadable(
            path,
            f"{picture.width}x{picture.height} pixels,"
            f" of which its {len(data):,} bytes can hold a part at most",
        )
    # An MPO is a photo with extra views for other devices; its first frame is the photo.
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise unreadable(path, f"it holds {frames} frames; save the one you want as its own file")
    return picture


def _png_can_hold(data: bytes) -> bool:
    """Whether deflate could make all pixels that a PNG announces of the data that it has.

    Pillow leaves black what is missing, as long as the data end well.
    """
    width, height, depth, kind = struct.unpack_from(">IIBB", data, 16)
    bits = width * height * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(kind, 4)
    there, position = 0, 8
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        there += length if name == b"IDAT" else 0
        position += 12 + length
    return bool(bits <= 8 * _DEFLATE_MOST * there)


def _image_fault(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known kind, or its beginning is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"too many pixels, at most {MAX_PIXELS:,} are allowed"
    return f"the picture is cut off or damaged ({first_line(error)})"


def _to_srgb(
    path: str | os.PathLike[str], picture: Image.Image, profile: bytes | None
) -> Image.Image:
    """The picture as L or RGB in sRGB; MediaError names a mode that has no one meaning there."""
    if picture.mode.startswith("I;16"):
        picture = _sixteen_to_eight(picture)
    elif picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode in ("P", "YCbCr"):
        picture = picture.convert("RGB")
    if picture.mode == "CMYK" and not profile:
        raise unreadable(
            path, "CMYK without an ICC profile has no defined colors; convert it to RGB first"
        )
    if picture.mode not in ("L", "RGB", "CMYK"):
        raise unreadable(
            path,
            f"pixels of kind {picture.mode} have no defined 8-bit colors;"
            " convert it to 8-bit RGB first",
        )
    return _apply_profile(path, picture, profile) if profile else picture


def _split(
    path: str | os.PathLike[str], picture: Image.Image
) -> tuple[Image.Image, Image.Image | None]:
    """The picture without its alpha channel, and that channel (L) if anything shines through."""
    if not picture.has_transparency_data:
        return picture, None
    if picture.mode.startswith("I"):  # one transparent level of a 16-bit gray PNG
        raise unreadable(path, "16-bit gray with transparency; flatten it first")
    gray = picture.mode in ("L", "LA", "La", "1")
    with_alpha = picture.convert("LA" if gray else "RGBA")
    alpha = with_alpha.getchannel("A")
    lowest, _ = alpha.getextrema()
    return with_alpha.convert("L" if gray else "RGB"), alpha if lowest != 255 else None


def _sixteen_to_eight(picture: Image.Image) -> Image.Image:
    from PIL import Image

    levels = np.asarray(picture).astype(np.uint32)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))  # 65535 / 257 = 255


def _apply_profile(
    path: str | os.PathLike[str], picture: Image.Image, profile: bytes
) -> Image.Image:
    """The picture in sRGB: L stays L, RGB and CMYK become RGB."""
    from PIL import Image, ImageCms

    gray = picture.mode == "L"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if gray and space == "RGB":
            picture = picture.convert("RGB")
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            picture.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if picture.mode == "RGB":
            # A profile that is sRGB by another name would only add rounding errors.
            levels = np.linspace(0, 255, 9).round().astype(np.uint8)
            cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
            probe = np.asarray(transform.apply(Image.fromarray(cube)))
            if np.abs(probe.astype(int) - cube).max() <= 1:
                return picture.getchannel("G") if gray else picture
        moved = transform.apply(picture)
        return moved.getchannel("G") if gray else moved  # a gray of any space is a gray of sRGB
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise unreadable(
            path,
            f"its ICC profile does not fit {picture.mode} pixels"
            f" ({first_line(error)}); convert it to sRGB first",
        ) from error


def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> None:
    """Write uint8 (H, W, 3), (H, W, 4), (H, W, 1) or (H, W), format by suffix, atomically.

    Without loss as .png .webp .tif .bmp .ppm; as .jpg or .avif at quality 95 without chroma
    subsampling. ValueError for any other suffix, shape or dtype, MediaError for a fourth channel,
    which is transparency, in a format that has none.
    """
    from PIL import Image

    format_name, options = image_writer(path)
    plane = image[:, :, 0] if getattr(image, "shape", ())[2:] == (1,) else image
    if (
        not isinstance(plane, np.ndarray)
        or plane.dtype != np.uint8
        or not (plane.ndim == 2 or (plane.ndim == 3 and plane.shape[2] in (3, 4)))
        or plane.size == 0
    ):
        came = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image)
        raise ValueError(
            f"an image must be uint8 (H, W, 3), (H, W, 4), (H, W, 1) or (H, W), got {came}"
        )
    if plane.shape[2:] == (4,) and format_name not in _WITH_TRANSPARENCY:
        raise unwritable(path, f"{format_name} has no transparency, .png .webp .tif .avif have")
    buffer = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(plane)).save(buffer, format_name, **options)
    except (OSError, ValueError) as error:  # WebP ends at 16,383 pixels a side
        raise MediaError(
            f"cannot write {named(path)} as {format_name}: {first_line(error)}"
        ) from error
    atomic_write(path, buffer.getvalue())


def image_writer(path: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """Pillow's format name and options for a suffix; ValueError names the known ones."""
    suffix = Path(path).suffix.lower()
    if suffix not in _IMAGE_WRITERS:
        raise ValueError(
            f"cannot tell the picture format of {named(path)!r}:"
            f" the name must end in {' '.join(_IMAGE_WRITERS)}"
        )
    return _IMAGE_WRITERS[suffix]
