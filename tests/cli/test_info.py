"""What `info` tells, on the command line and in Python, and tables that fit their terminal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

import edgeae
from edgeae.cli import terminal
from edgeae.cli.app import app
from edgeae.errors import BitstreamError, BundleError, MediaError
from edgeae.signal.speech_pipe import MAGIC, framed


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return tiny.tiny_codec_bundle(tmp_path_factory.mktemp("bundle") / "codec")


@pytest.fixture(scope="module")
def blob(codec):
    return edgeae.ImageCodec.load(codec).compress(tiny.picture(50, 70), quality=6.5)


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def test_info_of_a_file_is_the_same_from_bytes_and_from_its_path(tmp_path, blob):
    (tmp_path / "a.eae").write_bytes(blob)
    told = edgeae.info(blob)
    assert told == edgeae.info(tmp_path / "a.eae") == edgeae.info(str(tmp_path / "a.eae"))
    assert (told["what"], told["kind"], told["codec"]) == ("file", "image", None)
    assert (told["width"], told["height"], told["channels"]) == (70, 50, 3)
    assert told["quality"] == 6.5 and told["level"] == 44
    assert told["bits_per_pixel"] == pytest.approx(8 * len(blob) / (50 * 70))


def test_info_of_a_model_holds_what_its_manifest_says():
    told = edgeae.info("photo-codec")
    bundle = edgeae.load("photo-codec").bundle
    assert (told["what"], told["task"], told["kind"]) == ("model", "codec", "image")
    assert (told["id"], told["codec_id"]) == (bundle.id, bundle.manifest.codec_id)
    size = sum(f.stat().st_size for f in bundle.path.iterdir() if f.name != "manifest.json")
    assert told["bytes"] == size
    json.dumps(told)


def test_info_of_what_is_neither_says_so(tmp_path):
    (tmp_path / "a.txt").write_text("hello there")
    with pytest.raises(BitstreamError, match="a.txt: this is not an .eae file"):
        edgeae.info(tmp_path / "a.txt")
    with pytest.raises(BundleError, match="no model named 'nope'"):
        edgeae.info("nope")
    with pytest.raises(BundleError):
        edgeae.info(tmp_path / "gone")
    with pytest.raises(MediaError, match="gone.eae: No such file"):
        edgeae.info(tmp_path / "gone.eae")
    with pytest.raises(TypeError, match="source is a int, expected bytes"):
        edgeae.info(7)
    (tmp_path / "secret").mkdir()
    with pytest.raises((BundleError, MediaError)):
        edgeae.info(tmp_path / "secret")


@pytest.mark.parametrize("model", ["photo-codec", "speech-denoiser"])
def test_info_fits_on_a_screen(model):
    said = run("info", model, env={"COLUMNS": "100"}).stdout.splitlines()
    assert len(said) <= 40 and max(map(len, said)) <= 100


def test_info_of_a_file_names_its_quality_and_as_json_all_of_it(tmp_path, blob):
    (tmp_path / "a.eae").write_bytes(blob)
    said = run("info", tmp_path / "a.eae").stdout
    assert "6.5 of 1 to 9" in said and "70x50 pixels, RGB" in said
    assert json.loads(run("info", tmp_path / "a.eae", "--json").stdout) == edgeae.info(blob)


def test_a_file_of_speech_is_called_so_with_its_length_and_rate(tmp_path):
    golden = Path(__file__).parent.parent / "golden"
    blob = edgeae.load(golden / "tiny-speech-codec").compress(np.zeros((4000, 2), np.float32))
    (tmp_path / "talk.eae").write_bytes(blob)
    told = edgeae.info(blob)
    # The header tells it, also of a codec that is not bundled.
    assert (told["kind"], told["codec"], told["seconds"]) == ("audio", None, 0.25)
    assert told["bits_per_second"] == 32 * len(blob)
    said = run("info", tmp_path / "talk.eae").stdout
    assert "speech " in said and "0.25 s, 16000 Hz, 2 channels" in said
    assert f"{32 * len(blob):,}" in said


def test_a_live_stream_that_was_kept_is_told_and_cut_off_is_refused(tmp_path):
    codec = edgeae.load(Path(__file__).parent.parent / "golden" / "tiny-speech-codec")
    sender = codec.stream(channels=2, quality=3, packet_frames=3)
    packets = [sender.opening, *sender.send(np.zeros((4000, 2), np.float32))]
    blob = MAGIC + b"".join(map(framed, packets))
    (tmp_path / "kept.eae").write_bytes(blob)
    said = run("info", tmp_path / "kept.eae").stdout
    assert "live, packets of 60 ms, 16000 Hz, 2 channels" in said and "3 of 1 to 9" in said
    told = edgeae.info(blob)
    assert (told["kind"], told["codec_id"], told["packet_seconds"]) == ("audio", None, 0.06)
    with pytest.raises(BitstreamError, match=r"live stream .* that was kept, no file"):
        edgeae.decompress(blob)
    for end in range(1, len(MAGIC + framed(sender.opening))):
        with pytest.raises(BitstreamError):
            edgeae.info(blob[:end])
    for begin in (b"\x89p\x02ab", b"\x89p\xff\xff\xff", b"\x89p\0"):
        with pytest.raises(BitstreamError):
            edgeae.info(begin)


def test_a_signal_that_is_kept_exactly_has_a_length_and_no_quality(tmp_path):
    series = np.arange(900, dtype=np.int16) % 50
    blob = edgeae.load("ecg-codec").compress(series, sample_rate=360, lossless=True)
    (tmp_path / "a.eae").write_bytes(blob)
    said = run("info", tmp_path / "a.eae").stdout
    assert "2.50 s, 360 Hz, 1 channel" in said and "exact" in said
    # Of silence at 16 kHz, whose offset is 0 and whose scale is 1.
    silent = edgeae.load("ecg-codec").compress(np.zeros(900, np.float32), sample_rate=16_000)
    assert edgeae.info(silent)["kind"] == "signal"


def test_a_header_of_no_samples_is_refused():
    golden = Path(__file__).parent.parent / "golden"
    blob = bytearray(edgeae.load(golden / "tiny-speech-codec").compress(np.zeros(9, np.float32)))
    assert blob[9] == 9
    blob[9] = 0
    with pytest.raises(BitstreamError, match="no samples"):
        edgeae.info(bytes(blob))


def test_a_table_breaks_no_word_however_narrow_the_terminal_is(monkeypatch, capsys):
    words = ["CPUExecutionProvider", "decompress", "1,234.5", "multiply-adds", "p99", "0.998"]
    for width in (20, 40, 60, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        terminal.table(words, [words, words], right=(2, 5), title="title")
        said = capsys.readouterr().out
        for word in words:
            assert said.count(word) % 3 == 0 and said.count(word) >= 3, (width, word)
        rest = said.replace("title", "")
        for word in words:
            rest = rest.replace(word, "")
        assert not rest.strip(" -\n"), rest


def test_a_long_text_in_a_table_is_wrapped_between_its_words(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "50")
    text = "one two three four five six seven eight nine ten eleven twelve"
    terminal.table(("", ""), [("numbers", text)], wrapped=1)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 50 and len(lines) > 2
    assert " ".join(" ".join(lines).replace("numbers", "").split()) == text


def test_wide_characters_keep_the_columns_of_a_table_straight(capsys):
    terminal.table(("a", "b"), [("写真", "1"), ("xx", "2")])
    _, _, wide, narrow, _ = capsys.readouterr().out.splitlines()
    assert wide == "写真  1" and narrow == "xx    2"


def test_a_picture_of_one_gray_channel_is_called_gray(tmp_path, codec):
    blob = edgeae.ImageCodec.load(codec).compress(np.zeros((8, 8), np.uint8))
    (tmp_path / "a.eae").write_bytes(blob)
    assert "8x8 pixels, gray" in run("info", tmp_path / "a.eae").stdout
