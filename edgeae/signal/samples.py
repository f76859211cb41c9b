"""Audio arrays of callers: checks on the way in, rank and dtype on the way out."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.signal.stft import Floats

__all__ = ["MAX_CHANNELS", "Array", "as_given", "check_audio", "stream_repr", "whole_number"]

Array = npt.NDArray[Any]

# Nobody streams more channels through one speech model; a transposed array has thousands.
MAX_CHANNELS = 64
# Float audio is in [-1, 1] and may overshoot. 60 dB above full scale is a scaling mistake, such as
# 16-bit values in a float array, and squares of far larger values leave the range of float32.
MAX_MAGNITUDE = 1000.0

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int16))


def check_audio(audio: Array) -> Array:
    """The array, as a plain one, if it is audio.

    Args:
        audio: (frames,) or (frames, channels) with 1 to 64 channels, float32 or float64 in
            [-1, 1] (an overshoot of up to 60 dB is taken), or int16. 0 frames are taken.

    Raises:
        TypeError: no numpy array, a masked one, or of another dtype.
        ValueError: another shape, NaN, infinity, or samples beyond that range.
    """
    if not isinstance(audio, np.ndarray):
        raise TypeError(f"audio is a {type(audio).__name__}, expected a numpy array")
    if isinstance(audio, np.ma.MaskedArray):
        raise TypeError("audio is a masked array, expected one without a mask (filled or skipped)")
    audio = np.asarray(audio)
    if audio.dtype not in _DTYPES:
        raise TypeError(f"audio is {audio.dtype}, expected float32, float64 or int16")
    if audio.ndim not in (1, 2):
        raise ValueError(f"audio has shape {audio.shape}, expected (frames,) or (frames, channels)")
    if audio.ndim == 2 and not 1 <= audio.shape[1] <= MAX_CHANNELS:
        raise ValueError(
            f"audio has shape {audio.shape}, expected (frames, channels) with 1 to {MAX_CHANNELS} "
            "channels"
        )
    # Most audio passes the quick test: if the sum of squares is in range, every sample is. No
    # comparison with NaN holds, and minimum and maximum are NaN if any sample is.
    if audio.dtype.kind == "f" and not np.vdot(audio, audio) <= MAX_MAGNITUDE**2:
        lowest, highest = audio.min(), audio.max()
        if not (-MAX_MAGNITUDE <= lowest and highest <= MAX_MAGNITUDE):
            if not (np.isfinite(lowest) and np.isfinite(highest)):
                raise ValueError("audio holds NaN or infinity, expected finite samples")
            raise ValueError(
                f"audio runs from {lowest:g} to {highest:g}, expected float audio in [-1, 1], or "
                "int16 for 16-bit values"
            )
    return audio


def as_given(audio: Floats, dtype: np.dtype[Any], one_dimensional: bool) -> Array:
    """Audio in the caller's dtype and rank.

    Args:
        audio: (frames, channels), float32 in [-1, 1]; what lies beyond is clipped for int16.
        dtype: float32, float64 or int16, as `check_audio` lets them through.
        one_dimensional: give (frames,) instead of (frames, 1).
    """
    if one_dimensional:
        audio = audio[:, 0]
    if dtype == np.int16:
        return np.asarray(np.clip(np.rint(audio * np.float32(32768)), -32768, 32767), np.int16)
    return audio.astype(dtype, copy=False)


def whole_number(value: Any, name: str, least: int, most: int) -> int:
    """The value as an int.

    Raises:
        TypeError: it is no whole number; True and False are none.
        ValueError: it is not between `least` and `most`, both allowed.
    """
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected a whole number") from None
    if not least <= number <= most:
        raise ValueError(f"{name} is {number}, expected {least} to {most}")
    return number


def stream_repr(name: str, channels: int, rate_hz: int, *parts: str) -> str:
    """What a stream says of itself: its class, channels and rate, then what is its own."""
    many = f"{channels} channel{'s' if channels > 1 else ''}"
    return f"<{name}: {', '.join((f'{many} at {rate_hz} Hz', *parts))}>"
