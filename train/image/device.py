"""Photographs in a GPU's memory, one after the other: whole batches of crops are cut there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from train.image.data import Photos, Pixels

__all__ = ["ResidentPhotos", "cut"]

# Numbers or truths, one for each crop: (size,).
Drawn = NDArray[Any]

# Sizes that every photograph is kept in, up to `max_downscale`: steps of a quarter of an octave.
_STEPS_PER_OCTAVE = 4
_TURNED = 0.1


class ResidentPhotos:
    """Photographs on a device, in several sizes; crops as `Photos` cuts them, but for scales, which
    are a few instead of any, and turned ones, which are mirrored across a diagonal."""

    def __init__(self, photos: Photos, device: torch.device) -> None:
        self._photos = photos
        self.config = photos.config
        octaves = np.log2(max(1.0, self.config.max_downscale))
        scales = 2.0 ** -np.arange(0, octaves + 1e-6, 1 / _STEPS_PER_OCTAVE)
        sized = [(index, scale) for scale in scales for index in range(len(photos.training))]
        with ThreadPoolExecutor() as pool:
            images = list(pool.map(lambda one: _resized(photos.training[one[0]], one[1]), sized))
        least = self.config.crop_pixels
        kept = [
            (index, image)
            for (index, _), image in zip(sized, images, strict=True)
            if min(image.shape[:2]) >= least
        ]
        self._pixels = torch.from_numpy(np.concatenate([image.reshape(-1) for _, image in kept]))
        self._pixels = self._pixels.to(device)
        self._sizes = np.array([image.shape[:2] for _, image in kept])
        lengths = np.array([image.size for _, image in kept], np.int64)
        self._starts = np.cumsum(lengths) - lengths
        # A photograph as often as `Photos` draws it, and each of its sizes as often as the others.
        areas = np.array([min(p.shape[0] * p.shape[1], 1_000_000) for p in photos.training], float)
        owners = np.array([index for index, _ in kept])
        chance = areas[owners] / np.bincount(owners, minlength=len(areas))[owners]
        self._edges = np.cumsum(chance / chance.sum())

    def summary(self) -> dict[str, Any]:
        """What there is, for a recipe's `data_summary`."""
        return self._photos.summary()

    def batch(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """`size` random crops on the device, uint8 (size, 3, crop, crop)."""
        crop = self.config.crop_pixels
        drawn = np.searchsorted(self._edges, rng.random(size), side="right")
        chosen = np.minimum(drawn, len(self._edges) - 1)
        height, width = self._sizes[chosen].T
        top = (rng.random(size) * (height - crop + 1)).astype(np.int64)
        left = (rng.random(size) * (width - crop + 1)).astype(np.int64)
        mirrored, turned = rng.random(size) < 0.5, rng.random(size) < _TURNED
        first = self._starts[chosen] + 3 * (top * width + left)
        return cut(self._pixels, crop, first, width, mirrored, turned)

    def held_out_crops(self, side: int) -> torch.Tensor:
        """The centre of every held-out image at half size, uint8 (images, 3, side, side)."""
        return self._photos.held_out_crops(side)


def cut(
    pixels: torch.Tensor, crop: int, first: Drawn, width: Drawn, mirrored: Drawn, turned: Drawn
) -> torch.Tensor:
    """Crops of images (height, width, 3) that lie in `pixels` one after the other, (size, 3, crop,
    crop), on the device where those are.

    Args:
        pixels: all values, uint8 (n,).
        crop: their side.
        first: where each crop's upper left value lies in `pixels`.
        width: of its image.
        mirrored: whether left becomes right.
        turned: whether it then is mirrored across its falling diagonal.
    """
    # One transfer for all of it.
    numbers = np.stack([first, width, mirrored, turned])
    begin, across_image, mirror, turn = torch.from_numpy(numbers).to(pixels.device)
    steps = torch.arange(crop, device=pixels.device)
    across = torch.where(mirror[:, None] > 0, crop - 1 - steps, steps)  # (size, crop)
    down = steps.expand(len(first), crop)
    rows = torch.where(turn[:, None, None] > 0, across[:, None, :], down[:, :, None])
    columns = torch.where(turn[:, None, None] > 0, down[:, :, None], across[:, None, :])
    place = begin[:, None, None] + 3 * (rows * across_image[:, None, None] + columns)
    channels = torch.arange(3, device=pixels.device)[:, None, None]
    return pixels[place[:, None] + channels]


def _resized(image: Pixels, scale: float) -> Pixels:
    if scale == 1:
        return image
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
