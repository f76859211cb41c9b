"""Recurrences in chunks are those frame by frame; what a step asks of a device, it asks at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from train.speech.data import SpeechData, SpeechMixer
from train.speech.device import DeviceMixer
from train.speech.loss import SpeechLoss, intelligibility, spectrum_of, speech_loss
from train.speech.network import SpeechDenoiser, SpeechNetwork
from train.speech.onsets import change_scenes, draw_courses
from train.speech.recurrence import recur, running_mean

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("time", "chunks"), [(12, 3), (17, 4), (7, 7), (5, 2), (1, 1)])
def test_chunks_side_by_side_are_one_after_the_other(time, chunks, backwards):
    values = torch.randn(2, time, 3, 5, dtype=torch.double)
    gates, start = torch.rand_like(values), torch.randn(2, 3, 5, dtype=torch.double)
    expected, last = values.clone(), start
    for t in reversed(range(time)) if backwards else range(time):
        expected[:, t] += 0.9 * gates[:, t] * last
        last = expected[:, t]
    for count in (1, chunks):
        found = values.clone()
        recur(found, gates, start, 0.9, backwards=backwards, chunks=count)
        assert torch.allclose(found, expected, rtol=1e-12)


def test_a_running_mean_over_blocks_is_that_frame_by_frame():
    x = torch.rand(600, 3)
    found = running_mean(x, 0.97)
    total, weight = torch.zeros(3), 0.0
    for t, frame in enumerate(x):
        total, weight = 0.97 * total + frame, 0.97 * weight + 1
        assert torch.allclose(found[t], total / weight, rtol=1e-5)


@pytest.mark.parametrize("kept_s", [0.0, 0.3, 2.0])
def test_intelligibility_of_a_row_is_that_of_the_row_alone(kept_s):
    """Rows hold different numbers of frames with speech, one of them none or too few."""
    reference = torch.randn(3, 40_000) * torch.tensor([1.0, 0.5, 1.0])[:, None]
    reference[1, ::2_000] = 0
    reference[2, int(16_000 * kept_s) :] = 0
    estimate = reference + 0.5 * torch.randn(3, 40_000)
    together = intelligibility(estimate, reference)
    alone = [intelligibility(*(x[i : i + 1] for x in (estimate, reference))) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    assert (float(together[2]) == 1.0) == (kept_s < 0.4)


def test_quality_hears_as_many_items_as_it_is_told_and_counts_those_with_speech():
    def model(audio, *, floor):
        heard.append(audio)
        return torch.arange(len(audio))[:, None].expand(-1, 3).float() + 0 * audio.sum()

    heard: list[torch.Tensor] = []
    clean = 0.1 * torch.randn(4, 16_000)
    clean[0] = 0
    noisy = clean + 0.01 * torch.randn(4, 16_000)
    estimate = spectrum_of(noisy, window_samples=512, hop_samples=256)
    config = SpeechLoss(
        0.0, multi_resolution=0.0, distortion=0.0, intelligibility=0.0, quality=1.0,
        quality_samples=4_000, quality_items=4,
    )  # fmt: skip
    total, _ = speech_loss(config, estimate, noisy, clean, model)
    assert heard[0].shape == (4, 4_000)
    # Items 1 to 3 come first, and score 0 to 2.
    assert float(total) == pytest.approx(5 - 1)
    with pytest.raises(ValueError, match="quality_items is 0, expected at least 1"):
        SpeechLoss(quality_items=0)


def test_courses_for_a_device_are_of_the_kinds_that_single_ones_are():
    courses = draw_courses(4_000, 32_000, np.random.default_rng(0))
    first, last = courses.levels[:, 0], courses.levels[:, -1]
    digital = courses.room_level == 0
    assert np.mean(digital) == pytest.approx(0.25, abs=0.03)
    assert np.mean((first == 0) & ~digital) == pytest.approx(0.4, abs=0.03)
    assert np.mean(last == 0) == pytest.approx(0.15, abs=0.03)
    assert np.all(courses.levels.max(1) == 1) and courses.levels.min() >= 0
    assert np.all(courses.muted[digital] == 1) and 0 < np.mean(courses.muted[~digital]) < 0.3
    assert np.all(np.diff(courses.moments) >= 0)
    assert 4_000 <= courses.moments.min() and courses.moments.max() < 28_000
    room_db = 20 * np.log10(courses.room_level[~digital])
    assert -70 <= room_db.min() and room_db.max() <= -50


def test_scenes_on_a_device_are_those_in_memory():
    data = SpeechData(
        speech=("synthetic",), noise=("synthetic",), cache="", segment_samples=16_000,
        scene_chance=0.5, validation_mixes=1,
    )  # fmt: skip
    mixer = DeviceMixer(SpeechMixer(data), torch.device("cpu"))
    noisy, clean = torch.randn(6, 16_000), torch.randn(6, 16_000)
    found = mixer._other_scenes(np.random.default_rng(3), noisy, clean)
    expected = noisy.clone(), clean.clone()
    change_scenes(*expected, 0.5, np.random.default_rng(3))
    assert not torch.equal(expected[0], noisy)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use")
def test_a_step_on_a_gpu_waits_for_nothing():
    device = torch.device("cuda", torch.cuda.current_device())
    data = SpeechData(
        speech=("synthetic",), noise=("synthetic",), cache="", segment_samples=16_000,
        onset_chance=0.5, scene_chance=0.5, formant_chance=0.5, validation_mixes=1,
    )  # fmt: skip
    mixer = DeviceMixer(SpeechMixer(data), device)
    network = SpeechDenoiser(SpeechNetwork(wide=(0, 8), filter_bands=8)).to(device)
    loss = dataclasses.replace(SpeechLoss(), levels=0.5, kept=0.5, pauses=0.5, loudness=0.5)

    def step(seed):
        noisy, clean = mixer.batch(np.random.default_rng(seed), 8)
        estimate = network(spectrum_of(noisy, window_samples=512, hop_samples=256))
        speech_loss(loss, estimate, noisy, clean)[0].backward()

    step(0)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
