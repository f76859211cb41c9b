"""The speech codec in training: sources and pitch, one network run whole or frame by frame."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgeae.signal import speech_stream
from train.checkpoint import find_checkpoint, load_checkpoint
from train.config import config_from_dict, read_config
from train.run import load_start, new_run
from train.speech.codec_context import SpeechContext
from train.speech.codec_data import CodecSpeech, SpeechPieces
from train.speech.codec_device import DevicePieces
from train.speech.codec_loss import (
    SpeechCodecLoss,
    heard_loss,
    mel_error,
    rate_loss,
)
from train.speech.codec_network import SpeechCodec, SpeechCodecNetwork, target_bits
from train.speech.codec_recipe import SpeechCodecRecipe, aligned
from train.speech.codec_signal import (
    BRIDGED_FRAMES,
    bridged,
    fine_structure,
    heard,
    held,
    pitch_hz,
    pulses,
    tracked,
)
from train.speech.discriminator import Discriminator, adversarial_losses
from train.speech.made import made_voice
from train.speech.pack import write_pack

CONFIGS = Path(__file__).parents[2] / "train" / "configs"
SMALL = SpeechCodecNetwork(
    slices=(1, 3, 4),
    encoder_channels=8,
    encoder_blocks=2,
    decoder_channels=8,
    decoder_blocks=2,
    free_bins=30,
    context_channels=8,
    context_dilations=(1, 2),
    head_channels=8,
)
MADE = CodecSpeech(speech=("synthetic",), cache="", segment_samples=16_000, validation_pieces=2)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def voice():
    """Two made voices, float32 (2, 32000)."""
    rng = np.random.default_rng(0)
    made = np.stack([made_voice(speaker, rng)[:32_000] for speaker in (1, 3)])
    return torch.from_numpy(0.3 * made / np.abs(made).max()).float()


def _audible(config=SMALL):
    """A network whose memories and latents matter: its first weights are small."""
    torch.manual_seed(1)
    network = SpeechCodec(config).eval()
    with torch.no_grad():
        for parameter in (*network.encoder.parameters(), *network.decoder.parameters()):
            parameter += 0.1 * torch.randn_like(parameter)
    return network


@torch.no_grad()
def test_frame_by_frame_equals_the_whole(voice):
    network = _audible()
    powers, correlation, index, fine = network.features(voice[:1])
    level = torch.tensor([0.5])
    whole = network.latents(powers, correlation, index, fine, level)
    states = [torch.zeros(s) for s in network.encoder.stack.state_shapes().values()]
    for t in range(whole.shape[0]):
        pitch = index[:, t : t + 1].float()
        frame, *states = network.encode_step(
            powers[:, t], correlation[:, t], pitch, level[:, None], fine[:, t], *states
        )
        assert (frame - whole[t]).abs().max() < 1e-4
    torch.manual_seed(5)
    audio = network.restored(whole, index, level)
    torch.manual_seed(5)
    sources = [pulses(index), torch.randn(1, voice.shape[1])]
    tones, noise = (network.windows(source) for source in sources)
    states = [torch.zeros(s) for s in network.decoder.stack.state_shapes().values()]
    window = torch.hann_window(320).sqrt()
    joined = torch.zeros(voice.shape[1] + 160)
    for t in range(whole.shape[0]):
        pitch, heard_ = index[:, t : t + 1].float(), torch.zeros(1, 1)
        spectra, *states = network.decode_step(
            whole[t], pitch, level[:, None], heard_, tones[:, t], noise[:, t], *states
        )
        frames = torch.fft.irfft(torch.complex(spectra[0, :, 0], spectra[0, :, 1])) * window
        for i in range(2):
            joined[320 * t + 160 * i :][:320] += frames[i]
    assert (joined[: voice.shape[1]] - audio[0]).abs().max() < 1e-4 * audio.abs().max()


@torch.no_grad()
def test_what_is_heard_forty_ms_later_changes_nothing(voice):
    network = _audible()
    changed = voice[:1].clone()
    changed[0, 16_100] += 0.5
    level = torch.tensor([1.0])
    outputs = []
    for audio in (voice[:1], changed):
        torch.manual_seed(0)
        outputs.append(network(audio, level)[0])
    difference = (outputs[0] - outputs[1]).abs()[0]
    # Output n is input n - 320, and the frame that holds the sample begins at 16,000.
    assert difference[:16_000].max() == 0 < difference[16_000:].max()


def test_the_pitch_of_pulses_is_found_and_stays_in_silence():
    course = torch.arange(30, 90).clamp_max(80).repeat_interleave(2)[None]
    audio = 0.1 * pulses(course)
    audio[:, 100 * 320 :] = 0
    found = tracked(heard(audio)[1])
    assert (found[:, 5:98] - course[:, 5:98]).abs().max() <= 2
    assert found[0, 105:].unique().numel() == 1
    quiet = tracked(heard(torch.zeros(1, 3200))[1])
    assert quiet.unique().tolist() == [64]


def test_pulses_have_power_one_at_every_pitch_and_go_on_between_frames():
    for index in (0, 64, 127):
        train = pulses(torch.full((1, 50), index))[0, 640:]
        assert train.square().mean() == pytest.approx(1, abs=0.05)
        spectrum = torch.fft.rfft(train * torch.hann_window(len(train))).abs()
        wanted = float(pitch_hz(torch.tensor(index)))
        bin_hz = 16_000 / len(train)
        found = spectrum[: int(1.5 * wanted / bin_hz)].argmax() * bin_hz
        assert float(found) == pytest.approx(wanted, abs=2)
    gliding = pulses(torch.arange(128)[None])
    assert torch.isfinite(gliding).all() and gliding.abs().max() < 18


@torch.no_grad()
def test_a_lost_frame_says_nothing_and_keeps_the_pitch(voice):
    index = torch.tensor([[3, 5, 7, 9, 11]])
    lost = torch.tensor([[True, False, True, True, False]])
    assert held(index, lost).tolist() == [[64, 5, 5, 5, 11]]
    network = _audible()
    latents = torch.randn(5, 1, 7)
    other, otherwise = latents.clone(), index.clone()
    other[lost[0]] += 3
    otherwise[lost] += 20
    outputs = []
    for given, pitch in ((latents, index), (other, otherwise)):
        torch.manual_seed(0)
        outputs.append(network.restored(given, pitch, torch.tensor([0.5]), lost))
    assert torch.equal(*outputs) and torch.isfinite(outputs[0]).all()


def test_a_short_gap_that_is_filled_late_leads_from_one_side_to_the_other():
    index = torch.arange(0, 120, 6)[None].repeat(2, 1)
    lost = torch.zeros(2, 20, dtype=torch.bool)
    # One at the start, three, seven, and one at the end.
    for frames in (slice(0, 1), slice(3, 6), slice(8, 15), slice(19, 20)):
        lost[:, frames] = True
    latents = torch.where(lost.T[..., None], 100.0, index.T[..., None] * torch.ones(3))
    spoiled = torch.where(lost, 50, index)
    found, pitch, left = bridged(latents, spoiled, lost, torch.tensor([False, True]))
    assert torch.equal(found[:, 0], latents[:, 0]) and torch.equal(pitch[0], spoiled[0])
    assert torch.equal(left[0], lost[0])
    # The middle gap alone is short and between frames.
    assert torch.equal(left[1], lost[1] & ~((torch.arange(20) > 2) & (torch.arange(20) < 6)))
    torch.testing.assert_close(found[3:6, 1], index[1, 3:6, None] * torch.ones(3))
    assert torch.equal(pitch[1, 3:6], index[1, 3:6])
    assert torch.equal(found[left[1], 1], latents[left[1], 1])
    assert BRIDGED_FRAMES == speech_stream.BRIDGED_FRAMES


@torch.no_grad()
def test_a_frame_is_told_only_of_what_is_coded_before_it():
    torch.manual_seed(0)
    context = SpeechContext((1, 3), width=8, head_width=8, dilations=(1, 2))
    for parameter in context.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    symbols = torch.randint(-3, 4, (1, 4, 1, 30)).float()
    level = torch.tensor([0.5])
    later = symbols.clone()
    later[0, 0, 0, 20] += 1
    before, after = context.distribution(symbols, level), context.distribution(later, level)
    for one, other in zip(before, after, strict=True):
        moved = (one - other).abs().amax(dim=(0, 2))
        assert not moved[:, :20].any() and not moved[0, 20].any() and moved[1:, 20].any()


def test_gradients_reach_every_part_and_only_latents_make_bits_beyond_the_pitch(voice):
    network = SpeechCodec(SMALL)
    restored, bits = network(voice, torch.tensor([0.25, 1.0]))
    assert restored.shape == voice.shape and bits.shape == (2,) and (bits > 0).all()
    (restored.square().mean() + bits.mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_the_losses_are_zero_for_equals_and_grow_with_what_is_wrong(voice):
    reference = voice / voice.square().mean(-1, keepdim=True).sqrt()
    torch.manual_seed(0)
    noise = torch.randn_like(reference)
    for size in (256, 2048):
        errors = [float(mel_error(reference + x * noise, reference, size)) for x in (0, 0.03, 0.3)]
        assert errors[0] == 0 < errors[1] < errors[2]
    total, parts = heard_loss(SpeechCodecLoss(mel=0, compressed=0), reference, reference)
    assert set(parts) == {"loudness", "intelligibility"} and total < 0.05


def test_bits_beyond_the_aim_weigh_most():
    level = torch.tensor([0.0, 1.0])
    assert target_bits(level).tolist() == [30, 180]
    config = SpeechCodecLoss()
    weights = [float(rate_loss(config, target_bits(level) * x, level)) for x in (0.5, 1.0, 1.5)]
    assert weights[1] - weights[0] == pytest.approx(0.5 * config.rate, rel=1e-3)
    assert weights[2] - weights[1] == pytest.approx(0.5 * (config.rate + config.overshoot))


def test_codec_and_adversary_share_a_backward_pass_without_mixing():
    torch.manual_seed(0)
    judge = Discriminator(4)
    audio = torch.randn(1, 6400, requires_grad=True)
    lost, far, wrong = adversarial_losses(judge, audio, torch.randn(1, 6400))
    (lost + far).backward(retain_graph=True)
    assert audio.grad.abs().max() > 0
    assert all(p.grad is None for p in judge.parameters())
    audio.grad = None
    wrong.backward()
    assert audio.grad is None
    # Biases of scores move recorded and made alike, so that their derivatives may cancel.
    assert all(p.grad.abs().max() > 0 for p in judge.parameters() if p.ndim > 1)


def _recipe(**changes):
    raw = {
        "name": "voice",
        "task": "speech-codec",
        "network": {**dataclasses.asdict(SMALL), **changes.get("network", {})},
        "data": dataclasses.asdict(MADE),
        "loss": changes.get("loss", {}),
        "optimize": {"steps": 4, "batch_size": 2, "learning_rate": 2e-2, "warmup_steps": 0},
    }
    return SpeechCodecRecipe(config_from_dict(raw), torch.device("cpu"))


def test_the_adversary_comes_in_at_its_step():
    recipe = _recipe(
        network={"discriminator_channels": 2},
        loss={
            "mel": 0,
            "compressed": 0,
            "intelligibility": 0,
            "adversarial": 0.1,
            "features": 1.0,
            "adversarial_from": 3,
        },
    )
    batch = recipe.batch(np.random.default_rng(0))
    judge = recipe.network.discriminator
    for step, known in ((2, False), (3, True)):
        recipe.network.zero_grad()
        loss, parts = recipe.loss(recipe.network, batch, step)
        loss.backward()
        moved = max(float(p.grad.abs().max()) for p in judge.parameters())
        assert ("fooled" in parts) == (moved > 0) == known
    with pytest.raises(ValueError, match="discriminator_channels is 0"):
        _recipe(loss={"adversarial": 0.1})


@pytest.fixture(scope="module")
def recipe():
    torch.manual_seed(0)
    return _recipe()


def test_a_few_steps_lower_the_loss_and_figures_are_of_the_validated_rates(recipe):
    batch = recipe.batch(np.random.default_rng(0))
    run = new_run(recipe.config, recipe.network, {})
    losses = []
    for step in range(4):
        loss, _ = recipe.loss(recipe.network, batch, step)
        run.optimizer.zero_grad()
        loss.backward()
        run.optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    figures = recipe.validate(recipe.network)
    assert figures["bit_per_s_3k"] > 0 and figures == recipe.validate(recipe.network)


def test_batches_are_level_spread_and_lose_what_they_say(recipe):
    audio, level, lost, late = recipe.batch(np.random.default_rng(3))
    assert late.shape == (2,) and late.dtype == torch.bool
    assert audio.shape == (2, 16_000) and lost.shape == (2, 50) and audio.abs().max() <= 1
    assert (
        level.min() < 0.55 and level.max() > 0.45 and torch.equal((level * 64).round() / 64, level)
    )
    noisy = SpeechPieces(
        dataclasses.replace(
            MADE, noise=("synthetic",), noise_chance=1.0, lost_chance=1.0, lost_share=0.2
        )
    )
    drawn = noisy.lost(np.random.default_rng(0), 2000)
    assert 0.17 < drawn[:, 20:].mean() < 0.23
    begins = (drawn[:, 1:] & ~drawn[:, :-1]).sum()
    assert 2.2 < drawn[:, 1:].sum() / begins < 2.8
    batch = noisy.batch(np.random.default_rng(0), 2)
    assert np.isfinite(batch).all() and set(noisy.summary()) == {"speech", "noise"}
    with pytest.raises(ValueError, match="segment_samples is 16001"):
        CodecSpeech(speech=(), segment_samples=16_001)
    with pytest.raises(ValueError, match="no folder of speech is given"):
        SpeechPieces(CodecSpeech(speech=()))


def test_alignment_puts_a_delayed_copy_on_its_original(voice):
    delayed = torch.nn.functional.pad(voice, (320, 0))[:, : voice.shape[1]]
    found, reference = aligned(delayed, voice)
    assert torch.equal(found, reference) and reference.square().mean() == pytest.approx(1, abs=0.2)


def test_shipped_configs_are_read():
    for name in ("speech-codec", "smoke-speech-codec"):
        assert read_config(CONFIGS / f"{name}.toml").task == "speech-codec"


def test_a_run_without_an_adversary_starts_from_the_codec_that_ships():
    config = read_config(CONFIGS / "speech-codec.toml")
    network = SpeechCodec(config.network)
    before = load_start(network, find_checkpoint("speech-codec"), config)
    assert [run["step"] for run in before] == [4497, 1511, 4000, 1600, 4800, 0, 5000, 0, 2600, 0]
    # What ships is a mean of runs.
    assert sum(part["share"] for part in before[-1]["mean"]) == pytest.approx(1)
    saved = load_checkpoint(find_checkpoint("speech-codec"))[1]["averaged"]
    assert set(saved) - set(network.state_dict()) == {n for n in saved if "discriminator" in n}
    assert torch.equal(network.log_steps, saved["log_steps"])
    judged = SpeechCodec(dataclasses.replace(config.network, discriminator_channels=24))
    load_start(judged, find_checkpoint("speech-codec"), config)
    assert all(torch.equal(value, saved[name]) for name, value in judged.state_dict().items())


def test_pitches_are_tracked_as_frame_after_frame_would():
    torch.manual_seed(0)
    correlation = torch.rand(3, 37, 128) * torch.rand(3, 37, 1)
    index = torch.arange(128)
    before, wanted = torch.full((3,), 64), []
    for t in range(correlation.shape[1]):
        near = (1 - (index - before[:, None]).abs() / 12).clamp_min(0)
        best = (correlation[:, t] + 0.1 / 128 * index + 0.15 * near).argmax(1)
        sure = correlation[:, t].gather(1, best[:, None])[:, 0] >= 0.3
        before = torch.where(sure, best, before)
        wanted.append(before)
    assert torch.equal(tracked(correlation), torch.stack(wanted, dim=1))


@torch.no_grad()
def test_the_fine_structure_of_pulses_stands_still():
    index = torch.full((1, 40), 50)
    train = 0.1 * pulses(index)
    # What the decoder speaks at a frame is what was heard a frame before.
    late = torch.nn.functional.pad(train, (0, 320))[:, 320:]
    found = fine_structure(late, SpeechCodec.windows(pulses(index)))[0, 3:38].unflatten(
        1, (2, 2, 24)
    )
    assert found[:, :, 1].abs().max() < 0.05 and found[:, :, 0].amax(-1).min() > 1


@torch.no_grad()
def test_the_lowest_bins_begin_with_their_principal_components(voice):
    network = SpeechCodec(dataclasses.replace(SMALL, slices=(1, 3, 96)))
    network.start(voice)
    fine = network.features(voice)[3]
    latents = network.encoder.direct(fine)
    assert torch.allclose(network.decoder.direct(latents), fine, atol=1e-4)
    assert latents[..., :3].abs().max() == 0


def test_batches_of_a_pack_are_cut_on_the_device_and_drawn_from_the_generator(tmp_path):
    pytest.importorskip("soundfile")
    config = dataclasses.replace(MADE, noise=("synthetic",))
    write_pack(config, tmp_path / "made.pack")
    packed = dataclasses.replace(
        MADE, speech=(), pack=str(tmp_path / "made.pack"), noise_chance=0.5
    )
    pieces = DevicePieces(SpeechPieces(packed), torch.device("cpu"))
    batch, again, other = (pieces.batch(np.random.default_rng(s), 8) for s in (0, 0, 1))
    assert batch.shape == (8, 16_000) and batch.dtype == torch.float32
    assert torch.equal(batch, again) and not torch.equal(batch, other)
    level_db = 20 * batch.square().mean(1).sqrt().log10()
    assert -42 < level_db.min() and level_db.max() < -13 and batch.abs().max() <= 1
