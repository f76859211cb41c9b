"""The parts of a training step, timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from benchmarks import training_speed

PHOTO = Path(__file__).parents[2] / "train" / "configs" / "smoke-photo.toml"
CONFIG = """
name = "small"
task = "speech-denoiser"
[network]
band_widths = [8, 16]
band_counts = [16, 8]
channels = 8
memory = 8
hidden = 8
wide = [0]
[data]
speech = ["synthetic"]
noise = ["synthetic"]
cache = ""
segment_samples = 8000
validation_mixes = 1
[loss]
intelligibility = 0.0
[optimize]
steps = 1
batch_size = 2
learning_rate = 1e-3
"""


def test_the_parts_of_a_step_add_up(tmp_path, capsys):
    out = tmp_path / "speed.json"
    (tmp_path / "small.toml").write_text(CONFIG)
    training_speed.main([str(tmp_path / "small.toml"), "--steps", "1", "--json", str(out)])
    assert "steps_per_second" in capsys.readouterr().out
    report = json.loads(out.read_text())
    row = report["precisions"]["float32"]
    total_ms = sum(row[f"{part}_ms"] for part in ("batch", "network", "loss", "optimizer"))
    assert row["steps_per_second"] == pytest.approx(1000 / total_ms, rel=0.01)
    assert row["not_the_network"] == pytest.approx(1 - row["network_ms"] / total_ms, abs=0.01)
    assert report["audio_seconds_per_step"] == 1.0


def test_a_config_of_another_task_is_refused():
    with pytest.raises(SystemExit, match="expected speech-denoiser"):
        training_speed.main([str(PHOTO)])
