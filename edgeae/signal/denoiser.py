"""The streaming denoiser: noisy audio in, clean audio out, at any rate, in blocks of any length."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.bundle import Bundle, find
from edgeae.errors import BundleError
from edgeae.providers import Provider
from edgeae.runtime import Graph
from edgeae.signal.full_band import Detour, shift
from edgeae.signal.stft import Floats, Spectrum, Stft
from edgeae.signal.timetable import Schedule, schedule

__all__ = ["SignalDenoiser", "Stream"]

Array = npt.NDArray[Any]

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 96_000
# Nobody streams more channels through one speech model; a transposed array has thousands.
MAX_CHANNELS = 64
# Float audio is in [-1, 1] and may overshoot. 60 dB above full scale is a scaling mistake, such as
# 16-bit values in a float array, and squares of far larger values leave the range of float32.
MAX_MAGNITUDE = 1000.0
# A lost block: how long what was heard goes on, mirrored and fading, and how long the sound takes
# to come back. An edge of 2.5 ms is too slow to click; longer ones cost more of the signal.
FADE_S = 0.0025
# The longest gap that is worth its silence; after a longer one a new stream is as good.
MAX_GAP_S = 10

# `denoise` works through a long array in pieces, so that it needs little more than its result.
PIECE_SAMPLES = 1 << 16

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int16))


class SignalDenoiser:
    """A speech denoiser: one model that any number of streams and threads may share.

    The model hears one band, up to half its own sample rate (8 kHz for a 16 kHz model). The rest of
    the input is kept under a stated rule, so nothing is silently lost: what resampling to the
    model's rate cannot carry (at rates above the model's: everything above about 7.5 kHz) is the
    input less its resampled copy. It goes to the output at the right time, times one smooth gain:
    the square root of output over input energy of the model in the upper half of the band it hears
    (4 to 7 kHz), averaged over 25 ms, never above 1. Where the model removes noise up there, the
    band above falls with it; where it keeps speech, the band above stays.

    >>> denoiser = SignalDenoiser.load("speech-denoiser")  # doctest: +SKIP
    >>> clean = denoiser.denoise(noisy, sample_rate=48_000)  # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle, *, precision: str, step: Graph) -> None:
        """`load` makes one from a bundle. Raises BundleError if the graph and manifest disagree."""
        self.bundle = bundle
        self._precision = precision
        self._step = step
        self._spec = _spec(bundle)
        _check_ports(bundle, self._spec, step)

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
    ) -> SignalDenoiser:
        """The denoiser in a bundle: a bundled name or a directory.

        `providers`, `device`, `threads` and `strict` are those of `Graph`.

        Raises BundleError for a bundle that is missing, damaged or of another task, ProviderError
        for a provider that this machine cannot give.
        """
        bundle = find(model)
        if bundle.manifest.task != "denoiser":
            raise BundleError(
                f"{bundle.manifest.name} is a {bundle.manifest.task}: a denoiser is needed"
            )
        precision = bundle.precision(precision)
        file = bundle.graph_file("step", precision)
        step = Graph(file, providers=providers, device=device, threads=threads, strict=strict)
        return cls(bundle, precision=precision, step=step)

    def denoise(
        self, noisy: Array, *, sample_rate: int, attenuation_limit_db: float | None = None
    ) -> Array:
        """The clean audio, aligned with the input and of its shape, dtype and rate.

        `noisy` is (frames,) or (frames, channels), float32 or float64 in [-1, 1], or int16;
        channels are cleaned one by one. `sample_rate` is 8,000 to 96,000 Hz.
        `attenuation_limit_db` keeps some of the noise: clean + 10^(-limit / 20) (noisy - clean), so
        0 gives the input back and None removes all that the model can.
        Raises ValueError for no frames, NaN, infinity or a rate or limit outside those ranges, and
        TypeError for any other dtype.
        """
        noisy = _checked(noisy)
        if len(noisy) == 0:
            raise ValueError(f"noisy has shape {noisy.shape}: at least one frame is allowed")
        stream = self.stream(
            sample_rate=sample_rate,
            channels=1 if noisy.ndim == 1 else noisy.shape[1],
            attenuation_limit_db=attenuation_limit_db,
        )
        clean = np.empty(noisy.shape, noisy.dtype)
        end = -stream.delay
        for start in range(0, len(noisy), PIECE_SAMPLES):
            piece = stream.process(noisy[start : start + PIECE_SAMPLES])
            end += len(piece)
            if end > 0:
                piece = piece[-end:]
                clean[end - len(piece) : end] = piece
        tail = stream.flush()
        rest = len(clean) - max(end, 0)
        clean[len(clean) - rest :] = tail[len(tail) - rest :]
        return clean

    def stream(
        self,
        *,
        sample_rate: int,
        channels: int = 1,
        attenuation_limit_db: float | None = None,
        block_samples: int | None = None,
    ) -> Stream:
        """A new stream with its own state; see `denoise` for the arguments.

        A live callback that must return as many samples as it gets passes their number as
        `block_samples`: every `process` of such a block then returns a block, at the smallest
        delay that allows it. By default the delay is that of whole hops, and other blocks return
        now a hop more, now nothing.
        """
        rate = _whole(sample_rate, "sample_rate", MIN_RATE_HZ, MAX_RATE_HZ)
        channels = _whole(channels, "channels", 1, MAX_CHANNELS)
        if block_samples is not None:
            block_samples = _whole(block_samples, "block_samples", 1, MAX_RATE_HZ)
        spec = self._spec
        timetable = schedule(rate, spec.rate_hz, spec.hop_samples, spec.lookahead_hops)
        return Stream(
            self._step,
            spec,
            timetable,
            channels=channels,
            keep=_kept_part(attenuation_limit_db),
            delay=timetable.delay(block_samples),
        )

    @property
    def graphs(self) -> dict[str, Graph]:
        """The graphs that run, by role."""
        return {"step": self._step}

    def report(self) -> dict[str, Any]:
        """What was loaded and where it runs: {"bundle": id, "name", "precision", "graphs"}."""
        return {
            "bundle": self.bundle.id,
            "name": self.bundle.manifest.name,
            "precision": self._precision,
            "graphs": {role: graph.report() for role, graph in self.graphs.items()},
        }


class Stream:
    """One signal on its way through a denoiser, made by `SignalDenoiser.stream`.

    For one thread at a time.

    Everything that `process` and `flush` return, joined, holds the cleaned input sample n at
    n + delay; `delay` counts samples at the input's rate. What stands before is silence or the
    faint beginning of the first window. Nothing depends on how the input was cut into blocks.
    """

    def __init__(
        self,
        step: Graph,
        spec: _Spec,
        timetable: Schedule,
        *,
        channels: int,
        keep: float,
        delay: int,
    ) -> None:
        """Made by `SignalDenoiser.stream`, which checks the arguments."""
        self.delay = delay
        self._spec = spec
        self._schedule = timetable
        self._channels = channels
        self._keep = np.float32(keep)
        self._stft = Stft(spec.window_samples, channels=channels)
        self._clean_spectrum = np.zeros((channels, self._stft.bins), np.complex64)
        # What the graph hears and says, and its states of every channel before and after a step:
        # from one to the next step the two change places, so that nothing is copied.
        self._spectrum, self._answer = np.zeros((2, 1, 2, self._stft.bins), np.float32)
        self._states = [
            [[np.zeros(shape, np.float32) for shape in spec.state_shapes] for _ in range(2)]
            for _ in range(channels)
        ]
        self._steps = [
            [
                step.bind([self._spectrum, *before], [self._answer, *after])
                for before, after in (pair, pair[::-1])
            ]
            for pair in self._states
        ]
        self._clean = np.empty((channels, spec.hop_samples), np.float32)
        # All buffers end at the newest sample, so a hop finds everything at the same place and adds
        # in the same order however the input was cut: outputs are equal to the last bit.
        self._input = np.empty((channels, timetable.input_history()), np.float32)
        self._waiting = np.empty((channels, delay + timetable.longest_output()), np.float32)
        self._heard = self._input
        resampled = timetable.to_model
        self._rate_hz = spec.rate_hz if resampled is None else resampled.rate_in_hz
        steps = round(FADE_S * self._rate_hz)
        self._ramp = np.sin(np.pi / 2 * (np.arange(steps) + 0.5) / steps).astype(np.float32) ** 2
        self._detour: Detour | None = None
        if timetable.to_model is not None and timetable.to_input is not None:
            self._detour = Detour(
                timetable,
                to_model=timetable.to_model,
                to_input=timetable.to_input,
                noisy=self._input,
            )
            self._heard = self._detour.heard
        self.reset()

    def reset(self) -> None:
        """Forgets the signal: the stream is as new."""
        self._stft.reset()
        if self._detour is not None:
            self._detour.reset()
        for pair in self._states:
            for state in (*pair[0], *pair[1]):
                state[...] = 0.0
        self._input[...] = 0.0
        self._waiting[...] = 0.0
        # What hop 0 finds finished is the time before the signal: the delay begins with zeros.
        self._waits = self.delay + self._schedule.outputs_for(-1)
        self._fade_in = self._ramp[:0]
        self._received = 0
        self._emitted = 0
        self._hop = 0
        self._needed = self._schedule.inputs_for(0)
        self._dtype = np.dtype(np.float32)
        self._flat = self._channels == 1

    def process(self, block: Array) -> Array:
        """What the stream can give after this block: audio of the block's rank and dtype.

        `block` is (frames,) for one channel, or (frames, channels), of any length, 0 included.
        Raises ValueError or TypeError as `denoise` does, and then leaves the stream as it was.
        """
        block = _checked(block)
        channels = 1 if block.ndim == 1 else block.shape[1]
        if channels != self._channels:
            raise ValueError(
                f"block has {channels} channels (shape {block.shape}): "
                f"{self._channels} are allowed in this stream"
            )
        self._dtype = block.dtype
        self._flat = block.ndim == 1
        return self._take(block[None, :] if self._flat else block.T)

    def skip(self, frames: int) -> Array:
        """What the stream can give after so many frames that were lost on the way: as `process`
        of a block of that length, in the last block's rank and dtype.

        Time goes on as if they had come, so everything after them stays in its place. In their
        place the stream hears the last 2.5 ms mirrored and fading out, then silence; the first
        2.5 ms of the next block fade in. What was given before is exact, and so is what follows
        once the model has forgotten the gap. `frames` is 0 to 10 s; raises ValueError or TypeError.
        """
        frames = _whole(frames, "frames", 0, MAX_GAP_S * self._rate_hz)
        lost = np.zeros((self._channels, frames), np.float32)
        end = self._input.shape[1] - (self._needed - self._received)
        count = min(frames, end, len(self._ramp))
        lost[:, :count] = self._input[:, end - count : end][:, ::-1] * self._ramp[::-1][:count]
        self._fade_in = self._ramp[:0]
        out = self._take(lost)
        if frames:
            self._fade_in = self._ramp
        return out

    def _take(self, samples: Array) -> Array:
        """What is ready once these samples (channels, frames) have come in."""
        frames = samples.shape[1]
        received = self._received + frames
        due = min(received, self.delay + self._schedule.outputs_after(received))
        out = np.empty((due - self._emitted, self._channels), np.float32)
        written = self._drain(out, 0)
        taken = 0
        while taken < frames:
            count = min(frames - taken, self._needed - self._received)
            self._fill(samples[:, taken : taken + count])
            taken += count
            if self._received == self._needed:
                self._advance()
                written = self._drain(out, written)
        self._emitted = due
        return _as_given(out, self._dtype, self._flat)

    def flush(self) -> Array:
        """The rest of the signal, after its last block, in that block's rank and dtype.

        With it the stream has given `delay` samples more than it got. Then it is as new.
        """
        rest = self._received + self.delay - self._emitted
        out = np.empty((rest, self._channels), np.float32)
        written = self._drain(out, 0)
        while written < rest:
            self._input[:, self._received - self._needed :] = 0.0
            self._received = self._needed
            self._advance()
            written = self._drain(out, written)
        clean = _as_given(out, self._dtype, self._flat)
        self.reset()
        return clean

    def _fill(self, samples: Array) -> None:
        """Puts samples (channels, count) at their place in the input buffer, in [-1, 1]."""
        start = self._input.shape[1] - (self._needed - self._received)
        place = self._input[:, start : start + samples.shape[1]]
        if samples.dtype == np.int16:
            np.multiply(samples, np.float32(1 / 32768), out=place)
        else:
            place[...] = samples
        if len(self._fade_in):
            part = self._fade_in[: place.shape[1]]
            place[:, : len(part)] *= part
            self._fade_in = self._fade_in[len(part) :]
        self._received += samples.shape[1]

    def _drain(self, out: Floats, written: int) -> int:
        """Moves what waits to `out` (frames, channels) from row `written`, as far as both reach."""
        count = min(self._waits, len(out) - written)
        if count > 0:
            out[written : written + count] = self._waiting[:, :count].T
            self._waits -= count
            if self._waits:
                self._waiting[:, : self._waits] = self._waiting[:, count : count + self._waits]
        return written + count

    def _advance(self) -> None:
        """Runs one hop, the input buffer being full, and makes room in it for the next."""
        hop = self._hop
        count = self._schedule.outputs_for(hop) - self._schedule.outputs_for(hop - 1)
        out = self._waiting[:, self._waits : self._waits + count]
        if self._detour is None:
            self._run_model()
            np.multiply(self._clean, np.float32(1) - self._keep, out=out)
            if self._keep:
                out += self._keep * self._input[:, :count]
        else:
            self._detour.hear(hop)
            self._detour.judge(*self._run_model())
            self._detour.finish(hop, self._clean, keep=self._keep, out=out)
        self._waits += count
        self._hop += 1
        needed = self._schedule.inputs_for(self._hop)
        shift(self._input, needed - self._needed)
        self._needed = needed

    def _run_model(self) -> tuple[Spectrum, Spectrum]:
        """The noisy and clean spectra (channels, bins) of a step; finishes a hop in `_clean`."""
        noisy = self._stft.analyze(self._heard[:, -self._spec.window_samples :])
        clean = self._clean_spectrum
        turn = self._hop & 1
        for channel, steps in enumerate(self._steps):
            self._spectrum[0] = _parts(noisy[channel])
            steps[turn]()
            _parts(clean[channel])[...] = self._answer[0]
        self._stft.synthesize(clean, self._clean)
        return noisy, clean


def _parts(spectrum: Spectrum) -> Floats:
    """A view (2, bins) of a spectrum (bins,): its real and its imaginary parts."""
    return spectrum.view(np.float32).reshape(-1, 2).T


@dataclass(frozen=True)
class _Spec:
    """What the manifest says about the step graph."""

    rate_hz: int
    window_samples: int
    hop_samples: int
    lookahead_hops: int
    state_shapes: tuple[tuple[int, ...], ...]


def _spec(bundle: Bundle) -> _Spec:
    """The manifest's layout and stream sections, checked; raises BundleError, quoting the key."""
    name, layout = bundle.manifest.name, bundle.manifest.layout
    stream = bundle.manifest.stream or {}
    if layout.get("kind") != "audio" or layout.get("channels") != 1:
        raise BundleError(
            f"{name}: layout is {layout.get('kind')!r} with {layout.get('channels')!r} channels: "
            "'audio' with 1 channel is allowed"
        )
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
    return _Spec(
        rate_hz=_count(name, "sample_rate_hz", layout.get("sample_rate_hz"), MIN_RATE_HZ),
        window_samples=window,
        hop_samples=hop,
        lookahead_hops=_count(name, "lookahead_hops", stream.get("lookahead_hops", 0), 0),
        state_shapes=tuple(shapes),
    )


def _check_ports(bundle: Bundle, spec: _Spec, step: Graph) -> None:
    """Raises BundleError if the step graph does not take and give what the manifest says."""
    name = bundle.manifest.name
    shapes = [(1, 2, spec.window_samples // 2 + 1), *spec.state_shapes]
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


def _checked(audio: Array) -> Array:
    """The array, if it is audio as `denoise` takes it; else ValueError or TypeError."""
    if not isinstance(audio, np.ndarray):
        raise TypeError(f"audio is a {type(audio).__name__}: a numpy array is allowed")
    if audio.dtype not in _DTYPES:
        raise TypeError(f"audio is {audio.dtype}: float32, float64 and int16 are allowed")
    if audio.ndim not in (1, 2):
        raise ValueError(
            f"audio has shape {audio.shape}: (frames,) and (frames, channels) are allowed"
        )
    if audio.ndim == 2 and not 1 <= audio.shape[1] <= MAX_CHANNELS:
        raise ValueError(
            f"audio has shape {audio.shape}: (frames, channels) with 1 to {MAX_CHANNELS} channels "
            "is allowed"
        )
    # Most audio passes the quick test: if the sum of squares is in range, every sample is. No
    # comparison with NaN holds, and minimum and maximum are NaN if any sample is.
    if audio.dtype.kind == "f" and not np.vdot(audio, audio) <= MAX_MAGNITUDE**2:
        lowest, highest = audio.min(), audio.max()
        if not (-MAX_MAGNITUDE <= lowest and highest <= MAX_MAGNITUDE):
            if not (np.isfinite(lowest) and np.isfinite(highest)):
                raise ValueError("audio holds NaN or infinity: finite samples are allowed")
            raise ValueError(
                f"audio runs from {lowest:g} to {highest:g}: float audio is in [-1, 1], and int16 "
                "is allowed for 16-bit values"
            )
    return audio


def _as_given(audio: Floats, dtype: np.dtype[Any], flat: bool) -> Array:
    """Audio (frames, channels) in the caller's dtype, without the channel axis if `flat`."""
    if flat:
        audio = audio[:, 0]
    if dtype == np.int16:
        return np.asarray(np.clip(np.rint(audio * np.float32(32768)), -32768, 32767), np.int16)
    return audio.astype(dtype, copy=False)


def _whole(value: Any, name: str, least: int, most: int) -> int:
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}: a whole number is allowed") from None
    if not least <= number <= most:
        raise ValueError(f"{name} is {number}: {least} to {most} are allowed")
    return number


def _kept_part(attenuation_limit_db: float | None) -> float:
    """The part of the noise that stays in the output, 0 to 1."""
    if attenuation_limit_db is None:
        return 0.0
    try:
        limit_db = float(attenuation_limit_db)
    except (TypeError, ValueError):
        raise TypeError(
            f"attenuation_limit_db is {attenuation_limit_db!r}: None or a number is allowed"
        ) from None
    if not 0.0 <= limit_db < math.inf:
        raise ValueError(
            f"attenuation_limit_db is {limit_db:g}: None or a finite number from 0 is allowed"
        )
    return float(10.0 ** (-limit_db / 20.0))
