"""Audio in and out: what is kept, what is refused by name."""

from __future__ import annotations

import io
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made import litter, photo, tone
from PIL import Image

from edgeae import media
from edgeae.errors import MediaError


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff"])
def test_sound_comes_back_within_half_a_16_bit_step(
    tmp_path: Path, suffix: str, rate: int, channels: int
) -> None:
    x = tone(channels=channels)
    media.write_audio(tmp_path / f"a{suffix}", x, rate)
    back, came = media.read_audio(tmp_path / f"a{suffix}")
    assert came == rate and back.shape == x.shape and back.dtype == np.float32
    assert np.abs(back - x).max() <= 0.5001 / 32768
    assert litter(tmp_path) == []


def test_float_sound_comes_back_exactly_even_beyond_full_scale(tmp_path: Path) -> None:
    media.write_audio(tmp_path / "a.wav", 3 * tone(), 16000, subtype="FLOAT")
    back, _ = media.read_audio(tmp_path / "a.wav")
    assert np.array_equal(back, 3 * tone())


def test_integer_subtypes_clip_and_do_not_wrap(tmp_path: Path) -> None:
    media.write_audio(tmp_path / "a.wav", np.array([1.5, -1.5, 1.0], np.float32), 8000)
    assert soundfile.read(tmp_path / "a.wav", dtype="int16")[0].tolist() == [32767, -32768, 32767]


def test_blocks_joined_are_the_whole_file(tmp_path: Path) -> None:
    media.write_audio(tmp_path / "a.flac", tone(1001, 2), 16000)
    whole, _ = media.read_audio(tmp_path / "a.flac")
    for block in (1, 100, 1001, 5000):
        blocks = list(media.audio_blocks(tmp_path / "a.flac", block))
        assert max(map(len, blocks)) <= block
        assert np.array_equal(np.concatenate(blocks), whole)


def test_info_and_the_nearest_subtype(tmp_path: Path) -> None:
    media.write_audio(tmp_path / "a.wav", tone(100, 2), 22050, subtype="PCM_24")
    info = media.audio_info(tmp_path / "a.wav")
    assert info == media.AudioInfo(22050, 2, 100, "WAV", "PCM_24")
    assert media.audio_subtype("x.wav", "FLOAT") == "FLOAT"
    assert media.audio_subtype("x.flac", "FLOAT") == "PCM_24"
    assert media.audio_subtype("x.flac", "ULAW") == "PCM_16"
    assert media.audio_subtype("x.wav", "VORBIS") == "PCM_16"
    assert media.audio_subtype("x.ogg", "PCM_16") == "VORBIS"
    assert media.audio_subtype("x.opus", "VORBIS") == "OPUS"
    with pytest.raises(ValueError, match=r"x\.m4a.*\.wav"):
        media.audio_subtype("x.m4a", "PCM_16")


def write_any(path: Path) -> bytes:
    subtype = {".ogg": "VORBIS", ".opus": "OPUS"}.get(path.suffix, "PCM_16")
    media.write_audio(path, tone(48_000), 16000, subtype=subtype)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".aiff"])
def test_sound_that_ends_before_its_header_says_is_refused(tmp_path: Path, suffix: str) -> None:
    data = write_any(tmp_path / f"whole{suffix}")
    media.read_audio(tmp_path / f"whole{suffix}")
    for keep in (len(data) - 1, len(data) - 100, len(data) // 2, 60, 20, 3):
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(data[:keep])
        with pytest.raises(MediaError, match=r"cannot read .*cut"):
            media.read_audio(cut)


def test_a_wav_from_a_pipe_that_declares_no_length_is_read(tmp_path: Path) -> None:
    data = bytearray(write_any(tmp_path / "a.wav"))
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "pipe.wav").write_bytes(data)
    whole, _ = media.read_audio(tmp_path / "a.wav")
    assert np.array_equal(media.read_audio(tmp_path / "pipe.wav")[0], whole)


def test_a_wav_with_chunks_around_its_data_is_read_and_its_cut_seen(tmp_path: Path) -> None:
    data = write_any(tmp_path / "a.wav")
    note = b"LIST" + struct.pack("<I", 5) + b"abcde\0"  # an odd length is padded
    with_notes = data[:36] + note + data[36:] + note
    (tmp_path / "notes.wav").write_bytes(with_notes)
    whole, _ = media.read_audio(tmp_path / "a.wav")
    assert np.array_equal(media.read_audio(tmp_path / "notes.wav")[0], whole)
    (tmp_path / "notes.wav").write_bytes(with_notes[: -len(note) - 2])
    with pytest.raises(MediaError, match="2 bytes more"):
        media.read_audio(tmp_path / "notes.wav")


def test_an_empty_a_wrong_kind_and_a_silent_header_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    with pytest.raises(MediaError, match=r"empty\.wav: the file is empty"):
        media.read_audio(tmp_path / "empty.wav")
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(MediaError, match=r"text\.wav: not an audio file"):
        media.read_audio(tmp_path / "text.wav")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 8000)
    with pytest.raises(MediaError, match=r"none\.wav: it holds no samples"):
        media.read_audio(tmp_path / "none.wav")
    with pytest.raises(MediaError, match="No such file"):
        media.read_audio(tmp_path / "gone.wav")


def test_nan_in_a_float_file_is_refused(tmp_path: Path) -> None:
    x = tone()
    x[2000] = np.nan
    soundfile.write(tmp_path / "nan.wav", x, 16000, subtype="FLOAT")
    told = r"nan\.wav: NaN or infinite samples, the first in frame 2000$"
    with pytest.raises(MediaError, match=told):
        media.read_audio(tmp_path / "nan.wav")
    with pytest.raises(MediaError, match=told):
        list(media.audio_blocks(tmp_path / "nan.wav", 999))


def test_damage_is_told_between_the_frames_where_it_lies(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(-0.5, 0.5, 60_000).astype(np.float32)
    soundfile.write(tmp_path / "a.flac", x, 16000)
    data = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match=r"damaged between frames (\d+) and (\d+)") as told:
        list(media.audio_blocks(tmp_path / "cut.flac", 10_000))
    first, end = map(int, re.findall(r"frames (\d+) and (\d+)", str(told.value))[0])
    assert first <= 30_000 <= end + 5000 and end - first == 10_000
    with pytest.raises(MediaError, match="damaged between frames 0 and 60000 "):
        media.read_audio(tmp_path / "cut.flac")


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no /dev/fd")
def test_sound_is_read_from_a_pipe_that_was_handed_over(tmp_path: Path) -> None:
    media.write_audio(tmp_path / "a.wav", tone(2000), 16000)
    out, into = os.pipe()
    os.write(into, (tmp_path / "a.wav").read_bytes())
    os.close(into)
    try:
        back, rate = media.read_audio(f"/dev/fd/{out}")
    finally:
        os.close(out)
    assert rate == 16000 and np.array_equal(back, media.read_audio(tmp_path / "a.wav")[0])


def test_a_sound_that_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    media.write_audio(path, tone(), 16000)
    before = path.read_bytes()
    with (
        pytest.raises(ValueError, match="finite"),
        media.AudioWriter(path, rate_hz=16000, channels=1) as writer,
    ):
        writer.write(tone())
        writer.write(np.array([np.nan], np.float32))
    assert path.read_bytes() == before and litter(tmp_path) == []


def test_a_rate_the_format_cannot_hold_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    told = r"a\.opus: OGG OPUS does not take 1 channel at 44100 Hz, expected 8000, .* or 48000 Hz"
    with pytest.raises(MediaError, match=told):
        media.write_audio(tmp_path / "a.opus", tone(), 44100)
    told = r"a\.mp3: MP3 MPEG_LAYER_III does not take 6 channels at 48000 Hz, expected 1 or 2 chan"
    with pytest.raises(MediaError, match=told):
        media.write_audio(tmp_path / "a.mp3", tone(channels=6), 48000)
    assert list(tmp_path.iterdir()) == []


def test_random_bytes_never_give_anything_but_a_media_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, "PNG")
    picture, sound = buffer.getvalue(), write_any(tmp_path / "a.wav")[:2000]
    for trial in range(200):
        for data, read in ((picture, media.read_image), (sound, media.read_audio)):
            damaged = bytearray(data)
            for position in rng.integers(0, len(data), 4):
                damaged[position] = rng.integers(256)
            (tmp_path / "x").write_bytes(damaged)
            try:
                read(tmp_path / "x")
            except MediaError as error:
                assert "\n" not in str(error), trial
