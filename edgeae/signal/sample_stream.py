"""One sensor signal on its way through a denoiser without transform: hops of samples and state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from edgeae.bundle import MAX_LOOKAHEAD_SAMPLES, Bundle
from edgeae.errors import BundleError, EdgeaeError
from edgeae.exclusive import Exclusive
from edgeae.runtime import Graph
from edgeae.signal.samples import stream_repr, whole_number

__all__ = ["SampleSpec", "SampleStream", "check_sample_ports", "check_samples", "sample_spec"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

MAX_RATE_HZ = 1 << 20
# A hop of more samples than this is no stream.
MAX_HOP_SAMPLES = 1 << 16
MAX_CHANNELS = 4096
# Squares of larger values leave the range of float32.
MAX_MAGNITUDE = 1e15
# The longest gap that is worth bridging; after a longer one a new stream is as good.
MAX_GAP_S = 10


@dataclass(frozen=True)
class SampleSpec:
    """Rates and shapes of a step graph over samples at `rate_hz`, in `unit`: it takes and gives a
    hop, and what it gives is `lookahead_samples` late."""

    rate_hz: int
    unit: str
    hop_samples: int
    lookahead_samples: int
    state_shapes: tuple[tuple[int, ...], ...]


def sample_spec(bundle: Bundle) -> SampleSpec:
    """The layout and stream sections of the manifest of a denoiser of sensor signals.

    Raises:
        BundleError: another kind of data, or a key that is missing or wrong, which is quoted.
    """
    name, layout = bundle.manifest.name, bundle.manifest.layout
    stream = bundle.manifest.stream or {}

    def count(section: Mapping[str, Any], key: str, least: int, most: int) -> int:
        value = section.get(key)
        if type(value) is not int or not least <= value <= most:
            raise BundleError(
                f"{name}: {key} is {value!r}, expected a whole number, {least} to {most}"
            )
        return value

    unit = layout.get("unit", "")
    if not isinstance(unit, str):
        raise BundleError(f"{name}: unit is {unit!r}, expected a string")
    state = stream.get("state", {})
    if not isinstance(state, Mapping):
        raise BundleError(f"{name}: state is {state!r}, expected names with their shapes")
    for key, shape in state.items():
        axes = shape if isinstance(shape, list) else [None]
        if not all(type(axis) is int and axis > 0 for axis in axes):
            raise BundleError(
                f"{name}: the shape of state {key!r} is {shape!r}, expected whole numbers"
            )
    return SampleSpec(
        rate_hz=count(layout, "sample_rate_hz", 1, MAX_RATE_HZ),
        unit=unit,
        hop_samples=count(stream, "hop_samples", 1, MAX_HOP_SAMPLES),
        lookahead_samples=count(stream, "lookahead_samples", 0, MAX_LOOKAHEAD_SAMPLES),
        state_shapes=tuple(tuple(shape) for shape in state.values()),
    )


def check_sample_ports(bundle: Bundle, spec: SampleSpec, step: Graph) -> None:
    """Checks the graph's ports: a hop (1, hop_samples) and the states, float32, on both sides.

    Raises:
        BundleError: the step graph does not take and give what the manifest says.
    """
    shapes = [(1, spec.hop_samples), *spec.state_shapes]
    for side, ports in (("inputs", step.inputs), ("outputs", step.outputs)):
        found = [port.shape for port in ports]
        if found != shapes or any(port.dtype != "float32" for port in ports):
            types = ", ".join(f"{port.dtype} {port.shape}" for port in ports)
            raise BundleError(
                f"{bundle.manifest.name}: the step graph's {side} are {types}, expected float32 "
                f"{', '.join(str(shape) for shape in shapes)} as the manifest says"
            )


def check_samples(samples: Array, unit: str) -> Array:
    """The array, if it is a signal in physical units, (samples,) or (samples, channels).

    Raises:
        TypeError: no numpy array, a masked one, or not float32 or float64.
        ValueError: another shape, NaN, infinity, or values that no sensor gives.
    """
    if not isinstance(samples, np.ndarray) or isinstance(samples, np.ma.MaskedArray):
        raise TypeError(f"samples are {type(samples).__name__}, expected a plain numpy array")
    if samples.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"samples are {samples.dtype}, expected float32 or float64 in {unit or 'their unit'}: "
            "counts of an ADC times its scale, plus its offset"
        )
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not samples.shape[1]):
        raise ValueError(
            f"samples have shape {samples.shape}, expected (samples,) or (samples, channels)"
        )
    if samples.ndim == 2 and samples.shape[1] > MAX_CHANNELS:
        raise ValueError(
            f"samples have shape {samples.shape}, expected (samples, channels) with at most "
            f"{MAX_CHANNELS} channels"
        )
    if samples.size and not np.abs(samples).max() <= MAX_MAGNITUDE:  # NaN fails too
        raise ValueError(
            f"samples hold NaN, infinity or more than {MAX_MAGNITUDE:g}, expected finite values"
        )
    return samples


class SampleStream:
    """One sensor signal on its way through a denoiser, made by `SignalDenoiser.stream`.

    For one thread at a time: a call while another thread is in one raises RuntimeError, as does
    every call but `reset` after an exception in the middle of a block. Everything that `process`
    and `flush` return, joined, holds the cleaned input sample n at n + delay, `delay` in samples.
    Nothing depends on how the input was cut into blocks.

    The first sample of each channel is taken for its level of zero and comes off all of them.
    """

    def __init__(
        self,
        step: Graph,
        spec: SampleSpec,
        *,
        channels: int,
        keep: float,
        block_samples: int | None,
    ) -> None:
        """Made by `SignalDenoiser.stream`, which checks the arguments."""
        self._step, self._spec, self._channels = step, spec, channels
        self._keep = np.float32(keep)
        # A block of b completes hops after multiples of gcd(b, hop) samples: one that lacks as much
        # of a hop as it ever can needs the rest to be there from before.
        hop = spec.hop_samples
        self._ahead = hop - math.gcd(block_samples, hop) if block_samples else 0
        self.delay = spec.lookahead_samples + self._ahead
        self._exclusive = Exclusive()
        self._begin()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a SampleStream cannot be copied or pickled: make another with SignalDenoiser.stream"
        )

    def __repr__(self) -> str:
        rate_hz = self._spec.rate_hz
        delay = f"{1000 * self.delay / rate_hz:.4g} ms delay"
        return stream_repr("SampleStream", self._channels, rate_hz, delay)

    def reset(self) -> None:
        """Forgets the signal: the stream is as new.

        Raises:
            RuntimeError: another thread is using the stream.
        """
        with self._exclusive:
            self._begin()

    def _begin(self) -> None:
        self._interrupted = False
        self._states = [
            [np.zeros(shape, np.float32) for shape in self._spec.state_shapes]
            for _ in range(self._channels)
        ]
        self._zero: Floats | None = None
        self._last = np.zeros(self._channels)
        self._pending = np.empty((0, self._channels), np.float32)
        # Where the output is late, so is the input that some of which is kept.
        self._past = np.zeros((self._spec.lookahead_samples, self._channels), np.float32)
        self._ready = np.zeros((self._ahead, self._channels), np.float32)
        self._received = self._emitted = 0
        self._dtype: np.dtype[Any] = np.dtype(np.float32)
        self._one_dimensional = self._channels == 1

    def process(self, block: Array) -> Array:
        """What the stream can give after this block, in the block's rank and dtype.

        Args:
            block: (samples,) for one channel, or (samples, channels), of any length, 0 included;
                float32 or float64 in the model's unit.

        Raises:
            ValueError: another shape, NaN or infinity; TypeError: another dtype. Both leave the
                stream as it was.
            RuntimeError: another thread is using the stream, or the last call was interrupted.
            EdgeaeError: the graph failed to run, or gave NaN or infinity.
        """
        with self._exclusive:
            self._check_whole()
            block = check_samples(block, self._spec.unit)
            channels = 1 if block.ndim == 1 else block.shape[1]
            if channels != self._channels:
                raise ValueError(
                    f"block has {channels} channels (shape {block.shape}), "
                    f"expected {self._channels} in this stream"
                )
            self._dtype, self._one_dimensional = block.dtype, block.ndim == 1
            self._take(block.reshape(len(block), channels))
            return self._give(self._received - self._emitted)

    def skip(self, frames: int) -> Array:
        """What the stream can give after so many samples that were lost on the way.

        As `process` of a block of that length that holds each channel's last value.

        Args:
            frames: 0 to 10 s of them.

        Raises:
            ValueError: more or fewer; TypeError: no whole number.
            RuntimeError, EdgeaeError: as `process`.
        """
        with self._exclusive:
            self._check_whole()
            frames = whole_number(frames, "frames", 0, MAX_GAP_S * self._spec.rate_hz)
            self._take(np.tile(self._last, (frames, 1)))
            return self._give(self._received - self._emitted)

    def flush(self) -> Array:
        """The rest of the signal, after its last block, in that block's rank and dtype.

        With it the stream has given `delay` samples more than it got. Then it is as new.

        Raises:
            RuntimeError, EdgeaeError: as `process`.
        """
        with self._exclusive:
            self._check_whole()
            rest = self._received + self.delay - self._emitted
            hop = self._spec.hop_samples
            # After its end a signal stays where it was.
            count = -(-(rest + hop) // hop) * hop
            self._take(np.tile(self._last, (count, 1)))
            last = self._give(rest)
            self._begin()
            return last

    def _check_whole(self) -> None:
        if self._interrupted:
            raise RuntimeError(
                "the stream was interrupted in the middle of a block, expected reset() before it "
                "goes on"
            )

    def _take(self, samples: Array) -> None:
        """Runs the hops that these samples (count, channels) complete."""
        self._interrupted = True
        if len(samples):
            if self._zero is None:
                self._zero = samples[0].copy()
            self._last = samples[-1].astype(np.float64)
            levelled = np.asarray(samples - self._zero, np.float32)
            self._pending = np.concatenate([self._pending, levelled])
            self._received += len(samples)
        hop = self._spec.hop_samples
        parts = [self._ready]
        whole = len(self._pending) // hop * hop
        for start in range(0, whole, hop):
            parts.append(self._hop(self._pending[start : start + hop]))
        self._pending = self._pending[whole:]
        self._ready = np.concatenate(parts)
        self._interrupted = False

    def _give(self, most: int) -> Array:
        """What is ready, at most so many samples: a callback gets as many as it brings."""
        out, self._ready = self._ready[:most], self._ready[most:]
        self._emitted += len(out)
        out = out[:, 0] if self._one_dimensional else out
        return out.astype(self._dtype, copy=False)

    def _hop(self, noisy: Floats) -> Floats:
        """The clean hop (hop_samples, channels) that the next noisy one completes."""
        clean = np.empty_like(noisy)
        for channel, states in enumerate(self._states):
            hop = np.ascontiguousarray(noisy[:, channel])[None]
            found, *after = self._step(hop, *states)
            if not np.isfinite(found).all():
                raise EdgeaeError(f"{self._step.file.name} gives numbers that are not finite")
            self._states[channel] = after
            clean[:, channel] = found[0]
        if self._keep and self._zero is not None:
            both = np.concatenate([self._past, noisy])
            self._past = both[len(noisy) :]
            before = both[: len(noisy)] + self._zero.astype(np.float32)
            clean += self._keep * (before - clean)
        return clean
