"""What a speech codec hears and what it speaks with: frames of 20 ms, pitch, pulses and noise, as
many frames at a time as there are; how many makes no difference.

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
    "SILENT",
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
# Silent is what one step of 16 bits, and dither of that, holds.
SILENT = 1.5 / 32768
_FLATTENING, _FLOOR, _FINE_FLOOR = 0.4, 1e-7, np.float32(1e-5)
_UNIT_FLOOR = np.float32(1e-3)
_LAGS = 2 * RATE_HZ
_SHORT_BONUS, _NEAR_BONUS, _NEAR_STEPS, _LEAST = 0.1, 0.15, 12.0, 0.3
_HIGHEST_HZ = 7800.0
# Noise of a stream begins here: numpy's legacy generator gives the same numbers in every version.
_NOISE_SEED = 22

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
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
# Indexed by the pitch before: what a candidate near to it has for that.
_NEARNESS = _NEAR_BONUS * np.maximum(1 - np.abs(_INDEX - _INDEX[:, None]) / _NEAR_STEPS, 0)
_HZ = np.array([pitch_hz(index) for index in range(CANDIDATES)])
_RAMP = np.arange(1, FRAME_SAMPLES + 1) / FRAME_SAMPLES


def _sqrt_hann(size: int) -> Floats:
    window: Floats = np.sin(np.pi / size * np.arange(size)).astype(np.float32)
    return window


_SCALE = 1 / np.sqrt(WINDOW_SAMPLES / 2)
_WINDOW, _LONG_WINDOW = _sqrt_hann(WINDOW_SAMPLES), _sqrt_hann(LONG_SAMPLES)


def _power(spectrum: Spectra) -> Floats:
    power: Floats = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
    return power


class Pulses:
    """The pulse train of one signal and its spectra, some frames after others."""

    def __init__(self) -> None:
        self.pitch = MIDDLE_PITCH
        self._turns = 0.0
        # The end of the frame before, in which the next frame's first window begins.
        self._kept = np.zeros(HOP_SAMPLES, np.float32)

    def next(self, pitches: Ints) -> Spectra:
        """Spectra of both windows of the next frames (n, 2, BINS), by their pitches (n,)."""
        together = np.concatenate((self._kept, self._pulses(pitches).ravel()), dtype=np.float32)
        self._kept = together[-HOP_SAMPLES:]
        return _windows(together)

    def _pulses(self, pitches: Ints) -> Doubles:
        pace = _HZ[np.concatenate(((self.pitch,), pitches))]
        before, now = pace[:-1, None], pace[1:, None]
        self.pitch = int(pitches[-1])
        turns = np.cumsum((before + (now - before) * _RAMP) / RATE_HZ, axis=1)
        # Frame by frame, so that it does not matter how many come at a time.
        begins = np.empty((len(pitches), 1))
        for i, moved in enumerate(turns[:, -1].tolist()):
            begins[i] = self._turns
            self._turns = (self._turns + moved) % 1.0
        turns += begins
        turns -= np.rint(turns)
        count = np.floor(_HIGHEST_HZ / np.maximum(before, now))
        below = 2 * np.sin(np.pi * turns)
        near = np.abs(below) < 1e-4
        below[near] = 1.0
        summed = np.sin((2 * count + 1) * np.pi * turns) / below - 0.5
        if near.any():
            summed[near] = np.broadcast_to(count, summed.shape)[near]
        pulses: Doubles = summed * np.sqrt(2 / count)
        return pulses


def _cut(samples: Floats, size: int, hop: int) -> Floats:
    """Views of samples, one piece after the other, so long and so far apart, (n, size)."""
    count, width = (len(samples) - size) // hop + 1, samples.itemsize
    # What numpy has for this takes as long as a transform of a frame.
    return np.ndarray((count, size), samples.dtype, samples, strides=(hop * width, width))


def _windows(samples: Floats) -> Spectra:
    """Spectra (n, 2, BINS), of power about 1, of both windows of each frame in float32 (160 +
    320 * n,), frames that begin in what is before them."""
    spectra: Spectra = np.fft.rfft(_cut(samples, WINDOW_SAMPLES, HOP_SAMPLES) * _WINDOW) * _SCALE
    return spectra.reshape(-1, 2, BINS)


class Ear:
    """What the encoder is told of one signal, some frames after others."""

    def __init__(self) -> None:
        self._kept = np.zeros(LONG_SAMPLES, np.float32)
        self._lowest: Spectra = np.zeros((1, 2, FINE_BINS), np.complex64)
        self._pulses = Pulses()

    def hear(self, frames: Floats) -> tuple[Floats, Floats, Ints, Floats]:
        """Powers (n, HEARD), correlations (n, CANDIDATES), pitches (n,) and fine structure
        (n, FINE) of the next frames, float32 (n, 320)."""
        together = np.concatenate((self._kept, frames.ravel()))
        self._kept = together[-LONG_SAMPLES:]
        # Those of the last 480 samples up to a frame's end, and of the last 512.
        short = _cut(together[LONG_SAMPLES - HOP_SAMPLES :], WINDOW_SAMPLES, HOP_SAMPLES)
        spectra = np.fft.rfft(short * _WINDOW).reshape(-1, 2, BINS)
        long = _cut(together[FRAME_SAMPLES:], LONG_SAMPLES, FRAME_SAMPLES)
        fine = _power(np.fft.rfft(long * _LONG_WINDOW, n=2 * LONG_SAMPLES))
        seen = (_power(spectra).reshape(-1, 2 * BINS), fine[:, : 2 * LONG_BINS : 2])
        powers = np.concatenate(seen, axis=1)
        flat = (fine + np.float32(_FLOOR)) ** np.float32(_FLATTENING)
        lags = np.fft.irfft(flat, 4 * LONG_SAMPLES).astype(np.float32, copy=False)
        low = lags[:, _LOW]
        found = low + _PART * (lags[:, _LOW + 1] - low)
        correlation = (found / lags[:, :1] / _WINDOWED).astype(np.float32)
        pitches = self._tracked(correlation)
        tones = self._pulses.next(pitches)[..., :FINE_BINS]
        lowest = np.concatenate((self._lowest, spectra[..., :FINE_BINS]))
        self._lowest = lowest[-1:]
        return powers, correlation, pitches, _fine_structure(lowest[:-1], tones)

    def _tracked(self, correlation: Floats) -> Ints:
        """The pitches (n,) of the frames whose correlations (n, CANDIDATES) these are."""
        pitch = self._pulses.pitch
        found = np.empty(len(correlation), np.int64)
        for t, (heard, likely) in enumerate(zip(correlation, correlation + _BONUS, strict=True)):
            best = int((likely + _NEARNESS[pitch]).argmax())
            pitch = best if heard[best] >= _LEAST else pitch
            found[t] = pitch
        return found


def _fine_structure(spectra: Spectra, tones: Spectra) -> Floats:
    """Spectra (n, 2, FINE_BINS) by the phases of pulses and the power around them, (n, FINE)."""
    power = np.zeros((len(spectra), FINE_BINS + 5), np.float32)
    powers = _power(spectra)
    power[:, 3:-2] = (powers[:, 0] + powers[:, 1]) / 2
    sums = np.cumsum(power, axis=1, dtype=np.float64)
    around = ((sums[:, 5:] - sums[:, :-5]) / 5).astype(np.float32)[:, None]
    unit = np.conj(tones) / np.sqrt(_power(tones) + _UNIT_FLOOR)
    turned = spectra * unit / np.sqrt(around + _FINE_FLOOR)
    return _parts(turned).reshape(-1, FINE)


class Voice:
    """The sources of the decoder of one signal, and what becomes of their shaped spectra, some
    frames after others."""

    def __init__(self) -> None:
        self._pulses = Pulses()
        self._noise = np.random.RandomState(_NOISE_SEED)
        # The end of the frame before, in which the next frame's first window begins.
        self._hiss = np.zeros(HOP_SAMPLES, np.float32)
        self._overlap = np.zeros(HOP_SAMPLES, np.float32)

    @property
    def pitch(self) -> int:
        """That of the last frame."""
        return self._pulses.pitch

    def speak(self, pitches: Ints) -> tuple[Floats, Floats]:
        """Spectra of pulses and of noise in both windows of the next frames, float32
        (n, 2, 2, BINS) each: window, then real and imaginary part."""
        hiss = self._noise.standard_normal(len(pitches) * FRAME_SAMPLES)
        together = np.concatenate((self._hiss, hiss), dtype=np.float32)
        self._hiss = together[-HOP_SAMPLES:]
        return _parts(self._pulses.next(pitches)), _parts(_windows(together))

    def join(self, spectra: Floats) -> Floats:
        """The samples, float32 (n, 320), that the shaped spectra (n, 2, 2, BINS) of frames
        complete."""
        parts = spectra[:, :, 0] + 1j * spectra[:, :, 1]
        frames = (np.fft.irfft(parts, WINDOW_SAMPLES) * _WINDOW).astype(np.float32, copy=False)
        halves = frames.reshape(-1, 2, HOP_SAMPLES)
        ends = np.concatenate((self._overlap[None], halves[:, 1]))
        self._overlap = ends[-1]
        return (ends[:-1] + halves[:, 0]).reshape(-1, FRAME_SAMPLES)


def _parts(spectra: Spectra) -> Floats:
    """Real parts, then imaginary ones, float32 (n, 2, 2, bins), of spectra (n, 2, bins)."""
    parts = np.empty((len(spectra), 2, 2, spectra.shape[2]), np.float32)
    parts[:, :, 0], parts[:, :, 1] = spectra.real, spectra.imag
    return parts
