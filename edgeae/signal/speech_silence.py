"""Silence in files of speech: symbols that cost nothing, as long as nothing is heard of them.

Where symbols are the middles of their contexts, all that is coded are zeros, and a block's zeros at
its end are not written: silence up to the end of a block then has no bytes. What a decoder makes of
such symbols is no longer what the encoder said of silence, and may wander off to a hum. So one
listens, and where it hears something the silence begins some frames later, or stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeae.signal.contexts import Distribution, Symbols
from edgeae.signal.speech_signal import MIDDLE_PITCH, SILENT
from edgeae.signal.speech_stream import Speaker, SpeechModel

__all__ = ["hushed"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# What is heard of a frame reaches into the two before it; in a fourth the decoder has come to rest.
_SETTLING_FRAMES = 3
# Where the silence may begin instead, in frames after that.
_LATER_FRAMES = (0, 2, 5, 10, 20, 40)
# A fifth of a second: below, there is nothing to win.
_LEAST_FRAMES = 10
# So loud may a frame be that stands for silence, as its root mean square: 80 dB below full scale.
_HEARD = 1e-4
# Memories of a decoder are of about a second; contexts reach no further than the manifest allows.
_WARMING_FRAMES, _REACH_FRAMES = 100, 4096


def hushed(
    model: SpeechModel, frames: Floats, symbols: Symbols, level: int, ends: Sequence[int]
) -> Symbols:
    """The symbols (channels, n) of frames (n, 320), in silence at the ends of blocks the cheapest.

    Args:
        model: the codec.
        frames: what they are symbols of.
        symbols: as the encoder has them; they are not changed.
        level: at which they are coded.
        ends: of blocks, in frames, from the first to n.
    """
    loud = np.abs(frames).max(axis=1) > SILENT
    found = symbols.copy()
    for begin, end in zip([0, *ends], ends, strict=False):
        # Silence may have begun in blocks before.
        sounds = np.flatnonzero(loud[max(0, begin - _SETTLING_FRAMES) : end])
        first = max(0, begin - _SETTLING_FRAMES) + (int(sounds[-1]) + 1 if len(sounds) else 0)
        for later in _LATER_FRAMES:
            start = max(begin, first + _SETTLING_FRAMES) + later
            if end - start < _LEAST_FRAMES:
                break
            cheapest = _cheapest(model, found[:, :start], end - start, level)
            if cheapest is not None:
                found[:, start:end] = cheapest
                break
    return found


def _cheapest(model: SpeechModel, before: Symbols, count: int, level: int) -> Symbols | None:
    """The cheapest symbols (channels, count) behind those before, unless they are heard."""
    contexts, speaker = model.coder.contexts, Speaker(model, level)
    past = contexts.past()
    past.add(before[:, -_REACH_FRAMES:])
    found = contexts.decode(past, count, level, _middles)
    pitches = found[0] + MIDDLE_PITCH
    if pitches.min() < 0 or pitches.max() >= 2 * MIDDLE_PITCH:
        return None
    together = np.concatenate([before[:, -_WARMING_FRAMES:], found], axis=1)
    said = speaker.speak(together)[-count:]
    return found if np.sqrt(np.square(said).mean(axis=1)).max() <= _HEARD else None


def _middles(known: Distribution) -> Ints:
    return known.centers
