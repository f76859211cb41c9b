"""Cut, damaged and overgrown image files are refused, whatever the decoder makes of them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from made import photo
from PIL import Image

from edgeae import media
from edgeae.errors import MediaError

NOISE = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)


def saved(kind: str, pixels: np.ndarray = NOISE, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("pixels", [NOISE, photo(200, 300)], ids=["noise", "photo"])
def test_a_cut_jpeg_with_an_end_marker_is_cut(
    pixels: np.ndarray, share: float, progressive: bool
) -> None:
    data = saved("JPEG", pixels, quality=80, progressive=progressive)
    assert media.read_image(data).shape == pixels.shape
    start = data.index(b"\xff\xda")
    cut = data[: start + int((len(data) - start) * share)].rstrip(b"\xff") + b"\xff\xd9"
    with pytest.raises(MediaError, match="cut off"):
        media.read_image(cut)
    with pytest.raises(MediaError, match="cut off"):
        media.read_image(cut[:-2])


def test_the_last_bytes_of_a_jpeg_scan_are_missed() -> None:
    data = saved("JPEG", NOISE, quality=90)
    for missing in (3, 5, 9, 30):
        with pytest.raises(MediaError, match="cut off"):
            media.read_image(data[: -2 - missing].rstrip(b"\xff") + b"\xff\xd9")


def test_an_end_marker_in_the_middle_cuts() -> None:
    data = saved("JPEG", NOISE, quality=90)
    middle = data.index(b"\xff\xda") + 3000
    with pytest.raises(MediaError, match="cut off"):
        media.read_image(data[:middle].rstrip(b"\xff") + b"\xff\xd9" + data[middle:])


def test_a_damaged_jpeg_scan_that_ends_early_is_noticed() -> None:
    data = bytearray(saved("JPEG", NOISE, quality=95))
    start = data.index(b"\xff\xda") + 14
    refused = 0
    rng = np.random.default_rng(5)
    for _ in range(40):
        damaged = bytearray(data)
        damaged[int(rng.integers(start, len(data) - 40))] ^= int(rng.integers(1, 255))
        try:
            media.read_image(bytes(damaged))
        except MediaError:
            refused += 1
    # JPEG has no checksum: what ends where it should passes. Most does not.
    assert refused >= 25


@pytest.mark.parametrize(
    "options",
    [{"quality": 5}, {"quality": 100, "subsampling": 0}, {"restart_marker_blocks": 3},
     {"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1, "progressive": True}],
)  # fmt: skip
@pytest.mark.parametrize(
    "kind", ["noise", "photo", "blank", "gray", "white", "large blank", "one pixel", "odd"]
)
def test_whole_jpegs_of_every_kind_are_read(kind: str, options: dict[str, object]) -> None:
    pixels = {
        "noise": NOISE,
        "photo": photo(),
        "blank": np.full((64, 64, 3), 128, np.uint8),
        "gray": np.full((64, 64), 128, np.uint8),
        "white": np.full((200, 200, 3), 255, np.uint8),
        "large blank": np.full((640, 640, 3), 128, np.uint8),
        "one pixel": NOISE[:1, :1],
        "odd": NOISE[:17, :33],
    }[kind]
    data = saved("JPEG", pixels, **options)
    for tail in (b"", b"appended to it", bytes(9)):
        assert media.read_image(data + tail).shape[:2] == pixels.shape[:2]
    fill = data[:-2] + b"\xff\xff\xff\xff\xd9"  # fill bytes before a marker
    assert media.read_image(fill).shape[:2] == pixels.shape[:2]


def test_every_changed_byte_of_a_png_is_noticed() -> None:
    data = saved("PNG", photo(12, 12))
    whole = media.read_image(data)
    for position in range(8, len(data)):
        for bit in (1, 128):
            damaged = bytearray(data)
            damaged[position] ^= bit
            with pytest.raises(MediaError):
                media.read_image(bytes(damaged))
    assert np.array_equal(media.read_image(data + b"tail"), whole)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "GIF"])
def test_every_cut_is_noticed(kind: str) -> None:
    pixels = photo(20, 24)
    data = saved(kind, pixels, **({"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}))
    media.read_image(data)
    for keep in {*range(1, len(data), 1 + len(data) // 150), *range(len(data) - 8, len(data))}:
        with pytest.raises(MediaError):
            media.read_image(data[:keep])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "JPEG2000"])
def test_bytes_after_the_end_change_nothing(kind: str) -> None:
    data = saved(kind)
    whole = media.read_image(data)
    for tail in (b"\0", b"<html>garbage", bytes(300)):
        assert np.array_equal(media.read_image(data + tail), whole)


def test_an_animation_is_refused_and_one_frame_is_not() -> None:
    first, second = Image.fromarray(NOISE), Image.fromarray(NOISE[::-1])
    for kind in ("PNG", "WEBP", "GIF", "AVIF"):
        buffer = io.BytesIO()
        first.save(buffer, kind, save_all=True, append_images=[second])
        with pytest.raises(MediaError, match="2 frames"):
            media.read_image(buffer.getvalue())
        buffer = io.BytesIO()
        first.save(buffer, kind, save_all=True)
        assert media.read_image(buffer.getvalue()).shape == NOISE.shape


# --- costly files ---


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_a_jpeg_of_a_few_bytes_is_not_33_megapixels() -> None:
    data = bytearray(saved("JPEG", photo(8, 8), quality=50))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 5792, 5792)
    with pytest.raises(MediaError, match="5792x5792 pixels, of which its"):
        media.read_image(bytes(data))
    padded = bytes(data) + bytes(10**6)
    with pytest.raises(MediaError, match="5792x5792 pixels, of which its"):
        media.read_image(padded)


def test_a_blank_jpeg_is_no_bomb() -> None:
    for mode in ("L", "RGB"):
        for progressive in (False, True):
            buffer = io.BytesIO()
            Image.new(mode, (3000, 2000), "white").save(
                buffer, "JPEG", progressive=progressive, optimize=True
            )
            assert media.read_image(buffer.getvalue()).shape[:2] == (2000, 3000)


def test_a_jpeg_of_many_scans_is_refused() -> None:
    data = saved("JPEG", NOISE, progressive=True)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    with pytest.raises(MediaError, match=r"\d+ scans of [\d,]+ bytes are more than an image"):
        media.read_image(data[:-2] + 600 * scan + b"\xff\xd9")
    large = bytearray(data[:-2] + 90 * scan + b"\xff\xd9")
    at = large.index(b"\xff\xc2") + 5
    large[at : at + 4] = struct.pack(">HH", 4000, 4000)
    with pytest.raises(MediaError, match=r"100 scans of [\d,]+ bytes are more than an image"):
        media.read_image(bytes(large))


def test_padding_does_not_pay_for_webp_pixels() -> None:
    data = saved("WEBP", np.zeros((6000, 6000, 3), np.uint8), lossless=True)
    assert len(data) < 20_000
    with pytest.raises(MediaError, match="6000x6000 pixels, of which its"):
        media.read_image(data)
    with pytest.raises(MediaError, match="6000x6000 pixels, of which its"):
        media.read_image(data + bytes(50_000))
    chunks = data[12:] + b"PADD" + struct.pack("<I", 50_000) + bytes(50_000)
    inside = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    with pytest.raises(MediaError, match="6000x6000 pixels, of which its"):
        media.read_image(inside)


def test_text_that_unfolds_to_much_is_not_unfolded() -> None:
    data = saved("PNG", photo())
    bomb = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(10**8)))
    assert np.array_equal(media.read_image(data[:33] + bomb + data[33:]), photo())


def test_other_kinds_of_files_are_named() -> None:
    for beginning, name in (
        (b"P7\nWIDTH 1\n", "PAM"), (b"%PDF-1.7", "PDF"), (b"8BPS", "Photoshop"),
        (b"\xff\x0a", "JPEG XL"), (b"<svg xmlns=", "SVG"), (b"v/1\1", "OpenEXR"),
    ):  # fmt: skip
        with pytest.raises(MediaError, match=f"{name} is not read; convert it to PNG first"):
            media.read_image(beginning + bytes(100))
    for data in (bytes(500), b"hello there"):
        with pytest.raises(MediaError, match="not an image of a known kind"):
            media.read_image(data)


def test_suffixes_of_every_name_that_cameras_and_tools_give_are_known() -> None:
    wanted = ".jfif .jpe .mpo .pbm .apng .pgm .ppm .pnm .heic .heif .jp2 .j2k .avif .tiff .gif"
    assert set(wanted.split()) <= media.IMAGE_SUFFIXES


def test_heic_is_read_where_pillow_heif_is_and_named_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    heif = pillow_heif.from_pillow(Image.fromarray(photo(64, 64)))
    buffer = io.BytesIO()
    try:
        heif.save(buffer, quality=95)
    except Exception as error:
        pytest.skip(f"this pillow-heif has no encoder: {error}")
    back = media.read_image(buffer.getvalue())
    assert back.shape == (64, 64, 3) and np.abs(back.astype(int) - photo(64, 64)).mean() < 4


def test_heic_without_its_reader_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    head = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic")
    with pytest.raises(MediaError, match=r"pip install 'edgeae\[heic\]'"):
        media.read_image(head + bytes(200))


def test_a_tiff_whose_strips_begin_at_a_fraction_is_refused() -> None:
    data = bytearray(saved("TIFF"))
    # StripOffsets (0x111), LONG or SHORT, becomes a RATIONAL.
    at = next(i for i in range(8, len(data)) if data[i : i + 4] in (b"\x11\1\3\0", b"\x11\1\4\0"))
    data[at + 2 : at + 12] = b"\5\0" + struct.pack("<II", 1, 8)
    with pytest.raises(MediaError, match="the image is cut off or damaged"):
        media.read_image(bytes(data))
