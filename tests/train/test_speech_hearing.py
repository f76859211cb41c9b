"""What is asked of speech beside spectra, loudness, what is kept and left, and other voices."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from train.speech.formants import shifted_formants
from train.speech.loss import SpeechLoss, spectrum_of, speech_loss
from train.speech.loudness import loudness_shortfall
from train.speech.made import made_voice
from train.speech.onsets import change_scenes

RATE_HZ = 16_000
NOTHING = {"compressed": 0.0, "multi_resolution": 0.0, "distortion": 0.0, "intelligibility": 0.0}

pytestmark = pytest.mark.usefixtures("one_thread")


def spectrum(audio):
    return spectrum_of(audio, window_samples=512, hop_samples=256)


@pytest.fixture(scope="module")
def voice():
    found = made_voice(1, np.random.default_rng(4))
    return torch.from_numpy(found / np.sqrt(np.mean(np.square(found))))[None]


def noise(like, level_db):
    made = torch.randn(like.shape, generator=torch.Generator().manual_seed(2))
    return made * 10 ** (level_db / 20)


def test_loudness_loses_nothing_on_equal_audio_and_more_with_every_step_of_noise(voice):
    assert float(loudness_shortfall(voice, voice)) < 1e-3
    lost = [float(loudness_shortfall(voice + noise(voice, db), voice)) for db in (-40, -20, 0)]
    assert 0 < lost[0] < lost[1] < lost[2] < 10


def test_loudness_forgives_level_and_tilt_but_not_speech_that_is_missing(voice):
    worse = voice + noise(voice, -20)
    lost = float(loudness_shortfall(worse, voice))
    assert float(loudness_shortfall(worse / 30, voice)) == pytest.approx(lost, rel=1e-2)
    assert float(loudness_shortfall(0.3 * voice, voice)) < 1e-3
    tilted = voice - 0.4 * torch.roll(voice, 1, dims=1)
    assert float(loudness_shortfall(tilted, voice)) < 0.01
    minded = [float(loudness_shortfall(tilted, voice, forgiven_db=db)) for db in (0, 1, 2, 20)]
    assert minded[0] > 0.1
    assert minded[0] > minded[1] > minded[2] > minded[3]
    gap = voice.clone()
    gap[:, : gap.shape[1] // 4] *= 0.01
    assert float(loudness_shortfall(gap, voice)) > 0.2
    assert float(loudness_shortfall(0 * voice, voice)) > 1


def test_loudness_orders_denoised_speech_as_pesq_does(voice):
    pesq = pytest.importorskip("pesq")
    estimates = [voice + noise(voice, db) for db in (-30, -15, 0)]
    estimates += [0.5 * x + 0.5 * voice for x in estimates[1:]]
    loss = [float(loudness_shortfall(x, voice)) for x in estimates]
    scores = [pesq.pesq(RATE_HZ, voice[0].numpy(), x[0].numpy(), "wb") for x in estimates]
    assert list(np.argsort(loss)) == list(np.argsort(-np.array(scores)))


def test_loudness_has_finite_gradients_with_silence_on_either_side(voice):
    estimate = torch.cat((voice, torch.zeros_like(voice))).requires_grad_()
    reference = torch.cat((voice, voice))
    loudness_shortfall(estimate, reference).sum().backward()
    assert torch.isfinite(estimate.grad).all()
    estimate = noise(voice, -20).requires_grad_()
    lost = loudness_shortfall(estimate, torch.zeros_like(voice))
    lost.sum().backward()
    assert lost.item() == 0 and torch.isfinite(estimate.grad).all()


def test_speech_that_is_taken_from_a_clean_mix_costs_and_speech_under_noise_does_not(voice):
    config = SpeechLoss(**NOTHING, kept=1.0)
    half = spectrum(0.5 * voice)
    assert float(speech_loss(config, spectrum(voice), voice, voice)[0]) == 0
    # 6 dB of power.
    assert float(speech_loss(config, half, voice, voice)[0]) == pytest.approx(0.6, abs=0.05)
    assert float(speech_loss(config, half, voice + noise(voice, 40), voice)[0]) < 0.05
    assert float(speech_loss(config, spectrum(2 * voice), voice, voice)[0]) == 0


def test_what_is_left_in_pauses_costs_by_the_decibel_down_to_45_db():
    config = SpeechLoss(**NOTHING, pauses=1.0)
    clean = torch.zeros(1, 32_000)
    clean[:, :16_000] = noise(clean[:, :16_000], 0)
    noisy = clean + noise(clean, -10)

    def left(gain):
        estimate = clean + gain * (noisy - clean)
        return float(speech_loss(config, spectrum(estimate), noisy, clean)[0])

    assert left(1.0) == pytest.approx(4.5, abs=0.02)
    assert left(0.1) == pytest.approx(2.5, abs=0.05)
    assert left(0.001) == 0
    # Without pauses there is nothing to ask.
    full = noise(clean, 0)
    assert float(speech_loss(config, spectrum(full + noisy), full + noisy, full)[0]) == 0


def test_quality_is_asked_in_a_share_of_the_steps(voice):
    asked = []

    def model(audio, *, floor):
        asked.append(audio)
        return audio.square().mean().expand(1, 3)

    config = SpeechLoss(**NOTHING, quality=0.5, quality_samples=8_000, quality_chance=0.25)
    torch.manual_seed(0)
    totals = [
        float(speech_loss(config, spectrum(voice), voice, voice, model)[0]) for _ in range(80)
    ]
    assert 10 < len(asked) < 30
    assert sum(total > 0 for total in totals) == len(asked)
    # As much in all as with every step.
    assert max(totals) == pytest.approx(2 * 5, rel=0.05)
    with pytest.raises(ValueError, match="quality_chance"):
        SpeechLoss(quality_chance=0.0)


def formant_hz(audio):
    """The center of gravity of the spectrum below 4 kHz."""
    power = np.abs(np.fft.rfft(audio))[: len(audio) // 4] ** 2
    return float(power @ np.arange(len(power)) / power.sum()) * RATE_HZ / len(audio)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_formants_move_and_pitch_stays(factor):
    time_s = np.arange(RATE_HZ) / RATE_HZ
    harmonics = np.arange(1, 40)
    weights = np.exp(-(((harmonics * 125 - 1250) / 300) ** 2)) + 1e-3
    vowel = (weights[:, None] * np.cos(2 * np.pi * 125 * harmonics[:, None] * time_s)).sum(0)
    vowel = (0.1 * vowel / np.abs(vowel).max()).astype(np.float32)
    moved = shifted_formants(torch.from_numpy(vowel)[None], torch.tensor([factor]))[0].numpy()
    assert moved.shape == vowel.shape
    assert formant_hz(moved) / formant_hz(vowel) == pytest.approx(factor, rel=0.08)
    # Harmonics of 125 Hz still hold nearly everything.
    power = np.abs(np.fft.rfft(moved)) ** 2
    on_pitch = np.zeros(len(power), bool)
    for harmonic in range(125, 8000, 125):
        on_pitch[harmonic - 8 : harmonic + 9] = True
    assert power[on_pitch].sum() > 0.95 * power.sum()


def test_formants_that_stay_leave_the_voice_as_it_is(voice):
    same = shifted_formants(voice, torch.ones(1))
    assert (same - voice).abs().max() < 1e-4 * voice.abs().max()


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy])
def test_a_changed_scene_is_another_mix_from_its_beginning(make):
    noisy = np.random.default_rng(1).standard_normal((6, 16_000)).astype(np.float32)
    clean = 0.5 * noisy
    changed = [make(x.copy()) for x in (noisy, clean)]
    change_scenes(*changed, 0.5, np.random.default_rng(3))
    found = [np.asarray(x) for x in changed]
    rows = [row for row in range(6) if not np.array_equal(found[0][row], noisy[row])]
    assert 0 < len(rows) < 6
    gaps = 0
    for row in rows:
        begin = int(np.flatnonzero(found[0][row] == noisy[(row + 1) % 6, 0])[-1])
        assert 4_000 <= begin <= 12_000
        for got, before in zip(found, (noisy, clean), strict=True):
            np.testing.assert_array_equal(got[row, begin:], before[(row + 1) % 6, : 16_000 - begin])
        gap = int((found[0][row, :begin] == 0).sum())
        np.testing.assert_array_equal(found[1][row, : begin - gap], clean[row, : begin - gap])
        gaps += gap > 0
    assert gaps < len(rows)
