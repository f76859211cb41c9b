"""From a signal to scores, window by window, whole or as it comes in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from edgeae.detection import DetectionSpec, Scores
from edgeae.errors import EdgeaeError
from edgeae.exclusive import Exclusive
from edgeae.runtime import Graph
from edgeae.signal.beats import BeatFinder, Prematurity

__all__ = ["DetectorStream", "Scorer"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

# Squares of larger values leave the range of float32.
MAX_MAGNITUDE = 1e15
# Below this an error is rounding: its logarithm says nothing.
LEAST_ERROR = 1e-9


@dataclass(frozen=True)
class Scorer:
    """A graph of errors and how scores are made of them."""

    graph: Graph
    spec: DetectionSpec

    def score(self, x: Array, beats: npt.NDArray[np.integer[Any]] | None) -> Scores:
        """The scores of a signal, numbers (samples,) or (samples, channels) in physical units.

        `beats` are sample numbers (count,); raises as `edgeae.detector.Detector.score`.
        """
        signal = self.checked(x)
        if len(signal) < self.spec.window_samples:
            raise ValueError(
                f"x has {len(signal)} samples, expected at least one window of "
                f"{self.spec.window_samples}"
            )
        if beats is not None:
            return self._score_beats(signal, _places(beats, len(signal), self.spec))
        stream = DetectorStream(self)
        parts = [stream.process(signal), stream.flush()]
        return _joined(parts, self.spec, len(signal))

    def checked(self, x: Array) -> Array:
        """The signal (samples, channels). Raises TypeError or ValueError."""
        if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray):
            raise TypeError(f"x is {type(x).__name__}, expected a plain numpy array")
        if x.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"x has dtype {x.dtype}, expected float32 or float64 in the units of the training "
                "data"
            )
        signal = x[:, None] if x.ndim == 1 else x
        if signal.ndim != 2 or signal.shape[1] != self.spec.channels:
            raise ValueError(
                f"x has shape {x.shape}, expected (samples, {self.spec.channels})"
                + (" or (samples,)" if self.spec.channels == 1 else "")
            )
        if signal.size and not np.abs(signal).max() <= MAX_MAGNITUDE:  # NaN fails too
            raise ValueError(
                f"x holds NaN, infinity or more than {MAX_MAGNITUDE:g}, expected finite values"
            )
        return signal

    def errors(self, window: Array) -> npt.NDArray[np.float64]:
        """The mean error of each channel (channels,) of a window (window_samples, channels)."""
        (errors,) = self.graph(np.ascontiguousarray(window, np.float32)[None])
        if errors.ndim != 3 or errors.shape[::2] != (1, self.spec.channels):
            raise EdgeaeError(
                f"{self.graph.file.name} gives {errors.shape}, expected "
                f"(1, errors, {self.spec.channels})"
            )
        # One window at a time: a sum over a batch would be rounded otherwise in a stream.
        mean = errors[0].astype(np.float64).mean(axis=0)
        if not np.isfinite(mean).all() or mean.min() < 0:
            raise EdgeaeError(f"{self.graph.file.name} gives errors that are no squares")
        return np.asarray(mean)

    def _score_beats(self, signal: Array, beats: list[int]) -> Scores:
        follow = _Follow(self)
        rows = [row for beat in beats if (row := follow.beat(signal, beat, 0)) is not None]
        return _joined([_scores(rows, self.spec)], self.spec, len(signal))


class DetectorStream:
    """One signal on its way through a detector, made by `Detector.stream`.

    For one thread at a time: a call while another thread is in one raises RuntimeError. What all
    calls give, joined, is what `Detector.score` gives of the whole, however the signal was cut.
    """

    def __init__(self, scorer: Scorer) -> None:
        """Made by `Detector.stream`."""
        self._scorer, self._spec = scorer, scorer.spec
        self._exclusive = Exclusive()
        self._begin()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a DetectorStream cannot be copied or pickled: make another with Detector.stream"
        )

    def _begin(self) -> None:
        spec = self._spec
        self._follow = _Follow(self._scorer)
        self._kept = np.empty((0, spec.channels))
        # Samples before those that are kept, and the start of the next window.
        self._dropped = self._next = 0
        self._finder = BeatFinder(spec.rate_hz or 1.0) if spec.beats else None
        self._waiting: deque[int] = deque()

    def reset(self) -> None:
        """Forgets the signal: the stream is as new."""
        with self._exclusive:
            self._begin()

    def process(self, block: Array) -> Scores:
        """The windows that are whole with this block; their starts count from the first block.

        Args:
            block: (samples, channels), or (samples,) of one channel, of any length, 0 included.

        Raises:
            TypeError, ValueError: as `Detector.score`; they leave the stream as it was.
            RuntimeError: another thread is using the stream.
        """
        with self._exclusive:
            return self._take(self._scorer.checked(block), last=False)

    def flush(self) -> Scores:
        """The windows that only the end makes known; then the stream is as new.

        The last window ends with the signal's last sample, so that no sample is left out.
        """
        with self._exclusive:
            rest = self._take(np.empty((0, self._spec.channels)), last=True)
            self._begin()
            return rest

    def _take(self, block: Array, *, last: bool) -> Scores:
        self._kept = np.concatenate([self._kept, block])
        if self._finder is None:
            return _scores(self._windows(last=last), self._spec)
        return _scores(self._beats(self._finder, block, last=last), self._spec)

    def _windows(self, *, last: bool) -> list[_Row]:
        spec = self._spec
        rows: list[_Row] = []
        end = self._dropped + len(self._kept)
        while self._next + spec.window_samples <= end:
            rows.append(self._follow.window(self._kept, self._next, self._dropped))
            self._next += spec.hop_samples
        scored = self._next - spec.hop_samples + spec.window_samples
        if last and scored < end and end >= spec.window_samples:
            rows.append(self._follow.window(self._kept, end - spec.window_samples, self._dropped))
        # The end's window may reach back behind the next one's start.
        self._drop(max(0, min(self._next, end - spec.window_samples)))
        return rows

    def _beats(self, finder: BeatFinder, block: Array, *, last: bool) -> list[_Row]:
        spec = self._spec
        # Beats are looked for in the first channel.
        self._waiting.extend(finder.process(block[:, 0]))
        if last:
            self._waiting.extend(finder.flush())
        end = self._dropped + len(self._kept)
        rows: list[_Row] = []
        while self._waiting and self._waiting[0] + spec.beat_after <= end:
            beat = self._waiting.popleft()
            row = self._follow.beat(self._kept, beat, self._dropped)
            rows += [row] if row is not None else []
        self._drop(max(0, end - spec.window_samples - finder.lateness - 1))
        return rows

    def _drop(self, until: int) -> None:
        if until > self._dropped:
            self._kept = self._kept[until - self._dropped :]
            self._dropped = until


@dataclass(frozen=True)
class _Row:
    """One window: where it begins, its score and the errors of its channels."""

    start: int
    score: float
    channels: npt.NDArray[np.float64]


class _Follow:
    """From the errors of windows, in their order, to scores: what has been is taken into account.

    The score is the logarithm of the mean error, over the last `smooth_windows`; less the median of
    the `relative_windows` before, if a signal is judged by its own past; of a beat plus how early
    it comes times `prematurity`.
    """

    def __init__(self, scorer: Scorer) -> None:
        spec = scorer.spec
        self._scorer, self._spec = scorer, spec
        self._recent = deque[float](maxlen=max(1, spec.smooth_windows))
        self._past = deque[float](maxlen=max(1, spec.relative_windows))
        self._early = Prematurity(spec.rate_hz or 1.0)

    def window(self, kept: Array, start: int, dropped: int, early: float = 0.0) -> _Row:
        spec = self._spec
        at = start - dropped
        errors = self._scorer.errors(kept[at : at + spec.window_samples])
        self._recent.append(float(errors.mean()))
        level = float(np.log(np.mean(self._recent) + LEAST_ERROR))
        score = level
        if spec.relative_windows:
            # A few windows say little: what is usual of normal data counts beside them.
            few = max(0, spec.relative_least - len(self._past))
            score -= float(np.median([*self._past, *[spec.relative_prior] * few]))
            self._past.append(level)
        return _Row(start, score + spec.prematurity * early, errors)

    def beat(self, kept: Array, beat: int, dropped: int) -> _Row | None:
        """Of the window around a beat; None if it reaches beyond the signal."""
        early = self._early.next(beat)
        start = beat - self._spec.beat_before
        if start < dropped or start + self._spec.window_samples > dropped + len(kept):
            return None
        return self.window(kept, start, dropped, early)


def _scores(rows: list[_Row], spec: DetectionSpec) -> Scores:
    return Scores(
        starts=np.array([row.start for row in rows], np.int64),
        windows=np.array([row.score for row in rows], np.float32),
        channels=np.array([row.channels for row in rows], np.float32).reshape(-1, spec.channels),
        window_samples=spec.window_samples,
        samples=np.empty(0, np.float32),
    )


def _joined(parts: list[Scores], spec: DetectionSpec, length: int) -> Scores:
    """The scores of a whole signal, with one for each sample."""
    starts = np.concatenate([part.starts for part in parts])
    windows = np.concatenate([part.windows for part in parts])
    return Scores(
        starts=starts,
        windows=windows,
        channels=np.concatenate([part.channels for part in parts]),
        window_samples=spec.window_samples,
        samples=_per_sample(starts, windows, spec, length),
    )


def _per_sample(
    starts: npt.NDArray[np.int64], windows: Floats, spec: DetectionSpec, length: int
) -> Floats:
    """The score of each sample (length,): that of the first window that holds it, or, of beats,
    that of the strangest. Where no window is, the lowest score stands."""
    samples = np.full(length, windows.min() if len(windows) else 0.0, np.float32)
    if spec.beats:
        for start, score in zip(starts.tolist(), windows, strict=True):
            held = samples[start : start + spec.window_samples]
            np.maximum(held, score, out=held)
        return samples
    done = 0
    for start, score in zip(starts.tolist(), windows, strict=True):
        samples[done : start + spec.window_samples] = score
        done = start + spec.window_samples
    return samples


def _places(beats: Array, length: int, spec: DetectionSpec) -> list[int]:
    if not spec.beats:
        raise ValueError("beats are given, expected None: this detector is not one of beats")
    places = np.asarray(beats)
    if places.ndim != 1 or places.dtype.kind not in "iu":
        raise TypeError(f"beats are {places.dtype} {places.shape}, expected whole numbers (beats,)")
    if len(places) and (places.min() < 0 or places.max() >= length or (np.diff(places) <= 0).any()):
        raise ValueError(f"beats are not rising places from 0 to {length - 1}, as expected")
    return [int(place) for place in places]
