"""The weighted mean of checkpoints is a checkpoint: it is exported and started from."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from train import mean
from train.__main__ import main as train
from train.checkpoint import load_checkpoint, save_checkpoint
from train.config import read_config
from train.speech.codec_network import SpeechCodec

CONFIG = """
name = "mine"
task = "autoencoder"
[network]
network = "dense"
latent = 2
hidden = [4]
[data]
folders = []
[loss]
[optimize]
steps = 4
batch_size = 16
learning_rate = 1e-2
warmup_steps = 1
ema_decay = 0.5
precision = "float32"
"""
SMOKE_CODEC = Path(__file__).parents[2] / "train" / "configs" / "smoke-speech-codec.toml"


@pytest.fixture
def runs(tmp_path, one_thread):
    """Three runs of a tiny network; the second and the third start from the first."""
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "x.npy", rng.normal(size=(60, 5)).astype(np.float32))
    (tmp_path / "c.toml").write_text(CONFIG)
    files = [tmp_path / name / "last.pt" for name in ("first", "second", "third")]
    for i, file in enumerate(files):
        steps = ["--steps", str(4 + i)]
        start = ["--start-from", str(files[0])] if i else []
        data = ["--data", str(tmp_path / "data"), "--out", str(file.parent)]
        assert train([str(tmp_path / "c.toml"), *data, *steps, *start]) == 0
    return files


def mixed(out, *parts, force=False):
    """`python -m train.mean` of files and shares; the exit code."""
    given = [f"{file}={share}" for file, share in parts]
    return mean.main([str(out), *given, *(["--force"] if force else [])])


def averaged(file):
    return load_checkpoint(file)[1]["averaged"]


def test_a_mean_is_the_weighted_sum_with_the_runs_of_all(runs, tmp_path, capsys):
    out = tmp_path / "mean.pt"
    assert mixed(out, (runs[1], 0.7), (runs[2], 0.3)) == 0
    assert "mean.pt: a mean of 2 checkpoints of the task autoencoder" in capsys.readouterr().out
    config, state = load_checkpoint(out)
    assert config == load_checkpoint(runs[1])[0]
    second, third = averaged(runs[1]), averaged(runs[2])
    assert any(not torch.equal(second[name], third[name]) for name in second)
    for name, value in state["averaged"].items():
        torch.testing.assert_close(value, 0.7 * second[name] + 0.3 * third[name])
    # The run that both began with is told once.
    assert [run["step"] for run in state["before"]] == [4, 5, 6]
    assert [part["share"] for part in state["mean"]] == [0.7, 0.3]
    assert [part["checkpoint"] for part in state["mean"]] == ["second/last.pt", "third/last.pt"]
    assert (state["step"], state["history"], state["best"]) == (0, [], math.inf)
    assert not {"optimizer", "network"} & set(state)


def test_a_mean_is_exported_and_its_card_says_what_it_is_of(runs, tmp_path):
    pytest.importorskip("onnxscript")
    from export.__main__ import main as export

    assert mixed(tmp_path / "mean.pt", (runs[1], 0.25), (runs[2], 0.75)) == 0
    assert export([str(tmp_path / "mean.pt"), str(tmp_path / "bundle")]) == 0
    card = (tmp_path / "bundle" / "CARD.md").read_text(encoding="utf-8")
    assert "a weighted mean, 0.25 of `second/last.pt`, 0.75 of `third/last.pt`" in card
    assert "A mean is not validated" in card and "ended before its first" not in card
    assert "0 steps" not in card


def test_a_run_starts_from_a_mean_and_does_not_go_on_from_it(runs, tmp_path, capsys):
    out = tmp_path / "means" / "last.pt"
    assert mixed(out, (runs[1], 0.5), (runs[2], 0.5)) == 0
    given = [str(tmp_path / "c.toml"), "--data", str(tmp_path / "data")]
    assert train([*given, "--start-from", str(out), "--out", str(tmp_path / "on")]) == 0
    _, state = load_checkpoint(tmp_path / "on" / "last.pt")
    assert [run["step"] for run in state["before"]] == [4, 5, 6, 0]
    assert [part["share"] for part in state["before"][-1]["mean"]] == [0.5, 0.5]
    assert "mean" not in state
    assert train([*given, "--resume", "--out", str(out.parent)]) == 1
    assert "holds weights alone" in capsys.readouterr().err
    # Means of means keep apart: neither was trained, but they are of other parts.
    other = tmp_path / "other.pt"
    assert mixed(other, (runs[1], 0.9), (runs[2], 0.1)) == 0
    assert mixed(tmp_path / "both.pt", (out, 0.5), (other, 0.5)) == 0
    before = load_checkpoint(tmp_path / "both.pt")[1]["before"]
    assert [run["step"] for run in before] == [4, 5, 6, 0, 0]


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ((0.7, 0.2), "the shares sum to 0.9, expected 1"),
        ((0.7, 0.31), "the shares sum to 1.01, expected 1"),
        ((1.5, -0.5), "expected CHECKPOINT=SHARE with a share above 0"),
        ((1, "much"), "expected CHECKPOINT=SHARE with a share above 0"),
        ((1, "nan"), "expected CHECKPOINT=SHARE with a share above 0"),
    ],
)
def test_shares_that_make_no_mean_are_refused(runs, tmp_path, capsys, shares, told):
    assert mixed(tmp_path / "mean.pt", *zip(runs, shares, strict=False)) == 1
    said = capsys.readouterr().err
    assert said.startswith("train.mean: ") and told in said and said.count("\n") == 1
    assert not (tmp_path / "mean.pt").exists()


def test_shares_may_be_rounded(runs, tmp_path):
    thirds = zip(runs, (0.3333333, 0.3333333, 0.3333334), strict=True)
    assert mixed(tmp_path / "mean.pt", *thirds) == 0


def test_what_is_there_is_replaced_only_by_force(runs, tmp_path, capsys):
    out = tmp_path / "mean.pt"
    assert mixed(out, (runs[0], 1)) == 0
    before = out.read_bytes()
    assert mixed(out, (runs[1], 1)) == 1
    assert "is there, expected --force" in capsys.readouterr().err and out.read_bytes() == before
    assert mixed(out, (runs[1], 1), force=True) == 0
    assert all(torch.equal(averaged(out)[n], v) for n, v in averaged(runs[1]).items())


def codec_checkpoint(file, seed, **changes):
    """A checkpoint of a small speech codec that was never trained, with changes to its network."""
    config = read_config(SMOKE_CODEC)
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, **changes))
    torch.manual_seed(seed)
    weights = SpeechCodec(config.network).state_dict()
    state = {"averaged": weights, "step": seed, "seconds": 1.0, "best": 0.0, "history": []}
    save_checkpoint(file, config, state)
    return file


def test_an_adversary_that_the_others_lack_is_the_first_ones(tmp_path, capsys):
    judged = codec_checkpoint(tmp_path / "judged.pt", 1, discriminator_channels=2)
    plain = codec_checkpoint(tmp_path / "plain.pt", 2)
    out = tmp_path / "mean.pt"
    assert mixed(out, (judged, 0.1), (plain, 0.9)) == 0
    said = capsys.readouterr().out
    assert f"discriminator_channels is 2 as in {judged}, 0 in {plain}" in said
    assert f"tensors are those of {judged}, as {plain} lacks them" in said
    found, first, second = averaged(out), averaged(judged), averaged(plain)
    assert set(found) == set(first) > set(second)
    for name, value in found.items():
        expected = 0.1 * first[name] + 0.9 * second[name] if name in second else first[name]
        torch.testing.assert_close(value, expected)
    SpeechCodec(load_checkpoint(out)[0].network).load_state_dict(found)
    # The other way round the mean would lack what one of them has.
    assert mixed(tmp_path / "other.pt", (plain, 0.9), (judged, 0.1)) == 1
    assert "the one with more parts goes first" in capsys.readouterr().err


def test_other_networks_are_refused(runs, tmp_path, capsys):
    first = codec_checkpoint(tmp_path / "a.pt", 1)
    wider = codec_checkpoint(tmp_path / "b.pt", 2, head_channels=12)
    for other, told in ((wider, "expected ("), (runs[0], "autoencoder, expected speech-codec")):
        assert mixed(tmp_path / "mean.pt", (first, 0.5), (other, 0.5)) == 1
        said = capsys.readouterr().err
        assert f"{other} holds another network than {first}" in said and told in said
        assert said.count("\n") == 1


def test_what_is_no_floating_point_number_is_the_first_ones(runs, tmp_path):
    files = []
    for i, count in enumerate((3, 9)):
        config, state = load_checkpoint(runs[i])
        state = {k: v for k, v in state.items() if k not in ("config", "format")}
        state["averaged"]["count"] = torch.tensor(count)
        files.append(tmp_path / f"{i}.pt")
        save_checkpoint(files[-1], config, state)
    assert mixed(tmp_path / "mean.pt", (files[0], 0.5), (files[1], 0.5)) == 0
    assert averaged(tmp_path / "mean.pt")["count"] == torch.tensor(3)
