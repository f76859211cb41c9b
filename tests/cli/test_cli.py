"""The command line: what it makes, what it says, and how it fails."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from command import COMMAND, ENVIRONMENT, run
from tiny import tiny_denoiser_bundle

import edgeae
from edgeae import bundle, media
from edgeae.errors import ProviderError
from edgeae.image import file as image_file
from edgeae.image.header import Header, Limits

CODEC_ID = bytes(range(16))
LOAD = edgeae.load


class StoringCodec:
    """Stands in for a codec: keeps the picture's upper bits, more of them at a higher quality."""

    loads: list[dict] = []
    limits: list[Limits] = []

    @classmethod
    def load(cls, model, **options):
        cls.loads.append({"model": str(model), **options})
        if model not in ("photo-codec", "mine"):
            return LOAD(model, **options)
        if options.get("providers") == ["MoonExecutionProvider"]:
            raise ProviderError("MoonExecutionProvider is not on this machine: CPU is")
        return cls()

    bundle = SimpleNamespace(
        manifest=SimpleNamespace(name="storing", task="codec", layout={"kind": "image"})
    )

    def compress(self, image, *, quality=None, max_bytes=None, lossless=None, limits=None):
        assert (quality is None) != (max_bytes is None)
        for bits in range(8, 0, -1):
            drop = 8 - bits
            body = bytes([drop]) + zlib.compress((image >> drop).tobytes())
            if quality is not None and bits <= quality:
                break
            if max_bytes is not None and len(body) + 80 <= max_bytes:
                break
        height, width, channels = image.shape
        header = Header(CODEC_ID, 8, height, width, channels)
        return image_file.write(header, [body])

    def decompress(self, blob, *, region=None, limits=None):
        self.limits.append(limits)
        content = image_file.read(blob)
        header, body = content.header, content.blocks[0]
        flat = np.frombuffer(zlib.decompress(body[1:]), np.uint8) << body[0]
        image = flat.reshape(header.height, header.width, header.channels)
        top, left, height, width = region or (0, 0, header.height, header.width)
        return image[top : top + height, left : left + width]


@pytest.fixture(autouse=True)
def _fakes(monkeypatch):
    monkeypatch.setattr(edgeae, "load", StoringCodec.load, raising=False)
    monkeypatch.setattr(StoringCodec, "loads", [])
    monkeypatch.setattr(StoringCodec, "limits", [])


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    """A bundle that lets sound pass through, at half its level."""
    return str(tiny_denoiser_bundle(tmp_path_factory.mktemp("bundle") / "tiny", gain=0.5))


def fails(code, *arguments):
    """The one line on stderr of a command that fails with this code."""
    said = run(*arguments, code=code).stderr
    lines = said.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("edgeae: "), said
    return lines[0]


def photo(height=24, width=40):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 6, 200 - rows], -1).astype(np.uint8)


def tone(frames, channels=1, rate=16_000):
    x = 0.4 * np.sin(2 * np.pi * 300 * np.arange(frames) / rate)
    return (
        np.repeat(x[:, None], channels, 1).astype(np.float32).squeeze(-1 if channels == 1 else ())
    )


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# --- compress and decompress ---


def test_a_photo_goes_there_and_back(tmp_path):
    media.write_image(tmp_path / "a.png", photo())
    said = run("compress", tmp_path / "a.png", tmp_path / "a.eae", "--quality", 8, "--psnr").stdout
    size = (tmp_path / "a.eae").stat().st_size
    assert f"{size:,} bytes" in said and f"{8 * size / (24 * 40):.3f} bit/pixel" in said
    assert "PSNR inf dB" in said and len(said.splitlines()) == 1
    said = run("decompress", tmp_path / "a.eae", tmp_path / "b.webp", "--model", "mine").stdout
    assert "40x24 pixels" in said
    assert np.array_equal(media.read_image(tmp_path / "b.webp"), photo())


def test_a_region_is_written_alone(tmp_path):
    media.write_image(tmp_path / "a.png", photo())
    run("compress", tmp_path / "a.png", tmp_path / "a.eae", "--quality", 8)
    given = ("decompress", tmp_path / "a.eae", tmp_path / "b.png", "--model", "mine", "--force")
    assert "30x9 pixels" in run(*given, "--region", "3,5,9,30").stdout
    assert np.array_equal(media.read_image(tmp_path / "b.png"), photo()[3:12, 5:35])
    for text in ("3,5,9", "a,b,c,d", "1,2,3,4,5", ""):
        assert "expected TOP,LEFT,HEIGHT,WIDTH" in fails(2, *given, "--region", text)


def test_only_who_asks_gets_a_picture_far_larger_than_its_bytes(tmp_path):
    media.write_image(tmp_path / "a.png", photo())
    run("compress", tmp_path / "a.png", tmp_path / "a.eae", "--quality", 8)
    given = ("decompress", tmp_path / "a.eae", tmp_path / "b.png", "--model", "mine", "--force")
    run(*given)
    run(*given, "--large")
    usual, large = StoringCodec.limits
    assert usual == Limits() and large.pixels_per_byte * 100 > Limits().pixels


def test_gray_stays_gray(tmp_path):
    media.write_image(tmp_path / "g.png", photo()[:, :, :1])
    run("compress", tmp_path / "g.png", tmp_path / "g.eae", "--quality", 9)
    run("decompress", tmp_path / "g.eae", tmp_path / "h.png", "--model", "mine")
    assert np.array_equal(media.read_image(tmp_path / "h.png"), photo()[:, :, :1])


def test_quality_and_max_bytes_reach_the_codec_and_exclude_each_other(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    media.write_image(tmp_path / "a.png", noise)
    run("compress", tmp_path / "a.png", tmp_path / "s.eae", "--max-bytes", 6000)
    assert 0 < (tmp_path / "s.eae").stat().st_size <= 6000
    sizes = []
    for quality in (1, 5, 8):
        run("compress", tmp_path / "a.png", tmp_path / f"{quality}.eae", "--quality", quality)
        sizes.append((tmp_path / f"{quality}.eae").stat().st_size)
    assert sizes == sorted(sizes)
    run("compress", tmp_path / "a.png", tmp_path / "default.eae")
    assert (tmp_path / "default.eae").read_bytes() == (tmp_path / "5.eae").read_bytes()
    both = "--quality", 3, "--max-bytes", 9
    assert "exclude each other" in fails(
        2, "compress", tmp_path / "a.png", tmp_path / "x.eae", *both
    )
    assert not (tmp_path / "x.eae").exists()


def test_load_options_reach_the_model(tmp_path):
    media.write_image(tmp_path / "a.png", photo())
    run(
        *("compress", tmp_path / "a.png", tmp_path / "a.eae", "--model", "mine"),
        *("--precision", "fp32", "--threads", 3, "--provider", "A", "--provider", "B"),
    )
    assert StoringCodec.loads == [
        {
            "model": "mine",
            "precision": "fp32",
            "providers": ["A", "B"],
            "device": None,
            "threads": 3,
        }
    ]


def test_an_existing_output_is_refused_and_replaced_by_force(tmp_path):
    media.write_image(tmp_path / "a.png", photo())
    (tmp_path / "a.eae").write_bytes(b"precious")
    line = fails(1, "compress", tmp_path / "a.png", tmp_path / "a.eae")
    assert "a.eae exists: --force replaces it" in line
    assert (tmp_path / "a.eae").read_bytes() == b"precious"
    assert StoringCodec.loads == []  # said before the model was loaded
    run("compress", tmp_path / "a.png", tmp_path / "a.eae", "--force")
    assert (tmp_path / "a.eae").read_bytes().startswith(b"\x89e")


def test_any_failure_leaves_the_old_output_and_no_litter(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "bad.eae").write_bytes(b"no file of ours")
    (tmp_path / "out.eae").write_bytes(b"precious")
    fails(1, "compress", tmp_path / "bad.png", tmp_path / "out.eae", "--force")
    (tmp_path / "out.png").write_bytes(b"precious")
    fails(1, "decompress", tmp_path / "bad.eae", tmp_path / "out.png", "--force", "--model", "mine")
    assert (tmp_path / "out.eae").read_bytes() == (tmp_path / "out.png").read_bytes() == b"precious"
    assert files(tmp_path) == ["bad.eae", "bad.png", "out.eae", "out.png"]


def test_a_folder_is_mirrored(tmp_path):
    photos = tmp_path / "photos"
    (photos / "deep" / "er").mkdir(parents=True)
    (photos / ".hidden").mkdir()
    for name in ("b.png", "a.JPG", "deep/er/c.webp", ".hidden/d.png", ".e.png"):
        media.write_image(photos / name, photo())
    (photos / "notes.txt").write_text("not a photo")
    result = run("compress", photos, tmp_path / "out", "--quality", 8)
    assert files(tmp_path / "out") == ["a.eae", "b.eae", "deep/er/c.eae"]
    assert len(result.stdout.splitlines()) == 4 and "3 files  " in result.stdout
    assert f"edgeae: left out: {photos / 'notes.txt'}: no image" in result.stderr
    run("decompress", tmp_path / "out", tmp_path / "back", "--to", "bmp", "--model", "mine")
    assert files(tmp_path / "back") == ["a.bmp", "b.bmp", "deep/er/c.bmp"]
    assert np.array_equal(media.read_image(tmp_path / "back" / "b.bmp"), photo())
    assert len(StoringCodec.loads) == 2  # one model for a whole folder


def test_one_bad_file_in_a_folder_is_told_at_the_end_and_the_rest_are_done(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "c.png"):
        media.write_image(photos / name, photo())
    (photos / "b.png").write_bytes((photos / "a.png").read_bytes()[:60])
    result = run("compress", photos, tmp_path / "out", code=1)
    assert files(tmp_path / "out") == ["a.eae", "c.eae"]
    bad, count = result.stderr.splitlines()[-2:]
    assert bad.startswith("edgeae: cannot read") and "b.png" in bad
    assert count == "edgeae: 1 of 3 files failed"


def test_two_photos_of_one_name_do_not_overwrite_each_other(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    media.write_image(photos / "a.png", photo())
    media.write_image(photos / "a.bmp", photo(8, 8))
    result = run("compress", photos, tmp_path / "out", "--force", code=1)
    assert "a.png would take the place of" in result.stderr and "a.bmp" in result.stderr
    header = image_file.read_header((tmp_path / "out" / "a.eae").read_bytes())
    assert (header.height, header.width) == (8, 8)


def test_an_output_folder_inside_the_input_is_not_its_own_input(tmp_path):
    media.write_image(tmp_path / "a.png", photo())
    run("compress", tmp_path, tmp_path / "out", "--quality", 8)
    run("decompress", tmp_path / "out", tmp_path / "out", "--model", "mine")
    assert files(tmp_path / "out") == ["a.eae", "a.png"]
    run("compress", tmp_path, tmp_path / "out", "--force")
    assert files(tmp_path / "out") == ["a.eae", "a.png"]


def test_a_file_goes_into_a_folder_that_exists(tmp_path):
    media.write_image(tmp_path / "a.png", photo())
    (tmp_path / "out").mkdir()
    run("compress", tmp_path / "a.png", tmp_path / "out")
    assert files(tmp_path / "out") == ["a.eae"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.touch(), "the file is empty"),
        (lambda path: path.write_text("hello there"), "not an image"),
        (lambda path: None, "No such file"),
    ],
)
def test_bad_photos_get_one_line(tmp_path, make, said):
    make(tmp_path / "a.png")
    assert said in fails(1, "compress", tmp_path / "a.png", tmp_path / "a.eae")
    assert not (tmp_path / "a.eae").exists()


def test_bad_models_and_providers_get_one_line(tmp_path):
    media.write_image(tmp_path / "a.png", photo())
    there = "compress", tmp_path / "a.png", tmp_path / "a.eae"
    known = f"known models are {', '.join(bundle.bundled_names())}"
    assert known in fails(1, *there, "--model", "nope")
    assert "Moon" in fails(1, *there, "--provider", "MoonExecutionProvider")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b[:-1],
        lambda b: b[:9],
        lambda b: b"",
        lambda b: b[:60] + bytes([b[60] ^ 1]) + b[61:],
    ],
)
def test_bad_eae_files_get_one_line(tmp_path, spoil):
    blob = StoringCodec().compress(photo(), quality=8)
    (tmp_path / "a.eae").write_bytes(spoil(blob))
    line = fails(1, "decompress", tmp_path / "a.eae", tmp_path / "b.png", "--model", "mine")
    assert len(line) < 300
    assert not (tmp_path / "b.png").exists()


def test_a_file_of_an_unknown_codec_names_its_id(tmp_path):
    (tmp_path / "a.eae").write_bytes(StoringCodec().compress(photo(), quality=8))
    line = fails(1, "decompress", tmp_path / "a.eae", tmp_path / "b.png")
    assert CODEC_ID[:4].hex() in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("compress", "a.png"),
        ("compress", "a.png", "b.eae", "--quality", "10"),
        ("compress", "a.png", "b.eae", "--quality", "0"),
        ("compress", "a.png", "b.eae", "--max-bytes", "0"),
        ("compress", "a.png", "b.eae", "--threads", "0"),
        ("compress", "a.png", "b.eae", "--what"),
        ("decompress", "a.eae", "b.xyz"),
        ("decompress", "a.eae", "b"),
        ("compress", "a.png", "b.png"),
        ("compress", "", "b.eae"),
        ("compress", "a.png", ""),
        ("denoise", "", "b.wav"),
        ("compress", "a.png", "a.png", "--force"),
        ("compress", "a.png", "a.eae", "missing"),
        ("compress", "a.png", "b.eae", "--force", "--skip-existing"),
        ("compress", "a.png", "b.eae", "--jobs", "0"),
        ("compress", "a.png", "b.eae", "--jobs", "all"),
        ("compress", "a.png", "b.eae", "--log", "a.png"),
        ("compress", "a.png", "b.eae", "--threads", "2147483648"),
        ("compress", "a.png", "-", "b.eae"),
        ("decompress", "a.eae", "-", "--to", "xyz"),
        ("denoise", "a.wav", "a.wav", "--force"),
        ("denoise", "a.wav", "b.m4a"),
        ("denoise", "-", "-"),
        ("denoise", "a.wav", "b.wav", "--rate", "8000"),
        ("denoise", "a.wav", "b.wav", "--pcm", "f32le"),
        ("denoise", ".", "-"),
        ("nonsense",),
        ("--nonsense",),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    media.write_image(tmp_path / "a.png", photo())
    (tmp_path / "a.eae").write_bytes(StoringCodec().compress(photo(), quality=8))
    media.write_audio(tmp_path / "a.wav", tone(400), 16_000)
    fails(2, *arguments)


# --- denoise ---


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_a_recording_keeps_its_rate_channels_length_and_subtype(tmp_path, denoiser, rate, channels):
    x = tone(rate + 17, channels, rate)
    media.write_audio(tmp_path / "a.wav", x, rate, subtype="PCM_24")
    said = run("denoise", tmp_path / "a.wav", tmp_path / "b.wav", "--model", denoiser).stdout
    assert f"{rate} Hz" in said and "real-time factor" in said
    back, _ = media.read_audio(tmp_path / "b.wav")
    assert media.audio_info(tmp_path / "b.wav") == media.audio_info(tmp_path / "a.wav")
    inner = slice(rate // 4, -rate // 4)
    assert np.abs(back[inner] - 0.5 * x[inner]).max() < 2e-3  # in place to the sample


def test_a_rate_that_a_file_says_is_not_called_an_option(tmp_path, denoiser):
    media.write_audio(tmp_path / "a.wav", tone(7000, 1, 7777), 7777)
    result = run("denoise", tmp_path / "a.wav", tmp_path / "b.wav", "--model", denoiser, code=1)
    assert "its sample rate is 7777, expected 8000 to" in result.stderr
    assert "--rate" not in result.stderr


def test_whole_streamed_and_library_results_are_equal(tmp_path, denoiser):
    x = tone(40_000, rate=22_050) + np.random.default_rng(0).normal(0, 0.05, 40_000)
    media.write_audio(tmp_path / "a.wav", x.astype(np.float32), 22_050, subtype="FLOAT")
    run("denoise", tmp_path / "a.wav", tmp_path / "b.wav", "--model", denoiser)
    said = run(
        "denoise", tmp_path / "a.wav", tmp_path / "c.wav", "--model", denoiser, "--stream"
    ).stdout
    assert "delay" in said and "10 ms" in said
    whole = edgeae.SignalDenoiser.load(denoiser).denoise(x.astype(np.float32), sample_rate=22_050)
    for name in "bc":
        assert np.abs(media.read_audio(tmp_path / f"{name}.wav")[0] - whole).max() < 1e-6


def test_an_attenuation_limit_of_zero_gives_the_input_back(tmp_path, denoiser):
    media.write_audio(tmp_path / "a.wav", tone(8000), 16_000, subtype="FLOAT")
    there = "denoise", tmp_path / "a.wav", tmp_path / "b.wav", "--model", denoiser
    run(*there, "--attenuation-limit", "0")
    back, _ = media.read_audio(tmp_path / "b.wav")
    assert np.abs(back - tone(8000)).max() < 1e-6


def test_a_folder_of_recordings_is_mirrored_and_bad_ones_are_told(tmp_path, denoiser):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    media.write_audio(tmp_path / "in" / "a.flac", tone(3000), 16_000)
    media.write_audio(tmp_path / "in" / "deep" / "b.wav", tone(3000), 16_000)
    whole = (tmp_path / "in" / "deep" / "b.wav").read_bytes()
    (tmp_path / "in" / "cut.wav").write_bytes(whole[:-1000])
    soundfile.write(tmp_path / "in" / "nan.wav", np.full(900, np.nan), 16_000, subtype="FLOAT")
    result = run("denoise", tmp_path / "in", tmp_path / "out", "--model", denoiser, code=1)
    assert files(tmp_path / "out") == ["a.flac", "deep/b.wav"]
    assert "1,000 bytes more than are there" in result.stderr and "NaN" in result.stderr
    assert result.stderr.endswith("2 of 4 files failed\n")


def test_a_cut_recording_leaves_the_old_output(tmp_path, denoiser):
    media.write_audio(tmp_path / "a.flac", tone(200_000), 16_000)
    data = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(data[: len(data) * 3 // 4])
    (tmp_path / "b.flac").write_bytes(b"precious")
    line = fails(
        1, "denoise", tmp_path / "a.flac", tmp_path / "b.flac", "--model", denoiser, "--force"
    )
    assert "a.flac" in line and "cut off" in line or "damaged" in line
    assert (tmp_path / "b.flac").read_bytes() == b"precious"
    assert files(tmp_path) == ["a.flac", "b.flac"]


def edgeae_command(*arguments, **options):
    """The command in a process of its own, as a user runs it."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        timeout=120,
        env=ENVIRONMENT,
        **options,
    )


@pytest.mark.parametrize(("pcm", "dtype"), [("s16le", "<i2"), ("f32le", "<f4")])
def test_raw_pcm_goes_through_a_pipe(denoiser, pcm, dtype):
    x = tone(16_000, 2)
    raw = (x * (32767 if pcm == "s16le" else 1)).astype(dtype)
    done = edgeae_command(
        *("denoise", "-", "-", "--model", denoiser),
        *("--rate", 16_000, "--channels", 2, "--pcm", pcm),
        input=raw.tobytes(),
    )
    assert done.returncode == 0, done.stderr
    out = np.frombuffer(done.stdout, dtype).reshape(-1, 2).astype(float)
    assert out.shape == raw.shape
    scale = 32767 if pcm == "s16le" else 1
    assert np.abs(out[600:-600] / scale - 0.5 * x[600:-600]).max() < 1e-3


def test_a_pipe_and_a_file_can_be_mixed(tmp_path, denoiser):
    raw = (tone(9000) * 32767).astype("<i2").tobytes()
    done = edgeae_command(
        *("denoise", "-", tmp_path / "b.wav", "--model", denoiser, "--rate", 16_000), input=raw
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    info = media.audio_info(tmp_path / "b.wav")
    assert (info.rate_hz, info.frames, info.subtype) == (16_000, 9000, "PCM_16")
    done = edgeae_command("denoise", tmp_path / "b.wav", "-", "--model", denoiser)
    assert len(done.stdout) == len(raw) and done.stderr == b""


def test_a_pipe_that_ends_inside_a_frame_is_told(denoiser):
    done = edgeae_command(
        "denoise", "-", "-", "--model", denoiser, "--rate", 16_000, input=b"\0" * 1001
    )
    assert done.returncode == 0 and len(done.stdout) == 1000
    told = b"edgeae: the audio ended inside a frame: its last 1 of 2 bytes are left out\n"
    assert done.stderr == told


def test_a_pipe_without_samples_is_told_and_writes_nothing(tmp_path, denoiser):
    there = "denoise", "-", tmp_path / "b.wav", "--model", denoiser, "--rate", 16_000
    done = edgeae_command(*there, input=b"")
    assert (done.returncode, done.stderr) == (1, b"edgeae: no audio came through -\n")
    assert files(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
def test_a_bar_goes_to_a_terminal_on_stderr_and_nothing_else_to_stdout(tmp_path, denoiser):
    import pty

    media.write_audio(tmp_path / "a.wav", tone(400_000), 16_000)
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "denoise", "a.wav", "b.wav", "--model", denoiser],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=120,
        env={**ENVIRONMENT, "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # Linux ends a closed pseudo-terminal with an error
        pass
    os.close(ours)
    assert done.returncode == 0 and done.stdout.startswith(b"a.wav -> b.wav  25.00 s")
    assert b"a.wav" in shown and b"\x1b[" in shown


# --- models, info, verify, help ---


def test_info_shows_a_bundle(denoiser):
    said = run("info", denoiser, env={"COLUMNS": "200"}).stdout
    for part in ("tiny-denoiser 0.1.0", "step.fp32.onnx", "kind audio", "sample_rate_hz 16000"):
        assert part in said


@pytest.mark.parametrize("model", ["photo-codec", "speech-denoiser"])
def test_info_of_a_bundled_model_tells_its_data_and_their_licences(model):
    assert "--card tells its data and licences" in run("info", model).stdout
    said = run("info", model, "--card").stdout
    assert "## Data" in said and "CC-BY" in said


def test_info_shows_an_eae_file(tmp_path):
    blob = StoringCodec().compress(photo(), quality=8)
    (tmp_path / "a.eae").write_bytes(blob)
    said = run("info", tmp_path / "a.eae", env={"COLUMNS": "200"}).stdout
    assert "40x24 pixels, RGB" in said and f"{len(blob):,}" in said and CODEC_ID[:4].hex() in said


def test_verify_says_what_it_checked(denoiser):
    said = run("verify", denoiser).stdout.splitlines()
    assert "the size and sha256 of 1 file are" in said[0] and "1 graph: weights inside" in said[1]
    assert "nodes on CPUExecutionProvider" in said[2]
    assert said[-1].endswith("4 checks, all well")


def test_verify_finds_a_changed_byte(tmp_path):
    bundle = tiny_denoiser_bundle(tmp_path / "tiny")
    graph = bundle / "step.fp32.onnx"
    data = bytearray(graph.read_bytes())
    data[-1] ^= 1
    graph.write_bytes(data)
    assert "step.fp32.onnx has changed" in fails(1, "verify", bundle)
    assert "step.fp32.onnx has changed" in fails(1, "info", bundle)


def test_an_unknown_model_is_named(tmp_path):
    assert "'nope'" in fails(1, "info", "nope")
    assert "'nope'" in fails(1, "verify", "nope")


def test_help_and_version_are_quick_and_load_nothing_heavy():
    code = (
        "import sys; from edgeae.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'onnxruntime', 'soundfile', 'PIL', 'torch'} & set(sys.modules)\n"
        "print('heavy:', heavy, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, timeout=60
    )
    assert done.stderr == "heavy: set()\n"
    for command in ("demo", "models", "info", "verify", "compress", "decompress", "denoise"):
        assert command in done.stdout
    assert "denoise" in run().stdout
    assert run("--version").stdout == f"edgeae {edgeae.__version__}\n"


def test_a_process_of_its_own_fails_in_one_line_without_a_traceback(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", 100) + b"WAVEfmt ")
    done = edgeae_command("denoise", tmp_path / "a.wav", tmp_path / "b.wav", "--model", "nope")
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.startswith(b"edgeae: ") and done.stderr.count(b"\n") == 1
