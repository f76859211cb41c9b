"""`edgeae score`, and `edgeae denoise` of a sensor's series."""

from __future__ import annotations

import json

import numpy as np
import pytest
from detectors import squares
from PIL import Image
from sample_denoisers import late_half
from typer.testing import CliRunner

from edgeae.cli.app import app
from edgeae.media.series import read_series


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path):
    layout = {"kind": "signal", "shape": [8, 2], "names": ["flow", "heat"]}
    return squares(tmp_path / "watch", channels=2, layout=layout)


@pytest.fixture
def series(tmp_path):
    x = np.random.default_rng(0).normal(0, 0.1, (100, 2))
    x[50:53, 1] = 9
    file = tmp_path / "day.csv"
    rows = np.c_[np.arange(100) / 10, x[:, ::-1]]
    np.savetxt(file, rows, delimiter=",", header="time,heat [K],flow", comments="", fmt="%.5g")
    return file


def test_a_line_for_each_alarm_with_its_time_and_channel(model, series):
    result = run("score", series, "--model", model)
    assert result.exit_code == 0, result.output
    first, last = result.stdout.strip().splitlines()
    assert first.startswith("5.0")
    assert first.endswith("most in heat")
    assert last.startswith("1 alarms in 100 samples")


def test_json_has_alarms_and_all_scores(model, series):
    told = json.loads(run("score", series, "--model", model, "--json").stdout)
    (alarm,) = told["alarms"]
    assert alarm["channel"] == "heat"
    assert alarm["start_s"] == alarm["start"] / 10
    assert len(told["scores"]) == len(told["starts"])
    high = run("score", series, "--model", model, "--json", "--threshold", "50")
    assert json.loads(high.stdout)["alarms"] == []


def test_a_plot_shows_signal_score_and_alarms(model, series, tmp_path):
    page, png = tmp_path / "a.html", tmp_path / "a.png"
    assert run("score", series, "--model", model, "--plot", page).exit_code == 0
    text = page.read_text()
    assert text.count("<polyline") == 3  # two channels and the score
    assert text.count("<rect") == 1
    assert "http" not in text
    assert run("score", series, "--model", model, "--plot", png).exit_code == 0
    with Image.open(png) as opened:
        assert opened.size[0] == 1000
    again = run("score", series, "--model", model, "--plot", png)
    assert again.exit_code == 1
    assert run("score", series, "--model", model, "--plot", tmp_path / "a.gif").exit_code == 2


def test_a_series_of_other_channels_is_told(model, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((50, 3), np.float32))
    result = run("score", tmp_path / "x.npy", "--model", model)
    assert result.exit_code == 1
    assert "3 channels" in result.output
    assert "expected 2 (flow, heat)" in result.output


def test_missing_values_are_refused_or_filled_by_the_rule_that_is_named(model, tmp_path):
    x = np.zeros((50, 2), np.float32)
    x[9, 0] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert run("score", tmp_path / "x.npy", "--model", model).exit_code == 1
    filled = run("score", tmp_path / "x.npy", "--model", model, "--missing", "hold")
    assert filled.exit_code == 0, filled.output


def test_a_sensors_series_is_denoised_to_a_table(tmp_path):
    model = late_half(tmp_path / "half")
    x = np.random.default_rng(0).normal(0, 1, 90).astype(np.float32)
    t = np.arange(90) / 360
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    np.savetxt(source, np.c_[t, x], delimiter=",", header="time [s],II [mV]", comments="")
    result = run("denoise", source, target, "--model", model)
    assert result.exit_code == 0, result.output
    clean = read_series(target)
    assert clean.names == ("II",)
    assert clean.units == ("mV",)
    np.testing.assert_allclose(clean.samples[:, 0], 0.5 * (x - x[0]), atol=1e-5)
    assert run("denoise", source, tmp_path / "out.mp3", "--model", model).exit_code == 2
    assert run("denoise", "-", target, "--model", model).exit_code == 2


def test_a_series_of_another_rate_is_not_denoised(tmp_path):
    model = late_half(tmp_path / "half")
    source = tmp_path / "in.csv"
    np.savetxt(source, np.c_[np.arange(90) / 250, np.zeros(90)], delimiter=",",
               header="time,II", comments="")  # fmt: skip
    result = run("denoise", source, tmp_path / "out.csv", "--model", model)
    assert result.exit_code == 1
    assert "250 samples a second, expected 360" in result.output


def test_options_for_folders_of_images_are_refused_for_a_series(model, series):
    result = run("score", series, "--model", model, "--jobs", "2")
    assert result.exit_code == 2 and "for images" in result.output
