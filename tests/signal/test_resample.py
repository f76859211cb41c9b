"""Any two rates: ratios are near, tables stay small, and a signal there and back keeps its time."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeae.signal.hop_schedule import hop_schedule, resample_steps
from edgeae.signal.resample import MAX_RATIO_TERM, rate_ratio, resampled, resampler

USUAL_HZ = [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000]


@pytest.mark.parametrize("rate", USUAL_HZ)
@pytest.mark.parametrize("model_rate", [16_000, 24_000, 48_000])
def test_the_ratio_of_usual_rates_is_exact(rate, model_rate):
    up, down = rate_ratio(rate, model_rate, 256)
    assert rate * up == model_rate * down


@given(
    rate=st.integers(8_000, 96_000),
    model_rate=st.sampled_from([8_000, 16_000, 44_100, 48_000, 191_999]),
    hop=st.sampled_from([16, 160, 256, 480, 4_096]),
)
def test_any_other_ratio_is_within_a_thousandth(rate, model_rate, hop):
    up, down = rate_ratio(rate, model_rate, hop)
    assert abs(rate * up / (model_rate * down) - 1) <= 1 / 1024
    # Hops are few until all begins again: those of exact ratios, or of 512 input samples.
    hops = up // np.gcd(up, hop)
    assert hops <= max(MAX_RATIO_TERM, 2 * 512 * model_rate / (rate * hop))


@pytest.mark.parametrize(
    ("rate", "model_rate"),
    [(95_999, 16_000), (95_989, 16_000), (8_009, 16_000), (96_000, 1_048_573), (8_001, 1_048_573)],
)
def test_tables_of_absurd_rates_are_small(rate, model_rate):
    for cached in (resampler, hop_schedule, resample_steps):
        cached.cache_clear()
    tracemalloc.start()
    try:
        schedule = hop_schedule(rate, model_rate, 256, 0)
        schedule.delay(None), schedule.delay(480)
        steps = resample_steps(schedule)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 20e6
    assert schedule.period_hops == len(steps) <= MAX_RATIO_TERM


@pytest.mark.parametrize("rates", [(16_000, 48_000), (44_100, 16_000), (12_345, 16_000)])
def test_a_tone_is_resampled_within_the_filters_attenuation(rates):
    rate_in, rate_out = rates
    up, down = rate_ratio(rate_in, rate_out, 256)
    count = 400
    found = resampler(rate_in, rate_out, up, down, count)
    hz = 0.3 * min(rates)
    times = np.arange(2_000)
    signal = np.sin(2 * np.pi * hz / rate_in * times).astype(np.float32)[None]
    first = found.outputs_from(0) + 200
    out = found.block(0, first, count).apply(found.windows(signal))
    exact = np.sin(2 * np.pi * hz / rate_in * np.arange(first, first + count) * down / up)
    assert np.abs(out[0] - exact).max() < 10 ** (-66 / 20)


@pytest.mark.parametrize("rates", [(8_000, 16_000), (44_100, 16_000), (48_000, 16_000)])
def test_whole_audio_keeps_its_time_and_its_length(rates):
    rate_in, rate_out = rates
    times = np.arange(2 * rate_in + 7) / rate_in
    pair = np.stack([np.sin(900 * times), np.sin(5_000 * times + 1)], axis=1).astype(np.float32)
    found = resampled(pair, rate_in, rate_out)
    assert found.shape == (-(-len(pair) * rate_out // rate_in), 2) and found.dtype == np.float32
    times = np.arange(len(found)) / rate_out
    exact = np.stack([np.sin(900 * times), np.sin(5_000 * times + 1)], axis=1)
    # Beside the edges, before and after which there is silence.
    assert np.abs(found - exact)[200:-200].max() < 10 ** (-66 / 20)
    assert np.array_equal(resampled(pair[:, 0], rate_in, rate_out), found[:, 0])
    assert resampled(pair[:1, 0], rate_in, rate_out).shape == (max(1, -(-rate_out // rate_in)),)
