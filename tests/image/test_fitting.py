"""The tiles of packets are the largest that fit, and that is found out with little work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny

from edgeae.image import fitting
from edgeae.image.header import Header
from edgeae.image.packets import PacketHeader, overhead_bytes, write_packets

IMAGE = tiny.picture(150, 210, noise=20)
QUALITY_LEVEL = 20


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    """A codec whose tiles may be of 32 latents, 128 pixels."""
    from edgeae.image.codec import ImageCodec

    return ImageCodec.load(tiny.tiny_codec_bundle(tmp_path_factory.mktemp("large"), tile=32))


@pytest.fixture(scope="module")
def latents(codec):
    whole = np.empty((9, *codec._synthesis.grid(*IMAGE.shape[:2])), np.float32)
    for tile, part in codec._encoders.fast(IMAGE):
        whole[:, tile.rows, tile.columns] = part
    return whole


def all_sizes(codec, latents, header, size):
    """The packets by trying every size of tiles, from the largest on, tile by tile."""
    for side_log2 in range(header.side_log2, -1, -1):
        made = replace(header, side_log2=side_log2)
        room = size - overhead_bytes(made, made.tiles(4))
        layout = codec._synthesis.layout(*IMAGE.shape[:2], 1 << side_log2)
        parts = [latents[:, tile.rows, tile.columns] for tile in layout]
        blocks = [codec._blocks.encode(part, QUALITY_LEVEL) for part in parts]
        if max(map(len, blocks)) <= room:
            return write_packets(made, blocks, size)
    raise AssertionError("no size fits")


def packets(codec, latents, header, size):
    return fitting.fitting_packets(
        codec._blocks,
        codec._synthesis,
        latents,
        header,
        max_packet_bytes=size,
        max_tiles=4096,
    )


@pytest.fixture
def header(codec):
    return PacketHeader(Header(codec._id, QUALITY_LEVEL, *IMAGE.shape[:2], 3), 0, 5)


@pytest.mark.parametrize("size", [30, 60, 120, 300, 900, 2500, 20_000])
def test_packets_are_of_the_largest_tiles_that_fit(codec, latents, header, size):
    assert packets(codec, latents, header, size) == all_sizes(codec, latents, header, size)


@pytest.mark.parametrize("largest", [0, 2, 3])
def test_a_codec_of_small_tiles_has_no_larger_ones_in_packets(codec, latents, header, largest):
    small = replace(header, side_log2=largest)
    found = packets(codec, latents, small, 20_000)
    assert found == all_sizes(codec, latents, small, 20_000)
    assert found[0][0] & 15 == largest


def test_tiles_are_coded_once_and_sizes_that_do_not_fit_are_given_up_early(
    codec, latents, header, monkeypatch
):
    alone, together = [], []
    coder = codec._blocks
    encode, encode_many = coder.encode, coder.encode_many

    def one(part, level):
        alone.append(part.shape[1])
        return encode(part, level)

    def many(parts, level):
        together.append(len(parts))
        return encode_many(parts, level)

    monkeypatch.setattr(coder, "encode", one)
    monkeypatch.setattr(coder, "encode_many", many)
    packets(codec, latents, header, 60)
    side_log2 = packets(codec, latents, header, 60)[0][0] & 15
    assert len(together) == 2 and side_log2 < 3
    # Of each size from 8 latents down to the one that fits, one tile; each twice.
    assert alone == [8 >> i for i in range(4 - side_log2)] * 2
