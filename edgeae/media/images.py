"""Images from files.

Reading converts only where the meaning stays (orientation, color space, 16 bits to 8) and refuses
the rest by name.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from edgeae.errors import MediaError
from edgeae.media import color, exif
from edgeae.media.exif import Metadata
from edgeae.media.files import (
    Source,
    first_line,
    opened,
    quoting,
    unreadable,
)
from edgeae.media.image_parts import BROKEN_PROFILE, DamagedImage, ImageParts, parts
from edgeae.media.image_writing import IMAGE_WRITERS, TIFF_DESCRIPTION, TIFF_FOLDERS
from edgeae.media.sixteen_bits import narrowed

if TYPE_CHECKING:
    from PIL import Image, ImageFile

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "read_image",
    "read_image_metadata",
]

# Just above 16,000 x 16,000, the largest image that edgeae promises to take.
MAX_PIXELS = 2**28

# A short file may unfold to an image of any usual camera; a larger one needs a byte for so many of
# its pixels. A blank bilevel PNG has 8256, the most that deflate can do.
_USUAL_PIXELS = 2**25
_PIXELS_PER_BYTE = 2**14
# Decoders that take 16 to 27 bytes of memory for a pixel where the others take 3 to 8.
_PIXELS_PER_BYTE_OF = {"WEBP": 2**10, "AVIF": 2**10, "HEIF": 2**10, "JPEG2000": 2**10}

# What Pillow may try to open. An allow-list: some of its other readers start outside programs
# (EPS) or are seldom looked after, and a file's bytes are not to choose among them.
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "GIF", "JPEG2000")
# How files of these formats begin.
_BEGINNINGS = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM",
    b"GIF87a", b"GIF89a", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)  # fmt: skip
# Those of kinds that people try, by what they are and what to do.
_OTHERS = {
    b"P7\n": "PAM",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "SVG or other XML",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"\0\0\1\0": "Windows icon",
    b"qoif": "QOI",
    b"\x89EAE": "a compressed .eae",
}

IMAGE_SUFFIXES = frozenset(
    {*IMAGE_WRITERS, ".apng", ".gif", ".heic", ".heif", ".hif", ".j2c", ".j2k", ".jp2", ".jpx"}
    | {".mpo", ".pbm", ".pgm", ".pnm"}
)


# --- reading ----------------------------------------------------------------------------------


@overload
def read_image(source: Source, *, keep_16_bits: Literal[False] = ...) -> NDArray[np.uint8]: ...


@overload
def read_image(source: Source, *, keep_16_bits: bool) -> NDArray[Any]: ...


def read_image(source: Source, *, keep_16_bits: bool = False) -> NDArray[Any]:
    """The image as uint8 (H, W, 3) in sRGB, (H, W, 1) if it is gray, upright.

    `source` is a path, bytes or a binary file object. Transparency that shows makes it (H, W, 4),
    not premultiplied; an alpha channel that is opaque everywhere is left out. The orientation of
    EXIF or XMP is applied; ICC profiles, PNG's cICP, gAMA and cHRM, AVIF's and HEIF's nclx and
    cameras' Adobe RGB are converted to sRGB. HEIC takes `edgeae[heic]`.

    16 bits become 8. With `keep_16_bits` samples of more than 8 bits come as uint16, 0 to 65535,
    from a PNG, TIFF, PGM or gray JPEG 2000 whose colors need no conversion; all else stays uint8.

    Raises:
        MediaError: it is no image, damaged, cut off (every PNG chunk's checksum and the end of a
            JPEG's last scan are looked at) or more than 2**28 pixels, or more than 2**25 that so
            few coded bytes can hardly hold; and by name: CMYK without a profile, PQ and HLG,
            floating point, signed and 32-bit samples, several frames.
    """
    data = _image_bytes(source)
    with _decoding(source):
        found, image = _open(source, data)
        image.load()
        if found.scan is not None:
            _check_scan(found, image, found.scan)
        pixels, alpha = _to_srgb(source, found, image, keep_16_bits)
    turned = exif.orientation(_metadata_of(found, image))
    if alpha is not None:
        pixels = np.dstack([np.broadcast_to(pixels, (*pixels.shape[:2], 3)), alpha])
    return np.ascontiguousarray(_upright(pixels, turned))


def read_image_metadata(source: Source) -> Metadata:
    """EXIF and XMP of an image as bytes, made true of what `read_image` gives back.

    The orientation is set to 1 and the color space to sRGB, since both are applied. What cannot be
    read is None. `bits` tells of a sample that has more than 8 in a PNG, TIFF or PNM. MediaError
    as `read_image`, except for damage that only decoding shows.
    """
    data = _image_bytes(source)
    with _decoding(source):
        found, image = _open(source, data)
        if found.tiff is not None:
            found = replace(found, metadata=_tiff_metadata(source, found))
        return replace(exif.neutral(_metadata_of(found, image)), bits=_bits(found, image))


@contextlib.contextmanager
def _decoding(source: Source) -> Iterator[None]:
    """Turns what decoders raise into a MediaError.

    They fail in as many ways as there are of them (OSError, SyntaxError, ValueError, TypeError,
    struct.error, zlib.error, IndexError ...); all of them mean that the file is at fault.
    """
    try:
        yield
    except MediaError:
        raise
    except (DamagedImage, color.UnreadableColor) as error:
        raise unreadable(source, first_line(error)) from error
    except MemoryError:
        raise unreadable(source, "not enough memory for the image") from None
    except Exception as error:
        raise unreadable(source, _fault(error)) from error


def _fault(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known kind, or its beginning is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"too many pixels, expected at most {MAX_PIXELS:,}"
    return f"the image is cut off or damaged ({first_line(error)})"


def _image_bytes(source: Source) -> bytes:
    """All bytes; MediaError from the first few where no image begins like that."""
    with opened(source) as file, quoting("read", source):
        head = file.read(32)
        brand = head[4:8] == b"ftyp"
        for beginning, kind in _OTHERS.items():
            if head.startswith(beginning):
                raise unreadable(source, f"{kind} is not read; convert it to PNG first")
        if not (brand or head.startswith(_BEGINNINGS)):
            raise unreadable(source, "not an image of a known kind, or its beginning is damaged")
        return head + file.read()


# Pillow's own limit is a module variable, and so are the filters of warnings: both are changed only
# while a header is read, by one thread.
_pillow = threading.Lock()


def _open(source: Source, data: bytes) -> tuple[ImageParts, Image.Image]:
    """The parts of a file and its image, checked and not yet decoded."""
    formats = (*_IMAGE_FORMATS, *_heif(source, data))
    found = parts(data)
    try:
        image = _pillow_open(found.data, formats)
    except Exception:
        # The AVIF reader parses EXIF at once, and fails on what is broken.
        hidden = _without_exif(found.data)
        if found.tiff is not None:
            raise unreadable(source, f"{found.tiff}, which is not read") from None
        if hidden is None:
            raise
        image = _pillow_open(hidden, formats)
    _check_size(source, found, image, len(data))
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise unreadable(source, f"it holds {frames} frames; save the one you want as its own file")
    page = found.tiff
    if page is not None and page.small_palette is not None:
        from PIL import ImagePalette

        image.palette = ImagePalette.raw("RGB;L", page.small_palette)
    return found, image


def _pillow_open(data: bytes, formats: tuple[str, ...]) -> ImageFile.ImageFile:
    from PIL import Image

    Image.init()  # `formats` may only name readers that are loaded
    with _pillow, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS
        try:
            return Image.open(io.BytesIO(data), formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = before


# Brands of HEIF with HEVC inside; AVIF's are avif and avis.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def _heif(source: Source, data: bytes) -> tuple[str, ...]:
    """Pillow's name of the HEIF reader if the file needs it; MediaError if it is not installed."""
    size = int.from_bytes(data[:4], "big")
    brands = [data[i : i + 4] for i in (8, *range(16, min(size, 256), 4))]
    if data[4:8] != b"ftyp" or b"avif" in brands or not set(brands) & set(_HEIC_BRANDS):
        return ()
    try:
        import pillow_heif
    except ImportError:
        raise unreadable(
            source, "HEIC is read through pillow-heif: pip install 'edgeae[heic]'"
        ) from None
    pillow_heif.register_heif_opener()
    return ("HEIF",)


def _without_exif(data: bytes) -> bytes | None:
    """An AVIF file whose Exif items have another name; None if it has none."""
    end = data.find(b"mdat")
    head = data[:end] if end > 0 else data
    if data[4:8] != b"ftyp" or b"Exif" not in head:
        return None
    return head.replace(b"Exif", b"xxxx") + data[len(head) :]


def _check_size(source: Source, found: ImageParts, image: Image.Image, size: int) -> None:
    """MediaError where the pixels are none, too many, or more than the coded bytes can make."""
    pixels = image.width * image.height
    shape = f"{image.width}x{image.height}"
    if pixels > MAX_PIXELS:
        raise unreadable(source, f"{shape} is {pixels:,} pixels, expected at most {MAX_PIXELS:,}")
    if pixels == 0:
        raise unreadable(source, "the image has no pixels")
    per_byte = _PIXELS_PER_BYTE_OF.get(image.format or "", _PIXELS_PER_BYTE)
    most = max(_USUAL_PIXELS, per_byte * found.coded_bytes)
    if found.most_pixels is not None:
        most = min(most, found.most_pixels)
    if pixels > most:
        raise unreadable(
            source, f"{shape} pixels, of which its {size:,} bytes can hold a part at most"
        )


# Bytes without a marker, about half of their bits set.
_NOISE = bytes(np.random.default_rng(0).integers(1, 255, 96).astype(np.uint8))
_LAST_BYTES = 16


def _check_scan(found: ImageParts, image: Image.Image, scan: tuple[int, int]) -> None:
    """DamagedImage unless a JPEG's last scan ends where its data end.

    libjpeg fills in what is missing with gray, and skips what is too much, with a warning that
    Pillow drops. So the scan is decoded again with noise after its end: where it was whole the
    noise is not read. And with noise in place of its last bytes: where it was whole they were.
    """
    whole, data = np.asarray(image), found.data

    def same(changed: bytes) -> bool:
        return np.array_equal(np.asarray(_pillow_open(changed, ("JPEG",))), whole)

    start, end = scan
    if not same(data[:end] + _NOISE + data[end:]):
        raise DamagedImage("the image is cut off or damaged: its last scan ends too early")
    last = start + len(data[start:end].rstrip(b"\0\xff"))  # some cameras fill up with these
    if found.progressive or last - start <= 2 * _LAST_BYTES:
        return  # a last refinement can be one code for many blocks, and noise another like it
    if same(data[: last - _LAST_BYTES] + _NOISE + data[end:]):
        # Unless noise changes nothing anywhere: a blank image needs one code alone.
        if not same(data[:start] + _NOISE + data[start + _LAST_BYTES :]):
            raise DamagedImage("the image is damaged: its last scan ends before its data do")


def _metadata_of(found: ImageParts, image: Image.Image) -> Metadata:
    """What the parts hold, or else what Pillow found."""
    if found.metadata != Metadata():
        return found.metadata
    exif_found, xmp = (
        value if isinstance(value := image.info.get(key), bytes) and value else None
        for key in ("exif", "xmp")
    )
    return Metadata(exif_found, xmp)


def _tiff_metadata(source: Source, found: ImageParts) -> Metadata:
    """EXIF gathered from all over a TIFF; None of it if any is broken."""
    from PIL import Image

    try:
        with _pillow, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = Image.open(io.BytesIO(_image_bytes(source)), formats=("TIFF",)).getexif()
            kept = Image.Exif()
            for tag in TIFF_DESCRIPTION:
                if tag in whole:
                    kept[tag] = whole[tag]
            for folder in TIFF_FOLDERS:
                if fields := whole.get_ifd(folder):
                    kept.get_ifd(folder).update(fields)
                    kept[folder] = kept.get_ifd(folder)
            return Metadata(kept.tobytes() if len(kept) else None, found.metadata.xmp)
    except Exception:
        return Metadata(None, found.metadata.xmp)


def _upright(pixels: NDArray[Any], turned: int) -> NDArray[Any]:
    """The image (H, W, C) as an orientation of TIFF 6.0, 1 to 8, says it is to be seen."""
    if turned >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if turned in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turned in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


# --- depth and color --------------------------------------------------------------------------


def _to_srgb(
    source: Source, found: ImageParts, image: Image.Image, keep_16_bits: bool
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """uint8, or uint16 that is to be kept, (H, W, 1 or 3) in sRGB, and (H, W) of transparency if
    anything shines through."""
    profile = found.profile
    if profile is None and found.space is None:
        profile = image.info.get("icc_profile") or None
    if profile == BROKEN_PROFILE:
        raise color.UnreadableColor("its ICC profile is broken; convert it to sRGB first")
    if keep_16_bits and _is_srgb(found, profile):
        levels = _sixteen_bits(found, image)
        if levels is not None:
            colors, transparency = _parted(levels, found.key_16)
            return colors.reshape(*colors.shape[:2], -1), _shown(transparency)
    opaque, alpha = _eight_bits(source, found, image)
    if opaque.mode == "CMYK" and profile is None:
        raise unreadable(
            source,
            "CMYK without an ICC profile has no defined colors; convert it to RGB first",
        )
    if profile is not None:
        opaque = color.profile_to_srgb(opaque, profile)
    pixels = np.asarray(opaque)
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    return (color.to_srgb(pixels, found.space) if found.space is not None else pixels), alpha


def _eight_bits(
    source: Source, found: ImageParts, image: Image.Image
) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """The image as L, RGB or CMYK, and its transparency if anything shines through."""
    from PIL import Image as PillowImage

    page = found.tiff
    levels = _sixteen_bits(found, image)
    if levels is not None:
        colors, transparency = _parted(levels, found.key_16)
        shown = None if transparency is None else _shown(narrowed(transparency))
        return PillowImage.fromarray(narrowed(colors)), shown
    if image.mode == "1":
        image = image.convert("L") if not image.has_transparency_data else image
    alpha = None
    if image.has_transparency_data:
        gray = image.mode in ("L", "LA", "La", "1")
        with_alpha = image.convert("LA" if gray else "RGBA")
        channel = with_alpha.getchannel("A")
        if channel.getextrema()[0] != 255:
            alpha = np.asarray(channel)
        image = with_alpha.convert("L" if gray else "RGB")
    elif image.mode in ("P", "YCbCr"):
        image = image.convert("RGB")
    if image.mode not in ("L", "RGB", "CMYK"):
        kind = image.mode
        kind += f" ({page})" if page is not None else ""
        raise unreadable(
            source,
            f"pixels of kind {kind} have no defined 8-bit colors; convert it to 8-bit RGB first",
        )
    return image, alpha


def _is_srgb(found: ImageParts, profile: bytes | None) -> bool:
    """Whether the colors of a file need no conversion."""
    if profile is not None:
        return color.profile_is_srgb(profile)
    return found.space is None or found.space.is_srgb


def _sixteen_bits(found: ImageParts, image: Image.Image) -> NDArray[np.uint16] | None:
    """(H, W) or (H, W, 3 or 4) of 0 to 65535; None of an image that has no more than 8 bits."""
    page = found.tiff
    if _is_deep_gray(image):
        levels = np.asarray(image).astype(np.uint32)
        if page is not None and page.bits < 16:
            levels = levels * 65535 // ((1 << page.bits) - 1)
        if page is not None and page.photometric == 0:
            levels = 65535 - levels
        return levels.astype(np.uint16)
    low = _low_bytes(found, image)
    if low is None:
        return None
    return np.asarray(image).astype(np.uint16) * np.uint16(256) + low


def _parted(
    levels: NDArray[np.uint16], key: tuple[int, ...] | None
) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None]:
    """Colors (H, W) or (H, W, 3), and transparency (H, W) if there is any: a fourth channel, or
    the transparent level `key`."""
    if levels.ndim == 3 and levels.shape[2] == 4:
        return np.ascontiguousarray(levels[:, :, :3]), levels[:, :, 3]
    if key is None:
        return levels, None
    hit = levels == key[0] if levels.ndim == 2 else (levels == np.array(key)).all(axis=2)
    return levels, np.where(hit, np.uint16(0), np.uint16(65535))


def _shown(alpha: NDArray[Any] | None) -> NDArray[Any] | None:
    """Transparency, if anything shines through."""
    return alpha if alpha is not None and alpha.min() < np.iinfo(alpha.dtype).max else None


def _low_bytes(found: ImageParts, image: Image.Image) -> NDArray[np.uint8] | None:
    """The lower bytes of 16-bit colors, of which Pillow keeps the upper ones; None if it has none.

    They are what Pillow reads if the order of bytes is turned round.
    """
    if image.format not in ("PNG", "TIFF") or image.mode not in ("RGB", "RGBA"):
        return None
    again = _pillow_open(found.data, (image.format,))
    tiles = _turned_tiles(again)
    if tiles is None:
        return None
    again.tile = tiles
    again.load()
    return np.asarray(again)


def _is_deep_gray(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _bits(found: ImageParts, image: Image.Image) -> int:
    """Of a sample of an image whose pixels are not loaded yet."""
    if _is_deep_gray(image):
        return 16 if found.tiff is None else found.tiff.bits
    return 8 if _turned_tiles(image) is None else 16


def _turned_tiles(again: Any) -> list[Any] | None:
    """What an image that is not loaded reads, with the bytes of its 16-bit colors the other way
    round; None if it has none."""
    turned = {"16B": "16L", "16L": "16B", "16N": "16B" if _LITTLE else "16L"}
    tiles = []
    for tile in again.tile:
        arguments = tile.args or ("",)
        mode = arguments if isinstance(arguments, str) else str(arguments[0])
        color_mode, _, order = mode.partition(";")
        if color_mode not in ("RGB", "RGBA", "RGBX") or order not in turned:
            return None
        swapped = f"{color_mode};{turned[order]}"
        rest = swapped if isinstance(arguments, str) else (swapped, *arguments[1:])
        tiles.append(tile._replace(args=rest))
    return tiles or None


_LITTLE = bool(np.little_endian)
