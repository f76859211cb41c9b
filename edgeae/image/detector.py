"""How strange an image is, and where, by a model of good ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.bundle import Bundle, find, reopened
from edgeae.errors import BundleError
from edgeae.image.pixels import parts
from edgeae.image.tiles import pad_to_stride, scaled, tiles
from edgeae.opening import graph_of, report_of
from edgeae.providers import Provider
from edgeae.runtime import Graph

__all__ = ["ImageDetector", "ImageScore", "ImageScorer", "InspectionSpec", "inspection_spec"]

Pixels = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

DTYPES = (np.uint8, np.uint16)
_LARGEST_TILE, _SMALLEST_TILE, _LARGEST_STRIDE, _MOST_CELLS = 4096, 32, 64, 1 << 16


@dataclass(frozen=True)
class ImageScore:
    """How strange an image is; higher is stranger.

    Attributes:
        score: of all of it.
        map: of each pixel, float32 (H, W), on the scale of `score`.
    """

    score: float
    map: Floats


@dataclass(frozen=True)
class InspectionSpec:
    """The manifest's layout, in pixels, and its section `detection`.

    Attributes:
        stride: the sides of what the graph sees are multiples of it.
        map_stride: side of the square that has one value of the map.
        tile, halo: side of what is worked on at a time, and what the graph must see around it.
        mirror: how much of an image's mirror image the graph sees around it; 0 without the key.
        margin: how much of an image's edge counts for no score; 0 without the key.
        strongest: the score is the mean of so many of the map's highest values.
        threshold: the score above which an image is flagged.
    """

    stride: int
    map_stride: int
    tile: int
    halo: int
    mirror: int
    margin: int
    strongest: int
    threshold: float


class ImageDetector:
    """A model of good images that says how strange others are; safe to use from many threads.

    >>> watch = ImageDetector.load("runs/inspection-bundle")  # doctest: +SKIP
    >>> watch.flag(image)  # doctest: +SKIP
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
        if manifest.task != "detector":
            raise BundleError(f"{manifest.name} is a {manifest.task}, expected a detector")
        if (kind := manifest.layout.get("kind")) != "image":
            raise BundleError(f"{manifest.name} is a detector of {kind!r}, expected 'image'")
        self.bundle = bundle
        spec = inspection_spec(manifest.name, manifest.layout, manifest.detection or {})
        self._settings = {
            "precision": precision,
            "providers": None if providers is None else list(providers),
            "device": device,
            "threads": threads,
            "strict": strict,
        }
        self.precision = bundle.precision(precision)
        self._graph = graph_of(
            bundle,
            "map",
            precision=self.precision,
            providers=providers,
            device=device,
            threads=threads,
            strict=strict,
        )
        _check_ports(self._graph)
        self._scorer = ImageScorer(self._graph, spec)

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
    ) -> ImageDetector:
        """The detector of a bundled model's name or of a bundle's folder.

        Args:
            model: a name that `edgeae models` lists, or a path.
            precision: "fp32" or "int8"; None takes int8 where there is one.
            providers: those of `Graph`, as are `device`, `threads` and `strict`.

        Raises:
            BundleError: not there, damaged, or not a detector of images.
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
        return reopened, (ImageDetector, self.bundle.path, self.bundle.id, self._settings)

    def __repr__(self) -> str:
        manifest = self.bundle.manifest
        return (
            f"<ImageDetector {manifest.name} {manifest.version}: threshold {self.threshold:.4g}, "
            f"{self.precision}>"
        )

    @property
    def threshold(self) -> float:
        """The score above which an image is flagged: calibrated on good images that training did
        not see, at the rate of false alarms that the manifest's section `detection` states."""
        return self._scorer.spec.threshold

    @property
    def graphs(self) -> dict[str, Graph]:
        """The graphs that run, by role."""
        return {"map": self._graph}

    def score(self, image: Pixels) -> ImageScore:
        """How strange an image is, and each of its pixels.

        Args:
            image: uint8 or uint16, (H, W, 3), (H, W, 4) whose transparency does not count,
                (H, W, 1) or (H, W), of the size that good ones had in training: a defect is known
                by its size too.

        Raises:
            TypeError: the image is no such array.
            ValueError: another shape, or no pixels.
        """
        return self._scorer.score(image)

    def flag(self, image: Pixels, *, threshold: float | None = None) -> bool:
        """Whether an image is stranger than the threshold.

        Args:
            image: as for `score`: uint8 or uint16, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
            threshold: instead of the detector's own.

        Raises:
            TypeError, ValueError: as `score`, or a threshold that is no finite number.
        """
        limit = self.threshold if threshold is None else float(threshold)
        if not math.isfinite(limit):
            raise ValueError(f"threshold is {threshold!r}, expected a finite number")
        return self.score(image).score > limit

    def report(self) -> dict[str, Any]:
        """What was loaded and where it runs: {"bundle": id, "name", "precision", "graphs"}."""
        return report_of(self.bundle, self.precision, self.graphs)


def inspection_spec(
    name: str, layout: Mapping[str, Any], detection: Mapping[str, Any]
) -> InspectionSpec:
    """What the sections `layout` and `detection` of the manifest of the model `name` say.

    Raises BundleError if a number lacks or is out of range, naming the key.
    """
    sections = {"layout": layout, "detection": detection}

    def whole(
        section: str, key: str, least: int, most: int, step: int = 1, default: int | None = None
    ) -> int:
        value = sections[section].get(key, default)
        if type(value) is not int or not least <= value <= most or value % step:
            multiple = f" and a multiple of {step}" if step > 1 else ""
            raise BundleError(
                f"{name}: {section}.{key} is {value!r}, expected a whole number from {least} to "
                f"{most}{multiple}"
            )
        return value

    stride = whole("layout", "stride", 1, _LARGEST_STRIDE)
    map_stride = whole("layout", "map_stride", 1, stride)
    if stride % map_stride:
        raise BundleError(
            f"{name}: layout.map_stride is {map_stride}, expected a divisor of {stride}"
        )
    threshold: Any = detection.get("threshold")
    if type(threshold) not in (int, float) or not math.isfinite(threshold):
        raise BundleError(f"{name}: detection.threshold is {threshold!r}, expected a finite number")
    return InspectionSpec(
        stride=stride,
        map_stride=map_stride,
        tile=whole("layout", "tile", max(stride, _SMALLEST_TILE), _LARGEST_TILE, stride),
        halo=whole("layout", "halo", 0, _LARGEST_TILE, stride),
        mirror=whole("layout", "mirror", 0, _LARGEST_TILE, stride, default=0),
        margin=whole("layout", "margin", 0, _LARGEST_TILE, map_stride, default=0),
        strongest=whole("detection", "strongest", 1, _MOST_CELLS),
        threshold=float(threshold),
    )


@dataclass(frozen=True)
class ImageScorer:
    """A graph that maps what is strange, and how scores are made of its maps."""

    graph: Graph
    spec: InspectionSpec

    def score(self, image: Pixels) -> ImageScore:
        """The score of an image, see `ImageDetector.score`, which says what it may be."""
        colors, _, _ = parts(image, dtypes=DTYPES)
        height, width = colors.shape[:2]
        side = self.spec.map_stride
        # Padding is no part of the image: squares that lie in it do not count.
        around = self.spec.mirror // side
        rows, columns = -(-height // side), -(-width // side)
        cells = self._map(colors)[around : around + rows, around : around + columns]
        edge = self.spec.margin // side
        counted = cells[edge : rows - edge, edge : columns - edge]
        if 0 < counted.size < cells.size:
            # What lies in the margin is as good as the best place.
            cells = np.pad(counted, edge, constant_values=counted.min())
        else:  # nothing is left of a small image
            counted = cells
        count = min(self.spec.strongest, counted.size)
        strongest = np.partition(counted.reshape(-1), counted.size - count)[-count:]
        spread = cells.repeat(side, axis=0)[:height].repeat(side, axis=1)[:, :width]
        return ImageScore(float(strongest.mean(dtype=np.float64)), spread)

    def _map(self, colors: Pixels) -> Floats:
        """The map's values for colors (H, W, 3) and their mirror image around them, (rows,
        columns): one for each square."""
        spec, stride = self.spec, self.spec.stride
        wide = ((spec.mirror, spec.mirror), (spec.mirror, spec.mirror), (0, 0))
        if spec.mirror:
            colors = np.pad(colors, wide, mode="symmetric")
        padded = pad_to_stride(colors, stride)
        grid = padded.shape[0] // stride, padded.shape[1] // stride
        factor = stride // spec.map_stride
        found = np.empty((grid[0] * factor, grid[1] * factor), np.float32)
        scale = np.float32(1 / np.iinfo(padded.dtype).max)
        for tile in tiles(*grid, side=spec.tile // stride, halo=spec.halo // stride):
            seen = padded[scaled(tile.seen_rows, stride), scaled(tile.seen_columns, stride)]
            planes = np.empty((1, 3, *seen.shape[:2]), np.float32)
            np.multiply(seen.transpose(2, 0, 1), scale, out=planes[0])
            shape = tuple(pixels // spec.map_stride for pixels in planes.shape[2:])
            (part,) = self.graph.run([planes], shapes=[(1, 1, *shape)], finite=True)
            inner = scaled(tile.inner_rows, factor), scaled(tile.inner_columns, factor)
            found[scaled(tile.rows, factor), scaled(tile.columns, factor)] = part[0, 0][inner]
        return found


def _check_ports(graph: Graph) -> None:
    """Raises BundleError unless a graph takes float images of three channels, and gives one."""
    ports = [(port.dtype, len(port.shape), *port.shape[1:2]) for port in graph.inputs]
    if ports != [("float32", 4, 3)] or [port.dtype for port in graph.outputs] != ["float32"]:
        raise BundleError(
            f"{graph.file.name} has inputs {[(p.name, p.dtype, p.shape) for p in graph.inputs]}, "
            "expected a float32 image of 3 channels, and one output"
        )
