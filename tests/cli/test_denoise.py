"""`edgeae denoise` on sound: what it says of a wrong command line, and what it keeps of a pipe."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command import COMMAND, ENVIRONMENT, run
from tiny import tiny_denoiser_bundle

import edgeae
import edgeae.bundle
from edgeae import media
from edgeae.cli.options import Raw

FLOATS = ["--rate", "16000", "--pcm", "f32le"]


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    return str(tiny_denoiser_bundle(tmp_path_factory.mktemp("bundle") / "tiny", gain=0.5))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a recording a.wav and a picture a.png."""
    monkeypatch.chdir(tmp_path)
    media.write_audio("a.wav", tone(9000), 16_000)
    media.write_image("a.png", np.zeros((8, 8, 3), np.uint8))
    return tmp_path


def tone(frames):
    return (0.4 * np.sin(2 * np.pi * 300 * np.arange(frames) / 16_000)).astype(np.float32)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "expected IN... OUT (see edgeae denoise --help)"),
        (["a.wav"], 2, "expected IN... OUT (see edgeae denoise --help)"),
        (["a.wav", "a.wav", "b.wav"], 2, "OUT is b.wav, expected a folder for 2 inputs"),
        (["a.png", "a.png", "b.png"], 2, "OUT is b.png, expected a folder for 2 inputs"),
        (["a.wav", "b.wav", "--model", "photo-codec"], 1, "is a codec, expected a denoiser"),
        (
            ["a.wav", "b.wav", "--model", "photo-denoiser"],
            2,
            "photo-denoiser is a denoiser of image, expected one of audio or signal for a.wav",
        ),
        (
            ["a.png", "b.png", "--model", "speech-denoiser"],
            2,
            "speech-denoiser is a denoiser of audio, expected one of image for a.png",
        ),
        (["a.wav", "b.wav", "--device", "tpu"], 2, "--device is 'tpu', expected one of auto, cpu"),
        (
            ["a.wav", "b.wav", "--device", "cpu", "--provider", "CPUExecutionProvider"],
            2,
            "--provider and --device exclude each other",
        ),
        (["-", "b.wav", "--rate", "7999"], 2, "--rate is 7999, expected 8000 to 96000"),
        (
            ["-", "b.wav", "--rate", "16000", "--channels", "65"],
            2,
            "--channels is 65, expected 1 to 64",
        ),
        (["a.wav", "no/b.wav"], 1, "cannot write no/b.wav: there is no folder no"),
        (["-", "b.png"], 2, "images are read from files and written to files, not -"),
        (["-", "new/", "--rate", "16000"], 2, "OUT is the folder new/, expected a file"),
        (["-", "b.wav", "--rate", "16000", "--log", "l.csv"], 2, "not for sound through -"),
        (["a.wav", "-", "--skip-existing"], 2, "not for sound through -"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(folder, arguments, code, message):
    before = sorted(folder.iterdir())
    found = run("denoise", *arguments, code=code, data=b"\0" * 640)
    assert message in found.stderr and found.stderr.count("\n") == 1
    assert sorted(folder.iterdir()) == before


def test_the_rate_of_a_wav_that_is_not_the_one_asked_for_is_told_in_words(folder, denoiser):
    there = "denoise", "-", "b.wav", "--model", denoiser, "--rate", "48000"
    found = run(*there, code=1, data=(folder / "a.wav").read_bytes())
    told = "holds s16le at 16000 Hz in 1 channel, the options say --rate 48000\n"
    assert found.stderr.endswith(told) and not Path("b.wav").exists()


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (["--rate", "16000"], None),
        (["--rate", "16000", "--channels", "2"], None),
        (["--rate", "16000", "--pcm", "f32le"], None),
        (["--pcm", "f32le"], None),
        (["--rate", "16000", "--channels", "1"], "--channels 1"),
        (["--rate", "8000", "--pcm", "s16le"], "--rate 8000 --pcm s16le"),
        (["--pcm", "s16le"], "--pcm s16le"),
    ],
)
def test_a_wav_in_a_pipe_must_be_what_is_given_of_it_and_no_more(folder, denoiser, given, wrong):
    file = io.BytesIO()
    media.write_audio(
        file, np.stack([tone(900)] * 2, axis=1), 16_000, format="wav", subtype="FLOAT"
    )
    there = "denoise", "-", "b.wav", "--model", denoiser, *given
    found = run(*there, code=0 if wrong is None else 1, data=file.getvalue())
    if wrong is None:
        info = media.audio_info("b.wav")
        assert (info.rate_hz, info.channels, info.subtype) == (16_000, 2, "FLOAT")
    else:
        assert found.stderr.endswith(f"in 2 channels, the options say {wrong}\n")


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="no /dev/stdin")
@pytest.mark.parametrize("target", ["b.wav", "-"])
def test_a_file_of_sound_that_is_a_pipe_is_denoised(folder, denoiser, target):
    log = [] if target == "-" else ["--log", "log.jsonl"]
    data = (folder / "a.wav").read_bytes()
    done = subprocess.run(
        [*COMMAND, "denoise", "/dev/stdin", target, "--model", denoiser, *log],
        input=data,
        capture_output=True,
        env=ENVIRONMENT,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    if target == "-":
        assert len(done.stdout) == 2 * 9000
        return
    assert media.audio_info("b.wav").frames == 9000
    assert f'"read_bytes": {len(data)},' in Path("log.jsonl").read_text()


@pytest.mark.parametrize(
    ("suffix", "subtype", "told"),
    [
        ("flac", "PCM_16", "a FLAC file came through -, expected raw PCM or a WAV: /dev/stdin"),
        ("ogg", "VORBIS", "an Ogg file came through -, expected raw PCM or a WAV: /dev/stdin"),
        ("rf64", "PCM_16", "an RF64 file came through -, expected raw PCM or a WAV: /dev/stdin"),
        ("aiff", "PCM_16", "an AIFF file came through -, expected raw PCM or a WAV: /dev/stdin"),
        ("wav", "DOUBLE", "of 64 bits in frames of 8 bytes, expected integers of 16, 24 or 32"),
        ("wav", "PCM_U8", "of 8 bits in frames of 1 bytes, expected integers of 16, 24 or 32"),
    ],
)
def test_a_file_of_another_kind_in_a_pipe_is_not_taken_for_samples(
    folder, denoiser, suffix, subtype, told
):
    file = io.BytesIO()
    media.write_audio(file, tone(900), 16_000, format=suffix, subtype=subtype)
    there = "denoise", "-", "b.wav", "--model", denoiser, "--rate", "16000"
    assert told in run(*there, code=1, data=file.getvalue()).stderr
    assert not Path("b.wav").exists()


@pytest.mark.parametrize(
    ("subtype", "pcm", "step"),
    [
        ("PCM_16", "s16le", 2**-15),
        ("PCM_24", "s24le", 2**-23),
        ("PCM_32", "s32le", 2**-23),
        ("FLOAT", "f32le", 0),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_of_any_usual_samples_goes_through_a_pipe_as_they_are(
    folder, denoiser, subtype, pcm, step, channels
):
    x = np.stack([tone(3000), -tone(3000) / 3], axis=1)[:, :channels]
    # Full scale, and one step below zero.
    x[:2] = [[-1.0] * channels, [-(2.0**-15)] * channels]
    file = io.BytesIO()
    media.write_audio(file, x, 16_000, format="wav", subtype=subtype)
    data = file.getvalue()
    given, _ = media.read_audio(data)
    whole = edgeae.SignalDenoiser.load(denoiser).denoise(given, sample_rate=16_000)
    whole = whole.reshape(3000, channels)
    run("denoise", "-", "b.wav", "--model", denoiser, data=data)
    assert media.audio_info("b.wav").subtype == subtype
    back, _ = media.read_audio("b.wav")
    assert np.abs(back.reshape(whole.shape) - whole).max() <= step
    raw = run("denoise", "-", "-", "--model", denoiser, data=data).stdout_bytes
    media.write_audio("c.wav", back, 16_000, subtype=subtype)
    assert Path("c.wav").read_bytes()[-len(raw) :] == raw
    # The same as samples without a header.
    there = "--rate", 16_000, "--channels", channels, "--pcm", pcm
    samples = data[-len(raw) :]
    assert run("denoise", "-", "-", "--model", denoiser, *there, data=samples).stdout_bytes == raw


def test_samples_of_24_bits_in_4_bytes_are_refused(folder, denoiser):
    file = io.BytesIO()
    media.write_audio(file, tone(900), 16_000, format="wav", subtype="PCM_24")
    data = bytearray(file.getvalue())
    at = data.index(b"fmt ") + 8 + 12
    assert data[at] == 3
    data[at] = 4
    found = run("denoise", "-", "b.wav", "--model", denoiser, code=1, data=bytes(data))
    assert "has format 1 of 24 bits in frames of 4 bytes" in found.stderr


def test_a_stream_is_timed_beside_a_pipe_as_it_is_with_files(folder, denoiser):
    def told(source, line):
        expected = rf"{source} 0\.56 s, 16000 Hz, 1 channel real-time factor \d+\.\d{{3}}"
        expected += r" delay \d+\.\d ms with blocks of 10 ms"
        assert re.fullmatch(expected, " ".join(line.split())), line

    there, data = ("--model", denoiser, "--stream"), (folder / "a.wav").read_bytes()
    told("a.wav -> b.wav", run("denoise", "a.wav", "b.wav", *there).stdout)
    raw = run("denoise", "a.wav", "-", *there)
    told("edgeae: a.wav -> stdout", raw.stderr)
    live = run("denoise", "-", "-", *there, data=data)
    told("edgeae: stdin -> stdout", live.stderr)
    told("edgeae: stdin -> c.wav", run("denoise", "-", "c.wav", *there, data=data).stderr)
    assert live.stdout_bytes == raw.stdout_bytes
    assert Path("b.wav").read_bytes()[-18_000:] == Path("c.wav").read_bytes()[-18_000:]
    # Without --stream nothing is told.
    assert run("denoise", "-", "-", "--model", denoiser, data=data).stderr == ""


def test_a_stream_is_fed_10_ms_at_a_time_however_it_comes():
    from edgeae.cli.audio_files import _of_length

    x = np.arange(1000)
    for cuts in ([], [1, 2, 3], [159, 160, 161], [999], [320, 320]):
        blocks = list(_of_length(iter(np.split(x, cuts)), 160))
        assert [len(block) for block in blocks] == [160] * 6 + [40]
        assert np.array_equal(np.concatenate(blocks), x)


def test_a_nan_ends_a_live_recording_and_what_came_before_is_kept(folder, denoiser):
    x = tone(9000)
    x[7000] = np.nan
    there = "denoise", "-", "b.wav", "--model", denoiser, *FLOATS
    found = run(*there, code=1, data=x.astype("<f4").tobytes())
    told = "NaN or infinite samples came through -, the first in frame 7000: what came before is"
    assert told in found.stderr
    back, _ = media.read_audio("b.wav")
    whole = edgeae.SignalDenoiser.load(denoiser).denoise(x[:7000], sample_rate=16_000)
    assert np.array_equal(back, whole)
    there = "denoise", "-", "-", "--model", denoiser, *FLOATS
    found = run(*there, code=1, data=x.astype("<f4").tobytes())
    assert np.array_equal(np.frombuffer(found.stdout_bytes, "<f4"), whole)


def test_a_recording_that_begins_with_nan_writes_nothing(folder, denoiser):
    there = "denoise", "-", "b.wav", "--model", denoiser, *FLOATS
    found = run(*there, code=1, data=np.full(900, np.nan, "<f4").tobytes())
    assert found.stderr.endswith("the first in frame 0\n") and not Path("b.wav").exists()


def test_a_wav_that_is_cut_off_in_a_pipe_is_kept_and_told(folder, denoiser):
    data = (folder / "a.wav").read_bytes()
    there = "denoise", "-", "b.wav", "--model", denoiser
    found = run(*there, data=data[:-1000])
    told = "is cut off: its header says 18,000 bytes of samples, 17,000 came"
    assert told in found.stderr and media.audio_info("b.wav").frames == 8500
    # Chunks may follow the samples.
    found = run(*there, "--force", data=data + b"LIST\4\0\0\0abcd")
    assert found.stderr == "" and media.audio_info("b.wav").frames == 9000


def test_a_wav_whose_samples_come_in_parts_is_read_to_its_end(denoiser):
    from edgeae.cli.audio_files import audio_of

    file = io.BytesIO()
    media.write_audio(file, tone(1000), 16_000, format="wav")
    data = file.getvalue() + b"LIST"
    parts = (data[i : i + 7] for i in range(0, len(data), 7))
    raw, blocks = audio_of(parts, Raw())
    assert raw.rate_hz == 16_000 and sum(map(len, blocks)) == 1000


def test_a_model_is_looked_into_once_before_it_is_loaded(folder, denoiser, monkeypatch):
    found = []

    def counted(model, find=edgeae.bundle.find):
        found.append(model)
        return find(model)

    monkeypatch.setattr(edgeae.bundle, "find", counted)
    run("denoise", "a.wav", "b.wav", "--model", denoiser)
    assert found == [denoiser]
    run("denoise", "a.png", "b.png", "--model", "photo-denoiser")
    assert found == [denoiser, "photo-denoiser"]


def test_of_a_moment_of_sound_no_real_time_factor_is_told(folder, denoiser):
    media.write_audio("one.wav", tone(1), 16_000)
    there = "denoise", "one.wav", "b.wav", "--model", denoiser
    assert run(*there).output == "one.wav -> b.wav  0.00 s, 16000 Hz, 1 channel\n"
    assert "real-time factor" in run("denoise", "a.wav", "c.wav", "--model", denoiser).output


def test_a_name_that_the_system_refuses_is_told_without_its_number(folder, denoiser):
    name = 300 * "a" + ".wav"
    told = run("denoise", "a.wav", name, "--model", denoiser, code=1).stderr
    assert told == f"edgeae: {name}: File name too long\n"
