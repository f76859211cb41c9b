"""EXIF and XMP: what can be read is applied and carried, what is broken fails nothing."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from made import photo
from PIL import Image, PngImagePlugin

from edgeae import media
from edgeae.media.exif import Metadata, orientation

UPRIGHT = photo(24, 32)
TURNED = np.rot90(UPRIGHT, -1)  # as orientation 6 shows it


def exif(
    *fields: tuple[int, int, int, bytes], order: str = "<", after: bytes = b"\0\0\0\0"
) -> bytes:
    """A TIFF header and a directory of (tag, type, count, value of 4 bytes)."""
    mark = b"II" if order == "<" else b"MM"
    rows = b"".join(struct.pack(order + "HHI", *f[:3]) + f[3].ljust(4, b"\0") for f in fields)
    return mark + struct.pack(order + "HIH", 42, 8, len(fields)) + rows + after


def turn(kind: int = 3, count: int = 1, value: bytes = b"\6") -> tuple[int, int, int, bytes]:
    return (0x112, kind, count, value)


SIX = exif(turn())
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>"""

# What lies in the file, and whether an orientation can be read from it.
CASES: dict[str, tuple[bytes, bool]] = {
    "good": (SIX, True),
    "big endian": (exif(turn(value=b"\0\6"), order=">"), True),
    "marked": (b"Exif\0\0" + SIX, True),
    "marked twice": (b"Exif\0\0Exif\0\0" + SIX, True),
    "empty": (b"", False),
    "two bytes": (b"II", False),
    "garbage": (b"\xde\xad\xbe\xef" * 9, False),
    "no entries": (exif(), False),
    "two values": (exif(turn(count=2, value=b"\6\0\1\0")), True),
    "zero over zero": (exif(turn(5, 1, b"\x08\0\0\0")), False),
    "directory beyond the end": (SIX[:4] + b"\xff\xff\0\0" + SIX[8:], False),
    "cut after the first entry": (exif(turn(), turn())[:26], True),
    "text": (exif(turn(2, 2, b"6\0")), True),
    "letters": (exif(turn(2, 2, b"x\0")), False),
    "nine": (exif(turn(value=b"\x09")), False),
    "zero": (exif(turn(value=b"\0")), False),
    "long": (exif(turn(4)), True),
    "byte": (exif(turn(1)), True),
    "directory that is text": (exif(turn(), (0x8769, 2, 4, b"abc")), True),
    "directory beyond": (exif(turn(), (0x8769, 4, 1, b"\xff\xff\xff\x7f")), True),
    "directory in itself": (exif(turn(), (0x8769, 4, 1, b"\x08")), True),
    "maker as a number": (exif((0x10F, 4, 1, b"\x01"), turn()), True),
    "no such type": (exif((0x10F, 99, 9, b"\x01"), turn()), True),
    "next directory beyond": (exif(turn(), after=b"\xff\xff\xff\x7f"), True),
    "values beyond": (exif((0x10F, 2, 4_000_000_000, b"\xff\xff"), turn()), True),
}


def jpeg(*segments: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(UPRIGHT).save(buffer, "JPEG", quality=100, subsampling=0)
    data = buffer.getvalue()
    packed = b"".join(b"\xff\xe1" + struct.pack(">H", len(s) + 2) + s for s in segments)
    return data[:2] + packed + data[2:]


def png(*chunks: tuple[bytes, bytes], last: bool = False) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(UPRIGHT).save(buffer, "PNG")
    data = buffer.getvalue()
    packed = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    at = len(data) - 12 if last else 33
    return data[:at] + packed + data[at:]


def webp(exif: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(UPRIGHT).save(buffer, "WEBP", lossless=True, exif=SIX)
    data = buffer.getvalue()
    at = data.index(b"EXIF")
    data = data[:at] + b"EXIF" + struct.pack("<I", len(exif)) + exif + b"\0" * (len(exif) % 2)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def quietly(data: bytes, capfd: pytest.CaptureFixture[str]) -> np.ndarray:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        back = media.read_image(data)
    assert caught == [] and capfd.readouterr() == ("", "")
    return back


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["jpeg", "png", "png text", "webp"])
def test_broken_exif_fails_nothing_and_warns_of_nothing(
    case: str, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    body, readable = CASES[case]
    text = b"\nexif\n%8d\n%s\n" % (len(body), body.hex().encode())
    data = {
        "jpeg": lambda: jpeg(b"Exif\0\0" + body),
        "png": lambda: png((b"eXIf", body), last=True),
        "png text": lambda: png((b"tEXt", b"Raw profile type exif\0" + text)),
        "webp": lambda: webp(body),
    }[kind]()
    back = quietly(data, capfd)
    expected = TURNED if readable else UPRIGHT
    assert back.shape == expected.shape and np.abs(back.astype(int) - expected).max() <= 6


def test_other_broken_metadata_fails_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    multi_picture = jpeg().replace(
        b"\xff\xdb", b"\xff\xe2\0\x10MPF\0II*\0\x08\0\0\0\0\0\xff\xdb", 1
    )
    for data in (
        jpeg(b'http://ns.adobe.com/xap/1.0/\0<broken tiff:Orientation="x"'),
        png((b"tEXt", b"Raw profile type exif\0\nexif\n 9\nnot hex\n")),
        png((b"tEXt", b"Raw profile type APP1\0\n")),
        png((b"zTXt", b"Raw profile type exif\0\0broken")),
        png((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0broken")),
        png((b"pHYs", b"1"), (b"tIME", b"")),
        multi_picture,
    ):
        assert np.abs(quietly(data, capfd).astype(int) - UPRIGHT).max() <= 6


def test_broken_exif_in_avif_fails_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(UPRIGHT).save(buffer, "AVIF", quality=100, exif=exif((0x10F, 2, 2, b"a")))
    data = buffer.getvalue()
    at = data.rindex(b"II*\0")
    broken = data[:at] + b"????" + data[at + 4 :]
    assert np.abs(quietly(broken, capfd).astype(int) - UPRIGHT).mean() < 3


def test_xmp_turns_where_exif_says_nothing() -> None:
    assert orientation(Metadata(None, XMP)) == 6
    assert orientation(Metadata(exif(turn(value=b"\3")), XMP)) == 3
    assert orientation(Metadata(CASES["garbage"][0], XMP)) == 6
    element = b"<tiff:Orientation>8</tiff:Orientation>"
    assert orientation(Metadata(None, element)) == 8
    assert orientation(Metadata(None, XMP.replace(b"6", b"66"))) == 1


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_metadata_are_carried_and_do_not_turn_the_pixels_twice(tmp_path: Path, suffix: str) -> None:
    source = exif((0x10F, 2, 4, b"Abc\0"), turn())
    found = media.read_image_metadata(
        jpeg(b"Exif\0\0" + source, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    )
    assert found.exif is not None and found.xmp is not None
    assert len(found.exif) == len(source) and orientation(found) == 1
    notes = media.write_image(tmp_path / f"a{suffix}", TURNED, exif=found.exif, xmp=found.xmp)
    assert notes == ()
    back = media.read_image(tmp_path / f"a{suffix}")
    assert back.shape == TURNED.shape
    with Image.open(tmp_path / f"a{suffix}") as picture:
        assert picture.getexif()[0x10F] == "Abc"
        picture.load()
        assert b'tiff:Orientation="1"' in media.read_image_metadata(tmp_path / f"a{suffix}").xmp
    again = media.read_image_metadata(tmp_path / f"a{suffix}")
    assert orientation(again) == 1 and again.exif is not None and b"Abc" in again.exif


@pytest.mark.parametrize("suffix", [".bmp", ".ppm"])
def test_metadata_that_have_no_room_are_told_once(tmp_path: Path, suffix: str) -> None:
    notes = media.write_image(tmp_path / f"a{suffix}", UPRIGHT, exif=SIX, xmp=XMP)
    assert [note.split(" is left out")[0] for note in notes] == ["EXIF", "XMP"]
    assert np.array_equal(media.read_image(tmp_path / f"a{suffix}"), UPRIGHT)


def test_metadata_too_long_for_a_format_are_left_out_and_told(tmp_path: Path) -> None:
    long = SIX + bytes(70_000)
    (note,) = media.write_image(tmp_path / "a.jpg", UPRIGHT, exif=long, xmp=XMP)
    assert note.startswith("EXIF is left out: JPEG does not take it")
    assert media.read_image_metadata(tmp_path / "a.jpg").xmp == XMP.replace(b"6", b"1")


def test_metadata_survive_with_nothing_readable_in_them() -> None:
    for body, _ in CASES.values():
        found = media.read_image_metadata(jpeg(b"Exif\0\0" + body))
        assert orientation(found) == 1
    assert media.read_image_metadata(png()) == Metadata(None, None)


@pytest.mark.parametrize(
    ("suffix", "color", "bits"),
    [("png", 0, 16), ("png", 2, 16), ("png", 6, 16), ("png", 2, 8), ("tif", 0, 16), ("pgm", 0, 16)],
)
def test_bits_of_a_sample_are_told(suffix: str, color: int, bits: int) -> None:
    if suffix == "png":
        data = png_of(color, bits)
    elif suffix == "pgm":
        data = b"P5 2 2 65535\n" + bytes(8)
    else:
        buffer = io.BytesIO()
        Image.fromarray(np.zeros((2, 2), np.uint16)).save(buffer, "TIFF")
        data = buffer.getvalue()
    assert media.read_image_metadata(data).bits == bits
    assert media.read_image(data).dtype == np.uint8


def png_of(color: int, bits: int) -> bytes:
    """A PNG of 2 x 2 pixels of a color type."""
    row = b"\0" + bytes(2 * {0: 1, 2: 3, 6: 4}[color] * bits // 8)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 2, 2, bits, color, 0, 0, 0)),
        (b"IDAT", zlib.compress(2 * row)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def test_png_text_of_other_kinds_is_not_taken_for_metadata() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", 'tiff:Orientation="6"')
    buffer = io.BytesIO()
    Image.fromarray(UPRIGHT).save(buffer, "PNG", pnginfo=info)
    assert np.array_equal(media.read_image(buffer.getvalue()), UPRIGHT)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_images_are_read_from_and_written_to_bytes_and_file_objects(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    media.write_image(path, UPRIGHT)
    whole, data = media.read_image(path), path.read_bytes()
    with open(path, "rb") as file:
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), file):
            assert np.array_equal(media.read_image(source), whole)
    buffer = io.BytesIO()
    media.write_image(buffer, UPRIGHT, format=suffix)
    assert buffer.getvalue() == data
    with pytest.raises(ValueError, match="format is None, expected a suffix"):
        media.write_image(io.BytesIO(), UPRIGHT)
