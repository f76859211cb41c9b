"""Colors that tags describe become sRGB, or are refused by name."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from edgeae import media
from edgeae.errors import MediaError
from edgeae.media import color

FLAT = np.full((8, 8, 3), (180, 90, 60), np.uint8)
SRGB_CHRM = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
ADOBE_CHRM = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)


def png(*chunks: tuple[bytes, bytes], pixels: np.ndarray = FLAT) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    packed = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return data[:33] + packed + data[33:]


def gamma(value: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", value)


def chrm(values: tuple[int, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *values)


def encoded(linear: float) -> float:
    """IEC 61966-2-1, 0 to 1 in, 0 to 255 out."""
    return 255 * (12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055)


def first(data: bytes) -> list[int]:
    return media.read_image(data)[0, 0].tolist()


def test_gamma_is_applied_to_color_and_gray() -> None:
    expected = [round(encoded(v / 255)) for v in (180, 90, 60)]
    assert first(png(gamma(100_000))) == expected
    gray = np.full((8, 8), 120, np.uint8)
    assert first(png(gamma(100_000), pixels=gray)) == [round(encoded(120 / 255))]


def test_what_is_srgb_by_another_name_is_left_alone() -> None:
    for chunks in (
        [gamma(45455)],
        [gamma(45455), chrm(SRGB_CHRM)],
        [chrm(SRGB_CHRM)],
        [(b"sRGB", b"\0"), gamma(100_000)],
        [(b"cICP", b"\1\x0d\0\1"), gamma(100_000)],
        [gamma(0)],
        [gamma(2**31)],
        [chrm((0,) * 8)],
        [chrm((2**32 - 1,) * 8)],
        [(b"gAMA", b"12"), (b"cHRM", b"")],
    ):
        assert first(png(*chunks)) == [180, 90, 60]


def test_chromaticities_are_converted_as_a_color_engine_does() -> None:
    back = np.array(first(png(chrm(ADOBE_CHRM), gamma(45471))))
    assert np.abs(back - first(adobe_jpeg())).max() <= 2
    # 180 90 60 of Adobe RGB, from its matrix: redder, and the rest nearly the same.
    assert np.abs(back - [204, 90, 56]).max() <= 2


def adobe_jpeg(index: bytes = b"R03", space: int = 65535) -> bytes:
    """A JPEG whose EXIF says its color space as cameras do."""
    head = b"II" + struct.pack("<HI", 42, 8)
    main = struct.pack("<HHHIII", 1, 0x8769, 4, 1, 26, 0)
    inner = struct.pack("<H", 2) + struct.pack("<HHII", 0xA001, 3, 1, space)
    inner += struct.pack("<HHIII", 0xA005, 4, 1, 56, 0)
    interoperability = struct.pack("<HHHI4sI", 1, 1, 2, 4, index + b"\0", 0)
    buffer = io.BytesIO()
    Image.fromarray(FLAT).save(
        buffer, "JPEG", quality=100, subsampling=0,
        exif=b"Exif\0\0" + head + main + inner + interoperability,
    )  # fmt: skip
    return buffer.getvalue()


def test_adobe_rgb_of_cameras_is_converted_once() -> None:
    plain = first(adobe_jpeg(b"R98", 1))
    moved = first(adobe_jpeg())
    assert np.abs(np.array(plain) - [180, 90, 60]).max() <= 2
    assert moved[0] > plain[0] + 15
    found = media.read_image_metadata(adobe_jpeg())
    buffer = io.BytesIO()
    media.write_image(buffer, np.full((8, 8, 3), moved, np.uint8), format="jpg", exif=found.exif)
    assert np.abs(np.array(first(buffer.getvalue())) - moved).max() <= 2


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_refused_by_name(transfer: int, name: str) -> None:
    with pytest.raises(MediaError, match=f"its colors are {name}"):
        media.read_image(png((b"cICP", bytes([9, transfer, 0, 1]))))
    with pytest.raises(MediaError, match=f"its colors are {name}"):
        media.read_image(avif(9, transfer))
    with pytest.raises(MediaError, match="primaries 200 and transfer 13"):
        media.read_image(png((b"cICP", bytes([200, 13, 0, 1]))))


def test_narrow_range_is_refused_by_name() -> None:
    with pytest.raises(MediaError, match="its levels are of narrow range"):
        media.read_image(png((b"cICP", bytes([1, 13, 0, 0]))))


def avif(primaries: int, transfer: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(FLAT).save(buffer, "AVIF", quality=100, subsampling="4:4:4")
    data = bytearray(buffer.getvalue())
    at = data.index(b"colrnclx") + 8
    data[at : at + 4] = struct.pack(">HH", primaries, transfer)
    return bytes(data)


def test_the_colors_of_avif_are_converted() -> None:
    assert np.abs(np.array(first(avif(1, 13))) - [180, 90, 60]).max() <= 2
    assert np.abs(np.array(first(avif(2, 2))) - [180, 90, 60]).max() <= 2
    linear = [encoded(v / 255) for v in (180, 90, 60)]
    assert np.abs(np.array(first(avif(1, 8))) - linear).max() <= 3
    wide = np.array(first(avif(12, 13)))
    assert wide[0] > 188 and wide[2] < 56  # Display P3 is more colorful than sRGB


def test_white_stays_white_and_out_of_range_is_clipped() -> None:
    for primaries in (4, 5, 6, 9, 11, 12, 22):
        space = color.from_code_points(primaries, 13)
        white = np.full((2, 2, 3), 255, np.uint8)
        assert color.to_srgb(white, space).min() >= 254
        green = np.zeros((2, 2, 3), np.uint8)
        green[:, :, 1] = 255
        assert color.to_srgb(green, space)[0, 0, 1] >= 240
    assert np.array_equal(color.to_srgb(FLAT, color.Space(color.SRGB_PRIMARIES)), FLAT)


def test_a_gray_ramp_keeps_its_order_in_every_space() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None, :, None]
    for exponent in (None, 1.0, 1.8, 2.8):
        moved = color.to_srgb(ramp, color.Space(color.ADOBE_RGB.primaries, exponent)).astype(int)
        assert moved[0, 0, 0] == 0 and moved[0, 255, 0] == 255
        assert (np.diff(moved[0, :, 0]) >= 0).all()


BROKEN = b"not a profile " * 20


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_broken_profile_is_refused_in_every_format(suffix: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(FLAT).save(buffer, suffix, icc_profile=BROKEN)
    with pytest.raises(MediaError, match="its ICC profile"):
        media.read_image(buffer.getvalue())


def test_a_profile_that_cannot_be_taken_out_is_refused() -> None:
    for body in (b"name\0\0damaged", b"name\0\0", b"", b"name\0\0" + zlib.compress(BROKEN)[:-9]):
        with pytest.raises(MediaError, match="its ICC profile is broken"):
            media.read_image(png((b"iCCP", body)))
    buffer = io.BytesIO()
    Image.fromarray(FLAT).save(buffer, "JPEG")
    data = buffer.getvalue()
    empty = b"\xff\xe2\0\x10ICC_PROFILE\0\1\1"
    with pytest.raises(MediaError, match="its ICC profile is broken"):
        media.read_image(data[:2] + empty + data[2:])


def test_a_code_point_comes_before_a_profile() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    packed = (b"iCCP", b"name\0\0" + zlib.compress(profile))
    assert first(png(packed, gamma(100_000))) == [180, 90, 60]
    with pytest.raises(MediaError, match="its colors are PQ"):
        media.read_image(png((b"cICP", b"\x09\x10\0\1"), packed))
