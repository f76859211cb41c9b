"""The codec on a tiny model: any picture comes back, and whatever is wrong is refused."""

from __future__ import annotations

import concurrent.futures
import copy
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny
from bundles import spoiled
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeae
from edgeae import bundle, loading
from edgeae.coding import context
from edgeae.coding.context import ContextModel
from edgeae.coding.rounding import Rounding
from edgeae.errors import BitstreamError, BundleError, UnknownCodec
from edgeae.image import file
from edgeae.image.codec import ImageCodec
from edgeae.image.header import Metadata
from edgeae.image.latent import Latent
from edgeae.metrics import psnr_db
from edgeae.onnx_check import read_graph
from edgeae.runtime import OPTIMIZATIONS, Graph

# (H, W), (H, W, 1), (H, W, 3) and (H, W, 4).
CHANNELS = (0, 1, 3, 4)


@pytest.fixture
def own(tmp_path):
    """A bundle that a test may spoil."""
    return tiny.tiny_codec_bundle(tmp_path / "own")


# --- there and back


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 50),
    width=st.integers(1, 70),
    channels=st.sampled_from(CHANNELS),
    level=st.integers(0, 64),
    noise=st.sampled_from([0, 5, 100]),
    seed=st.integers(0, 1000),
)
def test_what_the_bytes_hold_is_what_the_latent_holds(
    model, height, width, channels, level, noise, seed
):
    image = tiny.picture(height, width, channels, noise, seed)
    quality = 1 + level / 8
    restored = model.decompress(model.compress(image, quality=quality, lossless=False))
    assert restored.shape == image.shape and restored.dtype == np.uint8
    latent = model.encode(image, quality=quality)
    assert latent.level == level
    assert np.array_equal(restored, model.decode(latent))
    if channels == 4:
        assert np.array_equal(restored[:, :, 3], image[:, :, 3])


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (50, 1), (4, 4), (15, 16), (16, 17), (33, 32)])
def test_every_size_keeps_its_shape(model, size, channels):
    image = tiny.picture(*size, channels)
    restored = model.decompress(model.compress(image))
    assert restored.shape == image.shape and restored.flags["C_CONTIGUOUS"]


def test_a_picture_comes_back_much_as_it_was(model):
    image = tiny.picture()
    assert psnr_db(image, model.decompress(model.compress(image, quality=9))) > 35


def test_more_quality_takes_more_bytes_and_comes_nearer(model):
    image = tiny.picture()
    blobs = [model.compress(image, quality=quality) for quality in (1, 3, 5, 7, 9)]
    sizes = [len(blob) for blob in blobs]
    nearness = [psnr_db(image, model.decompress(blob)) for blob in blobs]
    assert sizes == sorted(sizes) and nearness == sorted(nearness)


def test_five_is_the_quality_if_none_is_asked_for(model):
    image = tiny.picture(20, 20)
    assert model.compress(image) == model.compress(image, quality=5)
    assert model.encode(image).level == 32


@pytest.mark.parametrize("quality", [5, 5.0, 5.03, np.float32(5), np.int64(5), np.float64(5)])
def test_a_quality_is_any_number_and_means_the_nearest_eighth(model, quality):
    image = tiny.picture(8, 8)
    assert model.compress(image, quality=quality) == model.compress(image, quality=5)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_may_come_in_any_wrapping(model, kind):
    blob = model.compress(tiny.picture(9, 9))
    assert np.array_equal(model.decompress(kind(blob)), model.decompress(blob))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[::-1],
        lambda x: x[:, ::-1],
        lambda x: x[::2, 1::3],
        lambda x: x[:, :, ::-1],
        lambda x: x.transpose(1, 0, 2),
        lambda x: x[7:-3, 5:],
        np.asfortranarray,
        lambda x: np.broadcast_to(x[:1], x.shape),
    ],
)
def test_a_picture_may_lie_in_memory_in_any_way(model, view):
    seen = view(tiny.picture())
    assert model.compress(seen) == model.compress(np.ascontiguousarray(seen))
    assert model.compress(seen[:, :, 0]) == model.compress(np.ascontiguousarray(seen[:, :, 0]))


def test_a_picture_is_left_as_it_was(model):
    image = tiny.picture(channels=4)
    image.flags.writeable = False
    model.decompress(model.compress(image))
    assert np.array_equal(image, tiny.picture(channels=4))


def test_a_restored_picture_is_the_callers_to_change(model):
    for channels in CHANNELS:
        blob = model.compress(tiny.picture(20, 20, channels))
        model.decompress(blob)[:] = 0
        assert model.decompress(blob).any()


def test_a_quantized_encoder_is_the_default_where_there_is_one(tmp_path):
    path = tiny.tiny_codec_bundle(tmp_path / "both", int8=True)
    default, exact = ImageCodec.load(path), ImageCodec.load(path, precision="fp32")
    assert (default.precision, exact.precision) == ("int8", "fp32")
    assert default.report()["graphs"]["encoder"]["file"] == "encoder.int8.onnx"
    # Its eight bits hold a pixel exactly.
    image = tiny.picture()
    assert psnr_db(default.decompress(default.compress(image)), image) > 30
    assert exact.decompress(default.compress(image)).shape == image.shape


# --- tiles


def test_tiles_equal_the_whole(codec_path, tmp_path):
    # At the finest level every symbol is coded; without dead zones each is its latent's nearest
    # integer, whatever its context.
    whole = ImageCodec.load(tiny.tiny_codec_bundle(tmp_path / "whole", tile=64))
    for side in (1, 3, 4, 7):
        tiled = ImageCodec.load(tiny.tiny_codec_bundle(tmp_path / f"{side}", tile=side))
        usual = whole._blocks.rounding
        plain = Rounding(np.zeros_like(usual.zones), np.zeros_like(usual.saved))
        tiled._blocks.rounding = whole._blocks.rounding = plain
        for size in [(50, 70), (16, 64), (5, 41)]:
            image = tiny.picture(*size, noise=20)
            of_tiles, of_whole = tiled.encode(image, quality=9), whole.encode(image, quality=9)
            assert np.array_equal(of_tiles.symbols, of_whole.symbols)
            grays = tiled.decode(of_tiles).astype(int) - whole.decode(of_whole)
            assert np.abs(grays).max() <= 1


@pytest.mark.parametrize("halo", ["encoder_halo", "decoder_halo"])
def test_tiles_without_their_halo_would_differ_from_the_whole(halo, codec_path, own):
    whole, image = ImageCodec.load(codec_path), tiny.picture(noise=20)
    spoiled(lambda section: section.update({halo: 0}))(own)
    narrow = ImageCodec.load(own)
    latent = whole.encode(image, quality=9)
    if halo == "encoder_halo":
        assert not np.array_equal(narrow.encode(image, quality=9).symbols, latent.symbols)
    else:
        assert np.abs(narrow.decode(latent).astype(int) - whole.decode(latent)).max() > 1


def test_every_tile_is_coded_on_its_own(model):
    blob = model.compress(tiny.picture(16, 48))
    content = file.read(blob)
    assert len(content.blocks) == 3
    other = tiny.picture(16, 48)
    other[:, 40:] = 255 - other[:, 40:]
    changed = file.read(model.compress(other))
    assert changed.blocks[0] == content.blocks[0] and changed.blocks[2] != content.blocks[2]


# --- a budget of bytes


def test_the_finest_level_that_fits_is_taken(model):
    image = tiny.picture(20, 30, noise=3)
    sizes = [len(model.compress(image, quality=1 + level / 8)) for level in range(65)]
    for max_bytes in [sizes[0], sizes[0] + 1, *range(sizes[0], sizes[-1] + 50, 67), 10**9]:
        blob = model.compress(image, max_bytes=max_bytes)
        level = file.read_header(blob).level
        assert len(blob) <= max_bytes
        assert level == 64 or sizes[level + 1] > max_bytes
        assert blob == model.compress(image, quality=1 + level / 8)


def test_a_budget_that_nothing_fits_is_refused_with_what_is_needed(model):
    image = tiny.picture()
    smallest = len(model.compress(image, quality=1))
    with pytest.raises(ValueError, match=f"max_bytes is 100, expected at least {smallest} bytes"):
        model.compress(image, max_bytes=100)


def test_a_budget_runs_the_network_once(codec_path):
    model, calls = ImageCodec.load(codec_path), []
    encoder = model._encoders.fast.graph
    counted = lambda planes: calls.append(planes.shape) or encoder(planes)  # noqa: E731
    model._encoders.fast = replace(model._encoders.fast, graph=counted)
    model.compress(tiny.picture(16, 32), max_bytes=600)
    assert len(calls) == 2  # two tiles


# --- misuse


@pytest.mark.parametrize(
    ("image", "kind", "match"),
    [
        ([[1, 2], [3, 4]], TypeError, "list, expected a uint8 array"),
        (None, TypeError, "NoneType"),
        (tiny.picture().astype(np.float32), TypeError, "dtype float32, expected uint8"),
        (np.full((4, 4, 3), np.nan), TypeError, "dtype float64, expected uint8"),
        (tiny.picture().astype(np.int8), TypeError, "dtype int8, expected uint8"),
        (tiny.picture() > 0, TypeError, "dtype bool, expected uint8"),
        (np.ma.masked_array(tiny.picture()), TypeError, "image is a masked array"),
        (
            np.zeros((0, 0, 3), np.uint8),
            ValueError,
            r"shape \(0, 0, 3\), expected at least one pixel",
        ),
        (np.zeros((0, 5), np.uint8), ValueError, "expected at least one pixel"),
        (np.zeros((5, 0, 1), np.uint8), ValueError, "expected at least one pixel"),
        (np.zeros((5, 5, 0), np.uint8), ValueError, r"shape \(5, 5, 0\), expected \(H, W, 3\)"),
        (np.zeros((5, 5, 2), np.uint8), ValueError, r"shape \(5, 5, 2\)"),
        (np.zeros((5, 5, 5), np.uint8), ValueError, r"shape \(5, 5, 5\)"),
        (np.zeros(5, np.uint8), ValueError, r"shape \(5,\)"),
        (np.uint8(5), TypeError, "expected a uint8 array"),
        (np.array(5, np.uint8), ValueError, r"shape \(\)"),
        (np.zeros((1, 5, 5, 3), np.uint8), ValueError, r"shape \(1, 5, 5, 3\)"),
        (np.zeros((65_537, 1), np.uint8), ValueError, "65536 a side"),
        (np.broadcast_to(np.uint8(0), (16_385, 16_384, 3)), ValueError, "268435456 pixels in all"),
    ],
)
def test_what_is_no_picture_is_refused(model, image, kind, match):
    for verb in (model.compress, model.encode):
        with pytest.raises(kind, match=match) as caught:
            verb(image)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("quality", [0, 0.99, 9.01, 10, -1, float("nan"), float("inf"), "5", [5]])
def test_a_quality_out_of_range_is_refused(model, quality):
    for verb in (model.compress, model.encode):
        with pytest.raises(ValueError, match=r"quality is .*, expected 1 \(smallest\) to 9"):
            verb(tiny.picture(4, 4), quality=quality)


@pytest.mark.parametrize("max_bytes", [0, -5, float("nan"), float("inf"), "100"])
def test_a_budget_that_is_none_is_refused(model, max_bytes):
    with pytest.raises(ValueError, match="max_bytes is .*, expected at least 1"):
        model.compress(tiny.picture(4, 4), max_bytes=max_bytes)


def test_quality_and_a_budget_at_once_are_refused(model):
    with pytest.raises(ValueError, match="quality or max_bytes, not both"):
        model.compress(tiny.picture(4, 4), quality=5, max_bytes=100)


@pytest.mark.parametrize("blob", ["text", None, 5, np.zeros(9, np.uint8)])
def test_what_is_no_bytes_is_refused(model, blob):
    for verb in (model.decompress, edgeae.decompress):
        with pytest.raises(TypeError, match="expected bytes"):
            verb(blob)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: {"symbols": s[:-1]}, r"symbols have shape \(8, 2, 3\), expected \(9, 2, 3\)"),
        (lambda s: {"symbols": s[:, :1]}, "symbols have shape"),
        (lambda s: {"symbols": s.astype(np.float32)}, "symbols are float32, expected signed"),
        (lambda s: {"symbols": s.astype(np.uint32)}, "symbols are uint32, expected signed"),
        (
            lambda s: {"symbols": s + 30_001 - s.max()},
            "symbols reach further, expected -30000 to 30000",
        ),
        (
            lambda s: {"symbols": np.full_like(s, -(2**31))},
            "symbols reach further, expected -30000 to 30000",
        ),
        (lambda s: {"level": 65}, "level is 65, expected 0 to 64"),
        (lambda s: {"level": -1}, "level is -1, expected 0 to 64"),
        (lambda s: {"height": 9}, r"expected \(9, 3, 3\)"),
        (lambda s: {"height": 0, "symbols": s[:, :0]}, "expected some"),
        (lambda s: {"channels": 2}, "channels is 2"),
        (lambda s: {"channels": 4}, "alpha is None, expected an array of 4 channels"),
        (
            lambda s: {"alpha": np.zeros((8, 12), np.uint8)},
            "alpha is an array, expected None of 3 channels",
        ),
        (lambda s: {"channels": 4, "alpha": np.zeros((8, 11), np.uint8)}, r"expected uint8 \(8, 1"),
        (lambda s: {"channels": 4, "alpha": np.zeros((8, 12))}, "alpha is float64"),
    ],
)
def test_a_latent_that_is_not_this_codecs_is_refused(model, change, match):
    latent = model.encode(tiny.picture(8, 12))
    sections = {"symbols": latent.symbols, "level": 3, "height": 8, "width": 12}
    with pytest.raises(ValueError, match=match):
        model.decode(Latent(**{**sections, **change(latent.symbols)}))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: {"level": 3.5}, "level is 3.5, expected an integer"),
        (lambda s: {"level": True}, "level is True, expected an integer"),
        (lambda s: {"level": "3"}, "level is '3', expected an integer"),
        (lambda s: {"height": 8.0}, "height is 8.0, expected an integer"),
        (lambda s: {"channels": None}, "channels is None, expected an integer"),
        (lambda s: {"symbols": np.ma.masked_array(s)}, "symbols is a masked array"),
        (lambda s: {"symbols": s.tolist()}, "symbols is list, expected an array"),
    ],
)
def test_a_latent_of_another_type_is_refused(model, change, match):
    latent = model.encode(tiny.picture(8, 12))
    sections = {"symbols": latent.symbols, "level": 3, "height": 8, "width": 12}
    with pytest.raises(TypeError, match=match):
        model.decode(Latent(**{**sections, **change(latent.symbols)}))


def test_a_latent_may_have_numpys_integers(model):
    latent = model.encode(tiny.picture(8, 12))
    same = Latent(latent.symbols, np.uint8(latent.level), np.int64(8), np.int16(12))
    assert np.array_equal(model.decode(same), model.decode(latent))


@pytest.mark.parametrize("value", [-30_000, 30_000])
def test_the_widest_symbols_give_a_picture(model, value):
    latent = model.encode(tiny.picture(8, 12))
    symbols = np.full(latent.symbols.shape, value, np.int64)
    restored = model.decode(Latent(symbols, 64, 8, 12))
    assert restored.shape == (8, 12, 3)


def test_latents_beyond_the_widest_symbol_are_clipped(own):
    def enlarge(graph):
        for tensor in graph.graph.initializer:
            if tensor.name == "basis":
                large = tiny.onnx.numpy_helper.to_array(tensor) * 1e9
                tensor.CopyFrom(tiny.onnx.numpy_helper.from_array(large, "basis"))

    model = ImageCodec.load(tiny.change_graph(own, enlarge, "encoder"))
    image = tiny.picture(20, 20, noise=100)
    latent = model.encode(image, quality=9)
    assert np.abs(latent.symbols).max() == context.SYMBOL_LIMIT
    restored = model.decompress(model.compress(image, quality=9, lossless=False))
    assert np.array_equal(restored, model.decode(latent))


# --- latents as bytes


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from(CHANNELS),
    quality=st.sampled_from([1, 4, 9]),
)
def test_a_latent_packs_to_what_compress_writes_and_back(model, height, width, channels, quality):
    image = tiny.picture(height, width, channels, noise=20)
    latent = model.encode(image, quality=quality)
    blob = model.pack(latent)
    assert blob == model.compress(image, quality=quality)
    again = model.unpack(blob)
    assert np.array_equal(again.symbols, latent.symbols) and again.symbols.dtype == np.int32
    if channels == 4:
        assert np.array_equal(again.alpha, latent.alpha)
    assert replace(again, symbols=0, alpha=0) == replace(latent, symbols=0, alpha=0)


def test_a_latent_that_no_file_can_hold_is_refused(model):
    latent = model.encode(np.full((40, 40, 3), 128, np.uint8), quality=1)
    walked = []
    context.drive(
        model._blocks.contexts.walk((4, 4), 0),
        lambda stage: walked.append(stage) or np.zeros(len(stage.places), np.int64),
    )
    symbols = latent.symbols.copy()
    symbols[8] = 3  # of the last slice, which is not coded where nothing is around
    assert all(len(stage.places) < 64 for stage in walked[-1:])
    with pytest.raises(ValueError, match="leave no choice"):
        model.pack(replace(latent, symbols=symbols))


@pytest.mark.parametrize("errors", [TypeError, BitstreamError, UnknownCodec])
def test_what_holds_no_latent_of_this_codec_is_refused(model, tmp_path, errors):
    if errors is UnknownCodec:
        other = ImageCodec.load(tiny.tiny_codec_bundle(tmp_path / "other", seed=1))
        blob = other.compress(tiny.picture(9, 9))
    else:
        blob = {TypeError: "text", BitstreamError: b"\x89EAE\r\n\x1a\n"}[errors]
    with pytest.raises(errors):
        model.unpack(blob)


# --- the object itself


def test_a_codec_says_what_it_is(model):
    assert repr(model) == (
        "ImageCodec(tiny-codec 0.1.0, fp32, 9 latent channels of 4 x 4 pixels, "
        "on CPUExecutionProvider)"
    )


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_codec_is_copied_by_its_path_and_settings(codec_path, copied):
    model = ImageCodec.load(codec_path, precision="fp32", threads=2)
    twin = copied(model)
    assert twin is not model and twin.report() == model.report()
    image = tiny.picture(20, 30)
    assert twin.compress(image) == model.compress(image)


def test_a_copy_of_a_codec_whose_directory_holds_another_is_refused(own):
    data = pickle.dumps(ImageCodec.load(own))
    tiny.change_manifest(own, lambda manifest: manifest.update(version="0.1.1"))
    with pytest.raises(BundleError, match="is bundle .* expected"):
        pickle.loads(data)


# --- metadata


def test_metadata_is_kept_byte_for_byte(model):
    metadata = Metadata(b"MM\0*exif", b"<x:xmpmeta/>")
    for size, channels in (((9, 9), 3), ((40, 40), 0), ((20, 20), 4)):
        image = tiny.picture(*size, channels)
        blob = model.compress(image, metadata=metadata)
        assert file.read_metadata(blob) == metadata
        assert np.array_equal(model.decompress(blob), model.decompress(model.compress(image)))
        assert model.compress(image, metadata=Metadata()) == model.compress(image)
        assert len(model.compress(image, max_bytes=len(blob), metadata=metadata)) <= len(blob)


@pytest.mark.parametrize(
    "metadata", [b"exif", {"exif": b""}, Metadata("text"), Metadata(None, "x")]
)
def test_metadata_of_another_type_is_refused(model, metadata):
    with pytest.raises(TypeError, match="metadata"):
        model.compress(tiny.picture(9, 9), metadata=metadata)


# --- which codec


def test_bytes_of_another_model_are_refused_by_name(model, tmp_path):
    other = ImageCodec.load(tiny.tiny_codec_bundle(tmp_path / "other", seed=1))
    start = other._id[:4]
    with pytest.raises(
        UnknownCodec, match=f"{start.hex()}.*, expected tiny-codec, {model._id.hex()}"
    ) as e:
        model.decompress(other.compress(tiny.picture(9, 9)))
    assert e.value.codec_id == start
    with pytest.raises(UnknownCodec, match=f"{other._id.hex()}, .*, {model._id.hex()}") as e:
        model.decompress(other.compress(np.zeros((9, 9, 4), np.uint8), lossless=False))
    assert e.value.codec_id == other._id


@pytest.fixture
def bundled(codec_path, tmp_path, monkeypatch):
    """A package whose only models are the tiny codec and a tiny denoiser."""
    models = tmp_path / "models"
    shutil.copytree(codec_path, models / "one")
    tiny.tiny_denoiser_bundle(models / "two")
    monkeypatch.setattr(bundle, "_MODELS", models)
    loading._bundled_codec.cache_clear()
    yield models
    loading._bundled_codec.cache_clear()


def test_a_bundled_codec_is_found_by_the_id_in_the_bytes(bundled, model):
    image = tiny.picture()
    blob = model.compress(image)
    assert np.array_equal(edgeae.decompress(blob), model.decompress(blob))
    assert edgeae.ImageCodec.load("one").compress(image) == blob


def test_bytes_of_a_codec_that_is_not_bundled_are_refused(bundled, tmp_path):
    other = ImageCodec.load(tiny.tiny_codec_bundle(tmp_path / "other", seed=1))
    for image, said in ((tiny.picture(9, 9), 4), (np.zeros((9, 9, 4), np.uint8), 16)):
        codec_id = other._id[:said]
        with pytest.raises(UnknownCodec, match=f"{codec_id.hex()}.*one, two") as caught:
            edgeae.decompress(other.compress(image, lossless=False))
        assert caught.value.codec_id == codec_id


def test_damage_is_found_before_a_codec_is_looked_for(bundled, model):
    blob = model.compress(tiny.picture(9, 9))
    for length in range(len(blob)):
        with pytest.raises(BitstreamError):
            edgeae.decompress(blob[:length])


def test_load_opens_a_codec(codec_path):
    assert isinstance(edgeae.load(codec_path), ImageCodec)


def test_a_denoiser_is_no_codec(tmp_path):
    with pytest.raises(BundleError, match="tiny-denoiser is a denoiser, expected a codec"):
        ImageCodec.load(tiny.tiny_denoiser_bundle(tmp_path / "d"))


def test_the_report_says_what_runs_where(model):
    report = model.report()
    assert report["bundle"] == model.bundle.id and report["precision"] == "fp32"
    assert [*report["graphs"]] == ["encoder", "decoder", "context0", "context1", "context2"]
    for graph in report["graphs"].values():
        assert [*graph["nodes"]] == ["CPUExecutionProvider"]


# --- the same everywhere


def test_eight_threads_on_one_codec_give_equal_bytes(model):
    image = tiny.picture(30, 40, noise=10)
    expected = model.compress(image, quality=6)
    restored = model.decompress(expected)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        blobs = list(pool.map(lambda _: model.compress(image, quality=6), range(24)))
        images = list(pool.map(model.decompress, blobs))
    assert set(blobs) == {expected}
    assert all(np.array_equal(found, restored) for found in images)


def contexts(model, **options):
    files = [graph.file for graph in model._blocks.contexts.graphs]
    return ContextModel(model._spec.slices, [Graph(read_graph(file), **options) for file in files])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimization", OPTIMIZATIONS)
def test_contexts_choose_the_same_tables_however_they_run(codec_path, optimization, threads):
    model = ImageCodec.load(codec_path)
    images = [tiny.picture(20, 40, noise=noise) for noise in (0, 100)]
    expected = [model.compress(image, quality=q) for image in images for q in (1, 6, 9)]
    model._blocks.contexts = contexts(model, optimization=optimization, threads=threads)
    assert [model.compress(image, quality=q) for image in images for q in (1, 6, 9)] == expected


def test_some_symbols_of_every_kind_of_slice_are_coded_and_some_are_not(model):
    # What the other tests rely on to have met both.
    coded = {}
    height, width = 12, 17
    latent = model.encode(tiny.picture(4 * height, 4 * width), quality=1)

    def decide(stage):
        parts = coded.setdefault((stage.channels.start, stage.centers is not None), [])
        parts.append(len(stage.places) / height / width)
        return latent.symbols[stage.channels].reshape(-1)[stage.places].astype(np.int64)

    context.drive(model._blocks.contexts.walk((height, width), 0), decide)
    assert [*coded] == [(0, True), (2, False), (5, False)]
    assert 1 < sum(coded[0, True]) < 2 and 1 < sum(coded[5, False]) < 4
