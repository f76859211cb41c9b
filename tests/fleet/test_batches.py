"""The callables for clusters do one batch as the library does each row; no cluster is needed."""

from __future__ import annotations

import io

import detectors
import numpy as np
import pytest
import tiny

import edgeae
from edgeae import media
from edgeae.ray import Compress, Decompress, Denoise, Score


def column(values):
    made = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        made[index] = value
    return made


def test_pictures_become_codes_and_come_back(codec_path, model):
    images = [tiny.picture(20 + i, 30, c, seed=i) for i, c in enumerate((0, 1, 3, 4))]
    batch = {"image": column(images), "path": np.array(list("abcd"))}
    coded = Compress(str(codec_path), quality=7)(batch)
    assert sorted(coded) == ["code", "error", "path"]
    assert list(coded["code"]) == [model.compress(image, quality=7) for image in images]
    restored = Decompress(str(codec_path))(coded)
    for image, code in zip(restored["image"], coded["code"], strict=True):
        assert np.array_equal(image, model.decompress(code))
    assert list(restored["path"]) == list("abcd") and not any(restored["error"])


def test_a_batch_that_is_one_array_and_files_are_taken_too(codec_path, model):
    images = np.stack([tiny.picture(20, 30, 3, seed=seed) for seed in range(3)])
    compress = Compress(str(codec_path))
    codes = [model.compress(image) for image in images]
    assert list(compress({"image": images})["code"]) == codes
    files = []
    for image in images:
        file = io.BytesIO()
        media.write_image(file, image, format="png")
        files.append(file.getvalue())
    assert list(compress({"image": column(files)})["code"]) == codes


def test_a_bad_row_says_why_and_the_others_are_done(codec_path, model):
    image = tiny.picture(20, 30, 3)
    files = Compress(str(codec_path))({"image": column([image, b"no picture", image * 1.0])})
    assert list(files["code"]) == [model.compress(image), None, None]
    assert files["error"][0] is None
    assert "cannot read" in files["error"][1] and "float64" in files["error"][2]
    shown = Decompress(str(codec_path))({"code": files["code"]})
    assert shown["image"][1] is None and shown["error"][1]


def test_sound_is_cleaned_as_arrays_and_as_files(tmp_path):
    path = tiny.tiny_denoiser_bundle(tmp_path / "d", gain=0.5)
    denoiser = edgeae.load(path)
    sounds = [
        np.random.default_rng(i).normal(0, 0.1, 4000 + 100 * i).astype(np.float32) for i in range(2)
    ]
    clean = [denoiser.denoise(sound, sample_rate=16_000) for sound in sounds]
    arrays = Denoise(str(path), column="sound", sample_rate=16_000)({"sound": column(sounds)})
    assert all(map(np.array_equal, arrays["sound"], clean))
    files = []
    for sound in sounds:
        file = io.BytesIO()
        media.write_audio(file, sound, 16_000, format="wav", subtype="FLOAT")
        files.append(file.getvalue())
    cleaned = Denoise(str(path))({"bytes": column(files)})
    for data, expected in zip(cleaned["bytes"], clean, strict=True):
        samples, rate = media.read_audio(io.BytesIO(data))
        assert rate == 16_000 and np.array_equal(samples, expected)
    refused = Denoise(str(path), column="sound")({"sound": column(sounds)})
    assert "sample_rate" in refused["error"][0]


def test_rows_are_scored_and_stay(tmp_path):
    path = detectors.squares(tmp_path / "d")
    detector = edgeae.load(path)
    rows = [np.float32([0, 0, 0, 0, 3, 0, 0, 0]), np.zeros(8, np.float32)]
    scored = Score(str(path))({"x": column(rows), "id": np.arange(2)})
    assert list(scored["score"]) == [float(detector.score(row).windows.max()) for row in rows]
    assert scored["score"][0] > scored["score"][1]
    assert sorted(scored) == ["error", "id", "score", "x"] and not any(scored["error"])


def test_a_model_of_another_task_or_a_column_that_is_not_there_is_refused(codec_path, tmp_path):
    denoiser = str(tiny.tiny_denoiser_bundle(tmp_path / "d"))
    with pytest.raises(ValueError, match="expected a codec of images"):
        Compress(denoiser)
    with pytest.raises(ValueError, match="expected a denoiser"):
        Denoise(str(codec_path))
    with pytest.raises(ValueError, match="expected a detector"):
        Score(denoiser)
    with pytest.raises(ValueError, match="no column 'image'"):
        Compress(str(codec_path))({"picture": column([])})
