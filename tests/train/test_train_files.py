"""A user's own files: few of them, of every format, some of them broken."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import soundfile
from PIL import Image

from edgeae.media import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from train.autoencoder import data as autoencoder_data
from train.image import data as image_data
from train.image.data import PhotoData, Photos
from train.speech import corpus
from train.speech.data import SpeechData, SpeechMixer


def photo(seed, width=72, height=64):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (height, width, 3)).astype(np.uint8))


def recording(seed, seconds=1.0, rate_hz=16_000):
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate_hz))


def test_training_reads_the_formats_that_the_runtime_reads():
    assert image_data.SUFFIXES == IMAGE_SUFFIXES
    assert corpus.SUFFIXES == AUDIO_SUFFIXES
    assert set(autoencoder_data.IMAGE_SUFFIXES) == IMAGE_SUFFIXES
    assert set(autoencoder_data.AUDIO_SUFFIXES) == AUDIO_SUFFIXES


def test_heic_without_its_reader_is_left_out_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for i in range(2):
        photo(i).save(tmp_path / f"{i}.png")
    (tmp_path / "phone.heic").write_bytes(b"ftypheic")
    _, skipped = image_data.read_photos([str(tmp_path)], smallest=16)
    assert skipped == {"phone.heic": "HEIC is read through pillow-heif: pip install pillow-heif"}


@pytest.mark.parametrize(
    ("count", "held_out"), [(2, 1), (5, 1), (12, 1), (30, 4), (200, 24), (400, 24)]
)
def test_of_few_pictures_a_share_is_held_out_and_of_many_a_number(
    count, held_out, tmp_path, monkeypatch
):
    pictures = [np.zeros((32, 32, 3), np.uint8)] * count
    monkeypatch.setattr(image_data, "read_photos", lambda *_, **__: (pictures, {}))
    photos = Photos(PhotoData(("any",), crop_pixels=32))
    assert (len(photos.training), len(photos.validation)) == (count - held_out, held_out)


def test_a_broken_picture_is_left_out_by_its_name(tmp_path):
    for i in range(3):
        photo(i).save(tmp_path / f"{i}.png")
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.webp").write_bytes(b"")
    photo(9, 20, 20).save(tmp_path / "small.png")
    photos = Photos(PhotoData((str(tmp_path),), crop_pixels=48))
    assert photos.summary()["train"] == 2 and photos.summary()["held_out"] == 1
    assert sorted(photos.skipped) == ["cut.png", "empty.webp", "small.png", "text.jpg"]
    assert photos.skipped["small.png"] == "20 x 20 pixels, expected 48 a side"
    assert all(photos.skipped.values())


def test_where_every_picture_is_broken_the_error_says_why(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"0 images .*expected at least 2 \(left out a.png: "):
        Photos(PhotoData((str(tmp_path),), crop_pixels=48))


def test_pictures_are_upright_and_large_ones_are_halved(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    photo(0, 80, 48).save(tmp_path / "turned.jpg", exif=exif)
    photo(1, 200, 100).save(tmp_path / "large.jpg")
    photo(2, 200, 100).save(tmp_path / "large.png")
    monkeypatch.setattr(image_data, "_MOST_PIXELS", 8000)
    pictures, skipped = image_data.read_photos([str(tmp_path)], smallest=16)
    assert skipped == {}
    shapes = [picture.shape for picture in pictures]
    assert shapes == [(50, 100, 3), (50, 100, 3), (80, 48, 3)]


def speech_data(tmp_path, **changes):
    data = SpeechData(
        speech=(str(tmp_path / "speech"),),
        noise=(str(tmp_path / "noise"),),
        cache=str(tmp_path / "cache"),
        segment_samples=8000,
        validation_mixes=2,
    )
    return dataclasses.replace(data, **changes)


def write(folder, names, **options):
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        soundfile.write(folder / name, recording(i), 16_000, **options)


def test_recordings_of_one_speaker_and_a_single_noise_are_enough(tmp_path):
    write(tmp_path / "speech", [f"take_{i}.wav" for i in range(4)])
    write(tmp_path / "noise", ["fan.wav"])
    mixer = SpeechMixer(speech_data(tmp_path))
    summary = mixer.summary()
    assert (summary["speech"]["train"], summary["speech"]["held_out"]) == (3, 1)
    assert (summary["noise"]["train"], summary["noise"]["held_out"]) == (4, 1)
    noisy, clean = mixer.batch(np.random.default_rng(0), 2)
    assert np.isfinite(noisy).all() and noisy.shape == clean.shape == (2, 8000)
    assert mixer.validation()[0].shape == (2, 64_000)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus", "aiff"])
def test_every_sound_format_is_read(suffix, tmp_path):
    options = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    write(tmp_path / "speech", [f"a.{suffix}", f"b.{suffix}"], **options)
    found = corpus.read_corpus((str(tmp_path / "speech"),), "", kind="speech")
    assert len(found) == 2 and not found.skipped
    assert 15_000 < len(found.clip(0)) < 20_000 and np.abs(found.clip(0)).max() > 500


def test_a_broken_recording_is_left_out_by_its_name_from_the_cache_as_well(tmp_path):
    write(tmp_path / "speech", ["a.wav", "b.wav", "c.wav"])
    write(tmp_path / "noise", ["x.wav", "y.wav"])
    (tmp_path / "speech" / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "speech" / "empty.wav").write_bytes(
        (tmp_path / "speech" / "a.wav").read_bytes()[:44]
    )
    first = SpeechMixer(speech_data(tmp_path)).summary()
    assert sorted(first["speech"]["skipped"]) == ["broken.wav", "empty.wav"]
    assert first["speech"]["train"] + first["speech"]["held_out"] == 3
    assert SpeechMixer(speech_data(tmp_path)).summary() == first


def test_where_no_recording_can_be_read_the_error_names_one(tmp_path):
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "a.wav").write_bytes(b"x")
    with pytest.raises(ValueError, match="none of 1 recordings can be read, a.wav: "):
        SpeechMixer(speech_data(tmp_path))


# --- batches of photographs


def test_a_folder_of_pictures_is_trained_on(tmp_path):
    rng = np.random.default_rng(0)
    for i, suffix in enumerate(["png", "jpg", "webp", "bmp"]):
        folder = tmp_path / f"{i % 2}" / "deeper"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (60 + 20 * i, 70, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.{suffix}")
    Image.fromarray(pixels[:20]).save(tmp_path / "too-small.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "gray.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    photos = Photos(PhotoData((str(tmp_path),), crop_pixels=48, held_out=1))
    assert len(photos.training) == 4 and len(photos.validation) == 1
    assert photos.batch(rng, 7).shape == (7, 3, 48, 48)
    assert photos.batch(rng, 7).dtype == torch.uint8
    assert photos.held_out_crops(64).shape == (1, 3, 64, 64)


def test_batches_are_those_of_their_seed():
    photos = Photos(PhotoData(("synthetic",), crop_pixels=32, held_out=2))
    one, again, other = (photos.batch(np.random.default_rng(seed), 3) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_too_few_pictures_are_refused(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    with pytest.raises(ValueError, match="1 images of .*, expected at least 2"):
        Photos(PhotoData((str(tmp_path),), crop_pixels=32, held_out=1))


def test_held_out_pictures_are_not_trained_on():
    photos = Photos(PhotoData(("synthetic",), crop_pixels=32, held_out=5))
    trained = {picture.tobytes() for picture in photos.training}
    assert len(photos.validation) == 5
    assert not trained & {picture.tobytes() for picture in photos.validation}
