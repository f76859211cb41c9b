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
    "FINE",
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
FINE_BINS = 24
FINE = 4 * FINE_BINS
CANDIDATES, LOWEST_HZ, STEPS_PER_OCTAVE = 128, 70.0, 43.0
MIDDLE_PITCH = CANDIDATES // 2
_FLATTENING, _FLOOR, _FINE_FLOOR = 0.4, 1e-7, np.float32(1e-5)
_UNIT_FLOOR = np.float32(1e-3)
_LAGS = 2 * RATE_HZ
_SHORT_BONUS, _NEAR_BONUS, _NEAR_STEPS, _LEAST = 0.1, 0.15, 12.0, 0.3
_HIGHEST_HZ = 7800.0
# Noise of a stream begins here: numpy's legacy generator gives the same numbers in every version.
_NOISE_SEED = 22

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Spectra = npt.NDArray[np.complexfloating]


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


_SCALE = 1 / np.sqrt(WINDOW_SAMPLES / 2)
_WINDOW, _LONG_WINDOW = _sqrt_hann(WINDOW_SAMPLES), _sqrt_hann(LONG_SAMPLES)


def _power(spectrum: Spectra) -> Floats:
    power: Floats = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return power


class Pulses:
    """The pulse train of one signal, frame after frame, and its spectra."""

    def __init__(self) -> None:
        self.pitch = MIDDLE_PITCH
        self._turns = 0.0
        # The end of the frame before, in which the next frame's first window begins.
        self._kept = np.zeros(HOP_SAMPLES + FRAME_SAMPLES, np.float32)

    def next(self, pitch: int) -> Spectra:
        """Spectra of both windows of the next frame, (2, BINS)."""
        kept = self._kept
        kept[:HOP_SAMPLES] = kept[-HOP_SAMPLES:]
        kept[HOP_SAMPLES:] = self._pulses(pitch)
        return _windows(kept)

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


def _windows(samples: Floats) -> Spectra:
    """Spectra (2, BINS), of power about 1, of both windows in float32 (480,)."""
    frames = np.stack((samples[:WINDOW_SAMPLES], samples[HOP_SAMPLES:]))
    spectra: Spectra = np.fft.rfft(frames * _WINDOW, axis=-1) * _SCALE
    return spectra


class Ear:
    """What the encoder is told of one signal, frame after frame."""

    def __init__(self) -> None:
        self._kept = np.zeros(LONG_SAMPLES, np.float32)
        self._lowest: Spectra = np.zeros((2, FINE_BINS), np.complex64)
        self._pulses = Pulses()

    @property
    def pitch(self) -> int:
        """That of the last frame."""
        return self._pulses.pitch

    def hear(self, frame: Floats) -> tuple[Floats, Floats, Floats]:
        """Powers (HEARD,), correlations (CANDIDATES,) and fine structure (FINE,) of the next
        frame, float32 (320,); its pitch is in `pitch` afterwards."""
        kept = self._kept
        kept[:-FRAME_SAMPLES] = kept[FRAME_SAMPLES:]
        kept[-FRAME_SAMPLES:] = frame
        short = np.stack((kept[-HOP_SAMPLES - WINDOW_SAMPLES : -HOP_SAMPLES], kept[-320:]))
        spectra = np.fft.rfft(short * _WINDOW, axis=-1)
        fine = _power(np.fft.rfft(kept * _LONG_WINDOW, n=2 * LONG_SAMPLES))
        powers = np.concatenate((_power(spectra).ravel(), fine[: 2 * LONG_BINS : 2]))
        lags = np.fft.irfft(
            (fine + np.float32(_FLOOR)) ** np.float32(_FLATTENING), 4 * LONG_SAMPLES
        )
        lags = lags.astype(np.float32)
        found = lags[_LOW] + _PART * (lags[_LOW + 1] - lags[_LOW])
        correlation = (found / lags[0] / _WINDOWED).astype(np.float32)
        near = np.maximum(1 - np.abs(_INDEX - self.pitch) / _NEAR_STEPS, 0)
        best = int(np.argmax(correlation + _BONUS + _NEAR_BONUS * near))
        tones = self._pulses.next(best if correlation[best] >= _LEAST else self.pitch)
        lowest, self._lowest = self._lowest, spectra[:, :FINE_BINS]
        return powers, correlation, _fine_structure(lowest, tones[:, :FINE_BINS])


def _fine_structure(spectra: Spectra, tones: Spectra) -> Floats:
    """Spectra (2, FINE_BINS) by the phases of pulses and the power around them, (FINE,)."""
    power = np.zeros(FINE_BINS + 5, np.float32)
    power[3:-2] = _power(spectra).mean(axis=0)
    sums = np.cumsum(power, dtype=np.float64)
    around = ((sums[5:] - sums[:-5]) / 5).astype(np.float32)
    unit = np.conj(tones) / np.sqrt(_power(tones) + _UNIT_FLOOR)
    turned = spectra * unit / np.sqrt(around + _FINE_FLOOR)
    return np.stack((turned.real, turned.imag), axis=1).astype(np.float32).ravel()


class Voice:
    """The sources of the decoder of one signal, and what becomes of their shaped spectra."""

    def __init__(self) -> None:
        self._pulses = Pulses()
        self._noise = np.random.RandomState(_NOISE_SEED)
        # The end of the frame before, in which the next frame's first window begins.
        self._hiss = np.zeros(HOP_SAMPLES + FRAME_SAMPLES, np.float32)
        self._overlap = np.zeros(HOP_SAMPLES, np.float32)

    @property
    def pitch(self) -> int:
        """That of the last frame."""
        return self._pulses.pitch

    def speak(self, pitch: int) -> tuple[Floats, Floats]:
        """Spectra of pulses and of noise in both windows of the next frame, float32 (1, 2, 2, BINS)
        each: window, then real and imaginary part."""
        hiss = self._hiss
        hiss[:HOP_SAMPLES] = hiss[-HOP_SAMPLES:]
        hiss[HOP_SAMPLES:] = self._noise.standard_normal(FRAME_SAMPLES)
        return _parts(self._pulses.next(pitch)), _parts(_windows(hiss))

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


def _parts(spectra: Spectra) -> Floats:
    return np.stack((spectra.real, spectra.imag), axis=1).astype(np.float32)[None]
