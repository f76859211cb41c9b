"""Images of 16 bits a sample keep them, where that is asked for, and tell where they do not."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from edgeae import media
from edgeae.errors import MediaError
from edgeae.media import sixteen_bits

SHAPES = [(1, 1, 1), (7, 5, 1), (7, 5, 3), (7, 5, 4), (130, 91, 3), (64, 257, 4)]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def picture(shape: tuple[int, ...]) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 65536, shape, np.uint16)
    pixels[0, 0] = 65535
    if shape[2] == 4:
        pixels[-1, -1, 3] = 0
    return pixels


def encoded(pixels: np.ndarray, suffix: str, **metadata: bytes) -> bytes:
    buffer = io.BytesIO()
    assert media.write_image(buffer, pixels, format=suffix, **metadata) == ()
    return buffer.getvalue()


def with_chunk(png: bytes, name: bytes, body: bytes) -> bytes:
    """A PNG with a chunk behind its header."""
    made = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return png[:33] + made + png[33:]


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("shape", SHAPES)
def test_sixteen_bits_come_back_exactly_and_with_their_metadata(shape, suffix) -> None:
    pixels = picture(shape)
    exif = Image.Exif()
    exif[271] = "Camera"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    data = encoded(pixels, suffix, exif=exif.tobytes()[6:], xmp=xmp)
    found = media.read_image(data, keep_16_bits=True)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, pixels)
    kept = media.read_image_metadata(data)
    assert (kept.bits, kept.xmp) == (16, xmp) and b"Camera" in (kept.exif or b"")
    np.testing.assert_array_equal(media.read_image(data), sixteen_bits.narrowed(pixels))
    flat = pixels[..., 0]
    assert encoded(flat, suffix) == encoded(np.ascontiguousarray(flat)[..., None], suffix)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_png_of_sixteen_bits_is_one_by_the_specification(shape, monkeypatch) -> None:
    monkeypatch.setattr(sixteen_bits, "_STRIP_BYTES", 4096)  # several parts
    pixels = picture(shape)
    data = encoded(pixels, "png")
    kind = {1: 0, 3: 2, 4: 6}[shape[2]]
    assert struct.unpack_from(">IIBBBBB", data, 16) == (shape[1], shape[0], 16, kind, 0, 0, 0)
    packed, position = b"", 8
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        packed += data[position + 8 : position + 8 + length] if name == b"IDAT" else b""
        position += 12 + length
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape[0], -1)
    assert set(rows[:, 0]) == {1}  # Sub: differences to the bytes of the pixel before, modulo 256
    differences = rows[:, 1:].reshape(shape[0], shape[1], -1)
    samples = np.cumsum(differences, axis=1, dtype=np.uint8)
    assert samples.tobytes() == pixels.astype(">u2").tobytes()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_tiff_of_sixteen_bits_is_one_by_the_specification(shape) -> None:
    pixels = picture(shape)
    data = encoded(pixels, "tif")
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    fields = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, at)
        letter = {3: "H", 4: "I"}.get(kind)
        if letter is None:
            continue
        if struct.calcsize(letter) * number > 4:
            (place,) = struct.unpack_from(order + "I", data, at + 8)
        else:
            place = at + 8
        fields[tag] = struct.unpack_from(f"{order}{number}{letter}", data, place)
    assert (fields[256], fields[257]) == ((shape[1],), (shape[0],))
    assert (fields[258], fields.get(277, (1,))) == ((16,) * shape[2], (shape[2],))
    assert fields[259] == (8,) and fields.get(317, (1,)) == (1,)  # deflate, no predictor
    strips = zip(fields[273], fields[279], strict=True)
    samples = b"".join(zlib.decompress(data[at : at + size]) for at, size in strips)
    assert samples == pixels.astype(order + "u2").tobytes()


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".ppm", ".jpg", ".avif"])
def test_other_formats_get_eight_bits_and_say_so(tmp_path: Path, suffix: str) -> None:
    pixels = np.repeat(np.linspace(0, 65535, 64).astype(np.uint16)[:, None], 64, axis=1)
    (told,) = media.write_image(tmp_path / f"a{suffix}", pixels)
    assert told.startswith("its 16 bits a sample become 8: ")
    found = media.read_image(tmp_path / f"a{suffix}", keep_16_bits=True)
    assert found.dtype == np.uint8
    assert np.abs(found[..., 0].astype(int) - pixels // 257).max() <= 2


def test_what_has_no_room_for_transparency_refuses_sixteen_bits_with_it(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no transparency"):
        media.write_image(tmp_path / "a.jpg", picture((7, 5, 4)))


def test_colors_that_are_converted_have_eight_bits() -> None:
    data = encoded(picture((7, 5, 3)), "png")
    plain = media.read_image(data, keep_16_bits=True)
    is_srgb = [(b"gAMA", struct.pack(">I", 45455)), (b"iCCP", b"x\0\0" + zlib.compress(SRGB))]
    for name, body in is_srgb:
        found = media.read_image(with_chunk(data, name, body), keep_16_bits=True)
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, plain)
    linear = with_chunk(data, b"gAMA", struct.pack(">I", 100_000))
    found = media.read_image(linear, keep_16_bits=True)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, media.read_image(linear))
    for profile in (zlib.compress(LAB), b"broken"):
        with pytest.raises(MediaError, match="ICC profile"):
            media.read_image(with_chunk(data, b"iCCP", b"x\0\0" + profile), keep_16_bits=True)


def test_a_transparent_level_and_an_opaque_fourth_channel() -> None:
    gray = np.array([[5, 256, 65535]], np.uint16)
    keyed = with_chunk(encoded(gray, "png"), b"tRNS", struct.pack(">H", 256))
    expected = np.repeat(gray[..., None], 4, axis=2)
    expected[..., 3] = 65535, 0, 65535
    np.testing.assert_array_equal(media.read_image(keyed, keep_16_bits=True), expected)
    opaque = np.full((2, 3, 4), 65535, np.uint16)
    assert media.read_image(encoded(opaque, "png"), keep_16_bits=True).shape == (2, 3, 3)
    opaque[0, 0, 3] = 65534  # shows in 16 bits, and not in 8
    assert media.read_image(encoded(opaque, "png"), keep_16_bits=True).shape == (2, 3, 4)
    assert media.read_image(encoded(opaque, "png")).shape == (2, 3, 3)


def test_sixteen_bits_are_turned_upright() -> None:
    pixels = picture((7, 5, 3))
    exif = Image.Exif()
    exif[0x112] = 6
    data = encoded(pixels, "png", exif=exif.tobytes()[6:])
    found = media.read_image(data, keep_16_bits=True)
    np.testing.assert_array_equal(found, np.rot90(pixels, -1))


def test_eight_bits_stay_eight(tmp_path: Path) -> None:
    media.write_image(tmp_path / "a.png", np.zeros((3, 4, 3), np.uint8))
    assert media.read_image(tmp_path / "a.png", keep_16_bits=True).dtype == np.uint8
