"""What the command writes it reads, and where it does not, the line names the command's option."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

from edgeae.cli.app import app
from edgeae.image import header
from edgeae.media import read_image, write_image


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Options that allow another run, with room for 6,000 pixels whatever their bytes."""
    monkeypatch.setattr(header, "USUAL_PIXELS", 6_000)
    write_image(tmp_path / "flat.png", np.full((100, 120), 128, np.uint8))
    write_image(tmp_path / "rich.png", tiny.picture(100, 120, noise=20))
    return ["--force"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_what_compress_writes_decompress_reads(tmp_path, given):
    assert run("compress", tmp_path / "rich.png", tmp_path / "a.eae", *given).exit_code == 0
    assert run("decompress", tmp_path / "a.eae", tmp_path / "b.png", *given).exit_code == 0
    assert read_image(tmp_path / "b.png").shape == (100, 120, 3)


def test_what_is_too_large_for_its_bytes_is_refused_by_both_until_one_says_large(tmp_path, given):
    refused = run("compress", tmp_path / "flat.png", tmp_path / "a.eae", *given)
    assert refused.exit_code == 1 and not (tmp_path / "a.eae").exists()
    assert "choose a higher quality, or give --large" in refused.stderr.replace("\n", " ")
    assert "Limits" not in refused.stderr

    wrote = run("compress", tmp_path / "flat.png", tmp_path / "a.eae", *given, "--large")
    assert wrote.exit_code == 0, wrote.stderr
    refused = run("decompress", tmp_path / "a.eae", tmp_path / "b.png", *given)
    assert refused.exit_code == 1
    assert "take a --region, or give --large" in refused.stderr.replace("\n", " ")
    read = run("decompress", tmp_path / "a.eae", tmp_path / "b.png", *given, "--large")
    assert read.exit_code == 0, read.stderr
    assert read_image(tmp_path / "b.png").shape[:2] == (100, 120)
