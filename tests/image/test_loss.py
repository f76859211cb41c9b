"""What loss leaves undamaged is exact, what it does not is masked, and nothing raises."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeae
from edgeae import bundle, loading
from edgeae.errors import BitstreamError, EdgeaeError, UnknownCodec
from edgeae.image import codec
from edgeae.image.codec import ImageCodec
from edgeae.image.header import Header, Limits
from edgeae.image.packets import PacketHeader, _crc, overhead_bytes, read_packet, write_packets

TILE = 16  # pixels of a side of the tiny codec's tiles
TOUCHED = 4  # pixels around a tile that the tiny decoder's halo reaches


def without(blob, tiles):
    """The file with a changed byte in each of these tiles."""
    chunks = tiny.eae_chunks(blob)
    damaged = bytearray(blob)
    position = len(tiny.EAE_MAGIC)
    for kind, body in chunks:
        if kind == b"TILE" and body[0] in tiles:
            damaged[position + 8 + len(body) // 2] ^= 0x10
        position += len(body) + 12
    return bytes(damaged)


def expected_mask(shape, tiles, side=TILE):
    """Pixels of the tiles and around them that the decoder sees."""
    mask = np.zeros(shape[:2], np.bool_)
    columns = -(-shape[1] // side)
    for tile in tiles:
        top, left = tile // columns * side, tile % columns * side
        rows = slice(max(0, top - TOUCHED), top + side + TOUCHED)
        mask[rows, max(0, left - TOUCHED) : left + side + TOUCHED] = True
    return mask


# --- files


@pytest.mark.parametrize("channels", [0, 1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 33), (50, 70)])
def test_a_sound_file_comes_back_whole_with_an_empty_mask(model, size, channels):
    blob = model.compress(tiny.picture(*size, channels))
    image, mask = model.decompress(blob, errors="conceal")
    assert np.array_equal(image, model.decompress(blob))
    assert mask.shape == size and mask.dtype == np.bool_ and not mask.any()


@settings(max_examples=15, deadline=None)
@given(
    tiles=st.sets(st.integers(0, 19)),
    height=st.integers(49, 64),
    width=st.integers(65, 80),
    channels=st.sampled_from([0, 1, 3, 4]),
)
def test_every_undamaged_tile_is_exact(model, tiles, height, width, channels):
    image = tiny.picture(height, width, channels, noise=30)
    blob = model.compress(image)
    whole = model.decompress(blob)
    found, mask = model.decompress(without(blob, tiles), errors="conceal")
    assert np.array_equal(mask, expected_mask(image.shape, tiles))
    assert found.shape == image.shape and np.array_equal(found[~mask], whole[~mask])
    if channels == 4:
        assert np.array_equal(found[:, :, 3], image[:, :, 3])


def test_a_lost_tile_is_what_neutral_latents_give(model):
    image = tiny.picture(50, 70, noise=30)
    blob = model.compress(image)
    latent = model.encode(image)
    symbols = latent.symbols.copy()
    symbols[:, 4:8, 8:12] = 0  # tile 7, of 4 x 4 latents
    neutral = model.decode(edgeae.Latent(symbols, latent.level, 50, 70))
    found, _ = model.decompress(without(blob, {7}), errors="conceal")
    assert np.array_equal(found, neutral)


def test_a_file_of_which_only_the_header_is_left_is_one_color_and_all_mask(model):
    blob = model.compress(tiny.picture(50, 70))
    found, mask = model.decompress(blob[:46], errors="conceal")
    assert mask.all() and found.shape == (50, 70, 3)
    # Beyond the graph's padding at the edges nothing differs.
    assert len(np.unique(found[8:-8, 8:-8].reshape(-1, 3), axis=0)) == 1


def test_every_truncation_gives_the_tiles_that_are_whole(model):
    image = tiny.picture(40, 40)
    blob = model.compress(image)
    whole = model.decompress(blob)
    seen = set()
    for length in range(46, len(blob), 13):
        found, mask = model.decompress(blob[:length], errors="conceal")
        assert np.array_equal(found[~mask], whole[~mask])
        seen.add(int(mask.sum()))
    assert len(seen) > 5


def test_one_burst_of_damage_anywhere_keeps_the_rest(model):
    blob = model.compress(tiny.picture(40, 40))
    whole = model.decompress(blob)
    rng = np.random.default_rng(5)
    for start in range(0, len(blob) - 20, 19):
        damaged = blob[:start] + rng.bytes(20) + blob[start + 20 :]
        found, mask = model.decompress(damaged, errors="conceal")
        assert np.array_equal(found[~mask], whole[~mask])
        assert mask.sum() < 2 * (TILE + 2 * TOUCHED) ** 2


def test_lost_transparency_is_made_opaque_and_masks_everything(model):
    image = tiny.picture(20, 20, 4)
    damaged = model.compress(image).replace(b"ALPH", b"ALPI")
    found, mask = model.decompress(damaged, errors="conceal")
    assert mask.all() and (found[:, :, 3] == 255).all()
    assert np.array_equal(found[:, :, :3], model.decompress(model.compress(image))[:, :, :3])


def test_a_lost_header_is_taken_from_its_copy(model):
    blob = model.compress(tiny.picture(40, 40))
    found, mask = model.decompress(blob[46:], errors="conceal")
    assert np.array_equal(found, model.decompress(blob)) and not mask.any()


@pytest.mark.parametrize("damage", [b"", b"\x89EAE\r\n\x1a\n", bytes(500)])
def test_a_file_without_a_header_is_refused(model, damage):
    with pytest.raises(BitstreamError, match="nothing is left of its header"):
        model.decompress(damage, errors="conceal")


def test_a_damaged_small_file_is_refused(model):
    blob = model.compress(tiny.picture(9, 9))
    with pytest.raises(BitstreamError, match="checksum"):
        model.decompress(blob[:-1], errors="conceal")


def test_what_is_sound_and_makes_no_sense_is_no_damage_and_is_refused(model):
    head, *tiles = tiny.eae_chunks(model.compress(tiny.picture(40, 40)))
    beyond = (b"TILE", b"\x63" + tiles[0][1][1:])
    with pytest.raises(BitstreamError, match="there is a tile 99, expected 9 in all"):
        model.decompress(tiny.eae_file([head, beyond]), errors="conceal")
    with pytest.raises(BitstreamError, match="coded block"):
        model.decompress(tiny.eae_file([head, (b"TILE", b"\0\x05")]), errors="conceal")


def test_another_codecs_file_is_refused_damaged_or_not(model, tmp_path):
    other = ImageCodec.load(tiny.tiny_codec_bundle(tmp_path / "other", seed=1))
    blob = other.compress(tiny.picture(40, 40))
    with pytest.raises(UnknownCodec):
        model.decompress(without(blob, {3}), errors="conceal")


def test_a_few_bytes_cannot_claim_a_huge_picture_that_is_lost(model):
    for size in (2049, 16_384):
        head = tiny.eae_head(model._id, height=size, width=size)
        began = time.process_time()
        with pytest.raises(BitstreamError, match="too few to conceal|tiles, expected|32 a byte"):
            model.decompress(tiny.eae_file([head]), errors="conceal")
        assert time.process_time() - began < 5


def test_the_word_for_errors_is_one_of_two(model):
    with pytest.raises(ValueError, match="errors is 'ignore', expected 'strict' or 'conceal'"):
        model.decompress(model.compress(tiny.picture(9, 9)), errors="ignore")


def test_limits_are_the_callers_to_set(model):
    blob = model.compress(tiny.picture(40, 40))
    for options in ({}, {"errors": "conceal"}):
        with pytest.raises(BitstreamError, match="expected at most 1599 in all"):
            model.decompress(blob, limits=edgeae.Limits(pixels=1599), **options)
        model.decompress(blob, limits=Limits(pixels=1600), **options)


def test_a_bundled_codec_conceals_too(model, codec_path, monkeypatch):
    monkeypatch.setattr(bundle, "_MODELS", codec_path.parent)
    loading._bundled_codec.cache_clear()
    blob = without(model.compress(tiny.picture(40, 40)), {1, 2})
    image, mask = edgeae.decompress(blob, errors="conceal")
    assert mask.any() and np.array_equal(image, model.decompress(blob, errors="conceal")[0])
    loading._bundled_codec.cache_clear()


# --- packets


def side_of(packets):
    return 4 << (packets[0][0] & 15)


@pytest.mark.parametrize("channels", [0, 1, 3])
@pytest.mark.parametrize("max_packet_bytes", [40, 100, 300, 1200])
def test_packets_that_all_arrive_give_the_whole_picture(model, max_packet_bytes, channels):
    image = tiny.picture(50, 70, channels)
    packets = model.packets(image, max_packet_bytes=max_packet_bytes, quality=3)
    assert max(map(len, packets)) <= max_packet_bytes
    found, mask = model.receive(packets)
    assert found.shape == image.shape and not mask.any()
    assert np.abs(found.astype(int) - image).mean() < 12
    again, _ = model.receive([packets[0], *reversed(packets), *packets[3:]])
    assert np.array_equal(again, found)


def test_packets_of_the_largest_tiles_hold_what_the_file_holds(model):
    image = tiny.picture(50, 70)
    packets = model.packets(image, max_packet_bytes=10_000)
    assert side_of(packets) == TILE and len(packets) == 1
    assert np.array_equal(model.receive(packets)[0], model.decompress(model.compress(image)))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_what_arrives_is_exact_whatever_is_lost_doubled_and_late(model, data):
    image = tiny.picture(50, 70, noise=20)
    size = data.draw(st.sampled_from([40, 90, 250]))
    packets = model.packets(image, max_packet_bytes=size, quality=2, number=7)
    whole, _ = model.receive(packets)
    came = data.draw(st.lists(st.sampled_from(packets), min_size=1, max_size=2 * len(packets)))
    found, mask = model.receive(came)
    assert np.array_equal(found[~mask], whole[~mask])
    there = set()
    for packet in came:
        held = read_packet(packet, model._id)
        there |= set(range(held.first, held.first + len(held.blocks)))
    side = side_of(packets)
    tiles = set(range(-(-50 // side) * -(-70 // side))) - there
    assert np.array_equal(mask, expected_mask(image.shape, tiles, side))


def test_bursts_of_loss_raise_nothing(model):
    image = tiny.picture(60, 60, noise=20)
    packets = model.packets(image, max_packet_bytes=60, quality=3)
    whole, _ = model.receive(packets)
    rng = np.random.default_rng(3)
    fractions = []
    for _ in range(30):
        # Gilbert-Elliott: 10 % of packets are lost, in bursts of 3.
        lost, came = False, []
        for packet in packets:
            lost = rng.random() < (2 / 3 if lost else 1 / 27)
            if not lost:
                came.append(packet)
        found, mask = model.receive(came)
        assert np.array_equal(found[~mask], whole[~mask])
        fractions.append(1 - len(came) / len(packets))
    assert 0.05 < np.mean(fractions) < 0.15


def test_a_packet_adds_thirteen_bytes_to_a_block(model):
    header = Header(model._id, 32, 512, 768, 3)
    (packet,) = write_packets(PacketHeader(header, 0, 2), [b"block"], 100)
    assert len(packet) == 5 + 13
    assert overhead_bytes(PacketHeader(header, 0, 2), 100) == 13


def test_packets_that_are_damaged_or_foreign_are_passed_over(model, tmp_path):
    image = tiny.picture(50, 70)
    packets = model.packets(image, max_packet_bytes=100, quality=3)
    other = ImageCodec.load(tiny.tiny_codec_bundle(tmp_path / "other", seed=1))
    foreign = other.packets(image, max_packet_bytes=100, quality=3)
    rng = np.random.default_rng(0)
    damaged = []
    for packet in packets:
        changed = bytearray(packet)
        for bit in rng.integers(0, 8 * len(packet), rng.integers(1, 9)):
            changed[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(changed) if changed != packet else b"")
    found, mask = model.receive([*foreign, *damaged, *packets, b"", b"\xe2", bytes(50)])
    assert np.array_equal(found, model.receive(packets)[0]) and not mask.any()
    for none in ([], foreign, damaged, [b""]):
        with pytest.raises(BitstreamError, match=f"of {len(none)} packets none is sound"):
            model.receive(none)


def test_late_packets_of_another_picture_are_left_out(model):
    old, new = tiny.picture(50, 70), tiny.picture(50, 70, seed=1, noise=9)
    late = model.packets(old, max_packet_bytes=100, number=4)[-2:]
    packets = model.packets(new, max_packet_bytes=100, number=5)
    found, mask = model.receive([*late, *packets])
    assert np.array_equal(found, model.receive(packets)[0]) and not mask.any()


def test_every_truncation_and_flipped_bit_of_a_packet_is_noticed(model):
    packet = model.packets(tiny.picture(16, 16), max_packet_bytes=500, quality=2)[0]
    read_packet(packet, model._id)
    for length in range(len(packet)):
        with pytest.raises(BitstreamError):
            read_packet(packet[:length], model._id)
    for bit in range(8 * len(packet)):
        flipped = bytearray(packet)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            read_packet(bytes(flipped), model._id)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_with_a_right_checksum_are_a_packet_or_refused(model, data):
    body = bytes([0xE0 + len(data) % 12]) + data
    packet = body + _crc(model._id, body).to_bytes(4, "little")
    try:
        found, mask = model.receive([packet])
    except EdgeaeError as error:
        assert "\n" not in str(error)
    else:
        assert found.shape[:2] == mask.shape


def test_tiles_larger_than_the_codecs_own_are_passed_over(model):
    image = tiny.picture(16, 16)
    good = model.packets(image, max_packet_bytes=500)
    header = Header(model._id, 32, 16, 16, 3)
    larger = write_packets(PacketHeader(header, 0, 3), [b"\0" * 9], 100)
    assert np.array_equal(model.receive([*larger, *larger, *good])[0], model.receive(good)[0])
    with pytest.raises(BitstreamError, match="of 1 packets none is sound"):
        model.receive(larger)


def test_a_picture_in_more_tiles_than_a_receiver_takes_is_refused(model):
    with pytest.raises(ValueError, match="would take 10000 tiles: expected at most 4096"):
        model.packets(tiny.picture(400, 400, noise=60), max_packet_bytes=20)
    header = Header(model._id, 32, 400, 400, 3)
    packets = write_packets(PacketHeader(header, 0, 0), [b"\0" * 9] * 10_000, 200)
    with pytest.raises(BitstreamError, match="the image has 10000 tiles, expected at most 4096"):
        model.receive(packets)


def test_a_packet_of_more_blocks_than_a_picture_may_have_is_passed_over(model):
    header = Header(model._id, 32, 16, 16, 3)
    (packet,) = write_packets(PacketHeader(header, 0, 0), [b"b"] * 10_000, 1 << 20)
    with pytest.raises(BitstreamError, match="more than 4096 blocks"):
        read_packet(packet, model._id, codec.PACKET_LIMITS)
    with pytest.raises(BitstreamError, match="of 1 packets none is sound"):
        model.receive([packet])


def test_one_packet_cannot_claim_a_huge_picture(model):
    for side, size in ((2, 4096), (0, 4096), (10, 4097), (10, 65_536)):
        header = Header(model._id, 0, size, size, 3)
        packets = write_packets(PacketHeader(header, 0, side), [b"\0" * 9], 100)
        began = time.process_time()
        with pytest.raises(BitstreamError):
            model.receive(packets)
        assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"max_packet_bytes": 12},
            r"max_packet_bytes is 12, expected \d+ more for a tile of one latent",
        ),
        ({"max_packet_bytes": 0}, "max_packet_bytes is 0, expected at least 1"),
        ({"max_packet_bytes": "12"}, "max_packet_bytes is '12'"),
        ({"max_packet_bytes": float("inf")}, "max_packet_bytes is inf, expected at least 1"),
        ({"max_packet_bytes": float("nan")}, "max_packet_bytes is nan, expected at least 1"),
        ({"max_packet_bytes": 100, "number": 256}, "number is 256, expected 0 to 255"),
        ({"max_packet_bytes": 100, "number": True}, "number is True"),
        ({"max_packet_bytes": 100, "quality": 10}, "quality is 10"),
    ],
)
def test_packets_that_cannot_be_are_refused(model, options, match):
    with pytest.raises(ValueError, match=match):
        model.packets(tiny.picture(20, 20), **options)


def test_pictures_that_packets_cannot_hold_are_refused(model):
    with pytest.raises(ValueError, match="image has transparency, expected the first three"):
        model.packets(tiny.picture(20, 20, 4), max_packet_bytes=100)
    huge = np.broadcast_to(np.uint8(0), (4097, 4096, 3))
    with pytest.raises(ValueError, match="expected at most 16777216 pixels"):
        model.packets(huge, max_packet_bytes=100)


@pytest.mark.parametrize("packet", ["text", None, 5])
def test_what_is_no_bytes_is_no_packet(model, packet):
    with pytest.raises(TypeError, match="expected bytes"):
        model.receive([packet])


# --- graphs that give what they must not


def test_nan_from_a_graph_is_refused(codec_path):
    model = ImageCodec.load(codec_path)
    blob = model.compress(tiny.picture(9, 9))

    def broken(graph):
        def run(*inputs):
            return tuple(np.full_like(output, np.nan) for output in graph(*inputs))

        run.file = graph.file
        return run

    model._synthesis = replace(model._synthesis, graph=broken(model._synthesis.graph))
    with pytest.raises(EdgeaeError, match="decoder.fp32.onnx gives NaN"):
        model.decompress(blob)
    model._encoders.fast = replace(model._encoders.fast, graph=broken(model._encoders.fast.graph))
    with pytest.raises(EdgeaeError, match="encoder.fp32.onnx gives NaN"):
        model.compress(tiny.picture(9, 9))


def test_an_index_out_of_range_from_a_context_graph_is_refused(codec_path):
    model = ImageCodec.load(codec_path)
    blob = model.compress(tiny.picture(9, 9))
    first, *rest = model._blocks.contexts.graphs

    def broken(*inputs):
        index, *middles = first(*inputs)
        return index + 64, *middles

    broken.file = first.file
    model._blocks.contexts.graphs = (broken, *rest)
    for verb, what in ((model.decompress, blob), (model.compress, tiny.picture(9, 9))):
        with pytest.raises(EdgeaeError, match=r"gives index \d+, expected 0 to 63"):
            verb(what)


INT_MIN, INT_MAX = -(2**31), 2**31 - 1


@pytest.mark.parametrize(
    ("number", "change", "match"),
    [
        (0, lambda i, m: (i[:, :1], m), r"gives shape \(1, 1, 3, 3\), expected \(1, 2, 3, 3\)"),
        (0, lambda i, m: (i, m[:, :1]), r"gives shape \(1, 1, 3, 3\), expected \(1, 2, 3, 3\)"),
        (1, lambda i: (i[:, :, :2],), r"gives shape \(1, 3, 2, 3\), expected \(1, 3, 3, 3\)"),
        (1, lambda i: (i * 0 - 1000,), "gives index -1000, expected 0 to 63"),
        (2, lambda i: (np.full_like(i, INT_MIN),), f"gives index {INT_MIN}, expected 0 to 63"),
        (0, lambda i, m: (i, m * 0 + INT_MIN), f"middle {INT_MIN}, expected -240000 to 240000"),
        (0, lambda i, m: (i, m * 0 + INT_MAX), f"middle {INT_MAX}, expected -240000 to 240000"),
        (0, lambda i, m: (i, m * 0 + 240_001), "middle 240001, expected -240000 to 240000"),
    ],
)
def test_a_context_of_another_shape_or_out_of_range_is_refused(codec_path, number, change, match):
    model = ImageCodec.load(codec_path)
    blob = model.compress(tiny.picture(9, 9))
    graphs = [*model._blocks.contexts.graphs]
    whole = graphs[number]

    def broken(*inputs):
        return change(*whole(*inputs))

    broken.file = whole.file
    graphs[number] = broken
    model._blocks.contexts.graphs = tuple(graphs)
    for verb, what in ((model.decompress, blob), (model.compress, tiny.picture(9, 9))):
        with pytest.raises(EdgeaeError, match=match):
            verb(what)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x: x[:, :2], "gives shape"),
        (lambda x: x[0], "gives shape"),
        (lambda x: x[:, :, :-1], "gives shape"),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, np.inf, x), "NaN or inf"),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 7, -np.inf, x), "NaN or inf"),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 8, np.nan, x), "NaN or inf"),
    ],
)
@pytest.mark.parametrize("part", ["fast", "_synthesis"])
def test_a_graph_of_another_shape_or_not_finite_is_refused(codec_path, part, change, match):
    model = ImageCodec.load(codec_path)
    blob = model.compress(tiny.picture(9, 9))
    owner = model._encoders if part == "fast" else model
    whole = getattr(owner, part).graph

    def broken(*inputs):
        return tuple(change(output).astype(np.float32) for output in whole(*inputs))

    broken.file = whole.file
    setattr(owner, part, replace(getattr(owner, part), graph=broken))
    verb, what = {
        "fast": (model.compress, tiny.picture(9, 9)),
        "_synthesis": (model.decompress, blob),
    }[part]
    with pytest.raises(EdgeaeError, match=match):
        verb(what)


# --- packets that would fill the memory


def test_packets_of_many_blocks_take_no_more_than_their_own_bytes(model):
    # 4095 blocks of a byte each, beyond the one tile that the image has or held already.
    header = PacketHeader(Header(model._id, 0, 16, 16, 3), 0, 2)
    blocks = [b"b"] * 4095
    packets = []
    for number in range(16):
        made = replace(header, number=number % 2)
        packets += write_packets(made, blocks, 1 << 20)
    model.receive(model.packets(tiny.picture(16, 16), max_packet_bytes=500))
    tracemalloc.start()
    with pytest.raises(BitstreamError, match="coded block"):
        model.receive(packets * 2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * sum(map(len, packets * 2))


def test_blocks_beyond_the_last_tile_are_dropped(model):
    image = tiny.picture(16, 16)
    good = model.packets(image, max_packet_bytes=500)
    held = read_packet(good[0], model._id)
    longer = write_packets(held.header, [bytes(held.blocks[0]), b"more", b"still more"], 500)
    assert len(longer) == 1
    assert np.array_equal(model.receive(longer)[0], model.receive(good)[0])
