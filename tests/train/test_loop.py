"""The loop as its user meets it: what it says and when, how it stops, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from line import CONFIG, ROW, Line, LineRecipe, line_config

from train import precision, recipes
from train.__main__ import main
from train.checkpoint import SHIPPED, find_checkpoint, load_checkpoint
from train.config import config_from_dict
from train.loop import train
from train.progress import Reporter

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def line(monkeypatch, tmp_path):
    """The path of a config of the made-up family, which is one row in the table."""
    monkeypatch.setitem(recipes.RECIPES, "line", ROW)
    file = tmp_path / "line.toml"
    file.write_text(CONFIG)
    return file


def test_a_family_that_is_a_row_and_a_recipe_trains_validates_and_resumes(line, tmp_path, capsys):
    out = tmp_path / "run"
    assert main([str(line), "--out", str(out)]) == 0
    config, state = load_checkpoint(out / "last.pt")
    assert config.network == Line() and state["step"] == 200
    assert state["history"][-1]["score"] < 0.05
    said = capsys.readouterr().out
    assert "points: 26 to train on, 4 held out\n" in said
    assert main(["--resume", "--out", str(out), "--steps", "210"]) == 0
    assert load_checkpoint(out / "last.pt")[1]["step"] == 210


def test_the_first_step_is_reported_at_once_where_there_is_no_terminal(line, tmp_path, capsys):
    assert main([str(line), "--out", str(tmp_path / "run"), "--steps", "3"]) == 0
    said = capsys.readouterr().out.splitlines()
    first = next(text for text in said if text.startswith("step "))
    assert first.startswith("step 1/3 loss ") and " steps/s, " in first
    assert first.endswith(" left")
    assert any(text.startswith("validation at step 3: score ") for text in said)


def test_reports_grow_rarer_and_never_stop(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("train.progress.time.monotonic", lambda: now[0])
    said = []
    with Reporter("x", tmp_path, step=0, steps=10**9, ends=math.inf) as report:
        monkeypatch.setattr("builtins.print", lambda line, flush: said.append((now[0], line)))
        for step in range(1, 3000):
            now[0] += 0.1
            report.step(step, {"loss": torch.tensor(1.0)}, 0.1)
    times = [at for at, _ in said]
    assert times[0] == pytest.approx(0.1) and times[1] < 10
    assert max(b - a for a, b in zip(times, times[1:], strict=False)) < 31
    assert len(said) < 25 and "10 steps/s" in said[-1][1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_everything_saved(number, line, tmp_path, capsys, monkeypatch):
    whole = tmp_path / "whole"
    assert main([str(line), "--out", str(whole), "--steps", "12"]) == 0
    honest = LineRecipe.loss

    def interrupted(self, network, batch, step):
        if step == 4:
            os.kill(os.getpid(), number)
        return honest(self, network, batch, step)

    out = tmp_path / "run"
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(LineRecipe, "loss", interrupted)
        code = main([str(line), "--out", str(out), "--steps", "12"])
    assert code == 128 + number and signal.getsignal(number) is before
    assert load_checkpoint(out / "last.pt")[1]["step"] == 5
    said = capsys.readouterr().out
    assert f"{signal.Signals(number).name}: {out / 'last.pt'} holds all 5 steps" in said
    command = said.splitlines()[-1].split()
    assert command[:3] == ["python", "-m", "train"]
    assert main(command[3:]) == 0
    first, second = (load_checkpoint(folder / "last.pt")[1] for folder in (whole, out))
    assert first["step"] == second["step"] == 12
    for name, value in first["network"].items():
        assert torch.equal(value, second["network"][name]), name


def test_a_folder_that_holds_a_run_is_refused_without_resume_or_force(line, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = [str(line), "--out", str(out), "--steps", "3"]
    assert main(arguments) == 0
    held = (out / "last.pt").read_bytes()
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error == (
        f"train: {out} holds a run, expected --resume to go on with it or --force to replace it\n"
    )
    assert (out / "last.pt").read_bytes() == held
    assert main([*arguments, "--force", "--steps", "2"]) == 0
    assert load_checkpoint(out / "last.pt")[1]["step"] == 2


def test_a_run_is_saved_and_validated_by_minutes_too(line, tmp_path, monkeypatch):
    clock = [0.0]

    def tick(self, network, batch, step, honest=LineRecipe.loss):
        clock[0] += 9.0
        return honest(self, network, batch, step)

    saved = []
    honest_save = sys.modules["train.run"].save_checkpoint

    def save(file, config, state):
        saved.append((file.name, clock[0]))
        honest_save(file, config, state)

    monkeypatch.setattr("train.loop.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("train.run.save_checkpoint", save)
    monkeypatch.setattr(LineRecipe, "loss", tick)
    text = line.read_text() + "[validate]\nevery_steps = 1000\nevery_minutes = 2.0\n"
    line.write_text(text.replace("steps = 200\n", "steps = 60\n"))
    assert main([str(line), "--out", str(tmp_path / "run")]) == 0
    last = [at for name, at in saved if name == "last.pt"]
    assert last[0] < 60 and max(b - a for a, b in zip(last, last[1:], strict=False)) < 140
    history = load_checkpoint(tmp_path / "run" / "last.pt")[1]["history"]
    assert [entry["step"] for entry in history][:2] == [14, 28] and history[-1]["step"] == 60


# --- precision


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"float32": 0.10, "bfloat16": 1.10}, "float32"),  # a processor without bfloat16
        ({"float32": 0.10, "bfloat16": 0.05}, "bfloat16"),  # one with it
        ({"float32": 0.10, "bfloat16": 0.099}, "float32"),
    ],
)
def test_precision_is_what_was_measured_to_be_faster(
    seconds, expected, line, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(precision, "seconds_per_step", lambda _, __, ___, name: seconds[name])
    assert main([str(line), "--out", str(tmp_path / "run"), "--precision", "auto"]) == 0
    assert f"bfloat16: {expected} is taken" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "run" / "last.pt")[1]["precision"] == expected


def test_a_resumed_run_keeps_the_precision_that_it_began_with(line, tmp_path, monkeypatch):
    out = tmp_path / "run"
    arguments = [str(line), "--precision", "auto", "--out", str(out)]
    for faster in ("bfloat16", "float32"):
        seconds = {"float32": 1.0, "bfloat16": 0.1 if faster == "bfloat16" else 9.0}
        monkeypatch.setattr(
            precision, "seconds_per_step", lambda *given, seconds=seconds: seconds[given[-1]]
        )
        more = ["--resume", "--steps", "20"] if faster == "float32" else ["--steps", "10"]
        assert main([*arguments, *more]) == 0
        assert load_checkpoint(out / "last.pt")[1]["precision"] == "bfloat16"


def test_a_time_budget_cuts_the_schedule_to_the_steps_that_fit(line, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(precision, "seconds_per_step", lambda *_: 0.5)
    out = tmp_path / "run"
    assert main([str(line), "--out", str(out), "--max-minutes", "1"]) == 0
    config, state = load_checkpoint(out / "last.pt")
    # A minute of steps of half a second, less what goes to optimizer, validations and checkpoints.
    assert 60 <= config.optimize.steps < 120 and state["step"] == config.optimize.steps
    assert f"a schedule of {config.optimize.steps} steps fits the time" in capsys.readouterr().out
    assert config.optimize.warmup_steps <= config.optimize.steps / 10
    # A resumed run keeps it, and a number of steps that is asked for is not cut.
    assert main(["--resume", "--out", str(out), "--max-minutes", "0.01"]) == 0
    assert load_checkpoint(out / "last.pt")[0] == config
    arguments = ["--out", str(out), "--force", "--max-minutes", "1", "--steps", "130"]
    assert main([str(line), *arguments]) == 0
    assert load_checkpoint(out / "last.pt")[0].optimize.steps == 130


def test_timing_a_step_leaves_the_network_as_it_is(line):
    config = line_config()
    recipe = LineRecipe(config, torch.device("cpu"))
    before = {name: value.clone() for name, value in recipe.network.state_dict().items()}
    batch = recipe.batch(np.random.default_rng(0))
    for name in ("float32", "bfloat16"):
        assert precision.seconds_per_step(recipe, batch, torch.device("cpu"), name) > 0
    assert all(torch.equal(value, before[n]) for n, value in recipe.network.state_dict().items())
    assert all(parameter.grad is None for parameter in recipe.network.parameters())


# --- shipped weights, and configs of earlier versions


def test_shipped_checkpoints_are_found_by_name():
    assert find_checkpoint("photo-codec") == SHIPPED / "photo-codec.pt"
    assert find_checkpoint("speech-denoiser") == SHIPPED / "speech-denoiser.pt"
    for name in ("photo-codec", "speech-denoiser"):
        config, _ = load_checkpoint(find_checkpoint(name))
        assert config.task == name and config.optimize.precision in ("auto", "float32", "bfloat16")


def test_a_run_says_which_checkpoint_it_began_with(line, tmp_path):
    assert main([str(line), "--out", str(tmp_path / "one"), "--steps", "3"]) == 0
    start = ["--start-from", str(tmp_path / "one" / "best.pt")]
    assert main([str(line), "--out", str(tmp_path / "two"), "--steps", "3", *start]) == 0
    (before,) = load_checkpoint(tmp_path / "two" / "last.pt")[1]["before"]
    assert before["checkpoint"] == "best.pt" and before["step"] == 3
    assert before["data"] == {"points": LineRecipe.data_summary(None)["points"]}


def test_keys_of_earlier_versions_are_understood():
    raw = {
        "name": "x",
        "task": "speech-denoiser",
        "network": {},
        "data": {"speech": ["synthetic"], "noise": ["synthetic"]},
        "loss": {"listening": 0.3, "listener": "a.npz", "listening_samples": 9},
        "optimize": {"steps": 1, "batch_size": 1, "learning_rate": 1e-3, "bfloat16": True},
    }
    config = config_from_dict(raw)
    found = config.loss.quality, config.loss.quality_model, config.loss.quality_samples
    assert found == (0.3, "a.npz", 9) and config.optimize.precision == "bfloat16"
    assert config_from_dict(dataclasses.asdict(config)) == config


def test_the_loop_takes_any_recipe_without_a_command_line(line, tmp_path):
    state = train(line_config(), tmp_path / "run", max_minutes=0)
    assert state["step"] == 1 and Path(tmp_path / "run" / "best.pt").is_file()
