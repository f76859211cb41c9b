"""The latent of a signal, and what a codec's bundle says of it: all checked before the first
sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.bundle import Bundle
from edgeae.coding.rate import LEVELS
from edgeae.coding.single_lane import ALPHABET, FineTables
from edgeae.errors import BundleError
from edgeae.signal.contexts import TABLES
from edgeae.signal.exact import BINS, ExactTables
from edgeae.signal.matches import MatchRule

__all__ = [
    "TABLE_BYTES",
    "LatentSpec",
    "SignalLatent",
    "latent_spec",
    "read_tables",
    "tables_at",
]

Floats = npt.NDArray[np.float32]
# Of the frequencies and shifts of one set of tables in a bundle's tables.bin.
TABLE_BYTES = TABLES * (2 * ALPHABET + 1)


@dataclass(frozen=True, eq=False)
class SignalLatent:
    """Quantized latent of one signal and its metadata.

    Attributes:
        symbols: int32 (leads, channels, steps).
        level: quantization level, 0 to 64.
        samples: of each lead.
        flat: the signal is (samples,), without an axis of leads.
        dtype: of the samples.
        sample_rate_hz: of the signal.
        offsets, scales: of each lead: the network sees (sample - offset) / scale.
    """

    symbols: npt.NDArray[np.int32]
    level: int
    samples: int
    flat: bool
    dtype: str
    sample_rate_hz: float
    offsets: tuple[float, ...]
    scales: tuple[float, ...]


@dataclass(frozen=True)
class LatentSpec:
    """The manifest's `latent` section, checked."""

    stride: int
    phases: int
    slices: tuple[int, ...]
    reach: int
    encoder_halo: int
    decoder_halo: int
    rule: MatchRule

    @property
    def channels(self) -> int:
        """Latent channels of all slices."""
        return sum(self.slices)


def latent_spec(bundle: Bundle) -> LatentSpec:
    """The latent section of a signal codec's manifest. Raises BundleError, naming the key, if it
    is not sound."""
    raw, name = bundle.manifest.latent or {}, bundle.manifest.name

    def whole(section: Any, key: str, low: int, high: int) -> int:
        value = section.get(key) if isinstance(section, dict) else None
        if type(value) is not int or not low <= value <= high:
            raise BundleError(
                f"{name}: the latent section's {key} is {value!r}, expected {low} to {high}"
            )
        return value

    def numbers(section: Any, key: str, low: int, high: int) -> tuple[int, ...]:
        values = section.get(key) if isinstance(section, dict) else None
        if not isinstance(values, list) or not 1 <= len(values) <= 64:
            raise BundleError(f"{name}: the latent section's {key} is {values!r}, expected a list")
        return tuple(whole({key: value}, key, low, high) for value in values)

    matches = raw.get("matches")
    rule = MatchRule(
        nearest=whole(matches, "nearest", 1, 4095),
        furthest=whole(matches, "furthest", 1, 4095),
        history=numbers(matches, "history", 0, 16),
        refine_channels=whole(matches, "refine_channels", 1, 64),
        refine_weight=whole(matches, "refine_weight", 0, 16),
    )
    # Distances must stay below 2 ** 29: of clipped symbols they are at most 510 ** 2 a channel.
    if sum(rule.history) > 24 or rule.refine_weight * rule.refine_channels > 128:
        raise BundleError(f"{name}: the weights of matches are {rule}, expected smaller ones")
    stride, phases = whole(raw, "stride", 1, 64), whole(raw, "phases", 1, 64)
    spec = LatentSpec(
        stride=stride,
        phases=phases,
        slices=numbers(raw, "slices", 1, 64),
        reach=whole(raw, "reach", 1, 4096),
        encoder_halo=whole(raw, "encoder_halo", 0, 256),
        decoder_halo=whole(raw, "decoder_halo", 0, 256),
        rule=rule,
    )
    if stride != 16 or spec.channels > 64 or phases & (phases - 1):
        raise BundleError(
            f"{name}: the latent has stride {stride}, {spec.channels} channels and {phases} phases;"
            " expected are 16, at most 64, and a power of two"
        )
    return spec


def read_tables(bundle: Bundle, spec: LatentSpec) -> tuple[FineTables, ExactTables, Floats]:
    """Tables of symbols and of exact samples, and the quantization steps, positive float32 (levels,
    channels).

    Raises BundleError if tables.bin does not hold them.
    """
    data = bundle.read("tables.bin")
    sizes = [TABLE_BYTES, TABLE_BYTES, BINS * BINS, 4 * LEVELS * spec.channels]
    if len(data) != sum(sizes):
        raise BundleError(f"tables.bin has {len(data)} bytes, expected {sum(sizes)}")
    steps = np.frombuffer(data, "<f4", offset=sum(sizes[:3])).astype(np.float32)
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise BundleError("tables.bin has a quantization step that is not a positive number")
    scales = np.frombuffer(data, np.uint8, BINS * BINS, offset=2 * TABLE_BYTES)
    try:
        return (
            tables_at(data, 0),
            ExactTables(tables_at(data, TABLE_BYTES), scales.reshape(BINS, BINS)),
            steps.reshape(LEVELS, spec.channels),
        )
    except ValueError as error:
        raise BundleError(f"tables.bin: {error}") from None


def tables_at(data: bytes, begin: int) -> FineTables:
    """The tables whose bytes, TABLE_BYTES of them, begin there. Raises ValueError."""
    count = TABLES * ALPHABET
    frequencies = np.frombuffer(data, "<u2", count, offset=begin).astype(np.uint16)
    shifts = np.frombuffer(data, np.uint8, TABLES, offset=begin + 2 * count)
    return FineTables(frequencies.reshape(TABLES, ALPHABET), shifts)
