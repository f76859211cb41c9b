"""Audio at another rate than the model's: there and back, and the band that this cannot carry.

With x the input, h the input at the model's rate, c the model's output and g the gain of what lies
outside the model's band (`SignalDenoiser` states the rule), the output is

    g (x - back(h)) + back(c)  =  g x + back(c - g h)

so there is one resampling back, and an input that the model leaves alone comes out as it was,
however gentle the resampling filters are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from edgeae.signal.hop_schedule import HopSchedule, resample_steps
from edgeae.signal.resample import PASS_EDGE, Resampler
from edgeae.signal.stft import Floats, Spectrum, sqrt_hann

__all__ = ["FullBand", "drop_oldest"]

# How long the band energies behind the gain are averaged: about the onset of a consonant.
GAIN_TIME_S = 0.025
# White noise of this level in the model's band, 7 dB above 16-bit rounding noise, which is
# 6.02 x 16 + 4.8 dB below full scale, is as good as silence: below it the gain goes to 1.
GAIN_FLOOR_DB = -94.0


class FullBand:
    """The buffers of one stream between its rate and the model's; each ends with the newest sample.

    `model_input` (channels, samples) is the input at the model's rate, from the oldest sample of
    the hop that a frame completes to the frame's last.
    """

    def __init__(
        self,
        schedule: HopSchedule,
        *,
        to_model: Resampler,
        to_input: Resampler,
        noisy: Floats,
        link_channels: bool,
    ) -> None:
        """`noisy` is the stream's input buffer, which this reads whenever a hop runs.

        With `link_channels` the gain is one for all channels, from the sum of their energies.
        """
        channels, hop = noisy.shape[0], schedule.hop_samples
        self._hop_samples = hop
        self._steps = resample_steps(schedule)
        self._noisy = noisy
        self._linked = link_channels and channels > 1
        self._noisy_windows = to_model.windows(noisy)
        self.model_input = np.empty((channels, (2 + schedule.lookahead_hops) * hop), np.float32)
        self._change = np.empty((channels, schedule.change_history()), np.float32)
        self._change_windows = to_input.windows(self._change)
        # The gain goes from frame to frame as the overlap-add does: one square window to the next.
        self._fade_in = np.square(sqrt_hann(2 * hop)[:hop])
        self._gains = np.empty((channels, len(self._steps[0].gain_weights)), np.float32)
        lower_hz = min(to_model.rate_in_hz, to_model.rate_out_hz)
        bin_hz = to_model.rate_out_hz / (2 * hop)
        self._band = slice(
            math.ceil(lower_hz / 4 / bin_hz), math.ceil(PASS_EDGE * lower_hz / 2 / bin_hz)
        )
        # A squared spectrum of white noise has the noise's power times the window's sum of squares.
        self._floor = 10 ** (GAIN_FLOOR_DB / 10) * hop * (self._band.stop - self._band.start)
        self._weight = 1.0 - math.exp(-hop / to_model.rate_out_hz / GAIN_TIME_S)
        self._lookahead_hops = schedule.lookahead_hops
        self.reset()

    def reset(self) -> None:
        """Forgets the signal."""
        channels = len(self._noisy)
        self.model_input[...] = 0.0
        self._change[...] = 0.0
        self._gains[...] = 1.0
        self._energy_in = np.zeros(channels, np.float32)
        self._energy_out = np.zeros(channels, np.float32)
        self._frames = deque([self._energy_in] * self._lookahead_hops, self._lookahead_hops + 1)

    def resample_input(self, hop: int) -> None:
        """Resamples the part of the input that hop number `hop` adds to `model_input`."""
        drop_oldest(self.model_input, self._hop_samples)
        step = self._steps[hop % len(self._steps)]
        self.model_input[:, -self._hop_samples :] = step.to_model.apply(self._noisy_windows)

    def update_gain(self, noisy: Spectrum, clean: Spectrum, *, silent: Sequence[bool]) -> None:
        """Counts a step into the gain.

        Args:
            noisy: the newest frame, complex64 (channels, bins).
            clean: the frame that the model cleaned, likewise.
            silent: for each channel, whether the model left it out as silence: then the gain stays.
        """
        self._frames.append(self._energy(noisy))
        stays = [all(silent)] * len(silent) if self._linked else silent
        # In the common case no array is made: this runs every few milliseconds.
        weight: float | Floats = self._weight
        if any(stays):
            weight = np.where(stays, np.float32(0), np.float32(self._weight))
        self._energy_in = self._energy_in + weight * (self._frames[0] - self._energy_in)
        self._energy_out += weight * (self._energy(clean) - self._energy_out)
        ratio = (self._energy_out + self._floor) / (self._energy_in + self._floor)
        drop_oldest(self._gains, 1)
        np.sqrt(np.minimum(ratio, 1.0), out=self._gains[:, -1])

    def combine(self, hop: int, clean: Floats, *, keep: np.float32, out: Floats) -> None:
        """Writes the output samples of hop number `hop` to `out`, float32 (channels, count).

        `clean`, float32 (channels, hop) at the model's rate, is what the hop finished; `keep`, 0 to
        1, the part of the noise that stays.
        """
        drop_oldest(self._change, self._hop_samples)
        change = self._change[:, -self._hop_samples :]
        last, gain = self._gains[:, -2, None], self._gains[:, -1, None]
        np.multiply(self._fade_in, gain - last, out=change)
        change += last
        change *= self.model_input[:, : self._hop_samples]
        np.subtract(clean, change, out=change)

        step = self._steps[hop % len(self._steps)]
        dry = self._noisy[:, step.input_slice]
        np.matmul(self._gains, step.gain_weights, out=out)
        out *= dry
        out += step.to_input.apply(self._change_windows)
        if keep:
            out *= np.float32(1) - keep
            out += keep * dry

    def _energy(self, spectrum: Spectrum) -> Floats:
        """The energy (channels,) in the upper half of the band of the model."""
        band = spectrum[:, self._band].view(np.float32)
        energy = np.einsum("cb,cb->c", band, band)
        return np.full_like(energy, energy.sum()) if self._linked else np.asarray(energy)


def drop_oldest(buffer: Floats, samples: int) -> None:
    """Makes room for so many samples at the end of float32 (channels, samples), in place."""
    buffer[:, : buffer.shape[1] - samples] = buffer[:, samples:]
