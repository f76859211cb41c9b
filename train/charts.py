"""Charts as SVG text for pages that load nothing: lines and points in the page's own colors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["STYLE", "Point", "lines", "number", "page", "scatter"]

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 44
_COLORS = 6

# Colors of Okabe and Ito (2008), which the color-blind can tell apart; lighter ones in the dark.
STYLE = """
:root { --ink: #1c313a; --faint: #607d8b; --grid: #dfe6ea; --paper: #fff; --card: #f7f9fa;
  --c0: #00796b; --c1: #d55e00; --c2: #0072b2; --c3: #a6611a; --c4: #8e4a8c; --c5: #7a7a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eef0; --faint: #9fb3bd; --grid: #37474f;
  --paper: #182126; --card: #202c32; --c0: #4db6ac; --c1: #ff9e57; --c2: #64b5f6; --c3: #d9a066;
  --c4: #ce93d8; --c5: #d4d45a; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .4rem 0; } .faint { color: var(--faint); }
table { border-collapse: collapse; font-size: .9rem; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--grid); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr.chosen td { font-weight: 600; }
.scroll { overflow-x: auto; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem; }
.charts figure { max-width: 36rem; }
figure { margin: 0; background: var(--card); border: 1px solid var(--grid); border-radius: 8px;
  padding: .5rem; } figcaption { font-size: .85rem; color: var(--faint); }
svg { width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: var(--faint); }
@media (max-width: 30rem) { svg text { font-size: 18px; } }
.gridline { stroke: var(--grid); } .limit { stroke: var(--c1); stroke-dasharray: 5 4; }
""" + "\n".join(
    f".c{i} {{ fill: var(--c{i}); }} .l{i} {{ stroke: var(--c{i}); fill: none; stroke-width: 2; }} "
    f"svg text.t{i} {{ fill: var(--c{i}); }}"
    for i in range(_COLORS)
)


@dataclass(frozen=True)
class Point:
    """A dot: where it stands, its color and size, and what it says when pointed at."""

    x: float
    y: float
    text: str
    color: int = 0
    radius: float = 5.0


@dataclass(frozen=True)
class _Axis:
    """Where a value stands between two pixels, on a linear or a logarithmic scale."""

    low: float
    high: float
    start: float
    stop: float
    log: bool

    def __call__(self, value: float) -> float:
        low, high, value = (self._place(v) for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    def _place(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[float]:
        """Round values inside, from three to nine of them."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            marks = (1, 2, 5) if last - first <= 3 else (1,)
            found = self._inside([m * 10.0**e for e in range(first, last + 1) for m in marks])
            if len(found) > 1:
                return found
        # Of a short stretch of a logarithmic axis too, evenly spaced values.
        rough = (self.high - self.low) / 5
        power = 10 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
        start = math.ceil(self.low / step - 1e-9)
        return self._inside([step * (start + i) for i in range(12)])

    def _inside(self, values: list[float]) -> list[float]:
        air = 1e-9 * (self.high - self.low)
        return [value for value in values if self.low - air <= value <= self.high + air]


def number(value: float) -> str:
    """Three digits of a number, as a person writes it."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.3g}"
    return f"{float(f'{value:.3g}'):,.10g}"


def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    log_y: bool = False,
) -> str:
    """Curves by name, each x values and y values; values that are not finite are left out."""
    kept = {name: _finite(*curve, log_y=log_y) for name, curve in curves.items()}
    kept = {name: places for name, places in kept.items() if places}
    if not kept:
        return '<p class="faint">Nothing was recorded.</p>'
    everything = [place for places in kept.values() for place in places]
    x, y = _axes(everything, log_x=False, log_y=log_y)
    parts = [_frame(x, y, x_label, y_label)]
    for index, (name, places) in enumerate(kept.items()):
        color = index % _COLORS
        way = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in places)
        parts.append(f'<polyline class="l{color}" points="{way}"/>')
        parts += [
            f'<circle class="c{color}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3">'
            f"<title>{escape(name)}: {number(b)} at {number(a)}</title></circle>"
            for a, b in (places if len(places) <= 60 else ())
        ]
        parts.append(
            f'<text class="t{color}" x="{_WIDTH - _RIGHT}" y="{_TOP + 14 + 20 * index}" '
            f'text-anchor="end">{escape(name)}</text>'
        )
    return _svg(parts, y_label)


def scatter(
    points: Sequence[Point],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    limit_x: float | None = None,
) -> str:
    """Dots, and a dashed line at `limit_x` where it lies within what is shown."""
    x, y = _axes([(point.x, point.y) for point in points], log_x=log_x, log_y=log_y)
    parts = [_frame(x, y, x_label, y_label)]
    if limit_x is not None and x.low <= limit_x <= x.high:
        parts.append(
            f'<line class="limit" x1="{x(limit_x):.1f}" x2="{x(limit_x):.1f}" '
            f'y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"><title>the limit</title></line>'
        )
    parts += [
        f'<circle class="c{point.color % _COLORS}" fill-opacity=".65" cx="{x(point.x):.1f}" '
        f'cy="{y(point.y):.1f}" r="{point.radius:.1f}"><title>{escape(point.text)}</title></circle>'
        for point in points
    ]
    return _svg(parts, f"{y_label} over {x_label}")


def page(title: str, body: str) -> str:
    """A page of its own around what it shows."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def _finite(x: Sequence[float], y: Sequence[float], *, log_y: bool) -> list[tuple[float, float]]:
    return [
        (a, b)
        for a, b in zip(x, y, strict=True)
        if math.isfinite(a) and math.isfinite(b) and (b > 0 or not log_y)
    ]


def _axes(
    places: Sequence[tuple[float, float]], *, log_x: bool, log_y: bool
) -> tuple[_Axis, _Axis]:
    x, y = ([place[i] for place in places] for i in (0, 1))
    return (
        _Axis(*_bounds(x, log=log_x), _LEFT, _WIDTH - _RIGHT, log_x),
        _Axis(*_bounds(y, log=log_y), _HEIGHT - _BOTTOM, _TOP, log_y),
    )


def _bounds(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    """The lowest and the highest value with some air around them."""
    low, high = min(values), max(values)
    if log:
        air = max((high / low) ** 0.06, 1.05)
        return low / air, high * air
    air = 0.06 * (high - low) or max(abs(high), 1e-9) * 0.1
    return low - air, high + air


def _frame(x: _Axis, y: _Axis, x_label: str, y_label: str) -> str:
    """Grid lines with their values, and what the axes are."""
    parts = []
    for tick in y.ticks():
        place = f"{y(tick):.1f}"
        parts.append(
            f'<line class="gridline" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{place}" '
            f'y2="{place}"/><text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">'
            f"{number(tick)}</text>"
        )
    for tick in x.ticks():
        parts.append(
            f'<line class="gridline" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP}" '
            f'y2="{_HEIGHT - _BOTTOM}"/><text x="{x(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
            f'text-anchor="middle">{number(tick)}</text>'
        )
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text transform="translate(14 {(_TOP + _HEIGHT - _BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _svg(parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">'
        + "".join(parts)
        + "</svg>"
    )
