"""What `--init` writes trains as it is, and says why it is so."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from train.__main__ import main
from train.autoencoder.first_config import first_config
from train.config import read_config

RNG = np.random.default_rng(0)


def pictures(folder):
    for i in range(12):
        size = (33 + i % 2, 40)
        Image.fromarray(RNG.integers(0, 255, (*size, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.jpg").write_bytes(b"nothing")


def digits(folder):
    np.save(folder / "x.npy", RNG.random((60, 8, 8)))


def table(folder):
    mixed = RNG.normal(size=(90, 2)) @ RNG.normal(size=(2, 5))
    lines = ["id,kind,a,b,c,d,e"]
    for i, row in enumerate(mixed):
        cells = [f"{value:.4f}" if (i + k) % 9 else "" for k, value in enumerate(row)]
        lines.append(f"{i},{'red' if i % 2 else 'blue'},{','.join(cells)}")
    (folder / "t.csv").write_text("\n".join(lines) + "\n")


def sensors(folder):
    time = np.arange(400) / 9
    lines = ["timestamp;speed;load"]
    lines += [f"2026-01-01T00:{t:.3f};{np.sin(t):.4f};{np.cos(t / 3):.4f}" for t in time]
    (folder / "s.csv").write_text("\n".join(lines) + "\n")


def ratings(folder):
    lines = ["userId,movieId,rating,timestamp"]
    lines += [f"u{i % 20},m{(i * 7) % 15},{RNG.integers(1, 6)},{i}" for i in range(200)]
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")


KINDS = {
    pictures: ("conv2d", (32, 32, 3), "side_pixels = 32  #"),
    digits: ("conv2d", (8, 8, 1), "is 60 x 8 x 8: taken as pictures"),
    table: ("dense", (5,), "id: it counts up evenly, as a time or an index; kind: text such as"),
    sensors: ("conv1d", (64, 2), "timestamp: text such as"),
    ratings: ("dense", (15,), 'pivot = ["userId", "movieId", "rating"]'),
}


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_what_is_written_trains(make, tmp_path, one_thread, capsys):
    network, shape, told = KINDS[make]
    data = tmp_path / "My Data"
    data.mkdir()
    make(data)
    target = tmp_path / "first.toml"
    assert main([str(target), "--init", str(data)]) == 0
    assert told in target.read_text() and "python -m train" in capsys.readouterr().out
    config = read_config(target)
    assert (config.name, config.network.network) == ("my-data", network)
    assert main([str(target), "--steps", "3", "--out", str(tmp_path / "run")]) == 0
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert tuple(saved["averaged"]["mean"].shape) == shape
    assert config.network.masked == (make in (table, ratings))


def test_latents_are_as_many_as_the_data_have_directions(tmp_path):
    np.save(tmp_path / "x.npy", RNG.normal(size=(300, 6)) @ RNG.normal(size=(6, 40)))
    text = first_config(tmp_path)
    assert "latent = 6  # 6 principal components hold 95% of the variance" in text


def test_a_config_is_not_replaced_and_nothing_to_read_is_told(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    command = [str(tmp_path / "c.toml"), "--init", str(tmp_path / "data")]
    assert main(command) == 1
    assert "holds no pictures, tables" in capsys.readouterr().err
    (tmp_path / "c.toml").write_text("mine")
    assert main(command) == 1
    assert "expected --force" in capsys.readouterr().err
    assert (tmp_path / "c.toml").read_text() == "mine"
    assert main([str(tmp_path / "d.toml"), "--init", str(tmp_path / "nowhere")]) == 1
    assert "is not a folder" in capsys.readouterr().err
