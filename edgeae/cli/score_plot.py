"""A signal, its scores and its alarms as an image: a page that opens offline, or a PNG."""

from __future__ import annotations

import html
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edgeae.cli.score_files import channel_name
from edgeae.detector import Alarm, Scores
from edgeae.media.series import Series

__all__ = ["SUFFIXES", "page", "image"]

SUFFIXES = (".html", ".png")
WIDTH, PANEL, GAP, MARGIN = 1000, 110, 26, 10
# More channels than these are not told apart on one page; those of the largest alarms come first.
MOST_CHANNELS = 8
SIGNAL, SCORE, LIMIT, BAND = "#00695c", "#3949ab", "#d84315", "#ffccbc"


@dataclass(frozen=True)
class _Panel:
    """One curve: its name, and the lowest and highest value in each column of the image."""

    name: str
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    color: str
    limit: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        low, high = float(self.low.min()), float(self.high.max())
        if self.limit is not None:
            low, high = min(low, self.limit), max(high, self.limit)
        return (low, high) if high > low else (low - 0.5, high + 0.5)


def page(title: str, series: Series, scores: Scores, alarms: list[Alarm], threshold: float) -> str:
    """The page, in HTML with an SVG in it."""
    panels = _panels(series, scores, alarms, threshold)
    height = MARGIN + len(panels) * (PANEL + GAP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Signal, score and alarms">'
    ]
    for left, right in _bands(series, alarms):
        parts.append(
            f'<rect x="{left:.1f}" y="0" width="{max(1.5, right - left):.1f}" '
            f'height="{height}" fill="{BAND}"/>'
        )
    for index, panel in enumerate(panels):
        top = MARGIN + GAP + index * (PANEL + GAP)
        points = [f"{x},{y:.1f}" for x, y in _outline(panel, top)]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{panel.color}"/>')
        low, high = panel.bounds
        told = html.escape(f"{panel.name}: {low:.4g} to {high:.4g}")
        parts.append(f'<text x="4" y="{top - 6}" font-size="14">{told}</text>')
        if panel.limit is not None:
            y = _height(panel, panel.limit, top)
            parts.append(
                f'<line x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="{LIMIT}" '
                'stroke-dasharray="6 4"/>'
            )
    parts.append("</svg>")
    rows = "".join(
        f"<tr><td>{alarm.start}</td><td>{alarm.end}</td><td>{alarm.score:.3f}</td>"
        f"<td>{html.escape(channel_name(series, alarm.channel))}</td></tr>"
        for alarm in alarms
    )
    named = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{named}</title>\n'
        "<style>body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; "
        "max-width: 62rem; padding: 0 1rem; color: #1c313a; background: #fff; } svg { width: 100%; "
        "} td, th { padding: 0 1rem 0 0; text-align: left; }</style></head><body>\n"
        f"<h1>{named}</h1>\n<p>{len(alarms)} alarms in {len(series.samples)} samples, shaded; "
        f"the dashed line is the threshold, {threshold:.4g}.</p>\n{''.join(parts)}\n"
        "<table><tr><th>from sample</th><th>to</th><th>score</th><th>most in</th></tr>"
        f"{rows}</table>\n</body></html>\n"
    )


def image(series: Series, scores: Scores, alarms: list[Alarm], threshold: float) -> bytes:
    """The same curves as a PNG."""
    panels = _panels(series, scores, alarms, threshold)
    height = MARGIN + len(panels) * (PANEL + GAP)
    shown = Image.new("RGB", (WIDTH, height), "white")
    draw = ImageDraw.Draw(shown)
    for left, right in _bands(series, alarms):
        draw.rectangle((left, 0, max(left + 1.5, right), height), fill=BAND)
    for index, panel in enumerate(panels):
        top = MARGIN + GAP + index * (PANEL + GAP)
        draw.line(_outline(panel, top), fill=panel.color)
        low, high = panel.bounds
        # The built-in font has Latin letters alone.
        name = panel.name.encode("ascii", "replace").decode()
        draw.text((4, top - 14), f"{name}: {low:.4g} to {high:.4g}", fill="black")
        if panel.limit is not None:
            y = _height(panel, panel.limit, top)
            draw.line([(0, y), (WIDTH, y)], fill=LIMIT)
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    return buffer.getvalue()


def _panels(series: Series, scores: Scores, alarms: list[Alarm], threshold: float) -> list[_Panel]:
    channels = list(dict.fromkeys([alarm.channel for alarm in alarms]))
    channels += [c for c in range(series.samples.shape[1]) if c not in channels]
    panels = [
        _Panel(channel_name(series, c), *_columns(series.samples[:, c]), SIGNAL)
        for c in sorted(channels[:MOST_CHANNELS])
    ]
    return [*panels, _Panel("score", *_columns(scores.samples), SCORE, threshold)]


def _columns(values: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and highest value in each of the image's columns."""
    edges = np.linspace(0, len(values), min(WIDTH, len(values)) + 1).astype(int)[:-1]
    low, high = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
    return low.astype(np.float64), high.astype(np.float64)


def _height(panel: _Panel, value: float, top: int) -> float:
    low, high = panel.bounds
    return top + PANEL * (1 - (value - low) / (high - low))


def _outline(panel: _Panel, top: int) -> list[tuple[float, float]]:
    count = len(panel.low)
    points = []
    for index, (low, high) in enumerate(zip(panel.low, panel.high, strict=True)):
        x = round((index + 0.5) * WIDTH / count, 1)
        points.append((x, _height(panel, low, top)))
        if high > low:
            points.append((x, _height(panel, high, top)))
    return points


def _bands(series: Series, alarms: list[Alarm]) -> list[tuple[float, float]]:
    share = WIDTH / len(series.samples)
    return [(alarm.start * share, alarm.end * share) for alarm in alarms]
