"""What a manifest says about the step graph of a streaming denoiser, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeae.bundle import MAX_AUDIO_RATE_HZ, MAX_LOOKAHEAD_HOPS, Bundle
from edgeae.errors import BundleError
from edgeae.runtime import Graph

__all__ = ["MIN_RATE_HZ", "StreamSpec", "check_step_ports", "stream_spec"]

MIN_RATE_HZ = 8_000
# Bounds of what a stream may cost, far above any model for speech: half a second at 16 kHz, a graph
# that runs at most 1000 times a second, 1 MiB of states a channel (the bundled model has 33 kB).
MAX_STFT_SAMPLES = 1 << 13
MIN_HOP_MS = 1
MAX_STATE_VALUES = 1 << 18


@dataclass(frozen=True)
class StreamSpec:
    """Rates and shapes of a step graph: samples at `rate_hz`, one state per shape and channel."""

    rate_hz: int
    window_samples: int
    hop_samples: int
    lookahead_hops: int
    state_shapes: tuple[tuple[int, ...], ...]

    @property
    def bins(self) -> int:
        """The number of frequency bins of a window's spectrum."""
        return self.window_samples // 2 + 1


def stream_spec(bundle: Bundle) -> StreamSpec:
    """The layout and stream sections of the manifest of a denoiser of audio.

    Raises:
        BundleError: another kind of data, or a key that is missing or wrong, which is quoted.
    """
    name, layout = bundle.manifest.name, bundle.manifest.layout
    stream = bundle.manifest.stream or {}
    if layout.get("kind") != "audio":
        raise BundleError(
            f"{name} is a denoiser of kind {layout.get('kind')!r}, expected kind 'audio'"
        )
    if layout.get("channels") != 1:
        raise BundleError(f"{name}: channels is {layout.get('channels')!r}, expected 1")
    if stream.get("window") != "sqrt_hann":
        raise BundleError(f"{name}: window is {stream.get('window')!r}, expected 'sqrt_hann'")
    rate_hz = _count(
        name, "sample_rate_hz", layout.get("sample_rate_hz"), MIN_RATE_HZ, MAX_AUDIO_RATE_HZ
    )
    window = _count(name, "window_samples", stream.get("window_samples"), 4, MAX_STFT_SAMPLES)
    hop = _count(name, "hop_samples", stream.get("hop_samples"), 2, MAX_STFT_SAMPLES)
    if window != 2 * hop:
        raise BundleError(
            f"{name}: hop_samples is {hop} for a window of {window}, expected half the window"
        )
    if 1000 * hop < MIN_HOP_MS * rate_hz:
        raise BundleError(
            f"{name}: hop_samples is {hop} at {rate_hz} Hz, expected at least {MIN_HOP_MS} ms"
        )
    return StreamSpec(
        rate_hz=rate_hz,
        window_samples=window,
        hop_samples=hop,
        lookahead_hops=_count(
            name, "lookahead_hops", stream.get("lookahead_hops", 0), 0, MAX_LOOKAHEAD_HOPS
        ),
        state_shapes=_state_shapes(name, stream.get("state", {})),
    )


def _state_shapes(name: str, state: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of the states, in the manifest's order."""
    if not isinstance(state, Mapping):
        raise BundleError(f"{name}: state is {state!r}, expected names with their shapes")
    shapes = []
    for key, shape in state.items():
        if not isinstance(shape, list):
            raise BundleError(f"{name}: the shape of state {key!r} is {shape!r}, expected a list")
        shapes.append(
            tuple(
                _count(name, f"an axis of state {key!r}", axis, 1, MAX_STATE_VALUES)
                for axis in shape
            )
        )
    values = sum(math.prod(shape) for shape in shapes)
    if values > MAX_STATE_VALUES:
        raise BundleError(
            f"{name}: the states hold {values} values, expected at most {MAX_STATE_VALUES}"
        )
    return tuple(shapes)


def check_step_ports(bundle: Bundle, spec: StreamSpec, step: Graph) -> None:
    """Checks the graph's ports: a spectrum (1, 2, bins) and the states, float32, on both sides.

    Raises:
        BundleError: the step graph does not take and give what the manifest says.
    """
    name = bundle.manifest.name
    shapes = [(1, 2, spec.bins), *spec.state_shapes]
    for side, ports in (("inputs", step.inputs), ("outputs", step.outputs)):
        found = [port.shape for port in ports]
        if found != shapes or any(port.dtype != "float32" for port in ports):
            types = ", ".join(f"{port.dtype} {port.shape}" for port in ports)
            raise BundleError(
                f"{name}: the step graph's {side} are {types}, expected float32 "
                f"{', '.join(str(shape) for shape in shapes)} as the manifest says"
            )


def _count(name: str, key: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise BundleError(f"{name}: {key} is {value!r}, expected a whole number, {least} to {most}")
    return value
