"""Latents of a running signal, window by window, from blocks of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from edgeae.autoencoder import Autoencoder

__all__ = ["WindowStream", "Windows"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Windows:
    """Windows that a block of samples has completed.

    Attributes:
        starts: sample of the stream at which each begins, int64 (N,).
        items: the windows, float32 (N, samples, channels); NaN where a value is missing.
        latents: float32 (N, latents).
    """

    starts: npt.NDArray[np.int64]
    items: Floats
    latents: Floats

    def __len__(self) -> int:
        return len(self.starts)


class WindowStream:
    """Cuts a signal into windows as it arrives; see `Autoencoder.stream`. One thread feeds one
    stream; many streams may share a model. What it keeps is less than a window and a block."""

    def __init__(self, model: Autoencoder, *, hop_samples: int | None = None) -> None:
        """See `Autoencoder.stream`."""
        if model.kind != "signal":
            raise ValueError(f"the model takes a {model.kind}, expected one of a signal")
        length, self._channels = model.shape
        hop = length if hop_samples is None else hop_samples
        if isinstance(hop, bool) or not isinstance(hop, int | np.integer) or hop < 1:
            raise ValueError(f"hop_samples is {hop!r}, expected a whole number from 1")
        self._model, self._length, self._hop = model, length, int(hop)
        self.reset()

    def reset(self) -> None:
        """Begin a new signal."""
        self._kept = np.zeros((0, self._channels), np.float32)
        # Sample of the stream at which what is kept begins, and at which the next window does.
        self._first = self._next = 0

    @property
    def samples(self) -> int:
        """Samples taken since the beginning."""
        return self._first + len(self._kept)

    def push(self, block: Array) -> Windows:
        """The windows that become complete with a block; none of them where it is too short.

        Args:
            block: float32 or float64 (samples, channels), or (samples,) of one channel; any length,
                0 too. NaN is a missing value where the model was trained with such.

        Raises:
            TypeError, ValueError: another dtype or shape, or a value that is not finite; the
                stream then stays as it was.
        """
        values = self._checked(block)
        kept = np.concatenate([self._kept, values])
        ends = self._first + len(kept)
        starts = np.arange(self._next, ends - self._length + 1, self._hop, dtype=np.int64)
        places = (starts - self._first)[:, None] + np.arange(self._length)
        items = kept[places] if len(starts) else np.zeros((0, *self._model.shape), np.float32)
        windows = Windows(starts, items, self._latents(items))
        if len(starts):
            self._next = int(starts[-1]) + self._hop
        # With hops longer than a window, the next one may begin after all that is here.
        drop = min(self._next - self._first, len(kept))
        self._kept, self._first = kept[drop:].copy(), self._first + drop
        return windows

    def _latents(self, items: Floats) -> Floats:
        if not len(items):
            return np.zeros((0, self._model.latents), np.float32)
        known = ~np.isnan(items)
        if known.all():
            return self._model.encode(items)
        return self._model.encode(np.where(known, items, np.float32(0)), known=known)

    def _checked(self, block: Array) -> Floats:
        if not isinstance(block, np.ndarray) or block.dtype not in (np.float32, np.float64):
            told = block.dtype if isinstance(block, np.ndarray) else type(block).__name__
            raise TypeError(f"block is {told}, expected an array of float32 or float64")
        values = block[:, None] if block.ndim == 1 and self._channels == 1 else block
        if values.ndim != 2 or values.shape[1] != self._channels:
            raise ValueError(f"block has shape {block.shape}, expected (samples, {self._channels})")
        if np.isinf(values).any() or (np.isnan(values).any() and not self._model.masked):
            raise ValueError("block holds NaN or infinity, expected finite values")
        return values.astype(np.float32, copy=False)
