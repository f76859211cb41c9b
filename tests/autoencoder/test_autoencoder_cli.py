"""`edgeae latents` and `edgeae sample`: files in, files out, one line for what is wrong."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from PIL import Image
from test_autoencoder import items, projection
from typer.testing import CliRunner

import edgeae
from edgeae.cli.app import app


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path):
    return projection(tmp_path / "model")


def test_latents_of_an_array_are_those_of_encode(model, tmp_path):
    np.save(tmp_path / "x.npy", items(5))
    done = run("latents", tmp_path / "x.npy", tmp_path / "z.npy", "--model", model)
    assert done.exit_code == 0 and "5 items of 2 latents" in done.output
    codes = np.load(tmp_path / "z.npy")
    np.testing.assert_array_equal(codes, edgeae.load(model).encode(items(5)))
    assert run("latents", tmp_path / "x.npy", tmp_path / "z.csv", "--model", model).exit_code == 0
    rows = list(csv.reader((tmp_path / "z.csv").read_text().splitlines()))
    assert rows[0] == ["name", "latent_0", "latent_1"] and rows[1][0] == "x.npy[0]"
    np.testing.assert_array_equal(np.array([r[1:] for r in rows[1:]], np.float32), codes)


def test_a_page_shows_every_point_and_loads_nothing(model, tmp_path):
    np.save(tmp_path / "x.npy", items(30))
    out = tmp_path / "z.npy"
    done = run("latents", tmp_path / "x.npy", out, "--model", model, "--plot", tmp_path / "p.html")
    assert done.exit_code == 0
    page = (tmp_path / "p.html").read_text()
    assert page.count("<circle") == 30
    assert not re.search(r"(src|href)=.https?:", page)


def test_pictures_of_a_folder(tmp_path):
    model = projection(tmp_path / "m", kind="image", shape=(2, 2, 1), dtype="uint8")
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.fromarray(np.full((2, 2), 60 * i, np.uint8)).save(tmp_path / "in" / f"{i}.png")
    assert run("latents", tmp_path / "in", tmp_path / "z.npy", "--model", model).exit_code == 0
    np.testing.assert_allclose(
        np.load(tmp_path / "z.npy")[:, 0], [0, 120 / 255, 240 / 255], atol=1e-5
    )


def test_gray_pictures_need_no_axis_of_channels(tmp_path):
    model = projection(tmp_path / "m", kind="image", shape=(2, 2, 1), dtype="uint8")
    pictures = np.random.default_rng(0).random((3, 2, 2)).astype(np.float32)
    expected = edgeae.load(model).encode(pictures[..., None])
    for shown, codes in ((pictures, expected), (pictures[0], expected[:1])):
        np.save(tmp_path / "x.npy", shown)
        done = run("latents", tmp_path / "x.npy", tmp_path / "z.npy", "--model", model, "--force")
        assert done.exit_code == 0
        np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), codes)


def test_samples_are_those_of_the_seed(model, tmp_path):
    out = tmp_path / "s.npy"
    assert run("sample", model, out, "-n", 7, "--seed", 3).exit_code == 0
    np.testing.assert_array_equal(np.load(out), edgeae.load(model).sample(7, seed=3))
    again = run("sample", model, out)
    assert again.exit_code == 1 and "--force" in again.output
    image = projection(tmp_path / "m", kind="image", shape=(2, 2, 1), dtype="uint8")
    assert run("sample", image, tmp_path / "s.png", "-n", 5).exit_code == 0
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (8, 5)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["latents", "x.npy", "z.txt"], 1, "expected .npy or .csv"),
        (["latents", "nowhere.npy", "z.npy"], 1, "nowhere.npy"),
        (["latents", "wrong.npy", "z.npy"], 1, "expected (4,)"),
        (["latents", "broken.npy", "z.npy"], 1, "no .npy file"),
        (["sample", "s.png"], 2, "expected .npy"),
    ],
)
def test_what_cannot_be_done_is_one_line(model, tmp_path, monkeypatch, arguments, code, told):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", items(2))
    np.save("wrong.npy", np.zeros((2, 3), np.float32))
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00")
    verb, *rest = arguments
    given = [verb, *rest, "--model", model] if verb == "latents" else [verb, model, *rest]
    done = run(*given)
    assert done.exit_code == code
    assert told in " ".join(done.output.split()) and "Traceback" not in done.output
