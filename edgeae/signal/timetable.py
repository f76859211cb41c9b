"""When a stream can run each hop of its model, and what that completes, in whole samples.

Everything here is integer arithmetic on sample counts from the start of the signal, so it holds
after a year of audio as in the first second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edgeae.signal.resample import Reading, Resampler, resampler
from edgeae.signal.stft import Floats

__all__ = ["Route", "Schedule", "routes", "schedule"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """The timetable of one combination of input rate, hop and lookahead; it holds no signal.

    Hop number h (from 0) hears the window that ends at (h + 1) hop_samples - shift, at the model's
    rate, and completes the first half of the window that lies `lookahead_hops` back.
    """

    hop_samples: int
    lookahead_hops: int
    shift: int
    to_model: Resampler | None  # both None when the input has the model's rate
    to_input: Resampler | None
    # After so many hops, which are so many input samples, the pattern of counts repeats.
    period_hops: int
    period_samples: int

    def heard(self, hop: int) -> int:
        """How many samples at the model's rate hop number `hop` needs."""
        return (hop + 1) * self.hop_samples - self.shift

    def cleaned(self, hop: int) -> int:
        """How many samples at the model's rate are final after it; negative before the first."""
        return (hop - self.lookahead_hops) * self.hop_samples - self.shift

    def inputs_for(self, hop: int) -> int:
        """How many input samples hop number `hop` needs."""
        heard = self.heard(hop)
        return heard if self.to_model is None else self.to_model.inputs_for(heard)

    def outputs_for(self, hop: int) -> int:
        """How many output samples are final after it; negative before the first."""
        cleaned = self.cleaned(hop)
        return cleaned if self.to_input is None else self.to_input.outputs_from(cleaned)

    def outputs_after(self, inputs: int) -> int:
        """How many output samples are final once `inputs` samples have come in, likewise."""
        heard = inputs if self.to_model is None else self.to_model.outputs_from(inputs)
        return self.outputs_for(max(-1, (heard + self.shift) // self.hop_samples - 1))

    def delay(self, block_samples: int | None) -> int:
        """The smallest lag that blocks of that size can keep; for None, that whole hops can."""
        if block_samples is None:
            # A hop's worth of samples is in after period_samples / period_hops, rounded up.
            return self._most(
                lambda hop: (
                    -(-(hop + 1) * self.period_samples // self.period_hops) - self.outputs_for(hop)
                )
            )
        # The lag is largest at the last block that does not complete a hop. From period to period
        # the hops move against the blocks in steps of the common divisor, through every such step.
        step = math.gcd(block_samples, self.period_samples)
        return self._most(
            lambda hop: (self.inputs_for(hop) - 1) // step * step - self.outputs_for(hop - 1)
        )

    def input_history(self) -> int:
        """How many input samples a hop reaches back, its own included."""

        def oldest(hop: int) -> int:
            dry = self.outputs_for(hop - 1)
            if self.to_model is None:
                return dry
            return min(dry, self.to_model.position(self.heard(hop - 1)) - self.to_model.left)

        return self._most(lambda hop: self.inputs_for(hop) - oldest(hop))

    def change_history(self) -> int:
        """How many final samples at the model's rate a hop reaches back for its output."""
        if self.to_input is None:
            return 0
        to_input = self.to_input
        return self._most(
            lambda hop: (
                self.cleaned(hop) - to_input.position(self.outputs_for(hop - 1)) + to_input.left
            )
        )

    def longest_output(self) -> int:
        """The most output samples that one hop completes."""
        return self._most(lambda hop: self.outputs_for(hop) - self.outputs_for(hop - 1))

    def _most(self, count: Callable[[int], int]) -> int:
        return max(count(hop) for hop in range(self.period_hops))


@dataclass(frozen=True, eq=False)
class Route:
    """How one hop of a period reads the buffers of a stream at another rate than the model's.

    Buffers end at the newest sample that the hop has, so the same places serve in every period.
    """

    to_model: Reading
    to_input: Reading
    dry: slice  # the input samples at the times of the output samples
    fades: Floats  # (frames, outputs): the share of each of the last frames' gains in each output


@lru_cache(maxsize=16)
def routes(timetable: Schedule) -> tuple[Route, ...]:
    """The route of every hop of a period; the last few periods are kept and shared by streams."""
    to_model, to_input = timetable.to_model, timetable.to_input
    if to_model is None or to_input is None:
        return ()
    input_history = timetable.input_history()
    change_history = timetable.change_history()
    found = []
    for hop in range(timetable.period_hops):
        first = timetable.outputs_for(hop - 1)
        count = timetable.outputs_for(hop) - first
        input_start = timetable.inputs_for(hop) - input_history
        change_start = timetable.cleaned(hop) - change_history
        found.append(
            Route(
                to_model=to_model.reading(
                    input_start, timetable.heard(hop - 1), timetable.hop_samples
                ),
                to_input=to_input.reading(change_start, first, count),
                dry=slice(first - input_start, first - input_start + count),
                fades=_fades(timetable, to_input, hop),
            )
        )
    return tuple(found)


def _fades(timetable: Schedule, to_input: Resampler, hop: int) -> Floats:
    """The squared windows of the last frames at the times of the hop's output samples."""
    first, end = timetable.outputs_for(hop - 1), timetable.outputs_for(hop)
    # Times are in hops from the end of what is final: the newest frame runs from -1 to 1. The
    # oldest output lies the reach of the filter before -1, where three frames or more matter.
    ticks = np.arange(first, end) * to_input.down - timetable.cleaned(hop) * to_input.up
    times = ticks / (to_input.up * timetable.hop_samples)
    frames = 2 - (-(to_input.right + 1) // timetable.hop_samples)
    begins = np.arange(-frames, 0.0)[:, None]
    phases = np.clip((times - begins) / 2, 0.0, 1.0)
    return np.square(np.sin(np.pi * phases)).astype(np.float32)


@lru_cache(maxsize=16)
def schedule(rate_hz: int, model_rate_hz: int, hop_samples: int, lookahead_hops: int) -> Schedule:
    """The timetable for input at `rate_hz`, with resamplers; the last few are kept and shared."""
    if rate_hz == model_rate_hz:
        return Schedule(
            hop_samples=hop_samples,
            lookahead_hops=lookahead_hops,
            shift=0,
            to_model=None,
            to_input=None,
            period_hops=1,
            period_samples=hop_samples,
        )
    common = math.gcd(rate_hz, model_rate_hz)
    up, down = model_rate_hz // common, rate_hz // common
    hop_inputs = hop_samples * down // up
    to_model = resampler(rate_hz, model_rate_hz, hop_samples)
    # The filter looks ahead: frames that end so much earlier are complete with whole hops of input.
    shift = 0
    while to_model.inputs_for(hop_samples - shift) > hop_inputs:
        shift += 1
    period_hops = up // math.gcd(up, hop_samples)
    return Schedule(
        hop_samples=hop_samples,
        lookahead_hops=lookahead_hops,
        shift=shift,
        to_model=to_model,
        to_input=resampler(model_rate_hz, rate_hz, hop_inputs + 2),
        period_hops=period_hops,
        period_samples=period_hops * hop_samples * down // up,
    )
