"""The way of audio at another rate to the model's rate and back, and what it cannot carry.

With x the input, h the input as the model hears it, c the model's output and g the gain of what
the model cannot hear (`Denoiser` states the rule), the output is

    g (x - back(h)) + back(c)  =  g x + back(c - g h)

so there is one resampling back, and an input that the model leaves alone comes out as it was,
however gentle the resampling filters are.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from .resample import PASS_EDGE, Resampler
from .schedule import Schedule
from .stft import Floats, Spectrum, sqrt_hann

__all__ = ["Detour", "shift"]

# How long the band energies behind the gain are averaged: about the onset of a consonant.
GAIN_TIME_S = 0.025
# The energy of a band of a 512-sample frame is near 1e-6 for 16-bit rounding noise. Far below it
# a ratio of energies means nothing, and the gain is 1: silence leaves what is above untouched.
GAIN_FLOOR = 1e-10

Energies = npt.NDArray[np.floating[Any]]


class Detour:
    """The buffers of one stream between its rate and the model's; each ends with the newest sample.

    `heard` (channels, samples) is the input at the model's rate, from the oldest sample of the hop
    that a frame completes to the frame's last.
    """

    def __init__(
        self,
        timetable: Schedule,
        *,
        to_model: Resampler,
        to_input: Resampler,
        noisy: Floats,
    ) -> None:
        """`noisy` is the stream's input buffer, which this reads whenever a hop runs."""
        channels, hop = noisy.shape[0], timetable.hop_samples
        self._schedule = timetable
        self._to_model = to_model
        self._to_input = to_input
        self._noisy = noisy
        self._noisy_windows = to_model.windows(noisy)
        self.heard = np.empty((channels, (2 + timetable.lookahead_hops) * hop), np.float32)
        self._change = np.empty((channels, timetable.change_history()), np.float32)
        self._change_windows = to_input.windows(self._change)
        self._gain = np.empty((channels, self._change.shape[1]), np.float32)
        # The gain goes from frame to frame as the overlap-add does: one square window to the next.
        self._fade_in = np.square(sqrt_hann(2 * hop)[:hop])
        lower_hz = min(to_model.rate_in_hz, to_model.rate_out_hz)
        bin_hz = to_model.rate_out_hz / (2 * hop)
        self._band = slice(
            math.ceil(lower_hz / 4 / bin_hz), math.ceil(PASS_EDGE * lower_hz / 2 / bin_hz)
        )
        self._memory = math.exp(-hop / to_model.rate_out_hz / GAIN_TIME_S)
        self.reset()

    def reset(self) -> None:
        """Forgets the signal."""
        channels = len(self._noisy)
        self.heard[...] = 0.0
        self._change[...] = 0.0
        self._gain[...] = 1.0
        self._last_gain = np.ones((channels, 1), np.float32)
        self._energy_in = np.zeros(channels)
        self._energy_out = np.zeros(channels)
        lookahead = self._schedule.lookahead_hops
        self._frames: deque[Energies] = deque([np.zeros(channels)] * lookahead, lookahead + 1)

    def hear(self, hop: int) -> None:
        """Resamples the part of the input that hop number `hop` adds to `heard`."""
        count = self._schedule.hop_samples
        start = self._schedule.inputs_for(hop) - self._noisy.shape[1]
        first = self._schedule.heard(hop - 1)
        shift(self.heard, count)
        self.heard[:, -count:] = self._to_model.run(self._noisy_windows, start, first, count)

    def judge(self, noisy: Spectrum, clean: Spectrum) -> None:
        """Takes a step into the gain: the newest noisy frame, and the frame the model cleaned."""
        self._frames.append(self._energy(noisy))
        self._energy_in += (1 - self._memory) * (self._frames[0] - self._energy_in)
        self._energy_out += (1 - self._memory) * (self._energy(clean) - self._energy_out)
        ratio = (self._energy_out + GAIN_FLOOR) / (self._energy_in + GAIN_FLOOR)
        gain = np.sqrt(np.minimum(ratio, 1.0)).astype(np.float32)[:, None]
        count = self._schedule.hop_samples
        shift(self._gain, count)
        self._gain[:, -count:] = self._last_gain + self._fade_in * (gain - self._last_gain)
        self._last_gain = gain

    def finish(self, hop: int, clean: Floats, first: int, *, keep: np.float32, out: Floats) -> None:
        """Writes output samples first, first + 1, ... to `out` (channels, count).

        `clean` (channels, hop) is what the hop finished; `keep` the part of the noise that stays.
        """
        count = self._schedule.hop_samples
        shift(self._change, count)
        change = self._change[:, -count:]
        np.multiply(self._gain[:, -count:], self.heard[:, :count], out=change)
        np.subtract(clean, change, out=change)

        start = self._schedule.cleaned(hop) - self._change.shape[1]
        count = out.shape[1]
        removed = np.float32(1) - keep
        gain = self._to_input.interpolate(self._gain, start, first, count)
        gain *= removed
        gain += keep
        dry = first + self._noisy.shape[1] - self._schedule.inputs_for(hop)
        np.multiply(gain, self._noisy[:, dry : dry + count], out=out)
        out += removed * self._to_input.run(self._change_windows, start, first, count)

    def _energy(self, spectrum: Spectrum) -> Energies:
        """The energy (channels,) in the upper half of the band that the model hears."""
        band = spectrum[:, self._band]
        return np.asarray(np.einsum("cb,cb->c", band, band.conj()).real)


def shift(buffer: Floats, samples: int) -> None:
    """Makes room for so many samples at the end of (channels, samples)."""
    buffer[:, : buffer.shape[1] - samples] = buffer[:, samples:]
