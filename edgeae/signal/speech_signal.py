"""What a speech codec hears and what it speaks with: frames, pitch, pulses and noise, one frame of
20 ms at a time.

`train.speech.codec_signal`, which says why the numbers are what they are, does the same for whole
passages; a test of the exporter holds both together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "BINS",
    "CANDIDATES",
    "DELAY_SAMPLES",
    "FRAME_SAMPLES",
    "HEARD",
    "MIDDLE_PITCH",
    "RATE_HZ",
    "Ear",
    "Voice",
    "pitch_hz",
]

RATE_HZ = 16_000
FRAME_SAMPLES, HOP_SAMPLES, WINDOW_SAMPLES = 320, 160, 320
# What a decoder gives for a frame is what came a frame earlier.
DELAY_SAMPLES = FRAME_SAMPLES
BINS = WINDOW_SAMPLES // 2 + 1
LONG_SAMPLES, LONG_BINS = 512, 128
HEARD = 2 * BINS + LONG_BINS
CANDIDATES, LOWEST_HZ, STEPS_PER_OCTAVE = 128, 70.0, 43.0
MIDDLE_PITCH = CANDIDATES // 2
_FLATTENING, _FLOOR = 0.4, 1e-7
_LAGS = 2 * RATE_HZ
_SHORT_BONUS, _NEAR_BONUS, _NEAR_STEPS, _LEAST = 0.1, 0.15, 12.0, 0.3
_HIGHEST_HZ = 7800.0
# Noise of a stream begins here: numpy's legacy generator gives the same numbers in every version.
_NOISE_SEED = 22

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def pitch_hz(index: float) -> float:
    """The pitch in Hz of an index, 0 to 127."""
    return float(LOWEST_HZ * 2 ** (index / STEPS_PER_OCTAVE))


_INDEX = np.arange(CANDIDATES)
_PLACE = _LAGS / (LOWEST_HZ * 2 ** (_INDEX / STEPS_PER_OCTAVE))
_LOW = _PLACE.astype(np.int64)
_PART = (_PLACE - _LOW).astype(np.float32)
_WINDOWED = (1 - _PLACE / (2 * LONG_SAMPLES)).astype(np.float32)
_BONUS = (_SHORT_BONUS / CANDIDATES * _INDEX).astype(np.float32)
_RAMP = np.arange(1, FRAME_SAMPLES + 1) / FRAME_SAMPLES


def _sqrt_hann(size: int) -> Floats:
    window: Floats = np.sin(np.pi / size * np.arange(size)).astype(np.float32)
    return window


_WINDOW, _LONG_WINDOW = _sqrt_hann(WINDOW_SAMPLES), _sqrt_hann(LONG_SAMPLES)


def _power(frames: Floats, size: int) -> Floats:
    spectrum = np.fft.rfft(frames, n=size, axis=-1)
    power: Floats = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return power


class Ear:
    """What the encoder is told of one signal, frame after frame."""

    def __init__(self) -> None:
        self._kept = np.zeros(LONG_SAMPLES, np.float32)
        self.pitch = MIDDLE_PITCH

    def hear(self, frame: Floats) -> tuple[Floats, Floats]:
        """Powers (HEARD,) and correlations (CANDIDATES,) of the next frame, float32 (320,); its
        pitch is in `pitch` afterwards."""
        kept = self._kept
        kept[:-FRAME_SAMPLES] = kept[FRAME_SAMPLES:]
        kept[-FRAME_SAMPLES:] = frame
        short = np.stack((kept[-HOP_SAMPLES - WINDOW_SAMPLES : -HOP_SAMPLES], kept[-320:]))
        power = _power(short * _WINDOW, WINDOW_SAMPLES)
        fine = _power(kept * _LONG_WINDOW, 2 * LONG_SAMPLES)
        powers = np.concatenate((power.ravel(), fine[: 2 * LONG_BINS : 2]))
        lags = np.fft.irfft(
            (fine + np.float32(_FLOOR)) ** np.float32(_FLATTENING), 4 * LONG_SAMPLES
        )
        lags = lags.astype(np.float32)
        found = lags[_LOW] + _PART * (lags[_LOW + 1] - lags[_LOW])
        correlation = (found / lags[0] / _WINDOWED).astype(np.float32)
        near = np.maximum(1 - np.abs(_INDEX - self.pitch) / _NEAR_STEPS, 0)
        best = int(np.argmax(correlation + _BONUS + _NEAR_BONUS * near))
        if correlation[best] >= _LEAST:
            self.pitch = best
        return powers, correlation


class Voice:
    """The sources of the decoder of one signal, and what becomes of their shaped spectra."""

    def __init__(self) -> None:
        self.pitch = MIDDLE_PITCH
        self._turns = 0.0
        self._noise = np.random.RandomState(_NOISE_SEED)
        # The end of the frame before, in which the next frame's first window begins.
        self._sources = np.zeros((2, HOP_SAMPLES + FRAME_SAMPLES), np.float32)
        self._overlap = np.zeros(HOP_SAMPLES, np.float32)

    def speak(self, pitch: int) -> tuple[Floats, Floats]:
        """Spectra of pulses and of noise in both windows of the next frame, float32 (1, 2, 2, BINS)
        each: window, then real and imaginary part."""
        sources = self._sources
        sources[:, :HOP_SAMPLES] = sources[:, -HOP_SAMPLES:]
        sources[0, HOP_SAMPLES:] = self._pulses(pitch)
        sources[1, HOP_SAMPLES:] = self._noise.standard_normal(FRAME_SAMPLES)
        frames = np.stack((sources[:, :WINDOW_SAMPLES], sources[:, HOP_SAMPLES:]), axis=1)
        spectra = np.fft.rfft(frames * _WINDOW, axis=-1) / np.sqrt(WINDOW_SAMPLES / 2)
        parts = np.stack((spectra.real, spectra.imag), axis=2).astype(np.float32)
        return parts[:1], parts[1:]

    def join(self, spectra: Floats) -> Floats:
        """The samples, float32 (320,), that the shaped spectra (1, 2, 2, BINS) of a frame
        complete."""
        parts = spectra[0, :, 0] + 1j * spectra[0, :, 1]
        frames = (np.fft.irfft(parts, WINDOW_SAMPLES, axis=-1) * _WINDOW).astype(np.float32)
        out = np.empty(FRAME_SAMPLES, np.float32)
        out[:HOP_SAMPLES] = self._overlap + frames[0, :HOP_SAMPLES]
        out[HOP_SAMPLES:] = frames[0, HOP_SAMPLES:] + frames[1, :HOP_SAMPLES]
        self._overlap = frames[1, HOP_SAMPLES:].copy()
        return out

    def _pulses(self, pitch: int) -> Doubles:
        before, now = pitch_hz(self.pitch), pitch_hz(pitch)
        self.pitch = pitch
        turns = self._turns + np.cumsum((before + (now - before) * _RAMP) / RATE_HZ)
        self._turns = float(turns[-1] % 1.0)
        turns -= np.rint(turns)
        count = int(_HIGHEST_HZ / max(before, now))
        below = 2 * np.sin(np.pi * turns)
        near = np.abs(below) < 1e-4
        below[near] = 1.0
        summed = np.where(near, count, np.sin((2 * count + 1) * np.pi * turns) / below - 0.5)
        pulses: Doubles = summed * np.sqrt(2 / count)
        return pulses
