"""A part of a picture is what the whole shows there, and costs only the tiles that it needs."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeae
from edgeae.coding.container import varint
from edgeae.errors import BitstreamError
from edgeae.image import header
from edgeae.image.codec import ImageCodec
from edgeae.image.header import Limits

HEIGHT, WIDTH = 70, 90  # 5 x 6 tiles of 16 pixels


@pytest.fixture(scope="module")
def files(model):
    """{channels: (file, the whole picture)}"""
    blobs = {c: model.compress(tiny.picture(HEIGHT, WIDTH, c, noise=20)) for c in (0, 1, 3, 4)}
    return {channels: (blob, model.decompress(blob)) for channels, blob in blobs.items()}


@st.composite
def regions(draw):
    top, left = draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 1))
    return top, left, draw(st.integers(1, HEIGHT - top)), draw(st.integers(1, WIDTH - left))


def crop(image, region):
    top, left, height, width = region
    return image[top : top + height, left : left + width]


@settings(max_examples=30, deadline=None)
@given(region=regions(), channels=st.sampled_from([0, 1, 3, 4]))
def test_a_region_is_the_crop_of_the_whole(model, files, region, channels):
    blob, whole = files[channels]
    part = model.decompress(blob, region=region)
    assert part.dtype == np.uint8 and np.array_equal(part, crop(whole, region))


@settings(max_examples=12, deadline=None)
@given(region=regions(), lost=st.sets(st.integers(0, 29)))
def test_a_concealed_region_is_the_crop_of_the_concealed_whole(model, files, region, lost):
    head, *chunks = tiny.eae_chunks(files[3][0])
    kept = [(k, body) for k, body in chunks if k != b"TILE" or body[0] not in lost]
    damaged = tiny.eae_file([head, *kept])
    image, mask = model.decompress(damaged, errors="conceal")
    part, part_mask = model.decompress(damaged, errors="conceal", region=region)
    assert np.array_equal(part, crop(image, region))
    assert np.array_equal(part_mask, crop(mask, region))


def test_a_region_costs_the_tiles_that_it_sees_and_no_others(codec_path, files):
    model = ImageCodec.load(codec_path)
    decoded = []
    decode = model._decode_block

    def counted(block, *arguments):
        decoded.append(block is not None)
        return decode(block, *arguments)

    model._decode_block = counted
    for region, count in (
        ((20, 20, 4, 4), 1),  # the decoder looks one latent, 4 pixels, around a tile of 16 ...
        ((0, 0, HEIGHT, WIDTH), 30),
    ):
        decoded.clear()
        model.decompress(files[3][0], region=region)
        # ... and works on whole tiles, so a tile and all around it are needed.
        assert sum(decoded) == (9 if count == 1 else count)
    decoded.clear()
    model.decompress(files[3][0], region=(0, 0, 1, 1))
    assert sum(decoded) == 4


@pytest.mark.parametrize(
    "region",
    [(0, 0, HEIGHT + 1, 1), (0, 1, 1, WIDTH), (-1, 0, 1, 1), (0, 0, 0, 1), (0, 0, 1, 0)],
)
def test_a_region_beyond_the_picture_is_refused(model, files, region):
    with pytest.raises(ValueError, match="inside an image of 70 rows and 90 columns"):
        model.decompress(files[3][0], region=region)


@pytest.mark.parametrize("region", [(0, 0, 1), 5, "0000", (0, 0, 1, 1.5), (0, 0, 1, None)])
def test_a_region_that_is_no_four_numbers_is_refused(model, files, region):
    with pytest.raises(TypeError, match=r"expected \(top, left, height, width\)"):
        model.decompress(files[3][0], region=region)


def test_a_damaged_file_is_refused_wherever_the_damage_is(model, files):
    damaged = bytearray(files[3][0])
    damaged[-40] ^= 1
    with pytest.raises(BitstreamError, match="checksum"):
        model.decompress(bytes(damaged), region=(0, 0, 4, 4))


# --- more pixels than a file's bytes can stand for


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A codec whose tiles are as large as they can be, and a file of 2 ** 27 + 32768 pixels."""
    path = tiny.tiny_codec_bundle(tmp_path_factory.mktemp("codec") / "large", tile=1024)
    model = ImageCodec.load(path)
    head = tiny.eae_head(model._id, height=4097, width=32768)
    tiles = [(b"TILE", varint(i)) for i in range(16)]
    return model, tiny.eae_file([head, *tiles, (b"DONE", b"")])


def test_a_short_file_cannot_claim_a_huge_picture(large):
    model, blob = large
    for options in ({}, {"errors": "conceal"}):
        with pytest.raises(BitstreamError, match=f"{2**27 + 32768} pixels in {len(blob)} bytes"):
            model.decompress(blob, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"limits": Limits(pixels_per_byte=1 << 28)},
        {"region": (0, 0, 4096, 32768)},
        {"region": (5, 5, 5, 5)},
    ],
)
def test_who_asks_for_a_region_or_raises_the_limit_is_let_in(large, options):
    model, blob = large
    with pytest.raises(BitstreamError, match="coded block is empty"):
        model.decompress(blob, **options)


def test_a_longer_file_may_hold_it(large):
    model, blob = large
    *chunks, done = tiny.eae_chunks(blob)
    noted = tiny.eae_file([*chunks, (b"noTE", bytes(2**22 + 1024)), done])
    with pytest.raises(BitstreamError, match="coded block is empty"):
        model.decompress(noted)


def test_the_limit_counts_the_bytes_of_the_file():
    assert edgeae.Limits().pixels_per_byte * 2**22 == 2**27


def test_what_the_writer_makes_its_reader_takes_at_the_defaults(monkeypatch):
    model = ImageCodec.load("photo-codec")
    # Half as many pixels as the image has go without a question, so that its bytes decide.
    monkeypatch.setattr(header, "USUAL_PIXELS", 6_000)
    image = tiny.picture(100, 120, noise=20)
    made = refused = 0
    for quality in (1, 5, 9):
        for picture in (image, np.full_like(image, 128)):
            try:
                blob = model.compress(picture, quality=quality)
            except ValueError as error:
                assert "choose a higher quality, or set limits=Limits(" in str(error)
                refused += 1
            else:
                assert model.decompress(blob).shape == picture.shape
                assert model.unpack(blob).height == 100
                made += 1
    assert made >= 2 and refused >= 2


def test_what_a_writer_without_limits_makes_is_refused_by_the_name_of_the_option(monkeypatch):
    model = ImageCodec.load("photo-codec")
    monkeypatch.setattr(header, "USUAL_PIXELS", 6_000)
    wide = Limits(pixels_per_byte=1 << 20)
    blob = model.compress(np.full((100, 120), 128, np.uint8), limits=wide)
    for options in ({}, {"errors": "conceal"}):
        with pytest.raises(BitstreamError, match=r"take a region, or set limits=Limits\("):
            model.decompress(blob, **options)
    assert model.decompress(blob, region=(0, 0, 60, 100)).shape == (60, 100)
    assert model.decompress(blob, limits=wide).shape == (100, 120)


def test_what_is_written_is_read_at_the_default_limits(tmp_path):
    # 50 million pixels of which a file of some hundred bytes holds all.
    path = tiny.tiny_codec_bundle(tmp_path / "coarse", tile=1024)
    model = ImageCodec.load(path)
    image = np.full((100, 120), 128, np.uint8)
    blob = model.compress(image)
    header.check_proportion(50_000_000, len(blob), None)
    with pytest.raises(BitstreamError, match="take a region"):
        header.check_proportion(header.USUAL_PIXELS + 1, len(blob), None)


def test_a_file_that_its_readers_would_refuse_is_not_made(model, monkeypatch):
    image = np.full((100, 120), 128, np.uint8)
    monkeypatch.setattr(header, "USUAL_PIXELS", 9_999)
    with pytest.raises(ValueError, match="no reader would take the file: the file holds 12000"):
        model.compress(image, limits=Limits(pixels_per_byte=1))
    model.compress(image, limits=Limits(pixels_per_byte=12_000))
