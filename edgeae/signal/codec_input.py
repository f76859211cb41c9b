"""What a signal codec is given, checked, and how its latent steps are divided."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.signal.codec_header import DTYPES, Header

__all__ = ["FILE_STEPS", "key_steps", "prepared", "segments_of", "spread_mask"]

STRIDE = 16
# A block of a file: 131,072 samples of each lead, six minutes at 360 Hz.
FILE_STEPS = 8192
_MAX_LEADS = 4096

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def prepared(
    samples: Array,
    codec_id: bytes,
    rate_hz: float,
    names: Sequence[str] = (),
    units: Sequence[str] = (),
) -> tuple[Array, Header]:
    """The samples (samples, leads), and a header that says all but how they are coded.

    Raises TypeError, ValueError: what `SignalCodec.compress` says of its arguments.
    """
    if not isinstance(samples, np.ndarray) or samples.dtype.name not in DTYPES:
        kind = getattr(samples, "dtype", type(samples).__name__)
        raise TypeError(f"samples are {kind}, expected an array of {', '.join(DTYPES)}")
    if samples.ndim not in (1, 2) or 0 in samples.shape or samples.shape[-1] == 0:
        raise ValueError(
            f"samples have shape {samples.shape}, expected (samples,) or (samples, leads)"
        )
    signal = samples.reshape(len(samples), -1)
    if signal.shape[1] > _MAX_LEADS:
        raise ValueError(f"samples have {signal.shape[1]} leads, expected at most {_MAX_LEADS}")
    if signal.dtype.kind == "f" and not np.isfinite(signal).all():
        raise ValueError("samples hold NaN or infinity, expected finite numbers")
    if not isinstance(rate_hz, Real) or not 0 < rate_hz < 1e12:
        raise ValueError(f"sample_rate is {rate_hz!r}, expected a positive number of Hz")
    for what, given in (("names", names), ("units", units)):
        if given and len(given) != signal.shape[1]:
            raise ValueError(f"{len(given)} {what}, expected {signal.shape[1]}")
    wide = signal.astype(np.float64)
    # float32 holds them: what the writer uses is what the reader finds.
    offsets = wide.mean(axis=0).astype(np.float32)
    scales = np.maximum(wide.std(axis=0), 1e-30).astype(np.float32)
    scales[scales < 1e-6 * np.abs(offsets)] = 1.0
    if not (np.isfinite(offsets).all() and np.isfinite(scales).all()):
        raise ValueError("samples reach further, expected what float32 holds")
    return signal, Header(
        codec_id,
        0,
        samples.dtype.name,
        signal.shape[1],
        samples.ndim == 1,
        len(signal),
        float(rate_hz),
        FILE_STEPS,
        0,
        tuple(map(float, offsets)),
        tuple(map(float, scales)),
    )


def key_steps(seconds: float | None, rate_hz: float, name: str = "key_seconds") -> int:
    """Seconds in latent steps, 0 for None."""
    if seconds is None:
        return 0
    if not isinstance(seconds, Real) or not 0 < seconds < 1e9:
        raise ValueError(f"{name} is {seconds!r}, expected a positive number of seconds")
    return max(1, round(float(seconds) * rate_hz / STRIDE))


def segments_of(samples: int, keys: int) -> list[slice]:
    """Steps from key to key."""
    steps = -(-samples // STRIDE)
    every = min(keys, FILE_STEPS) if keys else steps
    return [slice(begin, min(steps, begin + every)) for begin in range(0, steps, every)]


def spread_mask(lost: Mask, halo: int, samples: int) -> Mask:
    """The mask (samples,) of samples that lost steps, True in `lost` (steps,), touch: they and
    `halo` steps to each side."""
    steps = len(lost)
    counts = np.concatenate([[0], np.cumsum(lost)])
    place = np.arange(steps)
    near = counts[np.minimum(place + halo + 1, steps)] - counts[np.maximum(place - halo, 0)]
    return np.repeat(near > 0, STRIDE)[:samples]
