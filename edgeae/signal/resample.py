"""Resampling between two integer rates, hop by hop, with a short linear-phase filter.

Output sample k stands at the time of k / rate_out_hz exactly, whatever the ratio, so two signals
that went different ways stay aligned to the sample. A general resampler is built for offline work:
soxr 1.1 (ResampleStream, HQ, blocks of 1 ms) holds back 37 ms from 48 to 16 kHz and 116 ms from 8
to 16 kHz. Its filter is steep, as it must not lose the top of the band. Here the denoiser adds back
whatever the filter loses, so the filter can be gentle: 1.8 ms from 48 kHz, 3.6 ms from 8 kHz.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

# Edges of the filter as parts of the lower Nyquist frequency, and its attenuation. What folds back
# between the edges and below -70 dB meets the denoiser as a trace of extra noise.
PASS_EDGE = 0.875
STOP_EDGE = 1.025
ATTENUATION_DB = 70.0


# The largest term of an exact ratio of rates: that of 11,025 to 16,000 Hz, which is 640 / 441.
MAX_RATIO_TERM = 640
# An inexact ratio maps whole hops to at least so many whole input samples, so it is off by at most
# 1 in 1024, 1.7 cents of pitch.
MIN_PERIOD_SAMPLES = 512
# Output samples that are made at a time of whole audio.
_WHOLE_SAMPLES = 8192


def rate_ratio(rate_hz: int, model_rate_hz: int, hop_samples: int) -> tuple[int, int]:
    """The model's rate over the input's as two whole numbers, (up, down), in lowest terms.

    Exact for all usual rates. Where that needs terms above 640, the ratio is the nearest that makes
    a few hops whole numbers of input samples: filter tables and the hops until a stream's pattern
    repeats stay few. The model then gets the input played up to 0.1 % too fast or too slow. The way
    back has the inverse ratio, so the output keeps the input's time exactly.
    """
    exact = Fraction(model_rate_hz, rate_hz)
    if max(exact.numerator, exact.denominator) <= MAX_RATIO_TERM:
        return exact.numerator, exact.denominator
    hop_inputs = hop_samples / exact
    hops = math.ceil(MIN_PERIOD_SAMPLES / hop_inputs)
    near = Fraction(hops * hop_samples, round(hops * hop_inputs))
    return near.numerator, near.denominator


@dataclass(frozen=True, eq=False)
class PolyphaseBlock:
    """Where some output samples find their inputs in a buffer (rows), and with which filters."""

    rows: Integers
    filters: Floats

    def apply(self, windows: Floats) -> Floats:
        """The output samples, float32 (channels, count), from `Resampler.windows` of the buffer."""
        return np.asarray(np.einsum("crt,rt->cr", windows[:, self.rows], self.filters))


@dataclass(frozen=True, eq=False)
class Resampler:
    """A table of filter phases from one rate to another; it holds no signal.

    `longest` is the most output samples that one call will ask for; up / down is the ratio of the
    rates, see `rate_ratio`.
    """

    rate_in_hz: int
    rate_out_hz: int
    up: int
    down: int
    longest: int
    left: int = field(init=False)  # taps before and after the input sample an output sits on
    right: int = field(init=False)
    _bank: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        up, down = self.up, self.down
        nyquist_hz = min(self.rate_in_hz, self.rate_out_hz) / 2
        half = _half_length_s(nyquist_hz) * self.rate_in_hz
        left = int(half)
        right = int(half + (up - 1) / up)
        offset = np.arange(-left, right + 1)
        phase = (np.arange(up, dtype=np.int64) * down) % up
        bank = _kernel((offset[None, :] - phase[:, None] / up) / self.rate_in_hz, nyquist_hz)
        bank /= bank.sum(axis=1, keepdims=True)  # every phase passes a constant unchanged
        # Row k serves output k modulo `up`; the first rows come again so that any run is one slice.
        rows = np.arange(up + self.longest) % up
        for name, value in (("left", left), ("right", right)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_bank", bank.astype(np.float32)[rows])

    @property
    def taps(self) -> int:
        """The length of the filter in input samples."""
        return self.left + 1 + self.right

    def position(self, output: int) -> int:
        """The input sample at or just before the time of an output sample."""
        return (output * self.down) // self.up

    def inputs_for(self, outputs: int) -> int:
        """How many input samples must be known for the first `outputs` output samples."""
        return self.position(outputs - 1) + self.right + 1

    def outputs_from(self, inputs: int) -> int:
        """How many output samples the first `inputs` input samples give; negative before them."""
        return -((self.right - inputs) * self.up // self.down)

    def windows(self, signal: Floats) -> Floats:
        """Every run of `taps` samples of float32 (channels, samples): a view (channels, runs, taps)
        that follows its contents. ValueError for fewer samples than `taps`."""
        return np.lib.stride_tricks.sliding_window_view(signal, self.taps, axis=-1)

    def block(self, start: int, first: int, count: int) -> PolyphaseBlock:
        """How to make output samples first, first + 1, ... from a buffer.

        `start` is the number of the input sample at the buffer's beginning.
        """
        whole, phase = divmod(first * self.down, self.up)
        rows = (phase + np.arange(count, dtype=np.int64) * self.down) // self.up
        rows += whole - self.left - start
        return PolyphaseBlock(rows=rows, filters=self._bank[first % self.up :][:count])


@lru_cache(maxsize=8)
def resampler(rate_in_hz: int, rate_out_hz: int, up: int, down: int, longest: int) -> Resampler:
    """The resampler between two rates; the tables of the last few are kept and shared."""
    return Resampler(rate_in_hz, rate_out_hz, up, down, longest)


def resampled(audio: Floats, rate_in_hz: int, rate_out_hz: int) -> Floats:
    """Whole audio at another rate, float32, of its rank: (samples,) or (samples, channels).

    As long as before, to the nearest sample above; silence is what was before and after.
    """
    if rate_in_hz == rate_out_hz:
        return audio
    up, down = rate_ratio(rate_in_hz, rate_out_hz, MIN_PERIOD_SAMPLES)
    table = resampler(rate_in_hz, rate_out_hz, up, down, _WHOLE_SAMPLES)
    rows = np.ascontiguousarray(audio.T.reshape(-1, len(audio)), np.float32)
    count = -(-len(audio) * up // down)
    found = np.empty((len(rows), count), np.float32)
    for first in range(0, count, _WHOLE_SAMPLES):
        last = min(first + _WHOLE_SAMPLES, count) - 1
        begin, end = table.position(first) - table.left, table.position(last) + table.right + 1
        inside = rows[:, max(begin, 0) : end]
        missing = max(-begin, 0), max(end - rows.shape[1], 0)
        windows = table.windows(np.pad(inside, ((0, 0), missing)))
        block = table.block(begin, first, last - first + 1)
        found[:, first : last + 1] = block.apply(windows)
    return np.ascontiguousarray(found.T.reshape(count, *audio.shape[1:]))


def _half_length_s(nyquist_hz: float) -> float:
    """Half the length of a Kaiser-windowed filter with the edges above (Kaiser 1974, eq. 8)."""
    width = 2 * math.pi * (STOP_EDGE - PASS_EDGE) * nyquist_hz
    return (ATTENUATION_DB - 7.95) / (2.285 * width) / 2


def _kernel(time_s: npt.NDArray[np.float64], nyquist_hz: float) -> npt.NDArray[np.float64]:
    """A sinc whose cut-off lies midway between the edges, under a Kaiser window, at these times."""
    cutoff_hz = (PASS_EDGE + STOP_EDGE) / 2 * nyquist_hz
    beta = 0.1102 * (ATTENUATION_DB - 8.7)  # Kaiser 1974, eq. 7, above 50 dB
    inside = np.maximum(0.0, 1.0 - (time_s / _half_length_s(nyquist_hz)) ** 2)
    window = np.where(inside > 0.0, np.i0(beta * np.sqrt(inside)), 0.0)
    return np.sinc(2 * cutoff_hz * time_s) * window
