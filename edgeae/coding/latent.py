"""What a codec's bundle says of its latent: the manifest's section, the tables, the graphs' ports.

All of it is checked here, before the first image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.bundle import Bundle
from edgeae.coding import context, entropy
from edgeae.coding.rate import LEVELS
from edgeae.errors import BundleError
from edgeae.runtime import Graph

__all__ = [
    "LatentSpec",
    "Port",
    "check_encoder",
    "check_ports",
    "expect_ports",
    "latent_spec",
    "read_tables",
]

Floats = npt.NDArray[np.float32]
# A port of a graph: dtype and shape, None for an axis of any size.
Port = tuple[str, tuple[int | None, ...]]
_PIXELS: Port = ("float32", (1, 3, None, None))


@dataclass(frozen=True)
class LatentSpec:
    """The manifest's `latent` section, checked."""

    stride: int
    slices: tuple[context.SliceSpec, ...]
    encoder_halo: int
    decoder_halo: int
    tile: int

    @property
    def channels(self) -> int:
        """Latent channels of all slices."""
        return sum(part.channels for part in self.slices)


def latent_spec(bundle: Bundle) -> LatentSpec:
    """The latent section of a codec's manifest. Raises BundleError, naming the key, if it is not
    sound."""
    raw, name = bundle.manifest.latent or {}, bundle.manifest.name

    def whole(section: Any, key: str, low: int, high: int) -> int:
        value = section.get(key) if isinstance(section, dict) else None
        if type(value) is not int or not low <= value <= high:  # true and false are no numbers
            raise BundleError(
                f"{name}: the latent section's {key} is {value!r}, expected {low} to {high}"
            )
        return value

    def slice_spec(section: Any) -> context.SliceSpec:
        channels, phases = whole(section, "channels", 1, 4096), whole(section, "phases", 1, 2)
        centered = section.get("centered")
        if type(centered) is not bool:
            raise BundleError(
                f"{name}: centered of a slice is {centered!r}, expected true or false"
            )
        return context.SliceSpec(channels, centered, phases)

    parts = raw.get("slices")
    if not isinstance(parts, list) or not parts:
        raise BundleError(f"{name}: the latent section's slices are {parts!r}, expected a list")
    tile = whole(raw, "tile", 1, 1024)
    spec = LatentSpec(
        stride=whole(raw, "stride", 1, 64),
        slices=tuple(slice_spec(part) for part in parts),
        encoder_halo=whole(raw, "encoder_halo", 0, tile),
        decoder_halo=whole(raw, "decoder_halo", 0, tile),
        tile=tile,
    )
    # Nothing but its own symbols could tell the first graph how large the latent is.
    if spec.channels > 4096 or spec.slices[0].phases != 2:
        raise BundleError(
            f"{name}: the latent has {spec.channels} channels, the first slice in "
            f"{spec.slices[0].phases} phases, expected at most 4096, and 2 phases"
        )
    return spec


def read_tables(bundle: Bundle, spec: LatentSpec) -> tuple[entropy.Tables, Floats]:
    """The entropy tables and the quantization steps, positive float32 (levels, channels).

    Raises BundleError if tables.bin does not hold them.
    """
    data = bundle.read("tables.bin")
    sizes = [2 * context.TABLES * entropy.ALPHABET, context.TABLES, 4 * LEVELS * spec.channels]
    if len(data) != sum(sizes):
        raise BundleError(f"tables.bin has {len(data)} bytes, expected {sum(sizes)}")
    frequencies = np.frombuffer(data, "<u2", sizes[0] // 2).astype(np.uint16)
    shifts = np.frombuffer(data, np.uint8, sizes[1], offset=sizes[0])
    steps = np.frombuffer(data, "<f4", offset=sizes[0] + sizes[1]).astype(np.float32)
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise BundleError(
            f"tables.bin: a quantization step is {steps.min()}, expected positive numbers"
        )
    try:
        tables = entropy.Tables(frequencies.reshape(context.TABLES, entropy.ALPHABET), shifts)
    except ValueError as error:
        raise BundleError(f"tables.bin: {error}") from None
    return tables, steps.reshape(LEVELS, spec.channels)


def check_encoder(spec: LatentSpec, encoder: Graph) -> None:
    """Raises BundleError, naming the file, unless the graph takes pixels and gives latents."""
    expect_ports(encoder, takes=[_PIXELS], gives=[_latents(spec)])


def _latents(spec: LatentSpec) -> Port:
    return "float32", (1, spec.channels, None, None)


def check_ports(
    spec: LatentSpec, encoder: Graph, decoder: Graph, contexts: Sequence[Graph]
) -> None:
    """Raises BundleError, naming the file, unless every graph takes and gives what the latent
    needs."""
    check_encoder(spec, encoder)
    level: Port = ("float32", (1, 1, 1, 1))
    expect_ports(decoder, takes=[_latents(spec), level], gives=[_PIXELS])
    known = 0
    for part, graph in zip(spec.slices, contexts, strict=True):
        takes: list[Port] = [("float32", (1, 2, 1, 1))]
        if known:
            takes.append(("float32", (1, known, None, None)))
        if part.phases == 2:
            takes.append(("float32", (1, part.channels, None, None)))
        index: Port = ("int32", (1, part.channels, None, None))
        expect_ports(graph, takes=takes, gives=[index, index] if part.centered else [index])
        known += part.channels


def expect_ports(graph: Graph, *, takes: Sequence[Port], gives: Sequence[Port]) -> None:
    """Raises BundleError, naming the file, unless a graph's ports are these, in this order: dtypes
    and shapes, None for a size that is free."""
    for side, ports, expected in (("takes", graph.inputs, takes), ("gives", graph.outputs, gives)):
        found = [
            (port.dtype, tuple(size if isinstance(size, int) else None for size in port.shape))
            for port in ports
        ]
        if found != [*expected]:
            raise BundleError(f"{graph.file} {side} {_shown(found)}, expected {_shown(expected)}")


def _shown(planes: Sequence[Port]) -> str:
    return " and ".join(
        f"{dtype} ({', '.join('any' if size is None else str(size) for size in shape)})"
        for dtype, shape in planes
    )
