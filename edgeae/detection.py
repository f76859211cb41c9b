"""What a detector's manifest says, and what comes of scores: alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.errors import BundleError

__all__ = ["Alarm", "DetectionSpec", "Scores", "detection_spec", "merged"]

Floats = npt.NDArray[np.float32]

MAX_WINDOW_SAMPLES, MAX_CHANNELS, MAX_PAST = 1 << 20, 4096, 1 << 16
# Scores are logarithms: what is added to them or compared with them is no larger.
MAX_LEVEL = 1e6
# Beats are found in a band up to 18 Hz, by filters whose length grows with the rate.
BEATS_HZ = 40.0, 20_000.0


@dataclass(frozen=True)
class Scores:
    """How strange a signal is; higher is stranger.

    Attributes:
        starts: first sample of each window, int64 (windows,).
        windows: the score of each, float32 (windows,).
        channels: the mean squared error of each channel in it, in units of what is normal, float32
            (windows, channels): which of them is strange.
        window_samples: length of a window.
        samples: a score for each sample, float32 (samples,): that of the first window that holds
            it, so nothing after the window is needed. Empty in what a stream gives.
    """

    starts: npt.NDArray[np.int64]
    windows: Floats
    channels: Floats
    window_samples: int
    samples: Floats


@dataclass(frozen=True)
class Alarm:
    """A stretch of a signal that is strange: samples `start` up to, but without, `end`; the highest
    score in it, and the channel with the largest error there."""

    start: int
    end: int
    score: float
    channel: int


@dataclass(frozen=True)
class DetectionSpec:
    """The manifest's layout and its section `detection`, checked.

    Attributes:
        window_samples, channels: of what the graph takes.
        hop_samples: from window to window; of beats nothing.
        rate_hz: sample rate, if the model has one.
        threshold: score above which a window is flagged.
        merge_samples: alarms closer together than this are one.
        smooth_windows: the errors of so many windows are averaged.
        relative_windows: scores count from the median of so many before; 0 leaves them as they are.
        relative_least, relative_prior: until so many have been, that many of the prior's count.
        beats: windows lie around heart beats, `beat_before` samples before one.
        prematurity: weight of how early a beat comes.
    """

    window_samples: int
    channels: int
    hop_samples: int
    rate_hz: float | None
    threshold: float
    merge_samples: int
    smooth_windows: int
    relative_windows: int
    relative_least: int
    relative_prior: float
    beats: bool
    beat_before: int
    prematurity: float

    @property
    def beat_after(self) -> int:
        """Samples of a window from its beat on."""
        return self.window_samples - self.beat_before


def detection_spec(
    name: str, layout: Mapping[str, Any], section: Mapping[str, Any]
) -> DetectionSpec:
    """What the sections `layout` and `detection` of the manifest of the model `name` say.

    Raises BundleError, naming the key.
    """

    def wrong(key: str, value: Any, expected: str) -> BundleError:
        return BundleError(f"{name}: {key} is {value!r}, expected {expected}")

    def whole(key: str, value: Any, least: int, most: int) -> int:
        if type(value) is not int or not least <= value <= most:
            raise wrong(key, value, f"a whole number, {least} to {most}")
        return value

    def number(key: str, value: Any, most: float = MAX_LEVEL) -> float:
        if type(value) not in (int, float) or not abs(value) <= most:  # NaN too
            raise wrong(key, value, f"a number of at most {most:g}, either way")
        return float(value)

    if layout.get("kind") != "signal":
        raise wrong("layout.kind", layout.get("kind"), "'signal'")
    shape = layout.get("shape")
    if not isinstance(shape, list) or len(shape) != 2:
        raise wrong("layout.shape", shape, "[samples, channels]")
    window = whole("layout.shape[0]", shape[0], 1, MAX_WINDOW_SAMPLES)
    rate = layout.get("sample_rate_hz")
    if rate is not None and not number("sample_rate_hz", rate, 1e12) > 0:
        raise wrong("sample_rate_hz", rate, "a positive number")
    beats = section.get("beats", False)
    if type(beats) is not bool:
        raise wrong("beats", beats, "true or false")
    low, high = BEATS_HZ
    if beats and not (rate is not None and low <= rate <= high):
        told = f"{low:g} to {high:g}, as it is a detector of beats"
        raise wrong("sample_rate_hz", rate, told)
    return DetectionSpec(
        window_samples=window,
        channels=whole("layout.shape[1]", shape[1], 1, MAX_CHANNELS),
        hop_samples=whole("hop_samples", section.get("hop_samples"), 1, window),
        rate_hz=None if rate is None else float(rate),
        threshold=number("threshold", section.get("threshold")),
        merge_samples=whole(
            "merge_samples", section.get("merge_samples", window), 0, MAX_WINDOW_SAMPLES
        ),
        smooth_windows=whole("smooth_windows", section.get("smooth_windows", 1), 1, MAX_PAST),
        relative_windows=whole("relative_windows", section.get("relative_windows", 0), 0, MAX_PAST),
        # At least one: the first window of a signal has no other to count from.
        relative_least=whole("relative_least", section.get("relative_least", 10), 1, MAX_PAST),
        relative_prior=number("relative_prior", section.get("relative_prior", 0.0)),
        beats=beats,
        beat_before=whole("beat_before", section.get("beat_before", 0), 0, window),
        prematurity=number("prematurity", section.get("prematurity", 0.0)),
    )


def merged(scores: Scores, threshold: float, spec: DetectionSpec) -> list[Alarm]:
    """Alarms of windows above a threshold, those closer together than `merge_samples` as one.

    An alarm begins with what is new in its first window, which is what made it strange, and ends
    with its last window.
    """
    alarms: list[Alarm] = []
    new = spec.window_samples if spec.beats else spec.hop_samples
    for index in np.flatnonzero(scores.windows > threshold):
        start, score = int(scores.starts[index]), float(scores.windows[index])
        channel = int(np.argmax(scores.channels[index]))
        end = start + spec.window_samples
        begin = start if start == 0 else end - new
        if alarms and begin - alarms[-1].end <= spec.merge_samples:
            before = alarms[-1]
            if before.score >= score:
                score, channel = before.score, before.channel
            begin = before.start
            alarms.pop()
        alarms.append(Alarm(begin, end, score, channel))
    return alarms
