"""Heart beats: where they are in an electrocardiogram, and how early each comes."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BeatFinder", "Prematurity"]

Floats = npt.NDArray[Any]

# Band of a QRS complex, the window of its energy and the time in which no second one comes
# (Pan and Tompkins 1985).
BAND_HZ = (5.0, 18.0)
ENERGY_S, REFRACTORY_S = 0.12, 0.25
# A peak of energy counts from this share of the way from noise's level to that of beats.
SHARE = 0.3
# Taps of the band-pass, a share of a second.
FILTER_S = 0.25
# The levels are learned for so long before the first beat is told.
LEARN_S = 2.0
# Without a beat for so long, the level of beats falls: the signal has become weaker.
LOST_S = 2.0
# Usual intervals are the median of so many; before the first, one of this many seconds counts.
INTERVALS, FIRST_INTERVAL_S = 12, 0.8


class BeatFinder:
    """Finds QRS complexes in a signal that comes in blocks; nothing depends on how it was cut.

    A band-pass, the energy of the slope and a threshold between the levels of noise and of beats
    that follows both, as Pan and Tompkins (1985) have it, in samples that have already come.
    """

    def __init__(self, rate_hz: float) -> None:
        """Args:
        rate_hz: sample rate of the signal.
        """
        self.rate_hz = rate_hz
        taps = 2 * max(2, round(FILTER_S * rate_hz / 2)) + 1
        t = np.arange(taps) - taps // 2
        window = np.hamming(taps)

        def low_pass(hz: float) -> Floats:
            share = 2 * hz / rate_hz
            kernel = share * np.sinc(share * t) * window
            return np.asarray(kernel / kernel.sum())

        band = low_pass(min(BAND_HZ[1], 0.45 * rate_hz)) - low_pass(BAND_HZ[0])
        self._kernel = np.convolve(band, [1.0, 0.0, -1.0])
        self._energy = max(1, round(ENERGY_S * rate_hz))
        self._refractory = round(REFRACTORY_S * rate_hz)
        self._lost = round(LOST_S * rate_hz)
        # What the filters are late by, from a QRS complex to its peak of energy.
        self.delay = len(self._kernel) // 2 + self._energy // 2
        # The longest that a beat is known later than it is: until no higher peak can follow, and at
        # the beginning until the levels are learned.
        self._learn = round(LEARN_S * rate_hz)
        self.lateness = self.delay + self._refractory + self._learn
        self._first_peaks: list[tuple[float, int]] | None = []
        self._input = np.zeros(len(self._kernel) - 1)
        self._slopes = np.zeros(self._energy - 1)
        self._seen = 0
        self._first: float | None = None
        self._peak, self._place = 0.0, -1
        self._before = (0.0, 0.0)
        self._beats = deque[float](maxlen=8)
        self._noise = deque[float](maxlen=8)
        self._last = -self._lost

    def process(self, block: Floats) -> list[int]:
        """The beats that are known after this block (samples,), as sample numbers from the
        first block's first sample."""
        if not len(block):
            return []
        if self._first is None:
            self._first = float(block[0])
        joined = np.concatenate([self._input, block.astype(np.float64) - self._first])
        self._input = joined[len(joined) - len(self._input) :]
        slopes = np.square(_dot(joined, self._kernel[::-1]))
        both = np.concatenate([self._slopes, slopes])
        self._slopes = both[len(both) - len(self._slopes) :]
        energy = _dot(both, np.full(self._energy, 1.0 / self._energy))
        found: list[int] = []
        for value in energy.tolist():
            peak = self._next(value)
            if peak is not None and self._first_peaks is not None:
                self._first_peaks.append(peak)
            elif peak is not None:
                found += self._beat(*peak)
            if self._seen == self._learn:
                found += self._learned()
        return found

    def flush(self) -> list[int]:
        """The beats that only the end of the signal makes known."""
        seen = self._seen
        rest = self.process(np.full(self.lateness + 1, self._input[-1] + (self._first or 0.0)))
        return [place for place in rest if place < seen]

    def _learned(self) -> list[int]:
        """The beats among the peaks of the beginning, once the highest of them is known."""
        peaks, self._first_peaks = self._first_peaks or [], None
        if peaks:
            self._beats.append(max(peak for peak, _ in peaks))
        return [beat for peak, place in peaks for beat in self._beat(peak, place)]

    def _next(self, energy: float) -> tuple[float, int] | None:
        """The peak of energy, and its place, that is known to be one with this sample's."""
        two, one = self._before
        self._before = (one, energy)
        at = self._seen - 1
        self._seen += 1
        # The highest peak of those that lie closer together than beats do.
        if one > two and one >= energy and one > self._peak:
            if self._place < 0 or at - self._place < self._refractory:
                self._peak, self._place = one, at
        if self._place < 0 or self._seen - self._place < self._refractory:
            return None
        peak, place = self._peak, self._place
        self._peak, self._place = 0.0, -1
        return peak, place

    def _beat(self, peak: float, place: int) -> list[int]:
        """The place of the beat, if the peak is one."""
        beats = float(np.median(self._beats)) if self._beats else peak
        noise = float(np.median(self._noise)) if self._noise else 0.0
        share = SHARE * 0.5 ** max(0, (place - self._last) // self._lost - 1)
        if peak <= 0 or peak < noise + share * (beats - noise):
            self._noise.append(peak)
            return []
        self._beats.append(min(peak, 4 * beats))
        self._last = place
        return [max(0, place - self.delay)]


class Prematurity:
    """How early each beat comes, as a share of the usual interval, -0.5 to 0.6: 0 on time."""

    def __init__(self, rate_hz: float) -> None:
        """Args:
        rate_hz: sample rate of the beats' places.
        """
        self._intervals = deque[float](maxlen=INTERVALS)
        self._usual = FIRST_INTERVAL_S * rate_hz
        self._before: int | None = None

    def next(self, place: int) -> float:
        """Of a beat at the sample `place`, after those before it."""
        if self._before is None:
            self._before = place
            return 0.0
        interval = float(place - self._before)
        self._before = place
        # A few beats say little: the first interval that is assumed counts beside them.
        known = [*self._intervals, *[self._usual] * max(0, 5 - len(self._intervals))]
        usual = float(np.median(known))
        self._intervals.append(interval)
        return math.nan if usual <= 0 else min(0.6, max(-0.5, 1.0 - interval / usual))


def _dot(signal: Floats, kernel: Floats) -> Floats:
    """Sums of products of every stretch of the signal with the kernel: each of its own, so that
    they are the same to the last bit wherever a block began."""
    stretches = np.lib.stride_tricks.sliding_window_view(signal, len(kernel))
    return np.asarray(np.einsum("ij,j->i", stretches, kernel))
