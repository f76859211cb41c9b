"""One signal on its way through a denoiser: buffers, hops and state, for blocks of any length."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from edgeae.exclusive import Exclusive
from edgeae.runtime import Graph
from edgeae.signal.full_band import FullBand, drop_oldest
from edgeae.signal.hop_schedule import HopSchedule
from edgeae.signal.model_step import ModelStep
from edgeae.signal.samples import Array, as_given, check_audio, stream_repr, whole_number
from edgeae.signal.spec import StreamSpec
from edgeae.signal.stft import Floats, Spectrum, Stft

__all__ = ["Stream"]

# A lost block: how long the signal before it goes on, mirrored and fading, and how long the signal
# takes to come back. An edge of 2.5 ms is too slow to click; longer ones cost more of the signal.
FADE_S = 0.0025
# The longest gap that is worth its silence; after a longer one a new stream is as good.
MAX_GAP_S = 10


class Stream:
    """One signal on its way through a denoiser, made by `SignalDenoiser.stream`.

    For one thread at a time: a call while another thread is in one raises RuntimeError. After an
    exception in the middle of a block (KeyboardInterrupt, a graph that fails) every call but
    `reset` raises RuntimeError. A stream is neither copied nor pickled: its graph writes into
    arrays of its own.

    Everything that `process` and `flush` return, joined, holds the cleaned input sample n at
    n + delay; `delay` counts samples at the input's rate. Without `block_samples` up to a hop more
    passes until it is given out, as a hop has to be full before it runs. What stands before is
    silence or the faint beginning of the first window. Nothing depends on how the input was cut
    into blocks.
    """

    def __init__(
        self,
        step: Graph,
        spec: StreamSpec,
        schedule: HopSchedule,
        *,
        rate_hz: int,
        channels: int,
        link_channels: bool,
        keep: float,
        delay: int,
    ) -> None:
        """Made by `SignalDenoiser.stream`, which checks the arguments."""
        self.delay = delay
        self._exclusive = Exclusive()
        self._window_samples = spec.window_samples
        self._schedule = schedule
        self._rate_hz = rate_hz
        self._channels = channels
        self._keep = np.float32(keep)
        self._stft = Stft(spec.window_samples, channels=channels)
        self._model = ModelStep(step, spec, channels=channels, link_channels=link_channels)
        self._clean = np.empty((channels, spec.hop_samples), np.float32)
        # All buffers end at the newest sample, so a hop finds everything at the same place and adds
        # in the same order however the input was cut: outputs are equal to the last bit.
        self._input = np.empty((channels, schedule.input_history()), np.float32)
        self._waiting = np.empty((channels, delay + schedule.longest_output()), np.float32)
        self._model_input = self._input
        steps = round(FADE_S * rate_hz)
        self._ramp = np.sin(np.pi / 2 * (np.arange(steps) + 0.5) / steps).astype(np.float32) ** 2
        self._full_band: FullBand | None = None
        if schedule.to_model is not None and schedule.to_input is not None:
            self._full_band = FullBand(
                schedule,
                to_model=schedule.to_model,
                to_input=schedule.to_input,
                noisy=self._input,
                link_channels=link_channels,
            )
            self._model_input = self._full_band.model_input
        self._begin()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Stream cannot be copied or pickled: make another with SignalDenoiser.stream"
        )

    def __repr__(self) -> str:
        delay_ms = 1000 * self.delay / self._rate_hz
        return stream_repr("Stream", self._channels, self._rate_hz, f"{delay_ms:.4g} ms delay")

    def reset(self) -> None:
        """Forgets the signal: the stream is as new.

        Raises:
            RuntimeError: another thread is using the stream.
        """
        with self._exclusive:
            self._begin()

    def _begin(self) -> None:
        """Sets everything to the time before a signal."""
        self._interrupted = False
        self._stft.reset()
        self._model.reset()
        if self._full_band is not None:
            self._full_band.reset()
        self._input[...] = 0.0
        self._waiting[...] = 0.0
        # What hop 0 finds finished is the time before the signal: the delay begins with zeros.
        self._waits = self.delay + self._schedule.outputs_final(-1)
        self._fade_in = self._ramp[:0]
        self._received = 0
        self._emitted = 0
        self._hop = 0
        self._needed = self._schedule.inputs_needed(0)
        self._dtype: np.dtype[Any] = np.dtype(np.float32)
        self._one_dimensional = self._channels == 1

    def process(self, block: Array) -> Array:
        """What the stream can give after this block, in the block's rank and dtype.

        Args:
            block: (frames,) for one channel, or (frames, channels), of any length, 0 included;
                float32 or float64 in [-1, 1], or int16.

        Raises:
            ValueError: another shape, NaN, infinity or samples out of range; TypeError: another
                dtype. Both leave the stream as it was.
            RuntimeError: another thread is using the stream, or the last call was interrupted.
            EdgeaeError: the graph failed to run, or gave NaN or infinity.
        """
        with self._exclusive:
            self._check_whole()
            block = check_audio(block)
            channels = 1 if block.ndim == 1 else block.shape[1]
            if channels != self._channels:
                raise ValueError(
                    f"block has {channels} channels (shape {block.shape}), "
                    f"expected {self._channels} in this stream"
                )
            self._interrupted = True
            self._dtype = block.dtype
            self._one_dimensional = block.ndim == 1
            out = self._take(block[None, :] if self._one_dimensional else block.T)
            self._interrupted = False
            return out

    def skip(self, frames: int) -> Array:
        """What the stream can give after so many frames that were lost on the way.

        As `process` of a block of that length, in the last block's rank and dtype. Time goes on as
        if they had come, so everything after them stays in its place. In their place the model gets
        the last 2.5 ms mirrored and fading out, then silence; the first 2.5 ms of the next block
        fade in. What was given before is exact, and so is what follows once the model has
        forgotten the gap.

        Args:
            frames: 0 to 10 s of them.

        Raises:
            ValueError: more or fewer; TypeError: no whole number.
            RuntimeError, EdgeaeError: as `process`.
        """
        with self._exclusive:
            self._check_whole()
            frames = whole_number(frames, "frames", 0, MAX_GAP_S * self._rate_hz)
            self._interrupted = True
            lost = np.zeros((self._channels, frames), np.float32)
            end = self._input.shape[1] - (self._needed - self._received)
            count = min(frames, end, len(self._ramp))
            lost[:, :count] = self._input[:, end - count : end][:, ::-1] * self._ramp[::-1][:count]
            self._fade_in = self._ramp[:0]
            out = self._take(lost)
            if frames:
                self._fade_in = self._ramp
            self._interrupted = False
            return out

    def flush(self) -> Array:
        """The rest of the signal, after its last block, in that block's rank and dtype.

        With it the stream has given `delay` samples more than it got. Then it is as new.

        Raises:
            RuntimeError, EdgeaeError: as `process`.
        """
        with self._exclusive:
            self._check_whole()
            self._interrupted = True
            rest = self._received + self.delay - self._emitted
            out = np.empty((rest, self._channels), np.float32)
            written = self._drain(out, 0)
            while written < rest:
                self._input[:, self._received - self._needed :] = 0.0
                self._received = self._needed
                self._advance()
                written = self._drain(out, written)
            clean = as_given(out, self._dtype, self._one_dimensional)
            self._begin()
            return clean

    def _check_whole(self) -> None:
        """Raises RuntimeError if a call ended in the middle of a block."""
        if self._interrupted:
            raise RuntimeError(
                "the stream was interrupted in the middle of a block, expected reset() before it "
                "goes on"
            )

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
        return as_given(out, self._dtype, self._one_dimensional)

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
        count = self._schedule.outputs_final(hop) - self._schedule.outputs_final(hop - 1)
        out = self._waiting[:, self._waits : self._waits + count]
        if self._full_band is None:
            self._run_model()
            np.multiply(self._clean, np.float32(1) - self._keep, out=out)
            if self._keep:
                out += self._keep * self._input[:, :count]
        else:
            self._full_band.resample_input(hop)
            noisy, clean = self._run_model()
            self._full_band.update_gain(noisy, clean, silent=self._model.silent)
            self._full_band.combine(hop, self._clean, keep=self._keep, out=out)
        self._waits += count
        self._hop += 1
        needed = self._schedule.inputs_needed(self._hop)
        drop_oldest(self._input, needed - self._needed)
        self._needed = needed

    def _run_model(self) -> tuple[Spectrum, Spectrum]:
        """The noisy and clean spectra (channels, bins) of a step; finishes a hop in `_clean`."""
        frame = self._model_input[:, -self._window_samples :]
        noisy = self._stft.analyze(frame)
        clean = self._model.run(noisy, np.abs(frame).max(axis=1))
        self._stft.synthesize(clean, self._clean)
        return noisy, clean
