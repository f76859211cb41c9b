"""Many blocks coded side by side give the bytes and the symbols of each alone."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeae.coding import block
from edgeae.coding.context import ContextModel
from edgeae.errors import BitstreamError
from edgeae.image.codec import ImageCodec


@pytest.fixture(scope="module")
def blocks(model):
    """The coder of the tiny codec, whose contexts take several blocks at once."""
    assert model._blocks.contexts.batches
    return model._blocks


SPREADS = (0.1, 1.0, 9.0, 0.5, 40.0, 3.0, 0.2, 9.0, 1.0)


def latents(rng, shape, spread, level, coder):
    scale = coder.steps[level][:, None, None] * np.float32(spread)
    return rng.normal(0, 1, (9, *shape)).astype(np.float32) * scale


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.sampled_from([(1, 1), (2, 2), (2, 3), (4, 4)]), min_size=1, max_size=40),
    level=st.integers(0, 64),
    spread=st.sampled_from([0.0, 0.3, 2.0, 40.0, 20_000.0]),
    seed=st.integers(0, 99),
)
def test_blocks_side_by_side_are_the_blocks_alone(blocks, shapes, level, spread, seed):
    rng = np.random.default_rng(seed)
    parts = [latents(rng, shape, spread, level, blocks) for shape in shapes]
    alone = [blocks.encode(part, level) for part in parts]
    assert blocks.encode_many(parts, level) == alone
    found = blocks.decode_many(alone, shapes, level)
    for part, symbols, shape in zip(alone, found, shapes, strict=True):
        assert np.array_equal(symbols, blocks.decode(part, shape, level))


def test_large_blocks_of_many_lanes_are_coded_alone_among_small_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(block, "MAX_LANES", 16)
    coder = ImageCodec.load(tiny.tiny_codec_bundle(tmp_path / "large", tile=64))._blocks
    rng = np.random.default_rng(0)
    shapes = [(2, 2)] * 6 + [(48, 48)] * 5 + [(32, 40)] * 4
    parts = [latents(rng, shape, 9.0, 64, coder) for shape in shapes]
    alone = [coder.encode(part, 64) for part in parts]
    assert max(1 << part[0] for part in alone) > 16 > min(1 << part[0] for part in alone)
    assert coder.encode_many(parts, 64) == alone
    for one, symbols in zip(alone, coder.decode_many(alone, shapes, 64), strict=True):
        assert np.array_equal(symbols, coder.decode(one, symbols.shape[1:], 64))


def test_blocks_of_several_lanes_are_coded_side_by_side(tmp_path):
    coder = ImageCodec.load(tiny.tiny_codec_bundle(tmp_path / "large", tile=64))._blocks
    rng = np.random.default_rng(0)
    shapes = [(48, 48)] * 5 + [(20, 30)] * 4
    of = zip(shapes, SPREADS, strict=True)
    parts = [latents(rng, shape, spread, 64, coder) for shape, spread in of]
    with coder.contexts._batched()[0].watched() as runs:
        made = coder.encode_many(parts, 64)
    assert len(runs) == 4  # the phases of the first slice, for each shape
    alone = [coder.encode(part, 64) for part in parts]
    assert made == alone
    assert {part[0] for part in alone} >= {3, 5}
    found = coder.decode_many(alone, shapes, 64)
    for one, shape, symbols in zip(alone, shapes, found, strict=True):
        assert np.array_equal(symbols, coder.decode(one, shape, 64))


def test_a_block_that_claims_many_lanes_is_not_put_beside_others(blocks, monkeypatch):
    # Each lane of one block makes room in every row of all blocks.
    together = []

    class Watched(block.Decoders):
        def __init__(self, tables, decoders):
            together.extend(len(decoder.states) for decoder in decoders)
            super().__init__(tables, decoders)

    monkeypatch.setattr(block, "Decoders", Watched)
    rng = np.random.default_rng(4)
    sound = blocks.encode(latents(rng, (2, 2), 3.0, 40, blocks), 40)
    claims = bytes([9]) + rng.bytes(2000)
    with pytest.raises(BitstreamError, match="coded block"):
        blocks.decode_many([*[sound] * 4, claims], [(2, 2)] * 5, 40)
    assert together == [1] * 4


def test_small_blocks_run_each_graph_once_for_many(blocks):
    rng = np.random.default_rng(1)
    parts = [latents(rng, (2, 2), 1.0, 20, blocks) for _ in range(100)]
    graphs = blocks.contexts._batched()
    with graphs[0].watched() as runs:
        blocks.encode_many(parts, 20)
    assert len(runs) == 2  # the phases of the first slice


def test_contexts_that_cannot_take_several_blocks_are_run_one_by_one(blocks):
    contexts = ContextModel(blocks.contexts.slices, blocks.contexts.graphs)
    coder = block.BlockCoder(contexts, blocks.tables, blocks.steps)
    parts = [latents(np.random.default_rng(i), (2, 2), 1.0, 20, blocks) for i in range(9)]
    assert not contexts.batches
    made = coder.encode_many(parts, 20)
    assert made == blocks.encode_many(parts, 20)
    assert len(coder.decode_many(made, [(2, 2)] * 9, 20)) == 9


@pytest.mark.parametrize("cut", ["short", "long", "flipped", "lanes", "empty"])
def test_a_damaged_block_among_others_is_refused(blocks, cut):
    rng = np.random.default_rng(2)
    made = blocks.encode_many([latents(rng, (4, 4), 3.0, 60, blocks) for _ in range(12)], 60)
    change = {
        "short": lambda b: b[:-2],
        "long": lambda b: b + b"\0",
        "flipped": lambda b: b[:6] + bytes([b[6] ^ 255]) + b[7:],
        "lanes": lambda b: b"\x0a" + b[1:],
        "empty": lambda b: b"",
    }[cut]
    for place in (0, 5, 11):
        damaged = [change(b) if i == place else b for i, b in enumerate(made)]
        with pytest.raises(BitstreamError, match="coded block"):
            blocks.decode_many(damaged, [(4, 4)] * 12, 60)


def test_any_blocks_are_refused_or_decoded_as_alone(blocks):
    rng = np.random.default_rng(3)
    sound = blocks.encode(latents(rng, (2, 2), 3.0, 40, blocks), 40)
    for _ in range(200):
        noise = bytes([rng.integers(0, 4)]) + rng.bytes(int(rng.integers(0, 40)))
        together = [sound, noise, sound, sound, sound]
        try:
            expected = blocks.decode(noise, (2, 2), 40)
        except BitstreamError:
            with pytest.raises(BitstreamError):
                blocks.decode_many(together, [(2, 2)] * 5, 40)
        else:
            assert np.array_equal(blocks.decode_many(together, [(2, 2)] * 5, 40)[1], expected)
