"""The denoiser of sensor signals in training: steps are the whole, mixes are what they say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import edgeae
from export.__main__ import export
from train.config import config_from_dict
from train.loop import train
from train.signal.denoiser_data import SignalDenoiserData, SignalMixer
from train.signal.denoiser_network import SignalDenoiser, SignalDenoiserNetwork
from train.signal.files import kind_of, read_folders

SMALL = SignalDenoiserNetwork(rate_hz=100, channels=8, dilations=(1, 4, 2), ahead_up_to=2)


def random_network(config=SMALL):
    torch.manual_seed(0)
    network = SignalDenoiser(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


@torch.no_grad()
def test_steps_with_state_give_what_the_whole_gives():
    network = random_network()
    hop = SMALL.hop_samples
    x = torch.randn(1, 12 * hop)
    states = [torch.zeros(shape) for shape in network.state_shapes().values()]
    parts = []
    for block in x.split(hop, dim=1):
        clean, *states = network.step(block, *states)
        parts.append(clean)
    torch.testing.assert_close(torch.cat(parts, 1), network(x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_clean_sample_waits_for_no_more_than_the_look_ahead_says():
    network = random_network()
    x = torch.randn(1, 20 * SMALL.hop_samples)
    changed = x.clone()
    place = 160
    changed[0, place] += 1
    moved = (network(changed) - network(x)).abs()[0] > 1e-7
    # The output of a frame is ready with the frame; it is of samples `lookahead_samples` before.
    first = int(moved.nonzero()[0])
    assert first == place // SMALL.patch_samples * SMALL.patch_samples
    # blocks of dilation 1 and 2, and the first and the last layer, look ahead
    assert SMALL.lookahead_samples == SMALL.patch_samples * (1 + 2 + 2)


@torch.no_grad()
def test_an_untrained_network_gives_its_input_back_late():
    network = SignalDenoiser(SMALL).eval()
    x = torch.randn(2, 8 * SMALL.hop_samples)
    late = SMALL.lookahead_samples
    torch.testing.assert_close(network(x)[:, late:], x[:, : x.shape[1] - late])


def folders(tmp_path, seconds=40):
    rng = np.random.default_rng(0)
    t = np.arange(seconds * 100) / 100
    for place, names in (("clean", ("a", "b")), ("noise", ("hum_1", "hum_2", "hiss"))):
        (tmp_path / place).mkdir()
        for name in names:
            series = np.sin(2 * np.pi * (1 if place == "clean" else 9) * t + rng.uniform(0, 6))
            series = series + 0.1 * rng.standard_normal(len(t))
            np.save(tmp_path / place / f"{name}.npy", series.astype(np.float32))
    return str(tmp_path / "clean"), str(tmp_path / "noise")


def data(tmp_path, **changes):
    clean, noise = folders(tmp_path)
    known = {"clean": (clean,), "noise": (noise,), "segment_samples": 512, "validation_mixes": 2}
    return SignalDenoiserData(**{**known, "high_pass_hz": 0.0, **changes})


def test_mixes_have_the_ratio_that_was_asked_for(tmp_path):
    config = data(tmp_path, snr_db=(6, 6), second_noise_chance=0.0, speed=0.0)
    mixer = SignalMixer(config, 100)
    assert mixer.kinds == ["hiss", "hum"]
    noisy, clean = mixer.batch(np.random.default_rng(0), 40)
    assert noisy.shape == clean.shape == (40, 512)
    np.testing.assert_array_equal(noisy[:, 0], 0)
    noise = noisy - clean
    noise -= noise.mean(1, keepdims=True)
    ratio_db = 10 * np.log10(np.square(clean).mean() / np.square(noise).mean())
    assert abs(ratio_db - 6) < 1


def test_batches_depend_on_the_generator_alone(tmp_path):
    mixer = SignalMixer(data(tmp_path), 100)
    first, again = (mixer.batch(np.random.default_rng(3), 2) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])


def test_kinds_of_noise_are_names_up_to_a_number():
    assert [kind_of(name) for name in ("em_1.flac", "em_2.flac", "ma.flac", "12.npy")] == [
        "em", "em", "ma", "12.npy",
    ]  # fmt: skip


def test_a_kind_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"weights has \['buzz'\]"):
        SignalMixer(data(tmp_path, weights=("buzz=2",)), 100)


def test_folders_without_series_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no series found"):
        read_folders((str(tmp_path / "empty"),))
    with pytest.raises(ValueError, match="is not there"):
        read_folders((str(tmp_path / "gone"),))


def test_a_short_training_becomes_a_bundle_that_denoises_in_blocks(tmp_path):
    config = config_from_dict(
        {
            "name": "small",
            "task": "signal-denoiser",
            "network": {**dataclasses.asdict(SMALL), "dilations": [1, 2]},
            "data": dataclasses.asdict(data(tmp_path)),
            "loss": {"settle_samples": 64},
            "optimize": {
                "steps": 3,
                "batch_size": 2,
                "learning_rate": 1e-3,
                "precision": "float32",
            },
        }
    )
    state = train(config, tmp_path / "run")
    assert state["step"] == 3
    figures = export(tmp_path / "run" / "last.pt", tmp_path / "small", calibration=("synthetic",))
    assert figures["delay_ms"] == 10 * (8 * (1 + 2 + 2) + 16)
    denoiser = edgeae.load(tmp_path / "small")
    x = np.sin(np.arange(700) / 9).astype(np.float32)
    assert denoiser.denoise(x).shape == x.shape
