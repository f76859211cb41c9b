"""Images through the command: denoised and filled, one or a folder."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tiny
from PIL import Image
from typer.testing import CliRunner

from edgeae import media
from edgeae.cli.app import app
from edgeae.image.denoiser import ImageDenoiser


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny.tiny_image_denoiser_bundle(tmp_path_factory.mktemp("bundle") / "blur"))


@pytest.fixture
def photo(tmp_path):
    """A picture's file and its pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    media.write_image(tmp_path / "a.png", pixels)
    return tmp_path / "a.png", pixels


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ok(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def scratched(tmp_path, size=(24, 40), name="mask.png"):
    mask = np.zeros((*size, 1), np.uint8)
    mask[5:9] = 255
    media.write_image(tmp_path / name, mask)
    return mask[..., 0] > 0


def test_a_picture_is_denoised_as_the_library_does(tmp_path, model, photo):
    file, pixels = photo
    told = ok("denoise", file, tmp_path / "b.png", "--model", model, "--strength", 12)
    assert "40x24 pixels, noise of 12 taken away" in told.output
    blind = ok("denoise", file, tmp_path / "c.png", "--model", model)
    assert "noise of 12." in blind.output  # a tenth of the mean
    loaded = ImageDenoiser.load(model)
    for name, strength in (("b.png", 12), ("c.png", None)):
        np.testing.assert_array_equal(
            media.read_image(tmp_path / name), loaded.denoise(pixels, strength=strength)
        )


def test_a_folder_of_pictures_is_denoised(tmp_path, model, photo):
    folder = tmp_path / "photos"
    (folder / "in").mkdir(parents=True)
    for name in ("x.png", "in/y.png"):
        media.write_image(folder / name, photo[1])
    (folder / "notes.txt").write_text("no picture")
    ok("denoise", folder, tmp_path / "out", "--model", model)
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.png")) == ["x.png", "y.png"]


def test_a_strength_beyond_the_model_names_the_option(tmp_path, model, photo):
    result = run("denoise", photo[0], tmp_path / "b.png", "--model", model, "--strength", 90)
    assert result.exit_code == 1
    assert "--strength is 90, expected 0 to 60" in result.output
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rate", "8000"), "are for raw PCM"),
        (("--stream",), "are for audio"),
        (("--attenuation-limit", "6"), "are for audio"),
    ],
)
def test_options_of_sound_are_refused_for_pictures(tmp_path, model, photo, words, said):
    result = run("denoise", photo[0], tmp_path / "b.png", "--model", model, *words)
    assert result.exit_code == 2 and said in result.output


def test_the_strength_of_sound_and_pictures_through_a_pipe_are_refused(tmp_path, model):
    media.write_audio(tmp_path / "a.wav", np.zeros(800, np.float32), 16_000)
    sound = run("denoise", tmp_path / "a.wav", tmp_path / "b.wav", "--strength", 5)
    assert sound.exit_code == 2 and "--strength is for images" in sound.output
    pipe = run("denoise", "-", tmp_path / "b.png", "--model", model)
    assert pipe.exit_code == 2 and "not -" in pipe.output


def test_of_16_bits_it_is_told_that_they_become_8(tmp_path, model):
    deep = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 60
    Image.fromarray(deep).save(tmp_path / "deep.png")
    scratched(tmp_path)
    for told in (
        ok("denoise", tmp_path / "deep.png", tmp_path / "a.png", "--model", model),
        ok("fill", tmp_path / "deep.png", tmp_path / "mask.png", tmp_path / "b.png"),
        ok("compress", tmp_path / "deep.png", tmp_path / "c.eae", "--lossless"),
    ):
        assert told.stderr == f"edgeae: {tmp_path / 'deep.png'}: its 16 bits a sample become 8\n"


def test_a_mask_is_not_written_over(tmp_path, model, photo):
    file, _ = photo
    scratched(tmp_path)
    before = (tmp_path / "mask.png").read_bytes()
    for mask, out, what in (("mask.png", "mask.png", "file"), (".", ".", "folder")):
        result = run(*("fill", file, tmp_path / mask, tmp_path / out, "--model", model, "--force"))
        assert result.exit_code == 2 and f"expected another {what}" in result.output
    assert (tmp_path / "mask.png").read_bytes() == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads all")
def test_a_mask_that_may_not_be_read_is_told_as_any_file(tmp_path, model, photo):
    scratched(tmp_path)
    (tmp_path / "mask.png").chmod(0)
    result = run("fill", photo[0], tmp_path / "mask.png", tmp_path / "b.png", "--model", model)
    assert result.exit_code == 1 and "mask.png: Permission denied" in result.output


def test_a_picture_is_not_given_to_a_model_of_sound(tmp_path, photo):
    sound = tiny.tiny_denoiser_bundle(tmp_path / "sound")
    result = run("fill", photo[0], photo[0], tmp_path / "b.png", "--model", sound)
    assert result.exit_code == 2 and "denoiser of 'audio', expected one of 'image'" in result.output


def test_a_hole_is_filled_and_the_rest_is_kept(tmp_path, model, photo):
    file, pixels = photo
    mask = scratched(tmp_path)
    told = ok("fill", file, tmp_path / "mask.png", tmp_path / "b.png", "--model", model)
    assert "16.7% filled" in told.output
    found = media.read_image(tmp_path / "b.png")
    np.testing.assert_array_equal(found[~mask], pixels[~mask])
    np.testing.assert_array_equal(found, ImageDenoiser.load(model).fill(pixels, mask))


def test_a_folder_has_a_folder_of_masks(tmp_path, model, photo):
    for folder in ("photos", "masks"):
        (tmp_path / folder / "in").mkdir(parents=True)
    for name in ("x.png", "in/y.png", "z.png"):
        media.write_image(tmp_path / "photos" / name, photo[1])
    mask = scratched(tmp_path / "masks", name="x.webp")
    scratched(tmp_path / "masks" / "in", name="y.png")
    result = run(
        "fill", tmp_path / "photos", tmp_path / "masks", tmp_path / "out", "--model", model
    )
    assert result.exit_code == 1 and "z.png has none for a mask" in result.output
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.png")) == ["x.png", "y.png"]
    found = media.read_image(tmp_path / "out" / "x.png")
    np.testing.assert_array_equal(found[~mask], photo[1][~mask])
    assert (found[mask] != photo[1][mask]).any()


@pytest.mark.parametrize("size", [(24, 41), (23, 40)])
def test_a_mask_of_another_size_is_refused(tmp_path, model, photo, size):
    scratched(tmp_path, size)
    result = run("fill", photo[0], tmp_path / "mask.png", tmp_path / "b.png", "--model", model)
    assert result.exit_code == 1 and "expected 40x24 as" in result.output
    assert not (tmp_path / "b.png").exists()


def test_out_is_not_replaced_and_a_mask_must_be_there(tmp_path, model, photo):
    scratched(tmp_path)
    (tmp_path / "b.png").write_bytes(b"mine")
    kept = run("fill", photo[0], tmp_path / "mask.png", tmp_path / "b.png", "--model", model)
    assert kept.exit_code == 1 and "--force replaces it" in kept.output
    lost = run("fill", photo[0], tmp_path / "no.png", tmp_path / "c.png", "--model", model)
    assert lost.exit_code == 1 and "no.png" in lost.output
    assert (tmp_path / "b.png").read_bytes() == b"mine"
