"""What goes along with a recording through the command: tags, and the time of last change."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
from made import tone
from typer.testing import CliRunner

from edgeae import media
from edgeae.cli.app import app

CHANGED_NS = 1_500_000_000 * 10**9


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_denoiser_bundle(tmp_path_factory.mktemp("denoiser") / "tiny")


def test_tags_and_time_of_a_recording_are_kept_or_told(tmp_path: Path, denoiser: Path) -> None:
    source = tmp_path / "a.flac"
    with soundfile.SoundFile(source, "w", 16_000, 1, format="FLAC") as out:
        out.title = "Interview"
        out.write(tone())
    os.utime(source, ns=(CHANGED_NS, CHANGED_NS))
    run("denoise", source, tmp_path / "b.wav", "--model", denoiser)
    assert media.read_audio_metadata(tmp_path / "b.wav").tags["title"] == "Interview"
    assert (tmp_path / "b.wav").stat().st_mtime_ns == CHANGED_NS
    assert "AU has no room for it: title" in run(
        "denoise", source, tmp_path / "b.au", "--model", denoiser
    )


def test_a_recording_without_a_length_is_denoised_with_a_note(
    tmp_path: Path, denoiser: Path
) -> None:
    source = tmp_path / "a.wav"
    media.write_audio(source, tone(8000), 16_000)
    data = bytearray(source.read_bytes())
    data[40:44] = struct.pack("<I", 0x7FFFF000)
    source.write_bytes(data)
    assert "gives no length" in run("denoise", source, tmp_path / "b.wav", "--model", denoiser)
    assert np.shape(media.read_audio(tmp_path / "b.wav")[0]) == (8000,)
