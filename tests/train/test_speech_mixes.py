"""What the speech denoiser is trained on: mixes of speech and noise, and where they are from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from speech_data import MADE

from train.speech.data import (
    SpeechMixer,
    _rumble,
    _subsonic,
    at_speed,
    noise_gain,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 13.5])
def test_a_mix_has_the_snr_that_was_asked(snr_db):
    rng = np.random.default_rng(0)
    speech, noise = rng.standard_normal((2, 8000), np.float32)
    noise *= noise_gain(speech, noise, snr_db=snr_db)
    measured = 10 * np.log10(np.sum(speech**2) / np.sum(noise**2))
    assert abs(measured - snr_db) < 0.01


def test_noise_on_silence_stays_finite():
    silence, noise = np.zeros(800, np.float32), np.ones(800, np.float32)
    assert noise_gain(silence, noise, snr_db=0.0) == 0
    assert noise_gain(noise, silence, snr_db=0.0) == 0


def test_batches_are_finite_within_snr_and_drawn_from_the_seed_alone():
    # Without rooms, clipping and lone sources, the clean target and the rest have the SNR asked.
    data = dataclasses.replace(
        MADE,
        snr_db=(5, 5),
        reverberation_chance=0.0,
        clipping_chance=0.0,
        noise_only_chance=0.0,
        speech_only_chance=0.0,
    )
    mixer = SpeechMixer(data)
    noisy, clean = mixer.batch(np.random.default_rng(3), 6)
    again, _ = mixer.batch(np.random.default_rng(3), 6)
    assert noisy.shape == clean.shape == (6, 16_000)
    assert noisy.dtype == clean.dtype == np.float32
    assert np.array_equal(noisy, again)
    snr_db = 10 * np.log10(np.sum(clean**2, axis=1) / np.sum((noisy - clean) ** 2, axis=1))
    assert np.abs(snr_db - 5).max() < 0.1


def test_every_kind_of_damage_stays_finite():
    data = dataclasses.replace(
        MADE,
        reverberation_chance=1.0,
        clipping_chance=1.0,
        narrow_band_chance=1.0,
        babble_chance=1.0,
        noise_only_chance=0.5,
    )
    noisy, clean = SpeechMixer(data).batch(np.random.default_rng(0), 8)
    assert np.isfinite(noisy).all()
    assert np.isfinite(clean).all()
    assert 0 < int((np.abs(clean).max(axis=1) == 0).sum()) < 8


def test_held_out_speakers_and_noises_are_not_trained_on():
    mixer = SpeechMixer(MADE)
    assert not set(mixer.speech.members) & set(mixer.held_speech.members)
    assert not set(mixer.noise.members) & set(mixer.held_noise.members)
    first, second = mixer.validation(), mixer.validation()
    assert np.array_equal(first[0], second[0])
    assert first[0].shape == (6, 64_000)


def test_recordings_of_any_rate_and_channel_count_are_read_and_cached(tmp_path):
    import soundfile

    rng = np.random.default_rng(0)
    for kind in ("speech", "noise"):
        for name in ("a", "b", "c"):
            folder = tmp_path / kind / name
            folder.mkdir(parents=True)
            sound = 0.1 * rng.standard_normal((24_000, 2))
            soundfile.write(folder / "one.wav", sound, 48_000)
    data = dataclasses.replace(
        MADE,
        speech=(str(tmp_path / "speech"),),
        noise=(str(tmp_path / "noise"),),
        cache=str(tmp_path / "cache"),
    )
    fresh = SpeechMixer(data).batch(np.random.default_rng(1), 2)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    cached = SpeechMixer(data).batch(np.random.default_rng(1), 2)
    assert np.array_equal(fresh[0], cached[0])


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no recordings"):
        SpeechMixer(dataclasses.replace(MADE, speech=(str(tmp_path),)))


def test_noise_at_another_speed_has_another_pitch_and_its_length():
    tone = np.sin(2 * np.pi * 500 * np.arange(16_001) / 16_000).astype(np.float32)
    for speed in (0.5, 1.4):
        played = at_speed(tone[: int(8_000 * speed) + 1], speed, 8_000)
        assert played.shape == (8_000,)
        peak_hz = np.argmax(np.abs(np.fft.rfft(played))) * 2
        assert peak_hz == pytest.approx(500 * speed, rel=0.02)


def test_a_rumble_falls_with_every_octave():
    frequency_hz = np.linspace(0, 8000, 801, dtype=np.float32)
    for seed in range(20):
        gain_db = 20 * np.log10(_rumble(frequency_hz, np.random.default_rng(seed)))
        assert gain_db[0] == 0 and np.all(np.diff(gain_db) <= 1e-5)
        octave_db = gain_db[400] - gain_db[800]
        assert 2.99 < octave_db < 15.01


def test_a_subsonic_noise_lies_below_voices_and_is_as_strong_as_drawn():
    frequency_hz = np.linspace(0, 8000, 8001, dtype=np.float32)
    noise = np.ones(8001, np.complex64)
    shares = []
    for seed in range(40):
        energy = np.abs(_subsonic(frequency_hz, noise, np.random.default_rng(seed))) ** 2
        shares.append(10 * np.log10(energy.sum() / 8001))
        # 12 dB an octave from 90 Hz at the most.
        assert energy[360:].sum() < 0.05 * energy.sum()
    assert -10.01 <= min(shares) < -6 and 16 < max(shares) <= 20.01
