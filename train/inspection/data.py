"""Good images: those to learn from, and those that are held back to calibrate on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from train.image.data import made_images, read_photos, spread
from train.inspection.defects import with_defect
from train.inspection.network import MAP_STRIDE, MIRROR, STRIDE

__all__ = [
    "GoodImages",
    "InspectionData",
    "cells",
    "inside",
    "planes",
    "read_good",
    "surrounded",
    "whole",
]

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

# Smaller images than this say nothing of what is around a pixel.
_SMALLEST = 32


@dataclass(frozen=True)
class InspectionData:
    """Where good images are, how crops of them are cut, and how scores become flags.

    Attributes:
        folders: of images; "synthetic" alone stands for images made in code.
        crop_pixels: side of what is learned from at a time.
        held_out: share of the images, evenly spread, that is not learned from.
        defects: share of crops that get a made defect.
        brightness, contrast: how much crops differ in them from what was read: a standard deviation
            of the pixels' scale, and a share up to which.
        turns: whether crops are mirrored: where parts lie does not matter then.
        false_alarm_rate: share of good images that may be flagged: fixes the threshold.
        strongest: the score is the mean of so many of a map's highest values.
    """

    folders: tuple[str, ...] = ()
    crop_pixels: int = 128
    held_out: float = 0.3
    defects: float = 0.65
    brightness: float = 0.03
    contrast: float = 0.15
    turns: bool = True
    false_alarm_rate: float = 0.1
    strongest: int = 5

    def __post_init__(self) -> None:
        if self.crop_pixels < STRIDE or self.crop_pixels % STRIDE:
            raise ValueError(f"crop_pixels is {self.crop_pixels}, expected a multiple of {STRIDE}")
        for key in ("held_out", "false_alarm_rate"):
            if not 0 < getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}, expected a share from 0 to 1")


@dataclass(frozen=True)
class GoodImages:
    """Images uint8 (H, W, 1) or (H, W, 3) that are learned from, and those held back."""

    training: list[Pixels]
    held: list[Pixels]
    skipped: dict[str, str]

    def crop(self, rng: np.random.Generator, config: InspectionData) -> Floats:
        """A part of a random image, float32 (crop, crop, channels) in [0, 1]."""
        image = self.training[int(rng.integers(len(self.training)))]
        side = config.crop_pixels
        below, right = (max(0, side - size) for size in image.shape[:2])
        if below or right:
            image = np.pad(image, ((0, below), (0, right), (0, 0)), mode="symmetric")
        height, width = image.shape[:2]
        top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        cut = image[top : top + side, left : left + side]
        if config.turns:
            cut = cut[:, ::-1] if rng.random() < 0.5 else cut
            cut = cut[::-1] if rng.random() < 0.5 else cut
        pixels = cut.astype(np.float32) / np.float32(255)
        mean = pixels.mean(dtype=np.float32)
        gain = np.float32(1 + config.contrast * rng.uniform(-1, 1))
        shift = np.float32(rng.normal(0, config.brightness))
        changed: Floats = ((pixels - mean) * gain + mean + shift).clip(0, 1)
        return changed

    def example(self, rng: np.random.Generator, config: InspectionData) -> tuple[Floats, Floats]:
        """A crop, perhaps with a made defect, float32 (crop, crop, 3), and where it is, (crop,
        crop)."""
        pixels = self.crop(rng, config)
        where = np.zeros(pixels.shape[:2], np.float32)
        if rng.random() < config.defects:
            other = self.crop(rng, config)
            channels = max(pixels.shape[2], other.shape[2])
            pixels, other = _colored(pixels, channels), _colored(other, channels)
            pixels, where = with_defect(pixels, other, rng)
        return _colored(pixels, 3), where

    def summary(self, config: InspectionData) -> dict[str, Any]:
        """What is learned from, for a recipe's `data_summary`."""
        return {
            "good images": {
                "folders": list(config.folders),
                "train": len(self.training),
                "held_out": len(self.held),
                "skipped": self.skipped,
            }
        }


def read_good(config: InspectionData) -> GoodImages:
    """The good images of the configured folders.

    Raises ValueError if there are fewer than four that can be read; the message says why.
    """
    skipped: dict[str, str] = {}
    if config.folders == ("synthetic",):
        images = made_images(16)
    else:
        images, skipped = read_photos(config.folders, smallest=_SMALLEST)
    if len(images) < 4:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:3])
        raise ValueError(
            f"{len(images)} good images of {_SMALLEST} pixels or more a side found in "
            f"{', '.join(config.folders) or 'no folders'}, expected at least 4"
            + (f" (left out {reasons})" if reasons else "")
        )
    images = [_gray(image) for image in images]
    count = min(len(images) - 2, max(2, round(len(images) * config.held_out)))
    held = set(spread(len(images), count))
    return GoodImages(
        [p for i, p in enumerate(images) if i not in held],
        [p for i, p in enumerate(images) if i in held],
        skipped,
    )


def cells(where: Floats) -> Floats:
    """Which squares of the map (H / 8, W / 8) hold a pixel of a defect (H, W)."""
    height, width = (side // MAP_STRIDE for side in where.shape)
    cut = where[: height * MAP_STRIDE, : width * MAP_STRIDE]
    found: Floats = cut.reshape(height, MAP_STRIDE, width, MAP_STRIDE).max(axis=(1, 3))
    return found


def whole(image: Pixels) -> Floats:
    """An image (H, W, channels) as float32 in [0, 1], without what is beyond whole strides."""
    height, width = (side // STRIDE * STRIDE for side in image.shape[:2])
    return image[:height, :width].astype(np.float32) / np.float32(255)


def planes(pixels: Floats) -> torch.Tensor:
    """Pixels (H, W, 1) or (H, W, 3) in [0, 1] as (1, 3, H, W)."""
    found = _colored(pixels, 3).transpose(2, 0, 1)[None]
    return torch.from_numpy(np.ascontiguousarray(found, np.float32))


def surrounded(pixels: Floats) -> torch.Tensor:
    """Pixels (H, W, channels) as (1, 3, H + 2 MIRROR, W + 2 MIRROR), with their mirror image around
    them as the package sees it."""
    wide = ((MIRROR, MIRROR), (MIRROR, MIRROR), (0, 0))
    return planes(np.pad(pixels, wide, mode="symmetric"))


def inside(found: torch.Tensor) -> torch.Tensor:
    """What a map or features (..., h, w) of `surrounded` pixels hold of the image itself."""
    around = MIRROR // MAP_STRIDE
    return found[..., around:-around, around:-around]


def _gray(image: Pixels) -> Pixels:
    """One channel of an image (H, W, 3) whose three are the same: a third of the work."""
    gray = (image == image[:, :, :1]).all()
    return np.ascontiguousarray(image[:, :, :1]) if gray else image


def _colored(pixels: Floats, channels: int) -> Floats:
    """Pixels (H, W, 1) or (H, W, channels) with so many channels."""
    return pixels if pixels.shape[2] == channels else np.repeat(pixels, channels, axis=2)
