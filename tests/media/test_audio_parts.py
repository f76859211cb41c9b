"""Audio files are whole or refused, and read to their end where a header gives no length."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made import tone

from edgeae import media
from edgeae.errors import MediaError
from edgeae.media.mpeg import mpeg_frame_bytes

RATE = 16_000


def saved(kind: str, subtype: str | None = None, frames: int = 16_000, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(frames, channels), RATE, format=kind, subtype=subtype)
    return buffer.getvalue()


def quietly(data: bytes) -> np.ndarray:
    return media.read_audio(data)[0]


# --- no length in the header ---

PLACEHOLDERS = (
    0x80000000, 0x7FFFF000, 0x7FFF0000, 0x7FFFFFFF, 0x7FFFFFDB, 0x7FFFFFD7, 0xFFFFFFFF,
    0xFFFFFFDB, 0xFFFFFF00, 0,
)  # fmt: skip


@pytest.mark.parametrize("length", PLACEHOLDERS)
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_wav_whose_length_is_a_placeholder_is_read_to_its_end(length: int, subtype: str) -> None:
    data = bytearray(saved("WAV", subtype))
    whole = quietly(bytes(data))
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", length)
    data[4:8] = struct.pack("<I", length + at if 0 < length + at < 2**32 else length)
    info = media.audio_info(bytes(data))
    assert info.frames == len(whole) and "no length" in info.notes[0]
    assert np.array_equal(quietly(bytes(data)), whole)
    assert media.audio_info(saved("WAV")).notes == ()


def test_a_length_that_is_no_placeholder_is_held_against_the_file() -> None:
    data = bytearray(saved("WAV"))
    for length in (10**9, 0x7FFE0000, 0x80010000, 0xFFFE0000, len(data)):
        data[40:44] = struct.pack("<I", length)
        with pytest.raises(MediaError, match=r"cut off, its header says [\d,]+ bytes more"):
            media.read_audio(bytes(data))


def test_a_wav_of_no_samples_with_chunks_behind_it_holds_none() -> None:
    data = saved("WAV", frames=100)
    empty = data[:40] + bytes(4) + b"LIST" + struct.pack("<I", 4) + b"INFO"
    with pytest.raises(MediaError, match="it holds no samples"):
        media.read_audio(empty)


@pytest.mark.parametrize("frames", [1, 100, 4095, 4096, 4097, 16_000, 100_003])
def test_a_flac_of_unknown_length_is_read_to_its_end(frames: int) -> None:
    data = bytearray(saved("FLAC", frames=frames))
    whole = quietly(bytes(data))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    data[26:42] = bytes(16)  # a pipe has no checksum of all samples either
    info = media.audio_info(bytes(data))
    assert info.frames == frames and "no length" in info.notes[0]
    assert np.array_equal(quietly(bytes(data)), whole)
    for missing in (1, 2, 3, len(data) // 4):
        with pytest.raises(MediaError, match="cut off"):
            media.read_audio(bytes(data[:-missing]))


def test_au_caf_and_wave64_of_unknown_length_are_read_to_their_end() -> None:
    au = bytearray(saved("AU"))
    au[8:12] = b"\xff" * 4
    caf = bytearray(saved("CAF"))
    at = caf.index(b"data") + 4
    caf[at : at + 8] = b"\xff" * 8
    w64 = bytearray(saved("W64"))
    at = w64.index(b"data") + 16
    w64[16:24] = w64[at : at + 8] = b"\xff" * 8
    for data in (au, caf, w64):
        assert "no length" in media.audio_info(bytes(data)).notes[0]
        assert len(quietly(bytes(data))) == 16_000


# --- MPEG ---


def mpeg(frames: int = 48_000, rate: int = 48_000, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(frames, channels), rate, format="MP3")
    return buffer.getvalue()


def mpeg_frames(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at + 4 <= len(data):
        length = mpeg_frame_bytes(struct.unpack_from(">I", data, at)[0])
        assert length is not None
        found.append(data[at : at + length])
        at += length
    return found


@pytest.mark.parametrize("rate", [48_000, 44_100, 22_050, 16_000, 8_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_without_a_count_of_its_frames_is_read_whole(rate: int, channels: int) -> None:
    data = mpeg(60_000, rate, channels)
    header, *frames = mpeg_frames(data)
    assert b"Xing" in header or b"Info" in header
    with_count = media.read_audio(data)[0]
    assert len(with_count) == 60_000
    each = 1152 if rate >= 32_000 else 576
    title = b"TIT2\0\0\0\2\0\0\0x"
    for before, after in (
        (b"", b""),
        (b"ID3\3\0\0\0\0\0" + bytes([len(title)]) + title, b"TAG" + bytes(125)),
        (b"", bytes(3000)),
    ):
        bare = before + b"".join(frames) + after
        samples, _ = media.read_audio(bare)
        assert len(samples) == media.audio_info(bare).frames == each * len(frames)
        assert np.abs(samples - 0).max() > 0.3


def test_a_variable_bit_rate_without_a_count_is_not_cut_short() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 96_000).astype(np.float32)
    sound = np.concatenate([noise[:9000], 1e-4 * noise, 1e-4 * noise])
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", 48_000, 1, format="MP3", bitrate_mode="VARIABLE", compression_level=0.2
    ) as out:
        out.write(sound)
    _, *frames = mpeg_frames(buffer.getvalue())
    assert len({len(frame) for frame in frames}) > 2
    for order in (frames, frames[::-1]):
        bare = b"".join(order)
        assert media.audio_info(bare).frames == 1152 * len(frames)
    assert len(media.read_audio(b"".join(frames))[0]) == 1152 * len(frames)


def test_frames_missing_from_an_mp3_are_missed() -> None:
    data = mpeg()
    header, *frames = mpeg_frames(data)
    with pytest.raises(MediaError, match=r"its header says \d+ MPEG frames, \d+ are there"):
        media.read_audio(header + b"".join(frames[:-3]))
    with pytest.raises(MediaError, match="cut off"):
        media.read_audio(data[:-20])
    with pytest.raises(MediaError, match="cut off"):
        media.read_audio(b"".join(frames)[:-20])
    hole = b"".join(frames[:10]) + b"\0" * 77 + b"".join(frames[10:])
    with pytest.raises(MediaError, match="no MPEG frame begins at byte"):
        media.read_audio(hole)


def test_frames_that_were_appended_to_an_mp3_are_read() -> None:
    header, *frames = mpeg_frames(mpeg())
    both = header + b"".join(frames + frames)
    assert len(media.read_audio(both)[0]) == 2 * 1152 * len(frames)


def test_an_mp3_becomes_a_wav(tmp_path: Path) -> None:
    samples, rate = media.read_audio(mpeg())
    subtype = media.audio_info(mpeg()).subtype
    assert media.audio_subtype("a.wav", subtype) == "PCM_16"
    media.write_audio(tmp_path / "a.wav", samples, rate, subtype=subtype)
    assert media.audio_info(tmp_path / "a.wav").subtype == "PCM_16"


# --- damage ---

KINDS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"),
    ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("AU", "ULAW"), ("W64", "PCM_16"), ("W64", "FLOAT"),
    ("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("CAF", "ALAC_24"), ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_a_cut_anywhere_is_refused(kind: str, subtype: str) -> None:
    data = saved(kind, subtype, 8000)
    media.read_audio(data)
    for keep in {*range(1, len(data), 1 + len(data) // 60), *range(len(data) - 9, len(data))}:
        if data[keep:].strip(b"\0") or keep < len(data) // 2:
            with pytest.raises(MediaError):
                media.read_audio(data[:keep])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_every_changed_byte_of_an_ogg_file_is_noticed(subtype: str) -> None:
    data = saved("OGG", subtype, 4000)
    media.read_audio(data)
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(MediaError):
            media.read_audio(bytes(damaged))


def ogg_pages(data: bytes) -> list[bytes]:
    pages, at = [], 0
    while at < len(data):
        count = data[at + 26]
        end = at + 27 + count + sum(data[at + 27 : at + 27 + count])
        pages.append(data[at:end])
        at = end
    return pages


def test_a_missing_a_doubled_and_a_foreign_ogg_page_are_noticed() -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.2, 60_000)
    soundfile.write(buffer, noise, RATE, format="OGG", subtype="VORBIS")
    pages = ogg_pages(buffer.getvalue())
    assert len(pages) > 4
    media.read_audio(b"".join(pages))
    for changed in (
        pages[:2] + pages[3:],
        pages[:3] + pages[2:],
        pages[:2] + [pages[3], pages[2]] + pages[4:],
        pages[1:],
    ):
        with pytest.raises(MediaError, match="Ogg page"):
            media.read_audio(b"".join(changed))
    other = ogg_pages(saved("OGG", "OPUS", 60_000))
    with pytest.raises(MediaError, match="more than one Ogg stream"):
        media.read_audio(b"".join(pages + other))


def test_every_changed_byte_of_flac_frames_is_noticed() -> None:
    data = saved("FLAC", frames=4000)
    start = data.index(b"\xff\xf8")
    for position in range(start, len(data), 1 + len(data) // 80):
        damaged = bytearray(data)
        damaged[position] ^= 4
        with pytest.raises(MediaError):
            media.read_audio(bytes(damaged))


def test_zeros_behind_the_packets_of_alac_are_no_chunk() -> None:
    rng = np.random.default_rng(0)
    odd = 0
    for frames in range(8000, 8008):
        file = io.BytesIO()
        samples = rng.normal(0, 0.1, frames).astype("float32")
        soundfile.write(file, samples, 48000, format="CAF", subtype="ALAC_16")
        assert len(media.read_audio(file.getvalue())[0]) == frames
        odd += file.getvalue()[-1] == 0
        with pytest.raises(MediaError, match="header of a chunk"):
            media.read_audio(file.getvalue() + b"free")
    assert odd, "no file has the zero that this is about"


def test_a_packet_table_that_does_not_fit_is_refused() -> None:
    data = bytearray(saved("CAF", "ALAC_16"))
    at = data.index(b"pakt") + 12
    struct.pack_into(">q", data, at, 10**6)
    with pytest.raises(MediaError, match="packet table"):
        media.read_audio(bytes(data))


# --- what is read at all ---


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x20ftypM4A ", "M4A or MP4"), (b"\x1aE\xdf\xa3", "WebM or Matroska"),
        (b"0&\xb2u\x8ef\xcf\x11", "WMA"), (b"#!AMR\n", "AMR"), (b"wvpk", "WavPack"),
        (b"NIST_1A\n", "NIST SPHERE"), (b"Creative Voice File\x1a", "VOC"), (b"MThd", "MIDI"),
    ],
)  # fmt: skip
def test_other_kinds_are_refused_with_advice(head: bytes, name: str) -> None:
    with pytest.raises(MediaError, match=f"{name}.* is not read; .*(ffmpeg|sox|synthesizer)"):
        media.audio_info(head + bytes(200))


@pytest.mark.parametrize("kind", ["NIST", "VOC", "AVR", "IRCAM", "PAF", "PVF", "SVX", "MAT5"])
def test_formats_without_a_verified_length_do_not_reach_libsndfile(kind: str) -> None:
    with pytest.raises(MediaError, match="not read|not an audio file of a known kind"):
        media.read_audio(saved(kind))


@pytest.mark.parametrize("suffix", [".caf", ".w64", ".au", ".snd", ".rf64", ".aifc", ".oga"])
def test_more_formats_are_written_and_read(tmp_path: Path, suffix: str) -> None:
    assert suffix in media.AUDIO_SUFFIXES
    path = tmp_path / f"a{suffix}"
    media.write_audio(path, tone(4000, 2), 44_100)
    back, rate = media.read_audio(path)
    assert rate == 44_100 and back.shape == (4000, 2)


def test_audio_is_read_from_and_written_to_bytes_and_file_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    media.write_audio(path, tone(), RATE)
    whole, data = media.read_audio(path)[0], path.read_bytes()
    with open(path, "rb") as file:
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), file):
            assert np.array_equal(media.read_audio(source)[0], whole)
    buffer = io.BytesIO()
    media.write_audio(buffer, tone(), RATE, format="flac")
    assert np.array_equal(media.read_audio(buffer.getvalue())[0], whole)
    with pytest.raises(ValueError, match="format is None, expected a suffix"):
        media.write_audio(io.BytesIO(), tone(), RATE)


# --- beyond 4 GiB ---


def test_a_wav_of_unknown_length_has_room_to_grow_and_is_plain(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for subtype in ("PCM_16", "PCM_24", "FLOAT"):
        for channels in (1, 2):
            with media.AudioWriter(
                path, rate_hz=RATE, channels=channels, subtype=subtype
            ) as writer:
                writer.write(tone(1001, channels))
            data = path.read_bytes()
            assert data[:4] == b"RIFF" and data[12:16] == b"JUNK"
            assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
            info = media.audio_info(path)
            assert info == media.AudioInfo(RATE, channels, 1001, "WAV", subtype)
            assert soundfile.info(str(path)).frames == 1001


def test_beyond_4_gib_a_wav_is_rf64_and_others_end_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeae.media import audio_metadata, audio_writing

    monkeypatch.setattr(audio_writing, "_LIMIT_BYTES", 10_000)
    monkeypatch.setattr(audio_metadata, "_MOST_PLAIN_BYTES", 10_000)
    media.write_audio(tmp_path / "a.wav", tone(6000), RATE)
    assert media.audio_info(tmp_path / "a.wav").format == "RF64"
    assert len(media.read_audio(tmp_path / "a.wav")[0]) == 6000
    with media.AudioWriter(tmp_path / "b.wav", rate_hz=RATE, channels=1) as writer:
        writer.write(tone(6000))
    assert media.audio_info(tmp_path / "b.wav").format == "RF64"
    for suffix in (".aiff", ".au"):
        with pytest.raises(MediaError, match=r"holds 4 GiB at most; write \.w64"):
            media.write_audio(tmp_path / f"a{suffix}", tone(6000), RATE)
        assert not (tmp_path / f"a{suffix}").exists()
    media.write_audio(tmp_path / "small.wav", tone(100), RATE)
    assert media.audio_info(tmp_path / "small.wav").format == "WAV"


def test_many_channels_of_long_blocks_can_be_written_as_vorbis(tmp_path: Path) -> None:
    media.write_audio(tmp_path / "a.ogg", tone(600_000, 2), 48_000)
    assert media.audio_info(tmp_path / "a.ogg").frames == 600_000


# --- metadata ---


def test_tags_are_kept_or_told(tmp_path: Path) -> None:
    source = tmp_path / "a.flac"
    with soundfile.SoundFile(source, "w", RATE, 1, format="FLAC") as out:
        out.title, out.artist = "Interview", "A. Nyone"
        out.write(tone())
    found = media.read_audio_metadata(source)
    assert found.tags["title"] == "Interview"
    samples, rate = media.read_audio(source)
    for suffix in (".flac", ".ogg", ".wav", ".mp3", ".caf"):
        target = tmp_path / f"b{suffix}"
        notes = media.write_audio(target, samples, rate, metadata=found)
        back = media.read_audio_metadata(target).tags
        kept = {key for key in ("title", "artist") if back.get(key) == found.tags[key]}
        assert kept == {"title", "artist"} or set(notes[0].split(": ")[1].split(", ")) == {
            "title", "artist"
        } - kept  # fmt: skip
        if suffix in (".flac", ".ogg", ".wav"):
            assert kept == {"title", "artist"} and notes == ()
    assert media.write_audio(tmp_path / "b.au", samples, rate, metadata=found) == (
        "left out, AU has no room for it: title, artist",
    )


def with_chunk(data: bytes, name: bytes, body: bytes) -> bytes:
    out = data[:36] + name + struct.pack("<I", len(body)) + body + data[36:]
    return out[:4] + struct.pack("<I", len(out) - 8) + out[8:]


def test_a_broadcast_extension_is_kept_or_told(tmp_path: Path) -> None:
    body = b"scene 1".ljust(602, b"\0")
    data = with_chunk(with_chunk(saved("WAV"), b"bext", body), b"iXML", b"<BWFXML/>\0")
    found = media.read_audio_metadata(data)
    samples, rate = media.read_audio(data)
    for frames_known in (True, False):
        with media.AudioWriter(
            tmp_path / "b.wav",
            rate_hz=rate,
            channels=1,
            frames=len(samples) if frames_known else None,
            metadata=found,
        ) as writer:
            writer.write(samples)
        assert writer.notes == ()
        back = media.read_audio_metadata(tmp_path / "b.wav")
        assert dict(back.chunks) == {b"bext": body, b"iXML": b"<BWFXML/>\0"}
        assert np.array_equal(media.read_audio(tmp_path / "b.wav")[0], samples)
    (note,) = media.write_audio(tmp_path / "b.flac", samples, rate, metadata=found)
    assert note == "left out, FLAC has no room for it: iXML, bext"


def test_a_channel_layout_is_kept_or_told(tmp_path: Path) -> None:
    data = bytearray(saved("WAVEX", channels=4))
    at = data.index(b"fmt ") + 8 + 20
    data[at : at + 4] = struct.pack("<I", 0x107)
    found = media.read_audio_metadata(bytes(data))
    assert found.channel_mask == 0x107
    samples, rate = media.read_audio(bytes(data))
    for frames in (len(samples), None):
        with media.AudioWriter(
            tmp_path / "b.wav", rate_hz=rate, channels=4, frames=frames, metadata=found
        ) as writer:
            writer.write(samples)
        assert writer.notes == ()
        assert media.read_audio_metadata(tmp_path / "b.wav").channel_mask == 0x107
    (note,) = media.write_audio(tmp_path / "b.flac", samples, rate, metadata=found)
    assert note == "left out, FLAC has no room for it: the channel layout"


def test_cover_art_and_other_tags_are_named() -> None:
    data = saved("FLAC")
    art = struct.pack(">II9sIIIIII4s", 3, 9, b"image/png", 0, 1, 1, 24, 0, 4, b"\x89PNG")
    picture = b"\x06" + len(art).to_bytes(3, "big") + art
    entry = b"REPLAYGAIN_TRACK_GAIN=-3 dB"
    comments = struct.pack("<I", 0) + struct.pack("<I", 1) + struct.pack("<I", len(entry)) + entry
    at = 4
    while not data[at] & 0x80:
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    frames = data[at + 4 + int.from_bytes(data[at + 1 : at + 4], "big") :]
    blocks = b"\0" + data[5:42] + picture + b"\x84" + len(comments).to_bytes(3, "big") + comments
    found = media.read_audio_metadata(data[:4] + blocks + frames)
    assert found.others == ("cover art", "REPLAYGAIN_TRACK_GAIN")
    out = io.BytesIO()
    (note,) = media.write_audio(out, tone(), RATE, metadata=found, format="flac")
    assert note == "left out, FLAC has no room for it: cover art, REPLAYGAIN_TRACK_GAIN"


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_changed_headers_end_in_data_or_one_line_and_print_nothing_of_python(
    kind: str, subtype: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = saved(kind, subtype, 1000)
    rng = np.random.default_rng(3)
    for _ in range(150):
        damaged = bytearray(data)
        at = int(rng.integers(0, min(len(data) - 4, 120)))
        damaged[at : at + 4] = [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"][int(rng.integers(3))]
        try:
            media.read_audio(bytes(damaged))
        except MediaError as error:
            assert "\n" not in str(error)
    assert "Traceback" not in capfd.readouterr().err


def test_a_flac_that_libsndfile_tagged_has_nothing_that_is_left_out(tmp_path):
    names = "title copyright software artist comment date album license tracknumber genre".split()
    with soundfile.SoundFile(tmp_path / "a.flac", "w", 8000, 1) as file:
        for name in names:
            setattr(file, name, f"my {name}")
        file.write(np.zeros(100))
    found = media.read_audio_metadata(tmp_path / "a.flac")
    assert set(found.tags) == set(names)
    assert found.others == ()
