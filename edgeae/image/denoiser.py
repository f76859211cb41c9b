"""The image denoiser: noisy or incomplete images in, restored ones out, at any size."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.bundle import Bundle, find, reopened
from edgeae.errors import BundleError
from edgeae.image.interpolation import smooth_fill
from edgeae.image.pixels import parts
from edgeae.image.tiles import Tile, pad_to_stride, scaled, tiles
from edgeae.opening import graph_of, report_of
from edgeae.providers import Provider
from edgeae.runtime import Graph

__all__ = ["ImageDenoiser"]

Pixels = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

DTYPES = (np.uint8, np.uint16)
# Noise levels are told in 8-bit values, whatever the image's dtype.
_UNIT = 255.0
# What a manifest may ask for: a graph sees at most (tile + 2 halo) squared pixels at a time, and a
# tile of one pixel would take hours.
_LARGEST_TILE, _SMALLEST_TILE, _LARGEST_STRIDE = 4096, 32, 64
_MOST_PASSES = 64


@dataclass(frozen=True)
class _Spec:
    """The manifest's layout, in pixels.

    Attributes:
        stride: the sides of what the graphs see are multiples of it.
        level_stride: side of the square that has one noise level.
        tile: side of what is worked on at a time.
        halo: what the denoiser's graph must see around it.
        level_halo: what the estimator's graph must see around it.
        highest_level: the largest noise level that the model was trained for, in 8-bit values.
        smooth_holes: whether the model adds to holes that are filled smoothly; others, which fill
            worse by themselves, are not asked.
        fill_levels: noise levels in 8-bit values, one for each pass over holes that are filled
            smoothly, which are taken for noisy; none if the model is not asked so.
    """

    stride: int
    level_stride: int
    tile: int
    halo: int
    level_halo: int
    highest_level: float
    smooth_holes: bool
    fill_levels: tuple[float, ...] = ()


class ImageDenoiser:
    """A denoiser of images that also fills holes; safe to use from many threads.

    >>> denoiser = ImageDenoiser.load("photo-denoiser")  # doctest: +SKIP
    >>> clean = denoiser.denoise(photo)  # doctest: +SKIP
    >>> whole = denoiser.fill(photo, scratches)  # doctest: +SKIP
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: str | None = None,
        providers: Sequence[Provider] | None = None,
        device: str | None = None,
        threads: int = 1,
        strict: bool = False,
    ) -> None:
        """See `load`."""
        manifest = bundle.manifest
        if manifest.task != "denoiser":
            raise BundleError(f"{manifest.name} is a {manifest.task}, expected a denoiser")
        if (kind := manifest.layout.get("kind")) != "image":
            raise BundleError(f"{manifest.name} is a denoiser of {kind!r}, expected 'image'")
        self.bundle = bundle
        self._spec = _spec(bundle)
        self._settings = {
            "precision": precision,
            "providers": providers,
            "device": device,
            "threads": threads,
            "strict": strict,
        }
        self.precision = bundle.precision(precision)

        graph = functools.partial(
            graph_of,
            bundle,
            precision=self.precision,
            providers=providers,
            device=device,
            threads=threads,
            strict=strict,
        )

        self._denoiser, self._estimator = graph("denoiser"), graph("estimator")
        _check_ports(self._denoiser, (3, 1, 1))
        _check_ports(self._estimator, (3,))

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        precision: str | None = None,
        providers: Sequence[Provider] | None = None,
        device: str | None = None,
        threads: int = 1,
        strict: bool = False,
    ) -> ImageDenoiser:
        """The denoiser of a bundled model's name or of a bundle's folder.

        Args:
            model: a name that `edgeae models` lists, or a path.
            precision: "fp32" or "int8"; None takes int8 where there is one.
            providers: those of `Graph`, as are `device`, `threads` and `strict`.

        Raises:
            BundleError: not there, damaged, or not a denoiser of images.
            ProviderError: a provider is not available or takes no node.
        """
        return cls(
            find(model),
            precision=precision,
            providers=providers,
            device=device,
            threads=threads,
            strict=strict,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and copies by the bundle's path and the settings of `load`: no weights."""
        return reopened, (ImageDenoiser, self.bundle.path, self.bundle.id, self._settings)

    def __repr__(self) -> str:
        manifest = self.bundle.manifest
        nodes = ", ".join(
            f"{count} nodes on {p}" for p, count in self._denoiser.report()["nodes"].items()
        )
        return (
            f"<ImageDenoiser {manifest.name} {manifest.version}: noise up to "
            f"{self._spec.highest_level:g} of 255, {self.precision}, {nodes}>"
        )

    def denoise(self, image: Pixels, *, strength: float | None = None) -> Pixels:
        """The image without noise, of its shape and dtype.

        Args:
            image: uint8 or uint16, (H, W, 3), (H, W, 4) whose transparency is kept exactly,
                (H, W, 1) or (H, W).
            strength: standard deviation of the noise that is in the image, in 8-bit values
                whatever the dtype: 0, which gives a copy, to `highest_level` of the manifest's
                layout. None estimates it from the image, from place to place. It says what there
                is, not how much of it to take away: told less, a model may still take most of it.

        Raises:
            TypeError: the image is no such array, or `strength` no number.
            ValueError: another shape, no pixels, or a strength outside of the range.
        """
        colors, _, _ = parts(image, dtypes=DTYPES)
        checked = self._checked_strength(strength)
        restored = image.copy()
        if checked == 0:
            return restored
        level = self._level(colors) if checked is None else checked / _UNIT
        for tile, planes, padded_level in self._seen(colors, level):
            found = self._restored(tile, planes, padded_level, np.ones_like(planes[:, :1]))
            rows, columns = _inside(tile, self._spec.stride, image)
            _put(found, restored[rows, columns])
        return restored

    def fill(self, image: Pixels, mask: Mask) -> Pixels:
        """The image with its holes filled from what is around them, of its shape and dtype.

        The holes are filled smoothly first, and the model adds what lacks: in one pass, or as a
        denoiser that takes what is in holes for noisy, less so in each of several passes (Zhang et
        al. 2017, "Learning Deep CNN Denoiser Prior for Image Restoration"). Everything outside of
        the mask stays exactly as it is, transparency everywhere.

        Args:
            image: as for `denoise`; what is in holes does not matter.
            mask: bool (H, W), True in holes; without any the image comes back as it is.

        Raises:
            TypeError: the image is no such array, or the mask not bool.
            ValueError: another shape, no pixels, or nothing but a hole.
        """
        colors, _, _ = parts(image, dtypes=DTYPES)
        hole = _checked_mask(mask, image)
        filled = image.copy()
        if not hole.any():
            return filled
        stride = self._spec.stride
        known = np.pad(~hole, _padding(hole.shape, stride), mode="edge").astype(np.float32)
        smooth = smooth_fill(colors, hole)
        for level in self._spec.fill_levels:
            smooth = self._passed(smooth, hole, level / _UNIT)
        if not self._spec.smooth_holes:
            if image.ndim == 3 and image.shape[2] >= 3:
                filled[:, :, :3][hole] = smooth[hole]
            else:
                filled[hole] = _one_channel(smooth[hole]).reshape(-1, *image.shape[2:])
            return filled
        for tile, planes, level in self._seen(smooth, 0.0, within=hole):
            seen = known[scaled(tile.seen_rows, stride), scaled(tile.seen_columns, stride)]
            found = self._restored(tile, planes, level, seen[None, None])
            rows, columns = _inside(tile, stride, image)
            made = filled[rows, columns].copy()
            _put(found, made)
            part = hole[rows, columns]
            filled[rows, columns][part] = made[part]
        return filled

    def _passed(self, colors: Pixels, hole: Mask, level: float) -> Pixels:
        """Colors (H, W, 3) with noise of one level taken out of their holes."""
        passed = colors.copy()
        for tile, planes, levels in self._seen(colors, level, within=hole):
            found = self._restored(tile, planes, levels, np.ones_like(planes[:, :1]))
            rows, columns = _inside(tile, self._spec.stride, colors)
            made = passed[rows, columns].copy()
            _put(found, made)
            part = hole[rows, columns]
            passed[rows, columns][part] = made[part]
        return passed

    def noise_level(self, image: Pixels) -> Floats:
        """What `denoise` takes the standard deviation of the noise to be at each pixel if it is not
        told: float32 (H, W), in 8-bit values. The image and errors are those of `denoise`."""
        colors, _, _ = parts(image, dtypes=DTYPES)
        level = _UNIT * self._level(colors)
        side = self._spec.level_stride
        height, width = colors.shape[:2]
        return level.repeat(side, axis=0)[:height].repeat(side, axis=1)[:, :width]

    @property
    def highest_level(self) -> float:
        """The largest `strength`."""
        return self._spec.highest_level

    @property
    def graphs(self) -> dict[str, Graph]:
        """The graphs that run, by role."""
        return {"denoiser": self._denoiser, "estimator": self._estimator}

    def report(self) -> dict[str, Any]:
        """What was loaded and where it runs: {"bundle": id, "name", "precision", "graphs"}."""
        return report_of(self.bundle, self.precision, self.graphs)

    def _checked_strength(self, strength: float | None) -> float | None:
        if strength is None:
            return None
        most = self._spec.highest_level
        try:
            if isinstance(strength, str | bytes):
                raise TypeError
            value = float(strength)
        except (TypeError, ValueError):
            kind = type(strength).__name__
            raise TypeError(f"strength is of type {kind}, expected None or a number") from None
        except OverflowError:  # an integer beyond every float
            value = math.inf
        if not 0 <= value <= most:
            raise ValueError(f"strength is {value:g}, expected 0 to {most:g}")
        return value

    def _level(self, colors: Pixels) -> Floats:
        """The estimated noise level, on the scale of [0, 1], of each square: (rows, columns)."""
        spec = self._spec
        padded = pad_to_stride(colors, spec.stride)
        factor = spec.stride // spec.level_stride
        grid = padded.shape[0] // spec.stride, padded.shape[1] // spec.stride
        level = np.empty((grid[0] * factor, grid[1] * factor), np.float32)
        for tile in tiles(
            *grid, side=spec.tile // spec.stride, halo=spec.level_halo // spec.stride
        ):
            planes = _planes(padded, tile, spec.stride)
            shape = tuple(side // spec.level_stride for side in planes.shape[2:])
            (found,) = self._estimator.run([planes], shapes=[(1, 1, *shape)], finite=True)
            inner = scaled(tile.inner_rows, factor), scaled(tile.inner_columns, factor)
            level[scaled(tile.rows, factor), scaled(tile.columns, factor)] = found[0, 0][inner]
        return np.clip(level, 0, np.float32(spec.highest_level / _UNIT), out=level)

    def _seen(self, colors: Pixels, level: Floats | float, *, within: Mask | None = None) -> Any:
        """Every tile of colors (H, W, 3) with what its graph sees: planes (1, 3, h, w) in [0, 1]
        and levels (1, 1, h, w), one for all or one for each square. Tiles that lie outside of
        `within` are passed over."""
        spec, stride = self._spec, self._spec.stride
        padded = pad_to_stride(colors, stride)
        grid = padded.shape[0] // stride, padded.shape[1] // stride
        for tile in tiles(*grid, side=spec.tile // stride, halo=spec.halo // stride):
            rows, columns = scaled(tile.rows, stride), scaled(tile.columns, stride)
            if within is not None and not within[rows, columns].any():
                continue
            planes = _planes(padded, tile, stride)
            if isinstance(level, float):
                levels = np.full((1, 1, *planes.shape[2:]), level, np.float32)
            else:
                factor, side = stride // spec.level_stride, spec.level_stride
                part = level[scaled(tile.seen_rows, factor), scaled(tile.seen_columns, factor)]
                levels = part.repeat(side, axis=0).repeat(side, axis=1)[None, None]
            yield tile, planes, levels

    def _restored(self, tile: Tile, planes: Floats, level: Floats, known: Floats) -> Floats:
        """The kept part of a tile, (3, height, width), about [0, 1]."""
        (found,) = self._denoiser.run([planes, level, known], shapes=[planes.shape], finite=True)
        stride = self._spec.stride
        kept: Floats = found[
            0, :, scaled(tile.inner_rows, stride), scaled(tile.inner_columns, stride)
        ]
        return kept


def _spec(bundle: Bundle) -> _Spec:
    """Raises BundleError if the layout lacks a number or has one out of range."""
    layout, name = bundle.manifest.layout, bundle.manifest.name

    def whole(key: str, least: int, most: int) -> int:
        value = layout.get(key)
        if type(value) is not int or not least <= value <= most:
            raise BundleError(
                f"{name}: layout.{key} is {value!r}, expected a whole number from {least} to {most}"
            )
        return value

    stride = whole("stride", 1, _LARGEST_STRIDE)
    spec = _Spec(
        stride=stride,
        level_stride=whole("level_stride", 1, stride),
        tile=whole("tile", max(stride, _SMALLEST_TILE), _LARGEST_TILE),
        halo=whole("halo", 0, _LARGEST_TILE),
        level_halo=whole("level_halo", 0, _LARGEST_TILE),
        highest_level=float(whole("highest_level", 1, int(_UNIT))),
        smooth_holes=layout.get("smooth_holes") is True,
        fill_levels=_fill_levels(layout.get("fill_levels", []), name),
    )
    for key in ("tile", "halo", "level_halo"):
        if getattr(spec, key) % stride:
            raise BundleError(
                f"{name}: layout.{key} is {getattr(spec, key)}, expected a multiple of {stride}"
            )
    if stride % spec.level_stride:
        raise BundleError(
            f"{name}: layout.level_stride is {spec.level_stride}, expected a divisor of {stride}"
        )
    return spec


def _fill_levels(given: Any, name: str) -> tuple[float, ...]:
    """Raises BundleError unless it is a list of few levels above 0, at most 255."""
    sound = isinstance(given, list) and len(given) <= _MOST_PASSES
    if not sound or not all(type(x) in (int, float) and 0 < x <= _UNIT for x in given):
        raise BundleError(
            f"{name}: layout.fill_levels is {given!r}, expected at most {_MOST_PASSES} numbers "
            f"above 0, to {_UNIT:g}"
        )
    return tuple(float(level) for level in given)


def _check_ports(graph: Graph, channels: tuple[int, ...]) -> None:
    """Raises BundleError unless a graph takes float images of so many channels, and gives one."""
    shapes = [(port.dtype, len(port.shape), *port.shape[1:2]) for port in graph.inputs]
    wanted = [("float32", 4, count) for count in channels]
    if shapes != wanted or len(graph.outputs) != 1 or graph.outputs[0].dtype != "float32":
        raise BundleError(
            f"{graph.file.name} has inputs {[(p.name, p.dtype, p.shape) for p in graph.inputs]}, "
            f"expected float32 images of {', '.join(map(str, channels))} channels, and one output"
        )


def _checked_mask(mask: Mask, image: Pixels) -> Mask:
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        found = f"dtype {mask.dtype}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise TypeError(
            f"mask is {found}, expected a bool array (H, W), True in holes: such as values > 127"
        )
    if mask.shape != image.shape[:2]:
        raise ValueError(f"mask has shape {mask.shape}, expected {image.shape[:2]}")
    if mask.all():
        raise ValueError("mask is True everywhere, expected something to fill from")
    return mask


def _padding(shape: tuple[int, ...], stride: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (0, -shape[0] % stride), (0, -shape[1] % stride)


def _planes(padded: Pixels, tile: Tile, stride: int) -> Floats:
    """What a tile sees of an image (H, W, 3), float32 (1, 3, h, w) in [0, 1]."""
    seen = padded[scaled(tile.seen_rows, stride), scaled(tile.seen_columns, stride)]
    planes = np.empty((1, 3, *seen.shape[:2]), np.float32)
    np.multiply(seen.transpose(2, 0, 1), np.float32(1 / np.iinfo(padded.dtype).max), out=planes[0])
    return planes


def _inside(tile: Tile, stride: int, image: Pixels) -> tuple[slice, slice]:
    """The pixels of a tile's kept part that the image has: padding is none of them."""
    rows, columns = scaled(tile.rows, stride), scaled(tile.columns, stride)
    height, width = image.shape[:2]
    return slice(rows.start, min(rows.stop, height)), slice(columns.start, min(columns.stop, width))


def _put(planes: Floats, target: Pixels) -> None:
    """Writes planes (3, h, w) of [0, 1] into the colors of a part of an image, which may be
    smaller, rounded to its dtype."""
    height, width = target.shape[:2]
    planes = planes[:, :height, :width]
    most = np.float32(np.iinfo(target.dtype).max)
    if target.ndim == 3 and target.shape[2] >= 3:
        for plane in range(3):
            target[:, :, plane] = np.rint(np.clip(planes[plane], 0, 1) * most)
    else:
        gray = np.rint(np.clip(planes.mean(axis=0), 0, 1) * most)
        target[...] = gray.reshape(target.shape)


def _one_channel(colors: Pixels) -> Pixels:
    """The mean of colors (n, 3), rounded to their dtype."""
    gray: Pixels = np.rint(colors.mean(axis=1)).astype(colors.dtype)
    return gray
