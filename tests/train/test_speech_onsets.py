"""Noise that comes late, goes, or changes at once in training mixes, and wider voices."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from train.config import read_config
from train.speech import onsets
from train.speech.data import SpeechData, SpeechMixer
from train.speech.device import DeviceMixer
from train.speech.onsets import draw_timing

LENGTH = 32_000
MADE = {
    "speech": ("synthetic",),
    "noise": ("synthetic",),
    "cache": "",
    "segment_samples": LENGTH,
    "validation_mixes": 6,
    "clipping_chance": 0.0,
}


def timings(count=200):
    return [draw_timing(LENGTH, np.random.default_rng(seed)) for seed in range(count)]


def level_db(x):
    return 10 * np.log10(np.mean(np.square(x, dtype=np.float64)) + 1e-20)


def test_every_course_leaves_a_quarter_of_a_second_on_both_sides():
    edge = round(onsets.EDGE_S[1] * onsets.SAMPLE_RATE_HZ)
    margin = round(onsets.MARGIN_S * onsets.SAMPLE_RATE_HZ)
    for timing in timings():
        gain = timing.noise_gain
        assert gain.dtype == np.float32 and gain.shape == (LENGTH,)
        assert gain.min() >= 0 and gain.max() == pytest.approx(1, abs=1e-6)
        moving = np.flatnonzero(np.diff(gain))
        assert (
            len(moving) and moving[0] >= margin - edge - 1 and moving[-1] < LENGTH - margin + edge
        )
        assert np.isin(timing.speech_gain, (0, 1)).all()


def test_noise_begins_ends_goes_in_steps_and_comes_with_an_unmuted_microphone():
    drawn = timings()
    begins = [t for t in drawn if t.noise_gain[0] == 0 and t.noise_gain[-1] == 1 and t.room.any()]
    ends = [t for t in drawn if t.noise_gain[0] == 1 and t.noise_gain[-1] == 0]
    unmuted = [t for t in drawn if not t.room.any()]
    steps = [t for t in drawn if 0 < t.noise_gain.min()]
    assert min(map(len, (begins, ends, unmuted, steps))) > 10
    for timing in unmuted:
        np.testing.assert_array_equal(timing.noise_gain, timing.speech_gain)
    assert 0 < sum(not t.speech_gain.all() for t in begins) < len(begins)
    assert all(t.speech_gain.all() for t in (*ends, *steps))


def test_a_quiet_room_is_50_to_70_db_below_full_scale():
    levels = [level_db(t.room) for t in timings() if t.room.any()]
    assert -70.1 < min(levels) < -65 and -55 < max(levels) < -49.9


def test_a_mix_after_the_quiet_is_as_loud_as_was_asked_and_before_it_as_the_room():
    config = SpeechData(**MADE, onset_chance=1.0, noise_only_chance=1.0, level_db=(-20, -20))
    noisy, clean = SpeechMixer(config).batch(np.random.default_rng(3), 40)
    assert not clean.any() and np.isfinite(noisy).all()
    first = [level_db(x[:2_000]) for x in noisy]
    last = [level_db(x[-2_000:]) for x in noisy]
    # Rooms lie at -50 to -70 dB, a few mixes begin in digital silence, the others in noise.
    assert sum(-75 < x < -45 for x in first) >= 5 and sum(x < -150 for x in first) >= 3
    assert sum(-75 < x < -45 for x in last) >= 2
    assert max(np.abs(x).max() for x in noisy) < 2


def test_batches_made_on_a_device_have_courses_too():
    config = SpeechData(
        **MADE, onset_chance=1.0, noise_only_chance=1.0, level_db=(-20, -20), reverberation_chance=0
    )
    mixer = DeviceMixer(SpeechMixer(config), torch.device("cpu"))
    noisy, clean = (x.numpy() for x in mixer.batch(np.random.default_rng(3), 40))
    assert not clean.any() and np.isfinite(noisy).all()
    first = [level_db(x[:2_000]) for x in noisy]
    assert sum(-75 < x < -45 for x in first) >= 5 and sum(x < -150 for x in first) >= 3
    plain = DeviceMixer(SpeechMixer(SpeechData(**MADE, noise_only_chance=1.0)), torch.device("cpu"))
    steady, _ = plain.batch(np.random.default_rng(3), 40)
    assert all(level_db(x[:2_000].numpy()) > -100 for x in steady)


def test_the_target_of_a_muted_microphone_is_silence_until_it_is_opened():
    config = SpeechData(**MADE, onset_chance=1.0, noise_only_chance=0.0, speech_only_chance=0.0)
    noisy, clean = SpeechMixer(config).batch(np.random.default_rng(4), 40)
    muted = [(x, y) for x, y in zip(noisy, clean, strict=True) if not x[:3_000].any()]
    assert len(muted) >= 3
    assert all(not y[:3_000].any() and y.any() for _, y in muted)


def test_without_a_chance_of_onsets_mixes_are_drawn_as_before():
    plain, again = (
        SpeechMixer(SpeechData(**MADE)).batch(np.random.default_rng(5), 4) for _ in "ab"
    )
    np.testing.assert_array_equal(plain[0], again[0])
    other = SpeechMixer(SpeechData(**MADE, onset_chance=1.0)).batch(np.random.default_rng(5), 4)
    assert not np.array_equal(plain[0], other[0])


@pytest.mark.parametrize("speeds", [(1.6, 0.7), (0.0, 1.0), (1.0,)])
def test_speeds_out_of_order_are_refused(speeds):
    with pytest.raises(ValueError, match="speech_speeds is .*, expected lowest and highest"):
        SpeechData(**MADE, speech_speeds=speeds)


def test_speech_is_played_within_the_speeds_of_the_config(monkeypatch):
    drawn = []

    def at_speed(audio, speed, length):
        drawn.append(speed)
        return audio[:length] if len(audio) >= length else np.pad(audio, (0, length - len(audio)))

    monkeypatch.setattr("train.speech.data.at_speed", at_speed)
    config = SpeechData(
        **MADE, speech_speed_chance=1.0, noise_speed_chance=0.0, speech_speeds=(0.7, 1.6)
    )
    SpeechMixer(config).batch(np.random.default_rng(6), 40)
    assert 0.7 <= min(drawn) < 0.85 and 1.4 < max(drawn) <= 1.6


def test_batches_hold_other_formants_and_scenes_in_memory_and_on_a_device():
    plain = SpeechData(**MADE)
    changed = SpeechData(**MADE, formant_chance=1.0, scene_chance=1.0)
    for make in (lambda c: SpeechMixer(c).batch, device_batch):
        batches = [make(c)(np.random.default_rng(2), 4) for c in (plain, changed)]
        for before, after in zip(*batches, strict=True):
            assert np.isfinite(np.asarray(after)).all() and np.asarray(after).shape == (4, LENGTH)
            assert not np.array_equal(np.asarray(before), np.asarray(after))


@pytest.mark.parametrize("shifts", [(1.3,), (1.3, 0.8), (0.0, 1.0)])
def test_formants_out_of_order_are_refused(shifts):
    with pytest.raises(ValueError, match="formant_shifts is"):
        SpeechData(**MADE, formant_shifts=shifts)


def device_batch(config):
    return DeviceMixer(SpeechMixer(config), torch.device("cpu")).batch


def test_the_shipped_configuration_trains_on_late_noise_and_wide_voices():
    from pathlib import Path

    config = read_config(Path(__file__).parents[2] / "train" / "configs" / "speech-denoiser.toml")
    assert config.data.onset_chance > 0 and tuple(config.data.speech_speeds) == (0.7, 1.75)
    assert config.data.scene_chance > 0 and config.data.formant_chance > 0
