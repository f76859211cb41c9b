"""The demo's files and figures, with models that stand in for the real ones."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from edgeae import media
from edgeae.cli import demo_run, illustrations
from edgeae.cli.app import app

PLACED = {"precision": "int8", "graphs": {"step": {"nodes": {"CPUExecutionProvider": 7}}}}


class HalvingCodec:
    """Keeps the upper three bits of each value."""

    @classmethod
    def load(cls, model, **options):
        assert model == "photo-codec"
        return cls()

    def compress(self, image, *, quality):
        self.shape = image.shape
        return zlib.compress((image >> 5).tobytes())

    def decompress(self, blob):
        flat = np.frombuffer(zlib.decompress(blob), np.uint8)
        return ((flat << 5) + 16).astype(np.uint8).reshape(self.shape)

    def report(self):
        return PLACED


class QuietingDenoiser(HalvingCodec):
    """Knows the answer, and gives it with a tenth of the noise."""

    @classmethod
    def load(cls, model, **options):
        assert model == "speech-denoiser"
        return cls()

    def denoise(self, noisy, *, sample_rate):
        clean, _ = media.read_audio(demo_run.ASSETS / "clean.flac")
        return (clean[: len(noisy)] + 0.1 * (noisy - clean[: len(noisy)])).astype(np.float32)

    def stream(self, *, sample_rate, block_samples):
        class Stream:
            delay = 512

        return Stream()


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder that one run of `edgeae demo` filled, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_run, "ImageCodec", HalvingCodec)
        patch.setattr(demo_run, "SignalDenoiser", QuietingDenoiser)
        for _ in range(2):  # a second run replaces the files of the first
            result = CliRunner().invoke(app, ["demo", "--out", str(folder)])
            assert result.exit_code == 0, result.output
    return folder, result.stdout


def test_the_demo_writes_the_files_it_names_and_no_others(ran):
    folder, said = ran
    assert sorted(path.name for path in folder.iterdir()) == sorted(demo_run.FILES)
    assert all(name in said for name in demo_run.FILES)


def test_the_table_tells_bytes_psnr_si_sdr_speed_and_where_it_ran(ran):
    folder, said = ran
    ours = (folder / "photo.eae").stat().st_size
    jpeg = (folder / "photo-same-size.jpg").stat().st_size
    assert f"{ours:,}" in said and f"{jpeg:,}" in said
    spoken = (folder / "speech.eae").stat().st_size
    assert f"{spoken:,} bytes" in said and "kbit/s" in said
    audio, rate_hz = media.read_audio(folder / "speech-restored.wav")
    assert rate_hz == 16_000 and 8 * spoken / (len(audio) / rate_hz) < 4500
    for part in ("bit/pixel", "PSNR", "MS-SSIM", "SI-SDR after", "real-time factor"):
        assert part in said
    gained = float(said.split("SI-SDR after")[1].split("(")[1].split(" dB")[0])
    assert gained == pytest.approx(20, abs=0.1)  # a tenth of the noise is left
    assert "7 nodes on CPUExecutionProvider" in said


def test_the_jpeg_beside_it_is_the_best_that_is_no_larger():
    photo = media.read_image(demo_run.ASSETS / "photo.webp")
    for budget in (6000, 25_000, 90_000):
        data, stored = demo_run.jpeg_of_size(photo, budget)
        assert len(data) == stored.size_bytes <= budget
        better = int(stored.name.removeprefix("JPEG, quality ")) + 1
        buffer = io.BytesIO()
        Image.fromarray(photo).save(
            buffer,
            "JPEG",
            quality=better,
            progressive=True,
            optimize=True,
            subsampling="4:2:0",
        )
        assert len(buffer.getvalue()) > budget


def test_below_the_smallest_jpeg_the_smallest_is_shown_with_its_real_bytes():
    photo = media.read_image(demo_run.ASSETS / "photo.webp")
    data, stored = demo_run.jpeg_of_size(photo, 100)
    assert stored.name == "JPEG, quality 1" and stored.size_bytes == len(data) > 100


def test_a_folder_that_cannot_be_made_gets_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1 and "cannot make the folder" in result.output


def test_the_recordings_fit_each_other_and_every_asset_has_its_licence_told():
    clean, rate_hz = media.read_audio(demo_run.ASSETS / "clean.flac")
    noisy, noisy_rate_hz = media.read_audio(demo_run.ASSETS / "noisy.flac")
    assert clean.shape == noisy.shape and rate_hz == noisy_rate_hz
    told = (demo_run.ASSETS / "README.md").read_text()
    for path in Path(demo_run.ASSETS).iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in told


def test_a_spectrogram_is_brightest_where_the_tone_is():
    rate_hz = 16_000
    t = np.arange(rate_hz) / rate_hz
    tone = np.sin(2 * np.pi * 6000 * t).astype(np.float32)
    picture = illustrations.spectrograms([("tone", tone)], rate_hz=rate_hz)
    plot = picture[40:280, 64 : 1200 - 92].astype(int).sum(axis=2)
    assert abs(int(plot.mean(axis=1).argmax()) - 60) <= 2  # 6 of 8 kHz: a quarter from the top


def test_the_close_look_shows_the_very_pixels():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (100, 150, 3)).astype(np.uint8)
    panels = [illustrations.Panel(image, "a", "b")]
    picture = illustrations.side_by_side(panels, close_look=(10, 20, 30, 30), panel_width=300)
    for row, column in ((5, 7), (20, 25)):
        # ten times as large, below the header, the whole photo and the gap
        at = 16 + 52 + 200 + 8 + row * 10 + 5, 16 + column * 10 + 5
        assert tuple(picture[at]) == tuple(image[20 + row, 10 + column])
