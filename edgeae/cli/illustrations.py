"""The demo's illustrations: photos side by side with a close look, and spectrograms with axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Panel", "side_by_side", "spectrograms"]

Pixels = NDArray[np.uint8]

_PAPER, _INK, _FAINT = (255, 255, 255), (24, 24, 27), (113, 113, 122)
_MARK = (255, 214, 10)
_MARGIN = 16

# Dark to light with even steps of lightness, so that 10 dB look alike at every level.
_COLORS = (
    "#000004",
    "#1d1147",
    "#51127c",
    "#832681",
    "#b73779",
    "#e75263",
    "#fc8961",
    "#fec488",
    "#fcfdbf",
)
_FLOOR_DB = -80.0
_FRAME_S, _STEP_S = 0.032, 0.004


@dataclass(frozen=True)
class Panel:
    """One image of a row: uint8 (H, W, 3), what it is, and its figures."""

    image: Pixels
    title: str
    caption: str


def side_by_side(
    panels: Sequence[Panel], *, close_look: tuple[int, int, int, int], panel_width: int = 480
) -> Pixels:
    """The panels in a row, each whole and below it a close look, as uint8 (H, W, 3).

    Args:
        panels: at least one; their images, uint8 (H, W, 3), have one size.
        close_look: (left, top, width, height) in pixels of the photos, inside them; it is enlarged
            without smoothing, so that what a codec did to a pixel can be seen.
        panel_width: of each panel, in pixels.
    """
    left, top, width, height = close_look
    rows, columns = panels[0].image.shape[:2]
    whole = panel_width, round(rows * panel_width / columns)
    close = panel_width, round(height * panel_width / width)
    head = 62
    canvas = Image.new(
        "RGB",
        (
            len(panels) * (panel_width + _MARGIN) + _MARGIN,
            head + whole[1] + _MARGIN // 2 + close[1] + 2 * _MARGIN,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(canvas)
    for index, panel in enumerate(panels):
        x = _MARGIN + index * (panel_width + _MARGIN)
        draw.text((x, _MARGIN - 4), panel.title, _INK, _font(22))
        draw.text((x, _MARGIN + 24), panel.caption, _FAINT, _font(16))
        photo = Image.fromarray(panel.image)
        canvas.paste(photo.resize(whole, Image.Resampling.LANCZOS), (x, _MARGIN + head - 10))
        scale = panel_width / columns
        y = _MARGIN + head - 10
        box = [
            x + left * scale,
            y + top * scale,
            x + (left + width) * scale,
            y + (top + height) * scale,
        ]
        draw.rectangle(box, outline=_MARK, width=2)
        part = photo.crop((left, top, left + width, top + height))
        y += whole[1] + _MARGIN // 2
        canvas.paste(part.resize(close, Image.Resampling.NEAREST), (x, y))
        draw.rectangle([x, y, x + close[0] - 1, y + close[1] - 1], outline=_MARK, width=2)
    return np.asarray(canvas)


def spectrograms(
    recordings: Sequence[tuple[str, NDArray[np.float32]]], *, rate_hz: int, width: int = 1200
) -> Pixels:
    """The spectrograms of mono recordings of one length above each other, as uint8 (H, W, 3).

    Levels are in dB below the loudest point of the first recording, on one scale for all.

    Args:
        recordings: titles and samples, float32 (frames,) in [-1, 1], at least one.
        rate_hz: of all of them.
        width: of the figure, in pixels.
    """
    powers = [_power_db(samples, rate_hz) for _, samples in recordings]
    peak = powers[0].max()
    left, right, head, foot, height = 64, 92, 40, 18, 240
    plot = width - left - right, height
    canvas = Image.new("RGB", (width, len(recordings) * (head + height + foot) + 40), _PAPER)
    draw = ImageDraw.Draw(canvas)
    seconds = len(recordings[0][1]) / rate_hz
    for index, ((title, _), power) in enumerate(zip(recordings, powers, strict=True)):
        y = head + index * (head + height + foot)
        draw.text((left, y - 30), title, _INK, _font(20))
        colors = _colored(np.flipud(power.T) - peak)
        canvas.paste(Image.fromarray(colors).resize(plot, Image.Resampling.BILINEAR), (left, y))
        for khz in range(0, rate_hz // 2000 + 1, 2):
            at = y + height - round(khz * 2000 / rate_hz * height)
            draw.line([left - 5, at, left - 1, at], _INK)
            draw.text((left - 9, at), str(khz), _INK, _font(14), anchor="rm")
        _rotated(canvas, "frequency in kHz", (14, y + height // 2))
        for second in range(int(seconds) + 1):
            at = left + round(second / seconds * plot[0])
            draw.line([at, y + height, at, y + height + 4], _INK)
            draw.text((at, y + height + 6), str(second), _INK, _font(14), anchor="mt")
        _scale(canvas, draw, (left + plot[0] + 14, y), height)
    draw.text(
        (left + plot[0] // 2, canvas.height - 12), "time in seconds", _INK, _font(14), anchor="ms"
    )
    return np.asarray(canvas)


def _scale(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, at: tuple[int, int], height: int
) -> None:
    x, y = at
    ramp = np.linspace(0, _FLOOR_DB, height)[:, None].repeat(14, axis=1)
    canvas.paste(Image.fromarray(_colored(ramp)), at)
    for level in range(0, int(_FLOOR_DB) - 1, -20):
        label = y + round(level / _FLOOR_DB * (height - 1))
        draw.text((x + 19, label), f"{level} dB", _INK, _font(13), anchor="lm")


def _rotated(canvas: Image.Image, text: str, center: tuple[int, int]) -> None:
    font = _font(14)
    width = round(font.getlength(text)) + 4
    label = Image.new("RGB", (width, 20), _PAPER)
    ImageDraw.Draw(label).text((2, 10), text, _INK, font, anchor="lm")
    label = label.rotate(90, expand=True)
    canvas.paste(label, (center[0] - label.width // 2, center[1] - label.height // 2))


def _power_db(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64]:
    """Power in dB (frames, bins) under Hann windows."""
    size, step = round(_FRAME_S * rate_hz), round(_STEP_S * rate_hz)
    padded = np.pad(samples.astype(np.float64), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::step]
    spectrum = np.fft.rfft(frames * np.hanning(size), axis=1)
    return np.asarray(10 * np.log10(spectrum.real**2 + spectrum.imag**2 + 1e-12))


def _colored(level_db: NDArray[np.float64]) -> Pixels:
    stops = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in _COLORS], float)
    place = np.clip(1 - level_db / _FLOOR_DB, 0, 1) * (len(stops) - 1)
    channels = [np.interp(place, np.arange(len(stops)), stops[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
