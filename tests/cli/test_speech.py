"""Speech through the command: files, folders, and raw samples live both ways."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from command import run

import edgeae
from edgeae import media
from edgeae.bench.speech_codec import made_talk
from edgeae.signal.speech_pipe import MAGIC, PacketSplitter, framed

BUNDLE = str(Path(__file__).parent.parent / "golden" / "tiny-speech-codec")
MODEL = ["--model", BUNDLE]


@pytest.fixture(scope="module")
def codec():
    return edgeae.load(BUNDLE)


@pytest.fixture(scope="module")
def talk():
    """Half a second, int16 (8,001,)."""
    return np.rint(32767 * made_talk(8_001)).astype(np.int16)


def test_a_file_goes_there_and_back(tmp_path, codec, talk):
    media.write_audio(tmp_path / "talk.wav", talk / np.float32(32768), 16_000)
    said = run("compress", tmp_path / "talk.wav", tmp_path / "talk.eae", *MODEL, "--quality", 3)
    blob = (tmp_path / "talk.eae").read_bytes()
    assert "kbit/s" in said.output and blob == codec.compress(talk, quality=3)
    run("decompress", tmp_path / "talk.eae", tmp_path / "back.wav", *MODEL)
    back, rate = media.read_audio(tmp_path / "back.wav")
    assert rate == 16_000
    assert np.array_equal(np.rint(back * 32768), codec.decompress(blob))
    run("compress", tmp_path / "talk.wav", tmp_path / "small.eae", *MODEL, "--max-bytes", 115)
    assert (tmp_path / "small.eae").stat().st_size <= 115 < len(blob)
    raw = run("decompress", tmp_path / "talk.eae", "-", *MODEL, "--pcm", "s16le").stdout_bytes
    assert raw == codec.decompress(blob).astype("<i2").tobytes()


def test_a_folder_of_any_rate_and_channels(tmp_path, codec, talk):
    pair = np.stack([talk, talk[::-1]], axis=1)[:4800] / np.float32(32768)
    (tmp_path / "in").mkdir()
    media.write_audio(tmp_path / "in" / "pair.flac", pair, 48_000)
    media.write_audio(tmp_path / "in" / "low.wav", pair[:800, 0], 8_000)
    run("compress", tmp_path / "in", tmp_path / "out", *MODEL)
    run("decompress", tmp_path / "out", tmp_path / "back", *MODEL, "--to", "wav")
    for name, shape in (("pair", (1600, 2)), ("low", (1600,))):
        back, rate = media.read_audio(tmp_path / "back" / f"{name}.wav")
        assert (rate, back.shape) == (16_000, shape)


def test_raw_samples_go_live_both_ways_and_a_kept_stream_is_a_file(tmp_path, codec, talk):
    raw = ["--rate", 16_000, "--pcm", "s16le"]
    packets = run("compress", "-", "-", *MODEL, *raw, data=talk.tobytes()).stdout_bytes
    assert packets.startswith(b"\x89p")
    sender = codec.stream(dtype="int16")
    receiver = codec.listen(sender.opening)
    sent = [*sender.send(talk), *sender.end()]
    said = np.concatenate([receiver.receive(packet) for packet in sent])[320:]
    back = run("decompress", "-", "-", *MODEL, "--pcm", "s16le", data=packets).stdout_bytes
    assert np.array_equal(np.frombuffer(back, "<i2"), said)
    (tmp_path / "kept.eae").write_bytes(packets)
    run("decompress", tmp_path / "kept.eae", tmp_path / "kept.wav", *MODEL)
    kept, _ = media.read_audio(tmp_path / "kept.wav")
    assert np.array_equal(np.rint(kept * 32768), said)
    # A damaged packet is told and concealed, one that ends early is left out.
    damaged = bytearray(packets)
    damaged[len(packets) // 2] ^= 1
    found = run("decompress", "-", "-", *MODEL, "--pcm", "s16le", data=bytes(damaged[:-1]))
    assert "concealed" in found.stderr and "that are no whole packet" in found.stderr
    assert len(found.stdout_bytes) == len(back) - 2 * 640


def test_silence_goes_live_as_few_packets_with_dtx():
    talk = np.rint(32767 * made_talk(8_000)).astype(np.int16)
    audio = np.concatenate([talk, np.zeros(32_000, np.int16), talk])
    raw = ["--rate", 16_000, "--model", "speech-codec"]
    whole = run("compress", "-", "-", *raw, data=audio.tobytes()).stdout_bytes
    few = run("compress", "-", "-", *raw, "--dtx", data=audio.tobytes()).stdout_bytes
    # Of 49 packets of silence 4 are sent before the pause, and 3 in it.
    count, most = (len(PacketSplitter().feed(packets)) for packets in (few, whole))
    assert most - count == 42 and len(few) < len(whole) - 42 * 4
    back = run("decompress", "-", "-", "--pcm", "s16le", data=few).stdout_bytes
    every = run("decompress", "-", "-", "--pcm", "s16le", data=whole).stdout_bytes
    assert len(back) == len(every)
    assert np.abs(np.frombuffer(back, "<i2")[10_000:39_500]).max() <= 20


def test_longer_packets_are_fewer_and_take_fewer_bytes(codec, talk):
    raw = ["--rate", 16_000, *MODEL]
    short = run("compress", "-", "-", *raw, data=talk.tobytes()).stdout_bytes
    long = run("compress", "-", "-", *raw, "--packet-ms", 100, data=talk.tobytes()).stdout_bytes
    sender = codec.stream(dtype="int16", packet_frames=5)
    packets = [sender.opening, *sender.send(talk), *sender.end()]
    assert PacketSplitter().feed(long) == packets and len(long) < len(short)


@pytest.mark.parametrize("change", ["lost", "more", "length", "noise"])
def test_a_live_stream_that_loses_bytes_goes_on_with_the_next_packet(tmp_path, codec, talk, change):
    raw = ["--rate", 16_000, *MODEL]
    whole = run("compress", "-", "-", *raw, data=talk.tobytes()).stdout_bytes
    packets = PacketSplitter().feed(whole)
    # The sixth packet behind the opening one: its length and its bytes.
    begin = len(MAGIC) + sum(len(framed(packet)) for packet in packets[:6])
    end = begin + len(framed(packets[6]))
    broken = {
        "lost": whole[: begin + 3] + whole[begin + 8 :],
        "more": whole[: begin + 3] + b"\xff" * 5 + whole[begin + 3 :],
        "length": whole[:begin] + b"\xff" + whole[begin + 1 :],
        "noise": whole[:begin] + bytes(range(256)) * 9 + whole[end:],
    }[change]
    found = run("decompress", "-", tmp_path / "a.wav", *MODEL, data=broken)
    last = end - 1 + len(broken) - len(whole)
    assert found.stderr == (
        f"edgeae: bytes {begin:,} to {last:,} of the live stream are no whole packet: their sound"
        " is concealed\n"
    )
    receiver = codec.listen(packets[0])
    said = [receiver.receive(packet) for packet in [*packets[1:6], *packets[7:]]]
    back, _ = media.read_audio(tmp_path / "a.wav")
    assert np.array_equal(np.rint(back * 32768), np.concatenate(said)[320:])
    (tmp_path / "kept.eae").write_bytes(broken)
    run("decompress", tmp_path / "kept.eae", tmp_path / "b.wav", *MODEL)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_noise_behind_a_live_stream_is_left_out_and_told(codec, talk):
    raw = ["--rate", 16_000, *MODEL]
    packets = run("compress", "-", "-", *raw, data=talk.tobytes()).stdout_bytes
    back = run("decompress", "-", "-", *MODEL, "--pcm", "s16le", data=packets).stdout_bytes
    found = run("decompress", "-", "-", *MODEL, "--pcm", "s16le", data=packets + b"\xff" * 20)
    assert found.stdout_bytes == back
    assert "ends in 20 bytes that are no whole packet: they are left out" in found.stderr


def test_a_recording_of_any_rate_through_a_pipe_becomes_a_file(tmp_path, codec, talk):
    for sample, data in (("s16le", talk), ("f32le", (talk / 32768).astype("<f4"))):
        there = ["--rate", 8_000, "--pcm", sample, "--force", *MODEL]
        said = run("compress", "-", tmp_path / "o.eae", *there, data=data.tobytes()).output
        audio = codec.decompress((tmp_path / "o.eae").read_bytes())
        assert len(audio) == 2 * len(talk) and "1.00 s" in said
        assert audio.dtype == ("int16" if sample == "s16le" else "float32")


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_speech_does_not_become_a_picture(tmp_path, codec, talk, kind):
    live = run("compress", "-", "-", "--rate", 16_000, *MODEL, data=talk.tobytes()).stdout_bytes
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.eae").write_bytes(live if kind == "stream" else codec.compress(talk))
    for arguments in (
        (tmp_path / "in" / "a.eae", tmp_path / "a.png"),
        (tmp_path / "in", tmp_path / "out"),
        (tmp_path / "in" / "a.eae", "-"),
    ):
        said = run("decompress", *arguments, code=1).stderr
        assert "the file holds speech: expected OUT to end in .wav, or --to wav" in said


def test_a_picture_or_a_series_does_not_become_sound(tmp_path):
    (tmp_path / "photo.eae").write_bytes(edgeae.load("photo-codec").compress(_gray()))
    (tmp_path / "exact.eae").write_bytes(
        edgeae.load("photo-codec").compress(_gray(), lossless=True)
    )
    (tmp_path / "ecg.eae").write_bytes(
        edgeae.load("ecg-codec").compress(np.zeros(99, np.float32), sample_rate=360)
    )
    for name, what in (("photo", "an image"), ("exact", "an image"), ("ecg", "a series")):
        found = run("decompress", tmp_path / f"{name}.eae", tmp_path / "o.wav", code=1)
        assert f"the file holds {what}: expected OUT to end in" in found.stderr
    assert not (tmp_path / "o.wav").exists()


def _gray():
    return np.zeros((16, 16, 3), np.uint8)


def test_a_wav_through_a_pipe_becomes_a_file(tmp_path, codec, talk):
    buffer = io.BytesIO()
    media.write_audio(buffer, talk / np.float32(32768), 16_000, format="wav")
    run("compress", "-", tmp_path / "talk.eae", *MODEL, data=buffer.getvalue())
    blob = (tmp_path / "talk.eae").read_bytes()
    assert blob == codec.compress(talk)
    run("decompress", "-", tmp_path / "back.wav", *MODEL, data=blob)
    assert np.array_equal(
        np.rint(media.read_audio(tmp_path / "back.wav")[0] * 32768), codec.decompress(blob)
    )


@pytest.mark.parametrize(
    ("arguments", "data", "code", "message"),
    [
        (["compress", "talk.wav", "o.eae", "--lossless"], None, 2, "--quality or --max-bytes"),
        (["compress", "talk.wav", "o.eae", "--rate", "16000"], None, 2, "a file says its own"),
        (["compress", "-", "o.eae", "--pcm", "s16le"], b"", 2, "without --rate"),
        (["compress", "-", "-", "--rate", "16000", "--max-bytes", "9"], b"", 2, "live stream"),
        (["compress", "-", "o.eae", "--rate", "16000", "--dtx"], b"\0", 2, "live from - to -"),
        (["compress", "talk.wav", "o.eae", "--dtx"], None, 2, "live from - to -"),
        (["compress", "talk.wav", "o.eae", "--packet-ms", "60"], None, 2, "live from - to -"),
        (["compress", "-", "-", "--rate", "16000", "--packet-ms", "50"], b"", 2, "multiple of 20"),
        (["compress", "-", "-", "--rate", "8000"], b"\0" * 640, 1, "8000 Hz, expected 16000"),
        (["compress", "-", "o.eae", "--rate", "16000"], b"", 1, "no audio came"),
        (["compress", "-", "o.wav", "--rate", "16000"], b"\0", 2, "ends in .eae"),
        (["compress", "-", "o.eae", "--rate", "16000", "--log", "l.csv"], b"", 2, "for files"),
        (["decompress", "-", "o.wav", "--skip-existing"], b"", 2, "for files"),
        (["decompress", "o.eae", "-", "--to", "wav"], None, 2, "expected --pcm"),
        (["decompress", "-", "o.wav"], b"", 1, "nothing came"),
        (["decompress", "-", "o.wav"], b"\x89p\xff\xff\xff\xff", 1, "longer than any"),
        (["decompress", "-", "o.wav"], b"\x89p\x02ab", 1, "opens a signal"),
        (["decompress", "-", "o.wav"], b"\x89p\x02a", 1, "before it begins"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    tmp_path, monkeypatch, talk, arguments, data, code, message
):
    monkeypatch.chdir(tmp_path)
    media.write_audio("talk.wav", talk[:640] / np.float32(32768), 16_000)
    found = run(*arguments, *MODEL, data=data, code=code)
    assert message in found.stderr and not Path("o.wav").exists() and not Path("o.eae").exists()


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no /dev/fd")
def test_a_file_that_is_a_pipe_without_a_suffix_is_compressed(tmp_path, codec, talk):
    file = io.BytesIO()
    media.write_audio(file, talk[:4000] / np.float32(32768), 16_000, format="flac")
    out, into = os.pipe()
    os.write(into, file.getvalue())
    os.close(into)
    try:
        said = run("compress", f"/dev/fd/{out}", tmp_path / "o.eae", *MODEL).output
    finally:
        os.close(out)
    assert (tmp_path / "o.eae").read_bytes() == codec.compress(talk[:4000])
    assert f"  {len(file.getvalue()):,} -> " in said


def test_a_nan_ends_a_recording_and_what_came_before_is_kept(tmp_path, codec, talk):
    x = (talk / np.float32(32768)).astype("<f4")
    x[6000] = np.inf
    there = [*MODEL, "--rate", 16_000, "--pcm", "f32le"]
    found = run("compress", "-", tmp_path / "o.eae", *there, data=x.tobytes(), code=1)
    assert "the first in frame 6000: what came before is kept" in found.stderr
    assert (tmp_path / "o.eae").read_bytes() == codec.compress(x[:6000])


def test_a_codec_of_another_kind_is_refused(tmp_path, talk):
    media.write_audio(tmp_path / "talk.wav", talk / np.float32(32768), 16_000)
    found = run(
        "compress", tmp_path / "talk.wav", tmp_path / "o.eae", "--model", "ecg-codec", code=2
    )
    assert "is a codec of 'signal', expected one of 'audio'" in found.stderr
