"""Photographs for training: folders of images in memory, or images made in code."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

__all__ = ["PhotoData", "Photos", "middle_square", "pillow_formats", "read_photos", "spread"]

# Those of `edgeae.media.IMAGE_SUFFIXES`, which this room may not import; a test holds them equal.
SUFFIXES = frozenset(
    ".apng .avif .bmp .gif .heic .heif .hif .j2c .j2k .jfif .jp2 .jpe .jpeg .jpg .jpx .mpo .pbm "
    ".pgm .png .pnm .ppm .tif .tiff .webp".split()
)
_HEIF_SUFFIXES = (".heic", ".heif", ".hif")
# What Pillow may try to open: as in `edgeae.media`, which says why.
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "GIF", "JPEG2000")
# A crop needs no more detail than this, and a thousand larger images would not fit in memory.
_MOST_PIXELS = 2**23
_MADE_BESIDE_HELD_OUT = 24

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PhotoData:
    """Where images come from and how crops are cut.

    A crop is cut at up to `max_downscale` times its size and scaled down, which both augments and
    takes away what a lossy source left in the finest detail. Of few images `held_out_share` are
    held out for validation, of many `held_out`. `pack`, a file that `python -m train.pack` wrote,
    takes the place of `folders`.
    """

    folders: tuple[str, ...]
    crop_pixels: int = 128
    max_downscale: float = 2.0
    held_out: int = 24
    held_out_share: float = 0.12
    pack: str = ""

    def __post_init__(self) -> None:
        if self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}, expected at least 1")
        if not 0 < self.held_out_share < 1:
            raise ValueError(f"held_out_share is {self.held_out_share}, expected between 0 and 1")


class Photos:
    """Photographs held in memory as uint8 (H, W, 3), split into training and held-out ones."""

    def __init__(self, config: PhotoData) -> None:
        """Raises ValueError if there are fewer than two images that a crop fits into."""
        self.config = config
        self.skipped: dict[str, str] = {}
        if config.folders == ("synthetic",):
            images = made_images(config.held_out + _MADE_BESIDE_HELD_OUT)
            count = config.held_out
        else:
            images, self.skipped = read_photos(config.folders, smallest=config.crop_pixels)
            if len(images) < 2:
                raise ValueError(
                    f"{len(images)} images of {config.crop_pixels} pixels or more a side found "
                    f"in {', '.join(config.folders) or 'no folders'}, expected at least 2"
                    f"{_reasons(self.skipped)}"
                )
            share = max(1, round(len(images) * config.held_out_share))
            count = min(config.held_out, share)
        held = set(spread(len(images), count))
        self.training = [p for i, p in enumerate(images) if i not in held]
        self.validation = [p for i, p in enumerate(images) if i in held]
        # An image is drawn as often as its area says, within reason: large ones hold more crops.
        area = np.array([min(p.shape[0] * p.shape[1], 1_000_000) for p in self.training], float)
        self._chance = area / area.sum()

    def summary(self) -> dict[str, Any]:
        """What there is, for a recipe's `data_summary`."""
        return {
            "folders": list(self.config.folders),
            "train": len(self.training),
            "held_out": len(self.validation),
            "skipped": self.skipped,
        }

    def batch(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """`size` random crops, uint8 (size, 3, crop, crop)."""
        crop = self.config.crop_pixels
        crops = np.empty((size, crop, crop, 3), np.uint8)
        for i, index in enumerate(rng.choice(len(self.training), size, p=self._chance)):
            crops[i] = self.crop(self.training[index], rng)
        return torch.from_numpy(crops).permute(0, 3, 1, 2)

    def crop(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """A random crop of an image, scaled down and mirrored by chance, (crop, crop, 3)."""
        crop = self.config.crop_pixels
        height, width = image.shape[:2]
        scale = min(rng.uniform(1.0, self.config.max_downscale), height / crop, width / crop)
        side = int(crop * scale)
        top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        cut = image[top : top + side, left : left + side]
        if side != crop:
            resized = Image.fromarray(cut).resize((crop, crop), Image.Resampling.BICUBIC)
            cut = np.asarray(resized)
        if rng.random() < 0.5:
            cut = cut[:, ::-1]
        # Quarter turns are rare in photographs, so they are rare here.
        return np.rot90(cut, int(rng.integers(4))) if rng.random() < 0.1 else cut

    def held_out_crops(self, side: int) -> torch.Tensor:
        """The centre of every held-out image at half size, uint8 (images, 3, side, side)."""
        crops = [middle_square(image, side) for image in self.validation]
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def spread(count: int, chosen: int) -> list[int]:
    """`chosen` of `count` numbers from 0, evenly spread: every part of a folder is among them."""
    return [int(i) for i in np.linspace(0, count - 1, chosen).round()]


def middle_square(image: Pixels, side: int) -> Pixels:
    """The centre of an image at half size, or larger where it is small: uint8 (side, side, 3)."""
    height, width = image.shape[:2]
    factor = max(min(height / side, width / side, 2.0), 1e-6)
    size = (max(side, round(width / factor)), max(side, round(height / factor)))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    top, left = (small.shape[0] - side) // 2, (small.shape[1] - side) // 2
    return small[top : top + side, left : left + side]


def read_photos(folders: Sequence[str], *, smallest: int) -> tuple[list[Pixels], dict[str, str]]:
    """The images in folders, RGB and upright, in the order of their paths; and those left out,
    by name, with the reason: unreadable, or a side under `smallest` pixels."""
    files = sorted(
        file
        for folder in folders
        for file in Path(folder).rglob("*")
        if file.suffix.lower() in SUFFIXES
    )
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(_read_rgb, files))
    images: list[Pixels] = []
    skipped: dict[str, str] = {}
    for file, image in zip(files, found, strict=True):
        if isinstance(image, str):
            skipped[file.name] = image
        elif min(image.shape[:2]) < smallest:
            height, width = image.shape[:2]
            skipped[file.name] = f"{width} x {height} pixels, expected {smallest} a side"
        else:
            images.append(image)
    return images, skipped


def _reasons(skipped: dict[str, str]) -> str:
    shown = [f"{name}: {reason}" for name, reason in list(skipped.items())[:3]]
    more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return f" (left out {'; '.join(shown)}{more})" if skipped else ""


def _read_rgb(file: Path) -> Pixels | str:
    """One image, or in a word why there is none."""
    try:
        formats = pillow_formats(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; a broken image is an exception
            with Image.open(file, formats=formats) as image:
                image.draft("RGB", _drafted(image.size))
                upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    while upright.width * upright.height > _MOST_PIXELS:
        upright = upright.reduce(2)
    return np.asarray(upright)


def pillow_formats(file: Path) -> tuple[str, ...]:
    """What Pillow may try to open a file as. Raises ValueError for HEIC without pillow-heif."""
    if file.suffix.lower() not in _HEIF_SUFFIXES:
        return _FORMATS
    try:
        import pillow_heif
    except ImportError:
        raise ValueError("HEIC is read through pillow-heif: pip install pillow-heif") from None
    pillow_heif.register_heif_opener()
    return (*_FORMATS, "HEIF")


def _drafted(size: tuple[int, int]) -> tuple[int, int]:
    """The size that a JPEG may be decoded at: halved until it is within the most pixels."""
    width, height = size
    while width * height > _MOST_PIXELS:
        width, height = -(-width // 2), -(-height // 2)
    return width, height


def made_images(count: int) -> list[Pixels]:
    """Images made in code, (256, 256, 3): for tests and machines without data."""
    return [_made_image(seed) for seed in range(count)]


def _made_image(seed: int, side: int = 256) -> Pixels:
    """An image made in code: smooth light, hard-edged shapes and a little texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    image = np.zeros((side, side, 3))
    for channel in range(3):
        a, b, c = rng.uniform(-1, 1, 3)
        image[..., channel] = 0.5 + 0.3 * (a * x + b * y) + 0.1 * np.sin(9 * c * (x + y))
    for _ in range(12):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.03, 0.25)
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        image[inside] = rng.uniform(0, 1, 3) + 0.1 * np.sin(60 * x[inside])[:, None]
    image += rng.normal(0, 0.02, (side, side, 1))
    return (image.clip(0, 1) * 255).round().astype(np.uint8)
