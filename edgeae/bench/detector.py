"""What a detector is timed at, and what must hold of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae.bench.workloads import Workload
from edgeae.detector import Detector
from edgeae.errors import EdgeaeError
from edgeae.media.series import read_series

__all__ = ["self_test", "typical_runs", "workloads"]

WINDOWS = 12


def workloads(detector: Detector, *, source: Path | None = None) -> list[Workload]:
    """Scoring one window, made here or the first of `source`."""
    spec = detector.spec
    made = _made(detector) if source is None else read_series(source).samples
    window = np.ascontiguousarray(made[: spec.window_samples], np.float32)
    what = f"score one window of {spec.window_samples} samples x {spec.channels} channels"
    beats = np.array([spec.beat_before]) if spec.beats else None
    return [
        Workload("window", what, 1, "window", lambda: detector.score(window, beats=beats)),
    ]


def self_test(detector: Detector) -> Iterator[str]:
    """One line for each check on a signal made here; EdgeaeError says which one failed."""
    signal = _made(detector)
    whole = detector.score(signal)
    if whole.samples.shape != (len(signal),) or not np.isfinite(whole.samples).all():
        raise EdgeaeError("self-test failed: the scores that came out are not finite")
    stream = detector.stream()
    parts = [stream.process(block) for block in np.array_split(signal, 23)]
    parts.append(stream.flush())
    for name in ("starts", "windows", "channels"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        if not np.array_equal(joined, getattr(whole, name)):
            raise EdgeaeError(f"self-test failed: {name} of a stream differ from the whole's")
    yield f"{len(whole.windows)} windows scored in blocks as in one"


def typical_runs(detector: Detector, **_: Any) -> int:
    """Scores the made signal; every run is one for calibration."""
    detector.score(_made(detector))
    return 1


def _made(detector: Detector) -> NDArray[np.float32]:
    """Noise with a pulse once in a while, float32 (samples, channels)."""
    spec = detector.spec
    count = WINDOWS * spec.window_samples
    signal = np.random.default_rng(0).normal(0, 0.1, (count, spec.channels))
    if spec.rate_hz:
        t = np.arange(count) / spec.rate_hz
        signal += np.exp(-0.5 * ((t % 0.8 - 0.4) / 0.015) ** 2)[:, None]
    return np.asarray(signal, np.float32)
