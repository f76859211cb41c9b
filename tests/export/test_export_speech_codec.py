"""The speech codec from a config to a bundle, and what the package does with it."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx

from edgeae.errors import BitstreamError, BundleError, UnknownCodec
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from edgeae.signal.speech_codec import SpeechCodec
from edgeae.signal.speech_signal import Ear, Voice
from export.__main__ import main as export_main
from export.torch_graph import write_torch_graph
from train.__main__ import main as train_main
from train.checkpoint import load_checkpoint
from train.speech.codec_network import SpeechCodec as Network
from train.speech.codec_signal import heard, pulses, tracked
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


def test_a_file_comes_back_in_its_shape_and_type(codec, talk):
    sizes = []
    for quality in (1, 5, 9):
        blob = codec.compress(talk, sample_rate=16_000, quality=quality)
        assert blob == codec.compress(talk, quality=quality)
        restored = codec.decompress(blob)
        assert restored.shape == talk.shape and restored.dtype == np.float32
        assert np.isfinite(restored).all() and np.array_equal(restored, codec.decompress(blob))
        sizes.append(len(blob))
    assert sizes[0] < sizes[2]
    for samples in (1, 319, 320, 321):
        assert codec.decompress(codec.compress(talk[:samples])).shape == (samples,)
    both = np.stack([talk, talk[::-1]], axis=1)
    whole = np.rint(32767 * both).astype(np.int16)
    found = codec.decompress(codec.compress(whole, quality=3))
    assert found.dtype == np.int16 and found.shape == both.shape
    alone = codec.decompress(codec.compress(whole[:, 1], quality=3))
    assert np.array_equal(found[:, 1], alone)
    assert len(codec.compress(talk, max_bytes=sizes[1])) <= sizes[1]


def test_files_longer_than_a_block_go_on(codec, talk):
    long = np.tile(talk, 8)[: 320 * 400 + 7]
    restored = codec.decompress(codec.compress(long, quality=2))
    short = codec.decompress(codec.compress(long[:64_000], quality=2))
    assert restored.shape == long.shape
    # Nothing later bears on what came before.
    assert np.allclose(restored[:63_000], short[:63_000], atol=1e-6)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_stream_says_what_the_file_says(codec, talk, frames):
    whole = codec.decompress(codec.compress(talk, quality=5))
    sender = codec.stream(quality=5, packet_frames=frames)
    packets, rng = [], np.random.default_rng(0)
    begin = 0
    while begin < len(talk):
        end = begin + int(rng.integers(1, 900))
        packets += sender.send(talk[begin:end])
        begin = end
    packets += sender.end()
    receiver = codec.listen(sender.opening)
    said = np.concatenate([receiver.receive(packet) for packet in packets])
    assert len(packets) == -(-(len(talk) + 320) // (320 * frames)) and said.dtype == np.float32
    # Rounding may lean otherwise where a packet begins, as it knows less.
    steps = said[320:][: len(talk)] - whole
    assert np.sqrt(np.mean(steps**2)) < 0.5 * np.sqrt(np.mean(whole**2))
    again = codec.listen(sender.opening)
    assert np.array_equal(said, np.concatenate([again.receive(packet) for packet in packets]))


def test_lost_packets_are_concealed_without_clicks_and_silence_follows_a_long_gap(codec, talk):
    sender = codec.stream(quality=5, packet_frames=1)
    packets = [*sender.send(talk), *sender.end()]
    assert len(packets) == 55
    receiver = codec.listen(sender.opening)
    said = [receiver.receive(packet) for packet in packets[:20]]
    said.append(receiver.receive(packets[23]))
    assert len(said[-1]) == 4 * 320
    # What was given up is not said any more.
    assert len(receiver.receive(packets[21])) == len(receiver.receive(packets[23])) == 0
    said.append(receiver.lost(20))
    assert np.abs(said[-1][-320 * 5 :]).max() == 0 < np.abs(said[-1][:320]).max()
    said.append(receiver.receive(packets[44]))
    assert len(said[-1]) == 320 and np.isfinite(np.concatenate(said)).all()
    # A gain that comes and goes leaves no edge: the first sample after the gap is nearly silent.
    assert abs(said[-1][0]) < 0.02 * np.abs(said[-1]).max() + 1e-6


def test_pieces_of_a_stream_that_cannot_be_are_refused(codec, talk):
    sender = codec.stream(packet_frames=2, number=7, channels=2, dtype="int16")
    packets = sender.send(np.stack([talk, talk], axis=1))
    receiver = codec.listen(sender.opening)
    assert receiver.receive(packets[0]).shape == (640, 2)
    other = codec.stream(packet_frames=2, number=8, channels=2)
    for wrong in (packets[1][:-1], b"", sender.opening, other.send(np.zeros((640, 2)))[0]):
        with pytest.raises(BitstreamError):
            receiver.receive(wrong)
    for byte in range(len(packets[1])):
        damaged = bytearray(packets[1])
        damaged[byte] ^= 4
        with pytest.raises(BitstreamError):
            receiver.receive(bytes(damaged))
    with pytest.raises(BitstreamError):
        codec.listen(packets[0])
    with pytest.raises(ValueError, match="audio has 1 channels, expected 2"):
        sender.send(talk)


def test_damage_is_found_and_strangers_are_refused_by_name(codec, talk):
    blob = codec.compress(talk[:3000], quality=3)
    for cut in range(len(blob)):
        with pytest.raises(BitstreamError):
            codec.decompress(blob[:cut])
    for byte in range(len(blob)):
        damaged = bytearray(blob)
        damaged[byte] ^= 1
        with pytest.raises(BitstreamError):
            codec.decompress(bytes(damaged))
    from edgeae.coding import container

    body = bytearray(blob[:-4])
    body[2:6] = b"ABCD"
    with pytest.raises(UnknownCodec):
        codec.decompress(container.sealed(bytes(body)))


def test_misuse_is_told(codec, talk):
    for arguments, message in (
        ({"sample_rate": 8000}, "sample_rate is 8000, expected 16000"),
        ({"quality": 0}, "quality is 0"),
        ({"quality": 3, "max_bytes": 100}, "one of quality and max_bytes"),
        ({"max_bytes": 10}, "expected at least"),
    ):
        with pytest.raises(ValueError, match=message):
            codec.compress(talk, **arguments)
    with pytest.raises(ValueError, match="at least one sample"):
        codec.compress(talk[:0])
    with pytest.raises(ValueError, match="NaN"):
        codec.compress(np.full(400, np.nan, np.float32))
    for arguments, message in (
        ({"packet_frames": 0}, "packet_frames is 0"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"number": 128}, "number is 128"),
    ):
        with pytest.raises(ValueError, match=message):
            codec.stream(**arguments)


def test_silence_is_finite_and_costs_less_than_speech(codec, talk):
    silent = codec.compress(np.zeros_like(talk), quality=5)
    assert np.isfinite(codec.decompress(silent)).all()
    assert len(silent) < len(codec.compress(talk, quality=5))


def test_a_codec_is_copied_by_its_path(codec, talk):
    other = copy.deepcopy(codec)
    assert other.compress(talk) == codec.compress(talk) and "40 ms" in repr(other)
    assert set(codec.report()["graphs"]) == set(codec.graphs)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("latent.model", "flow", "model is 'flow', expected 'pulses-and-noise'"),
        ("latent.slices", [2, 6], "slices are"),
        ("latent.reach", 0, "reach is 0"),
        ("layout.sample_rate_hz", 8000, "sample_rate_hz is 8000, expected 16000"),
        ("stream.encoder_state", {"memory0": [1, "x"]}, "encoder_state has"),
        ("stream.decoder_state", {"memory0": [1, 17]}, "decoder.fp32.onnx takes"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(bundle, tmp_path, key, value, message):
    from export.bundle import codec_id

    copied = tmp_path / "copy"
    shutil.copytree(bundle, copied)
    manifest = json.loads((copied / "manifest.json").read_text())
    section, name = key.split(".")
    manifest[section][name] = value
    manifest["codec_id"] = codec_id(copied, manifest)
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=message):
        SpeechCodec.load(copied)


def test_the_package_hears_and_speaks_as_training_does(talk):
    audio = np.ascontiguousarray(talk[: 320 * 50])
    powers, correlation = heard(torch.from_numpy(audio)[None])
    index = tracked(correlation)
    ear, voice = Ear(), Voice()
    train = pulses(index)
    tones = Network.windows(train)[0].numpy()
    for t, frame in enumerate(audio.reshape(-1, 320)):
        power, correlated = ear.hear(frame)
        np.testing.assert_allclose(power, powers[0, t], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(correlated, correlation[0, t], atol=2e-3)
        assert ear.pitch == index[0, t]
        spectra, _ = voice.speak(ear.pitch)
        np.testing.assert_allclose(spectra[0], tones[t], atol=2e-2)
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
