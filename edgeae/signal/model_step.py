"""The step graph of a denoiser on the spectra of one stream, with the states of its channels."""

from __future__ import annotations

import numpy as np

from edgeae.runtime import Graph
from edgeae.signal.spec import StreamSpec
from edgeae.signal.stft import Floats, Spectrum

__all__ = ["ModelStep"]


class ModelStep:
    """One graph, run channel by channel; each channel has its own states."""

    def __init__(self, graph: Graph, spec: StreamSpec, *, channels: int) -> None:
        """Binds the graph, once, to the arrays that every run reads and writes."""
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
        self._turn = 0

    def reset(self) -> None:
        """Sets every state to zero, as before a signal."""
        for pair in self._states:
            for state in (*pair[0], *pair[1]):
                state[...] = 0.0
        self._turn = 0

    def run(self, noisy: Spectrum) -> Spectrum:
        """The clean spectra of one hop.

        Args:
            noisy: complex64 (channels, bins), unscaled.

        Returns:
            complex64 (channels, bins), of the frame `lookahead_hops` before; the next run
            overwrites it.

        Raises:
            EdgeaeError: the graph failed to run.
        """
        for channel, runs in enumerate(self._runs):
            self._input[0] = _parts(noisy[channel])
            runs[self._turn]()
            _parts(self._clean[channel])[...] = self._output[0]
        self._turn ^= 1
        return self._clean


def _parts(spectrum: Spectrum) -> Floats:
    """A view (2, bins) of a spectrum (bins,): its real and its imaginary parts."""
    return spectrum.view(np.float32).reshape(-1, 2).T
