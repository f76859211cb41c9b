"""Pieces of speech for the codec, cut and changed on a device: no step waits for Python.

What is drawn is what `SpeechPieces` draws, from the same settings, with the differences that
`train.speech.device` names. All chance is the device's own, so that nothing is copied to it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from train.speech.corpus import SAMPLE_RATE_HZ
from train.speech.device import Tape, _interpolation, _speaker_stretches

if TYPE_CHECKING:
    from train.speech.codec_data import SpeechPieces

__all__ = ["DevicePieces"]

# As many pieces begin with up to half of silence.
_LATE_CHANCE = 0.25


class DevicePieces:
    """Endless batches of speech, made on a device."""

    def __init__(self, pieces: SpeechPieces, device: torch.device) -> None:
        self.config, self.device = pieces.config, device
        self._speech = Tape(*_speaker_stretches(pieces.speech), device)
        self._noise: Tape | None = None
        if pieces.noise is not None:
            self._noise = Tape(*_speaker_stretches(pieces.noise), device)
        length = self.config.segment_samples
        self._frequency_hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, length // 2 + 1, device=device)
        self._interpolation = _interpolation(self._frequency_hz)
        self._generator = torch.Generator(device)

    def batch(self, rng: np.random.Generator, size: int) -> torch.Tensor:
        """`size` pieces of speech, float32 (size, segment_samples) on the device; drawn from `rng`
        alone."""
        config, length = self.config, self.config.segment_samples
        self._generator.manual_seed(int(rng.integers(2**62)))
        out = self._speech.read(self._even(2, size), length, self._speeds(size))
        late = (self._even(size) < _LATE_CHANCE) * self._even(size) * (length // 2)
        out = out * (torch.arange(length, device=self.device) >= late[:, None])
        out = torch.fft.irfft(torch.fft.rfft(out) * self._tone(size), n=length)
        if self._noise is not None:
            even = torch.ones(size, dtype=torch.float64, device=self.device)
            noise = self._noise.read(self._even(2, size), length, even)
            power, other = (x.square().mean(1) for x in (out, noise))
            snr_db = self._between(*config.snr_db, size)
            gain = (power / other.clamp_min(1e-12) / 10 ** (snr_db / 10)).sqrt()
            out = out + noise * (gain * (self._even(size) < config.noise_chance)).float()[:, None]
        level = 10 ** (self._between(*config.level_db, size) / 20)
        gain = level / out.square().mean(1).sqrt().clamp_min(1e-6)
        return (out * gain.float()[:, None]).clamp(-1, 1)

    def _even(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self._generator, device=self.device, dtype=torch.float64)

    def _between(self, low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * self._even(*shape)

    def _speeds(self, size: int) -> torch.Tensor:
        low, high = (math.log2(speed) for speed in self.config.speeds)
        other = self._even(size) < self.config.speed_chance
        return torch.where(other, 2 ** self._between(low, high, size), 1.0)

    def _tone(self, size: int) -> torch.Tensor:
        """A smooth random gain over frequency, (size, bins); some have a telephone's band."""
        knots = len(self._interpolation)
        drawn = torch.randn(size, knots, generator=self._generator, device=self.device)
        gain = 10 ** (drawn * (self.config.equalize_db / 40)) @ self._interpolation
        low_hz, high_hz = self._between(0, 300, size, 1), self._between(3300, 4000, size, 1)
        band = (self._frequency_hz > low_hz) & (self._frequency_hz < high_hz)
        return gain * (band | (self._even(size, 1) >= self.config.narrow_band_chance))
