"""The speech denoiser in training: one network, run whole or hop by hop, on honest mixes."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from speech_data import MADE

from export.dnsmos import quality_model_file, write_quality_model
from train.checkpoint import CheckpointError, save_checkpoint
from train.config import ConfigError, config_from_dict, read_config
from train.run import load_start
from train.speech.data import (
    SpeechMixer,
)
from train.speech.dnsmos import SCALES, QualityModel, quality_arrays
from train.speech.hop import SpeechHop
from train.speech.loss import (
    SpeechLoss,
    audio_of,
    intelligibility,
    si_sdr_db,
    spectrum_of,
    speech_loss,
)
from train.speech.made import made_voice
from train.speech.network import SpeechDenoiser, SpeechNetwork, gated_memory
from train.speech.recipe import SpeechRecipe

CONFIGS = Path(__file__).parents[2] / "train" / "configs"
SMALL = SpeechNetwork(
    band_widths=(8, 16), band_counts=(16, 8), channels=16, memory=12, hidden=20, wide=(0, 0)
)


pytestmark = pytest.mark.usefixtures("one_thread")


def _spectrum(audio):
    return spectrum_of(torch.as_tensor(audio), window_samples=512, hop_samples=256)


def _audible(config):
    """A network whose memory and mixing matter: its first weights are small."""
    network = SpeechDenoiser(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"frames": 3},
        {"frames": 1},
        {"wide": (10, 7), "squeeze": 3},
        {"wide": (0, 10, 0), "forgetting": 0.1},
        {"filter_bands": 10, "lowest_bin": 2},
        {"filter_bands": 20, "filter_frames": 2},
        {"filter_bands": 18, "filter_frames": 4, "frames": 1},
    ],
)
def test_step_by_step_equals_the_whole_sequence(changes):
    network = _audible(dataclasses.replace(SMALL, **changes))
    spectrum = _spectrum(0.1 * torch.randn(1, 30 * 256))
    step = SpeechHop(network)
    states = [torch.zeros(shape) for shape in network.state_shapes().values()]
    with torch.no_grad():
        whole = network(spectrum)
        for t in range(whole.shape[2]):
            hop, *states = step(spectrum[:, :, t], *states)
            assert (hop - whole[:, :, t]).abs().max() < 1e-5 * whole.abs().max()


def test_a_wide_memory_begins_by_adding_nothing():
    torch.manual_seed(3)
    plain = SpeechDenoiser(SMALL)
    larger = SpeechDenoiser(dataclasses.replace(SMALL, wide=(0, 10)))
    larger.load_state_dict({**larger.state_dict(), **plain.state_dict()})
    spectrum = _spectrum(0.1 * torch.randn(1, 30 * 256))
    with torch.no_grad():
        assert torch.allclose(plain(spectrum), larger(spectrum), rtol=1e-3)


def test_a_gate_closes_what_the_weights_leave_open():
    network = SpeechDenoiser(SMALL).eval()
    spectrum = _spectrum(0.1 * torch.randn(1, 10 * 256))
    with torch.no_grad():
        open_ = network(spectrum)
        network.decoder_bias[..., -1] -= 13.0
        closed = network(spectrum)
    assert closed.abs().max() < 1e-4 * open_.abs().max()


def test_bins_below_the_lowest_are_silenced_and_stay_so_in_training():
    network = _audible(dataclasses.replace(SMALL, lowest_bin=3, filter_bands=4))
    clean = network(_spectrum(0.1 * torch.randn(1, 10 * 256)))
    assert (clean[..., :3] == 0).all() and (clean[..., 3:].abs().amax((0, 1, 2)) > 0).all()
    clean.square().mean().backward()
    assert (network.decoder.grad[0, :, :3] == 0).all()


def test_the_denoiser_leaves_the_phase_as_it_is():
    network = _audible(SMALL)
    spectrum = _spectrum(0.1 * torch.randn(1, 10 * 256))
    with torch.no_grad():
        clean = network(spectrum)
    across = clean[:, 0] * spectrum[:, 1] - clean[:, 1] * spectrum[:, 0]
    assert across.abs().max() < 1e-5 * spectrum.square().max()
    assert clean.abs().max() < 1.6 * spectrum.abs().max()


@pytest.mark.parametrize("wide", [(0,), (0, 10)])
def test_the_future_never_changes_the_past(wide):
    network = _audible(dataclasses.replace(SMALL, wide=wide))
    audio = 0.1 * torch.randn(1, 40 * 256)
    changed = audio.clone()
    changed[0, 5000] += 0.5
    with torch.no_grad():
        outputs = [audio_of(network(_spectrum(x)), window_samples=512) for x in (audio, changed)]
    difference = (outputs[0] - outputs[1]).abs()[0]
    # The first window that holds sample 5000 begins at the hop at or after 5000 - 511.
    assert difference[:4608].max() == 0
    assert difference[4608:].max() > 0


def test_a_sequence_does_not_depend_on_the_others_in_its_batch():
    network = _audible(dataclasses.replace(SMALL, wide=(10, 10), filter_bands=18))
    spectrum = _spectrum(0.1 * torch.randn(3, 20 * 256))
    with torch.no_grad():
        together, alone = network(spectrum)[1:2], network(spectrum[1:2])
    assert torch.allclose(together, alone, atol=1e-5 * float(alone.abs().max()))


@pytest.mark.parametrize("bands", [0, 18])
def test_silence_stays_silent(bands):
    network = _audible(dataclasses.replace(SMALL, filter_bands=bands))
    audio = torch.zeros(1, 20 * 256)
    audio[0, 10 * 256 :] = 0.1 * torch.randn(10 * 256)
    with torch.no_grad():
        clean = network(_spectrum(audio))
    assert torch.isfinite(clean).all()
    assert clean[:, :, :9].abs().max() == 0
    assert clean[:, :, 12:].abs().max() > 0


@pytest.mark.parametrize("bands", [0, 18])
def test_the_level_of_the_input_is_the_level_of_the_output(bands):
    network = _audible(dataclasses.replace(SMALL, filter_bands=bands))
    audio = 0.1 * torch.randn(1, 20 * 256)
    with torch.no_grad():
        loud, soft = network(_spectrum(audio)), network(_spectrum(audio / 16)) * 16
    assert (loud - soft).abs().max() < 1e-2 * loud.abs().max()


@pytest.mark.parametrize("forgetting", [0.0, 0.25])
def test_gated_memory_has_the_gradient_it_computes(forgetting):
    projected = torch.randn(3, 6, 2, 12, dtype=torch.double, requires_grad=True)
    start = torch.randn(3, 2, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda p, s: gated_memory(p, s, forgetting)[0], (projected, start)
    )


def test_forgetting_ends_a_memory_that_keeps_everything():
    keeps = torch.full((1, 50, 1, 1), 40.0)
    projected = torch.cat((keeps, torch.zeros_like(keeps), keeps), dim=-1)
    _, kept = gated_memory(projected, torch.ones(1, 1, 1))
    _, faded = gated_memory(projected, torch.ones(1, 1, 1), 0.1)
    assert float(kept) == 1.0
    assert abs(float(faded) - 0.9**50) < 1e-6


def test_audio_comes_back_from_its_spectrum():
    audio = torch.randn(2, 12 * 256)
    back = audio_of(_spectrum(audio), window_samples=512)
    assert back.shape == audio.shape
    assert (back - audio)[:, 256:-256].abs().max() < 1e-5


def test_si_sdr_ignores_scale_and_counts_decibels():
    speech = torch.randn(1, 16_000)
    noise = torch.randn(1, 16_000)
    noise -= (noise * speech).sum() / speech.square().sum() * speech
    noisy = speech + 0.1 * noise * speech.norm() / noise.norm()
    assert abs(float(si_sdr_db(speech, 3 * noisy)) - 20) < 0.1


def test_a_perfect_estimate_costs_less_than_the_noisy_one():
    noisy, clean = map(torch.from_numpy, SpeechMixer(MADE).batch(np.random.default_rng(0), 4))
    perfect, _ = speech_loss(SpeechLoss(), _spectrum(clean), noisy, clean)
    untouched, parts = speech_loss(SpeechLoss(), _spectrum(noisy), noisy, clean)
    assert perfect < untouched
    assert set(parts) == {"compressed", "multi_resolution", "distortion", "intelligibility"}


def spoken(count=2):
    """Made voices at the level that the loss works at, (count, samples)."""
    rng = np.random.default_rng(5)
    voices = torch.from_numpy(np.stack([made_voice(i, rng) for i in range(count)]))
    return voices * torch.rsqrt(voices.square().mean(-1, keepdim=True))


def test_intelligibility_falls_with_noise_and_does_not_care_for_level():
    clean = spoken()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    found = [intelligibility(clean + gain * noise, clean).mean() for gain in (0, 0.1, 0.5, 2)]
    assert found[0] > 0.999
    assert all(a > b + 0.05 for a, b in zip(found[:-1], found[1:], strict=True))
    assert torch.allclose(intelligibility(2 * clean, clean), torch.ones(2), atol=1e-3)
    assert intelligibility(noise, torch.zeros_like(noise)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("extended_share", [0.0, 0.5, 1.0])
def test_intelligibility_is_what_the_standard_measures_find(extended_share):
    pystoi = pytest.importorskip("pystoi")
    clean = spoken()
    # A pause, which the measures leave out whatever is heard there.
    clean[:, 20_000:30_000] = 0.0
    generator = torch.Generator().manual_seed(2)
    for gain in (0.05, 0.2, 0.4, 0.8, 1.5, 3.0):
        noisy = clean + gain * torch.randn(clean.shape, generator=generator)
        ours = intelligibility(noisy, clean, extended_share=extended_share)
        for found, a, b in zip(ours, clean.numpy(), noisy.numpy(), strict=True):
            plain, extended = (pystoi.stoi(a, b, 16_000, extended=e) for e in (False, True))
            assert float(found) == pytest.approx(
                plain + extended_share * (extended - plain), abs=0.01
            )


def test_consonants_lost_cost_more_with_emphasis():
    clean = spoken()
    spectrum = torch.fft.rfft(clean)
    spectrum[:, spectrum.shape[1] // 4 :] = 0  # nothing above 2 kHz
    dull = torch.fft.irfft(spectrum, n=clean.shape[1])
    estimate = spectrum_of(dull, window_samples=512, hop_samples=256)

    def cost(emphasis_hz):
        config = SpeechLoss(multi_resolution=0.0, distortion=0.0, intelligibility=0.0)
        config = dataclasses.replace(config, emphasis_hz=emphasis_hz)
        return speech_loss(config, estimate, clean, clean)[0]

    assert cost(500.0) > 1.5 * cost(0.0) > 0


def test_the_smoke_config_learns():
    config = read_config(CONFIGS / "smoke-speech.toml")
    task = SpeechRecipe(config, torch.device("cpu"))
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=4e-3)
    before = task.validate(task.network)
    for step in range(30):
        batch = task.batch(np.random.default_rng(step))
        loss, _ = task.loss(task.network, batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = task.validate(task.network)
    expected = after["si_sdr_db"] / 20 + after["intelligibility"]
    assert after["score"] == pytest.approx(-expected, abs=1e-6)
    assert after["si_sdr_db"] > before["si_sdr_db"] + 1.0


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("network", "chanels", 3),
        ("network", "channels", "many"),
        ("data", "snr_db", 3),
        ("loss", "distortion", "high"),
    ],
)
def test_a_misspelt_or_mistyped_key_is_refused(section, key, value):
    raw = {
        "name": "x",
        "task": "speech-denoiser",
        "network": {},
        "data": {"speech": ["synthetic"], "noise": ["synthetic"]},
        "loss": {},
        "optimize": {"steps": 1, "batch_size": 1, "learning_rate": 1e-3},
    }
    assert config_from_dict(raw).name == "x"
    raw[section][key] = value
    with pytest.raises(ConfigError, match=key):
        config_from_dict(raw)


@pytest.mark.parametrize(
    "changes",
    [
        {"band_counts": (16, 9)},
        {"span_bins": 8},
        {"hop_samples": 128},
        {"wide": ()},
        {"wide": (0, -1)},
        {"squeeze": 0},
        {"level_decay": 1.0},
        {"lowest_bin": 8},
        {"filter_bands": -1},
        {"filter_bands": 24},
        {"filter_bands": 4, "filter_frames": 1},
    ],
)
def test_a_network_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize("bands", [0, 18])
def test_the_exported_step_agrees_with_torch(tmp_path, bands):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from edgeae.onnx_check import read_graph
    from edgeae.runtime import Graph
    from export.speech import export_denoiser

    config = dataclasses.replace(SMALL, filter_bands=bands)
    result = export_denoiser(_audible(config), config, tmp_path, hops=20)
    graph = Graph(read_graph(result["graphs"]["step"]["fp32"]))
    state = result["stream"]["state"]
    assert [port.name for port in graph.inputs] == ["spectrum", *state]
    assert [port.name for port in graph.outputs] == ["clean", *(f"{n}_next" for n in state)]
    assert [list(port.shape) for port in graph.inputs[1:]] == list(state.values())
    assert [path.name for path in tmp_path.iterdir()] == ["step.fp32.onnx"]


def test_an_export_that_disagrees_with_torch_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from export.parity import ExportError
    from export.speech import export_denoiser

    network = _audible(SMALL)
    whole = network.forward
    monkeypatch.setattr(network, "forward", lambda spectrum: 1.0001 * whole(spectrum))
    with pytest.raises(ExportError, match="whole sequence"):
        export_denoiser(network, SMALL, tmp_path, hops=5)


# A model with the layers of DNSMOS P.835 and weights drawn by chance, under the published names.
def _quality_graph(folder):
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(5)
    channels = (1, 128, 64, 64, 32, 32, 32, 64)
    arrays = {part: rng.normal(size=(161, 320, 1)) for part in ("real", "imag")}
    for i, (seen, made) in enumerate(itertools.pairwise(channels)):
        arrays[f"conv{i}_kernel"] = rng.normal(size=(made, seen, 3, 3)) / (9 * seen) ** 0.5
        arrays[f"conv{i}_bias"] = 0.1 * rng.normal(size=made)
    for i, (seen, made) in enumerate(((64, 128), (128, 64), (64, 3))):
        arrays[f"dense{i}_kernel"] = rng.normal(size=(seen, made)) / seen
        arrays[f"dense{i}_bias"] = rng.normal(size=made)
    tensors = [
        onnx.numpy_helper.from_array(arrays[short].astype(np.float32), name)
        for short, name in quality_arrays().items()
    ]
    file = folder / "quality.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "made", [], [], tensors)), file)
    return file


def _quality_model(folder):
    write_quality_model(_quality_graph(folder), folder / "dnsmos.npz")
    return QualityModel(folder / "dnsmos.npz")


def test_a_quality_model_scores_each_item_alone_and_leads_back_to_its_input(tmp_path):
    model = _quality_model(tmp_path)
    audio = (0.05 * torch.randn(2, 16_000)).requires_grad_()
    scores = model(audio)
    assert scores.shape == (2, 3)
    assert torch.allclose(scores[1:], model(audio[1:]), atol=0.02)
    scores.sum().backward()
    assert torch.isfinite(audio.grad).all() and audio.grad.abs().sum() > 0


def test_the_quality_model_scores_as_the_published_one_does(tmp_path):
    pytest.importorskip("speechmos")
    onnxruntime = pytest.importorskip("onnxruntime")
    write_quality_model(quality_model_file(), tmp_path / "dnsmos.npz")
    voice = made_voice(1, np.random.default_rng(2))
    audio = np.resize(voice, 144_160).astype(np.float32)[None] * 0.1
    session = onnxruntime.InferenceSession(quality_model_file())
    raw = session.run(None, {"input_1": audio})[0][0]
    expected = [np.polyval(scale, value) for scale, value in zip(SCALES, raw, strict=True)]
    found = QualityModel(tmp_path / "dnsmos.npz")(torch.from_numpy(audio))[0]
    assert np.allclose(found, expected, atol=0.03)


def test_another_file_is_no_quality_model(tmp_path):
    onnx = pytest.importorskip("onnx")
    file = tmp_path / "other.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "other", [], [])), file)
    with pytest.raises(ValueError, match="is not DNSMOS"):
        write_quality_model(file, tmp_path / "dnsmos.npz")
    for name, content in {"array.npy": None, "notes.npz": b"hello", "empty.npz": b""}.items():
        if content is None:
            np.save(tmp_path / name, np.zeros(3))
        else:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="export.dnsmos .*writes one"):
            QualityModel(tmp_path / name)
    with pytest.raises(ValueError, match="export.dnsmos .*writes one"):
        QualityModel(file)
    with pytest.raises(ValueError, match="cannot read the quality model .*No such file"):
        QualityModel(tmp_path / "missing.npz")


def test_a_loss_of_quality_without_its_model_goes_without_and_says_so(tmp_path, capsys):
    config = read_config(CONFIGS / "smoke-speech.toml")
    loss = dataclasses.replace(config.loss, quality=0.1)
    recipe = SpeechRecipe(dataclasses.replace(config, loss=loss), torch.device("cpu"))
    assert "no --dnsmos FILE is given" in capsys.readouterr().out
    _, parts = recipe.loss(recipe.network, recipe.batch(np.random.default_rng(1)), 0)
    assert "quality" not in parts
    _quality_model(tmp_path)
    loss = dataclasses.replace(loss, quality_model=str(tmp_path / "dnsmos.npz"))
    recipe = SpeechRecipe(dataclasses.replace(config, loss=loss), torch.device("cpu"))
    assert capsys.readouterr().out == ""
    _, parts = recipe.loss(recipe.network, recipe.batch(np.random.default_rng(1)), 0)
    assert torch.isfinite(parts["quality"])


def test_the_quality_part_of_the_loss_hears_one_item_with_speech(tmp_path):
    heard = []

    def quality_model(audio, *, floor):
        heard.append(audio)
        return torch.full((len(audio), 3), 2.0) + 0 * audio.sum()

    clean = torch.zeros(3, 32_000)
    clean[1] = 0.1 * torch.randn(32_000)
    noisy = clean + 0.05 * torch.randn(3, 32_000)
    config = SpeechLoss(0.0, multi_resolution=0.0, distortion=0.0, intelligibility=0.0,
                        quality=0.5, quality_samples=8_000)  # fmt: skip
    total, parts = speech_loss(config, _spectrum(noisy), noisy, clean, quality_model)
    assert heard[0].shape == (1, 8_000)
    assert 20 * torch.log10(heard[0].std()) == pytest.approx(-24, abs=1.5)
    assert float(parts["quality"]) == pytest.approx(3.0)
    assert float(total) == pytest.approx(1.5)
    silent = torch.zeros_like(clean)
    total, _ = speech_loss(config, _spectrum(noisy), noisy, silent, quality_model)
    assert float(total) == 0.0
    _, parts = speech_loss(config, _spectrum(noisy), noisy, clean)
    assert parts == {}


def test_a_larger_network_begins_with_the_weights_of_a_smaller_one(tmp_path):
    config = read_config(CONFIGS / "smoke-speech.toml")
    smaller = SpeechDenoiser(config.network)
    file = tmp_path / "smaller.pt"
    rest = {"step": 7, "seconds": 1.0, "best": 0.0, "history": []}
    save_checkpoint(file, config, {"averaged": smaller.state_dict(), **rest})
    larger = dataclasses.replace(config, network=dataclasses.replace(config.network, wide=(9,)))
    network = SpeechDenoiser(larger.network)
    assert load_start(network, file, larger)[0]["step"] == 7
    for name, value in smaller.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    with pytest.raises(CheckpointError, match="holds another network"):
        save_checkpoint(file, larger, {"averaged": network.state_dict(), **rest})
        load_start(smaller, file, config)


def test_levels_count_by_the_decibel_in_pauses_too():
    config = SpeechLoss(0.0, multi_resolution=0.0, distortion=0.0, intelligibility=0.0, levels=1.0)
    clean = torch.zeros(2, 16_000)
    clean[:, :6_000] = torch.randn(2, 6_000)
    hiss = 0.1 * torch.randn(2, 16_000)

    def off(estimate):
        return float(speech_loss(config, _spectrum(estimate), clean, clean)[0])

    assert off(clean) < 1e-6
    louder, quieter = off(clean + hiss), off(clean + 0.1 * hiss)
    # 20 dB in the pause, which is most of the time.
    assert 1.0 < louder - quieter < 2.0
    assert off(2 * clean) == pytest.approx(0.6 * 6 / 16, rel=0.1)


def test_intelligibility_of_a_row_does_not_depend_on_the_rows_beside_it():
    torch.manual_seed(0)
    pauses = (torch.rand(3, 20) > 0.4).float().repeat_interleave(1600, 1)
    clean = torch.randn(3, 32_000) * pauses
    clean[2, 4_000:] = 0
    noisy = clean + 0.5 * torch.randn_like(clean)
    together = intelligibility(noisy, clean)
    alone = torch.cat(
        [intelligibility(noisy[i : i + 1], clean[i : i + 1]) for i in range(len(clean))]
    )
    assert torch.allclose(together, alone, atol=1e-6)
    # The last has less than a stretch of speech.
    assert together[2] == 1 > together[:2].max()
