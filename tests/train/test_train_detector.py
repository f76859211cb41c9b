"""A detector from a newcomer's folder: two commands, and a made fault is flagged."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import edgeae
from edgeae.media.series import read_series
from edgeae.media.series_readers import _TIME_NAMES
from export.__main__ import main as export_main
from export.detector import threshold_of
from train.__main__ import main as train_main
from train.detector.data import DetectorData, HeldBack, NormalSeries, read_normal
from train.detector.network import Detector, DetectorNetwork
from train.signal.files import read_folders

CONFIG = """
name = "watch"
task = "detector"
[network]
network = "{network}"
front = "{front}"
latent = 4
hidden = [8, 16]
[data]
folders = []
leave_out = ["time"]
window_samples = 32
hop_samples = 4
false_alarm_rate = 0.01
[loss]
noise = 0.05
[optimize]
steps = 30
batch_size = 16
learning_rate = 1e-3
warmup_steps = 5
ema_decay = 0.9
precision = "float32"
"""


def machine(samples, seed):
    """Two channels that swing together and a third that rests, float32 (samples, 3)."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / 100
    swing = np.sin(2 * np.pi * 3 * t + seed)
    rest = 20 + np.zeros(samples)
    x = np.stack([swing, 0.5 * swing, rest], axis=1) + 0.05 * rng.standard_normal((samples, 3))
    return x.astype(np.float32)


def write_csv(file, x):
    t = np.arange(len(x)) / 100
    header = "time,left,right,temperature"
    np.savetxt(file, np.c_[t, x], delimiter=",", header=header, comments="", fmt="%.5g")


@pytest.mark.parametrize(
    ("network", "front"),
    [("conv1d", "none"), ("dense", "spectrum"), ("dense", "center"), ("dense", "statistics")],
)
def test_from_a_csv_folder_to_a_detector_that_flags_a_made_fault(tmp_path, network, front):
    days = tmp_path / "days"
    days.mkdir()
    for day in range(3):
        write_csv(days / f"day{day}.csv", machine(800, day))
    config = tmp_path / "watch.toml"
    config.write_text(CONFIG.format(network=network, front=front))
    run, bundle = tmp_path / "run", tmp_path / "watch"
    assert train_main([str(config), "--data", str(days), "--out", str(run)]) == 0
    assert export_main([str(run), str(bundle)]) == 0
    detector = edgeae.load(bundle)
    section = json.loads((bundle / "manifest.json").read_text())["detection"]
    assert section["false_alarm_rate"] == 0.01
    assert section["calibrated_on"]["series"] == 3
    today = machine(600, 7)
    usual = detector.score(today).windows
    assert (usual > detector.threshold).mean() <= 0.1
    # Two channels that swing together come apart: neither leaves its range.
    today[300:400, 1] *= -1
    if front == "none":
        assert any(alarm.start < 400 and alarm.end > 300 for alarm in detector.flag(today))
    # A bearing: a small swing at another frequency.
    today[300:400, 0] += 0.5 * np.sin(np.arange(100) * 1.9).astype(np.float32)
    assert any(alarm.start < 400 and alarm.end > 300 for alarm in detector.flag(today))


def test_series_of_which_no_window_is_left_are_told(tmp_path):
    write_csv(tmp_path / "short.csv", machine(40, 0))
    with pytest.raises(ValueError, match="the longest series has 40 samples"):
        read_normal(DetectorData(folders=(str(tmp_path),), window_samples=32, leave_out=("time",)))


@pytest.mark.parametrize("title", ["time", "Timestamp [s]", "elapsed_ms"])
def test_a_column_of_time_is_no_channel_as_in_what_is_scored(tmp_path, title):
    lines = [f"{title},flow [l/s],heat"] + [f"{i / 10},{i % 7},{i % 5}" for i in range(200)]
    file = tmp_path / "day.csv"
    file.write_text("\n".join(lines) + "\n")
    normal = read_normal(DetectorData(folders=(str(tmp_path),), window_samples=32))
    assert normal.names == ("flow [l/s]", "heat")
    assert read_series(file).samples.shape == (200, 2)
    kept = DetectorData(folders=(str(tmp_path),), columns=(title, "heat"), window_samples=32)
    assert read_normal(kept).names == (title, "heat")


def test_missing_values_are_told_with_their_file(tmp_path):
    x = machine(200, 0)
    x[7, 1] = np.nan
    np.save(tmp_path / "gap.npy", x)
    with pytest.raises(ValueError, match=r"gap\.npy: values are missing"):
        read_normal(DetectorData(folders=(str(tmp_path),), window_samples=32))


def test_the_end_of_each_series_is_held_back(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(1000, dtype=np.float32))
    normal = read_normal(DetectorData(folders=(str(tmp_path),), window_samples=32, held_out=0.2))
    assert normal.training.max() < 800 <= normal.held[0].series.min()


@torch.no_grad()
def test_an_untrained_detector_is_principal_components():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6, 2)).astype(np.float32) @ np.array([[1, 0.9], [0, 0.3]], np.float32)
    network = Detector(DetectorNetwork(network="dense", latent=5, whiten="none"), (6, 2)).eval()
    network.start(torch.from_numpy(x))
    flat = x.reshape(300, 12)
    normal = (flat - flat.mean(0)) / flat.std(0)
    _, _, components = np.linalg.svd(normal, full_matrices=False)
    rest = normal - normal @ components[:5].T @ components[:5]
    errors = network(torch.from_numpy(x)).numpy().reshape(300, 12)
    np.testing.assert_allclose(errors, rest**2, atol=1e-3)


@torch.no_grad()
def test_a_spectrum_shows_a_tone_at_its_frequency_and_not_its_phase():
    network = Detector(DetectorNetwork(front="spectrum", network="dense"), (64, 1))
    t = np.arange(64)
    tones = [np.sin(2 * np.pi * 5 * t / 64 + phase) for phase in (0.0, 1.0)]
    x = torch.from_numpy(np.stack(tones)[..., None].astype(np.float32))
    spectra = network.features(x)[..., 0]
    assert int(spectra[0].argmax()) == 4  # the first row is of one period a window
    torch.testing.assert_close(spectra[0, 3:6], spectra[1, 3:6], atol=1e-3, rtol=0)


@torch.no_grad()
def test_statistics_are_level_spread_and_restlessness_and_none_of_a_channel_that_stands():
    network = Detector(DetectorNetwork(front="statistics", network="dense", latent=2), (50, 2))
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(40, 50, 2))
    slow = 3 * np.cumsum(noise, axis=1) / np.sqrt(50)
    x = torch.from_numpy(np.stack([5 + noise[..., 0], slow[..., 1]], 2).astype(np.float32))
    network.start(x)
    mean, spread, steps = network.features(x).mean(0)
    np.testing.assert_allclose(mean[0], 5, atol=0.1)
    np.testing.assert_allclose(spread[0].exp(), 1, rtol=0.1)
    np.testing.assert_allclose(steps[0].exp(), np.sqrt(2), rtol=0.1)
    assert spread[1] > steps[1] + 0.5  # what moves slowly differs little from sample to sample
    still = network.features(torch.full((1, 50, 2), 5.0))[0]
    np.testing.assert_allclose(still[1:, 0].exp(), 0.05 * x[..., 0].std(), rtol=0.02)
    with pytest.raises(ValueError, match="windows of 2 samples have no statistics"):
        Detector(DetectorNetwork(front="statistics", network="dense"), (2, 2))


@torch.no_grad()
def test_what_moves_between_training_and_the_part_held_back_counts_less():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(400, 1, 8)).astype(np.float32))
    held = torch.from_numpy(rng.normal(size=(100, 1, 8)).astype(np.float32))
    held[:, :, 0] += 6  # a channel that drifts
    errors = {}
    for usual in ("training", "both"):
        config = DetectorNetwork(
            network="dense", latent=3, whiten="entry", usual=usual, latent_distance=1.0
        )
        network = Detector(config, (1, 8)).eval()
        network.start(x)
        network.fit_usual(x, held)
        moved = torch.zeros(2, 1, 8)
        moved[0, 0, 0] = moved[1, 0, 5] = 6.0
        errors[usual] = network(moved).mean((1, 2)).numpy()
    drifted, other = errors["both"] / errors["training"]
    assert drifted < 0.3
    assert other > 0.7


def test_a_threshold_is_the_quantile_and_beyond_what_was_seen_an_exponential_tail():
    scores = np.random.default_rng(0).exponential(1.0, 100_000)
    assert abs(threshold_of(scores, 0.001) - np.log(1000)) < 0.3
    assert abs(threshold_of(scores[:300], 0.001) - np.log(1000)) < 2.0
    assert threshold_of(np.zeros(50), 0.001) == 0.0


@torch.no_grad()
def test_what_comes_back_well_but_is_far_from_normal_counts_with_the_latents_distance():
    rng = np.random.default_rng(0)
    swing = rng.normal(size=(400, 1, 1)) * np.ones((1, 6, 2))
    x = torch.from_numpy((swing + 0.1 * rng.normal(size=(400, 6, 2))).astype(np.float32))
    scores = {}
    for weight in (0.0, 1.0):
        config = DetectorNetwork(network="dense", latent=1, latent_distance=weight)
        network = Detector(config, (6, 2)).eval()
        network.start(x)
        network.fit_usual(x)
        strange = torch.full((1, 6, 2), 8.0)
        scores[weight] = network(torch.cat([x, strange])).mean((1, 2)).numpy()
    # The component itself gives it back: its error is as that of any other.
    assert scores[0.0][-1] < np.quantile(scores[0.0][:-1], 0.99)
    assert scores[1.0][-1] > 3 * scores[1.0][:-1].max()
    # Both halves have a mean of one in normal data.
    np.testing.assert_allclose(scores[0.0][:-1].mean(), 1, rtol=0.05)
    np.testing.assert_allclose(scores[1.0][:-1].mean(), 2, rtol=0.05)


def test_windows_of_beats_that_are_validated_are_those_of_held_back_hearts():
    series = np.arange(300, dtype=np.float32)[:, None]
    held = HeldBack(series, np.array([50, 120, 200]), np.array([True, False, True]))
    normal = NormalSeries(np.zeros((4, 32, 1), np.float32), [held], (), 360.0, {}, 10)
    assert normal.validation[:, 0, 0].tolist() == [40, 190]


@pytest.mark.parametrize("name", sorted({"t [ms]", "Time (s)", "time_ms", "speed", *_TIME_NAMES}))
def test_training_takes_for_the_time_what_scoring_does(tmp_path, name):
    file = tmp_path / "day.csv"
    file.write_text(f"left,{name}\n" + "".join(f"{i % 7},{i}\n" for i in range(40)))
    assert read_folders((str(tmp_path),)).names == read_series(file, sample_rate_hz=1).names
