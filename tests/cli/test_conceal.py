"""`decompress --conceal`: what is left of a damaged image is written, and what was lost is told."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from command import run
from PIL import Image

import edgeae
from edgeae import media
from edgeae.image.codec import ImageCodec
from edgeae.image.header import Metadata


@pytest.fixture
def blob(codec_path):
    """A file of twelve tiles, with metadata."""
    exif = Image.Exif()
    exif[271] = "Camera"
    metadata = Metadata(exif.tobytes()[6:], None)
    picture = tiny.picture(50, 61, 3, noise=30)
    return ImageCodec.load(codec_path).compress(picture, metadata=metadata)


def damaged_in(blob, wanted):
    """The file with a changed byte in each chunk of a kind."""
    damaged, position = bytearray(blob), len(tiny.EAE_MAGIC)
    for kind, body in tiny.eae_chunks(blob):
        if kind == wanted:
            damaged[position + 8 + len(body) // 2] ^= 0x10
        position += len(body) + 12
    return bytes(damaged)


def written(path):
    return media.read_image(path), media.read_image_metadata(path).exif


def test_what_is_left_of_a_cut_file_is_what_the_library_gives(tmp_path, codec_path, blob):
    cut = blob[: len(blob) * 2 // 3]
    (tmp_path / "a.eae").write_bytes(cut)
    given = "decompress", tmp_path / "a.eae", tmp_path / "a.png", "--model", codec_path
    assert "cut off" in run(*given, code=1).stderr
    log = tmp_path / "log.csv"
    told = run(*given, "--conceal", "--log", log)
    image, mask = ImageCodec.load(codec_path).decompress(cut, errors="conceal")
    share = f": {mask.mean():.1%} of the pixels may be wrong"
    assert 0 < mask.mean() < 1
    assert told.stderr.startswith(f"edgeae: {tmp_path / 'a.eae'}: ") and told.stderr.endswith(
        f"{share}\n"
    )
    assert share in log.read_text()
    np.testing.assert_array_equal(written(tmp_path / "a.png")[0], image)


def test_a_sound_file_is_restored_as_without_it_and_nothing_is_told(tmp_path, codec_path, blob):
    (tmp_path / "a.eae").write_bytes(blob)
    given = "decompress", tmp_path / "a.eae"
    run(*given, tmp_path / "a.png", "--model", codec_path)
    told = run(*given, tmp_path / "b.png", "--model", codec_path, "--conceal")
    assert told.stderr == ""
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    image, exif = written(tmp_path / "b.png")
    assert image.shape == (50, 61, 3) and b"Camera" in exif


@pytest.mark.parametrize("kind", [b"HEAD", b"exIF"])
def test_damage_that_no_pixel_has_is_told_too(tmp_path, codec_path, blob, kind):
    (tmp_path / "a.eae").write_bytes(damaged_in(blob, kind))
    given = "decompress", tmp_path / "a.eae", tmp_path / "a.png", "--model", codec_path
    run(*given, code=1)
    assert ": 0.0% of the pixels may be wrong" in run(*given, "--conceal").stderr
    image, exif = written(tmp_path / "a.png")
    np.testing.assert_array_equal(image, ImageCodec.load(codec_path).decompress(blob))
    assert (exif is None) == (kind == b"exIF")


def test_a_region_tells_of_its_own_pixels_and_a_stream_is_read_too(tmp_path, codec_path, blob):
    cut = blob[: len(blob) * 2 // 3]
    (tmp_path / "a.eae").write_bytes(cut)
    given = tmp_path / "top.png", "--model", codec_path, "--conceal", "--region", "0,0,5,6"
    told = run("decompress", tmp_path / "a.eae", *given)
    assert "6x5 pixels" in told.stdout and ": 0.0% of the pixels may be wrong" in told.stderr
    piped = run("decompress", "-", tmp_path / "b.png", *given[1:4], data=cut)
    assert "61x50 pixels" in piped.stdout and "may be wrong" in piped.stderr


def test_what_is_no_image_or_has_nothing_left_is_refused(tmp_path, codec_path, blob):
    given = tmp_path / "a.png", "--conceal"
    for name, data, said in (
        ("none.eae", b"no such file", "not an .eae file"),
        ("head.eae", blob[:20], "nothing is left of its header"),
        (
            "row.eae",
            edgeae.load("ecg-codec").compress(np.zeros(500), sample_rate=360),
            "holds a series",
        ),
    ):
        (tmp_path / name).write_bytes(data)
        assert said in run("decompress", tmp_path / name, *given, code=1).stderr
    for out in ("a.wav", "a.csv"):
        told = run("decompress", tmp_path / "row.eae", tmp_path / out, "--conceal", code=2)
        assert "--conceal are for images" in told.stderr
    assert not (tmp_path / "a.png").exists()
