"""The page about a run: one file that loads nothing, for images, series and tables with gaps."""

from __future__ import annotations

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from train.__main__ import main as training
from train.charts import Point, lines, scatter
from train.report import main, report

CONFIG = """
name = "mine <1>"
task = "autoencoder"
[network]
{network}
[data]
folders = []
{data}
[loss]
{loss}
[optimize]
steps = 6
batch_size = 16
learning_rate = 1e-3
precision = "float32"
[validate]
every_steps = 3
"""


def run_of(tmp_path, items, network, data="", loss="", file="x.npy"):
    (tmp_path / "data").mkdir()
    if isinstance(items, str):
        (tmp_path / "data" / file).write_text(items)
    else:
        np.save(tmp_path / "data" / file, items.astype(np.float32))
    text = CONFIG.format(network=network, data=data, loss=loss)
    (tmp_path / "c.toml").write_text(text)
    command = [tmp_path / "c.toml", "--data", tmp_path / "data", "--out", tmp_path / "run"]
    assert training([str(part) for part in command]) == 0
    return tmp_path / "run"


def checked(page):
    """The page, once it is clear that it is well-formed and loads nothing."""
    from html.parser import HTMLParser

    open_tags = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            for name, value in attributes:
                if name in ("src", "href"):
                    assert value.startswith("data:"), value
            if tag not in ("meta", "img", "br"):
                open_tags.append(tag)

        def handle_startendtag(self, tag, attributes):
            pass

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Parser().feed(page)
    assert open_tags == [] and "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    return page


def test_images_stand_beside_what_comes_back_of_them(tmp_path, one_thread):
    items = np.random.default_rng(0).random((60, 6, 5, 1))
    run = run_of(tmp_path, items, 'network = "conv2d"\nlatent = 3\nhidden = [4]')
    assert main([str(run)]) == 0
    page = checked((run / "report.html").read_text())
    # Twelve pairs, and as many samples.
    assert page.count("<img") == 36
    assert "mine &lt;1&gt;" in page and "3 of 3 latents are in use" in page
    assert "48 items to train on, 12 held out" in page


def test_a_table_with_gaps_names_its_worst_columns(tmp_path, one_thread):
    rng = np.random.default_rng(0)
    rows = ["a,b,c"] + [f"{x:.3f},{'' if x > 1 else 2 * x:},{rng.normal():.3f}"
                        for x in rng.normal(size=80)]  # fmt: skip
    network = 'network = "dense"\nlatent = 1\nhidden = [8]\nmasked = true'
    run = run_of(tmp_path, "\n".join(rows) + "\n", network, loss="hide = 0.2", file="x.csv")
    page = checked(report(run))
    worst = page[page.index("Columns that come back worst") :]
    # Noise is what one latent cannot hold.
    assert worst.index("<td>c</td>") < worst.index("<td>a</td>")
    assert ">score</text>" in page


def test_a_variational_run_of_series_tells_which_latents_say_nothing(tmp_path, one_thread):
    time = np.arange(600) / 7
    network = 'network = "conv1d"\nlatent = 5\nhidden = [4]\nvariational = true'
    series = np.sin(time)[:, None]
    run = run_of(tmp_path, series, network, data="window_samples = 16", loss="kl = 1.0")
    page = checked(report(run))
    # A sine has two components; the variance of the others is nothing.
    assert "2 of 5 latents are in use" in page


def test_other_runs_and_lost_data_are_refused(tmp_path, one_thread, capsys):
    assert main([str(tmp_path / "nothing")]) == 1
    assert "no checkpoint at" in capsys.readouterr().err
    run = run_of(
        tmp_path, np.zeros((30, 4)) + np.arange(4), 'network = "dense"\nlatent = 1\nhidden = [4]'
    )
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "x.npy", np.zeros((30, 5), np.float32))
    assert main([str(run), "--data", str(tmp_path / "other")]) == 1
    assert "items have shape (5,), the run's (4,)" in capsys.readouterr().err


def test_charts_take_a_single_point_and_leave_out_what_is_not_finite():
    assert scatter([Point(1, 1, "<one>")], x_label="x", y_label="y").count("<circle") == 1
    drawn = lines({"a": ([1, 2, 3], [1.0, float("nan"), 2.0])}, x_label="x", y_label="y")
    assert drawn.count("<circle") == 2
    assert "Nothing was recorded" in lines({"a": ([], [])}, x_label="x", y_label="y")


def test_a_short_stretch_of_a_logarithmic_axis_has_values_too():
    drawn = lines({"a": ([1, 2], [0.151, 0.158])}, x_label="x", y_label="y", log_y=True)
    assert len(re.findall(r'text-anchor="end">0\.1', drawn)) >= 2


def test_samples_are_as_black_and_white_as_the_data():
    from train.autoencoder.pictures import Look, gallery

    item = np.full((1, 2, 2, 1), 1.0, np.float32)
    item[0, 0, 0] = -0.3
    ones = np.ones((2, 2, 1), np.float32)
    black = np.where(item < 0, np.float32(0), item)
    assert gallery(item, Look(ones, ones)) == gallery(black, Look(ones, ones))
