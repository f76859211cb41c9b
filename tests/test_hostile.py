"""What a hostile megabyte costs before it is refused: little time, little memory."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import tiny

from edgeae.bitstream import varint
from edgeae.codec import Codec
from edgeae.errors import BitstreamError

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    # Tiles as large as those of the models that ship, 64 x 64 latents.
    return Codec.load(tiny.tiny_codec_bundle(tmp_path_factory.mktemp("codec") / "tiny", tile=64))


def tiles(count, block):
    return [(b"TILE", varint(i) + block) for i in range(count)]


def hostile(codec_id):
    noise = np.random.default_rng(0).bytes(MEGABYTE)
    one = tiny.eae_head(codec_id, height=256, width=256, level=64)
    most = tiny.eae_head(codec_id, height=16_384, width=16_384)
    see_through = tiny.eae_head(codec_id, height=16_384, width=16_384, channels=4)
    done = (b"DONE", b"")
    small = b"\x89e" + codec_id[:4] + bytes([2]) + varint(256) * 2 + bytes(20)
    return {
        "noise": noise,
        "noise after the magic": tiny.EAE_MAGIC + noise,
        "chunks to skip": tiny.eae_file([one, *[(b"noTE", b"")] * (MEGABYTE // 12), done]),
        "tiles of nothing": tiny.eae_file([most, *tiles(MEGABYTE // 16, b""), done]),
        "a tile of noise": tiny.eae_file([one, *tiles(1, b"\x09" + noise), done]),
        "one lane for all": tiny.eae_file([one, *tiles(1, bytes(MEGABYTE)), done]),
        "few bytes, one lane": small + struct.pack("<I", zlib.crc32(small)),
        "a plane that unpacks to much": tiny.eae_file(
            [see_through, (b"ALPH", b"\0" + zlib.compress(bytes(1 << 27))), *tiles(4096, b""), done]
        ),
        "chunks that hold all others": b"".join(
            struct.pack("<I4s", MEGABYTE - at - 12, b"TILE") for at in range(0, MEGABYTE - 12, 8)
        ),
        "a header and nothing else": tiny.eae_file([most]),
    }


@pytest.mark.parametrize("errors", ["strict", "conceal"])
@pytest.mark.parametrize("name", hostile(bytes(16)))
def test_a_hostile_megabyte_is_refused_within_seconds_and_64_megabytes(model, name, errors):
    data = hostile(model._id)[name]
    began = time.process_time()
    ends(model, data, errors)
    seconds = time.process_time() - began
    tracemalloc.start()
    ends(model, data, errors)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 5 and peak < 64 << 20


def ends(model, data, errors):
    try:
        model.decompress(data, errors=errors)
    except BitstreamError as error:
        assert "\n" not in str(error)
    else:  # junk between sound chunks may be concealed
        assert errors == "conceal"
