"""Efforts: several encoders of one bundle, whose files every reader reads."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

import edgeae
from edgeae import media
from edgeae.cli.app import app
from edgeae.errors import BundleError
from edgeae.image.codec import ImageCodec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.tiny_codec_bundle(tmp_path_factory.mktemp("efforts") / "codec", best=True)


def test_each_effort_has_its_encoder_and_reads_what_the_other_writes(folder):
    fast, best = (ImageCodec.load(folder, effort=effort) for effort in ("fast", "best"))
    image = tiny.picture(60, 90)
    blobs = [codec.compress(image, quality=6, lossless=False) for codec in (fast, best)]
    assert blobs[0] != blobs[1] and fast.effort == "fast" and best.effort == "best"
    for blob in blobs:
        assert np.array_equal(fast.decompress(blob), best.decompress(blob))
    for codec, blob in zip((fast, best), blobs, strict=True):
        assert np.array_equal(codec.decode(codec.encode(image, quality=6)), fast.decompress(blob))
        assert codec.graphs["encoder"].file.name.startswith(
            "encoder_best." if codec is best else "encoder."
        )
    # What each sees around a tile is its own.
    assert (fast._analysis.halo, best._analysis.halo) == (1, 0)
    again = pickle.loads(pickle.dumps(best))
    assert again.effort == "best" and again.compress(image, quality=6, lossless=False) == blobs[1]


def test_an_effort_that_is_not_there_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match='effort is \'slow\', expected "fast" or "best"'):
        ImageCodec.load(folder, effort="slow")
    plain = tiny.tiny_codec_bundle(tmp_path / "plain")
    with pytest.raises(BundleError, match='tiny-codec has no encoder of effort "best"'):
        ImageCodec.load(plain, effort="best")

    def spoil(manifest):
        manifest["layout"]["encoder_halos"] = {"best": 1000}

    spoiled = tiny.tiny_codec_bundle(tmp_path / "spoiled", best=True)
    tiny.change_manifest(spoiled, spoil)
    with pytest.raises(BundleError, match="encoder_halos of best is 1000, expected 0 to 64"):
        ImageCodec.load(spoiled, effort="best")
    ImageCodec.load(spoiled)
    denoiser = tiny.tiny_denoiser_bundle(tmp_path / "denoiser")
    with pytest.raises(ValueError, match="effort is 'best', expected none"):
        edgeae.load(denoiser, effort="best")


def test_the_command_takes_an_effort(folder, tmp_path):
    media.write_image(tmp_path / "a.png", tiny.picture(60, 90))
    runner = CliRunner()
    sizes = {}
    for effort in ("fast", "best"):
        target = tmp_path / f"{effort}.eae"
        command = ["compress", str(tmp_path / "a.png"), str(target), "--model", str(folder)]
        done = runner.invoke(app, [*command, "--lossy", "--effort", effort])
        assert done.exit_code == 0, done.output
        sizes[effort] = target.read_bytes()
    assert sizes["fast"] != sizes["best"]
    wrong = runner.invoke(app, [*command, "--force", "--effort", "slow"])
    assert wrong.exit_code and "effort is 'slow', expected" in wrong.output
