"""Samples of time, and how two sets of them are compared."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgeae.bench import timing


def test_a_sample_is_the_time_of_its_call():
    inside = []

    def call():
        start = time.perf_counter()
        while time.perf_counter() - start < 1e-3:
            pass
        inside.append((time.perf_counter() - start) * 1e3)

    times = timing.sample(call, seconds=0.05)
    assert len(times) == len(inside)
    assert all(outer >= inner for outer, inner in zip(times, inside, strict=True))
    assert np.median(np.array(times) - inside) < 0.05


def test_sampling_stops_when_the_time_is_up_or_there_is_enough():
    assert len(timing.sample(lambda: None, seconds=60, at_most=7)) == 7
    assert len(timing.sample(lambda: None, seconds=0, at_least=5)) == 5
    start = time.perf_counter()
    timing.sample(lambda: time.sleep(0.001), seconds=0.05)
    assert 0.05 <= time.perf_counter() - start < 5


def test_what_comes_after_a_call_is_not_timed():
    seen = []

    def after():
        seen.append(1)
        time.sleep(0.005)

    times = timing.sample(lambda: None, seconds=0, at_least=4, after=after)
    assert len(seen) == 4 and min(times) < 2


def test_a_summary_holds_the_percentiles_of_its_samples():
    summary = timing.summarize(list(range(101)))
    assert (summary.p50, summary.p90, summary.p95, summary.p99) == (50, 90, 95, 99)
    assert (summary.count, summary.mean, summary.minimum) == (101, 50, 0)
    assert summary.deviation == pytest.approx(np.std(np.arange(101)))
    with pytest.raises(ValueError, match="no samples"):
        timing.summarize([])


def noisy(rng, median, count=200):
    return median * (1 + 0.05 * rng.gamma(2, size=count))


def test_a_real_difference_is_told_and_lies_in_its_interval():
    rng = np.random.default_rng(0)
    change = timing.compare(noisy(rng, 10), noisy(rng, 12))
    assert change.low < 1.2 < change.high and 1.1 < change.low
    assert change.ratio == pytest.approx(1.2, abs=0.03) and not change.is_noise


def test_no_difference_is_called_noise_about_as_often_as_promised(monkeypatch):
    monkeypatch.setattr(timing, "RESAMPLES", 400)
    rng = np.random.default_rng(1)
    verdicts = [timing.compare(noisy(rng, 10), noisy(rng, 10), seed=i).is_noise for i in range(40)]
    assert sum(verdicts) >= 33  # 38 of 40 would be 95 %; few blocks make it a little less


def test_a_slow_moment_makes_the_verdict_less_certain():
    # The same times twice: a fifth of them slow, all at one moment or here and there.
    rng = np.random.default_rng(2)
    usual, moment = noisy(rng, 10), noisy(rng, 10)
    moment[70:110] *= 1.5
    together = timing.compare(usual, moment)
    apart = timing.compare(usual, rng.permutation(moment))
    assert together.ratio == apart.ratio
    assert together.high - together.low > 1.3 * (apart.high - apart.low)


def test_one_sample_cannot_be_compared():
    with pytest.raises(ValueError, match="1 samples: at least 2"):
        timing.compare([1.0], [1.0, 2.0])
