"""What hostile bytes cost before they are refused: little time, little memory.

`python -m tests.soak.volumes bombs megabytes` measures the same inputs with the models that ship.
"""

from __future__ import annotations

import time
import tracemalloc

import hostile
import pytest
import tiny

from edgeae.errors import EdgeaeError
from edgeae.image.codec import ImageCodec


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    # Tiles as large as those of the models that ship, 64 x 64 latents.
    return ImageCodec.load(
        tiny.tiny_codec_bundle(tmp_path_factory.mktemp("codec") / "tiny", tile=64)
    )


def outcome(read):
    """What a read raised, in one line, or "data"; anything but an EdgeaeError goes on its way."""
    try:
        read()
    except EdgeaeError as error:
        assert "\n" not in str(error)
        return type(error).__name__
    return "data"


def cost(read):
    """What a read came to, the processor's seconds while memory is traced, and the bytes it held at
    its peak."""
    tracemalloc.start()
    began = time.process_time()
    try:
        end = outcome(read)
        return end, time.process_time() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_every_header_that_claims_much_is_refused_in_less_than_a_megabyte(large):
    bombs = hostile.bombs(large)
    assert len(bombs) >= 50
    for name, read in bombs.items():
        end, seconds, peak_bytes = cost(read)
        assert end != "data", name
        # A hundred times what it takes.
        assert seconds < 1, name
        assert peak_bytes < 1 << 20, name


def test_every_hostile_megabyte_ends_within_seconds_and_256_megabytes(large, tmp_path):
    ends = {}
    for name, read in hostile.megabytes(large, tmp_path).items():
        ends[name], seconds, peak_bytes = cost(read)
        assert seconds < 10, name
        assert peak_bytes < 256 << 20, name
    # What is not refused is what concealment makes of it, or a picture that is as it says.
    data = {name for name, end in ends.items() if end == "data"}
    assert data == {
        "concealed, chunks to skip",
        "concealed, a header alone",
        "picture, data of 512 MB",
        "picture, a text of 512 MB",  # which is not unfolded: text fails no image
    }
    assert len(ends) > 30
