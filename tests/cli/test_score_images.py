"""`edgeae score` of images: lines, JSON, heat maps, folders."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from image_detectors import brightness
from PIL import Image
from typer.testing import CliRunner

from edgeae.cli.app import app
from edgeae.cli.inspected_images import heat_map
from edgeae.image.detector import ImageScore


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return brightness(tmp_path_factory.mktemp("score") / "bright")


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "in"
    (found / "deep").mkdir(parents=True)
    good = np.full((40, 60, 3), 40, np.uint8)
    bad = good.copy()
    bad[8:28, 20:40] = 250
    Image.fromarray(good).save(found / "good.png")
    Image.fromarray(bad).save(found / "deep" / "bad.png")
    (found / "notes.txt").write_text("no image")
    return found


def test_an_image_has_a_line(model, folder):
    good, bad = (
        run("score", folder / name, "--model", model) for name in ("good.png", "deep/bad.png")
    )
    assert good.exit_code == bad.exit_code == 0
    assert "good.png  good  score 0.1" in good.stdout and "threshold 0.500" in good.stdout
    assert "bad.png  strange  score 0.9" in bad.stdout
    raised = run("score", folder / "deep/bad.png", "--model", model, "--threshold", "2")
    assert "bad.png  good" in raised.stdout


def test_json_says_all_of_it(model, folder):
    told = json.loads(run("score", folder / "deep/bad.png", "--model", model, "--json").stdout)
    assert told["flagged"] is True and told["threshold"] == 0.5 and told["model"] == "brightness"
    many = json.loads(run("score", folder, "--model", model, "--json").stdout)
    assert [one["flagged"] for one in many] == [True, False]


def test_a_folder_has_a_line_for_each_image_and_a_sum(model, folder):
    result = run("score", folder, "--model", model)
    lines = result.stdout.strip().splitlines()
    assert len(lines) == 3 and lines[-1] == "1 of 2 images flagged"


def test_a_plot_lies_beside_its_image_and_is_not_replaced_unasked(model, folder, tmp_path):
    plot = tmp_path / "bad.png"
    arguments = ("score", folder / "deep/bad.png", "--model", model, "--plot", plot)
    assert run(*arguments).exit_code == 0
    with Image.open(plot) as drawn:
        assert drawn.size == (2 * 60 + 8, 40 + 16)
    again = run(*arguments)
    assert again.exit_code == 1 and "--force replaces it" in again.output
    assert run(*arguments, "--force").exit_code == 0
    plots = tmp_path / "plots"
    assert run("score", folder, "--model", model, "--plot", plots).exit_code == 0
    made = sorted(p.relative_to(plots).as_posix() for p in plots.rglob("*.png"))
    assert made == ["deep/bad.png.png", "good.png.png"]


def test_a_heat_map_is_bright_and_outlined_where_it_is_strange():
    values = np.zeros((40, 60), np.float32)
    values[8:20, 12:32] = 3
    png = heat_map(np.zeros((40, 60), np.uint8), ImageScore(3, values), 1)
    drawn = np.asarray(Image.open(io.BytesIO(png))).astype(int)
    heat = drawn[16:, 68:]
    assert heat[14, 22].min() > 200 and heat[30, 50].max() == 0
    assert tuple(heat[8, 20]) == (0, 188, 212)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("missing.png",), 1, "cannot read"),
        (("in/good.png", "--plot", "x.html"), 2, "expected a name that ends in .png"),
        (("in", "--plot", "in/good.png"), 2, "expected a folder"),
        (("in/good.png", "--threshold", "nan"), 2, "expected a finite number"),
        (("in/notes.txt",), 1, "notes.txt"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(model, folder, monkeypatch, arguments, code, words):
    monkeypatch.chdir(folder.parent)
    result = run("score", *arguments, "--model", model)
    assert result.exit_code == code and words in result.output
    assert "Traceback" not in result.output


def test_one_broken_image_does_not_end_the_others(model, folder):
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    result = run("score", folder, "--model", model)
    assert result.exit_code == 1 and "1 of 2 images flagged" in result.output
    assert "broken.png" in result.output


def test_a_folder_runs_on_processes_is_logged_and_goes_on(model, folder, tmp_path):
    plots, log = tmp_path / "plots", tmp_path / "log.csv"
    arguments = ("score", folder, "--model", model, "--plot", plots, "--json", "--log", log)
    first = run(*arguments, "--jobs", "2")
    assert first.exit_code == 0, first.output
    assert [one["flagged"] for one in json.loads(first.stdout)] == [True, False]
    assert "left out" in first.stderr and "notes.txt" in first.stderr
    (plots / "good.png.png").unlink()
    again = run(*arguments, "--skip-existing")
    assert [one["flagged"] for one in json.loads(again.stdout)] == [False]
    with log.open(newline="") as rows:
        ended = [(Path(row["source"]).name, row["status"]) for row in csv.DictReader(rows)]
    assert ended.count(("bad.png", "done")) == ended.count(("bad.png", "skipped")) == 1
    assert ended.count(("good.png", "done")) == 2
    assert ended.count(("notes.txt", "left out")) == 2


def test_images_that_are_only_scored_have_no_target(model, folder, tmp_path):
    log = tmp_path / "log.jsonl"
    assert run("score", folder, "--model", model, "--log", log).exit_code == 0
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["target"] for row in rows if row["status"] == "done"] == [None, None]
    assert run("score", folder, "--model", model, "--strict").exit_code == 1
    refused = run("score", folder, "--model", model, "--skip-existing")
    assert refused.exit_code == 2 and "--plot" in refused.output
