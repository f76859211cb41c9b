"""Plots as SVG text, in the house's own few lines: nothing to install, nothing to load.

Colors are classes (`c0` to `c5`, `ink`, `faint`, `grid`) that the page's style sheet defines, so a
plot follows the page into the dark. Every mark has a tooltip that gives its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

__all__ = [
    "COLORS",
    "Roof",
    "Spot",
    "bars",
    "distributions",
    "lines",
    "number",
    "quantity",
    "roofline",
]

COLORS = 6
WIDTH = 860
_LEFT, _RIGHT = 230, 24
_BINS = 80


@dataclass(frozen=True)
class Spot:
    """A graph in a roofline: multiply-adds a byte, multiply-adds a second, and its color."""

    name: str
    intensity: float
    speed: float
    color: int


@dataclass(frozen=True)
class Roof:
    """A limit of the machine: multiply-adds a second, or bytes a second if `per_byte`."""

    name: str
    limit: float
    per_byte: bool


@dataclass(frozen=True)
class _Axis:
    """Where a value stands between two pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        part = (self._place(value) - self._place(self.low)) / (
            self._place(self.high) - self._place(self.low)
        )
        return self.start + part * (self.stop - self.start)

    def _place(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[float]:
        """Round values inside, about six of them."""
        if self.log:
            exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            steps = (1, 2, 5) if len(exponents) <= 3 else (1,)
            found = [step * 10.0**exponent for exponent in [*exponents, exponents.stop]
                     for step in steps]  # fmt: skip
        else:
            rough = (self.high - self.low) / 6
            power = 10 ** math.floor(math.log10(rough))
            step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
            first = math.ceil(self.low / step - 1e-9)
            found = [step * (first + i) for i in range(20)]
        return [tick for tick in found if self.low * 0.999999 <= tick <= self.high * 1.000001]


def number(value: float) -> str:
    """Three digits of a number, without an exponent where it is not tiny."""
    return f"{float(f'{value:.3g}'):,g}" if abs(value) >= 1e-3 else f"{value:.3g}"


def quantity(value: float) -> str:
    """A number as a person reads it: three digits, thousands as k, M, G, T."""
    if value == 0:
        return "0"
    for factor, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def distributions(rows: Mapping[str, Sequence[float]], *, unit: str) -> str:
    """How often which time was measured, a row each: shape, median, 90th and 99th percentile."""
    rows = {name: sorted(values) for name, values in rows.items()}
    low = min(values[0] for values in rows.values())
    # One outlier must not press everything else against the wall: it stands at the edge.
    high = max(float(np.percentile(values, 99.5)) for values in rows.values())
    high, low = max(high, low * 1.02), low * 0.98
    axis = _Axis(low, high, _LEFT, WIDTH - _RIGHT, log=high / low > 8)
    row_height, top = 46, 26
    height = top + row_height * len(rows) + 44
    parts = [_x_axis(axis, top - 8, height - 44, f"{unit}{' (logarithmic)' if axis.log else ''}")]
    edges = [axis.start + (axis.stop - axis.start) * i / _BINS for i in range(_BINS + 1)]
    for index, (name, values) in enumerate(rows.items()):
        base = top + row_height * (index + 1) - 10
        places = [min(axis(value), axis.stop) for value in values]
        counts, _ = np.histogram(places, edges)
        peak = max(1, counts.max())
        points = [(edges[0], base)]
        for i, count in enumerate(counts):
            y = base - 30 * count / peak
            points += [(edges[i], y), (edges[i + 1], y)]
        points.append((edges[-1], base))
        shape = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        p50, p90, p99 = np.percentile(values, [50, 90, 99])
        told = (
            f"{name}: {len(values)} samples, minimum {values[0]:.4g}, median {p50:.4g}, "
            f"90 % below {p90:.4g}, 99 % below {p99:.4g}, maximum {values[-1]:.4g} {unit}"
        )
        parts.append(_label(name, base - 16))
        middle = f"{number(p50)} {unit}, 99 % below {number(p99)}"
        parts.append(_text(middle, _LEFT - 12, base, "end", "small faint"))
        parts.append(
            f'<g><title>{escape(told)}</title><polygon class="c{index % COLORS} area" '
            f'points="{shape}"/><line class="ink" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" '
            f'y1="{base}" y2="{base}"/>'
        )
        for value, size in ((p50, 34), (p90, 20), (p99, 12)):
            x = min(axis(value), axis.stop)
            parts.append(
                f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{base + 4}" y2="{base - size}"/>'
            )
        parts.append("</g>")
    return _svg(height, parts)


def bars(rows: Mapping[str, Mapping[str, float]], *, unit: str) -> str:
    """What each row is made of, part by part, all on one scale."""
    high = max(sum(parts.values()) for parts in rows.values())
    axis = _Axis(0, high * 1.02, _LEFT, WIDTH - _RIGHT)
    names = list(dict.fromkeys(part for parts in rows.values() for part in parts))
    legend, legend_height = _legend(names)
    row_height, top = 40, legend_height + 12
    height = top + row_height * len(rows) + 44
    parts = [legend, _x_axis(axis, top, height - 44, unit)]
    for index, (name, values) in enumerate(rows.items()):
        y, at = top + row_height * index + 8, 0.0
        parts.append(_label(name, y + 17))
        for part, value in values.items():
            width = axis(at + value) - axis(at)
            told = f"{name}, {part}: {value:.4g} {unit}, {value / sum(values.values()):.0%}"
            parts.append(
                f'<rect class="c{names.index(part) % COLORS}" x="{axis(at):.1f}" y="{y}" '
                f'width="{max(width - 1, 0.5):.1f}" height="24"><title>{escape(told)}</title>'
                "</rect>"
            )
            if width > 44:
                parts.append(_text(number(value), axis(at) + width / 2, y + 17, "middle", "on"))
            at += value
    return _svg(height, parts)


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]], *, x_title: str, y_title: str
) -> str:
    """One line each through points (x, y); the values of x stand at equal distances."""
    xs = sorted({x for points in series.values() for x, _ in points})
    high = max(y for points in series.values() for _, y in points)
    legend, legend_height = _legend(list(series))
    top, bottom = legend_height + 40, legend_height + 280
    left = 70
    axis = _Axis(0, high * 1.08, bottom, top)
    step = (WIDTH - _RIGHT - left) / len(xs)
    place = {x: left + step * (i + 0.5) for i, x in enumerate(xs)}
    parts = [legend]
    for tick in axis.ticks():
        y = axis(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(_text(quantity(tick), left - 8, y + 4, "end", "small faint"))
    for x, at in place.items():
        parts.append(_text(f"{x:g}", at, bottom + 18, "middle", "small faint"))
    parts.append(_text(x_title, (left + WIDTH - _RIGHT) / 2, bottom + 38, "middle", "small faint"))
    parts.append(_text(y_title, 4, top - 14, "start", "small faint"))
    for index, (name, points) in enumerate(series.items()):
        color = index % COLORS
        spots = [(place[x], axis(y), x, y) for x, y in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in spots)
        parts.append(f'<polyline class="c{color} line" points="{path}"/>')
        for x, y, at, value in spots:
            told = f"{name}, {at:g}: {value:.4g}"
            parts.append(
                f'<circle class="c{color}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
                f"<title>{escape(told)}</title></circle>"
            )
    return _svg(bottom + 50, parts)


def roofline(spots: Sequence[Spot], roofs: Sequence[Roof]) -> str:
    """Speed against multiply-adds a byte, under the limits of the machine, both logarithmic."""
    flat = [roof.limit for roof in roofs if not roof.per_byte]
    slanted = [roof.limit for roof in roofs if roof.per_byte]
    ridges = [limit / rate for limit in flat for rate in slanted]
    low_x = min([spot.intensity for spot in spots] + ridges) / 2
    high_x = max([spot.intensity for spot in spots] + ridges) * 3
    low_y = min(spot.speed for spot in spots) / 3
    left, top, bottom = 70, 24, 380
    x_axis = _Axis(low_x, high_x, left, WIDTH - _RIGHT, log=True)
    y_axis = _Axis(low_y, max([*flat, *(spot.speed for spot in spots)]) * 2, bottom, top, log=True)
    parts = [
        f'<defs><clipPath id="roof"><rect x="{left}" y="{top}" '
        f'width="{WIDTH - _RIGHT - left}" height="{bottom - top}"/></clipPath></defs>',
        _x_axis(x_axis, top, bottom, "multiply-adds for each byte moved"),
    ]
    for tick in y_axis.ticks():
        y = y_axis(tick)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(_text(quantity(tick), left - 8, y + 4, "end", "small faint"))
    parts.append(_text("multiply-adds a second", left - 50, top - 10, "start", "small faint"))
    names = _Names(left, WIDTH - 4)
    for spot in spots:  # no name may lie on a dot
        names.take(x_axis(spot.intensity) - 7, y_axis(spot.speed) - 7, 14, 14)
    # The limits' names lie along their lines and move least.
    for roof in roofs:
        parts += _roof(roof, x_axis, y_axis, max(flat), names)
    for spot in sorted(spots, key=lambda spot: -spot.speed):
        x, y = x_axis(spot.intensity), y_axis(spot.speed)
        told = (
            f"{spot.name}: {quantity(spot.speed)} multiply-adds a second, "
            f"{spot.intensity:.3g} for each byte"
        )
        parts.append(
            f'<circle class="c{spot.color % COLORS}" cx="{x:.1f}" cy="{y:.1f}" r="6">'
            f"<title>{escape(told)}</title></circle>"
        )
        at_x, at_y = names.place(spot.name, x, y)
        if abs(at_y - y) > 16:  # a name that had to go elsewhere is tied to its dot
            parts.append(
                f'<line class="ink" x1="{x:.1f}" y1="{y:.1f}" x2="{at_x:.1f}" y2="{at_y - 4:.1f}"/>'
            )
        parts.append(_text(spot.name, at_x, at_y, "start", "small ink"))
    return _svg(bottom + 50, parts)


# Of the small text: its height, and about the width of one of its characters.
_LINE, _CHARACTER = 14.0, 6.7


class _Names:
    """Places for names that lie on nothing that is there already."""

    def __init__(self, left: float, right: float) -> None:
        self._left, self._right = left, right
        self._boxes: list[tuple[float, float, float, float]] = []

    def take(self, x: float, y: float, width: float, height: float) -> None:
        """Nothing else may lie in this box from now on."""
        self._boxes.append((x, y, x + width, y + height))

    def is_free(self, x: float, y: float, width: float, height: float) -> bool:
        """Whether nothing lies in the box yet, and the plot holds it."""
        return (
            self._left <= x
            and x + width <= self._right
            and not any(
                x < right and left < x + width and y < low and top < y + height
                for left, top, right, low in self._boxes
            )
        )

    def place(self, name: str, x: float, y: float) -> tuple[float, float]:
        """Where the name of the dot at (x, y) begins: beside it, or as near as there is room."""
        width = _CHARACTER * len(name)
        for step in range(40):
            for side in (y + 4 + step * _LINE / 2, y + 4 - step * _LINE / 2):
                for begin in (x + 11, x - 11 - width):
                    if self.is_free(begin, side - 11, width, _LINE):
                        self.take(begin, side - 11, width, _LINE)
                        return begin, side
        return x + 11, y + 4


def _roof(roof: Roof, x_axis: _Axis, y_axis: _Axis, most: float, names: _Names) -> list[str]:
    label = f"{roof.name}: {quantity(roof.limit)}{'B' if roof.per_byte else ''}/s"
    width = _CHARACTER * len(label)
    if not roof.per_byte:
        y = y_axis(roof.limit)
        ends_x = f'x1="{x_axis.start}" x2="{x_axis.stop}"'
        # Above its line at the right end; where another lies there, further left, or below.
        places = [(x_axis.stop - 4 - k * 20 - width, y + d) for k in range(25) for d in (-6, 13)]
        x, at = next((p for p in places if names.is_free(p[0], p[1] - 11, width, _LINE)), places[0])
        names.take(x, at - 11, width, _LINE)
        return [
            f'<line class="roof" {ends_x} y1="{y:.1f}" y2="{y:.1f}"/>',
            _text(label, x, at, "start", "small faint"),
        ]
    ends = (x_axis.low, most / roof.limit)
    (x1, y1), (x2, y2) = ((x_axis(x), y_axis(max(x * roof.limit, 1e-9))) for x in ends)
    slope = (y2 - y1) / (x2 - x1)
    angle = math.atan(slope)
    first = x_axis(max(x_axis.low * 1.1, y_axis.low * 1.5 / roof.limit))

    def boxes(x: float) -> list[tuple[float, float, float, float]]:
        """Of a slanted text: a row of small ones."""
        along = [x + part * math.cos(angle) for part in range(0, int(width), 10)]
        return [(at, y1 + (at - x1) * slope - 18, 10.0, 16.0) for at in along]

    places_x = [first + 15 * k for k in range(20)]
    x = next((p for p in places_x if all(names.is_free(*box) for box in boxes(p))), first)
    for box in boxes(x):
        names.take(*box)
    return [
        f'<line class="roof" clip-path="url(#roof)" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" '
        f'y2="{y2:.1f}"/>',
        f'<text class="small faint" transform="translate({x:.1f},{y1 + (x - x1) * slope:.1f}) '
        f'rotate({math.degrees(angle):.1f})" dy="-6">{escape(label)}</text>',
    ]


def _x_axis(axis: _Axis, top: float, bottom: float, title: str) -> str:
    parts = []
    for tick in axis.ticks():
        x = axis(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(_text(quantity(tick), x, bottom + 18, "middle", "small faint"))
    parts.append(_text(title, (axis.start + axis.stop) / 2, bottom + 38, "middle", "small faint"))
    return "".join(parts)


def _legend(names: Sequence[str]) -> tuple[str, float]:
    """Colored names in as many rows as they need, and their height."""
    parts, x, y = [], 4.0, 14.0
    for index, name in enumerate(names):
        width = 36 + 7.6 * len(name)
        if x + width > WIDTH:
            x, y = 4.0, y + 20
        parts.append(
            f'<rect class="c{index % COLORS}" x="{x}" y="{y - 10}" width="12" height="12"/>'
        )
        parts.append(_text(name, x + 18, y, "start", "small ink"))
        x += width
    return "".join(parts), y


def _label(name: str, y: float) -> str:
    return _text(name, _LEFT - 12, y, "end", "small ink")


def _text(text: str, x: float, y: float, anchor: str, kind: str) -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _svg(height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" xmlns="http://www.w3.org/2000/svg" role="img">'
        + "".join(parts)
        + "</svg>"
    )
