"""Speech-like sounds and noises made in code: for augmentation, for tests and without data."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["made_noise", "made_voice", "struck_noise", "unit_gain"]

SAMPLE_RATE_HZ = 16_000

Audio = npt.NDArray[np.float32]


def unit_gain(x: npt.NDArray[np.floating[Any]]) -> float:
    """The factor that brings audio, (samples,) of any unit, to a root mean square of 1; at most
    80 dB.
    """
    return 1.0 / max(float(np.sqrt(np.mean(np.square(x)))), 1e-4)


def made_noise(length: int, rng: np.random.Generator) -> Audio:
    """White to brown noise with or without slow swells, at times with a mains hum."""
    spectrum = np.fft.rfft(rng.standard_normal(length, np.float32))
    frequency = np.arange(len(spectrum), dtype=np.float32)
    frequency[0] = 1.0
    spectrum *= frequency ** np.float32(-rng.uniform(0.0, 1.0))
    out = np.fft.irfft(spectrum, n=length)
    out *= np.float32(0.05 * unit_gain(out))
    time_s = np.arange(length, dtype=np.float32) / SAMPLE_RATE_HZ
    if rng.random() < 0.4:
        swell = np.sin(2 * np.pi * rng.uniform(0.2, 6) * time_s + rng.uniform(0, 6))
        out *= 1 + np.float32(0.9) * swell
    if rng.random() < 0.3:
        pitch_hz = rng.choice([50.0, 60.0, rng.uniform(80, 900)])
        for harmonic in range(1, 6):
            phase = 2 * np.pi * harmonic * pitch_hz * time_s + rng.uniform(0, 6)
            out += np.float32(rng.uniform(0, 0.08)) * np.sin(phase)
    return out.astype(np.float32)


def struck_noise(length: int, rng: np.random.Generator) -> Audio:
    """Bursts of decaying noise: at random, as of dishes, or at a beat, as of clocks and rotors."""
    if rng.random() < 0.5:
        per_second = 10 ** rng.uniform(-0.3, 1.5)
        places = np.flatnonzero(rng.random(length, np.float32) < per_second / SAMPLE_RATE_HZ)
    else:
        period = SAMPLE_RATE_HZ / 10 ** rng.uniform(0.0, 2.1)
        gaps = 1 + rng.uniform(0, 0.1) * rng.standard_normal(int(length / period) + 1)
        places = np.cumsum(period * gaps).astype(int)
        places = places[(places >= 0) & (places < length)]
    if not len(places):
        places = rng.integers(length, size=1)
    out = np.zeros(length, np.float32)
    time_s = np.arange(length, dtype=np.float32) / SAMPLE_RATE_HZ
    kind = rng.integers(2, size=len(places))
    strength = np.exp(rng.uniform(0, 0.8) * rng.standard_normal(len(places))).astype(np.float32)
    for i in range(2):
        struck = np.zeros(length, np.float32)
        struck[places[kind == i]] = strength[kind == i]
        decay_s = 10 ** rng.uniform(-2.7, -1.0)
        burst = rng.standard_normal(length, np.float32) * np.exp(-time_s / np.float32(decay_s))
        out += np.fft.irfft(np.fft.rfft(struck) * np.fft.rfft(burst), n=length)
    return out * np.float32(0.05 * unit_gain(out))


def made_voice(speaker: int, rng: np.random.Generator) -> Audio:
    """Three seconds of syllables: gliding harmonics under moving formants, with hisses between."""
    length = 3 * SAMPLE_RATE_HZ
    out = np.zeros(length, np.float32)
    pitch_hz = 90.0 + 30.0 * speaker
    position = int(rng.integers(4000))
    while position < length - 6000:
        count = int(rng.integers(2400, 6000))
        time_s = np.arange(count) / SAMPLE_RATE_HZ
        glide = 2 * np.pi * pitch_hz * rng.uniform(0.8, 1.2)
        phase = glide * (time_s + rng.uniform(-1, 1) * time_s**2)
        formants_hz = rng.uniform((300, 900, 2200), (800, 2000, 3200))
        syllable = np.zeros(count)
        for harmonic in range(1, int(3800 / pitch_hz)):
            distance = (harmonic * pitch_hz - formants_hz) / 150
            weight = np.sum(np.array([1.0, 0.6, 0.3]) / (1 + distance**2)) + 0.01
            syllable += weight * np.sin(harmonic * phase)
        if rng.random() < 0.4:
            syllable = 0.3 * np.diff(rng.standard_normal(count + 1))
        out[position : position + count] += (syllable * np.hanning(count)).astype(np.float32)
        position += count + int(rng.integers(3000))
    return out
