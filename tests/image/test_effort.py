"""Efforts: several encoders of one bundle, whose files every reader reads."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

from edgeae import media
from edgeae.cli.app import app
from edgeae.errors import BundleError
from edgeae.image.codec import ImageCodec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.tiny_codec_bundle(tmp_path_factory.mktemp("efforts") / "codec", best=True)


def test_each_effort_has_its_encoder_and_one_reader_reads_both(folder):
    codec = ImageCodec.load(folder)
    image = tiny.picture(60, 90)
    assert "encoder_best" not in codec.graphs
    blobs = {
        effort: codec.compress(image, quality=6, lossless=False, effort=effort)
        for effort in ("fast", "best")
    }
    assert blobs["fast"] == codec.compress(image, quality=6, lossless=False) != blobs["best"]
    reader = ImageCodec.load(folder)
    for effort, blob in blobs.items():
        latent = codec.encode(image, quality=6, effort=effort)
        assert np.array_equal(reader.decompress(blob), codec.decode(latent))
        assert reader.pack(latent) == blob
        packets = codec.packets(image, max_packet_bytes=400, quality=6, effort=effort)
        assert reader.receive(packets)[0].shape == image.shape
    assert codec.graphs["encoder_best"].file.name == "encoder_best.int8.onnx"
    assert "encoder_best" not in reader.graphs
    # What each sees around a tile is its own.
    assert [codec._encoders(effort).halo for effort in ("fast", "best")] == [1, 0]


def test_an_effort_that_is_not_there_is_refused(folder, tmp_path):
    image = tiny.picture(20, 20)
    with pytest.raises(ValueError, match='effort is \'slow\', expected "fast" or "best"'):
        ImageCodec.load(folder).compress(image, effort="slow")
    plain = ImageCodec.load(tiny.tiny_codec_bundle(tmp_path / "plain"))
    with pytest.raises(BundleError, match='tiny-codec has no encoder of effort "best"'):
        plain.compress(image, effort="best")

    def spoil(manifest):
        manifest["layout"]["encoder_halos"] = {"best": 1000}

    spoiled = tiny.tiny_codec_bundle(tmp_path / "spoiled", best=True)
    tiny.change_manifest(spoiled, spoil)
    codec = ImageCodec.load(spoiled)
    assert codec.compress(image)
    with pytest.raises(BundleError, match="encoder_halos of best is 1000, expected 0 to 64"):
        codec.compress(image, effort="best")


def test_the_command_takes_an_effort(folder, tmp_path):
    media.write_image(tmp_path / "a.png", tiny.picture(60, 90))
    runner = CliRunner()
    found = {}
    for effort in ("fast", "best"):
        target = tmp_path / f"{effort}.eae"
        command = ["compress", str(tmp_path / "a.png"), str(target), "--model", str(folder)]
        done = runner.invoke(app, [*command, "--lossy", "--effort", effort])
        assert done.exit_code == 0, done.output
        found[effort] = target.read_bytes()
    assert found["fast"] != found["best"]
    wrong = runner.invoke(app, [*command, "--force", "--effort", "slow"])
    assert wrong.exit_code and "effort is 'slow', expected" in wrong.output


def test_the_shipped_codec_for_eyes_reads_what_both_of_its_encoders_write():
    codec = ImageCodec.load("photo-codec-ms-ssim")
    image = tiny.picture(96, 128)
    for effort in ("fast", "best"):
        restored = codec.decompress(codec.compress(image, lossless=False, effort=effort))
        assert restored.shape == image.shape
        assert np.abs(restored.astype(int) - image).mean() < 6
