"""Items as small pictures for a page: images as they are, series and vectors as lines."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# Size of one item's drawing, and the side that small images are enlarged to.
_WIDTH, _HEIGHT, _SIDE = 220, 88, 96
_COLORS = 6

__all__ = ["Look", "gallery", "image_uri", "pair"]


@dataclass(frozen=True)
class Look:
    """How items are drawn, the same for all of a data set.

    Attributes:
        mean, scale: of the data (*shape), by which series and vectors are drawn.
        tones: the values that images show as black and white.
        names: of the entries of vectors.
    """

    mean: Floats
    scale: Floats
    tones: tuple[float, float] = (0.0, 1.0)
    names: Sequence[str] = ()


def gallery(items: Floats, look: Look) -> str:
    """Items (N, *shape) side by side, as HTML."""
    return _grid([_figure([item], look) for item in items])


def pair(given: Floats, restored: Floats, look: Look) -> str:
    """Items (N, *shape) beside or under what came back of them, as HTML; NaN is a missing value."""
    return _grid([_figure([a, b], look) for a, b in zip(given, restored, strict=True)])


def image_uri(item: Floats, low: float, high: float) -> str:
    """A PNG of an image (H, W, C) whose values lie between two, as a data URI."""
    from PIL import Image

    shown = np.nan_to_num((item - low) / max(high - low, 1e-9))
    pixels = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] != 3 else pixels)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _grid(cells: Sequence[str]) -> str:
    return f'<div class="items">{"".join(cells)}</div>'


def _figure(versions: Sequence[Floats], look: Look) -> str:
    """One item, alone or beside what came back of it."""
    if versions[0].ndim == 3:
        low, high = look.tones
        told = ("as it is", "as it comes back") if len(versions) > 1 else ("an image",)
        images = "".join(
            f'<img src="{image_uri(one, low, high)}" width="{_SIDE}" height="{_SIDE}" alt="{alt}">'
            for one, alt in zip(versions, told, strict=True)
        )
        return f"<figure>{images}</figure>"
    normal = [(one - look.mean) / look.scale for one in versions]
    return f"<figure>{_drawing(normal, look.names)}</figure>"


def _drawing(versions: Sequence[Floats], names: Sequence[str]) -> str:
    """Lines of normalized items: thin and grey as given, in color as they came back."""
    channels = [one if one.ndim == 2 else one[:, None] for one in versions]
    everything = np.concatenate([one.ravel() for one in channels])
    finite = everything[np.isfinite(everything)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    span = max(high - low, 1e-6)
    parts = []
    for index, one in enumerate(channels):
        given = index == 0 and len(channels) > 1
        x = np.linspace(4, _WIDTH - 4, len(one))
        for channel in range(one.shape[1]):
            y = _HEIGHT - 6 - (one[:, channel] - low) / span * (_HEIGHT - 12)
            style = "given" if given else f"l{channel % _COLORS}"
            parts += [f'<polyline class="{style}" points="{way}"/>' for way in _ways(x, y)]
    told = escape(", ".join(names)) if names and channels[0].shape[1] == 1 else ""
    title = f"<title>{told}</title>" if told else ""
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{title}{"".join(parts)}</svg>'


def _ways(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> list[str]:
    """Points of a line; a missing value parts it, and one between two gaps is a short dash."""
    found: list[list[str]] = [[]]
    for a, b in zip(x, y, strict=True):
        if not np.isfinite(b):
            found.append([])
            continue
        found[-1].append(f"{a:.1f},{b:.1f}")
    return [" ".join(part if len(part) > 1 else [part[0], part[0]]) for part in found if part]
