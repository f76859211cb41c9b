"""A stream that loses blocks keeps its time, does not click, and finds its feet again."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeae.signal.denoiser import SignalDenoiser
from edgeae.signal.stream import FADE_S

RATE = 16_000


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Passes sound through."""
    return SignalDenoiser.load(
        tiny.tiny_denoiser_bundle(tmp_path_factory.mktemp("denoiser") / "plain")
    )


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    """A gain that depends on all that was heard, with less weight the longer ago."""
    path = tmp_path_factory.mktemp("denoiser") / "leaky"
    return SignalDenoiser.load(tiny.tiny_denoiser_bundle(path, feedback=0.5, lookahead_hops=1))


def tone(frames, rate=RATE, channels=1):
    time = np.arange(frames)[:, None] / rate
    sound = 0.5 * np.sin(2 * np.pi * 300 * time + np.arange(channels))
    return sound.astype(np.float32) if channels > 1 else sound[:, 0].astype(np.float32)


def streamed(denoiser, sound, gap, *, rate=RATE, block=160, **options):
    """The output with the frames from gap[0] up to gap[1] lost, aligned with the input."""
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    stream = denoiser.stream(sample_rate=rate, channels=channels, **options)
    out = [stream.process(sound[:0])]
    for parts in (sound[: gap[0]], None, sound[gap[1] :]):
        if parts is None:
            out.append(stream.skip(gap[1] - gap[0]))
            continue
        out += [stream.process(parts[i : i + block]) for i in range(0, len(parts), block)]
    out.append(stream.flush())
    return np.concatenate(out)[stream.delay :]


@settings(max_examples=40, deadline=None)
@given(
    start=st.integers(0, 3000),
    length=st.integers(0, 3000),
    rate=st.sampled_from([8000, 16_000, 44_100]),
    channels=st.integers(1, 2),
    block=st.sampled_from([1000, 777]),
)
def test_time_goes_on_through_a_gap(plain, start, length, rate, channels, block):
    sound = tone(6000, rate, channels)
    found = streamed(plain, sound, (start, start + length), rate=rate, block=block)
    assert found.shape == sound.shape and found.dtype == sound.dtype
    # Away from the gap by more than a window and the resampling filters it is as if nothing were.
    reach = 3 * 512 * max(rate, RATE) // RATE
    whole = plain.denoise(sound, sample_rate=rate)
    before, after = max(0, start - reach), start + length + reach
    assert np.abs(found[:before] - whole[:before]).max(initial=0) < 1e-5
    assert np.abs(found[after:] - whole[after:]).max(initial=0) < 1e-3


def test_a_gap_is_filled_with_what_was_heard_mirrored_and_fading(plain):
    sound, fade = tone(4000), round(FADE_S * RATE)
    found = streamed(plain, sound, (2000, 3000))
    ramp = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / fade) ** 2
    expected = sound.copy()
    expected[2000:3000] = 0
    expected[2000 : 2000 + fade] = sound[2000 - fade : 2000][::-1] * ramp[::-1]
    expected[3000 : 3000 + fade] *= ramp
    assert np.allclose(found, expected, atol=1e-5)


def test_a_gap_does_not_click(plain):
    sound = tone(8000)
    steepest = np.abs(np.diff(sound)).max()
    for start in range(3000, 3060, 7):
        found = streamed(plain, sound, (start, start + 333))
        assert np.abs(np.diff(found)).max() < 1.5 * steepest
        cut = sound.copy()
        cut[start : start + 333] = 0  # as it would be without
    assert np.abs(np.diff(cut)).max() > 2 * steepest


def test_the_model_finds_its_feet_again(leaky):
    sound = tone(40 * 256)
    whole = leaky.denoise(sound, sample_rate=RATE)
    found = streamed(leaky, sound, (10 * 256, 15 * 256))
    away = np.abs(found - whole).reshape(40, 256).max(axis=1)
    assert away[:8].max() < 1e-6 and away[10:15].max() > 0.1
    # The leak is 0.9 a hop: 20 hops later an eighth of the difference is left.
    assert away[37] < away[17] / 5 and away[37] < 0.01


def test_a_gap_is_the_same_however_it_is_cut(leaky):
    sound = tone(6000)
    whole = streamed(leaky, sound, (2000, 3000))
    stream = leaky.stream(sample_rate=RATE)
    out = [stream.process(sound[:2000]), stream.skip(600), stream.skip(0), stream.skip(400)]
    found = np.concatenate([*out, stream.process(sound[3000:]), stream.flush()])[stream.delay :]
    assert np.array_equal(found, whole)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16])
def test_a_gap_has_the_rank_and_dtype_of_the_sound(plain, kind):
    sound = tone(3000, channels=2)
    sound = (sound * 32767).astype(kind) if kind is np.int16 else sound.astype(kind)
    stream = plain.stream(sample_rate=RATE, channels=2, block_samples=500)
    stream.process(sound[:1500])
    out = stream.skip(500)
    assert out.shape == (500, 2) and out.dtype == kind
    assert np.abs(out).max() > 0


def test_a_gap_before_any_sound_is_silence(plain):
    stream = plain.stream(sample_rate=RATE)
    out = stream.skip(2000)
    assert out.ndim == 1 and out.dtype == np.float32 and not out.any()


def test_reset_forgets_a_gap(plain):
    sound = tone(2000)
    stream = plain.stream(sample_rate=RATE)
    stream.skip(300)
    stream.reset()
    found = np.concatenate([stream.process(sound), stream.flush()])[stream.delay :]
    assert np.array_equal(found, plain.denoise(sound, sample_rate=RATE))


@pytest.mark.parametrize("frames", [-1, 10 * RATE + 1])
def test_a_gap_out_of_range_is_refused(plain, frames):
    with pytest.raises(ValueError, match=rf"frames is {frames}, expected 0 to 160000"):
        plain.stream(sample_rate=RATE).skip(frames)


@pytest.mark.parametrize("frames", [1.5, None, True, "5"])
def test_a_gap_that_is_no_number_is_refused(plain, frames):
    with pytest.raises(TypeError, match="frames is .*, expected a whole number"):
        plain.stream(sample_rate=RATE).skip(frames)


def test_lost_blocks_in_bursts_raise_nothing_and_give_finite_sound(leaky):
    rng, sound = np.random.default_rng(0), tone(64_000)
    stream = leaky.stream(sample_rate=RATE, block_samples=320)
    lost, out = False, []
    for start in range(0, len(sound), 320):
        # Gilbert-Elliott: 10 % of blocks are lost, in bursts of 3.
        lost = rng.random() < (2 / 3 if lost else 1 / 27)
        block = sound[start : start + 320]
        out.append(stream.skip(len(block)) if lost else stream.process(block))
        assert len(out[-1]) == 320
    assert np.isfinite(np.concatenate(out)).all() and np.abs(np.concatenate(out)).max() <= 1
