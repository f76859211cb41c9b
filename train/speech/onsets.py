"""When noise comes and goes in a training mix: late, in steps, or to its end.

A denoiser that has only ever begun in the middle of noise takes what it hears first for the room as
it always is: after a second of a quiet room it lets noise that begins then pass for seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from train.speech.made import SAMPLE_RATE_HZ, unit_gain

__all__ = ["Courses", "Timing", "change_scenes", "draw_courses", "draw_scenes", "draw_timing"]

Audio = npt.NDArray[np.float32]

# A quiet room lies about 60 dB below full scale; a live microphone in an empty studio at -70, a
# laptop with a fan at -50.
ROOM_DB = (-70.0, -50.0)
# From a switch to a motor that runs up.
EDGE_S = (0.002, 0.2)
# No noise begins or ends nearer to an end of the segment: both sides are to be heard.
MARGIN_S = 0.25
STEPS_DB = (-40.0, 0.0)
MUTED_CHANCE = 0.4
GAP_CHANCE = 0.5
# What noise does, and how often.
KINDS = {"begins": 0.4, "ends": 0.15, "steps": 0.2, "unmuted": 0.25}
_MOST_STEPS = 3
# The steepest spectrum of a quiet room, as a power of frequency.
_ROOM_TILT = 0.8


@dataclass(frozen=True)
class Timing:
    """What to do to one mix of `length` samples.

    Attributes:
        noise_gain: the factor on the noise, float32 (length,), 0 to 1.
        speech_gain: the factor on the speech, likewise: 0 where the microphone is muted.
        room: what is added, at its level in the mix as it is, float32 (length,): the quiet room,
            or digital silence.
    """

    noise_gain: Audio
    speech_gain: Audio
    room: Audio


@dataclass(frozen=True)
class Courses:
    """What `Timing` says, of several mixes and in few numbers, for a device to make the rest of.

    Attributes:
        levels: of the noise, float64 (mixes, moments + 1): before the first moment, and after each.
        moments: the sample at which the noise begins to go to the next level, (mixes, moments).
        edges: how many samples it takes for that, likewise.
        muted: 1 where nobody is heard either while there is no noise, (mixes,).
        room_level: the quiet room's root mean square, 0 for digital silence, (mixes,).
        room_tilt: its spectrum falls with this power of frequency, (mixes,).
    """

    levels: npt.NDArray[np.float64]
    moments: npt.NDArray[np.float64]
    edges: npt.NDArray[np.float64]
    muted: npt.NDArray[np.float64]
    room_level: npt.NDArray[np.float64]
    room_tilt: npt.NDArray[np.float64]


def draw_courses(count: int, length: int, rng: np.random.Generator) -> Courses:
    """Courses of `count` mixes of `length` samples, of the kinds of `draw_timing` and as often."""
    moments = np.sort(_moments(length, rng, (count, _MOST_STEPS)), axis=1)
    edges = rng.uniform(*EDGE_S, (count, _MOST_STEPS)) * SAMPLE_RATE_HZ
    steps = rng.integers(1, _MOST_STEPS + 1, (count, 1))
    # What comes after the last step stays as it is.
    used = np.minimum(np.arange(_MOST_STEPS + 1), steps)
    levels = 10 ** (rng.uniform(*STEPS_DB, (count, _MOST_STEPS + 1)) / 20)
    levels = np.take_along_axis(levels, used, axis=1)
    levels /= levels.max(axis=1, keepdims=True)
    kind = rng.choice(len(KINDS), size=count, p=list(KINDS.values()))
    begins, ends, unmuted = (kind == list(KINDS).index(x) for x in ("begins", "ends", "unmuted"))
    levels[begins | unmuted] = (0.0,) + (1.0,) * _MOST_STEPS
    levels[ends] = (1.0,) + (0.0,) * _MOST_STEPS
    edges[unmuted] = 1.0
    muted = unmuted | (begins & (rng.random(count) < MUTED_CHANCE))
    room_level = 10 ** (rng.uniform(*ROOM_DB, count) / 20)
    room_level[unmuted] = 0.0
    tilt = rng.uniform(0.0, _ROOM_TILT, count)
    return Courses(levels, moments, edges.round(), muted.astype(float), room_level, tilt)


def draw_timing(length: int, rng: np.random.Generator) -> Timing:
    """One of four courses: noise begins late, ends, goes in steps, or begins with the speech after
    digital silence (an unmuted microphone). Deterministic in the state of `rng`."""
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    speech_gain = np.ones(length, np.float32)
    if kind == "unmuted":
        gain = _rise(length, _moment(length, rng), 0.0)
        return Timing(noise_gain=gain, speech_gain=gain, room=np.zeros(length, np.float32))
    if kind == "steps":
        gain = _steps(length, rng)
    else:
        gain = _rise(length, _moment(length, rng), rng.uniform(*EDGE_S))
        if kind == "ends":
            gain = gain[::-1].copy()
        elif rng.random() < MUTED_CHANCE:
            # Nobody speaks in the quiet room yet.
            speech_gain = (gain > 0).astype(np.float32)
    return Timing(noise_gain=gain, speech_gain=speech_gain, room=_quiet_room(length, rng))


def change_scenes(noisy: Any, clean: Any, chance: float, rng: np.random.Generator) -> None:
    """Give some mixes another one's beginning for their end, in place: a stream that nobody resets
    goes from voice to voice and from room to room, half of the time after digital silence.

    Args:
        noisy, clean: arrays or tensors, float32 (batch, samples).
        chance: of each row.
        rng: decides.
    """
    size, length = noisy.shape
    begins, gaps = draw_scenes(size, length, chance, rng)
    # Of what rows were before any of them changed.
    others = {
        row: [(x[(row + 1) % size, : length - at] + 0.0) for x in (noisy, clean)]
        for row, at in begins.items()
    }
    for row, at in begins.items():
        for x, other in zip((noisy, clean), others[row], strict=True):
            x[row, at:] = other
            x[row, at - gaps[row] : at] = 0.0


def draw_scenes(
    size: int, length: int, chance: float, rng: np.random.Generator
) -> tuple[dict[int, int], dict[int, int]]:
    """Of the rows that change, at which sample the other scene begins, and for how many samples
    there is nothing ahead of it."""
    chosen = np.flatnonzero(rng.random(size) < chance)[: size if size > 1 else 0]
    begins = {int(row): int(rng.integers(length // 4, 3 * length // 4)) for row in chosen}
    gaps = {
        row: int(rng.integers(length // 16, length // 4)) if rng.random() < GAP_CHANCE else 0
        for row in begins
    }
    return begins, gaps


def _moment(length: int, rng: np.random.Generator) -> int:
    return int(_moments(length, rng, ()))


def _moments(length: int, rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    margin = int(MARGIN_S * SAMPLE_RATE_HZ)
    low, high = min(margin, length // 4), max(length - margin, 3 * length // 4)
    return rng.integers(low, high, shape)


def _rise(length: int, start: int, edge_s: float) -> Audio:
    """0 up to the sample `start`, then a smooth rise over the edge to 1."""
    edge = max(1, round(edge_s * SAMPLE_RATE_HZ))
    phase = np.clip((np.arange(length) - start + 1) / edge, 0.0, 1.0)
    return np.asarray(np.sin(np.pi / 2 * phase) ** 2, np.float32)


def _steps(length: int, rng: np.random.Generator) -> Audio:
    """Two to four levels of the noise, one after the other, the loudest of them 1."""
    moments = np.sort([_moment(length, rng) for _ in range(int(rng.integers(1, 4)))])
    levels = 10 ** (rng.uniform(*STEPS_DB, len(moments) + 1) / 20)
    levels /= levels.max()
    gain = np.full(length, levels[0])
    for moment, before, after in zip(moments, levels[:-1], levels[1:], strict=True):
        gain += (after - before) * _rise(length, int(moment), rng.uniform(*EDGE_S))
    return np.asarray(np.clip(gain, 0.0, 1.0), np.float32)


def _quiet_room(length: int, rng: np.random.Generator) -> Audio:
    """Steady noise that falls with frequency, at a level of `ROOM_DB`."""
    spectrum = np.fft.rfft(rng.standard_normal(length, np.float32))
    frequency = np.maximum(np.arange(len(spectrum), dtype=np.float32), 1.0)
    room = np.fft.irfft(spectrum * frequency ** np.float32(-rng.uniform(0.0, _ROOM_TILT)), n=length)
    level = 10 ** (rng.uniform(*ROOM_DB) / 20)
    return np.asarray(room * (level * unit_gain(np.asarray(room, np.float32))), np.float32)
