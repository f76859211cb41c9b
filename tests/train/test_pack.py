"""Packs, and mixing on a device: the same data, batches of the same kind."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from speech_data import MADE

from train import pack
from train.config import config_from_dict, read_config
from train.image.data import PhotoData, Photos
from train.image.pack import PackedPhotos
from train.image.pack import write_pack as write_photo_pack
from train.image.recipe import ImageRecipe
from train.speech.corpus import read_corpus
from train.speech.data import SpeechMixer
from train.speech.device import DeviceMixer
from train.speech.pack import read_pack, write_pack
from train.speech.recipe import SpeechRecipe

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS = Path(__file__).parents[2] / "train" / "configs"
CPU = torch.device("cpu")
# Every item is speech and noise at one SNR, without rooms or clipping.
PLAIN = dataclasses.replace(
    MADE, snr_db=(5, 5), reverberation_chance=0.0, clipping_chance=0.0, noise_only_chance=0.0,
    speech_only_chance=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def speech_pack(tmp_path_factory):
    file = tmp_path_factory.mktemp("pack") / "speech.pack"
    assert pack.main([str(CONFIGS / "smoke-speech.toml"), str(file)]) == 0
    return file


@pytest.fixture(scope="module")
def coarse_pack(tmp_path_factory):
    """What is said of a pack at the compression that is taken by default."""
    return write_pack(MADE, tmp_path_factory.mktemp("pack") / "again.pack")


def test_a_pack_of_speech_holds_the_recordings_at_a_stated_loss(speech_pack, coarse_pack):
    for found, kind in zip(read_pack(speech_pack), ("speech", "noise"), strict=True):
        expected = read_corpus(("synthetic",), "", kind=kind)
        assert found.groups == expected.groups
        assert np.array_equal(found.starts, expected.starts)
        error = found.samples.astype(float) - expected.samples
        assert 0 < np.mean(error**2) < np.mean(expected.samples.astype(float) ** 2)
    report = coarse_pack
    assert report["bytes"] < 2 * len(expected.samples)
    assert 0 < report["speech"]["log_spectral_db"] and report["noise"]["minutes"] == 0.9


def test_pieces_decoded_side_by_side_are_the_whole(speech_pack, monkeypatch):
    whole, _ = read_pack(speech_pack)
    monkeypatch.setattr("train.speech.pack._PIECE_SAMPLES", 100_000)
    pieces, _ = read_pack(speech_pack)
    assert len(whole.samples) > 300_000
    # Of a decoder that begins in the middle some samples are off by one or two of 32,768.
    assert np.abs(pieces.samples.astype(int) - whole.samples).max() <= 4


def test_less_compression_is_less_loss(coarse_pack, tmp_path):
    fine = write_pack(MADE, tmp_path / "fine.pack", compression=0.2)
    assert fine["bytes"] > 2 * coarse_pack["bytes"]
    assert fine["noise"]["log_spectral_db"] < coarse_pack["noise"]["log_spectral_db"]


def test_a_recipe_trains_from_a_pack_with_batches_made_on_its_device(speech_pack):
    config = read_config(CONFIGS / "smoke-speech.toml")
    data = dataclasses.replace(config.data, speech=(), noise=(), pack=str(speech_pack))
    recipe = SpeechRecipe(dataclasses.replace(config, data=data), CPU)
    batch = recipe.batch(np.random.default_rng(0))
    assert [part.shape for part in batch] == [(4, 16_000)] * 2
    loss, _ = recipe.loss(recipe.network, batch, 0)
    assert torch.isfinite(loss)
    assert recipe.data_summary()["speech"]["train"] > 0


def test_another_file_is_no_pack(tmp_path):
    (tmp_path / "x").write_bytes(b"no zip")
    for read in (read_pack, lambda file: PackedPhotos(file, PhotoData(()), CPU)):
        with pytest.raises(ValueError, match="is not a pack of .*, expected what train.pack wrote"):
            read(tmp_path / "x")
        with pytest.raises(ValueError, match="is not a pack"):
            read(tmp_path / "gone")


def test_a_batch_mixed_on_a_device_has_the_snr_asked_and_comes_from_its_seed():
    mixer = DeviceMixer(SpeechMixer(PLAIN), CPU)
    noisy, clean = mixer.batch(np.random.default_rng(3), 12)
    again, _ = mixer.batch(np.random.default_rng(3), 12)
    other, _ = mixer.batch(np.random.default_rng(4), 12)
    assert noisy.shape == clean.shape == (12, 16_000) and noisy.dtype == torch.float32
    assert torch.equal(noisy, again) and not torch.equal(noisy, other)
    snr_db = 10 * torch.log10(clean.square().sum(1) / (noisy - clean).square().sum(1))
    assert (snr_db - 5).abs().max() < 0.1


def test_levels_on_a_device_are_those_of_the_config():
    data = dataclasses.replace(PLAIN, level_db=(-20, -20))
    noisy, _ = DeviceMixer(SpeechMixer(data), CPU).batch(np.random.default_rng(0), 8)
    level_db = 10 * torch.log10(noisy.square().mean(1))
    assert (level_db + 20).abs().max() < 0.01


@pytest.mark.parametrize("mix", [SpeechMixer.batch, lambda m, *a: DeviceMixer(m, CPU).batch(*a)])
def test_noises_may_be_subsonic_in_memory_and_on_a_device_at_the_snr_asked(mix):
    def below_100_hz(chance):
        mixer = SpeechMixer(
            dataclasses.replace(PLAIN, narrow_band_chance=0.0, subsonic_chance=chance)
        )
        noisy, clean = map(np.asarray, mix(mixer, np.random.default_rng(3), 12))
        snr_db = 10 * np.log10((clean**2).sum(1) / ((noisy - clean) ** 2).sum(1))
        assert np.abs(snr_db - 5).max() < 0.1
        energy = np.abs(np.fft.rfft(noisy - clean)) ** 2
        return energy[:, :100].sum(1) / energy.sum(1)

    never, always = below_100_hz(0.0), below_100_hz(1.0)
    # Some made noises are low of themselves.
    assert always.min() > 0.08 > never.min() and np.mean(always) > np.mean(never) + 0.2


def test_every_kind_of_damage_on_a_device_stays_finite():
    data = dataclasses.replace(
        MADE, reverberation_chance=1.0, clipping_chance=1.0, narrow_band_chance=1.0,
        babble_chance=0.5, made_noise_chance=0.5, second_noise_chance=1.0, swelling_chance=1.0,
        noise_only_chance=0.5, speech_speed_chance=1.0, noise_speed_chance=1.0,
    )  # fmt: skip
    noisy, clean = DeviceMixer(SpeechMixer(data), CPU).batch(np.random.default_rng(0), 16)
    assert torch.isfinite(noisy).all() and torch.isfinite(clean).all()
    assert 0 < int((clean.abs().amax(1) == 0).sum()) < 16
    # What is clipped stays at its ceiling for several samples.
    assert all(int((row.abs() >= 0.999 * row.abs().max()).sum()) > 2 for row in noisy)


def test_speech_alone_is_left_as_it_is():
    data = dataclasses.replace(PLAIN, speech_only_chance=1.0)
    noisy, clean = DeviceMixer(SpeechMixer(data), CPU).batch(np.random.default_rng(0), 4)
    assert torch.allclose(noisy, clean, atol=1e-6) and clean.abs().max() > 0


def test_a_pack_of_photos_gives_batches_and_held_out_crops(tmp_path):
    data = PhotoData(("synthetic",), crop_pixels=32, held_out=3)
    report = write_photo_pack(data, tmp_path / "p.pack", crops=40)
    assert (report["train"], report["held_out"]) == (40, 3) and report["psnr_db"] > 30
    photos = PackedPhotos(tmp_path / "p.pack", data, CPU)
    batch = photos.batch(np.random.default_rng(0), 7)
    assert batch.shape == (7, 3, 32, 32) and batch.dtype == torch.uint8
    assert torch.equal(batch, photos.batch(np.random.default_rng(0), 7))
    held = photos.held_out_crops(256)
    expected = Photos(dataclasses.replace(data, crop_pixels=32)).held_out_crops(256)
    assert held.shape == expected.shape
    assert (held.float() - expected.float()).abs().mean() < 4
    with pytest.raises(ValueError, match="crops of 32 pixels, expected 64 or more"):
        PackedPhotos(tmp_path / "p.pack", dataclasses.replace(data, crop_pixels=64), CPU)


def test_crops_of_a_pack_are_drawn_as_before_and_cut_where_they_were_drawn(tmp_path):
    data = PhotoData(("synthetic",), crop_pixels=32, held_out=2)
    write_photo_pack(data, tmp_path / "p.pack", crops=5)
    photos = PackedPhotos(tmp_path / "p.pack", data, CPU)
    side = photos.index["side"]
    whole = photos._pixels.reshape(5, side, side, 3).permute(0, 3, 1, 2)
    rng = np.random.default_rng(4)
    chosen, places = rng.integers(0, 5, 16), rng.integers(0, side - 31, (2, 16))
    mirrored = rng.random(16) < 0.5
    for crop, one, top, left, mirror in zip(
        photos.batch(np.random.default_rng(4), 16), chosen, *places, mirrored, strict=True
    ):
        expected = whole[one, :, top : top + 32, left : left + 32]
        assert torch.equal(crop, expected.flip(2) if mirror else expected)


def test_mirrored_crops_of_a_pack_are_pieces_of_its_crops(tmp_path):
    data = PhotoData(("synthetic",), crop_pixels=48, held_out=2)
    write_photo_pack(data, tmp_path / "p.pack", crops=3)
    photos = PackedPhotos(tmp_path / "p.pack", data, CPU)
    side = photos.index["side"]
    whole = photos._pixels.reshape(3, side, side, 3).permute(0, 3, 1, 2)
    for crop in photos.batch(np.random.default_rng(1), 8):
        both = [crop, crop.flip(2)]
        places = [
            (i, y, x)
            for i in range(len(whole))
            for y in range(whole.shape[2] - 47)
            for x in range(whole.shape[3] - 47)
            if any(torch.equal(whole[i, :, y : y + 48, x : x + 48], one) for one in both)
        ]
        assert places


def test_a_photo_recipe_trains_from_a_pack(tmp_path):
    assert pack.main([str(CONFIGS / "smoke-photo.toml"), str(tmp_path / "p.pack")]) == 0
    raw = dataclasses.asdict(read_config(CONFIGS / "smoke-photo.toml"))
    raw["data"] |= {"folders": [], "pack": str(tmp_path / "p.pack")}
    recipe = ImageRecipe(config_from_dict(raw), CPU)
    recipe.start()
    loss, _ = recipe.loss(recipe.network, recipe.batch(np.random.default_rng(0)), 0)
    assert torch.isfinite(loss)
    assert recipe.data_summary()["photographs"]["unit"].endswith("dB")
