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

from edgeae.signal.resample import PolyphaseBlock, Resampler, rate_ratio, resampler
from edgeae.signal.stft import Floats

__all__ = ["HopSchedule", "ResampleStep", "hop_schedule", "resample_steps"]


@dataclass(frozen=True, eq=False)
class HopSchedule:
    """The hops of one combination of input rate, hop and lookahead; it holds no signal.

    Hop number h (from 0) takes the window that ends at (h + 1) hop_samples - offset, at the model's
    rate, and completes the first half of the window that lies `lookahead_hops` back.
    """

    hop_samples: int
    lookahead_hops: int
    offset: int
    to_model: Resampler | None  # both None when the input has (very nearly) the model's rate
    to_input: Resampler | None
    # After so many hops, which are so many input samples, the pattern of counts repeats.
    period_hops: int
    period_samples: int

    def model_samples_needed(self, hop: int) -> int:
        """How many samples at the model's rate hop number `hop` needs."""
        return (hop + 1) * self.hop_samples - self.offset

    def model_samples_final(self, hop: int) -> int:
        """How many samples at the model's rate are final after it; negative before the first."""
        return (hop - self.lookahead_hops) * self.hop_samples - self.offset

    def inputs_needed(self, hop: int) -> int:
        """How many input samples hop number `hop` needs."""
        samples = self.model_samples_needed(hop)
        return samples if self.to_model is None else self.to_model.inputs_for(samples)

    def outputs_final(self, hop: int) -> int:
        """How many output samples are final after it; negative before the first."""
        cleaned = self.model_samples_final(hop)
        return cleaned if self.to_input is None else self.to_input.outputs_from(cleaned)

    def outputs_after(self, inputs: int) -> int:
        """How many output samples are final once `inputs` samples have come in, likewise."""
        samples = inputs if self.to_model is None else self.to_model.outputs_from(inputs)
        return self.outputs_final(max(-1, (samples + self.offset) // self.hop_samples - 1))

    def delay(self, block_samples: int | None) -> int:
        """The smallest lag that blocks of that size can keep; for None, that whole hops can."""
        if block_samples is None:
            # A hop's worth of samples is in after period_samples / period_hops, rounded up.
            return self._most(
                lambda hop: (
                    -(-(hop + 1) * self.period_samples // self.period_hops)
                    - self.outputs_final(hop)
                )
            )
        # The lag is largest at the last block that does not complete a hop. From period to period
        # the hops move against the blocks in steps of the common divisor, through every such step.
        step = math.gcd(block_samples, self.period_samples)
        return self._most(
            lambda hop: (self.inputs_needed(hop) - 1) // step * step - self.outputs_final(hop - 1)
        )

    def input_history(self) -> int:
        """How many input samples a hop reaches back, its own included."""

        def oldest(hop: int) -> int:
            dry = self.outputs_final(hop - 1)
            if self.to_model is None:
                return dry
            return min(
                dry, self.to_model.position(self.model_samples_needed(hop - 1)) - self.to_model.left
            )

        return self._most(lambda hop: self.inputs_needed(hop) - oldest(hop))

    def change_history(self) -> int:
        """How many final samples at the model's rate a hop reaches back for its output."""
        if self.to_input is None:
            return 0
        to_input = self.to_input
        return self._most(
            lambda hop: (
                self.model_samples_final(hop)
                - to_input.position(self.outputs_final(hop - 1))
                + to_input.left
            )
        )

    def longest_output(self) -> int:
        """The most output samples that one hop completes."""
        return self._most(lambda hop: self.outputs_final(hop) - self.outputs_final(hop - 1))

    def _most(self, count: Callable[[int], int]) -> int:
        return max(count(hop) for hop in range(self.period_hops))


@dataclass(frozen=True, eq=False)
class ResampleStep:
    """How one hop of a period reads the buffers of a stream at another rate than the model's.

    Buffers end at the newest sample that the hop has, so the same places serve in every period.
    """

    to_model: PolyphaseBlock
    to_input: PolyphaseBlock
    input_slice: slice  # the input samples at the times of the output samples
    # (frames, outputs): the share of each of the last frames' gains in each output
    gain_weights: Floats


@lru_cache(maxsize=8)
def resample_steps(schedule: HopSchedule) -> tuple[ResampleStep, ...]:
    """The resampling of every hop of a period; the last few are kept and shared by streams."""
    to_model, to_input = schedule.to_model, schedule.to_input
    if to_model is None or to_input is None:
        return ()
    input_history = schedule.input_history()
    change_history = schedule.change_history()
    found = []
    for hop in range(schedule.period_hops):
        first = schedule.outputs_final(hop - 1)
        count = schedule.outputs_final(hop) - first
        input_start = schedule.inputs_needed(hop) - input_history
        change_start = schedule.model_samples_final(hop) - change_history
        found.append(
            ResampleStep(
                to_model=to_model.block(
                    input_start, schedule.model_samples_needed(hop - 1), schedule.hop_samples
                ),
                to_input=to_input.block(change_start, first, count),
                input_slice=slice(first - input_start, first - input_start + count),
                gain_weights=_gain_weights(schedule, to_input, hop),
            )
        )
    return tuple(found)


def _gain_weights(schedule: HopSchedule, to_input: Resampler, hop: int) -> Floats:
    """The squared windows of the last frames at the times of the hop's output samples."""
    first, end = schedule.outputs_final(hop - 1), schedule.outputs_final(hop)
    # Times are in hops from the end of what is final: the newest frame runs from -1 to 1. The
    # oldest output lies the reach of the filter before -1, where three frames or more matter.
    ticks = np.arange(first, end) * to_input.down - schedule.model_samples_final(hop) * to_input.up
    times = ticks / (to_input.up * schedule.hop_samples)
    frames = 2 - (-(to_input.right + 1) // schedule.hop_samples)
    begins = np.arange(-frames, 0.0)[:, None]
    phases = np.clip((times - begins) / 2, 0.0, 1.0)
    return np.square(np.sin(np.pi * phases)).astype(np.float32)


@lru_cache(maxsize=16)
def hop_schedule(
    rate_hz: int, model_rate_hz: int, hop_samples: int, lookahead_hops: int
) -> HopSchedule:
    """The schedule for input at `rate_hz`, with resamplers; the last few are kept and shared."""
    up, down = rate_ratio(rate_hz, model_rate_hz, hop_samples)
    if up == down:  # the model's rate, or within 0.1 % of it
        return HopSchedule(
            hop_samples=hop_samples,
            lookahead_hops=lookahead_hops,
            offset=0,
            to_model=None,
            to_input=None,
            period_hops=1,
            period_samples=hop_samples,
        )
    hop_inputs = hop_samples * down // up
    to_model = resampler(rate_hz, model_rate_hz, up, down, hop_samples)
    # The filter looks ahead: frames that end so much earlier are complete with whole hops of input.
    offset = 0
    while to_model.inputs_for(hop_samples - offset) > hop_inputs:
        offset += 1
    period_hops = up // math.gcd(up, hop_samples)
    return HopSchedule(
        hop_samples=hop_samples,
        lookahead_hops=lookahead_hops,
        offset=offset,
        to_model=to_model,
        to_input=resampler(model_rate_hz, rate_hz, down, up, hop_inputs + 2),
        period_hops=period_hops,
        period_samples=period_hops * hop_samples * down // up,
    )
