"""Parts of a trained network go into another, and what is frozen stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from train.__main__ import main
from train.checkpoint import load_checkpoint

CONFIG = """
name = "mine"
task = "autoencoder"
[network]
network = "dense"
latent = {latent}
hidden = [8]
[data]
folders = []
[loss]
[optimize]
steps = 12
batch_size = 16
learning_rate = 1e-2
warmup_steps = 2
ema_decay = 0.5
precision = "float32"
[validate]
every_steps = 6
"""


@pytest.fixture
def train(tmp_path, one_thread):
    """Trains on one of two data sets, into a folder; the exit code."""
    rng = np.random.default_rng(0)
    for name, shift in (("shipped", 0), ("own", 5)):
        (tmp_path / name).mkdir()
        items = shift + rng.normal(size=(100, 3)) @ rng.normal(size=(3, 6))
        np.save(tmp_path / name / "x.npy", items.astype(np.float32))

    def run(data, out, *options, latent=3):
        (tmp_path / "c.toml").write_text(CONFIG.format(latent=latent))
        given = [tmp_path / "c.toml", "--data", tmp_path / data, "--out", tmp_path / out, *options]
        return main([str(part) for part in given])

    return run


def weights(tmp_path, out):
    return load_checkpoint(tmp_path / out / "last.pt")[1]["averaged"]


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_part_is_taken_and_frozen_and_the_rest_learns(train, tmp_path, part):
    assert train("shipped", "a") == 0
    best = tmp_path / "a" / "last.pt"
    options = ("--start-from", best, "--take", part, "--freeze", part)
    assert train("own", "b", *options) == 0
    before, after = weights(tmp_path, "a"), weights(tmp_path, "b")
    for name, value in after.items():
        same = torch.equal(value, before[name])
        assert same == (name.startswith(part) or name in ("mean", "scale")), name
    config, state = load_checkpoint(tmp_path / "b" / "last.pt")
    assert config.optimize.freeze == (f"{part}.",)
    assert state["before"][0]["step"] == 12
    # To go on, the run needs not be told again.
    assert train("own", "b", "--resume", "--steps", 14) == 0
    resumed = weights(tmp_path, "b")
    assert all(torch.equal(resumed[n], before[n]) for n in before if n.startswith(part))


def test_the_rest_begins_fitted_to_what_was_taken(train, tmp_path):
    from train.autoencoder.network import Autoencoder

    assert train("shipped", "a") == 0
    config, state = load_checkpoint(tmp_path / "a" / "last.pt")
    source = Autoencoder(config.network, (6,))
    source.load_state_dict(state["averaged"])
    fresh = Autoencoder(config.network, (6,))
    x = torch.from_numpy(np.load(tmp_path / "shipped" / "x.npy"))
    known = torch.ones_like(x)
    fresh.start_linear(x, known)
    fresh.encoder.load_state_dict(source.encoder.state_dict())
    for name in ("mean", "scale"):
        fresh.get_buffer(name).copy_(source.get_buffer(name))
    fresh.complete(("encoder",), x, known)
    with torch.no_grad():
        latents = fresh.encode(x)[0].double()
        normal = fresh.normalize(x).double()
        basis = torch.linalg.qr(latents).Q
        best = (normal - basis @ (basis.T @ normal)).square().mean()
        got = (fresh.normalize(fresh(x)[0]).double() - normal).square().mean()
    assert float(got) == pytest.approx(float(best), rel=1e-3, abs=1e-9)


def test_parts_that_are_not_there_are_named(train, tmp_path, capsys):
    assert train("shipped", "a") == 0
    best = tmp_path / "a" / "best.pt"
    capsys.readouterr()
    for options, told in (
        (("--start-from", best, "--take", "head"), "no part 'head', expected one of decoder, enc"),
        (("--freeze", "head"), "optimize.freeze names 'head.', expected the beginning"),
        (("--freeze", "encoder", "decoder"), "nothing is left to train"),
        (("--take", "encoder"), "without --start-from"),
    ):
        assert train("own", "b", *options) == 1
        assert told in capsys.readouterr().err
    assert train("own", "b", "--start-from", best, "--take", "encoder", latent=2) == 1
    assert "another network than the config" in capsys.readouterr().err
