"""The detector of images: a number and a map for any size, a flag, and refusals."""

from __future__ import annotations

import pickle

import image_detectors
import numpy as np
import pytest
import tiny

import edgeae
from edgeae.bench.image_detector import self_test, typical_runs, workloads
from edgeae.errors import BundleError
from edgeae.image.detector import ImageDetector


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    return ImageDetector.load(image_detectors.brightness(tmp_path_factory.mktemp("bright")))


def dark(shape, dtype=np.uint8):
    return np.full(shape, np.iinfo(dtype).max // 5, dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "shape", [(40, 56), (40, 56, 1), (41, 59, 3), (33, 60, 4), (1, 1), (5, 90)]
)
def test_every_image_has_a_score_and_a_map_of_its_size(watch, shape, dtype):
    image = dark(shape, dtype)
    before = image.copy()
    found = watch.score(image)
    assert found.map.shape == shape[:2] and found.map.dtype == np.float32
    assert np.isfinite(found.map).all() and isinstance(found.score, float)
    np.testing.assert_array_equal(image, before)


def test_the_score_is_the_mean_of_the_strongest_and_the_map_says_where(watch):
    image = dark((80, 120))
    image[40:52, 60:72] = 255
    found = watch.score(image)
    top, left = np.unravel_index(found.map.argmax(), found.map.shape)
    assert 40 <= top < 52 and 60 <= left < 72
    each_square_once = found.map[::4, ::4].ravel()
    assert found.score == pytest.approx(np.sort(each_square_once)[-3:].mean())
    assert watch.flag(image) and not watch.flag(dark((80, 120)))
    assert not watch.flag(image, threshold=2) and watch.flag(dark((80, 120)), threshold=0)


def test_sixteen_bits_and_gray_say_the_same(watch):
    image = np.random.default_rng(0).integers(0, 255, (40, 56), np.uint8)
    score = watch.score(image).score
    assert watch.score(image.astype(np.uint16) * 257).score == pytest.approx(score, abs=1e-6)
    assert watch.score(image[:, :, None].repeat(3, axis=2)).score == pytest.approx(score, abs=1e-6)
    opaque = np.dstack([image, image, image, 255 - image])
    assert watch.score(opaque).score == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize("size", [(70, 150), (33, 33)])
@pytest.mark.parametrize("tile", [32, 40])
def test_tiles_leave_no_seams(tmp_path, watch, size, tile):
    tiled = ImageDetector.load(image_detectors.brightness(tmp_path / "tiled", tile=tile))
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    whole, parts = watch.score(image), tiled.score(image)
    np.testing.assert_allclose(whole.map, parts.map, atol=1e-6)
    assert whole.score == pytest.approx(parts.score, abs=1e-6)


def test_padding_does_not_count(watch):
    # 8 x 8 squares would reach beyond: what is repeated there is bright, and is no part of it.
    image = dark((40, 41))
    image[:, 40] = 255
    assert watch.score(image).map.shape == (40, 41)
    assert watch.score(image[:, :40]).score < 0.21


def test_the_mirror_image_is_seen_and_the_margin_counts_for_nothing(tmp_path):
    path = tmp_path / "mirrored"
    watch = ImageDetector.load(image_detectors.brightness(path, layout={"mirror": 16, "margin": 8}))
    plain = ImageDetector.load(image_detectors.brightness(tmp_path / "plain"))
    image = dark((43, 61))
    # Zeros around a white image make its edges darker, its mirror image does not.
    white = np.full((43, 61), 255, np.uint8)
    assert plain.score(white).map.min() < 0.7 and watch.score(white).map.min() > 0.99
    image[:8] = 255
    seen = watch.score(image)
    assert seen.map.shape == image.shape and seen.score < 0.5 < plain.score(image).score
    assert seen.map[:8].max() == seen.map[8:].min()
    small = np.full((9, 12), 255, np.uint8)
    assert watch.score(small).score > 0.99 and watch.score(small).map.shape == (9, 12)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        ([1, 2], TypeError, "image is list, expected a uint8 or uint16 array"),
        (np.zeros((8, 8, 3), np.float32), TypeError, "dtype float32, expected uint8 or uint16"),
        (np.zeros((8, 8, 2), np.uint8), ValueError, "shape"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, "at least one pixel"),
    ],
)
def test_what_is_no_image_is_refused(watch, image, error, words):
    for call in (watch.score, watch.flag):
        with pytest.raises(error, match=words):
            call(image)


def test_a_threshold_that_is_no_number_is_refused(watch):
    with pytest.raises(ValueError, match="threshold is nan, expected a finite number"):
        watch.flag(dark((8, 8)), threshold=float("nan"))


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("layout", "stride", 0, "layout.stride is 0"),
        ("layout", "map_stride", 3, "layout.map_stride is 3, expected a divisor of 8"),
        ("layout", "map_stride", None, "layout.map_stride is None"),
        ("layout", "tile", 100, "layout.tile is 100, expected .* and a multiple of 8"),
        ("layout", "halo", -8, "layout.halo is -8"),
        ("detection", "strongest", 0, "detection.strongest is 0"),
        ("detection", "strongest", True, "detection.strongest is True"),
        ("detection", "threshold", "0", "detection.threshold is '0', expected a finite number"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused_by_name(tmp_path, section, key, value, words):
    path = image_detectors.brightness(tmp_path / "odd", **{section: {key: value}})
    with pytest.raises(BundleError, match=words):
        ImageDetector.load(path)


def test_a_graph_of_other_ports_is_refused(tmp_path):
    path = image_detectors.brightness(tmp_path / "ports")
    tiny.replace_graph(path, tiny.relu_model().SerializeToString(), "map")
    with pytest.raises(BundleError, match="expected a float32 image of 3 channels"):
        ImageDetector.load(path)


def test_load_goes_through_the_door_and_it_pickles(tmp_path):
    path = image_detectors.brightness(tmp_path / "door")
    model = edgeae.load(path)
    assert type(model) is ImageDetector and type(model) is edgeae.ImageDetector
    image = dark((20, 20))
    again = pickle.loads(pickle.dumps(model))
    assert again.score(image).score == model.score(image).score
    assert "brightness" in repr(model) and model.report()["name"] == "brightness"
    assert model.threshold == 0.5


def test_a_detector_of_series_and_other_tasks_are_refused(tmp_path):
    import detectors

    with pytest.raises(BundleError, match="detector of 'signal', expected 'image'"):
        ImageDetector.load(detectors.squares(tmp_path / "squares"))
    with pytest.raises(BundleError, match="is a denoiser, expected a detector"):
        ImageDetector.load(tiny.tiny_image_denoiser_bundle(tmp_path / "blur"))


def test_it_is_verified_and_timed_like_any_other(watch):
    assert "an image is scored, pixel by pixel, in 8 bits as in 16" in list(self_test(watch))
    (score,) = workloads(watch)
    assert score.unit == "megapixel" and np.isfinite(score.call().score)
    assert typical_runs(watch, size=(64, 96)) == 1
