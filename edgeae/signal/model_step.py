"""The step graph of a denoiser on the spectra of one stream, with the states of its channels."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from edgeae.errors import EdgeaeError
from edgeae.runtime import Graph
from edgeae.signal.spec import StreamSpec
from edgeae.signal.stft import Floats, Spectrum

__all__ = ["ModelStep"]

# A window with samples beyond this is overload, not sound: resampling and limiters overshoot full
# scale by less. States follow the level for seconds, and after one second 30 times over full scale
# they would leave speech of usual level for silence, so after an overload they are what they were
# before it; unless it lasts, and is the level of this input.
OVERLOAD_PEAK = 2.0
LONGEST_OVERLOAD_S = 5.0
# How fast what is known of a scene fades in digital silence: a muted microphone may be in the same
# room afterwards, or in another.
HALF_LIFE_S = 1.0
# Below the least power of a bin that float32 can hold: what is divided by it is 0.
LEAST_POWER = np.float32(1e-30)


class ModelStep:
    """One graph, run channel by channel; each channel has its own states.

    While a channel is digital silence nothing is learned from it, and its states fade towards
    those of a new stream, by half in each second: after a short gap the model knows as much as
    before of noise that goes on, and after a long one a new scene is met as a new one. After an
    overload, states are what they were before it. This is left undone for a model with lookahead,
    whose states also hold the frames that it has not finished.

    With linked channels, what the model does to them is made one complex gain for each bin, the
    same for all channels, so that a voice stays where it is between them: the gain g with the least
    sum over channels of |g x - y|^2, where x is a channel's noisy and y its clean spectrum,
    g = sum conj(x) y / sum |x|^2. Equal channels are not changed by it.
    """

    def __init__(
        self, graph: Graph, spec: StreamSpec, *, channels: int, link_channels: bool
    ) -> None:
        """Binds the graph, once, to the arrays that every run reads and writes."""
        self._name = graph.file.name
        self._channels = channels
        self._linked = link_channels and channels > 1
        self._lookahead_hops = spec.lookahead_hops
        self._clean = np.zeros((channels, spec.bins), np.complex64)
        # The graph's input and output spectrum, and the states of every channel before and after a
        # step: from one to the next step the two change places, so that nothing is copied.
        self._input, self._output = np.zeros((2, 1, 2, spec.bins), np.float32)
        self._states = [
            [[np.zeros(shape, np.float32) for shape in spec.state_shapes] for _ in range(2)]
            for _ in range(channels)
        ]
        self._runs = [
            [
                graph.bind([self._input, *before], [self._output, *after])
                for before, after in (pair, pair[::-1])
            ]
            for pair in self._states
        ]
        self._before_overload = [
            [np.zeros(shape, np.float32) for shape in spec.state_shapes] for _ in range(channels)
        ]
        self._longest_overload_hops = round(LONGEST_OVERLOAD_S * spec.rate_hz / spec.hop_samples)
        self._half_life_hops = HALF_LIFE_S * spec.rate_hz / spec.hop_samples
        self.reset()

    def reset(self) -> None:
        """Sets every state to zero, as before a signal, where all is silence."""
        for pair in self._states:
            for state in (*pair[0], *pair[1]):
                state[...] = 0.0
        kept = self._lookahead_hops + 1
        self._turns = [0] * self._channels
        self._overload_hops = [0] * self._channels
        self._silent_frames = [kept] * self._channels
        self._noisy = deque([np.zeros_like(self._clean)] * kept, kept)

    @property
    def silent(self) -> list[bool]:
        """For each channel, whether the last run left it out as silence."""
        return [count > self._lookahead_hops for count in self._silent_frames]

    def run(self, noisy: Spectrum, peaks: Floats) -> Spectrum:
        """The clean spectra of one hop.

        Args:
            noisy: complex64 (channels, bins), unscaled.
            peaks: the largest magnitude, float32 (channels,), of the samples behind each spectrum.

        Returns:
            complex64 (channels, bins), of the frame `lookahead_hops` before; the next run
            overwrites it.

        Raises:
            EdgeaeError: the graph failed to run, or gave NaN, infinity or immense values.
        """
        clean = self._clean
        for channel, peak in enumerate(peaks.tolist()):
            # Frames within the lookahead are not finished yet: they still need their steps.
            left_out = max(0, self._silent_frames[channel] - self._lookahead_hops)
            self._silent_frames[channel] = self._silent_frames[channel] + 1 if peak == 0.0 else 0
            if self._silent_frames[channel] > self._lookahead_hops:
                clean[channel] = 0.0
                continue
            if left_out:
                self._fade_states(channel, left_out)
            if self._lookahead_hops == 0:
                self._guard_states(channel, peak)
            self._input[0] = _parts(noisy[channel])
            self._runs[channel][self._turns[channel]]()
            self._turns[channel] ^= 1
            # A sum of squares is finite only if every value is.
            if not math.isfinite(np.vdot(self._output, self._output)):
                raise EdgeaeError(f"{self._name} gave NaN or infinity, expected a finite spectrum")
            _parts(clean[channel])[...] = self._output[0]
        if self._linked:
            self._noisy.append(noisy.copy())
            self._link(self._noisy[0])
        return clean

    def _fade_states(self, channel: int, hops: int) -> None:
        """Makes the states of a channel those after so many hops of silence."""
        faded = np.float32(0.5 ** (hops / self._half_life_hops))
        for state in self._states[channel][self._turns[channel]] + self._before_overload[channel]:
            state *= faded

    def _guard_states(self, channel: int, peak: float) -> None:
        """Keeps the states of a channel from before an overload, and puts them back after it."""
        states = self._states[channel][self._turns[channel]]
        kept = self._before_overload[channel]
        if peak > OVERLOAD_PEAK:
            if self._overload_hops[channel] == 0:
                _copy(states, kept)
            self._overload_hops[channel] += 1
        elif self._overload_hops[channel]:
            if self._overload_hops[channel] <= self._longest_overload_hops:
                _copy(kept, states)
            self._overload_hops[channel] = 0

    def _link(self, noisy: Spectrum) -> None:
        """Replaces the clean spectra by the noisy ones (channels, bins) times their common gain."""
        power = np.einsum("cb,cb->b", noisy.conj(), noisy).real
        gain = np.einsum("cb,cb->b", noisy.conj(), self._clean) / np.maximum(power, LEAST_POWER)
        np.multiply(noisy, gain, out=self._clean)


def _copy(source: list[Floats], target: list[Floats]) -> None:
    for values, place in zip(source, target, strict=True):
        place[...] = values


def _parts(spectrum: Spectrum) -> Floats:
    """A view (2, bins) of a spectrum (bins,): its real and its imaginary parts."""
    return spectrum.view(np.float32).reshape(-1, 2).T
