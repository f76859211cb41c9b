"""From a folder of data to an autoencoder's bundle by the two commands, for every network."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import export.__main__ as exporting
import train.__main__ as training
from edgeae.autoencoder import Autoencoder
from edgeae.bundle import find
from train.checkpoint import load_checkpoint

NETWORKS = {
    "dense": ('network = "dense"\nlatent = 3\nhidden = [16]\nmasked = true', "", (6,)),
    "conv1d": ('network = "conv1d"\nlatent = 4\nhidden = [4, 8]', "window_samples = 20", (20, 2)),
    "conv2d": ('network = "conv2d"\nlatent = 4\nhidden = [4, 8]', "", (10, 7, 1)),
    "variational": (
        'network = "dense"\nlatent = 3\nhidden = [16]\nvariational = true',
        "",
        (6,),
    ),
    "sparse": (
        'network = "dense"\nlatent = 8\nhidden = [16]\nlatent_activation = "relu"\nactive = 3',
        "",
        (6,),
    ),
}
CONFIG = """
name = "mine"
task = "autoencoder"
[network]
{network}
[data]
{data}
[loss]
{loss}
[optimize]
steps = 30
batch_size = 32
learning_rate = 3e-3
warmup_steps = 5
ema_decay = 0.9
precision = "float32"
[validate]
every_steps = 15
"""


@pytest.fixture(scope="module", params=NETWORKS)
def bundle(request, tmp_path_factory):
    """A bundle made by both commands, and the checkpoint it came from."""
    tmp_path = tmp_path_factory.mktemp("autoencoder")
    network, data, shape = NETWORKS[request.param]
    rng = np.random.default_rng(0)
    if len(shape) == 2:
        time = np.arange(900) / 9
        items = np.stack([np.sin(time), np.cos(0.7 * time)], 1) + 0.05 * rng.normal(size=(900, 2))
    else:
        size = int(np.prod(shape))
        items = (rng.normal(size=(200, 3)) @ rng.normal(size=(3, size))).reshape(200, *shape)
        if "masked" in network:
            items[rng.random(items.shape) < 0.1] = np.nan
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "x.npy", items.astype(np.float32))
    loss = "kl = 1.0" if "variational" in network else ""
    text = CONFIG.format(network=network, data="folders = []\n" + data, loss=loss)
    (tmp_path / "mine.toml").write_text(text)
    run, out = tmp_path / "run", tmp_path / "bundle"
    command = [tmp_path / "mine.toml", "--data", tmp_path / "data", "--out", run]
    assert training.main([str(part) for part in command]) == 0
    assert exporting.main([str(run / "best.pt"), str(out)]) == 0
    return out, run / "best.pt", shape


def test_the_bundle_does_what_torch_does(bundle):
    out, checkpoint, shape = bundle
    model = Autoencoder.load(out, precision="fp32")
    assert model.shape == shape
    config, state = load_checkpoint(checkpoint)
    from train.autoencoder.network import Autoencoder as Network

    network = Network(config.network, shape)
    network.load_state_dict(state["averaged"])
    network.eval()
    x = model.sample(5, seed=1)
    with torch.no_grad():
        latents = network.encode(torch.from_numpy(x))[0].numpy()
        restored = network(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(model.encode(x), latents, atol=1e-4 * np.abs(latents).max())
    np.testing.assert_allclose(model.reconstruct(x), restored, atol=1e-4 * np.abs(restored).max())
    known = np.random.default_rng(2).random(x.shape) < 0.6
    np.testing.assert_array_equal(model.fill(x, known)[known], x[known])


def test_the_bundle_is_a_codec_of_such_data(bundle):
    out, _, shape = bundle
    for precision in find(out).manifest.graphs["decoder"]:
        model = Autoencoder.load(out, precision=precision)
        x = model.sample(200, seed=3)
        assert x.shape == (200, *shape)
        whole = model.reconstruct(x)
        sizes, added = [], []
        for quality in (1, 5, 9):
            blob = model.compress(x, quality=quality)
            sizes.append(len(blob))
            added.append(float(np.square(model.decompress(blob) - whole).mean()))
        assert sizes == sorted(sizes) and added == sorted(added, reverse=True)
        # A quality is a factor of two in what rounding adds, and rounds less than half as finely.
        assert added[2] < added[1] / 4 < added[0] / 16


def test_data_of_another_shape_are_refused_by_export(bundle, tmp_path, capsys):
    _, checkpoint, shape = bundle
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "x.npy", np.zeros((50, *(size + 1 for size in shape)), np.float32))
    command = [str(checkpoint), str(tmp_path / "b"), "--calibration", str(tmp_path / "other")]
    assert exporting.main(command) == 1
    assert "shape" in capsys.readouterr().err
