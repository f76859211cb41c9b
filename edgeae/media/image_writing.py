"""Images into files: by suffix, atomically, with the metadata that a format has room for."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeae.errors import MediaError
from edgeae.media import sixteen_bits
from edgeae.media.files import Target, atomic_write, first_line, named, unwritable

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["IMAGE_WRITERS", "TIFF_DESCRIPTION", "TIFF_FOLDERS", "image_writer", "write_image"]

# How each suffix is written. The lossy ones are as near to lossless as they go in usual viewers.
_JPEG = ("JPEG", {"quality": 95, "subsampling": 0})
_TIFF = ("TIFF", {"compression": "tiff_adobe_deflate"})
IMAGE_WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": ("BMP", {}),
    ".ppm": ("PPM", {}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jpe": _JPEG,
    ".jfif": _JPEG,
    ".avif": ("AVIF", {"quality": 95, "subsampling": "4:4:4"}),
}
_WITH_TRANSPARENCY = ("PNG", "WEBP", "TIFF", "AVIF")
_WITH_METADATA = ("PNG", "WEBP", "TIFF", "AVIF", "JPEG")

# Fields of a TIFF's first directory that describe the image: its title, camera, program, time,
# author and copyright; then the EXIF and the GPS directory.
TIFF_DESCRIPTION = (270, 271, 272, 305, 306, 315, 33432)
TIFF_FOLDERS = (34665, 34853)


def write_image(
    target: Target,
    image: NDArray[Any],
    *,
    format: str | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
) -> tuple[str, ...]:
    """Write uint8 or uint16 (H, W, 3), (H, W, 4), (H, W, 1) or (H, W), in sRGB, format by suffix.

    To a path atomically, or to a binary file object with the suffix in `format` ("png"). Without
    loss as .png .webp .tif .bmp .ppm; as .jpg or .avif at quality 95 without chroma subsampling.
    Uint16 keeps its 16 bits a sample as .png and .tif; in other formats they become 8.
    `exif` and `xmp` as `read_image_metadata` gives them go along where the format has room.

    Returns:
        A sentence for each of them that was left out, and for 16 bits that became 8.

    Raises:
        ValueError: any other suffix, shape or dtype.
        MediaError: a fourth channel, which is transparency, in a format that has none; or the
            target cannot be written.
    """
    from PIL import Image

    format_name, options = image_writer(_name_for_format(target, format))
    plane = image[:, :, 0] if getattr(image, "shape", ())[2:] == (1,) else image
    if (
        not isinstance(plane, np.ndarray)
        or plane.dtype not in (np.uint8, np.uint16)
        or not (plane.ndim == 2 or (plane.ndim == 3 and plane.shape[2] in (3, 4)))
        or plane.size == 0
    ):
        came = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image)
        raise ValueError(
            f"image is {came}, expected uint8 or uint16 (H, W, 3), (H, W, 4), (H, W, 1) or (H, W)"
        )
    if plane.shape[2:] == (4,) and format_name not in _WITH_TRANSPARENCY:
        raise unwritable(target, f"{format_name} has no transparency, .png .webp .tif .avif have")
    notes: list[str] = []
    deep = plane.dtype == np.uint16 and format_name in sixteen_bits.FORMATS
    written = sixteen_bits.stand_in(plane, format_name) if deep else plane
    if plane.dtype == np.uint16 and not deep:
        written = sixteen_bits.narrowed(plane)
        notes.append(f"its 16 bits a sample become 8: {format_name} has no more here")
    pillow_image = Image.fromarray(np.ascontiguousarray(written))
    carried = {"EXIF": exif, "XMP": xmp}
    for name, value in carried.items():
        if value and format_name not in _WITH_METADATA:
            notes.append(f"{name} is left out: {format_name} has no room for it")
            carried[name] = None
    data = _encoded(target, pillow_image, format_name, options, carried, notes)
    if deep:
        data = sixteen_bits.exchanged(data, plane, format_name)
    if isinstance(target, str | os.PathLike):
        atomic_write(target, data)
    else:
        target.write(data)
    return tuple(notes)


def _encoded(
    target: Target,
    pillow_image: Image.Image,
    format_name: str,
    options: dict[str, Any],
    carried: dict[str, bytes | None],
    notes: list[str],
) -> bytes:
    """The file's bytes, with those metadata that the writer takes; notes name the others."""
    try:
        return _saved(
            pillow_image, format_name, {**options, **_metadata_options(format_name, carried)}
        )
    except Exception as error:
        if not any(carried.values()):
            if isinstance(error, MemoryError):
                raise
            # WebP ends at 16,383 pixels a side.
            raise MediaError(
                f"cannot write {named(target)} as {format_name}: {first_line(error)}"
            ) from error
    # Metadata that are broken, or longer than the format takes: each by itself, or none.
    for name in ("EXIF", "XMP"):
        if carried[name] is None:
            continue
        try:
            alone = {**options, **_metadata_options(format_name, {name: carried[name]})}
            _saved(pillow_image.crop((0, 0, 1, 1)), format_name, alone)
        except Exception as error:
            notes.append(
                f"{name} is left out: {format_name} does not take it ({first_line(error)})"
            )
            carried[name] = None
    return _encoded(target, pillow_image, format_name, options, carried, notes)


def _saved(pillow_image: Image.Image, format_name: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pillow_image.save(buffer, format_name, **options)
    return buffer.getvalue()


def _metadata_options(format_name: str, carried: dict[str, bytes | None]) -> dict[str, Any]:
    """Pillow's options that write EXIF and XMP in a format."""
    options: dict[str, Any] = {}
    exif_bytes, xmp_bytes = carried.get("EXIF"), carried.get("XMP")
    if format_name == "TIFF":
        from PIL import Image

        fields = Image.Exif()
        if exif_bytes:
            whole = Image.Exif()
            whole.load(exif_bytes)
            fields.update({tag: whole[tag] for tag in TIFF_DESCRIPTION if tag in whole})
            for folder in TIFF_FOLDERS:
                if inner := whole.get_ifd(folder):
                    fields.get_ifd(folder).update(inner)
                    fields[folder] = fields.get_ifd(folder)
        if xmp_bytes:
            fields[700] = xmp_bytes
        return {"exif": fields} if len(fields) else {}
    if exif_bytes:
        options["exif"] = b"Exif\0\0" + exif_bytes
    if xmp_bytes and format_name == "PNG":
        from PIL import PngImagePlugin

        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp_bytes.decode("utf-8", "replace"))
    elif xmp_bytes:
        options["xmp"] = xmp_bytes
    return options


def _name_for_format(target: Target, format: str | None) -> str | os.PathLike[str]:
    """A name whose suffix says the format: of `format` if given, else of the path."""
    if format is not None:
        return "." + format.lower().lstrip(".")
    if isinstance(target, str | os.PathLike):
        return target
    raise ValueError('format is None, expected a suffix such as "png" for a file object')


def image_writer(path: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """Pillow's format name and options for a suffix; ValueError names the known ones."""
    name = os.fsdecode(path)
    suffix = (name if name.startswith(".") and name.count(".") == 1 else Path(name).suffix).lower()
    if suffix not in IMAGE_WRITERS:
        raise ValueError(
            f"cannot tell the image format of {named(path)!r}:"
            f" expected a name that ends in {' '.join(IMAGE_WRITERS)}"
        )
    return IMAGE_WRITERS[suffix]
