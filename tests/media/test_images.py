"""Images in and out: what is kept, what is refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from made import litter, photo
from PIL import Image, ImageCms

from edgeae import media
from edgeae.errors import MediaError
from edgeae.media import images


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
    with pytest.raises(MediaError, match=r"text\.png: not an image"):
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
        with pytest.raises(MediaError, match=r"bomb\.png: .*pixels, expected at most 268,435,456"):
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
    most = images._USUAL_PIXELS, images._PIXELS_PER_BYTE
    assert most == (2**25, 2**14)
    monkeypatch.setattr(images, "_PIXELS_PER_BYTE", 100)
    assert media.read_image(path).shape == (300, 300, 3)
    monkeypatch.setattr(images, "_USUAL_PIXELS", 300 * 300 - 1)
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
