"""Damage to clean photographs: noise of sensors and of theory, JPEG, and holes.

Everything is drawn from a random generator alone. Pixels are float32 (H, W, 3) in [0, 1], noise
levels standard deviations on that scale.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Damage", "Damaged", "damaged", "hole_mask"]

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]

# Nothing more is drawn over such a share of an image.
_MUCH_HIDDEN = 0.25
# A camera's own pixels are softer than those of photographs that were scaled down: of so many
# images with its noise a part is enlarged, up to so many times.
_ENLARGED, _MOST_ENLARGED = 0.7, 2.5
# Images of one color, which photographs hold few of, and those without noise, which are to stay as
# they are: a share, and by how much drawn levels may be below 0.
_FLAT, _WITHOUT_NOISE = 0.02, 4.0


@dataclass(frozen=True)
class Damage:
    """Of how many images what is done to; the shares of noise kinds are of those with noise.

    `highest_level` is the largest standard deviation of noise, in 8-bit values. Sensor noise grows
    with brightness; camera noise went through a camera's own processing too. `gray` images have
    the same noise in all colors. `holes` are drawn up to `hole_drawings` times over one another:
    the more is hidden, the more a network learns from an image.
    """

    highest_level: float = 55.0
    sensor: float = 0.15
    camera: float = 0.2
    jpeg: float = 0.08
    holes: float = 0.25
    clean_holes: float = 0.6
    hole_drawings: int = 1
    gray: float = 0.06


@dataclass(frozen=True)
class Damaged:
    """What is left of an image: pixels, the noise level at each (H, W), and what is known."""

    pixels: Floats
    level: Floats
    known: Mask


def damaged(image: Pixels, rng: np.random.Generator, config: Damage) -> tuple[Floats, Damaged]:
    """The clean pixels, which may have lost their color, and what is left of them."""
    kind = rng.random()
    if kind < config.camera and rng.random() < _ENLARGED:
        image = _enlarged(image, rng)
    if rng.random() < _FLAT:
        image = np.broadcast_to(rng.integers(0, 256, 3).astype(np.uint8), image.shape)
    clean = image.astype(np.float32) / np.float32(255)
    gray = rng.random() < config.gray
    if gray:
        clean = np.repeat(clean.mean(axis=2, keepdims=True), 3, axis=2)
    known = np.ones(clean.shape[:2], np.bool_)
    with_hole = rng.random() < config.holes
    if with_hole:
        times = int(rng.integers(1, config.hole_drawings + 1)) if config.hole_drawings > 1 else 1
        known = ~hole_mask(clean.shape[:2], rng, times)
    if with_hole and rng.random() < config.clean_holes:
        return clean, Damaged(clean, np.zeros(clean.shape[:2], np.float32), known)
    pixels, level = _noisy(clean, rng, config, kind, gray=gray)
    return clean, Damaged(pixels, level, known)


def _enlarged(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A part of an image as large as the image was."""
    height, width = image.shape[:2]
    ratio = np.exp(rng.uniform(0, np.log(_MOST_ENLARGED)))
    rows, columns = (max(1, round(side / ratio)) for side in (height, width))
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    part = Image.fromarray(image[top : top + rows, left : left + columns])
    return np.asarray(part.resize((width, height), Image.Resampling.BICUBIC))


def _noisy(
    clean: Floats, rng: np.random.Generator, config: Damage, kind: float, *, gray: bool
) -> tuple[Floats, Floats]:
    """Noisy pixels and their level; `kind`, of 0 to 1, says of what kind."""
    sigma = np.float32(max(0.0, rng.uniform(-_WITHOUT_NOISE, config.highest_level)) / 255)
    if kind < config.camera:
        return _camera(clean, rng, sigma)
    kind -= config.camera
    if kind < config.jpeg:
        pixels = _through_jpeg(clean, int(rng.integers(10, 96)))
        return pixels, _constant(clean, _rms(pixels - clean))
    kind -= config.jpeg
    if kind < config.sensor:
        level = sigma * np.sqrt(_share(clean, rng))
    else:
        level = np.full((*clean.shape[:2], 1), sigma, np.float32)
    shape = (*clean.shape[:2], 1 if gray else 3)
    pixels = clean + level * rng.standard_normal(shape, np.float32)
    if rng.random() < 0.5:  # as an 8-bit file holds them
        pixels = (pixels.clip(0, 1) * np.float32(255)).round() / np.float32(255)
    return pixels, level[:, :, 0] if level.shape[2] == 1 else level.mean(axis=2)


def _share(clean: Floats, rng: np.random.Generator) -> Floats:
    """Variance of a sensor's noise where the image is so bright, (H, W, 1), at most about 1:
    shot noise and a constant, before or after the camera's gamma."""
    light = clean.mean(axis=2, keepdims=True)
    constant = np.float32(rng.uniform(0.02, 0.5))
    share: Floats = constant + (1 - constant) * light
    if rng.random() < 0.5:
        # A curve x ** (1 / 2.2) stretches the shadows: its slope squared, bounded.
        linear = light ** np.float32(2.2)
        slope = np.minimum(1 / (light + np.float32(0.15)) ** np.float32(1.2), np.float32(6))
        share = (constant * np.float32(0.1) + linear) * slope**2
        share /= max(np.float32(1e-3), np.float32(share.max()))
    return share


def _camera(clean: Floats, rng: np.random.Generator, sigma: np.float32) -> tuple[Floats, Floats]:
    """Noise as a camera makes it from that of its sensor, and its level.

    Photons and the amplifier make noise at every site of a Bayer pattern in linear light; white
    balance, interpolation of the missing colors, a color matrix, the tone curve, the camera's own
    smoothing and JPEG make of it what a file holds (Brooks et al. 2019, "Unprocessing Images for
    Learned Raw Denoising", section 3). What the steps do to the image itself is in the clean
    image too and left out.
    """
    # Cameras are less noisy than test sets: 1 to 15 of 255, small levels as often as large ones.
    wanted = min(sigma, np.float32(np.exp(rng.uniform(0, np.log(15))) / 255))
    linear = clean.clip(0, 1) ** np.float32(2.2)
    noise = _demosaiced(_sensor(linear, rng), rng)
    noise = noise @ _color_matrix(rng).T
    # The tone curve's slope, bounded where it is steepest, in the shadows.
    slope = np.minimum(
        np.float32(1 / 2.2) * (linear + np.float32(1e-3)) ** np.float32(1 / 2.2 - 1), np.float32(3)
    )
    noise *= slope
    if rng.random() < 0.8:
        noise = _smoothed_by_camera(noise, rng)
    noise *= wanted / max(np.float32(1e-6), _rms(noise))
    pixels = (clean + noise).clip(0, 1)
    if rng.random() < 0.75:
        pixels = _through_jpeg(pixels, int(rng.integers(80, 100)))
    error = np.square(pixels - clean).mean(axis=2)
    return pixels, np.sqrt(_smeared(error, 4.0)).astype(np.float32)


def _sensor(linear: Floats, rng: np.random.Generator) -> Floats:
    """Noise (H, W) at the sites of a Bayer pattern, red first, after white balance; its scale is
    any."""
    gains = np.array([rng.uniform(1.6, 2.6), 1.0, rng.uniform(1.3, 2.2)], np.float32)
    site = _sites(linear.shape[:2])
    light = np.take_along_axis(linear, site[:, :, None], axis=2)[:, :, 0]
    gain = gains[site]
    # Of the variance of white, the amplifier's part.
    read = np.float32(np.exp(rng.uniform(np.log(1e-3), np.log(0.1))))
    deviation = gain * np.sqrt(light / gain + read)
    return deviation * rng.standard_normal(light.shape, np.float32)


def _demosaiced(raw: Floats, rng: np.random.Generator) -> Floats:
    """Colors (H, W, 3) of a Bayer pattern (H, W): green from its neighbors, red and blue so too, or
    as differences to green, as most cameras do."""
    site = _sites(raw.shape)
    cross = np.array([[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]], np.float32)
    square = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]).astype(np.float32)
    green = _filtered(np.where(site == 1, raw, 0), cross)
    share = np.float32(rng.choice([0.0, 1.0, 1.0]))
    colors = [green]
    for color in (0, 2):
        sites = np.where(site == color, raw - share * green, 0)
        colors.append(share * green + _filtered(sites, square))
    return np.stack([colors[1], colors[0], colors[2]], axis=2)


def _sites(shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """The color of each site of a Bayer pattern: 0 red, 1 green, 2 blue."""
    return np.add.outer(np.arange(shape[0]) % 2, np.arange(shape[1]) % 2)


def _color_matrix(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """From a sensor's colors to those of a file, (3, 3): rows sum to 1, so that gray stays gray."""
    usual = np.array([[1.7, -0.55, -0.15], [-0.25, 1.55, -0.3], [-0.05, -0.55, 1.6]])
    usual += rng.normal(0, 0.1, (3, 3))
    usual /= usual.sum(axis=1, keepdims=True)
    strength = rng.uniform(0.1, 1)
    return (strength * usual + (1 - strength) * np.eye(3)).astype(np.float32)


def _smoothed_by_camera(noise: Floats, rng: np.random.Generator) -> Floats:
    """Noise (H, W, 3) whose light is smoothed a little and sharpened, and whose color so much that
    coarse spots are left of it."""
    light = noise @ np.array([0.3, 0.6, 0.1], np.float32)
    color = noise - light[:, :, None]
    left = np.float32(rng.uniform(0, 1) ** 2)
    spread = np.exp(rng.uniform(np.log(0.5), np.log(5)))
    for channel in range(3):
        smooth = _smeared(color[:, :, channel], spread)
        color[:, :, channel] = left * color[:, :, channel] + (1 - left) * smooth
    color *= np.float32(rng.uniform(0.3, 1))
    # What takes noise away takes the fine of it first.
    coarse = _smeared(light, rng.uniform(1.5, 4))
    smooth = _smeared(light, rng.uniform(0.3, 1.2))
    # Above 1 sharpens.
    kept = np.float32(rng.uniform(0, 1.4))
    light = smooth + kept * (light - smooth) + np.float32(rng.uniform(0, 1.5)) * coarse
    return light[:, :, None] + color


def _filtered(values: Floats, kernel: Floats) -> Floats:
    """Values (H, W) through a symmetric kernel (3, 3)."""
    wide = np.pad(values, 1, mode="reflect")
    height, width = values.shape
    found = np.zeros_like(values)
    for row in range(3):
        for column in range(3):
            found += kernel[row, column] * wide[row : row + height, column : column + width]
    return found


def _smeared(values: Floats, spread: float) -> Floats:
    """Values (H, W) through a Gaussian of `spread` pixels."""
    if spread < 0.2:
        return values
    reach = max(1, int(np.ceil(2.5 * spread)))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        width = [(0, 0), (0, 0)]
        width[axis] = (reach, reach)
        wide = np.pad(values, width, mode="reflect")
        size = values.shape[axis]
        smeared = np.zeros_like(values)
        for i, tap in enumerate(taps):
            smeared += tap * wide.take(range(i, i + size), axis=axis)
        values = smeared
    return values


def _through_jpeg(pixels: Floats, quality: int) -> Floats:
    stream = io.BytesIO()
    whole = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    Image.fromarray(whole).save(
        stream, "JPEG", quality=quality, subsampling=0 if quality % 2 else 2
    )
    found = np.asarray(Image.open(io.BytesIO(stream.getvalue())).convert("RGB"))
    return found.astype(np.float32) / np.float32(255)


def _rms(values: Floats) -> np.float32:
    return np.float32(np.sqrt(np.mean(np.square(values))))


def _constant(clean: Floats, value: np.float32) -> Floats:
    return np.full(clean.shape[:2], value, np.float32)


def hole_mask(shape: tuple[int, int], rng: np.random.Generator, times: int = 1) -> Mask:
    """What is missing, (H, W): scratches, text, dead pixels, blocks up to 64 pixels, or a mix; at
    most about half of the image. Drawn `times` times, or until much is hidden; pixels and blocks
    once."""
    drawn = Image.new("L", (shape[1], shape[0]))
    pen = ImageDraw.Draw(drawn)
    kind = rng.integers(5)
    for _ in range(times):
        if kind in (0, 4):
            _scratches(pen, shape, rng)
        if kind in (1, 4):
            _text(pen, shape, rng)
        if np.asarray(drawn).mean() > 255 * _MUCH_HIDDEN:
            break
    if kind == 2:
        _blocks(pen, shape, rng)
    mask = np.asarray(drawn) > 127
    if kind == 3:
        mask = mask | (rng.random(shape) < rng.uniform(0.005, 0.3))
    if mask.all() or not mask.any():
        mask = np.zeros(shape, np.bool_)
        mask[shape[0] // 2, shape[1] // 2] = True
    return mask


def _scratches(pen: ImageDraw.ImageDraw, shape: tuple[int, int], rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 7)):
        points = rng.uniform(0, 1, 2) * shape[::-1]
        way = rng.uniform(-1, 1, 2) * max(shape) * 0.4
        path = [tuple(points)]
        for _ in range(rng.integers(1, 5)):
            way = way + rng.uniform(-1, 1, 2) * max(shape) * 0.15
            points = points + way
            path.append(tuple(points))
        pen.line(path, fill=255, width=int(rng.integers(1, 8)))


def _text(pen: ImageDraw.ImageDraw, shape: tuple[int, int], rng: np.random.Generator) -> None:
    letters = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;!?-"]
    for _ in range(rng.integers(1, 6)):
        size = int(rng.integers(10, 40))
        text = "".join(rng.choice(letters, int(rng.integers(4, 24))))
        place = (rng.uniform(-0.2, 0.7) * shape[1], rng.uniform(0, 0.95) * shape[0])
        pen.text(
            place,
            text,
            fill=255,
            font=ImageFont.load_default(size),
            stroke_width=int(rng.integers(0, 2)),
        )


def _blocks(pen: ImageDraw.ImageDraw, shape: tuple[int, int], rng: np.random.Generator) -> None:
    largest = min(64, min(shape) // 2)
    for _ in range(rng.integers(1, 4)):
        height, width = rng.integers(4, largest + 1, 2)
        if rng.random() < 0.5:
            height = width
        top = rng.integers(0, shape[0] - height + 1)
        left = rng.integers(0, shape[1] - width + 1)
        pen.rectangle((int(left), int(top), int(left + width - 1), int(top + height - 1)), fill=255)
