"""Image files: compressed, restored, and what the bytes of one hold. One file a call.

The functions are picklable, so that a pool or a cluster can run them; they load their model once
in each process.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgeae
from edgeae import media, metrics
from edgeae.batch import Done, Job, Loading, Tick, loaded
from edgeae.bundle import bundled_with_codec_id
from edgeae.cli import pipes, plain_coding
from edgeae.cli.file_kinds import check_kind
from edgeae.cli.options import in_words_of_the_command
from edgeae.coding.rate import DEFAULT_QUALITY
from edgeae.errors import BitstreamError
from edgeae.image.file import read_metadata, salvage
from edgeae.image.header import Metadata
from edgeae.loading import file_codec_id, file_info

__all__ = [
    "SUFFIXES",
    "Compression",
    "Restoring",
    "compress_file",
    "decompress_file",
    "deep",
    "ratio",
]

Pixels = NDArray[np.uint8]

# The files of a folder that are images.
SUFFIXES = media.IMAGE_SUFFIXES
# What a file may ask for at --large: images of much less detail than a photo has.
LARGE_PIXELS_PER_BYTE = 1 << 28


@dataclass(frozen=True)
class Compression:
    """How to compress images: a quality, or a budget in bytes instead.

    `lossless` True keeps every image exactly, False none; None those that the codec cannot do.
    """

    loading: Loading
    quality: float | None = None
    max_bytes: int | None = None
    lossless: bool | None = None
    effort: str | None = None
    with_psnr: bool = False
    strip: bool = False
    large: bool = False


@dataclass(frozen=True)
class Restoring:
    """How to restore images; without a model each file says which bundled codec it needs."""

    loading: Loading
    region: tuple[int, int, int, int] | None = None
    large: bool = False
    conceal: bool = False
    to: str = ".png"


def compress_file(how: Compression, job: Job, tick: Tick) -> Done:
    """Compresses the image in one file, or from stdin, with its EXIF, XMP and time.

    Raises what reading, `ImageCodec.compress` and writing raise.
    """
    codec = loaded(how.loading)
    source, read_bytes = _readable(job.source)
    image = media.read_image(source)
    asked: dict[str, Any] = {
        "quality": how.quality,
        "max_bytes": how.max_bytes,
        "lossless": how.lossless,
    }
    if how.quality is None and how.max_bytes is None and not how.lossless:
        asked["quality"] = DEFAULT_QUALITY
    if how.effort is not None:
        asked["effort"] = how.effort
    found = media.read_image_metadata(source)
    if not how.strip and (found.exif or found.xmp):
        asked["metadata"] = Metadata(found.exif, found.xmp)
    if how.large:
        asked["limits"] = _limits(large=True)
    with in_words_of_the_command():
        blob = codec.compress(image, **asked)

    def restore() -> Pixels:
        restored: Pixels = codec.decompress(blob, limits=_limits(large=True))
        return restored

    pipes.write_bytes(job.target, blob)
    _keep_time(job)
    line = (
        f"{pipes.name(job.source, 'stdin')} -> {pipes.name(job.target, 'stdout')}"
        f"  {read_bytes:,} -> {len(blob):,} bytes  ratio {ratio(read_bytes, len(blob))}"
        f"  {metrics.bits_per_pixel(len(blob), image.shape):.3f} bit/pixel"
    )
    quality = file_info(blob)["quality"]
    if quality is None:
        line += "  kept exactly"
    elif how.max_bytes is not None:
        line += f"  quality {quality:g}"
    if how.with_psnr and quality is not None:
        # Transparency is exact and would flatter.
        line += f"  PSNR {metrics.psnr_db(image[..., :3], restore()[..., :3]):.2f} dB"
    warning = None
    if quality is not None:
        warning = plain_coding.warning(_rgb(image), len(blob), lambda: _rgb(restore()))
    if warning is None and len(blob) > read_bytes:
        warning = f"the compressed file is larger than the original, {read_bytes:,} bytes"
    notes = [note for note in (deep(found), warning) if note is not None]
    return Done(line, read_bytes, len(blob), "; ".join(notes) or None)


def deep(found: media.Metadata) -> str | None:
    """What to tell of a file whose samples have more bits than are read."""
    return None if found.bits <= 8 else f"its {found.bits} bits a sample become 8"


def decompress_file(how: Restoring, job: Job, tick: Tick) -> Done:
    """Restores the image in one .eae file, or from stdin, with its EXIF, XMP and time; with
    `conceal` what is left of a damaged one.

    Raises what reading, `ImageCodec.decompress` and writing raise.
    """
    blob = pipes.read_bytes(job.source)
    check_kind(blob, "image", damaged=how.conceal)
    options: dict[str, Any] = {"limits": _limits(large=how.large)}
    if how.conceal:
        options["errors"] = "conceal"
    loading, codec_id = how.loading, file_codec_id(blob, **options)
    decompress = edgeae.decompress
    if codec_id or loading.model is not None:
        if loading.model is None:
            loading = dataclasses.replace(loading, model=_bundled_name(codec_id))
        decompress = loaded(loading).decompress
    with in_words_of_the_command():
        image = decompress(blob, region=how.region, **options)
    damage = None
    try:
        metadata = read_metadata(blob)
    except BitstreamError as error:
        if not how.conceal:
            raise
        metadata = salvage(blob, options["limits"]).metadata
        damage = str(error)
    if how.conceal:
        image, mask = image
        if damage is not None:
            damage += f": {mask.mean():.1%} of the pixels may be wrong"
    written, warning = _write(job.target, image, how.to, metadata)
    warning = "; ".join(filter(None, (damage, warning))) or None
    _keep_time(job)
    size = f"{image.shape[1]}x{image.shape[0]} pixels"
    line = f"{pipes.name(job.source, 'stdin')} -> {pipes.name(job.target, 'stdout')}  {size}"
    return Done(line, len(blob), written, warning)


def ratio(before: int, after: int) -> str:
    """How many times smaller, in words; small ratios keep two digits."""
    value = before / after
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


_names: dict[bytes, str] = {}


def _bundled_name(codec_id: bytes) -> str:
    """The name of the bundled codec with an id; each is looked for once in a process."""
    if codec_id not in _names:
        _names[codec_id] = bundled_with_codec_id(codec_id).manifest.name
    return _names[codec_id]


def _limits(*, large: bool) -> Any:
    return edgeae.Limits(pixels_per_byte=LARGE_PIXELS_PER_BYTE) if large else edgeae.Limits()


def _readable(path: Path) -> tuple[Path | bytes, int]:
    """The file, or the bytes of what can be read but once, and how many bytes it is."""
    if path == pipes.PIPE or not path.is_file():
        data = pipes.read_bytes(path)
        return data, len(data)
    return path, path.stat().st_size


def _write(path: Path, image: Pixels, suffix: str, metadata: Metadata) -> tuple[int, str | None]:
    """Writes an image, to stdout in the format of a suffix.

    Gives the number of its bytes, and what its format had no room for, if anything.
    """
    if path != pipes.PIPE:
        notes = media.write_image(path, image, exif=metadata.exif, xmp=metadata.xmp)
        size = path.stat().st_size
    else:
        buffer = io.BytesIO()
        notes = media.write_image(
            buffer, image, format=suffix.lstrip("."), exif=metadata.exif, xmp=metadata.xmp
        )
        size = len(buffer.getvalue())
        pipes.write_binary(buffer.getvalue())
    return size, "; ".join(notes) or None


def _keep_time(job: Job) -> None:
    """Gives what was written the time of what was read, where both are files."""
    if pipes.PIPE not in (job.source, job.target) and job.source.is_file():
        media.keep_time(job.source, job.target)


def _rgb(image: Pixels) -> Pixels:
    """Uint8 (H, W, 3) of gray, RGB or RGBA."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]
