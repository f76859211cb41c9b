"""The laws of the streaming denoiser, on tiny bundles whose effect on sound is known exactly."""

from __future__ import annotations

import inspect
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import change_manifest, tiny_denoiser_bundle

from edgeae.errors import BundleError
from edgeae.signal.denoiser import SignalDenoiser
from edgeae.signal.samples import MAX_CHANNELS
from edgeae.signal.stft import Stft, sqrt_hann
from edgeae.signal.stream import Stream

RATES_HZ = [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000]
# Rates with no small ratio to 16 kHz: a prime, one sample beside the model's, odd ones.
ODD_RATES_HZ = [15_999, 8_009, 12_345, 95_999]
HOP = 256
BINS = HOP + 1

lengths = pytest.mark.parametrize("frames", [1, 2, HOP - 1, HOP, HOP + 1, 2 * HOP, 5_001])
rates = pytest.mark.parametrize("rate", RATES_HZ + ODD_RATES_HZ)


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Loads a tiny denoiser with these properties (see `tests.tiny.tiny_denoiser_bundle`)."""
    return lambda **kind: SignalDenoiser.load(
        tiny_denoiser_bundle(tmp_path_factory.mktemp("b"), **kind)
    )


@pytest.fixture(scope="module")
def identity(load):
    return load()


@pytest.fixture(scope="module")
def changing(load):
    """A denoiser whose gain depends on the whole past, so that any slip of state shows."""
    return load(feedback=0.9)


@pytest.fixture(scope="module")
def deaf_above(load):
    """A denoiser that keeps what is below 3 kHz and removes everything above 4 kHz."""
    bins_hz = np.arange(BINS) * 16_000 / 512
    return load(gain=np.clip((4_000 - bins_hz) / 1_000, 0, 1).astype(np.float32))


def noise(frames, channels=None, *, seed=0, dtype=np.float32):
    shape = frames if channels is None else (frames, channels)
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def tone(rate, hz, seconds=0.5, level=0.3):
    """A sine under a smooth envelope, so that it has no energy elsewhere."""
    t = np.arange(int(rate * seconds)) / rate
    return (level * np.sin(np.pi * t / t[-1]) ** 2 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def level_db(x, reference):
    return 10 * np.log10(np.mean(np.square(x, dtype=float)) / np.mean(np.square(reference)))


def in_blocks(stream, x, blocks):
    """What the stream gives for x cut into blocks of these lengths, again and again."""
    given_back, start, turn = [], 0, 0
    while start < len(x):
        count = blocks[turn % len(blocks)]
        given_back.append(stream.process(x[start : start + count]))
        start, turn = start + count, turn + 1
    return np.concatenate([*given_back, stream.flush()])


# Stream and whole


@rates
def test_stream_equals_whole_to_the_last_bit(changing, rate):
    x = noise(rate // 5 + 7)
    whole = changing.denoise(x, sample_rate=rate)
    stream = changing.stream(sample_rate=rate)
    for blocks in ([0, 1, HOP - 1, HOP, HOP + 1], [len(x)], [97, 0, 3_000]):
        joined = in_blocks(stream, x, blocks)
        assert len(joined) == len(x) + stream.delay
        np.testing.assert_array_equal(joined[stream.delay :], whole)


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 3_000),
    blocks=st.lists(st.integers(0, 1_200), min_size=1, max_size=8).filter(any),
    rate=st.one_of(st.sampled_from(RATES_HZ), st.integers(8_000, 12_000)),
    channels=st.sampled_from([None, 1, 2]),
    dtype=st.sampled_from([np.float32, np.float64]),
    limit_db=st.sampled_from([None, 12.0]),
    block_samples=st.sampled_from([None, 1, 160, 480]),
)
def test_any_cut_gives_the_whole(
    changing, frames, blocks, rate, channels, dtype, limit_db, block_samples
):
    x = noise(frames, channels, seed=frames, dtype=dtype)
    whole = changing.denoise(x, sample_rate=rate, attenuation_limit_db=limit_db)
    stream = changing.stream(
        sample_rate=rate,
        channels=channels or 1,
        attenuation_limit_db=limit_db,
        block_samples=block_samples,
    )
    joined = in_blocks(stream, x, blocks)
    assert joined.dtype == whole.dtype == x.dtype
    assert whole.shape == x.shape
    np.testing.assert_array_equal(joined[stream.delay :], whole)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_blocks_of_one_sample_give_the_whole(changing, rate):
    x = noise(1_500)
    stream = changing.stream(sample_rate=rate)
    joined = in_blocks(stream, x, [1])
    np.testing.assert_array_equal(joined[stream.delay :], changing.denoise(x, sample_rate=rate))


def test_a_long_array_is_worked_through_in_pieces_that_do_not_show(changing):
    x = noise(200_001)
    stream = changing.stream(sample_rate=16_000)
    joined = np.concatenate([stream.process(x), stream.flush()])
    np.testing.assert_array_equal(joined[stream.delay :], changing.denoise(x, sample_rate=16_000))


def test_flush_of_an_empty_stream_gives_the_delay_and_nothing_else(changing):
    stream = changing.stream(sample_rate=44_100)
    assert stream.process(noise(0)).shape == (0,)
    tail = stream.flush()
    assert tail.shape == (stream.delay,)
    assert not tail.any()


@rates
def test_a_stream_never_gives_more_than_it_got(identity, rate):
    stream = identity.stream(sample_rate=rate)
    got = given_back = 0
    for count in [1, 700, 3, 2_000, 0, 129]:
        got += count
        given_back += len(stream.process(noise(count)))
        assert given_back <= got


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 32_000, 48_000, 96_000])
def test_a_hop_in_is_a_hop_out(identity, rate):
    hop = rate * HOP // 16_000
    stream = identity.stream(sample_rate=rate)
    assert [len(stream.process(noise(hop))) for _ in range(12)] == [hop] * 12


@pytest.mark.parametrize("block", [1, 64, 160, 256, 441, 480, 1_024])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 12_345])
def test_a_live_callback_gets_a_block_for_a_block(identity, rate, block):
    stream = identity.stream(sample_rate=rate, block_samples=block)
    sizes = {len(stream.process(noise(block))) for _ in range(3 * rate // 50 // block + 20)}
    assert sizes == {block}


def test_the_delay_is_one_hop_at_the_models_rate_and_little_more_elsewhere(identity):
    assert identity.stream(sample_rate=16_000).delay == HOP
    assert identity.stream(sample_rate=16_000, block_samples=1).delay == 2 * HOP - 1
    for rate in RATES_HZ:
        extra_ms = identity.stream(sample_rate=rate).delay / rate * 1e3 - 16
        assert extra_ms <= (7.5 if rate < 16_000 else 4.0)


def test_lookahead_adds_whole_hops_to_the_delay(load):
    ahead = load(lookahead_hops=2)
    assert ahead.stream(sample_rate=16_000).delay == 3 * HOP
    for rate in (16_000, 48_000):
        x = noise(9_000)
        np.testing.assert_allclose(ahead.denoise(x, sample_rate=rate), x, atol=1e-6)


# Alignment and bands


@rates
@lengths
def test_output_has_the_length_of_the_input_and_an_idle_model_changes_nothing(
    identity, rate, frames
):
    x = noise(frames)
    clean = identity.denoise(x, sample_rate=rate)
    assert clean.shape == x.shape
    np.testing.assert_allclose(clean, x, atol=1e-6)


@pytest.mark.parametrize("rate", RATES_HZ)
def test_the_band_below_the_models_is_resampled_without_a_shift(deaf_above, rate):
    # The model removes its upper band, so nothing but the resampled path brings this tone back.
    x = tone(rate, 1_000) + tone(rate, 440)
    hiss = noise(len(x)) if rate >= 16_000 else 0
    upper = deaf_above.denoise(np.float32(x + hiss), sample_rate=rate)
    if rate < 16_000:
        np.testing.assert_allclose(upper, x, atol=1e-3)
    else:
        alone = deaf_above.denoise(np.float32(0 * x + hiss), sample_rate=rate)
        np.testing.assert_allclose(upper - alone, x, atol=2e-3)


def test_an_impulse_comes_out_delay_samples_later(load):
    half = load(gain=0.5)
    for rate in RATES_HZ:
        stream = half.stream(sample_rate=rate)
        x = np.zeros(rate // 10, np.float32)
        x[rate // 20] = 1.0
        y = in_blocks(stream, x, [1_000])
        assert np.argmax(np.abs(y)) == rate // 20 + stream.delay


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000, 96_000])
def test_the_band_above_the_models_stays_when_the_model_removes_nothing(identity, rate):
    x = tone(rate, 10_000)
    np.testing.assert_allclose(identity.denoise(x, sample_rate=rate), x, atol=1e-6)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000, 96_000])
def test_the_band_above_the_models_falls_with_the_models_upper_band(deaf_above, load, rate):
    x = noise(rate)  # white, so the model hears noise at 4 to 7 kHz and removes it
    high = np.fft.rfft(x)
    high[: int(9_000 / rate * len(x))] = 0
    clean = deaf_above.denoise(x, sample_rate=rate)
    spectrum = np.fft.rfft(clean)
    spectrum[: int(9_000 / rate * len(x))] = 0
    assert level_db(np.fft.irfft(spectrum), np.fft.irfft(high)) < -25
    half = load(gain=0.5).denoise(x, sample_rate=rate)
    np.testing.assert_allclose(half[rate // 4 :], 0.5 * x[rate // 4 :], atol=2e-3)


def test_the_band_above_the_models_stays_untouched_over_silence(deaf_above):
    x = tone(48_000, 18_000)
    clean = deaf_above.denoise(x, sample_rate=48_000)
    np.testing.assert_allclose(clean, x, atol=1e-3)


@rates
def test_silence_stays_silence(changing, rate):
    assert not changing.denoise(np.zeros(rate // 4, np.float32), sample_rate=rate).any()


# Channels, dtypes, limits


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_stereo_with_channels_apart_equals_two_monos(changing, rate):
    x = noise(7_000, 2)
    both = changing.denoise(x, sample_rate=rate, link_channels=False)
    for channel in range(2):
        alone = changing.denoise(x[:, channel], sample_rate=rate)
        np.testing.assert_allclose(both[:, channel], alone, atol=1e-6)


@pytest.mark.parametrize("shape", [(3_000,), (3_000, 1), (3_000, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_rank_and_dtype_of_the_output_are_the_inputs(changing, shape, dtype):
    x = noise(3_000 * (shape[1] if len(shape) > 1 else 1)).reshape(shape)
    x = (x * 32_767).astype(np.int16) if dtype is np.int16 else x.astype(dtype)
    clean = changing.denoise(x, sample_rate=48_000)
    assert (clean.shape, clean.dtype) == (x.shape, x.dtype)


def test_int16_is_the_same_audio_in_steps_of_32768(changing):
    x = np.random.default_rng(1).integers(-9_000, 9_000, 5_000).astype(np.int16)
    clean = changing.denoise(x, sample_rate=24_000)
    same = changing.denoise(np.float32(x / 32_768), sample_rate=24_000)
    assert np.abs(clean - same * 32_768).max() <= 0.51


def test_int16_clips_instead_of_wrapping(load):
    loud = load(gain=4.0).denoise(np.full(4_000, 20_000, np.int16), sample_rate=16_000)
    assert loud[1_000:3_000].min() == 32_767


def test_arrays_need_not_be_contiguous(changing):
    x = noise(4_000, 2)
    expected = changing.denoise(x[:, 0].copy(), sample_rate=16_000)
    np.testing.assert_array_equal(changing.denoise(x[:, 0], sample_rate=16_000), expected)
    before = x.copy()
    changing.denoise(np.asfortranarray(x), sample_rate=48_000)
    np.testing.assert_array_equal(x, before)


@rates
def test_an_attenuation_limit_of_0_db_gives_the_delayed_input(changing, rate):
    x = noise(rate // 8)
    stream = changing.stream(sample_rate=rate, attenuation_limit_db=0)
    y = in_blocks(stream, x, [500])
    np.testing.assert_array_equal(y[stream.delay :], x)


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("limit_db", [6, 20.0])
def test_an_attenuation_limit_mixes_in_the_aligned_input(changing, rate, limit_db):
    x = noise(rate // 4)
    clean = changing.denoise(x, sample_rate=rate)
    mixed = changing.denoise(x, sample_rate=rate, attenuation_limit_db=limit_db)
    expected = clean + 10 ** (-limit_db / 20) * (x - clean)
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


def test_a_model_that_removes_everything_leaves_the_limit(load):
    mute = load(gain=0.0)
    x = noise(48_000)
    for rate in (16_000, 48_000):
        left = mute.denoise(x, sample_rate=rate, attenuation_limit_db=18)
        assert level_db(left[rate // 2 :], x[rate // 2 :]) == pytest.approx(-18, abs=0.2)


# State


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_reset_equals_fresh(changing, rate):
    x = noise(6_000, 2)
    fresh = in_blocks(changing.stream(sample_rate=rate, channels=2), x, [700])
    stream = changing.stream(sample_rate=rate, channels=2)
    stream.process(noise(12_345, 2, seed=9))
    stream.reset()
    np.testing.assert_array_equal(in_blocks(stream, x, [700]), fresh)
    # A flush ends the signal: what follows is a new one.
    np.testing.assert_array_equal(in_blocks(stream, x, [700]), fresh)


def test_two_streams_of_one_model_do_not_meet(changing):
    x, other = noise(5_000), noise(5_000, seed=5)
    a, b = (changing.stream(sample_rate=16_000) for _ in range(2))
    parts = []
    for start in range(0, 5_000, 500):
        parts.append(a.process(x[start : start + 500]))
        b.process(other[start : start + 500])
    joined = np.concatenate([*parts, a.flush()])
    np.testing.assert_array_equal(joined[a.delay :], changing.denoise(x, sample_rate=16_000))


def test_eight_threads_on_one_model_give_equal_bytes(changing):
    x = noise(20_000, 2)
    expected = changing.denoise(x, sample_rate=44_100).tobytes()
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(changing.denoise, x, sample_rate=44_100) for _ in range(16)]
        assert {job.result().tobytes() for job in jobs} == {expected}


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_memory_is_flat_over_many_hops(changing, rate):
    stream = changing.stream(sample_rate=rate)
    x = noise(rate * HOP // 16_000 * 50)

    def run(blocks):
        for _ in range(blocks):
            stream.process(x)

    run(4)
    tracemalloc.start()
    try:
        run(4)
        before, _ = tracemalloc.get_traced_memory()
        run(50)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4_096


def test_a_returned_block_is_not_changed_by_later_ones(changing):
    stream = changing.stream(sample_rate=16_000)
    first = stream.process(noise(HOP * 4))
    kept = first.copy()
    stream.process(noise(HOP * 4, seed=3))
    np.testing.assert_array_equal(first, kept)


# Refusals


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_and_the_stream_goes_on(changing, bad):
    x = noise(3_000)
    spoiled = x.copy()
    spoiled[1_234] = bad
    stream = changing.stream(sample_rate=16_000)
    parts = [stream.process(x[:1_000])]
    with pytest.raises(ValueError, match="NaN or infinity"):
        stream.process(spoiled)
    joined = np.concatenate([*parts, stream.process(x[1_000:]), stream.flush()])
    np.testing.assert_array_equal(joined[stream.delay :], changing.denoise(x, sample_rate=16_000))
    with pytest.raises(ValueError, match="NaN or infinity"):
        changing.denoise(spoiled, sample_rate=16_000)


def test_16_bit_values_in_a_float_array_are_refused(identity):
    with pytest.raises(ValueError, match="int16"):
        identity.denoise(np.float32([0, 20_000, -20_000]), sample_rate=16_000)


@pytest.mark.parametrize("shape", [(0,), (0, 2)])
def test_denoise_refuses_0_frames(identity, shape):
    with pytest.raises(ValueError, match="at least one frame"):
        identity.denoise(np.zeros(shape, np.float32), sample_rate=16_000)


@pytest.mark.parametrize("rate", [0, 7_999, 96_001, -16_000])
def test_a_rate_outside_8_to_96_khz_is_refused(identity, rate):
    with pytest.raises(ValueError, match=f"sample_rate is {rate}, expected 8000 to 96000"):
        identity.denoise(noise(100), sample_rate=rate)


@pytest.mark.parametrize("rate", [44_100.0, "16000", None, True])
def test_a_rate_that_is_no_whole_number_is_refused(identity, rate):
    with pytest.raises(TypeError, match="sample_rate"):
        identity.stream(sample_rate=rate)


@pytest.mark.parametrize(
    "audio", [np.zeros(9, np.int32), np.zeros(9, np.float16), np.zeros(9, np.uint8), [0.0, 0.1]]
)
def test_another_dtype_is_refused(identity, audio):
    with pytest.raises(TypeError, match="expected"):
        identity.denoise(audio, sample_rate=16_000)


@pytest.mark.parametrize("shape", [(), (2, 3, 4), (100, 0), (2, MAX_CHANNELS + 1)])
def test_another_shape_is_refused(identity, shape):
    with pytest.raises(ValueError, match="shape"):
        identity.denoise(np.zeros(shape, np.float32), sample_rate=16_000)


def test_a_block_with_other_channels_is_refused(identity):
    stream = identity.stream(sample_rate=16_000, channels=2)
    with pytest.raises(ValueError, match="1 channels .* expected 2"):
        stream.process(noise(100))


@pytest.mark.parametrize("limit_db", [-1, np.nan, np.inf])
def test_an_attenuation_limit_below_0_or_not_finite_is_refused(identity, limit_db):
    with pytest.raises(ValueError, match="attenuation_limit_db"):
        identity.denoise(noise(100), sample_rate=16_000, attenuation_limit_db=limit_db)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("window", "hann", "sqrt_hann"),
        ("hop_samples", 128, "half the window"),
        ("hop_samples", "256", "hop_samples is '256'"),
        ("window_samples", None, "window_samples is None"),
        ("lookahead_hops", -1, "lookahead_hops is -1"),
        ("state", [1, 2], "state is"),
        ("state", {"h0": [1, 1, 5]}, "the step graph's inputs"),
        ("state", {}, "the step graph's inputs"),
        ("state", {"h0": [1, 1.5, 4]}, "axis of state 'h0'"),
    ],
)
def test_a_stream_section_that_the_graph_does_not_match_is_refused(tmp_path, key, value, said):
    path = tiny_denoiser_bundle(tmp_path / "b")
    change_manifest(path, lambda manifest: manifest["stream"].__setitem__(key, value))
    with pytest.raises(BundleError, match=said):
        SignalDenoiser.load(path)


def test_a_bundle_of_another_task_is_refused(tmp_path):
    path = tiny_denoiser_bundle(tmp_path / "b", task="detector", detection={})
    with pytest.raises(BundleError, match="is a detector, expected a denoiser"):
        SignalDenoiser.load(path)


@pytest.mark.parametrize("kind", ["vector", "image"])
def test_a_bundle_of_another_kind_is_refused_before_its_graph_is_opened(
    tmp_path, monkeypatch, kind
):
    layout = {"kind": kind, "channels": 1, "sample_rate_hz": 16_000}
    path = tiny_denoiser_bundle(tmp_path / "b", layout=layout)
    monkeypatch.setattr("edgeae.signal.denoiser.Graph", None)
    said = f"tiny-denoiser is a denoiser of kind {kind!r}, expected kind 'audio'"
    with pytest.raises(BundleError, match=f"^{said}$"):
        SignalDenoiser.load(path)


def test_report_names_the_bundle_and_where_the_step_ran(identity):
    report = identity.report()
    assert report["bundle"] == identity.bundle.id
    assert (report["name"], report["precision"]) == ("tiny-denoiser", "fp32")
    assert report["graphs"]["step"]["nodes"]["CPUExecutionProvider"] > 0


def test_everything_after_the_first_argument_is_keyword_only():
    for method in (
        SignalDenoiser.load,
        SignalDenoiser.denoise,
        SignalDenoiser.stream,
        Stream.process,
    ):
        parameters = [p for p in inspect.signature(method).parameters.values() if p.name != "self"]
        free = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        assert len(free) <= 1


# The transform


def test_squared_windows_add_up_to_one():
    window = sqrt_hann(512)
    np.testing.assert_allclose(window[:256] ** 2 + window[256:] ** 2, 1, atol=1e-6)


def test_an_unchanged_spectrum_gives_the_signal_back():
    x = noise(256 * 20).reshape(1, -1)
    stft, out = Stft(512), np.zeros((1, 256 * 19), np.float32)
    for hop in range(19):
        place = out[:, hop * 256 : (hop + 1) * 256]
        stft.synthesize(stft.analyze(x[:, hop * 256 : hop * 256 + 512]), place)
    np.testing.assert_allclose(out[:, 256:], x[:, 256 : 256 * 19], atol=1e-6)
