"""Every depth, polarity, palette and transparency of an image comes out as 8 bits, or by name."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from edgeae import media
from edgeae.errors import MediaError

HEIGHT, WIDTH = 16, 64


def ramp(bits: int) -> np.ndarray:
    """(16, 64) integers that go through all of 0 to 2**bits - 1 evenly."""
    return np.rint(np.linspace(0, 2**bits - 1, HEIGHT * WIDTH)).astype(int).reshape(HEIGHT, WIDTH)


def packed(levels: np.ndarray, bits: int) -> bytes:
    rows = []
    for row in levels:
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows.append(int(digits, 2).to_bytes(len(digits) // 8, "big"))
    return b"".join(rows)


def tiff(pages: list[tuple[list[tuple[int, int, tuple[int, ...]]], bytes]], order: str) -> bytes:
    """A TIFF of pages; fields are (tag, type, values) less strip offsets and counts."""
    sizes, letters = {1: 1, 3: 2, 4: 4}, {1: "B", 3: "H", 4: "I"}
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0))
    link = 4
    for fields, pixels in pages:
        at = len(out)
        out += pixels + b"\0" * (len(pixels) % 2)
        fields = sorted([*fields, (273, 4, (at,)), (279, 4, (len(pixels),))])
        rows = []
        for tag, kind, values in fields:
            data = struct.pack(f"{order}{len(values)}{letters[kind]}", *values)
            if len(data) > 4:
                place = struct.pack(order + "I", len(out))
                out += data
            else:
                place = data.ljust(4, b"\0")
            assert len(data) == sizes[kind] * len(values)
            rows.append(struct.pack(order + "HHI", tag, kind, len(values)) + place)
        struct.pack_into(order + "I", out, link, len(out))
        out += struct.pack(order + "H", len(rows)) + b"".join(rows)
        link = len(out)
        out += bytes(4)
    return bytes(out)


def page(
    pixels: bytes,
    bits: tuple[int, ...],
    photometric: int,
    *,
    deflate: bool = False,
    more: tuple[tuple[int, int, tuple[int, ...]], ...] = (),
) -> tuple[list[tuple[int, int, tuple[int, ...]]], bytes]:
    fields = [
        (256, 3, (WIDTH,)),
        (257, 3, (HEIGHT,)),
        (258, 3, bits),
        (259, 3, (8 if deflate else 1,)),
        (262, 3, (photometric,)),
        (277, 3, (len(bits),)),
        (278, 3, (HEIGHT,)),
        *more,
    ]
    return fields, zlib.compress(pixels) if deflate else pixels


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_a_gray_tiff_is_black_at_0_and_white_at_255(
    bits: int, white_is_zero: bool, deflate: bool, order: str
) -> None:
    levels = ramp(bits)
    stored = (1 << bits) - 1 - levels if white_is_zero else levels
    pixels = stored.astype(f"{order}u2").tobytes() if bits == 16 else packed(stored, bits)
    data = tiff([page(pixels, (bits,), 0 if white_is_zero else 1, deflate=deflate)], order)
    if bits == 12 and order == ">" and b"MM" == data[:2]:
        # Pillow reads no 12-bit samples of this order: by name, then.
        with pytest.raises(MediaError, match="1 x 12 bits, unsigned, photometric"):
            media.read_image(data)
        return
    back = media.read_image(data)
    expected = levels * 255 / ((1 << bits) - 1)
    assert back.shape == (HEIGHT, WIDTH, 1)
    assert np.abs(back[:, :, 0] - expected).max() <= 0.51


@pytest.mark.parametrize("scale", [1, 257])
def test_a_tiff_palette_of_small_entries_is_not_black(scale: int) -> None:
    colors = np.arange(256) * scale
    table = (320, 3, (*colors, *colors[::-1], *([7 * scale] * 256)))
    levels = ramp(8)
    back = media.read_image(tiff([page(packed(levels, 8), (8,), 3, more=(table,))], "<"))
    expected = np.stack([levels, 255 - levels, np.full_like(levels, 7)], -1)
    assert np.array_equal(back, expected)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_colors_of_a_tiff_are_rounded(order: str) -> None:
    levels = np.stack([ramp(16), ramp(16)[::-1], ramp(16)], -1)
    data = tiff([page(levels.astype(f"{order}u2").tobytes(), (16, 16, 16), 2)], order)
    assert np.array_equal(media.read_image(data), (levels + 128) // 257)


@pytest.mark.parametrize(
    ("bits", "kind", "name"), [(16, 2, "16 bits, signed"), (32, 1, "32 bits, unsigned"),
                               (32, 3, "32 bits, floating point")],
)  # fmt: skip
def test_samples_without_a_white_are_refused_by_name(bits: int, kind: int, name: str) -> None:
    pixels = bytes(HEIGHT * WIDTH * bits // 8)
    data = tiff([page(pixels, (bits,), 1, more=((339, 3, (kind,)),))], "<")
    with pytest.raises(MediaError, match=name):
        media.read_image(data)


def test_samples_that_no_reader_knows_are_named() -> None:
    data = tiff([page(bytes(HEIGHT * WIDTH * 4), (16, 16), 1, more=((338, 3, (2,)),))], "<")
    with pytest.raises(MediaError, match="2 x 16 bits, unsigned, photometric 1"):
        media.read_image(data)


def test_a_thumbnail_page_is_no_second_image() -> None:
    levels = ramp(8)
    whole = page(packed(levels, 8), (8,), 1)
    small = page(packed(levels[::-1], 8), (8,), 1, more=((254, 4, (1,)),))
    old_small = page(packed(levels[::-1], 8), (8,), 1, more=((255, 3, (2,)),))
    for pages in ([whole, small], [small, whole], [whole, old_small, small], [whole]):
        assert np.array_equal(media.read_image(tiff(pages, "<"))[:, :, 0], levels)
    with pytest.raises(MediaError, match="2 frames"):
        media.read_image(tiff([whole, whole, small], "<"))


def test_a_tiff_whose_pages_go_round_ends() -> None:
    data = bytearray(tiff([page(packed(ramp(8), 8), (8,), 1)], "<"))
    data[-4:] = data[4:8]
    assert media.read_image(bytes(data)).shape == (HEIGHT, WIDTH, 1)


@pytest.mark.parametrize("most", [1, 15, 100, 255, 256, 1023, 4095, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_netpbm_of_every_depth_becomes_eight_bits(kind: str, most: int) -> None:
    channels = 3 if kind in ("P3", "P6") else 1
    levels = np.rint(np.linspace(0, most, HEIGHT * WIDTH)).astype(int).repeat(channels)
    if kind in ("P5", "P6"):
        pixels = levels.astype(">u2" if most > 255 else "u1").tobytes()
    else:
        pixels = " ".join(map(str, levels)).encode()
    back = media.read_image(f"{kind}\n{WIDTH} {HEIGHT}\n{most}\n".encode() + pixels)
    expected = (levels * 255 / most).reshape(HEIGHT, WIDTH, channels)
    assert np.abs(back - expected).max() <= 1


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_16(levels: np.ndarray, key: tuple[int, ...] | None = None) -> bytes:
    kind = 0 if levels.ndim == 2 else 2
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], 16, kind, 0, 0, 0)
    transparent = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + transparent
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


def test_one_transparent_level_of_sixteen_bits_hides_that_level_alone() -> None:
    gray = np.array([[0, 1, 300, 301, 65535]])
    back = media.read_image(png_16(gray, (300,)))
    assert back[0, :, 3].tolist() == [255, 255, 0, 255, 255]
    assert back[0, :, 0].tolist() == [0, 0, 1, 1, 255]
    assert media.read_image(png_16(gray, (12345,))).shape == (1, 5, 1)
    colors = np.array([[[300, 300, 300], [300, 300, 301], [0, 300, 300]]])
    back = media.read_image(png_16(colors, (300, 300, 300)))
    assert back[0, :, 3].tolist() == [0, 255, 255]
    assert media.read_image(png_16(colors, (1, 1, 1))).shape == (1, 3, 3)


def test_sixteen_bit_colors_of_a_png_are_rounded() -> None:
    levels = np.stack([ramp(16), ramp(16)[::-1], ramp(16)], -1)
    assert np.array_equal(media.read_image(png_16(levels)), (levels + 128) // 257)


def test_sixteen_bits_of_jpeg_2000_become_eight() -> None:
    buffer = io.BytesIO()
    Image.fromarray(ramp(16).astype(np.uint16)).save(buffer, "JPEG2000")
    back = media.read_image(buffer.getvalue())
    assert np.abs(back[:, :, 0] - ramp(16) / 257).max() <= 0.51
