"""The speech codec from a config to a bundle that agrees with torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx

from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from edgeae.signal.speech_codec import SpeechCodec
from edgeae.signal.speech_signal import Ear, Voice
from edgeae.signal.speech_stream import FRAMES_OF_A_GRAPH
from export.__main__ import main as export_main
from export.torch_graph import write_torch_graph
from train.__main__ import main as train_main
from train.checkpoint import load_checkpoint
from train.speech.codec_network import SpeechCodec as Network
from train.speech.codec_signal import fine_structure, heard, pulses, tracked
from train.speech.made import made_voice

SMOKE = Path(__file__).parents[2] / "train" / "configs" / "smoke-speech-codec.toml"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps."""
    home = tmp_path_factory.mktemp("voice")
    config = SMOKE.read_text().replace("steps = 60", "steps = 2").replace("steps = 5", "steps = 1")
    (home / "voice.toml").write_text(config)
    assert train_main([str(home / "voice.toml"), "--out", str(home / "run")]) == 0
    return home / "run"


@pytest.fixture(scope="module")
def bundle(run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.speech_codec._PIECES", 16)
        assert export_main([str(run), str(run.parent / "my-voice")]) == 0
    return run.parent / "my-voice"


@pytest.fixture(scope="module")
def codec(bundle):
    return SpeechCodec.load(bundle)


@pytest.fixture(scope="module")
def talk():
    """A second and a bit of a made voice, float32 (17,001,)."""
    voice = made_voice(2, np.random.default_rng(0))[9000:26_001]
    return (0.3 * voice / np.abs(voice).max()).astype(np.float32)


def test_an_export_gives_graphs_that_are_held_against_torch(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["task"] == "codec" and manifest["layout"]["kind"] == "audio"
    assert set(manifest["graphs"]) == {"encoder", "decoder", *(f"context{i}" for i in range(4))}
    figures = manifest["figures"]
    assert figures["context_integer_cost"] < 0.03
    rates = list(figures["bit_per_s_on_calibration"].values())
    assert rates == sorted(rates) and rates[0] > 0
    for role in ("encoder", "decoder"):
        graph = onnx.load(bundle / f"{role}.fp32.onnx").graph
        matrices = [w for w in graph.initializer if len(w.dims) == 2 and min(w.dims) > 1]
        assert matrices and all(w.data_type == onnx.TensorProto.FLOAT16 for w in matrices)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_graphs_say_the_same_of_frames_at_once_and_one_by_one(codec, role):
    graph, rng = codec.graphs[role], np.random.default_rng(0)
    free = [port for port in graph.inputs if not isinstance(port.shape[0], int)]
    given = [rng.random((FRAMES_OF_A_GRAPH, *port.shape[1:])).astype(np.float32) for port in free]
    # Far beyond what a network is told, so that cells forget all they may.
    given[0][3] *= 1000
    empty = [np.zeros(port.shape, np.float32) for port in graph.inputs[len(free) :]]
    whole, *states = graph(*given, *empty)
    parts = []
    for t in range(FRAMES_OF_A_GRAPH):
        part, *empty = graph(*(array[t : t + 1] for array in given), *empty)
        parts.append(part)
    for once, others in zip([whole, *states], [np.concatenate(parts), *empty], strict=True):
        np.testing.assert_allclose(once, others, rtol=1e-4, atol=1e-4)
        assert np.abs(once).max() > 1e-3


def test_one_tensor_for_two_arguments_of_a_graph_makes_two_ports(tmp_path):
    class Difference(torch.nn.Module):
        def forward(self, a, b):
            return a - 2 * b

    same = torch.zeros(1, 1)
    write_torch_graph(
        Difference(), (same, same), tmp_path / "g.onnx", name="g", inputs=["a", "b"], outputs=["y"]
    )
    graph = Graph(read_graph(tmp_path / "g.onnx"))
    (found,) = graph(np.float32([[3]]), np.float32([[1]]))
    assert found.item() == 1


def test_the_package_hears_and_speaks_as_training_does(talk):
    audio = np.ascontiguousarray(talk[: 320 * 50])
    powers, correlation = heard(torch.from_numpy(audio)[None])
    index = tracked(correlation)
    ear, voice = Ear(), Voice()
    train = pulses(index)
    tones = Network.windows(train)[0].numpy()
    fine = fine_structure(torch.from_numpy(audio)[None], torch.from_numpy(tones)[None])[0]
    frames, begin = audio.reshape(-1, 320), 0
    # However many frames come at a time.
    for count in (1, 2, 17, 30):
        here = slice(begin, begin + count)
        power, correlated, pitches, told = ear.hear(frames[here])
        np.testing.assert_allclose(told, fine[here], atol=5e-2)
        np.testing.assert_allclose(power, powers[0, here], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(correlated, correlation[0, here], atol=2e-3)
        assert np.array_equal(pitches, index[0, here])
        spectra, _ = voice.speak(pitches)
        np.testing.assert_allclose(spectra, tones[here], atol=2e-2)
        begin += count
    assert begin == len(frames)
    assert index.unique().numel() > 3


def test_integer_contexts_say_the_same_step_by_step_and_at_once(codec, run):
    config, state = load_checkpoint(run / "last.pt")
    network = Network(config.network)
    network.load_state_dict(state["averaged"])
    rng = np.random.default_rng(0)
    symbols = rng.integers(-4, 5, (8, 40)).astype(np.int32)
    coder = codec.coder
    whole = coder.contexts.distribution(coder.contexts.past(), symbols, 32)
    past = coder.contexts.past()
    for begin, end in ((0, 1), (1, 2), (2, 17), (17, 40)):
        part = coder.contexts.distribution(past, symbols[:, begin:end], 32)
        past.add(symbols[:, begin:end])
        assert np.array_equal(part.index, whole.index[:, begin:end])
        assert np.array_equal(part.middle, whole.middle[:, begin:end])
    block = coder.encode(coder.contexts.past(), symbols, 32)
    assert np.array_equal(coder.decode(coder.contexts.past(), 40, block, 32), symbols)
    with torch.no_grad():
        given = torch.from_numpy(symbols).float()[None, :, None]
        _, middle = network.context.distribution(given, torch.tensor([0.5]))
    assert np.abs(whole.middle / 8 - middle[0, :, 0].numpy()).max() < 0.3
