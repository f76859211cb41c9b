"""What `score` says of a series, as lines, as JSON and as scores for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeae.cli.series_files import series_at
from edgeae.detector import Alarm, Detector, Scores
from edgeae.errors import MediaError
from edgeae.media.series import Series

__all__ = ["as_json", "channel_name", "lines", "read_for"]


def read_for(detector: Detector, source: Path, missing: str) -> Series:
    """The series of a file, float32 (samples, channels) in physical units, with the channels of a
    detector, chosen by their names where both have them.

    Raises:
        MediaError: it cannot be read, or lacks a channel.
    """
    series = series_at(source, detector.spec.rate_hz, missing)
    names = detector.bundle.manifest.layout.get("names") or []
    samples = series.samples
    if names and series.names and set(names) <= set(series.names):
        chosen = [series.names.index(name) for name in names]
        samples = samples[:, chosen]
        units = tuple(series.units[i] for i in chosen) if series.units else ()
        series = Series(samples, series.sample_rate_hz, tuple(names), units)
    if samples.shape[1] != detector.spec.channels:
        raise MediaError(
            f"{source} has {samples.shape[1]} channels ({', '.join(series.names)}), expected "
            f"{detector.spec.channels}" + (f" ({', '.join(names)})" if names else "")
        )
    if len(samples) < detector.spec.window_samples:
        raise MediaError(
            f"{source} has {len(samples)} samples, expected at least "
            f"{detector.spec.window_samples}, one window"
        )
    return series


def channel_name(series: Series, channel: int) -> str:
    """What a channel is called, or its number."""
    return series.names[channel] if series.names else str(channel)


def lines(series: Series, alarms: list[Alarm], scores: Scores, threshold: float) -> list[str]:
    """A line for each alarm, then one on the whole."""
    found = []
    for alarm in alarms:
        where = _span(series, alarm)
        name = channel_name(series, alarm.channel)
        found.append(f"{where}  score {alarm.score:.3f}  most in {name}")
    highest = f"{scores.windows.max():.3f}" if len(scores.windows) else "none"
    found.append(
        f"{len(alarms)} alarms in {len(series.samples)} samples; highest score {highest}, "
        f"threshold {threshold:.3f}"
    )
    return found


def as_json(
    detector: Detector, series: Series, alarms: list[Alarm], scores: Scores, threshold: float
) -> dict[str, Any]:
    """All of it for programs; numbers are rounded to what a float32 holds."""
    rate = series.sample_rate_hz or detector.spec.rate_hz
    return {
        "model": detector.bundle.manifest.name,
        "bundle": detector.bundle.id,
        "threshold": threshold,
        "sample_rate_hz": rate,
        "samples": len(series.samples),
        "window_samples": scores.window_samples,
        "alarms": [
            {
                "start": alarm.start,
                "end": alarm.end,
                **({"start_s": alarm.start / rate, "end_s": alarm.end / rate} if rate else {}),
                "score": round(alarm.score, 6),
                "channel": channel_name(series, alarm.channel),
            }
            for alarm in alarms
        ],
        "starts": scores.starts.tolist(),
        "scores": np.round(scores.windows.astype(np.float64), 6).tolist(),
    }


def _span(series: Series, alarm: Alarm) -> str:
    rate = series.sample_rate_hz
    if rate is None:
        return f"samples {alarm.start} to {alarm.end}"
    return f"{alarm.start / rate:.2f} to {alarm.end / rate:.2f} s"
