"""What a manifest says about the step graph of a streaming denoiser, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeae.bundle import Bundle
from edgeae.errors import BundleError
from edgeae.runtime import Graph

__all__ = ["MIN_RATE_HZ", "StreamSpec", "check_step_ports", "stream_spec"]

MIN_RATE_HZ = 8_000


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
            f"{name} is a denoiser of kind {layout.get('kind')!r}: one of kind 'audio' is needed"
        )
    if layout.get("channels") != 1:
        raise BundleError(f"{name}: channels is {layout.get('channels')!r}: 1 is allowed")
    if stream.get("window") != "sqrt_hann":
        raise BundleError(f"{name}: window is {stream.get('window')!r}: 'sqrt_hann' is allowed")
    window = _count(name, "window_samples", stream.get("window_samples"), 4)
    hop = _count(name, "hop_samples", stream.get("hop_samples"), 2)
    if window != 2 * hop:
        raise BundleError(
            f"{name}: hop_samples is {hop} for a window of {window}: half the window is allowed"
        )
    state = stream.get("state", {})
    if not isinstance(state, Mapping):
        raise BundleError(f"{name}: state is {state!r}: names with their shapes are allowed")
    shapes = []
    for key, shape in state.items():
        if not isinstance(shape, list):
            raise BundleError(f"{name}: the shape of state {key!r} is {shape!r}: a list is allowed")
        shapes.append(tuple(_count(name, f"an axis of state {key!r}", axis, 1) for axis in shape))
    return StreamSpec(
        rate_hz=_count(name, "sample_rate_hz", layout.get("sample_rate_hz"), MIN_RATE_HZ),
        window_samples=window,
        hop_samples=hop,
        lookahead_hops=_count(name, "lookahead_hops", stream.get("lookahead_hops", 0), 0),
        state_shapes=tuple(shapes),
    )


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
                f"{name}: the step graph's {side} are {types}: the manifest says float32 "
                f"{', '.join(str(shape) for shape in shapes)}"
            )


def _count(name: str, key: str, value: Any, least: int) -> int:
    if type(value) is not int or not least <= value <= 1 << 20:
        raise BundleError(f"{name}: {key} is {value!r}: a whole number from {least} is allowed")
    return value
