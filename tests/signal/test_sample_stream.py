"""Sensor signals through a denoiser without transform: a stream is the whole, misuse is told."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import tiny
from sample_denoisers import HOP, late_half

import edgeae
from edgeae.bench.sample_denoiser import self_test, workloads
from edgeae.errors import BundleError


@pytest.fixture
def denoiser(tmp_path):
    return edgeae.load(late_half(tmp_path / "half"))


def signal(samples, channels=None, seed=0):
    shape = (samples,) if channels is None else (samples, channels)
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def test_what_comes_out_is_aligned_and_counts_from_the_first_sample(denoiser):
    x = signal(50)
    np.testing.assert_allclose(denoiser.denoise(x), 0.5 * (x - x[0]), atol=1e-6)


@pytest.mark.parametrize("samples", [1, HOP - 1, HOP, HOP + 1, 61])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_rank_and_dtype_are_the_inputs(denoiser, samples, channels):
    for dtype in (np.float32, np.float64):
        x = signal(samples, channels).astype(dtype)
        clean = denoiser.denoise(x, sample_rate=360)
        assert clean.shape == x.shape
        assert clean.dtype == dtype


@pytest.mark.parametrize("block", [1, 3, HOP, 7, 100])
@pytest.mark.parametrize("callback", [False, True])
def test_a_stream_is_the_whole_however_it_was_cut(denoiser, block, callback):
    x = signal(73, 2)
    stream = denoiser.stream(channels=2, block_samples=block if callback else None)
    parts = [stream.process(x[start : start + block]) for start in range(0, len(x), block)]
    if callback:
        full = [
            part
            for part, start in zip(parts, range(0, 73, block), strict=True)
            if start + block <= 73
        ]
        assert all(len(part) == block for part in full)
    parts.append(stream.flush())
    joined = np.concatenate(parts)
    assert len(joined) == len(x) + stream.delay
    np.testing.assert_array_equal(joined[stream.delay :], denoiser.denoise(x))


def test_a_limit_keeps_some_of_the_noise(denoiser):
    x = signal(40)
    np.testing.assert_allclose(denoiser.denoise(x, attenuation_limit_db=0), x, atol=1e-6)
    kept = denoiser.denoise(x, attenuation_limit_db=20)
    np.testing.assert_allclose(kept, denoiser.denoise(x) * 0.9 + 0.1 * x, atol=1e-6)


def test_lost_samples_hold_the_last_value_and_time_goes_on(denoiser):
    x = signal(40)
    held = x.copy()
    held[20:25] = x[19]
    stream = denoiser.stream()
    parts = [stream.process(x[:20]), stream.skip(5), stream.process(x[25:]), stream.flush()]
    np.testing.assert_allclose(
        np.concatenate(parts)[stream.delay :], denoiser.denoise(held), atol=1e-6
    )


def test_what_is_of_sound_alone_is_refused(denoiser):
    x = signal(20)
    with pytest.raises(ValueError, match="expected 360"):
        denoiser.denoise(x, sample_rate=250)
    with pytest.raises(ValueError, match="link_channels is True"):
        denoiser.denoise(x, link_channels=True)
    with pytest.raises(TypeError, match="expected float32 or float64 in mV"):
        denoiser.denoise(np.zeros(20, np.int16))
    with pytest.raises(ValueError, match="NaN"):
        denoiser.denoise(np.full(20, np.nan, np.float32))
    with pytest.raises(ValueError, match="2 channels"):
        denoiser.stream().process(signal(8, 2))
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.copy(denoiser.stream())


def test_a_denoiser_of_sound_still_wants_a_rate(tmp_path):
    sound = edgeae.load(tiny.tiny_denoiser_bundle(tmp_path / "sound"))
    with pytest.raises(TypeError, match="sample_rate is None"):
        sound.denoise(np.zeros(400, np.float32))


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"layout": {"kind": "signal", "sample_rate_hz": 0}}, "sample_rate_hz is 0"),
        ({"stream": {"hop_samples": 4, "state": {}}}, "lookahead_samples is None"),
        ({"stream": {"hop_samples": 4, "lookahead_samples": 6, "state": {}}}, "graph's inputs"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(tmp_path, sections, told):
    with pytest.raises(BundleError, match=told):
        edgeae.load(late_half(tmp_path / "wrong", **sections))


def test_the_checks_of_verify_and_bench_run(denoiser):
    assert len(list(self_test(denoiser))) == 1
    (workload,) = workloads(denoiser)
    assert workload.name == "hop"
    assert "signals at 360 Hz" in repr(denoiser)
    stream = denoiser.stream(channels=2)
    delay_ms = 1000 * stream.delay / 360
    assert repr(stream) == f"<SampleStream: 2 channels at 360 Hz, {delay_ms:.4g} ms delay>"
