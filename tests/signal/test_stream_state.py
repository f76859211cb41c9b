"""What a stream's state survives: silence, overload, threads, interrupts, copies, bad graphs."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest
import tiny
from onnx import helper

import edgeae
from edgeae.errors import BundleError, EdgeaeError
from edgeae.signal import model_step
from edgeae.signal.denoiser import SignalDenoiser

RATE = 16_000
HOP = 256


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Loads a tiny denoiser with these properties (see `tiny.tiny_denoiser_bundle`)."""
    return lambda **kind: SignalDenoiser.load(
        tiny.tiny_denoiser_bundle(tmp_path_factory.mktemp("b"), **kind)
    )


@pytest.fixture(scope="module")
def forgetful(load):
    """A gain that depends on all that came before, less the longer ago: .9 a hop."""
    return load(feedback=0.9)


def noise(frames, channels=None, *, level=0.1, seed=0):
    shape = frames if channels is None else (frames, channels)
    return (level * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def streamed(stream, *parts):
    """The output, aligned; a number stands for so many lost frames."""
    out = [stream.skip(p) if isinstance(p, int) else stream.process(p) for p in parts]
    return np.concatenate([*out, stream.flush()])[stream.delay :]


# Digital silence


def after_silence(denoiser, hops, *, rate=RATE, skipped=False):
    """How far what comes of noise after noise and so much silence is from what comes of it without
    the silence, and from what a new stream gives; what lies between those two is 1.

    The windows at the seam, which see another neighbour, are left out.
    """
    hop = HOP * rate // RATE
    x, early = noise(40 * hop), slice(8 * hop, 16 * hop)
    silence = hops * hop if skipped else np.zeros(hops * hop, np.float32)
    found = streamed(denoiser.stream(sample_rate=rate), x, silence, x)[(40 + hops) * hop :][early]
    joined = streamed(denoiser.stream(sample_rate=rate), x, x)[40 * hop :][early]
    fresh = denoiser.denoise(x, sample_rate=rate)[early]
    apart = np.abs(fresh - joined).max()
    return np.abs(found - joined).max() / apart, np.abs(found - fresh).max() / apart


@pytest.mark.parametrize("skipped", [False, True])
@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_noise_after_a_short_silence_finds_the_state_from_before_it(forgetful, rate, skipped):
    from_joined, from_fresh = after_silence(forgetful, 10, rate=rate, skipped=skipped)
    assert from_joined < 0.25 < 0.75 < from_fresh


@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_noise_after_a_long_silence_is_denoised_as_in_a_new_stream(forgetful, rate):
    from_joined, from_fresh = after_silence(forgetful, 10 * RATE // HOP, rate=rate)
    assert from_fresh < 0.01 < 0.99 < from_joined


def test_states_fade_by_half_in_a_second_of_silence(forgetful):
    shares = [after_silence(forgetful, seconds * RATE // HOP)[1] for seconds in (1, 2, 3)]
    np.testing.assert_allclose(np.divide(shares[1:], shares[:-1]), 0.5, atol=0.06)


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("lookahead_hops", [0, 2])
def test_noise_after_a_second_of_zeros_is_denoised_as_in_a_new_stream(load, rate, lookahead_hops):
    denoiser = load(feedback=0.9, lookahead_hops=lookahead_hops)
    x = noise(rate // 2)
    silence = np.zeros(125 * HOP * rate // RATE, np.float32)
    late = denoiser.denoise(np.concatenate([silence, x]), sample_rate=rate)[len(silence) :]
    np.testing.assert_allclose(late, denoiser.denoise(x, sample_rate=rate), atol=1e-2)


def test_one_silent_channel_does_not_hold_the_other(forgetful):
    x = noise(60 * HOP, 2)
    x[20 * HOP : 40 * HOP, 1] = 0
    both = forgetful.denoise(x, sample_rate=RATE, link_channels=False)
    for channel in range(2):
        alone = forgetful.denoise(x[:, channel].copy(), sample_rate=RATE)
        np.testing.assert_array_equal(both[:, channel], alone)


def test_the_output_of_silence_after_sound_is_silence(load):
    for lookahead_hops in (0, 3):
        denoiser = load(feedback=0.5, lookahead_hops=lookahead_hops)
        x = np.concatenate([noise(10 * HOP), np.zeros(30 * HOP, np.float32)])
        out = denoiser.denoise(x, sample_rate=RATE)
        assert np.abs(out[: 10 * HOP]).max() > 0.01
        assert not out[11 * HOP :].any()


# Overload


def test_a_second_far_over_full_scale_leaves_the_rest_as_it_was(forgetful):
    x = noise(200 * HOP)
    loud = x.copy()
    loud[60 * HOP : 120 * HOP] *= 300
    rest = slice(122 * HOP, None)
    found = forgetful.denoise(loud, sample_rate=RATE)[rest]
    expected = forgetful.denoise(x, sample_rate=RATE)[rest]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_an_overload_that_lasts_is_the_level_of_the_input(forgetful):
    hops = round(model_step.LONGEST_OVERLOAD_S * RATE / HOP)
    x = noise((hops + 40) * HOP)
    loud = x.copy()
    loud[: (hops + 20) * HOP] *= 300
    quiet_after = forgetful.denoise(loud, sample_rate=RATE)[(hops + 21) * HOP :]
    plain = forgetful.denoise(x, sample_rate=RATE)[(hops + 21) * HOP :]
    assert np.abs(quiet_after[:HOP] - plain[:HOP]).max() > 0.02


def test_sound_within_full_scale_is_never_taken_for_overload(forgetful, monkeypatch):
    x = np.clip(noise(50 * HOP, level=0.9), -1, 1)
    found = forgetful.denoise(x, sample_rate=44_100)
    monkeypatch.setattr(model_step, "OVERLOAD_PEAK", np.inf)
    np.testing.assert_array_equal(found, forgetful.denoise(x, sample_rate=44_100))


# Channels


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("lookahead_hops", [0, 2])
def test_linked_channels_keep_their_level_difference(load, rate, lookahead_hops):
    denoiser = load(feedback=0.9, lookahead_hops=lookahead_hops)
    x = noise(rate, 2)
    x[:, 1] = 0.25 * x[:, 0]  # one voice, 12 dB to the left
    linked = denoiser.denoise(x, sample_rate=rate)
    np.testing.assert_allclose(linked[:, 1], 0.25 * linked[:, 0], atol=1e-5)
    assert np.abs(linked - x).max() > 0.05
    apart = denoiser.denoise(x, sample_rate=rate, link_channels=False)
    assert np.abs(apart[:, 1] - 0.25 * apart[:, 0]).max() > 0.01


@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_equal_channels_are_denoised_as_one(forgetful, rate):
    x = noise(rate // 2)
    both = forgetful.denoise(np.stack([x, x, x], axis=1), sample_rate=rate)
    alone = forgetful.denoise(x, sample_rate=rate)
    for channel in range(3):
        np.testing.assert_allclose(both[:, channel], alone, atol=2e-6)


@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_a_silent_channel_stays_silent_and_leaves_the_other_alone(forgetful, rate):
    x = np.zeros((rate // 2, 2), np.float32)
    x[:, 0] = noise(rate // 2)
    both = forgetful.denoise(x, sample_rate=rate)
    np.testing.assert_allclose(
        both[:, 0], forgetful.denoise(x[:, 0].copy(), sample_rate=rate), atol=2e-6
    )
    assert not both[:, 1].any()


def test_a_linked_stream_equals_the_whole(forgetful):
    x = noise(9_000, 2)
    whole = forgetful.denoise(x, sample_rate=44_100)
    stream = forgetful.stream(sample_rate=44_100, channels=2)
    blocks = [x[i : i + 777] for i in range(0, len(x), 777)]
    np.testing.assert_array_equal(streamed(stream, *blocks), whole)


# Threads, interrupts, copies


def in_another_thread(call):
    """What the call gave or raised in a thread of its own."""
    found = []

    def run():
        try:
            found.append(call())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return found[0]


@pytest.mark.parametrize(
    "call",
    [
        lambda stream: stream.process(noise(100)),
        lambda stream: stream.skip(100),
        lambda stream: stream.flush(),
        lambda stream: stream.reset(),
    ],
)
def test_a_stream_in_use_refuses_another_thread_and_goes_on(forgetful, monkeypatch, call):
    x = noise(4_000)
    stream = forgetful.stream(sample_rate=RATE)
    run, refused = stream._advance, []

    def advance():
        refused.append(in_another_thread(lambda: call(stream)))
        run()

    monkeypatch.setattr(stream, "_advance", advance)
    first = stream.process(x)
    monkeypatch.undo()
    assert refused
    assert all(type(e) is RuntimeError and "in use by another thread" in str(e) for e in refused)
    found = np.concatenate([first, stream.flush()])[stream.delay :]
    np.testing.assert_array_equal(found, forgetful.denoise(x, sample_rate=RATE))


def test_a_stream_may_pass_from_thread_to_thread(forgetful):
    x = noise(4_000)
    stream = forgetful.stream(sample_rate=RATE)
    parts = [in_another_thread(lambda p=p: stream.process(p)) for p in (x[:1500], x[1500:])]
    found = np.concatenate([*parts, stream.flush()])[stream.delay :]
    np.testing.assert_array_equal(found, forgetful.denoise(x, sample_rate=RATE))


@pytest.mark.parametrize(
    ("method", "at"),
    [
        ("process", "_fill"),
        ("process", "_advance"),
        ("process", "_drain"),
        ("skip", "_fill"),
        ("skip", "_advance"),
        ("flush", "_advance"),
        ("flush", "_drain"),
    ],
)
def test_after_an_interrupt_only_a_reset_helps(forgetful, monkeypatch, at, method):
    x = noise(3_000)
    stream = forgetful.stream(sample_rate=RATE)
    stream.process(x)

    def interrupted(*_):
        raise KeyboardInterrupt

    call = {
        "process": lambda: stream.process(x),
        "skip": lambda: stream.skip(1_000),
        "flush": stream.flush,
    }
    monkeypatch.setattr(stream, at, interrupted)
    with pytest.raises(KeyboardInterrupt):
        call[method]()
    monkeypatch.undo()
    for again in call.values():
        with pytest.raises(RuntimeError, match=r"interrupted .* expected reset\(\)"):
            again()
    stream.reset()
    np.testing.assert_array_equal(streamed(stream, x), forgetful.denoise(x, sample_rate=RATE))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_stream_is_not_copied(forgetful, copied):
    with pytest.raises(TypeError, match="make another with SignalDenoiser.stream"):
        copied(forgetful.stream(sample_rate=RATE))


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_denoiser_is_copied_by_its_path_and_settings(tmp_path, copied):
    path = tiny.tiny_denoiser_bundle(tmp_path / "b", feedback=0.5)
    model = SignalDenoiser.load(path, threads=2, precision="fp32", device="cpu")
    again = copied(model)
    assert again is not model and again.bundle.id == model.bundle.id
    assert again.report() == model.report() and again.report()["graphs"]["step"]["threads"] == 2
    x = noise(3_000)
    np.testing.assert_array_equal(
        again.denoise(x, sample_rate=RATE), model.denoise(x, sample_rate=RATE)
    )


def test_a_pickled_denoiser_holds_no_weights():
    model = edgeae.SignalDenoiser.load("speech-denoiser")
    assert len(pickle.dumps(model)) < 1_000


def test_a_pickled_denoiser_refuses_another_bundle_in_its_place(tmp_path):
    path = tiny.tiny_denoiser_bundle(tmp_path / "b")
    pickled = pickle.dumps(SignalDenoiser.load(path))
    tiny.tiny_denoiser_bundle(path, gain=0.5)
    with pytest.raises(BundleError, match="expected .* was pickled"):
        pickle.loads(pickled)


def test_repr_says_what_a_model_is(load):
    assert repr(load(lookahead_hops=1)) == (
        "<SignalDenoiser tiny-denoiser 0.1.0: audio at 16000 Hz, 48 ms delay, fp32, "
        "13 nodes on CPUExecutionProvider>"
    )


def test_repr_says_what_a_stream_is(load):
    stream = load(lookahead_hops=1).stream(sample_rate=16_000, channels=2)
    assert repr(stream) == "<Stream: 2 channels at 16000 Hz, 32 ms delay>"
    live = load(lookahead_hops=1).stream(sample_rate=48_000, block_samples=480)
    assert repr(live) == f"<Stream: 1 channel at 48000 Hz, {live.delay / 48:.4g} ms delay>"


# Graphs that lie


def set_constant(name, value):
    """Gives the constant of that name in the tiny denoiser's graph another value."""

    def change(model):
        for tensor in model.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(helper.make_tensor(name, tensor.data_type, tensor.dims, [value]))

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_nan_and_infinity_of_a_graph_do_not_reach_the_caller(tmp_path, value, rate):
    path = tiny.tiny_denoiser_bundle(tmp_path / "b")
    tiny.change_graph(path, set_constant("gain", float(value)))
    denoiser = SignalDenoiser.load(path)
    with pytest.raises(EdgeaeError, match=r"step\.fp32\.onnx gave NaN or infinity"):
        denoiser.denoise(noise(2_000, 2), sample_rate=rate)


def test_nan_that_begins_in_a_state_does_not_reach_the_caller(tmp_path):
    path = tiny.tiny_denoiser_bundle(tmp_path / "b", feedback=0.5)
    tiny.change_graph(path, set_constant("leak", 1e38))
    stream = SignalDenoiser.load(path).stream(sample_rate=RATE)
    with pytest.raises(EdgeaeError, match="gave NaN or infinity"):
        for _ in range(20):
            assert np.isfinite(stream.process(noise(HOP))).all()
    with pytest.raises(RuntimeError, match="expected reset"):
        stream.process(noise(HOP))


def lie_about_the_shape(model):
    """The clean spectrum is declared (1, 2, bins) and is half of it, found out at run time only."""
    bins = model.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    model.graph.node[-1].output[0] = "whole"
    constants = {"flags": np.zeros(bins, np.float32)}
    for name, array in constants.items():
        model.graph.initializer.append(helper.make_tensor(name, 1, array.shape, array))
    # How many bins remain depends on the signal, so no shape inference can know it.
    zero = helper.make_tensor("zero", 1, [], [3.0])
    model.graph.initializer.append(zero)
    model.graph.initializer.append(helper.make_tensor("row", 7, [1], [bins]))
    model.graph.node.extend(
        [
            helper.make_node("Slice", ["power", "i0", "i1", "i2"], ["first"]),
            helper.make_node("Reshape", ["first", "row"], ["flat"]),
            helper.make_node("Greater", ["flat", "zero"], ["some"]),
            helper.make_node("Compress", ["whole", "some"], [model.graph.output[0].name], axis=2),
        ]
    )
    for name, value in (("i0", [0]), ("i1", [1]), ("i2", [1])):
        model.graph.initializer.append(helper.make_tensor(name, 7, [1], value))


def test_a_spectrum_of_another_shape_at_run_time_is_an_error(tmp_path):
    path = tiny.tiny_denoiser_bundle(tmp_path / "b")
    tiny.change_graph(path, lie_about_the_shape)
    denoiser = SignalDenoiser.load(path)
    x = np.sin(np.arange(2_000) * 0.3).astype(np.float32)
    x[:] = np.where(np.arange(2_000) < 600, 0, x)
    with pytest.raises(EdgeaeError):
        denoiser.denoise(x, sample_rate=RATE)


# Manifests that ask for too much


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("layout", "sample_rate_hz", 1_048_573, "sample_rate_hz is 1048573, expected"),
        ("layout", "sample_rate_hz", 7_975, "expected a whole number, 8000 to 192000"),
        ("stream", "window_samples", 1 << 14, "expected a whole number, 4 to 8192"),
        ("stream", "lookahead_hops", 1 << 20, "lookahead_hops is 1048576, expected"),
        ("stream", "state", {"h": [1 << 18], "g": [1]}, "262145 values, expected at most"),
        ("stream", "state", {"h": [1 << 19]}, "axis of state 'h' is"),
        ("stream", "state", {"h": [1 << 20, 1 << 10]}, "1073741824"),
    ],
)
def test_absurd_numbers_are_refused_before_the_graph_is_opened(
    tmp_path, monkeypatch, section, key, value, said
):
    path = tiny.tiny_denoiser_bundle(tmp_path / "b")
    tiny.change_manifest(path, lambda manifest: manifest[section].__setitem__(key, value))
    monkeypatch.setattr("edgeae.signal.denoiser.Graph", None)
    with pytest.raises(BundleError, match=said):
        SignalDenoiser.load(path)


def test_a_hop_of_less_than_a_millisecond_is_refused(tmp_path):
    path = tiny.tiny_denoiser_bundle(tmp_path / "b", window_samples=16, hop_samples=8)
    with pytest.raises(BundleError, match="hop_samples is 8 at 16000 Hz, expected at least 1 ms"):
        SignalDenoiser.load(path)


# Arguments


@pytest.mark.parametrize("limit_db", [10**400, -(10**400)])
def test_a_limit_beyond_every_float_is_a_value_error(forgetful, limit_db):
    with pytest.raises(ValueError, match="attenuation_limit_db is -?inf|expected None"):
        forgetful.stream(sample_rate=RATE, attenuation_limit_db=limit_db)


def test_a_masked_array_is_refused(forgetful):
    masked = np.ma.masked_array(noise(1_000), mask=np.arange(1_000) % 2 == 0)
    with pytest.raises(TypeError, match="masked array, expected one without a mask"):
        forgetful.denoise(masked, sample_rate=RATE)


def test_other_subclasses_of_arrays_are_taken_as_plain_ones(forgetful, tmp_path):
    x = noise(2_000)
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.float32, "r")
    expected = forgetful.denoise(x, sample_rate=44_100)
    found = forgetful.denoise(mapped, sample_rate=44_100)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("link", [1, 0, "yes"])
def test_link_channels_is_true_or_false(forgetful, link):
    with pytest.raises(TypeError, match="link_channels is .*, expected True or False"):
        forgetful.stream(sample_rate=RATE, channels=2, link_channels=link)
