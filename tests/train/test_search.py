"""The search keeps to its limits, its front is one, and what it says of a model is measured."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from train.config import ConfigError, config_from_dict, read_config, read_toml
from train.search.front import Trial, front_page, pareto_front, table
from train.search.space import read_space, toml_text
from train.search.trial import Measured, brief

CONFIG = """
name = "tiny"
task = "autoencoder"
[network]
network = "dense"
latent = 3
hidden = [16]
[data]
folders = []
[loss]
[optimize]
steps = 24
batch_size = 16
learning_rate = 3e-3
warmup_steps = 2
ema_decay = 0.9
precision = "float32"
[validate]
every_steps = 12
[search]
steps = 8
[search.ranges]
"network.latent" = { low = 1, high = 4 }
"network.hidden" = { choices = [[8], [512, 512]] }
"optimize.learning_rate" = { low = 1e-3, high = 1e-2, log = true }
"""


class First:
    """Draws the least of everything."""

    def suggest_int(self, name, low, high, *, log=False):
        return low

    def suggest_float(self, name, low, high, *, log=False):
        return low

    def suggest_categorical(self, name, choices):
        return choices[0]


@pytest.fixture
def config(tmp_path):
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    items = rng.normal(size=(120, 3)) @ rng.normal(size=(3, 6))
    np.save(tmp_path / "data" / "x.npy", items.astype(np.float32))
    (tmp_path / "tiny.toml").write_text(CONFIG)
    return tmp_path / "tiny.toml"


def test_a_choice_is_a_config_and_goes_through_toml(config, tmp_path):
    space = read_space(read_toml(config))
    values = space.draw(First())
    assert values == {
        "network.latent": 1,
        "network.hidden": [8],
        "optimize.learning_rate": 1e-3,
    }
    chosen = space.config(values)
    assert (chosen.network.latent, chosen.network.hidden) == (1, (8,))
    (tmp_path / "best.toml").write_text(toml_text(space.raw_with(values)))
    assert read_config(tmp_path / "best.toml") == chosen
    # The config itself trains without its ranges.
    assert read_config(config).network.latent == 3


def test_a_trial_is_the_same_run_cut_short(config):
    run = read_config(config)
    short = brief(run, 8)
    assert (short.optimize.steps, short.validate.every_steps) == (8, 2)
    assert short.network == run.network and short.loss == run.loss


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({}, "no ranges"),
        ({"ranges": {"network.latent": {"low": 1, "high": 2}}, "trials": 3}, "unknown key search"),
        ({"ranges": {"network.latent": {"low": 3, "high": 2}}}, "low <= high"),
        ({"ranges": {"network.latent": 3}}, "expected low and high, or choices"),
        ({"ranges": {"network.latnt": {"low": 1, "high": 2}}}, "unknown key network.latnt"),
        ({"ranges": {"latent": {"low": 1, "high": 2}}}, "expected a key such as"),
        ({"ranges": {"loss.noise": {"low": 0.0, "high": 1.0, "log": True}}}, "low <= high"),
        ({"ranges": {"network.latent": {"low": 1, "high": 2}}, "steps": 0}, "search.steps is 0"),
    ],
)
def test_ranges_that_are_none_are_refused_by_name(config, search, told):
    raw = read_toml(config)
    raw["search"] = search
    with pytest.raises(ConfigError, match=told):
        read_space(raw)


def trial(number, score, ms, size, state="kept"):
    return Trial(number, {}, state, "", Measured(score, ms / 2, ms / 2, size, "int8"))


def test_the_front_holds_what_nothing_beats_in_all_three():
    trials = [
        trial(0, 0.5, 1.0, 100),
        trial(1, 0.5, 1.2, 100),  # slower than 0 and no better
        trial(2, 0.3, 2.0, 300),
        trial(3, 0.9, 0.9, 400),  # the fastest
        trial(4, 0.9, 3.0, 50),  # the smallest
        trial(5, 0.1, 9.0, 900, "exceeds"),
        Trial(6, {}, "failed", "no"),
    ]
    assert [one.number for one in pareto_front(trials)] == [2, 0, 3, 4]
    assert len(table(pareto_front(trials)).splitlines()) == 5
    text = front_page("<tiny>", trials, limits={"max_ms": 4.0, "max_bytes": None}, chosen=2)
    assert text.count("<circle") == 12 and "<tiny>" not in text and "4 ms" in text


def test_equal_trials_stand_on_the_front_together():
    assert len(pareto_front([trial(0, 0.5, 1.0, 100), trial(1, 0.5, 1.0, 100)])) == 2


@pytest.fixture
def search(one_thread, monkeypatch):
    pytest.importorskip("optuna", reason="the search needs Optuna")
    from train.search import trial
    from train.search.__main__ import main

    # How well times are taken is not what is tested.
    monkeypatch.setattr(trial, "_TIMED_S", 0.01)
    monkeypatch.setattr(trial, "_TIMINGS", 1)
    return lambda *arguments: main([str(part) for part in arguments])


def test_the_chosen_model_keeps_within_the_limits_and_is_as_the_search_says(
    search, config, tmp_path, capsys
):
    from edgeae.autoencoder import Autoencoder

    out = tmp_path / "out"
    given = ("--data", tmp_path / "data", "--trials", 3, "--out", out, "--seed", 1)
    assert search(config, *given, "--max-bytes", 40_000) == 0, capsys.readouterr().err
    found = json.loads((out / "search.json").read_text())
    states = [one["state"] for one in found["trials"]]
    assert len(states) == 3 and "kept" in states
    for one in found["trials"]:
        if one["measured"]:
            assert (one["measured"]["bytes"] <= 40_000) == (one["state"] == "kept")
    model = Autoencoder.load(out / "model")
    chosen = found["chosen"]
    assert sum(graph.file.stat().st_size for graph in model.graphs.values()) == chosen["bytes"]
    assert chosen["bytes"] <= 40_000 and chosen["trial"] == found["front"][0]
    # Trained to its end, not as briefly as a trial.
    values = found["trials"][chosen["trial"]]["values"]
    assert model.latents == values["network.latent"]
    state = torch.load(out / "run" / "last.pt", weights_only=True)
    assert state["step"] == 24
    assert read_config(out / "best.toml").network == config_from_dict(state["config"]).network
    assert "Pareto front" in (out / "front.html").read_text()
    assert not (out / "trial").exists()
    assert search(config, *given) == 1
    assert "holds a search" in capsys.readouterr().err


def test_where_nothing_keeps_within_the_limits_it_says_what_came_nearest(
    search, config, tmp_path, capsys
):
    out = tmp_path / "out"
    given = ("--data", tmp_path / "data", "--trials", 1, "--out", out)
    assert search(config, *given, "--max-bytes", 10) == 1
    assert "no trial keeps within the limits: the fastest took" in capsys.readouterr().err
    assert not (out / "model").exists()


def test_a_choice_that_cannot_be_is_a_failed_trial_and_not_the_end(
    search, config, tmp_path, capsys
):
    config.write_text(CONFIG.replace("{ low = 1, high = 4 }", "{ choices = [3, 0] }"))
    out = tmp_path / "out"
    given = ("--data", tmp_path / "data", "--trials", 3, "--out", out, "--seed", 3)
    assert search(config, *given) == 0, capsys.readouterr().err
    found = json.loads((out / "search.json").read_text())
    failed = [one for one in found["trials"] if one["state"] == "failed"]
    assert failed and "latent is 0" in failed[0]["why"]


def test_another_task_is_refused(search, tmp_path, capsys):
    (tmp_path / "c.toml").write_text('task = "photo-codec"\n')
    assert search(tmp_path / "c.toml") == 1
    assert "expected 'autoencoder'" in capsys.readouterr().err
