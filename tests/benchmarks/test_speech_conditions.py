"""The conditions of `benchmarks.speech_conditions` on made sounds whose figures are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import tiny

pytest.importorskip("soxr")

from benchmarks import speech_conditions
from benchmarks.speech_systems import System

RATE = speech_conditions.RATE_HZ


def noise(samples, level=0.1, seed=0):
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def bursts(seconds=4, hz=300):
    """A tone that is on for half of each second."""
    time = np.arange(seconds * RATE) / RATE
    return np.float32(0.3 * np.sin(2 * np.pi * hz * time) * (time % 1 < 0.5))


def passes(sound):
    return sound.copy()


def test_what_is_kept_is_the_share_of_the_clean_speech_not_of_the_noise():
    clean, other = bursts(), noise(4 * RATE)
    other -= clean * np.vdot(other, clean) / np.vdot(clean, clean)
    assert speech_conditions.kept_db(clean, clean / 2 + other) == pytest.approx(-6.02, abs=0.01)
    by_band = speech_conditions.kept_by_band([(clean, clean / 2 + 0.01 * other)])
    assert by_band["all"] == pytest.approx(-6.02, abs=0.01)
    assert by_band["0 to 500 Hz"] == pytest.approx(-6.02, abs=0.1)


def test_speech_that_is_gone_is_a_floor_and_no_infinity():
    assert speech_conditions.kept_db(bursts(), np.zeros(4 * RATE, np.float32)) == -100
    assert speech_conditions.level_db(np.zeros(9)) == -200


def test_the_fall_in_pauses_is_that_of_the_pauses_alone():
    clean = bursts()
    noisy = clean + noise(len(clean), 0.01)
    out = noisy.copy()
    out[clean == 0] *= 0.1
    paused = speech_conditions.pause_fall_db(clean, noisy, out)
    assert paused == pytest.approx(-20, abs=0.5)
    assert np.isnan(speech_conditions.pause_fall_db(noise(RATE), noisy, out))


def test_sibilants_are_where_most_power_lies_above_4_khz():
    low, high = bursts(hz=300), np.roll(bursts(hz=6_000), RATE // 2)
    assert speech_conditions.sibilant_db(low + high, low + high / 2) == pytest.approx(
        -6.02, abs=0.1
    )
    assert speech_conditions.sibilant_db(low + high, low / 2 + high) == pytest.approx(0, abs=0.1)
    assert np.isnan(speech_conditions.sibilant_db(low, low))


def test_one_stream_for_all_recordings_gives_each_its_own_output():
    pairs = [(noise(n, seed=n), noise(n, seed=-n % 7)) for n in (900, 1_700, 400)]
    calls = []

    def late(sound):
        calls.append(len(sound))
        return np.cumsum(sound)  # what comes out depends on all that came before

    found = speech_conditions.never_reset(late, pairs)
    assert calls == [3_000 + 3 * RATE]
    for (noisy, clean), (reference, out) in zip(pairs, found, strict=True):
        assert reference is clean and len(out) == len(noisy)
    alone = np.cumsum(pairs[1][0])
    assert np.allclose(found[1][1] - found[1][1][0], alone - alone[0], atol=1e-3)
    same = speech_conditions.never_reset(passes, pairs)
    assert all(np.array_equal(out, noisy) for (noisy, _), (_, out) in zip(pairs, same, strict=True))


def test_late_noise_is_measured_in_its_first_second_after_each_quiet():
    pairs = [(noise(3 * RATE), np.zeros(3 * RATE, np.float32))]

    def fades(sound):
        """Knows noise half a second after its own start: a long quiet makes it deaf to it."""
        out = sound.copy()
        out[RATE // 2 :] *= 0.01 if np.any(sound[: RATE // 2]) else 1.0
        return out

    lost = []

    def after_loss(frames, sound, rate_hz):
        lost.append((frames, len(sound), rate_hz))
        return 0.1 * sound

    found = speech_conditions.late_noise(fades, after_loss, pairs)
    assert found["at once"] == pytest.approx(-3, abs=0.2)
    assert found["zeros"] == pytest.approx(0, abs=0.1)
    assert found["quiet room"] == pytest.approx(-40, abs=0.1)
    assert found["lost"] == pytest.approx(-20, abs=0.1)
    assert lost == [(RATE, 2 * RATE, RATE)]
    assert speech_conditions.late_noise(passes, None, pairs)["lost"] == 0


def test_a_quiet_room_is_60_db_below_full_scale():
    assert speech_conditions.level_db(speech_conditions.quiet_room(RATE)) == pytest.approx(
        -60, abs=0.01
    )


def test_faster_speech_is_shorter_and_higher():
    lengths, peaks = [], []

    def listens(sound):
        lengths.append(len(sound))
        peaks.append(np.argmax(np.abs(np.fft.rfft(sound))) * RATE / len(sound))
        return sound / 2 if len(sound) < 3 * RATE else sound

    found = speech_conditions.speeds(listens, [bursts(hz=400)])
    assert lengths == [round(4 * RATE / s) for s in speech_conditions.SPEEDS]
    assert np.allclose(peaks, 400 * np.array(speech_conditions.SPEEDS), atol=3)
    assert found["1"] == pytest.approx(0, abs=0.01)
    assert found["1.6"] == found["1.6 worst"] == pytest.approx(-6.02, abs=0.01)


def test_a_fan_is_measured_at_its_beginning_and_after_two_seconds():
    def slow(sound):
        return sound * np.where(np.arange(len(sound)) < 2 * RATE, 0.5, 0.05).astype(np.float32)

    assert speech_conditions.fan(slow) == {
        "first second": pytest.approx(-6.02, abs=0.01),
        "after 2 s": pytest.approx(-26.02, abs=0.01),
    }


def test_a_system_is_measured_in_every_condition():
    clean = bursts(3) + np.roll(bursts(3, 6_000), RATE // 2) / 20
    system = System(name="half", clean=lambda sound, _: (sound / 2, 0.0), latency_ms=10)
    found = speech_conditions.measure(
        system, [(clean + noise(len(clean), 0.001), clean)], {"si_sdr_db": lambda a, b: 1.0}
    )
    assert found["fresh"] == found["never_reset"] == {"si_sdr_db": 1.0}
    conditions = ("late_noise_db", "speeds_db", "sibilants_db", "fan_db")
    for figures in (found[condition] for condition in conditions):
        assert all(value == pytest.approx(-6.02, abs=0.1) for value in figures.values())


def test_linked_channels_spread_less(tmp_path):
    path = tiny.tiny_denoiser_bundle(tmp_path / "b", feedback=0.9)
    clean = bursts()
    found = speech_conditions.stereo(str(path), [(clean + noise(len(clean), 0.02), clean)])
    assert found["linked"] < found["parted"]
    assert found["linked"] == pytest.approx(found["noisy"], rel=0.3)


def test_the_command_writes_every_figure(tmp_path, capsys):
    bundle = tiny.tiny_denoiser_bundle(tmp_path / "b", gain=0.5)
    for folder, extra in (("noisy", noise(2 * RATE, 0.02)), ("clean", 0)):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "a.wav", bursts(2) + extra, RATE, subtype="FLOAT")
    speech_conditions.main(
        [
            *(str(tmp_path / folder) for folder in ("noisy", "clean")),
            *("--json", str(tmp_path / "out.json"), "--no-peers", "--model", str(bundle)),
        ]
    )
    capsys.readouterr()
    report = json.loads((tmp_path / "out.json").read_text())
    (name,) = report["systems"]
    assert name == "edgeae tiny-denoiser" and report["files"] == 1
    late = report["systems"][name]["late_noise_db"]
    assert set(late) == {"at once", "zeros", "quiet room", "lost"}
    assert late["zeros"] == pytest.approx(-6.02, abs=0.1)
    assert report["systems"][name]["kept_db"]["all"] == pytest.approx(-6.02, abs=0.1)
    assert set(report["stereo"]) == {str(bundle)}


def test_the_tables_have_a_row_for_each_system_and_model():
    from benchmarks.publish import speech_condition_rows, stereo_rows

    system = System(name="half", clean=lambda sound, _: (sound / 2, 0.0), latency_ms=10)
    pair = bursts() + noise(4 * RATE, 0.01), bursts()
    figures = speech_conditions.measure(system, [pair], {"pesq": lambda a, b: 2.345})
    result = {
        "files": 1,
        "systems": {"half": figures},
        "stereo": {"tiny": {"noisy": 1.0, "parted": 2.5, "linked": 0.55}},
    }
    (row,) = speech_condition_rows(result)
    assert row["system"] == "half" and row["recordings"] == "1"
    assert row["PESQ-WB fresh / never reset"] in ("2.35 / 2.35", "2.34 / 2.34")
    assert list(row.values())[3] == "-6.0 / -6.0 / -6.0 / -6.0"
    assert row["fan dB: first second / after 2 s"] == "-6.0 / -6.0"
    assert row["pauses dB"] == "-6.0" and row["sibilants dB"] == "-"
    (spread,) = stereo_rows(result)
    assert spread["channels linked dB"] == "0.55"
