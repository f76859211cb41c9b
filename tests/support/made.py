"""A picture, a tone, and what a writer left: made inputs of the media tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def photo(height: int = 40, width: int = 56) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    planes = rows * 3 + columns, 200 - columns * 2, 90 + rows
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def tone(frames: int = 4000, channels: int = 1) -> np.ndarray:
    t = np.arange(frames) / 16000
    x = 0.5 * np.sin(2 * np.pi * 440 * t)
    return (
        x if channels == 1 else np.stack([x * (c + 1) / channels for c in range(channels)], 1)
    ).astype(np.float32)


def litter(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.endswith(".tmp")]
