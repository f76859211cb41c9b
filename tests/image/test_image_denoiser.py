"""The image denoiser: what goes in comes out in its shape, tiles leave no seams, fills keep what is
known."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import tiny

import edgeae
from edgeae import media
from edgeae.bench.image_denoiser import workloads
from edgeae.bundle import bundled_names
from edgeae.errors import BundleError
from edgeae.image.denoiser import ImageDenoiser
from edgeae.image.interpolation import smooth_fill
from edgeae.metrics import psnr_db

SHAPES = [(40, 56), (40, 56, 1), (40, 56, 3), (40, 56, 4), (1, 1, 3), (17, 200, 3), (9, 7)]
needs_bundle = pytest.mark.skipif(
    "photo-denoiser" not in bundled_names(), reason="photo-denoiser is not in this checkout"
)


@pytest.fixture(scope="module")
def blur(tmp_path_factory):
    return ImageDenoiser.load(tiny.tiny_image_denoiser_bundle(tmp_path_factory.mktemp("blur")))


@pytest.fixture(scope="module")
def shipped():
    return edgeae.load("photo-denoiser")


def picture(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, True)


def scene(height=200, width=264):
    """Smooth light, edges and fine lines."""
    y, x = np.mgrid[:height, :width]
    found = np.stack([90 + 60 * np.sin(x / 40), 80 + y / 2, 200 - x / 3], axis=2)
    found[50:110, 70:160] = (210, 60, 40)
    found[(x + y) % 46 < 4] = (30, 40, 60)
    return found.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", SHAPES)
def test_shape_and_dtype_stay_and_the_argument_is_not_written_to(blur, shape, dtype):
    image = picture(shape, dtype)
    before = image.copy()
    hole = np.zeros(shape[:2], bool)
    hole[0, 1:3] = True
    for found in (blur.denoise(image), blur.denoise(image, strength=3), blur.fill(image, hole)):
        assert found.shape == image.shape and found.dtype == dtype
        assert not np.shares_memory(found, image)
    np.testing.assert_array_equal(image, before)


def test_transparency_is_kept_exactly(blur):
    image = picture((40, 56, 4))
    hole = np.zeros((40, 56), bool)
    hole[10:20, 10:20] = True
    np.testing.assert_array_equal(blur.denoise(image)[..., 3], image[..., 3])
    np.testing.assert_array_equal(blur.fill(image, hole)[..., 3], image[..., 3])


def test_gray_is_the_same_with_and_without_an_axis_of_channels(blur):
    image = picture((40, 56))
    np.testing.assert_array_equal(blur.denoise(image), blur.denoise(image[..., None])[..., 0])


def test_sixteen_bits_are_finer_than_eight(blur):
    image = np.full((32, 32, 3), 30_001, np.uint16)
    image[:, ::2] = 30_000
    found = blur.denoise(image, strength=1)[8:-8, 8:-8]
    # Five columns hold two or three of each, and the model darkens them by the strength.
    assert set(np.unique(found)) == {30_000 - 257, 30_001 - 257}


@pytest.mark.parametrize("size", [(70, 150), (128, 96), (33, 33)])
@pytest.mark.parametrize("tile", [32, 40, 64])
def test_tiles_leave_no_seams(tmp_path, blur, size, tile):
    tiled = ImageDenoiser.load(tiny.tiny_image_denoiser_bundle(tmp_path / "tiled", tile=tile))
    image = picture((*size, 3))
    hole = np.random.default_rng(1).random(size) < 0.1
    for whole, parts in (
        (blur.denoise(image), tiled.denoise(image)),
        (blur.denoise(image, strength=5), tiled.denoise(image, strength=5)),
        (blur.fill(image, hole), tiled.fill(image, hole)),
    ):
        # Sums of another order may round otherwise where a value lies halfway.
        assert np.abs(whole.astype(int) - parts).max() <= 1
        assert (whole != parts).mean() < 1e-3
    np.testing.assert_allclose(blur.noise_level(image), tiled.noise_level(image), atol=1e-4)


def test_a_halo_that_is_too_small_would_be_seen(tmp_path, blur):
    short = tiny.tiny_image_denoiser_bundle(tmp_path / "short", tile=32, halo=0)
    image = picture((70, 150, 3))
    seams = ImageDenoiser.load(short).denoise(image, strength=1)
    assert np.abs(seams.astype(int) - blur.denoise(image, strength=1)).max() > 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_noise_to_take_away_leaves_a_copy(blur, dtype):
    image = picture((40, 56, 3), dtype)
    found = blur.denoise(image, strength=0)
    np.testing.assert_array_equal(found, image)
    assert not np.shares_memory(found, image)


def test_strength_is_told_in_eight_bit_values_whatever_the_dtype(blur):
    image = np.full((32, 32, 3), 100, np.uint8)
    inner = slice(8, -8)
    assert (blur.denoise(image, strength=20)[inner, inner] == 80).all()
    wide = blur.denoise(image.astype(np.uint16) * 257, strength=20)[inner, inner]
    assert (np.abs(wide.astype(int) - 80 * 257) <= 1).all()


def test_without_a_strength_the_level_is_estimated_from_place_to_place(blur):
    image = np.full((32, 64, 3), 100, np.uint8)
    image[:, 32:] = 200
    level = blur.noise_level(image)
    assert level.shape == (32, 64) and level.dtype == np.float32
    np.testing.assert_allclose(level[0, [0, 31, 32, 63]], [10, 10, 20, 20], atol=1e-3)
    clean = blur.denoise(image)
    assert (clean[8:-8, 8:24] == 90).all() and (clean[8:-8, 40:56] == 180).all()


def test_an_estimate_stays_within_what_the_model_knows(tmp_path):
    path = tiny.tiny_image_denoiser_bundle(tmp_path / "low")
    tiny.change_manifest(path, lambda manifest: manifest["layout"].update(highest_level=5))
    model = ImageDenoiser.load(path)
    assert model.noise_level(np.full((16, 16, 3), 200, np.uint8)).max() == 5
    with pytest.raises(ValueError, match="strength is 6, expected 0 to 5"):
        model.denoise(np.zeros((8, 8, 3), np.uint8), strength=6)


def test_what_is_known_stays_exactly_and_what_a_hole_holds_does_not_matter(blur):
    one, other = picture((60, 70, 3)), picture((60, 70, 3))
    hole = np.zeros((60, 70), bool)
    hole[20:30, 33:41] = True
    other[hole] = 255 - other[hole]
    filled = blur.fill(one, hole)
    np.testing.assert_array_equal(filled[~hole], one[~hole])
    np.testing.assert_array_equal(filled, blur.fill(other, hole))
    assert (filled[hole] != one[hole]).any()


def test_no_hole_is_no_work(blur):
    image = picture((60, 70, 3))
    with blur.graphs["denoiser"].watched() as runs:
        np.testing.assert_array_equal(blur.fill(image, np.zeros((60, 70), bool)), image)
    assert runs == []


def with_passes(path, levels, **settings):
    tiny.tiny_image_denoiser_bundle(path, **settings)
    tiny.change_manifest(path, lambda manifest: manifest["layout"].pop("smooth_holes"))
    tiny.change_manifest(path, lambda manifest: manifest["layout"].update(fill_levels=levels))
    return ImageDenoiser.load(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_pass_over_holes_is_a_denoising_of_them(tmp_path, dtype):
    model = with_passes(tmp_path / "passes", [20, 2.5])
    image = picture((60, 72, 3), dtype)
    hole = np.zeros((60, 72), bool)
    hole[20:30, 33:41] = True
    hole[50] = True
    expected = smooth_fill(image, hole)
    for level in (20, 2.5):
        expected[hole] = model.denoise(expected, strength=level)[hole]
    filled = model.fill(image, hole)
    np.testing.assert_array_equal(filled, expected)
    np.testing.assert_array_equal(filled[~hole], image[~hole])


def test_passes_over_holes_leave_no_seams(tmp_path):
    image, hole = picture((70, 150, 3)), np.zeros((70, 150), bool)
    hole[30:34] = hole[:, 62:66] = True
    tiled = with_passes(tmp_path / "tiled", [9, 3], tile=32)
    whole = with_passes(tmp_path / "whole", [9, 3])
    np.testing.assert_array_equal(tiled.fill(image, hole), whole.fill(image, hole))


@pytest.mark.parametrize("shape", SHAPES)
def test_passes_over_holes_keep_shape_and_transparency(tmp_path, shape):
    model = with_passes(tmp_path / "passes", [9, 3])
    image, hole = picture(shape), np.zeros(shape[:2], bool)
    hole[0, 1:3] = True
    found = model.fill(image, hole)
    assert found.shape == shape and found.dtype == np.uint8
    np.testing.assert_array_equal(found[~hole], image[~hole])
    if len(shape) == 3:
        np.testing.assert_array_equal(found[..., 3:], image[..., 3:])


@pytest.mark.parametrize("levels", [0, None, [0], [-1], [256], [True], ["9"], {"a": 1}, [1] * 65])
def test_passes_that_a_manifest_may_not_ask_for_are_refused(tmp_path, levels):
    with pytest.raises(BundleError, match="layout.fill_levels is"):
        with_passes(tmp_path / "bad", levels)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_model_that_does_not_add_to_smooth_holes_is_not_asked(tmp_path, shape):
    path = tiny.tiny_image_denoiser_bundle(tmp_path / "old")
    tiny.change_manifest(path, lambda manifest: manifest["layout"].pop("smooth_holes"))
    model = ImageDenoiser.load(path)
    image = np.full(shape, 90, np.uint8)
    hole = np.zeros(shape[:2], bool)
    hole[0, 1:3] = True
    damaged = image.copy()
    damaged[hole] = 0
    if len(shape) == 3 and shape[2] == 4:
        damaged[..., 3] = image[..., 3]
    with model.graphs["denoiser"].watched() as runs:
        np.testing.assert_array_equal(model.fill(damaged, hole), image)
    assert runs == []


def test_tiles_without_a_hole_are_not_run(tmp_path):
    model = ImageDenoiser.load(tiny.tiny_image_denoiser_bundle(tmp_path / "tiles", tile=32))
    hole = np.zeros((96, 96), bool)
    hole[40, 40] = True
    with model.graphs["denoiser"].watched() as runs:
        model.fill(picture((96, 96, 3)), hole)
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        ([1, 2], TypeError, "image is list, expected a uint8 or uint16 array"),
        (np.zeros((8, 8, 3), np.float32), TypeError, "dtype float32, expected uint8 or uint16"),
        (np.zeros((8, 8, 2), np.uint8), ValueError, "shape"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, "at least one pixel"),
    ],
)
def test_what_is_no_image_is_refused(blur, image, error, words):
    for call in (blur.denoise, blur.noise_level, lambda x: blur.fill(x, np.zeros((8, 8), bool))):
        with pytest.raises(error, match=words):
            call(image)


@pytest.mark.parametrize(
    ("strength", "error"),
    [
        (-1, ValueError),
        (61, ValueError),
        (float("nan"), ValueError),
        ("much", TypeError),
        ("25", TypeError),
    ],
)
def test_a_strength_out_of_range_is_refused(blur, strength, error):
    with pytest.raises(error, match="strength is .*, expected (0 to 60|None or a number)"):
        blur.denoise(np.zeros((8, 8, 3), np.uint8), strength=strength)


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        (np.zeros((8, 8), np.uint8), TypeError, "mask is dtype uint8, expected a bool array"),
        ([[True]], TypeError, "mask is list, expected a bool array"),
        (np.zeros((8, 9), bool), ValueError, r"mask has shape \(8, 9\), expected \(8, 8\)"),
        (np.ones((8, 8), bool), ValueError, "mask is True everywhere"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(blur, mask, error, words):
    with pytest.raises(error, match=words):
        blur.fill(np.zeros((8, 8, 3), np.uint8), mask)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("stride", 0, "stride is 0"),
        ("tile", 100, "tile is 100, expected a multiple of 8"),
        ("tile", 1 << 20, "tile is 1048576"),
        ("halo", 3, "halo is 3, expected a multiple of 8"),
        ("level_stride", 3, "level_stride is 3, expected a divisor of 8"),
        ("highest_level", "60", "highest_level is '60'"),
        ("halo", None, "halo is None"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_by_name(tmp_path, key, value, words):
    path = tiny.tiny_image_denoiser_bundle(tmp_path / "odd")
    tiny.change_manifest(path, lambda manifest: manifest["layout"].update({key: value}))
    with pytest.raises(BundleError, match=words):
        ImageDenoiser.load(path)


def test_a_graph_of_other_ports_is_refused(tmp_path):
    path = tiny.tiny_image_denoiser_bundle(tmp_path / "swapped")

    def swap(manifest):
        graphs = manifest["graphs"]
        graphs["denoiser"], graphs["estimator"] = graphs["estimator"], graphs["denoiser"]

    tiny.change_manifest(path, swap)
    with pytest.raises(BundleError, match="expected float32 images of 3, 1, 1 channels"):
        ImageDenoiser.load(path)


def test_a_denoiser_of_sound_is_refused(tmp_path):
    path = tiny.tiny_denoiser_bundle(tmp_path / "sound")
    with pytest.raises(BundleError, match="denoiser of 'audio', expected 'image'"):
        ImageDenoiser.load(path)


def test_load_gives_an_image_denoiser_and_it_pickles(tmp_path):
    path = tiny.tiny_image_denoiser_bundle(tmp_path / "door")
    model = edgeae.load(path)
    assert type(model) is ImageDenoiser
    image = picture((20, 20, 3))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.denoise(image), model.denoise(image))
    assert "tiny-blur" in repr(model) and model.report()["name"] == "tiny-blur"


# --- the model that ships -----------------------------------------------------------------------


@needs_bundle
@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_the_shipped_model_removes_noise_told_and_blind(shipped, sigma):
    clean = scene()
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    noisy = np.rint((clean + noise).clip(0, 255)).astype(np.uint8)
    before = psnr_db(clean, noisy)
    told = psnr_db(clean, shipped.denoise(noisy, strength=sigma))
    blind = psnr_db(clean, shipped.denoise(noisy))
    assert told > before + 5
    assert blind > told - 1


@needs_bundle
def test_the_shipped_model_leaves_a_clean_picture_nearly_alone(shipped):
    clean = scene()
    assert shipped.noise_level(clean).mean() < 4
    assert psnr_db(clean, shipped.denoise(clean)) > 34


@needs_bundle
def test_the_shipped_model_fills_better_than_the_mean_around(shipped):
    clean = scene()
    hole = np.zeros(clean.shape[:2], bool)
    hole[::12] = True
    hole[:, 100:103] = True
    damaged = clean.copy()
    damaged[hole] = 0
    filled = shipped.fill(damaged, hole)
    np.testing.assert_array_equal(filled[~hole], clean[~hole])
    flat = np.broadcast_to(clean[~hole].mean(axis=0).astype(np.uint8), clean[hole].shape)
    error = np.square(filled[hole].astype(float) - clean[hole]).mean()
    assert error < np.square(flat.astype(float) - clean[hole]).mean() / 4


@needs_bundle
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_shipped_model_has_no_seams(precision):
    model = ImageDenoiser.load("photo-denoiser", precision=precision)
    noisy = np.random.default_rng(0).normal(0, 20, (200, 264, 3)) + scene()
    image = np.rint(noisy.clip(0, 255)).astype(np.uint8)
    hole = np.zeros(image.shape[:2], bool)
    hole[60:140, 60:64] = True
    whole = model.denoise(image), model.fill(image, hole)
    model._spec = dataclasses.replace(model._spec, tile=64)
    for one, other in zip(whole, (model.denoise(image), model.fill(image, hole)), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
        assert (one != other).mean() < 1e-3


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 1), (15, 4), (40, 24)])
def test_the_smallest_photo_can_be_timed(tmp_path, blur, size):
    media.write_image(tmp_path / "a.png", picture((*size, 3)))
    found = workloads(blur, source=tmp_path / "a.png")
    assert [workload.name for workload in found] == ["denoise", "fill"][: 2 if size[0] > 1 else 1]
    for workload in found:
        with blur.graphs["denoiser"].watched() as runs:
            workload.call()
        assert runs
