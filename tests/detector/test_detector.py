"""The detector in the package: scores, alarms and streams, and misuse is told."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import tiny
from detectors import squares

import edgeae
from edgeae.bench.detector import self_test, workloads
from edgeae.errors import BundleError, EdgeaeError
from edgeae.signal.beats import BeatFinder, Prematurity

RATE_HZ = 360.0
AROUND_BEATS = {
    "layout": {"kind": "signal", "shape": [80, 1], "sample_rate_hz": 360, "names": []},
    "detection": {"beats": True, "beat_before": 30, "hop_samples": 1, "prematurity": 3.0},
}


def quiet(samples, channels=1):
    return np.random.default_rng(0).normal(0, 0.1, (samples, channels)).astype(np.float32)


def heart(seconds, *, early=()):
    """An electrocardiogram of peaks 0.8 s apart, and where they are; those in `early` come sooner.

    float32 (samples, 1) and int64 (beats,).
    """
    places = np.cumsum([0.8 - (0.3 if i in early else 0.0) for i in range(int(seconds / 0.8) - 1)])
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    signal = sum(np.exp(-0.5 * ((t - place) / 0.012) ** 2) for place in places)
    noise = np.random.default_rng(0).normal(0, 0.01, len(t))
    return (signal + noise).astype(np.float32)[:, None], np.rint(places * RATE_HZ).astype(np.int64)


def test_a_score_is_the_logarithm_of_the_mean_error_of_its_window(tmp_path):
    x = quiet(21, 2)
    scores = edgeae.load(squares(tmp_path / "d", channels=2)).score(x)
    # The last window ends with the last sample.
    assert scores.starts.tolist() == [0, 2, 4, 6, 8, 10, 12, 13]
    for start, score, channels in zip(scores.starts, scores.windows, scores.channels, strict=True):
        window = x[start : start + 8].astype(np.float64) ** 2
        np.testing.assert_allclose(score, np.log(window.mean()), rtol=1e-5)
        np.testing.assert_allclose(channels, window.mean(0), rtol=1e-5)


def test_a_sample_has_the_score_of_the_first_window_that_holds_it(tmp_path):
    scores = edgeae.load(squares(tmp_path / "d")).score(quiet(12))
    assert scores.samples.shape == (12,)
    assert set(scores.samples[:8]) == {scores.windows[0]}
    assert set(scores.samples[8:10]) == {scores.windows[1]}
    assert set(scores.samples[10:]) == {scores.windows[2]}


def test_a_fault_is_flagged_where_it_is_and_in_its_channel(tmp_path):
    detector = edgeae.load(squares(tmp_path / "d", channels=3))
    x = quiet(60, 3)
    assert detector.flag(x) == []
    x[30:33, 2] = 9
    (alarm,) = detector.flag(x)
    assert alarm.channel == 2
    assert 29 <= alarm.start <= 31
    assert 33 <= alarm.end <= 41
    assert alarm.score > detector.threshold == 0.0
    assert detector.flag(x, threshold=99.0) == []


def test_alarms_that_are_close_are_one_and_far_ones_are_two(tmp_path):
    detector = edgeae.load(squares(tmp_path / "d"))
    x = quiet(100)
    x[20], x[30] = 9, 9
    assert len(detector.flag(x)) == 1
    x[70] = 9
    assert len(detector.flag(x)) == 2


@pytest.mark.parametrize(
    "detection",
    [{}, {"smooth_windows": 3}, {"relative_windows": 5, "relative_prior": -4.0}],
)
@pytest.mark.parametrize("block", [1, 5, 64])
def test_a_stream_gives_what_the_whole_gives(tmp_path, detection, block):
    detector = edgeae.load(squares(tmp_path / "d", detection=detection))
    x = quiet(67)
    whole = detector.score(x)
    stream = detector.stream()
    for _ in range(2):  # after its end it is as new
        parts = [stream.process(x[start : start + block]) for start in range(0, len(x), block)]
        parts.append(stream.flush())
        for name in ("starts", "windows", "channels"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole, name))


def test_errors_are_averaged_over_the_last_windows(tmp_path):
    x = quiet(40)
    plain = edgeae.load(squares(tmp_path / "a")).score(x).windows
    smooth = edgeae.load(squares(tmp_path / "b", detection={"smooth_windows": 2})).score(x).windows
    errors = np.exp(plain.astype(np.float64))
    np.testing.assert_allclose(smooth[1:], np.log((errors[1:] + errors[:-1]) / 2), rtol=1e-4)


def test_a_signal_may_be_judged_by_its_own_past_alone(tmp_path):
    detection = {"relative_windows": 20, "relative_least": 3, "relative_prior": -4.0}
    detector = edgeae.load(squares(tmp_path / "d", detection=detection))
    x = quiet(400)
    first, later = detector.score(x), detector.score(np.concatenate([x, quiet(10)]))
    np.testing.assert_array_equal(first.windows[:-1], later.windows[: len(first.windows) - 1])
    # Ten times as loud is no news once the past is as loud.
    loud = detector.score(10 * x).windows
    np.testing.assert_allclose(loud[40:], first.windows[40:], atol=1e-3)
    assert loud[0] > first.windows[0] + 4


def test_a_first_window_has_something_to_count_from(tmp_path):
    one = {"relative_windows": 3, "relative_least": 1, "relative_prior": -4.0}
    scores = edgeae.load(squares(tmp_path / "one", detection=one)).score(quiet(80))
    assert np.isfinite(scores.windows).all()
    none = squares(tmp_path / "none", detection={**one, "relative_least": 0})
    with pytest.raises(BundleError, match="relative_least is 0, expected a whole number, 1 to"):
        edgeae.load(none)


def test_early_beats_are_stranger_with_and_without_their_places(tmp_path):
    detector = edgeae.load(squares(tmp_path / "d", window=80, **AROUND_BEATS))
    x, places = heart(40, early=(30,))
    given = detector.score(x, beats=places)
    inside = places[(places >= 30) & (places + 50 <= len(x))]
    assert given.starts.tolist() == (inside - 30).tolist()
    assert int(np.argmax(given.windows)) == 30
    found = detector.score(x)
    strangest = int(found.starts[np.argmax(found.windows)]) + 30
    assert abs(strangest - places[30]) <= 5
    stream = detector.stream()
    parts = [*(stream.process(block) for block in np.array_split(x, 57)), stream.flush()]
    np.testing.assert_array_equal(np.concatenate([p.windows for p in parts]), found.windows)
    np.testing.assert_array_equal(np.concatenate([p.starts for p in parts]), found.starts)


def test_beats_are_found_where_they_are_in_noise_wander_and_upside_down():
    x, places = heart(60, early=(10, 40))
    t = np.arange(len(x)) / RATE_HZ
    noise = np.random.default_rng(1).normal(0, 0.05, len(x))
    for sign in (1, -1):
        finder = BeatFinder(RATE_HZ)
        signal = sign * x[:, 0] + 2 * np.sin(2 * np.pi * 0.2 * t) + noise + 7
        found = np.array([*finder.process(signal), *finder.flush()])
        assert len(found) == len(places)
        assert np.abs(found - places).max() <= 0.05 * RATE_HZ


def test_prematurity_is_a_share_of_the_usual_interval():
    follow = Prematurity(100)
    early = [follow.next(place) for place in (0, 80, 160, 240, 300, 400)]
    np.testing.assert_allclose(early, [0, 0, 0, 0, 0.25, -0.25])


def test_misuse_is_told(tmp_path):
    detector = edgeae.load(squares(tmp_path / "d", channels=2))
    for wrong, told in (
        (quiet(20), r"expected \(samples, 2\)"),
        (quiet(7, 2), "expected at least one window of 8"),
        (np.full((20, 2), np.nan, np.float32), "NaN"),
    ):
        with pytest.raises(ValueError, match=told):
            detector.score(wrong)
    with pytest.raises(TypeError, match="int64"):
        detector.score(np.zeros((20, 2), np.int64))
    with pytest.raises(ValueError, match="not one of beats"):
        detector.score(quiet(20, 2), beats=np.array([4]))
    with pytest.raises(ValueError, match="threshold"):
        detector.flag(quiet(20, 2), threshold=float("nan"))
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.copy(detector.stream())
    beats = edgeae.load(squares(tmp_path / "b", window=80, **AROUND_BEATS))
    with pytest.raises(ValueError, match="rising"):
        beats.score(quiet(400), beats=np.array([90, 90]))


@pytest.mark.parametrize(
    ("detection", "told"),
    [
        ({"threshold": "high"}, "threshold is 'high'"),
        ({"hop_samples": 9}, "hop_samples is 9"),
        ({"smooth_windows": 0}, "smooth_windows is 0"),
        ({"beats": 1}, "beats is 1"),
        ({"beats": True}, "sample_rate_hz is None"),
        ({"prematurity": 1e300}, "prematurity is 1e.300"),
        ({"relative_prior": 2e6}, "relative_prior is 2000000.0"),
        ({"threshold": 10**400}, "threshold is 1000"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(tmp_path, detection, told):
    with pytest.raises(BundleError, match=told):
        edgeae.load(squares(tmp_path / "d", detection=detection))


@pytest.mark.parametrize("rate_hz", [1e-9, 39, 1e11])
def test_a_rate_at_which_no_beats_can_be_found_is_refused(tmp_path, rate_hz):
    sections = {"layout": {**AROUND_BEATS["layout"], "sample_rate_hz": rate_hz}}
    with pytest.raises(BundleError, match="expected 40 to 20000, as it is a detector of beats"):
        edgeae.load(squares(tmp_path / "d", window=80, **{**AROUND_BEATS, **sections}))


def test_a_detector_without_its_section_is_refused(tmp_path):
    path = squares(tmp_path / "d")
    tiny.change_manifest(path, lambda manifest: manifest.pop("detection"))
    with pytest.raises(BundleError, match="'detection' is missing: a detector needs it"):
        edgeae.load(path)


def test_a_graph_of_another_window_than_the_manifest_says_is_refused(tmp_path):
    layout = {"kind": "signal", "shape": [9, 1]}
    with pytest.raises(BundleError, match=r"expected float32 \(N, 9, 1\)"):
        edgeae.load(squares(tmp_path / "d", window=8, layout=layout))


def test_errors_below_zero_are_refused(tmp_path):
    import onnx

    path = squares(tmp_path / "d")

    def negated(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "Neg"
        del model.graph.node[0].input[1:]

    tiny.change_graph(path, negated, role="errors")
    with pytest.raises(EdgeaeError, match="no squares"):
        edgeae.load(path).score(np.ones((20, 1), np.float32))


def test_the_checks_of_verify_and_bench_run(tmp_path):
    for window, sections in ((8, {}), (80, AROUND_BEATS)):
        path = squares(tmp_path / str(window), window=window, **sections)
        detector = edgeae.load(path)
        assert len(list(self_test(detector))) == 1
        (workload,) = workloads(detector)
        assert workload.name == "window"
        assert "Detector squares" in repr(detector)
