"""Images that are kept exactly: what the network cannot code well."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

import edgeae
from edgeae.errors import BitstreamError
from edgeae.image import exact, file
from edgeae.image.codec import ImageCodec
from edgeae.image.header import Limits, Metadata
from edgeae.metrics import psnr_db

GOLDEN = Path(__file__).parent.parent / "golden" / "exact"
CHANNELS = (0, 1, 3, 4)


@pytest.fixture(scope="module")
def model(codec_path):
    return ImageCodec.load(codec_path)


def page(height=120, width=300):
    """A page of text, uint8 (H, W, 3)."""
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for top in range(4, height - 10, 14):
        draw.text((6, top), f"{top} quick brown foxes jump over a dog", fill=(20, 20, 60))
    return np.asarray(picture)


def checker(height=64, width=96):
    rows, columns = np.mgrid[:height, :width]
    return np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[..., None], 3, 2)


def png_bytes(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return len(buffer.getvalue())


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from(CHANNELS),
    colors=st.sampled_from([1, 2, 3, 4, 5, 16, 17, 256, 257, 2000]),
    seed=st.integers(0, 999),
)
def test_every_image_comes_back_exactly(height, width, channels, colors, seed):
    rng = np.random.default_rng(seed)
    shape = (height, width, channels) if channels else (height, width)
    palette = rng.integers(0, 256, (colors, *shape[2:]), np.uint8)
    image = palette[rng.integers(0, colors, shape[:2])]
    found = exact.read(exact.write(image))
    assert found.image.shape == shape and np.array_equal(found.image, image)
    assert found.image.flags["C_CONTIGUOUS"] and found.metadata == Metadata()


def test_bands_of_rows_are_filtered_as_one_image_is(monkeypatch):
    image = tiny.picture(50, 70, 3, noise=3)
    whole = exact.write(image)
    monkeypatch.setattr(exact, "_BAND_BYTES", 1000)
    assert exact.write(image) == whole


def test_metadata_is_kept_byte_for_byte():
    metadata = Metadata(b"II*\0 made up", b"<x:xmpmeta/>" * 50)
    blob = exact.write(page(), metadata)
    assert exact.read(blob).metadata == metadata == file.read_metadata(blob)
    assert exact.read(exact.write(page(), Metadata(None, b""))).metadata == Metadata(None, b"")


@pytest.mark.parametrize("image", [page(), checker(), page()[..., :1], np.zeros((9, 9), np.uint8)])
@pytest.mark.parametrize("quality", [1, 5, 9])
def test_plain_images_are_never_larger_than_png_nor_bad_at_the_finest_quality(
    model, image, quality
):
    blob = model.compress(image, quality=quality)
    assert len(blob) <= png_bytes(image.squeeze())
    restored = edgeae.decompress(blob) if blob[:2] == exact.MAGIC else model.decompress(blob)
    assert restored.shape == image.shape
    assert quality < 9 or psnr_db(image, restored) >= 35


def test_a_photograph_is_left_to_the_network(model):
    smooth = tiny.picture(60, 80, 3, noise=4)
    assert not exact.looks_plain(smooth)
    assert (
        model.compress(smooth)[:2] == file.SMALL_MAGIC or model.compress(smooth)[:4] == b"\x89EAE"
    )


def test_what_the_codec_cannot_do_is_kept_though_it_is_larger(model):
    # Noise takes more bytes exactly, but the network leaves less than 35 dB of it.
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    lossy = model.compress(noise, quality=9, lossless=False)
    assert psnr_db(noise, model.decompress(lossy)) < 35
    kept = model.compress(noise, quality=9)
    assert len(kept) > len(lossy) and np.array_equal(model.decompress(kept), noise)
    # The least PSNR of a quality falls with it.
    assert model.compress(noise, quality=1)[:2] != exact.MAGIC


def test_the_caller_decides_where_asked(model):
    smooth, text = tiny.picture(60, 80, 3, noise=4), page()
    assert np.array_equal(model.decompress(model.compress(smooth, lossless=True)), smooth)
    assert model.compress(text, lossless=False)[:2] != exact.MAGIC
    kept = model.compress(text, lossless=True)
    assert model.compress(text, lossless=True, max_bytes=len(kept)) == kept
    assert model.compress(text, max_bytes=len(kept)) == kept
    with pytest.raises(ValueError, match=f"exact image takes {len(kept)} bytes, max_bytes is 40"):
        model.compress(text, lossless=True, max_bytes=40)
    with pytest.raises(ValueError, match="give quality or lossless, not both"):
        model.compress(text, lossless=True, quality=3)


def test_no_codec_is_needed_to_read_one(monkeypatch):
    monkeypatch.setattr(edgeae.loading, "_bundled_codec", None)
    image = page()
    blob = exact.write(image)
    assert np.array_equal(edgeae.decompress(blob), image)
    assert np.array_equal(edgeae.decompress(blob, region=(5, 7, 20, 30)), image[5:25, 7:37])
    restored, mask = edgeae.decompress(blob, errors="conceal")
    assert np.array_equal(restored, image) and mask.shape == image.shape[:2] and not mask.any()
    told = edgeae.info(blob)
    assert told["lossless"] and (told["width"], told["height"]) == (300, 120)
    assert told["codec"] is told["codec_id"] is told["quality"] is None


def test_it_holds_no_latent(model):
    with pytest.raises(BitstreamError, match="keeps its image exactly"):
        model.unpack(exact.write(page()))


def test_every_truncation_and_every_flipped_bit_is_refused():
    blob = exact.write(page(20, 30), Metadata(b"II*\0", None))
    for length in range(len(blob)):
        with pytest.raises(BitstreamError):
            edgeae.decompress(blob[:length])
    for position in range(len(blob)):
        for bit in range(8):
            damaged = bytearray(blob)
            damaged[position] ^= 1 << bit
            with pytest.raises(BitstreamError):
                edgeae.decompress(bytes(damaged))


def signed(body):
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x89x\x20\1\1" + zlib.compress(b"\0\0"), "makes no sense"),
        (b"\x89x\2\0\1" + zlib.compress(b"\0"), "makes no sense"),
        (b"\x89x\0\1\1" + zlib.compress(b"\0\0\0"), "another size"),
        (b"\x89x\0\1\2" + zlib.compress(b"\0\0"), "another size"),
        (b"\x89x\0\1\1" + zlib.compress(b"\0\0") + b"!", "another size"),
        (b"\x89x\0\1\1" + zlib.compress(b"\5\0"), "filtered in a way"),
        (b"\x89x\0\1\1" + b"nonsense", "rows of the file are damaged"),
        (b"\x89x\4\1\1\0\7" + zlib.compress(b"\0\x80"), "palette does not hold"),
        (b"\x89x\6\1\1\7\1\2\3", "cut off"),
        (b"\x89x\x08\1\1\x7fII", "cut off"),
        (b"\x89x\2\xff\xff\x7f\xff\xff\x7f", "pixels"),
    ],
)
def test_nonsense_with_a_right_checksum_is_refused(body, message):
    with pytest.raises(BitstreamError, match=message):
        edgeae.decompress(signed(body))


def test_a_bomb_is_refused_before_there_is_room_for_it():
    blob = exact.write(np.zeros((300, 300), np.uint8))
    assert len(blob) < 200
    with pytest.raises(BitstreamError, match="expected at most"):
        edgeae.decompress(blob, limits=Limits(pixels=10_000))
    # A stream that unfolds to a gigabyte is cut at the size of the image.
    packer = zlib.compressobj(9)
    rows = packer.compress(bytes(1 << 26)) + packer.flush()
    with pytest.raises(BitstreamError, match="another size"):
        edgeae.decompress(signed(b"\x89x\0\1\1" + rows))


def read_by_the_page(data):
    """The image of an exact file, by docs/FORMAT.md alone, one value at a time."""

    def number(at):
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 128:
                return value, at

    assert data[:2] == b"\x89x"
    channels = (0, 1, 3, 4)[data[2] & 3]
    height, at = number(3)
    width, at = number(at)
    for flag in (8, 16):
        if data[2] & flag:
            length, at = number(at)
            at += length
    each, bits, colors = max(1, channels), 8 * max(1, channels), None
    if data[2] & 4:
        count, at = data[at] + 1, at + 1
        colors = [data[at + i * each : at + (i + 1) * each] for i in range(count)]
        at += count * each
        bits = next(b for b in (1, 2, 4, 8) if count <= 2**b)
    step, length = max(1, bits // 8), -(-width * bits // 8)
    rows = zlib.decompress(data[at:-4])
    above, out = bytes(length), []
    for top in range(height):
        kind, row = rows[top * (length + 1)], bytearray(rows[top * (length + 1) + 1 :][:length])
        for i in range(length):
            a = row[i - step] if i >= step else 0
            c = above[i - step] if i >= step else 0
            b = above[i]
            nearest = min((a, b, c), key=lambda v, p=a + b - c: abs(p - v))
            row[i] = row[i] + (0, a, b, (a + b) // 2, nearest)[kind] & 255
        above = bytes(row)
        if colors is None:
            out.append(row)
            continue
        text = "".join(f"{value:08b}" for value in row)
        indexes = [int(text[i * bits : (i + 1) * bits], 2) for i in range(width)]
        out.append(b"".join(colors[i] for i in indexes))
    shape = (height, width, channels) if channels else (height, width)
    return np.frombuffer(b"".join(out), np.uint8).reshape(shape)


GOLDEN_FILES = json.loads((GOLDEN / "images.json").read_text())


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_a_golden_file_has_its_pixels_by_the_package_and_by_the_page_alone(name):
    data = (GOLDEN / name).read_bytes()
    for image in (edgeae.decompress(data), read_by_the_page(data)):
        assert list(image.shape) == GOLDEN_FILES[name]["shape"]
        assert hashlib.sha256(image.tobytes()).hexdigest() == GOLDEN_FILES[name]["sha256"]


def test_every_kind_of_it_has_a_golden_file():
    assert {path.name for path in GOLDEN.glob("*.eae")} == set(GOLDEN_FILES)
    flags = {(GOLDEN / name).read_bytes()[2] for name in GOLDEN_FILES}
    assert {flag & 3 for flag in flags} == {0, 1, 2, 3}
    assert {flag & 4 for flag in flags} == {0, 4} and {flag & 24 for flag in flags} == {0, 24}
