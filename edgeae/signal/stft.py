"""Short-time Fourier transform, one hop at a time, and back by overlap-add.

The window is the periodic square root of a Hann window, at analysis and at synthesis. With windows
that overlap by half, the squares add up to one, so an unchanged spectrum gives the signal back.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.complex64]


def sqrt_hann(window_samples: int) -> Floats:
    """The periodic sqrt-Hann window, float32 (window_samples,): sin(pi n / window_samples)."""
    phase = np.arange(window_samples) * (np.pi / window_samples)
    return np.asarray(np.sin(phase), np.float32)


class Stft:
    """Frames to spectra and spectra to finished hops, for any number of channels at once.

    Holds the overlap of the last frame, so one object serves one signal. A hop is half a window.
    """

    def __init__(self, window_samples: int, *, channels: int = 1) -> None:
        if window_samples < 4 or window_samples % 2:
            raise ValueError(f"window_samples is {window_samples}, expected an even number from 4")
        self.window_samples = window_samples
        self.hop_samples = window_samples // 2
        self.bins = window_samples // 2 + 1
        self._window = sqrt_hann(window_samples)
        # Buffers are reused from hop to hop: a streaming caller makes no garbage here.
        self._frame = np.empty((channels, window_samples), np.float32)
        self._spectrum = np.empty((channels, self.bins), np.complex64)
        self._overlap = np.zeros((channels, self.hop_samples), np.float32)

    def analyze(self, frame: Floats) -> Spectrum:
        """The spectrum, unscaled complex64 (channels, bins), of a float32 frame (channels, window).

        The array is overwritten by the next call.
        """
        np.multiply(frame, self._window, out=self._frame)
        self._spectrum[...] = np.fft.rfft(self._frame, axis=-1)
        return self._spectrum

    def synthesize(self, spectrum: Spectrum, out: Floats) -> None:
        """Writes to `out`, float32 (channels, hop), the samples that this frame completes.

        `spectrum` is complex64 (channels, bins), unscaled.

        They are those of the first half of the frame; the second half waits for the next frame.
        """
        np.multiply(
            np.fft.irfft(spectrum, axis=-1), self._window, out=self._frame, casting="same_kind"
        )
        np.add(self._overlap, self._frame[:, : self.hop_samples], out=out)
        self._overlap[...] = self._frame[:, self.hop_samples :]

    def reset(self) -> None:
        """Forgets the signal."""
        self._overlap[...] = 0.0
