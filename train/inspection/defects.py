"""Defects made in code on good images, so that a detector learns without a real one.

Everything is drawn from a random generator alone. Images are float32 (H, W, channels) in [0, 1].
What a defect may look like is after CutPaste (Li et al. 2021), DRAEM (Zavrtanik et al. 2021) and
NSA (Schluter et al. 2022): lines, patches from elsewhere, and places that are smoother, rougher,
darker, brighter or of another contrast than they should be.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

__all__ = ["KINDS", "smeared", "with_defect"]

Floats = npt.NDArray[np.float32]

# A change of a pixel by less than this share of the image's own texture is no defect.
_LEAST_CHANGE = 0.5


def with_defect(
    image: Floats, other: Floats, rng: np.random.Generator, kind: str | None = None
) -> tuple[Floats, Floats]:
    """An image (H, W, channels) with a defect, and where it is, float32 (H, W), 0 or 1.

    `other` is a good image of the same shape, from which patches may come; `kind` is one of
    KINDS, by default any.
    """
    kind = kind or _NAMES[int(rng.choice(len(_NAMES), p=_SHARES))]
    texture = max(0.01, float((image - _smooth(image, 3.0)).std()))
    changed = KINDS[kind](image, other, texture, rng).clip(0, 1).astype(np.float32)
    change = smeared(np.abs(changed - image).mean(axis=2), 1.0)
    return changed, (change > _LEAST_CHANGE * min(texture, 0.05)).astype(np.float32)


# --- kinds ------------------------------------------------------------------------------------


def _line(image: Floats, other: Floats, texture: float, rng: np.random.Generator) -> Floats:
    """A crack or scratch: a thin crooked line, darker more often than brighter."""
    mask = smeared(_crooked_line(image.shape[:2], rng), rng.uniform(0.3, 0.8))
    sign = -1 if rng.random() < 0.65 else 1
    change: Floats = image + sign * np.float32(rng.uniform(2, 7) * texture) * mask[:, :, None]
    return change


def _patch(image: Floats, other: Floats, texture: float, rng: np.random.Generator) -> Floats:
    """What belongs elsewhere, or another way round."""
    source = other if rng.random() < 0.5 else image
    height, width = image.shape[:2]
    moved = np.roll(
        source,
        (int(rng.integers(height // 8, height)), int(rng.integers(width // 8, width))),
        (0, 1),
    )
    if rng.random() < 0.6:
        moved = moved[::-1] if rng.random() < 0.5 else moved[:, ::-1]
    if height == width and rng.random() < 0.5:
        moved = np.rot90(moved)
    return _blended(image, moved, _blob(image.shape[:2], rng))


def _smoothed(image: Floats, other: Floats, texture: float, rng: np.random.Generator) -> Floats:
    """A place without the texture that is around it."""
    smooth = _smooth(image, rng.uniform(1, 5))
    if rng.random() < 0.5:
        smooth = smooth + np.float32(rng.normal(0, 1.5) * texture)
    return _blended(image, smooth, _blob(image.shape[:2], rng))


def _rough(image: Floats, other: Floats, texture: float, rng: np.random.Generator) -> Floats:
    """A place with a texture that is not its own: noise of some coarseness."""
    noise = smeared(rng.standard_normal(image.shape[:2], np.float32), rng.uniform(0, 2.5))
    noise *= np.float32(rng.uniform(1, 3) * texture) / max(np.float32(1e-6), noise.std())
    return _blended(image, image + noise[:, :, None], _blob(image.shape[:2], rng))


def _spot(image: Floats, other: Floats, texture: float, rng: np.random.Generator) -> Floats:
    """A darker or brighter place, a stain or a hole."""
    step = np.float32((-1) ** int(rng.integers(2)) * rng.uniform(1.5, 5) * texture)
    return _blended(image, image + step, _blob(image.shape[:2], rng))


def _contrast(image: Floats, other: Floats, texture: float, rng: np.random.Generator) -> Floats:
    """A part, large or with a straight edge, of another contrast and brightness."""
    mean = _smooth(image, 8.0)
    gain = np.float32(rng.choice([rng.uniform(0, 0.5), rng.uniform(1.7, 3)]))
    step = np.float32(rng.normal(0, 1) * texture)
    shape = image.shape[:2]
    mask = _half(shape, rng) if rng.random() < 0.4 else _blob(shape, rng)
    return _blended(image, mean + gain * (image - mean) + step, mask)


def _bent(image: Floats, other: Floats, texture: float, rng: np.random.Generator) -> Floats:
    """A place that is shifted: a dent, a bent part."""
    height, width = image.shape[:2]
    mask = smeared(_blob(image.shape[:2], rng), 2.0)
    reach = rng.uniform(3, 9) * np.sqrt(height * width) / 128
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width]
    rows = np.rint(y + reach * np.sin(angle) * mask).astype(int).clip(0, height - 1)
    columns = np.rint(x + reach * np.cos(angle) * mask).astype(int).clip(0, width - 1)
    return image[rows, columns]


KINDS: dict[str, Callable[[Floats, Floats, float, np.random.Generator], Floats]] = {
    "line": _line,
    "patch": _patch,
    "smooth": _smoothed,
    "rough": _rough,
    "spot": _spot,
    "contrast": _contrast,
    "bent": _bent,
}
_NAMES = tuple(KINDS)
_SHARES = (0.3, 0.15, 0.15, 0.08, 0.14, 0.1, 0.08)


# --- shapes -----------------------------------------------------------------------------------


def _crooked_line(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    height, width = shape
    drawn = Image.new("L", (width, height))
    pen = ImageDraw.Draw(drawn)
    side = np.sqrt(height * width)
    point = rng.uniform(0, 1, 2) * (width, height)
    angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.6)
    strokes = int(rng.integers(3, 22))
    thick = rng.uniform(1, 3.5)
    for _ in range(strokes):
        angle += rng.normal(0, bend)
        end = point + side * rng.uniform(0.01, 0.05) * np.array([np.cos(angle), np.sin(angle)])
        wide = max(1, round(thick + rng.normal(0, 0.4)))
        strong = int(rng.uniform(120, 255))
        pen.line([tuple(map(float, point)), tuple(map(float, end))], fill=strong, width=wide)
        point = end
    return np.asarray(drawn, np.float32) / np.float32(255)


def _blob(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """A place of any form, 1 inside, with a soft edge: round, long, or a rectangle."""
    height, width = shape
    drawn = Image.new("L", (width, height))
    pen = ImageDraw.Draw(drawn)
    center = rng.uniform(0, 1, 2) * (width, height)
    radius = np.sqrt(height * width) * np.exp(rng.uniform(np.log(0.015), np.log(0.14)))
    flat, turn = np.exp(rng.uniform(np.log(0.15), 0)), rng.uniform(0, np.pi)
    if rng.random() < 0.3:
        around = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    else:
        angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        around = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.6, 1.2, (14, 1))
    around = around * (radius, radius * flat)
    turned = around @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    pen.polygon([tuple(map(float, center + point)) for point in turned], fill=255)
    return smeared(np.asarray(drawn, np.float32) / np.float32(255), rng.uniform(0.3, 2.0))


def _half(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """One side of a straight edge through the image."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    angle = rng.choice([0, np.pi / 2, np.pi, 1.5 * np.pi]) + rng.normal(0, 0.15)
    through = rng.uniform(0.2, 0.8, 2) * shape
    far = (y - through[0]) * np.sin(angle) + (x - through[1]) * np.cos(angle)
    softness = rng.uniform(0.5, 3)
    inside: Floats = (1 / (1 + np.exp((-far / softness).clip(-30, 30)))).astype(np.float32)
    return inside


def _blended(image: Floats, other: Floats, mask: Floats) -> Floats:
    blended: Floats = image + mask[:, :, None] * (other - image)
    return blended


def _smooth(image: Floats, spread: float) -> Floats:
    planes = [smeared(image[:, :, i], spread) for i in range(image.shape[2])]
    return np.stack(planes, axis=2)


def smeared(values: Floats, spread: float) -> Floats:
    """Values (H, W) through a Gaussian of `spread` pixels."""
    if spread < 0.2:
        return values
    reach = min(int(np.ceil(2.5 * spread)), min(values.shape) - 1)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        margin = [(0, 0), (0, 0)]
        margin[axis] = (reach, reach)
        wide = np.pad(values, margin, mode="reflect")
        size = values.shape[axis]
        found = np.zeros_like(values)
        for i, tap in enumerate(taps):
            found += tap * wide.take(range(i, i + size), axis=axis)
        values = found
    return values
