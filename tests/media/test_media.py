"""Files in and out: what is kept, what is refused by name, and that nothing half-written stays."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image, ImageCms

from edgeae.errors import MediaError
from edgeae.media import files as media


def photo(height: int = 40, width: int = 56) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    planes = rows * 3 + columns, 200 - columns * 2, 90 + rows
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def tone(frames: int = 4000, channels: int = 1) -> np.ndarray:
    t = np.arange(frames) / 16000
    x = 0.5 * np.sin(2 * np.pi * 440 * t)
    return (
        x if channels == 1 else np.stack([x * (c + 1) / channels for c in range(channels)], 1)
    ).astype(np.float32)


def litter(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.endswith(".tmp")]


# --- pictures ---


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp", ".ppm", ".PNG"])
def test_a_picture_comes_back_exactly_from_a_lossless_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    media.write_image(path, photo())
    back = media.read_image(path)
    assert back.dtype == np.uint8 and np.array_equal(back, photo())
    assert litter(tmp_path) == []


@pytest.mark.parametrize("suffix", [".jpg", ".avif"])
def test_a_lossy_format_is_written_close_to_the_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    media.write_image(path, photo())
    assert np.abs(media.read_image(path).astype(int) - photo()).mean() < 2


def test_a_gray_picture_stays_gray(tmp_path: Path) -> None:
    media.write_image(tmp_path / "a.png", photo()[:, :, :1])
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "L"
    assert np.array_equal(media.read_image(tmp_path / "a.png"), photo()[:, :, :1])
    media.write_image(tmp_path / "flat.png", photo()[:, :, 0])
    assert np.array_equal(media.read_image(tmp_path / "flat.png"), photo()[:, :, :1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo()).save(tmp_path / "a.png", exif=exif.tobytes())
    a = photo()
    upright = {
        1: a,
        2: a[:, ::-1],
        3: a[::-1, ::-1],
        4: a[::-1],
        5: a.transpose(1, 0, 2),
        6: np.rot90(a, -1),
        7: a.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(a),
    }[orientation]
    assert np.array_equal(media.read_image(tmp_path / "a.png"), upright)


def test_palette_bilevel_and_opaque_alpha_keep_their_colors(tmp_path: Path) -> None:
    source = Image.fromarray(photo())
    palette = source.quantize(16)
    palette.save(tmp_path / "p.png")
    assert np.array_equal(media.read_image(tmp_path / "p.png"), palette.convert("RGB"))
    source.convert("1").save(tmp_path / "b.png")
    assert set(np.unique(media.read_image(tmp_path / "b.png"))) <= {0, 255}
    source.convert("RGBA").save(tmp_path / "o.png")
    assert np.array_equal(media.read_image(tmp_path / "o.png"), photo())
    source.convert("LA").save(tmp_path / "la.png")
    assert np.array_equal(media.read_image(tmp_path / "la.png")[:, :, 0], source.convert("L"))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_transparency_that_shows_comes_back_exactly(tmp_path: Path, suffix: str) -> None:
    alpha = np.arange(40 * 56).reshape(40, 56, 1) % 256
    image = np.concatenate([photo(), alpha.astype(np.uint8)], axis=2)
    media.write_image(tmp_path / f"a{suffix}", image)
    assert np.array_equal(media.read_image(tmp_path / f"a{suffix}"), image)


def test_transparency_of_gray_and_of_palettes_becomes_a_fourth_channel(tmp_path: Path) -> None:
    gray = Image.fromarray(photo()).convert("LA")
    gray.putpixel((3, 4), (9, 77))
    gray.save(tmp_path / "gray.png")
    back = media.read_image(tmp_path / "gray.png")
    assert back[4, 3].tolist() == [9, 9, 9, 77] and back[0, 0, 3] == 255
    palette = Image.fromarray(photo()).quantize(8)
    palette.save(tmp_path / "palette.png", transparency=2)
    back = media.read_image(tmp_path / "palette.png")
    assert np.array_equal(back[:, :, 3] == 0, np.asarray(palette) == 2)


def test_a_profile_moves_the_colors_and_not_the_transparency(tmp_path: Path) -> None:
    picture = Image.fromarray(photo()).convert("RGBA")
    picture.putpixel((3, 4), (200, 10, 10, 50))
    picture.save(tmp_path / "a.png", icc_profile=rgb_profile(swap=True))
    back = media.read_image(tmp_path / "a.png").astype(int)
    assert back[4, 3, 3] == 50
    assert np.abs(back[:, :, :3] - np.asarray(picture)[:, :, [1, 0, 2]]).max() <= 2


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_transparency_is_not_dropped_where_a_format_has_none(tmp_path: Path, suffix: str) -> None:
    image = np.full((4, 4, 4), 99, np.uint8)
    with pytest.raises(MediaError, match=r"has no transparency, \.png"):
        media.write_image(tmp_path / f"a{suffix}", image)
    assert list(tmp_path.iterdir()) == []


def test_sixteen_bit_gray_becomes_eight_bits_without_a_shift(tmp_path: Path) -> None:
    levels = np.array([[0, 128, 129, 32896, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert media.read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_cmyk_without_a_profile_and_float_pixels_are_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(photo()).convert("CMYK").save(tmp_path / "ink.tif")
    with pytest.raises(MediaError, match=r"ink\.tif: CMYK without an ICC profile"):
        media.read_image(tmp_path / "ink.tif")
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(MediaError, match=r"f\.tif: pixels of kind F"):
        media.read_image(tmp_path / "f.tif")


def rgb_profile(swap: bool) -> bytes:
    """sRGB as an ICC profile; with `swap` its red and green primaries change places."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if swap:
        count = struct.unpack(">I", data[128:132])[0]
        entry = {data[132 + 12 * i : 136 + 12 * i].decode(): 136 + 12 * i for i in range(count)}
        red, green = entry["rXYZ"], entry["gXYZ"]
        data[red : red + 8], data[green : green + 8] = data[green : green + 8], data[red : red + 8]
    return bytes(data)


def test_an_icc_profile_is_applied_and_srgb_by_any_name_changes_nothing(tmp_path: Path) -> None:
    source = Image.fromarray(photo())
    source.save(tmp_path / "srgb.png", icc_profile=rgb_profile(swap=False))
    assert np.array_equal(media.read_image(tmp_path / "srgb.png"), photo())
    source.save(tmp_path / "swapped.png", icc_profile=rgb_profile(swap=True))
    swapped = media.read_image(tmp_path / "swapped.png").astype(int)
    assert np.abs(swapped - photo()[:, :, [1, 0, 2]]).max() <= 2


def test_a_profile_on_a_gray_picture_is_applied_and_a_broken_one_refused(tmp_path: Path) -> None:
    gray = Image.fromarray(photo()).convert("L")
    gray.save(tmp_path / "g.png", icc_profile=rgb_profile(swap=True))
    back = media.read_image(tmp_path / "g.png").astype(int)
    assert back.shape[2] == 1
    assert np.abs(back - np.asarray(gray)[:, :, None]).max() <= 2  # grays have no red or green
    gray.save(tmp_path / "broken.png", icc_profile=b"not a profile")
    with pytest.raises(MediaError, match=r"broken\.png: its ICC profile"):
        media.read_image(tmp_path / "broken.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif", ".bmp", ".ppm"])
def test_a_cut_off_picture_is_refused(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    rng = np.random.default_rng(0)
    media.write_image(whole, rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    data = whole.read_bytes()
    for keep in (len(data) - 40, len(data) // 2, 30, 5):
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(data[:keep])
        with pytest.raises(MediaError, match="cut"):
            media.read_image(cut)


def test_a_missing_an_empty_and_a_wrong_kind_of_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"cannot read .*gone\.png: No such file"):
        media.read_image(tmp_path / "gone.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(MediaError, match=r"empty\.png: the file is empty"):
        media.read_image(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no picture at all")
    with pytest.raises(MediaError, match=r"text\.png: not a picture"):
        media.read_image(tmp_path / "text.png")
    with pytest.raises(MediaError, match="cannot read"):
        media.read_image(tmp_path)


def test_a_decompression_bomb_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    for side in (17_000, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bomb = tmp_path / "bomb.png"
        bomb.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", b"")
            + chunk(b"IEND", b"")
        )
        limit = Image.MAX_IMAGE_PIXELS
        with pytest.raises(MediaError, match=r"bomb\.png: .*pixels, at most 268,435,456"):
            media.read_image(bomb)
        assert limit == Image.MAX_IMAGE_PIXELS


def test_a_short_file_cannot_unfold_to_a_huge_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(photo(6, 6)).save(path)
    data = bytearray(path.read_bytes())
    # As high as a PNG can be, which Pillow would read for seconds, and then leave black.
    for height in (4000, 2**25):
        data[20:24] = height.to_bytes(4, "big")
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        path.write_bytes(data)
        with pytest.raises(MediaError, match=rf"6x{height} pixels, of which its {len(data)} bytes"):
            media.read_image(path)


def test_pixels_are_in_proportion_to_bytes_in_every_format(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.webp"
    Image.new("RGB", (300, 300)).save(path, lossless=True)
    most = media._USUAL_PIXELS, media._PIXELS_PER_BYTE
    assert most == (2**25, 2**14)
    monkeypatch.setattr(media, "_PIXELS_PER_BYTE", 100)
    assert media.read_image(path).shape == (300, 300, 3)
    monkeypatch.setattr(media, "_USUAL_PIXELS", 300 * 300 - 1)
    with pytest.raises(MediaError, match="300x300 pixels, of which its"):
        media.read_image(path)


def test_a_blank_page_is_no_bomb(tmp_path: Path) -> None:
    for mode, side in (("1", 4000), ("L", 2000), ("RGB", 1000)):
        Image.new(mode, (side, side), 255 if mode != "RGB" else "white").save(tmp_path / "a.png")
        assert (media.read_image(tmp_path / "a.png") == 255).all()


def test_several_frames_are_refused(tmp_path: Path) -> None:
    first = Image.fromarray(photo())
    second = Image.fromarray(photo()[::-1])
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    with pytest.raises(MediaError, match="2 frames"):
        media.read_image(tmp_path / "a.gif")


@pytest.mark.parametrize(
    "image",
    [
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        [[1, 2]],
    ],
)
def test_write_image_refuses_other_arrays(tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        media.write_image(tmp_path / "a.png", image)
    assert list(tmp_path.iterdir()) == []


def test_write_image_names_the_suffixes_it_knows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'.*a\.xyz'.*\.png"):
        media.write_image(tmp_path / "a.xyz", photo())


# --- atomic writes ---


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "keep.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), media.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and litter(tmp_path) == []
    media.atomic_write(path, b"new")
    assert path.read_bytes() == b"new" and litter(tmp_path) == []


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with media.replacing(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix", reason="POSIX file rights")
def test_rights_follow_the_umask_and_the_replaced_file(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        media.atomic_write(tmp_path / "new", b"1")
    finally:
        os.umask(umask)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    os.chmod(tmp_path / "new", 0o600)
    media.atomic_write(tmp_path / "new", b"2")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name != "posix", reason="links need no rights on POSIX")
def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    media.atomic_write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == b"new"


def test_a_folder_or_a_missing_folder_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="not a regular file"):
        media.atomic_write(tmp_path, b"x")
    with pytest.raises(MediaError, match="there is no folder"):
        media.atomic_write(tmp_path / "no" / "a", b"x")


# Writes again and again, is killed at any moment, and what is there must be whole: the old or the
# new. Forks, so that a hundred kills take seconds; in a process of its own, which has no threads.
KILLED_WRITERS = """
import os, random, signal, sys, time
from pathlib import Path
from edgeae.media import files as media

path = Path(sys.argv[1])
media.atomic_write(path, b"0" * 300_000)
seen, most = set(), 0
for kill in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        while True:
            for letter in b"abcdefgh":
                media.atomic_write(path, bytes([letter]) * 300_000)
    time.sleep(random.Random(kill).uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    data = path.read_bytes()
    assert len(data) == 300_000 and len(set(data)) == 1, (kill, len(data), set(data))
    seen.add(data[:1])
    # What the killed one left is removed by the next one.
    left = [name for name in os.listdir(path.parent) if name != path.name]
    assert len(left) <= 1, left
    most = max(most, len(left))
media.atomic_write(path, b"0" * 300_000)
assert os.listdir(path.parent) == [path.name], os.listdir(path.parent)
print(len(seen), most)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_writer_that_is_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    root = Path(media.__file__).parents[2]
    out = subprocess.run(
        [sys.executable, "-c", KILLED_WRITERS, str(tmp_path / "a.bin"), "100"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert out.returncode == 0, out.stderr
    wrote, left = map(int, out.stdout.split())
    assert wrote > 1 and left == 1  # some of them did write, some were killed half way


@pytest.mark.skipif(os.name != "posix", reason="this system has no file locks of that kind")
def test_writers_of_one_file_at_once_do_not_take_each_others_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    litter = [tmp_path / f".a.bin.{number}.tmp" for number in range(3)]
    for file in litter:
        file.write_bytes(b"left by a killed writer")
    with media.replacing(path) as first:
        with media.replacing(path) as second:
            assert first != second
            first.write_bytes(b"first")
            second.write_bytes(b"second")
        assert path.read_bytes() == b"second"
        assert first.read_bytes() == b"first"
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="this system has no links and pipes of that kind")
def test_what_is_no_litter_of_a_writer_is_left_alone(tmp_path: Path) -> None:
    path, other = tmp_path / "a.bin", tmp_path / "other"
    other.write_bytes(b"kept")
    (tmp_path / ".a.bin.0.tmp").symlink_to(other)
    os.mkfifo(tmp_path / ".a.bin.1.tmp")
    (tmp_path / ".a.bin.2.tmp").mkdir()
    media.atomic_write(path, b"data")
    assert path.read_bytes() == b"data" and other.read_bytes() == b"kept"
    assert len(os.listdir(tmp_path)) == 5


@pytest.mark.skipif(os.name != "posix", reason="this system has no file locks of that kind")
def test_more_writers_than_names_find_others(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(media.replacing(path)) for _ in range(10)]
        assert len(set(files)) == 10
    assert os.listdir(tmp_path) == ["a.bin"]


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from edgeae.media import files as media

folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
sound = (noise.ravel() / 256 - 0.5).astype(np.float32)
for write in (
    lambda: media.atomic_write(folder / "a.bin", bytes(9000)),
    lambda: media.write_image(folder / "a.png", noise),
    lambda: media.write_audio(folder / "a.wav", sound, 16000),
):
    try:
        write()
    except media.MediaError as error:
        print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="a limit on a file's size stands for a full disk")
def test_a_full_disk_leaves_the_old_files_and_no_litter(tmp_path: Path) -> None:
    names = ["a.bin", "a.png", "a.wav"]
    for name in names:
        (tmp_path / name).write_bytes(b"old")
    root = Path(media.__file__).parents[2]
    out = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert out.returncode == 0, out.stderr
    lines = out.stdout.splitlines()
    assert len(lines) == 3
    for name, line in zip(names, lines, strict=True):
        assert f"cannot write {tmp_path / name}" in line
        assert (tmp_path / name).read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == names


# --- sound ---


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
    with pytest.raises(MediaError, match=r"text\.wav: not a sound file"):
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
    with pytest.raises(MediaError, match=r"nan\.wav: NaN or infinite"):
        media.read_audio(tmp_path / "nan.wav")


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
    with pytest.raises(MediaError, match=r"a\.opus: OGG OPUS does not take 1 channels at 44100 Hz"):
        media.write_audio(tmp_path / "a.opus", tone(), 44100)
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
