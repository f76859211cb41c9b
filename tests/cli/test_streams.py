"""Standard streams: pictures and live sound through pipes, closed streams, hostile text."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import tiny
from command import COMMAND, ENVIRONMENT
from PIL import Image
from processes import default_signals
from typer.testing import CliRunner

import edgeae
from edgeae import media
from edgeae.cli import terminal
from edgeae.cli.app import app

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and descriptors are POSIX")


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return str(tiny.tiny_codec_bundle(tmp_path_factory.mktemp("bundle") / "codec"))


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    return str(tiny.tiny_denoiser_bundle(tmp_path_factory.mktemp("bundle") / "denoiser"))


@pytest.fixture
def photo(tmp_path):
    rows, columns = np.mgrid[:24, :40]
    image = np.stack([rows * 5, columns * 6, 200 - rows], -1).astype(np.uint8)
    media.write_image(tmp_path / "a.png", image)
    return tmp_path / "a.png"


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def in_shell(redirection, *arguments):
    """The command as a shell starts it with its streams redirected; its exit code and stderr."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        env=ENVIRONMENT,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


# --- pictures ---


def test_a_picture_goes_through_pipes_both_ways(tmp_path, codec, photo):
    given = "--model", codec
    packed = run("compress", "-", "-", *given, "--quality", 9, input=photo.read_bytes())
    assert packed.exit_code == 0, packed.output
    run("compress", photo, tmp_path / "a.eae", *given, "--quality", 9)
    assert packed.stdout_bytes == (tmp_path / "a.eae").read_bytes()
    back = run("decompress", "-", "-", *given, "--to", "bmp", input=packed.stdout_bytes)
    run("decompress", tmp_path / "a.eae", tmp_path / "a.bmp", *given)
    assert back.stdout_bytes == (tmp_path / "a.bmp").read_bytes()
    for verb in ("compress", "decompress"):
        nothing = run(verb, "-", "-", *given, input=b"")
        assert nothing.exit_code == 1 and "nothing came through -" in nothing.stderr


def test_a_pipe_and_a_file_can_be_mixed_for_pictures(tmp_path, codec, photo):
    out = tmp_path / "b.eae"
    said = run("compress", "-", out, "--model", codec, input=photo.read_bytes())
    assert said.exit_code == 0 and f"{photo.stat().st_size:,} -> {out.stat().st_size:,}" in (
        said.stdout
    )
    assert run("compress", photo, "-", "--model", codec).stdout_bytes == out.read_bytes()


# --- sound that comes in live ---


@POSIX
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_live_recording_and_keeps_it(tmp_path, denoiser, name):
    samples = (3000 * np.sin(np.arange(48_000))).astype("<i2").tobytes()
    process = subprocess.Popen(
        [*COMMAND, "denoise", "-", "live.wav", "--rate", "16000", "--model", denoiser],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=default_signals,
        env=ENVIRONMENT,
    )
    process.stdin.write(samples[:32_000])
    process.stdin.flush()
    while not list(tmp_path.iterdir()):  # it writes, so it listens
        assert process.poll() is None
        time.sleep(0.05)
    process.stdin.write(samples[32_000:] + b"!")  # and a stray byte at the end
    process.stdin.flush()
    process.send_signal(getattr(signal, name))
    said = process.communicate(timeout=240)[1].decode()
    assert process.returncode == 0, said
    assert f"edgeae: {name}: the recording ends here and is kept" in said
    assert "its last 1 of 2 bytes are left out" in said
    assert media.audio_info(tmp_path / "live.wav").frames == 48_000
    assert [path.name for path in tmp_path.iterdir()] == ["live.wav"]


def wave(samples, *, rate=16_000, size=None, extra=b""):
    """A WAV of 16 bits whose header says another size, with a chunk after the samples."""
    data = samples.astype("<i2").tobytes()
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    body = head + struct.pack("<4sI", b"data", len(data) if size is None else size) + data + extra
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


@pytest.mark.parametrize("size", [None, 0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_through_a_pipe_says_its_own_rate(tmp_path, denoiser, size):
    samples = 3000 * np.sin(np.arange(9000))
    extra = struct.pack("<4sI", b"LIST", 4) + b"INFO" if size is None else b""
    done = run(
        *("denoise", "-", tmp_path / "b.wav", "--model", denoiser),
        input=wave(samples, size=size, extra=extra),
    )
    assert done.exit_code == 0, done.output
    info = media.audio_info(tmp_path / "b.wav")
    assert (info.rate_hz, info.frames) == (16_000, 9000)
    said = run("denoise", "-", tmp_path / "c.wav", "--rate", 8000, input=wave(samples))
    assert said.exit_code == 1 and "at 16000 Hz" in said.stderr
    cut = run("denoise", "-", tmp_path / "c.wav", input=wave(samples)[:30])
    assert cut.exit_code == 1 and "ends in its header" in cut.stderr
    assert not (tmp_path / "c.wav").exists()


def test_raw_samples_without_a_rate_are_a_usage_error(tmp_path):
    result = run("denoise", "-", tmp_path / "b.wav", input=bytes(4000))
    assert result.exit_code == 2 and "needs --rate, or the header of a WAV" in result.stderr


# --- streams that are closed or full ---


@POSIX
def test_closed_streams_end_in_one_line_on_the_right_one(tmp_path, codec, photo):
    given = "--model", codec
    assert in_shell("<&-", "decompress", "-", "-") == (
        1,
        "edgeae: -: cannot read from standard input: it is closed\n",
    )
    code, said = in_shell(">&-", "compress", photo, "-", *given)
    assert code == 1 and "cannot write to standard output: it is closed" in said
    code, said = in_shell(">&-", "compress", photo, tmp_path / "b.eae", *given)
    assert code == 0 and "cannot" not in said
    assert (tmp_path / "b.eae").is_file()
    assert in_shell("2>&-", "compress", tmp_path / "gone.png", "x.eae", *given)[0] == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
def test_a_file_whose_line_cannot_be_printed_is_still_done(tmp_path, codec, photo):
    log = tmp_path / "log.jsonl"
    code, said = in_shell(
        ">/dev/full", "compress", photo.parent, tmp_path / "out", "--model", codec, "--log", log
    )
    assert code == 1
    assert said.splitlines()[-1] == (
        "edgeae: cannot write to standard output: No space left on device"
    )
    assert (tmp_path / "out" / "a.eae").is_file()
    assert json.loads(log.read_text())["status"] == "done"
    assert "failed" not in said


def test_a_line_that_the_encoding_has_no_letters_for_is_printed(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.say("фото.png")
    assert stream.buffer.getvalue() == rb"\u0444\u043e\u0442\u043e.png" + b"\n"


# --- text that comes from strangers ---

ESCAPE = "\x1b]0;owned\x07\x1b[31m"


def test_escape_sequences_from_a_bundle_are_shown_and_not_obeyed(tmp_path):
    bundle = tiny.tiny_denoiser_bundle(
        tmp_path / "tiny", figures={ESCAPE: ESCAPE}, provenance={"by": ESCAPE}
    )
    for arguments in (["info", bundle], ["info", bundle, "--json"], ["info", bundle, "--card"]):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output and "\x07" not in result.output
    assert r"\x1b]0;owned\x07" in run("info", bundle).stdout
    assert json.loads(run("info", bundle, "--json").stdout)["figures"] == {ESCAPE: ESCAPE}


@POSIX
def test_escape_sequences_from_names_and_options_are_shown_and_not_obeyed(tmp_path, codec, photo):
    strange = tmp_path / f"p{ESCAPE.replace('/', '')}"
    strange.mkdir()
    photo.rename(strange / f"{ESCAPE}.png")
    (strange / f"{ESCAPE}.txt").touch()
    log = tmp_path / "log.csv"
    results = [
        run("compress", strange, tmp_path / "out", "--model", codec, "--log", log),
        run("compress", strange / "gone.png", "x.eae"),
        run("compress", photo, "x.eae", "--model", ESCAPE),
        run("compress", photo, "x.eae", "--jobs", ESCAPE),
        run("compress", photo, "x.eae", "--quality", ESCAPE),
        run(ESCAPE),
    ]
    assert results[0].exit_code == 0 and results[0].stdout.count(r"\x1b[31m") == 3
    for result in results:
        assert "\x1b" not in result.output, result.output
    assert "\x1b" not in log.read_text()


@POSIX
def test_a_name_that_is_no_text_can_be_read_and_told(tmp_path, codec, photo):
    name = os.fsdecode(b"\xff\xfe.png")
    photo.rename(tmp_path / name)
    result = run("compress", tmp_path, tmp_path / "out", "--model", codec)
    assert result.exit_code == 0, result.output
    assert r"\udcff\udcfe.png" in result.stdout
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"\xff\xfe.eae"]


# --- what is said of a picture ---


def test_text_and_patterns_are_kept_exactly_unless_told_otherwise(tmp_path):
    rows, columns = np.mgrid[:64, :96]
    checker = np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[..., None], 3, 2)
    rng = np.random.default_rng(0)
    text = np.full((96, 128, 3), 255, np.uint8)
    for top in range(2, 90, 8):
        text[top : top + 5, 2:126] = 255 * (rng.random((5, 124)) < 0.5).astype(np.uint8)[..., None]
    smooth = np.stack([rows * 3, columns * 2, 200 - rows], -1).astype(np.uint8)
    said, told = {}, {}
    images = {"checker": checker, "text": text, "smooth": smooth}
    for name, image in images.items():
        media.write_image(tmp_path / f"{name}.bmp", image)
        result = run("compress", tmp_path / f"{name}.bmp", tmp_path / f"{name}.eae")
        assert result.exit_code == 0 and result.stdout.count("\n") == 1
        said[name] = result.stderr
        told[name] = result.stdout
    assert "kept exactly" in told["checker"] and "kept exactly" in told["text"]
    assert "kept exactly" not in told["smooth"] and set(said.values()) == {""}
    for name in ("checker", "text"):
        result = run("compress", tmp_path / f"{name}.bmp", tmp_path / "b.eae", "--lossy", "--force")
        assert result.exit_code == 0 and "not what a photo codec is for" in result.stderr
        result = run("decompress", tmp_path / f"{name}.eae", tmp_path / f"{name}.png")
        assert result.exit_code == 0, result.output
        there = media.read_image(tmp_path / f"{name}.png")
        assert np.array_equal(there, np.broadcast_to(images[name], there.shape))
    result = run("compress", tmp_path / "smooth.bmp", tmp_path / "c.eae", "--lossless")
    assert "kept exactly" in result.stdout
    result = run("info", tmp_path / "c.eae")
    assert "exact" in result.stdout and "none is needed" in result.stdout
    result = run(
        "compress", tmp_path / "smooth.bmp", tmp_path / "d.eae", "--lossless", "--quality", 3
    )
    assert result.exit_code == 2 and "exclude each other" in result.stderr


def test_a_ratio_below_one_is_told_with_its_digits(tmp_path):
    media.write_image(tmp_path / "a.png", np.full((1, 1, 3), 7, np.uint8))
    (tmp_path / "b.webp").write_bytes(b"")
    from edgeae.cli.image_files import ratio

    assert [ratio(*sizes) for sizes in ((3, 400), (100, 99), (9, 10), (1000, 3))] == [
        "0.0075",
        "1.0",
        "0.9",
        "333.3",
    ]


def test_max_bytes_tells_the_quality_that_it_took(tmp_path, codec, photo):
    result = run("compress", photo, tmp_path / "a.eae", "--model", codec, "--max-bytes", 500)
    assert result.exit_code == 0, result.output
    quality = edgeae.info(tmp_path / "a.eae")["quality"]
    assert f"  quality {quality:g}\n" in result.stdout


def test_messages_name_the_options_of_the_command(tmp_path, codec, photo):
    result = run("compress", photo, tmp_path / "a.eae", "--model", codec, "--max-bytes", 3)
    assert result.exit_code == 1 and "--max-bytes is 3" in result.stderr
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 500)
    result = run("denoise", tmp_path / "a.wav", tmp_path / "b.wav")
    assert result.exit_code == 1 and "sample_rate" not in result.stderr


def test_warnings_of_libraries_are_not_for_who_uses_the_command():
    code = (
        "import sys, warnings\n"
        "from edgeae import bundle\n"
        "from edgeae.cli.app import main\n"
        "bundle.bundled_names = lambda: warnings.warn('old') or []\n"
        "sys.argv = ['edgeae', 'models']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, timeout=240
    )
    assert done.returncode == 1
    assert done.stderr == (
        "edgeae: this installation holds no models: give commands a model's directory\n"
    )


# --- what goes along with a picture ---


def test_exif_and_time_go_along_both_ways_unless_they_are_stripped(tmp_path, codec):
    exif = Image.Exif()
    exif[0x010E] = "a red barn"
    Image.new("RGB", (40, 30), (200, 60, 40)).save(tmp_path / "a.jpg", exif=exif)
    os.utime(tmp_path / "a.jpg", (1_000_000_000, 1_000_000_000))
    given = "--model", codec
    assert run("compress", tmp_path / "a.jpg", tmp_path / "a.eae", *given).exit_code == 0
    assert run("decompress", tmp_path / "a.eae", tmp_path / "b.png", *given).exit_code == 0
    assert b"a red barn" in (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "b.png").stat().st_mtime == 1_000_000_000
    through = run("decompress", tmp_path / "a.eae", "-", "--to", "jpg", *given)
    with Image.open(io.BytesIO(through.stdout_bytes)) as picture:
        assert picture.getexif()[0x010E] == "a red barn"

    told = run("decompress", tmp_path / "a.eae", tmp_path / "b.bmp", *given)
    assert told.exit_code == 0 and "EXIF is left out" in told.stderr
    bare = run("compress", tmp_path / "a.jpg", tmp_path / "c.eae", "--strip", *given)
    assert bare.exit_code == 0 and b"red barn" not in (tmp_path / "c.eae").read_bytes()
