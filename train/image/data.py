"""Photographs for training: folders of pictures in memory, or pictures made in code."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

_SUFFIXES = {".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class PhotoData:
    """Where pictures come from and how crops are cut.

    A crop is cut at up to `max_downscale` times its size and scaled down, which both augments and
    takes away what a lossy source left in the finest detail.
    """

    folders: tuple[str, ...]
    crop_pixels: int = 128
    max_downscale: float = 2.0
    held_out: int = 24


class Photos:
    """Photographs held in memory as uint8 (H, W, 3), split into training and held-out ones."""

    def __init__(self, config: PhotoData) -> None:
        self.config = config
        if config.folders == ("synthetic",):
            pictures = [_made_picture(seed) for seed in range(config.held_out + 24)]
        else:
            pictures = _read_folders(config.folders, smallest=config.crop_pixels)
        if config.held_out < 1:
            raise ValueError(f"held_out is {config.held_out}, expected at least 1")
        if len(pictures) <= config.held_out:
            raise ValueError(
                f"{len(pictures)} pictures of {config.crop_pixels} pixels or more a side found in "
                f"{', '.join(config.folders) or 'no folders'}, "
                f"more than held_out = {config.held_out} are needed"
            )
        # Evenly spread, so that every source of the folder is among the held-out ones.
        held = set(np.linspace(0, len(pictures) - 1, config.held_out).round().astype(int).tolist())
        self.training = [p for i, p in enumerate(pictures) if i not in held]
        self.validation = [p for i, p in enumerate(pictures) if i in held]
        # A picture is drawn as often as its area says, within reason: large ones hold more crops.
        area = np.array([min(p.shape[0] * p.shape[1], 1_000_000) for p in self.training], float)
        self._chance = area / area.sum()

    def batch(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """`size` random crops, uint8 (size, 3, crop, crop)."""
        crop = self.config.crop_pixels
        crops = np.empty((size, crop, crop, 3), np.uint8)
        for i, index in enumerate(rng.choice(len(self.training), size, p=self._chance)):
            crops[i] = self._crop(self.training[index], rng)
        return torch.from_numpy(crops).permute(0, 3, 1, 2)

    def _crop(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        crop = self.config.crop_pixels
        height, width = picture.shape[:2]
        scale = min(rng.uniform(1.0, self.config.max_downscale), height / crop, width / crop)
        side = int(crop * scale)
        top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        cut = picture[top : top + side, left : left + side]
        if side != crop:
            resized = Image.fromarray(cut).resize((crop, crop), Image.Resampling.BICUBIC)
            cut = np.asarray(resized)
        if rng.random() < 0.5:
            cut = cut[:, ::-1]
        # Quarter turns are rare in photographs, so they are rare here.
        return np.rot90(cut, rng.integers(4)) if rng.random() < 0.1 else cut

    def held_out_crops(self, side: int) -> torch.Tensor:
        """The centre of every held-out picture at half size, uint8 (pictures, 3, side, side)."""
        crops = []
        for picture in self.validation:
            height, width = picture.shape[:2]
            factor = max(min(height / side, width / side, 2.0), 1e-6)
            size = (max(side, round(width / factor)), max(side, round(height / factor)))
            small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
            top, left = (small.shape[0] - side) // 2, (small.shape[1] - side) // 2
            crops.append(small[top : top + side, left : left + side])
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def _read_folders(folders: tuple[str, ...], *, smallest: int) -> list[np.ndarray]:
    files = sorted(
        file
        for folder in folders
        for file in Path(folder).rglob("*")
        if file.suffix.lower() in _SUFFIXES
    )
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(_read_rgb, files))
    return [p for p in pictures if min(p.shape[:2]) >= smallest]


def _read_rgb(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


def _made_picture(seed: int, side: int = 256) -> np.ndarray:
    """A picture made in code: smooth light, hard-edged shapes and a little texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    picture = np.zeros((side, side, 3))
    for channel in range(3):
        a, b, c = rng.uniform(-1, 1, 3)
        picture[..., channel] = 0.5 + 0.3 * (a * x + b * y) + 0.1 * np.sin(9 * c * (x + y))
    for _ in range(12):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.03, 0.25)
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        picture[inside] = rng.uniform(0, 1, 3) + 0.1 * np.sin(60 * x[inside])[:, None]
    picture += rng.normal(0, 0.02, (side, side, 1))
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)
