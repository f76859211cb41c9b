"""A codec of a newcomer's own series: from a folder of CSV files to a bundle, and its parts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import edgeae
from edgeae.coding.context import MIDDLE_UNITS, SYMBOL_LIMIT
from edgeae.signal.matches import MatchRule as RunningRule
from edgeae.signal.matches import changes, matches_of_both_kinds
from export.__main__ import main as export_main
from export.signal_codec import in_whole_numbers
from train.__main__ import main as train_main
from train.config import config_from_dict
from train.signal.codec_context import Matches, MatchRule, SignalContext, rounded_to_middle
from train.signal.codec_data import CodecData, Signals
from train.signal.codec_network import SignalCodecNetwork, SignalNetwork, folded, unfolded
from train.signal.codec_recipe import SignalCodecRecipe, bits_at

CONFIG = """
name = "codec"
task = "signal-codec"
[network]
analysis_channels = 4
analysis_dilations = [1]
synthesis_channels = 4
synthesis_dilations = [1]
context_channels = 8
context_dilations = [1, 2]
head_channels = 8
[data]
folders = []
leave_out = ["time"]
sample_rate_hz = 50
crop_steps = 16
[loss]
[optimize]
steps = 4
batch_size = 2
learning_rate = 1e-3
warmup_steps = 1
ema_decay = 0.5
precision = "float32"
[validate]
every_steps = 4
"""
SMALL = SignalNetwork(
    analysis_channels=4,
    analysis_dilations=(1,),
    synthesis_channels=4,
    synthesis_dilations=(1,),
    context_channels=8,
    context_dilations=(1, 2),
    head_channels=8,
)


def sensor(samples, seed):
    """A pressure that pulses and a temperature that drifts, float (samples, 2)."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / 50
    pulse = np.exp(-(((t * 0.9 + seed) % 1 - 0.5) ** 2) / 0.01)
    drift = 20 + 0.5 * np.sin(t / 9)
    return np.stack([pulse, drift], axis=1) + 0.01 * rng.standard_normal((samples, 2))


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    folder = tmp_path_factory.mktemp("days")
    for day in range(2):
        x = sensor(1200, day)
        table = np.c_[np.arange(len(x)) / 50, x]
        header = "time,pressure,temperature"
        np.savetxt(
            folder / f"day{day}.csv", table, delimiter=",", header=header, comments="", fmt="%.5g"
        )
    return folder


@pytest.fixture(scope="module")
def bundle(days, tmp_path_factory):
    """What the two commands of docs/signals.md make of the folder."""
    home = tmp_path_factory.mktemp("codec")
    config, run, out = home / "codec.toml", home / "run", home / "my-codec"
    config.write_text(CONFIG)
    assert train_main([str(config), "--data", str(days), "--out", str(run)]) == 0
    assert export_main([str(run), str(out)]) == 0
    return out


def test_from_a_csv_folder_to_a_codec(bundle):
    codec = edgeae.load(bundle)
    assert codec.sample_rate_hz == 50
    assert json.loads((bundle / "manifest.json").read_text())["layout"]["sample_rate_hz"] == 50
    today = sensor(900, 7).astype(np.float32)
    sizes, errors = [], []
    for quality in (2, 5, 8):
        blob = codec.compress(today, quality=quality)
        restored = codec.decompress(blob)
        assert restored.shape == today.shape and restored.dtype == np.float32
        sizes.append(len(blob))
        errors.append(float(np.square(restored - today).mean(0)[0] / today[:, 0].var()))
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01 and 8 * sizes[0] < today.size
    near = codec.decompress(codec.compress(today, max_error=0.02))
    assert np.abs(near - today).max() <= 0.02
    counts = np.rint(1000 * today).astype(np.int32)
    assert np.array_equal(codec.decompress(codec.compress(counts, lossless=True)), counts)


def test_the_end_of_each_series_is_held_out_and_channels_come_alike(days):
    config = CodecData((str(days),), leave_out=("time",), sample_rate_hz=50, crop_steps=16)
    signals = Signals(config)
    assert len(signals.held_out) == 4 and {len(one) for one in signals.held_out} == {112}
    assert signals.summary()["train"] == 2
    pieces = signals.batch(np.random.default_rng(0), 64, 16).numpy()
    assert pieces.shape == (64, 256)
    # Pulses and drifts, about half each: a drift's differences are noise alone.
    steep = (np.abs(np.diff(pieces, axis=1)).max(axis=1) > 0.5).mean()
    assert 0.25 < steep < 0.75


def test_series_that_are_too_short_or_have_gaps_are_told(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((400, 1), np.float32))
    with pytest.raises(ValueError, match="the longest series has 400 samples, expected 5122"):
        Signals(CodecData((str(tmp_path),)))
    gap = np.zeros((400, 1), np.float32)
    gap[7] = np.nan
    np.save(tmp_path / "x.npy", gap)
    with pytest.raises(ValueError, match=r"x\.npy: values are missing"):
        Signals(CodecData((str(tmp_path),), crop_steps=16))
    with pytest.raises(ValueError, match="sample_rate_hz is 0"):
        CodecData(sample_rate_hz=0)


def test_whole_numbers_are_calibrated_on_as_they_are_and_others_in_hundredths():
    counts = np.array([[1.0, -7.0], [3.0, 1000.0]], np.float32)
    assert in_whole_numbers(counts).tolist() == counts.tolist()
    fine = np.random.default_rng(0).normal(5, 0.001, (1000, 1)).astype(np.float32)
    whole = in_whole_numbers(fine)
    assert 90 < whole.std() < 110 and abs(whole.mean()) < 1


@torch.no_grad()
def test_an_untrained_codec_is_a_transform_that_gives_the_signal_back():
    torch.manual_seed(0)
    network = SignalCodecNetwork(SMALL).eval()
    signals = torch.randn(8, 256).cumsum(1)
    signals = (signals - signals.mean()) / signals.std()
    network.start_linear(signals)
    level = torch.full((8, 1, 1, 1), 0.5)
    assert torch.equal(unfolded(folded(signals)), signals)
    back = unfolded(network.synthesis(network.analysis(folded(signals), level), level))
    torch.testing.assert_close(back, signals, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_what_a_step_is_told_is_of_steps_before_it():
    torch.manual_seed(0)
    context = SignalContext((1, 3), width=8, head_width=8, dilations=(1, 2), rule=MatchRule(3, 20))
    for parameter in context.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    symbols = torch.randint(-3, 4, (1, 4, 1, 40)).float()
    level = torch.tensor([0.5])
    later = symbols.clone()
    later[0, :, 0, 25] += 1
    before, after = context.distribution(symbols, level), context.distribution(later, level)
    for one, other in zip(before, after, strict=True):
        moved = (one - other).abs().amax(dim=(0, 2))
        # A step's first slice knows nothing of it, the second knows the first.
        assert not moved[:, :25].any() and not moved[0, 25].any() and moved[1:, 25].any()


def test_training_finds_the_matches_that_the_package_finds():
    rng = np.random.default_rng(0)
    symbols = rng.integers(-3, 4, (4, 90)).astype(np.int32)
    rule = MatchRule(5, 40, (2, 1), 2, 4)
    found = Matches(torch.from_numpy(symbols.astype(np.float32))[None, :, None], rule)
    change = changes(symbols)
    running = RunningRule(5, 40, (2, 1), 2, 4)
    first, second = matches_of_both_kinds(change, 0, 90, running)
    before = np.concatenate([[0], symbols[0, :-1]])
    for mine, near, theirs in (
        (found.first, found.first_nearness, first),
        (found.second, found.second_nearness, second),
    ):
        wanted = theirs.changes.copy()
        wanted[:, 0] += before
        assert np.array_equal(mine[0, :, 0].numpy().reshape(3, 4, 90), wanted)
        assert np.array_equal(near[0, :, 0].numpy(), theirs.nearness)


def test_a_symbol_moves_to_its_middle_only_where_that_saves_bits():
    values = torch.tensor([0.6, 0.6, 3.4])
    sure, wide = torch.tensor(0.05), torch.tensor(5.0)
    assert rounded_to_middle(values, torch.zeros(3), wide).tolist() == [1, 1, 3]
    assert rounded_to_middle(values, torch.zeros(3), sure)[0] == 0
    assert SYMBOL_LIMIT > 1000 and MIDDLE_UNITS == 8


def test_bits_are_read_off_between_points_on_logarithms():
    assert bits_at([(10.0, 0.2), (5.0, 0.4), (2.5, 0.8)], 5.0) == pytest.approx(0.4)
    assert bits_at([(10.0, 0.2), (5.0, 0.4)], 50**0.5) == pytest.approx(0.08**0.5)


def test_the_loss_falls_and_figures_are_of_held_out_series(days):
    raw = {
        "name": "codec",
        "task": "signal-codec",
        "network": {"context_channels": 8, "context_dilations": [1], "head_channels": 8},
        "data": {"folders": [str(days)], "leave_out": ["time"], "crop_steps": 16},
        "loss": {},
        "optimize": {"steps": 1, "batch_size": 4, "learning_rate": 1e-3},
    }
    recipe = SignalCodecRecipe(config_from_dict(raw), torch.device("cpu"))
    recipe.start()
    rng = np.random.default_rng(0)
    pieces, level = recipe.batch(rng)
    assert pieces.shape[0] == level.shape[0] and 0 <= level.min() and level.max() <= 1
    loss, told = recipe.loss(recipe.network, (pieces, level), 0)
    loss.backward()
    gradients = [p.grad for p in recipe.network.parameters() if p.grad is not None]
    assert torch.isfinite(loss) and all(torch.isfinite(g).all() for g in gradients)
    assert {"bits_per_sample", "log_error"} == set(told)
    figures = recipe.validate(recipe.network)
    assert figures["bits_at_prd_5"] > figures["bits_at_prd_9"] > 0
