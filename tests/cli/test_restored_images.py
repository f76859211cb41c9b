"""Images through the command: denoised and filled, one or a folder."""

from __future__ import annotations

import os
import struct
import zlib

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


def test_a_strength_beyond_the_model_is_told_once_and_names_the_option(tmp_path, model, photo):
    media.write_image(tmp_path / "b.png", photo[1])
    out = tmp_path / "out"
    for sources in ([photo[0]], [photo[0], tmp_path / "b.png"], [tmp_path]):
        result = run("denoise", *sources, f"{out}/", "--model", model, "--strength", 90)
        assert result.exit_code == 2
        assert result.stderr == "edgeae: --strength is 90, expected 0 to 60\n"
    assert not out.exists()


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


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_kept(tmp_path, model, channels, suffix):
    pixels = np.random.default_rng(0).integers(0, 65536, (24, 40, channels), np.uint16)
    file = tmp_path / f"deep.{suffix}"
    media.write_image(file, pixels)
    mask = scratched(tmp_path)
    told = ok("denoise", file, tmp_path / f"a.{suffix}", "--model", model, "--strength", 12)
    assert told.stderr == ""
    told = ok("fill", file, tmp_path / "mask.png", tmp_path / f"b.{suffix}", "--model", model)
    assert told.stderr == ""
    loaded = ImageDenoiser.load(model)
    for name, expected in (
        ("a", loaded.denoise(pixels, strength=12)),
        ("b", loaded.fill(pixels, mask)),
    ):
        found = media.read_image(tmp_path / f"{name}.{suffix}", keep_16_bits=True)
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, expected)


def test_where_16_bits_become_8_that_is_told(tmp_path, model):
    deep = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 60
    file = tmp_path / "deep.png"
    Image.fromarray(deep).save(file)
    linear = tmp_path / "linear.png"
    body = b"gAMA" + struct.pack(">I", 100_000)
    data = file.read_bytes()
    chunk = struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body))
    linear.write_bytes(data[:33] + chunk + data[33:])
    scratched(tmp_path)
    for source, told, reason in (
        (
            file,
            ok("denoise", file, tmp_path / "a.webp", "--model", model),
            ": WEBP has no more here",
        ),
        (
            file,
            ok("fill", file, tmp_path / "mask.png", tmp_path / "b.bmp"),
            ": BMP has no more here",
        ),
        (
            linear,
            ok("denoise", linear, tmp_path / "b.png", "--model", model),
            ", as its colors become sRGB",
        ),
        (file, ok("compress", file, tmp_path / "c.eae", "--lossless"), ""),
    ):
        assert told.stderr == f"edgeae: {source}: its 16 bits a sample become 8{reason}\n"


def test_a_mask_is_not_written_over(tmp_path, model, photo):
    file, _ = photo
    scratched(tmp_path)
    before = (tmp_path / "mask.png").read_bytes()
    for mask, out, what in (("mask.png", "mask.png", "file"), (".", ".", "folder")):
        result = run(*("fill", file, tmp_path / mask, tmp_path / out, "--model", model, "--force"))
        assert result.exit_code == 2 and f"expected another {what}" in result.output
    assert (tmp_path / "mask.png").read_bytes() == before


def test_a_picture_is_no_mask_of_itself(tmp_path, photo):
    for one in (photo[0], tmp_path):
        result = run("fill", one, one, tmp_path / "b.png")
        assert result.exit_code == 2 and f"IN {one} is MASK {one}, expected" in result.stderr
    assert not (tmp_path / "b.png").exists()


def test_noise_beyond_what_the_model_knows_is_told_as_that_or_more(tmp_path):
    low = tiny.tiny_image_denoiser_bundle(tmp_path / "low")
    tiny.change_manifest(low, lambda manifest: manifest["layout"].update(highest_level=5))
    for value, words in ((40, "noise of 4.0 found"), (200, "noise of 5.0 or more found")):
        media.write_image(tmp_path / "a.png", np.full((16, 16, 3), value, np.uint8))
        told = ok("denoise", tmp_path / "a.png", tmp_path / "b.png", "--model", low, "--force")
        assert words in told.output


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads all")
def test_a_mask_that_may_not_be_read_is_told_as_any_file(tmp_path, model, photo):
    scratched(tmp_path)
    (tmp_path / "mask.png").chmod(0)
    result = run("fill", photo[0], tmp_path / "mask.png", tmp_path / "b.png", "--model", model)
    assert result.exit_code == 1 and "mask.png: Permission denied" in result.output


def test_a_picture_is_not_given_to_a_model_of_sound(tmp_path, photo):
    sound = tiny.tiny_denoiser_bundle(tmp_path / "sound")
    scratched(tmp_path)
    result = run("fill", photo[0], tmp_path / "mask.png", tmp_path / "b.png", "--model", sound)
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
    masks, z = tmp_path / "masks", tmp_path / "photos" / "z.png"
    assert result.exit_code == 1 and f"{masks} has no mask for {z}, expected" in result.output
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


@pytest.mark.parametrize("brightest", [0, 1, 127])
def test_a_mask_without_a_hole_is_told(tmp_path, model, photo, brightest):
    file, pixels = photo
    dark = np.zeros((24, 40, 1), np.uint8)
    dark[5, 6] = brightest
    media.write_image(tmp_path / "mask.png", dark)
    log = tmp_path / "log.csv"
    asked = file, tmp_path / "mask.png", tmp_path / "b.png", "--model", model, "--log", log
    told = ok("fill", *asked)
    why = f"nothing is filled: the brightest pixel of {tmp_path / 'mask.png'} is {brightest}, "
    assert told.stderr == f"edgeae: {file}: {why}holes are above 127 of 255\n"
    assert why in log.read_text()
    np.testing.assert_array_equal(media.read_image(tmp_path / "b.png"), pixels)


def test_a_hole_of_few_pixels_is_counted(tmp_path, model):
    media.write_image(tmp_path / "a.png", np.full((64, 64, 3), 90, np.uint8))
    mask = np.zeros((64, 64), np.uint8)
    for number, words in ((1, "1 pixel filled"), (2, "2 pixels filled"), (3, "0.1% filled")):
        mask[number, number] = 255
        media.write_image(tmp_path / "mask.png", mask)
        asked = tmp_path / "a.png", tmp_path / "mask.png", tmp_path / "b.png"
        told = ok("fill", *asked, "--model", model, "--force")
        assert f"64x64 pixels, {words}\n" in told.output and told.stderr == ""


def test_a_mask_drawn_over_the_stored_side_of_a_turned_photo_is_told_so(tmp_path, model):
    turned = Image.Exif()
    turned[0x112] = 6
    Image.fromarray(np.zeros((40, 24, 3), np.uint8)).save(tmp_path / "a.jpg", exif=turned)
    scratched(tmp_path, (40, 24))
    result = run(
        "fill", tmp_path / "a.jpg", tmp_path / "mask.png", tmp_path / "b.png", "--model", model
    )
    assert result.exit_code == 1
    assert f"24x40 pixels, expected 40x24 as {tmp_path / 'a.jpg'} has when it is" in result.stderr


def test_pictures_of_formats_that_are_only_read_become_png(tmp_path, model, photo):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(photo[1]).save(folder / "x.gif")
    Image.fromarray(photo[1]).save(folder / "y.jp2")
    media.write_image(folder / "z.bmp", photo[1])
    scratched(tmp_path)
    ok("denoise", folder, tmp_path / "clean", "--model", model)
    ok("fill", folder, tmp_path / "mask.png", tmp_path / "whole", "--model", model)
    ok("denoise", folder / "x.gif", folder / "z.bmp", f"{tmp_path}/two/", "--model", model)
    for out, names in (
        ("clean", ["x.png", "y.png", "z.bmp"]),
        ("whole", ["x.png", "y.png", "z.bmp"]),
        ("two", ["x.png", "z.bmp"]),
    ):
        assert sorted(p.name for p in (tmp_path / out).iterdir()) == names
    alone = run("denoise", folder / "x.gif", tmp_path / "x.gif", "--model", model)
    assert alone.exit_code == 2 and "expected a name that ends in .png" in alone.stderr
    media.write_image(folder / "x.png", photo[1])
    both = run("denoise", folder, tmp_path / "both", "--model", model)
    assert both.exit_code == 1 and "would take the place of" in both.stderr


def test_that_there_is_no_folder_for_out_is_told_before_any_work(tmp_path, photo):
    scratched(tmp_path)
    out = tmp_path / "no" / "b.png"
    for verb in (["denoise", photo[0]], ["fill", photo[0], tmp_path / "mask.png"]):
        # Nor is the model looked at.
        result = run(*verb, out, "--model", "photo-denoiser", "--device", "gpu")
        assert result.exit_code == 1
        assert result.stderr == f"edgeae: cannot write {out}: there is no folder {out.parent}\n"


def test_a_name_that_says_nothing_is_of_the_kind_that_out_is(tmp_path, photo):
    (tmp_path / "photo.raw").write_bytes(photo[0].read_bytes())
    ok("denoise", tmp_path / "photo.raw", tmp_path / "b.png")
    assert media.read_image(tmp_path / "b.png").shape == (24, 40, 3)


def test_a_folder_of_neither_kind_is_told_both(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("neither")
    result = run("denoise", tmp_path / "in", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{tmp_path / 'in'} holds no audio and no image file" in result.stderr
    assert " .png " in result.stderr and " .wav " in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_image_in_a_folder_of_audio_is_named(tmp_path, photo):
    sound = tiny.tiny_denoiser_bundle(tmp_path / "sound")
    (tmp_path / "in").mkdir()
    media.write_audio(tmp_path / "in" / "a.wav", np.zeros(800, np.float32), 16_000)
    media.write_image(tmp_path / "in" / "b.png", photo[1])
    told = ok("denoise", tmp_path / "in", tmp_path / "out", "--model", sound)
    left = f"left out: {tmp_path / 'in' / 'b.png'}: an image, in a folder with audio"
    assert left in told.stderr
