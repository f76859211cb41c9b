"""What a denoiser of sensor signals is timed at, and what must hold of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae.bench.workloads import Workload
from edgeae.errors import EdgeaeError
from edgeae.media.series import read_series
from edgeae.signal.denoiser import SignalDenoiser

__all__ = ["self_test", "typical_runs", "workloads"]

SIGNAL_S = 30


def workloads(denoiser: SignalDenoiser, *, source: Path | None = None) -> list[Workload]:
    """One hop of a live stream, on a signal made here or the first channel of `source`.

    Raises MediaError for a source that cannot be read.
    """
    manifest = denoiser.bundle.manifest
    rate_hz, hop = manifest.layout["sample_rate_hz"], (manifest.stream or {})["hop_samples"]
    signal = _made(rate_hz) if source is None else read_series(source).samples[:, 0]
    stream = denoiser.stream()
    starts = range(0, len(signal) - hop + 1, hop)
    blocks = itertools.cycle([signal[start : start + hop] for start in starts])
    what = f"stream.process of one hop, {hop} samples at {rate_hz} Hz"
    seconds = hop / rate_hz
    return [
        Workload("hop", what, seconds, "second of signal", lambda: stream.process(next(blocks)))
    ]


def self_test(denoiser: SignalDenoiser) -> Iterator[str]:
    """One line for each check of a signal made here; EdgeaeError says which one failed."""
    rate_hz = denoiser.bundle.manifest.layout["sample_rate_hz"]
    noisy = _made(rate_hz)
    whole = denoiser.denoise(noisy)
    if whole.shape != noisy.shape or not np.isfinite(whole).all():
        raise EdgeaeError("self-test failed: the signal that came out is not finite")
    stream = denoiser.stream()
    parts = [stream.process(block) for block in np.array_split(noisy, 37)]
    joined = np.concatenate([*parts, stream.flush()])[stream.delay :]
    if not np.array_equal(joined, whole):
        raise EdgeaeError("self-test failed: a stream differs from the whole")
    yield f"{SIGNAL_S} s of a made signal came out in blocks as in one"


def typical_runs(denoiser: SignalDenoiser, **_: Any) -> int:
    """Denoises the made signal; one hop in four is one for calibration."""
    denoiser.denoise(_made(denoiser.bundle.manifest.layout["sample_rate_hz"]))
    return 4


def _made(rate_hz: int) -> NDArray[np.float32]:
    """Peaks once a second on a slow wave in noise, float32 (samples,)."""
    t = np.arange(SIGNAL_S * rate_hz) / rate_hz
    beats = np.exp(-0.5 * ((t % 1.0 - 0.5) / 0.02) ** 2)
    noise = np.random.default_rng(0).normal(0, 0.1, len(t))
    return np.asarray(beats + 0.3 * np.sin(t) + noise, np.float32)
