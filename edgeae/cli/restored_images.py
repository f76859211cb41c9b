"""Image files through a denoiser of images: cleaned, or their holes filled. One file a call.

The functions are picklable, so that a pool or a cluster can run them; they load their model once in
each process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae import media
from edgeae.batch import Done, Job, Loading, Tick, loaded
from edgeae.cli import terminal
from edgeae.cli.image_files import deep
from edgeae.cli.options import in_words_of_the_command
from edgeae.errors import MediaError

__all__ = ["SUFFIXES", "Cleaning", "Filling", "denoise_file", "fill_file"]

# The files of a folder that are images.
SUFFIXES = media.IMAGE_SUFFIXES
# A mask's pixel is a hole where it is brighter than this.
_MIDDLE_GRAY = 127


@dataclass(frozen=True)
class Cleaning:
    """How to denoise images: the noise's standard deviation in 8-bit values, None estimates."""

    loading: Loading
    strength: float | None = None


@dataclass(frozen=True)
class Filling:
    """How to fill images: `mask` is an image, white in holes, or a folder of such, which have
    their images' names but for the suffix; `source` is the folder of these, if it is one."""

    loading: Loading
    mask: Path
    source: Path | None = None


def denoise_file(how: Cleaning, job: Job, tick: Tick) -> Done:
    """Denoises the image in one file. Raises what reading, the denoiser and writing raise."""
    image = media.read_image(job.source, keep_16_bits=True)
    model = loaded(how.loading)
    told = how.strength
    with in_words_of_the_command():
        if told is None:
            level = float(model.noise_level(image).mean())
            more = " or more" if level > model.highest_level - 0.05 else ""
            words = f"noise of {level:.1f}{more} found"
        else:
            words = f"noise of {told:g} taken away"
        clean = model.denoise(image, strength=told)
    return _written(job, clean, words)


def fill_file(how: Filling, job: Job, tick: Tick) -> Done:
    """Fills the holes of the image in one file. Raises what reading, filling and writing raise,
    and MediaError if the mask is not there or of another size."""
    image = media.read_image(job.source, keep_16_bits=True)
    file = _mask_file(how, job.source)
    brightness = media.read_image(file)[..., :3].mean(axis=2)
    mask = brightness > _MIDDLE_GRAY
    if mask.shape != image.shape[:2]:
        turned = " when it is upright" if mask.T.shape == image.shape[:2] else ""
        raise MediaError(
            f"{file} has {mask.shape[1]}x{mask.shape[0]} pixels, "
            f"expected {image.shape[1]}x{image.shape[0]} as {job.source} has{turned}"
        )
    if mask.all():
        raise MediaError(f"{file} is white everywhere, expected something to fill from")
    filled = loaded(how.loading).fill(image, mask)
    warning = None
    if not mask.any():
        warning = (
            f"nothing is filled: the brightest pixel of {file} is {brightness.max():.0f}, "
            f"holes are above {_MIDDLE_GRAY} of 255"
        )
    return _written(job, filled, _filled(mask), warning)


def _filled(mask: NDArray[np.bool_]) -> str:
    """How much of an image a mask is, in words."""
    share = f"{mask.mean():.1%}"
    count = int(mask.sum())
    return f"{share} filled" if share != "0.0%" else f"{terminal.count(count, 'pixel')} filled"


def _mask_file(how: Filling, source: Path) -> Path:
    if not how.mask.is_dir():
        return how.mask
    inside = source.relative_to(how.source) if how.source is not None else Path(source.name)
    folder = (how.mask / inside).parent
    found = sorted(
        file
        for file in (folder.iterdir() if folder.is_dir() else ())
        if file.stem == source.stem and file.suffix.lower() in SUFFIXES
    )
    if len(found) != 1:
        named = ", ".join(file.name for file in found) or "no mask"
        raise MediaError(f"{folder} has {named} for {source}, expected one of its name")
    return found[0]


def _written(job: Job, image: NDArray[Any], words: str, warning: str | None = None) -> Done:
    """Writes an image with the EXIF, XMP and time of the one it was made from."""
    kept = media.read_image_metadata(job.source)
    notes = media.write_image(job.target, np.ascontiguousarray(image), exif=kept.exif, xmp=kept.xmp)
    told = deep(kept) if image.dtype == np.uint8 else None
    if told is not None:
        told += ", as its colors become sRGB"
    notes = tuple(note for note in (warning, told, *notes) if note is not None)
    media.keep_time(job.source, job.target)
    size = f"{image.shape[1]}x{image.shape[0]} pixels"
    line = f"{job.source} -> {job.target}  {size}, {words}"
    sizes = job.source.stat().st_size, job.target.stat().st_size
    return Done(line, *sizes, "; ".join(notes) or None)
