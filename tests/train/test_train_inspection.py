"""The detector of defects in images: made defects, what is held back, the way to a bundle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from train.config import config_from_dict
from train.image.data import made_images
from train.inspection.data import InspectionData, inside, read_good, surrounded
from train.inspection.defects import KINDS, with_defect
from train.inspection.mixture import fitted
from train.inspection.network import MAP_STRIDE, REACH, STRIDE, InspectionNetwork, Inspector
from train.inspection.recipe import InspectionRecipe
from train.loop import train

pytestmark = pytest.mark.usefixtures("one_thread")


def smoke(**data):
    return config_from_dict(
        {
            "name": "smoke",
            "task": "image-detector",
            "network": {"clusters": 8, "components": 16},
            "data": {"folders": ["synthetic"], "crop_pixels": 64, **data},
            "loss": {},
            "optimize": {
                "steps": 2,
                "batch_size": 2,
                "learning_rate": 3e-3,
                "precision": "float32",
            },
            "validate": {"every_steps": 2},
        }
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_made_defect_is_where_it_says_and_nowhere_else(kind, channels):
    images = [p.astype(np.float32)[:, :, :channels] / 255 for p in made_images(2)]
    areas = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        changed, where = with_defect(*images, rng, kind)
        assert changed.shape == images[0].shape and changed.dtype == np.float32
        assert where.shape == changed.shape[:2] and set(np.unique(where)) <= {0, 1}
        assert changed.min() >= 0 and changed.max() <= 1
        off = np.abs(changed - images[0]).mean(axis=2)
        if where.any() and not where.all():
            assert off[where > 0].mean() > 3 * off[where == 0].mean()
        areas.append(where.mean())
        again = with_defect(*images, np.random.default_rng(seed), kind)
        np.testing.assert_array_equal(again[0], changed)
    assert max(areas) > 0


def test_a_part_of_the_images_is_held_back(tmp_path):
    for i, image in enumerate(made_images(10)):
        Image.fromarray(image[:, :, i % 3]).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    good = read_good(InspectionData(folders=(str(tmp_path),), held_out=0.3))
    assert (len(good.training), len(good.held)) == (7, 3) and list(good.skipped) == ["broken.png"]
    assert all(p.shape == (256, 256, 1) for p in good.training)
    for held in good.held:
        assert not any(np.array_equal(held, kept) for kept in good.training)
    with pytest.raises(
        ValueError, match="0 good images .* found in no folders, expected at least 4"
    ):
        read_good(InspectionData())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"crop_pixels": 60}, "crop_pixels is 60, expected a multiple of 16"),
        ({"false_alarm_rate": 0.0}, "false_alarm_rate is 0.0"),
        ({"held_out": 1.0}, "held_out is 1.0"),
    ],
)
def test_data_that_cannot_be_are_refused(data, words):
    with pytest.raises(ValueError, match=words):
        InspectionData(**data)


def inspector(**sizes):
    """A detector with the features of the photo codec, fitted to noise in three grays."""
    network = Inspector(InspectionNetwork(**{"clusters": 2, "components": 16, **sizes})).eval()
    network.take_features()
    rng = np.random.default_rng(0)
    good = [0.5 + 0.1 * rng.standard_normal((64, 64, 1), np.float32) for _ in range(3)]
    with torch.no_grad():
        found = [inside(network.features(surrounded(p)))[0].flatten(1).T.numpy() for p in good]
    network.take(fitted(np.concatenate(found), clusters=1, components=16))
    return network, good[0]


def test_what_is_too_rough_is_strange():
    network, good = inspector()
    bad = good.copy()
    bad[24:40, 24:40] = 0.5 + 3 * (bad[24:40, 24:40] - 0.5)
    with torch.no_grad():
        usual, found = (inside(network(surrounded(p)))[0, 0] for p in (good, bad))
    assert found[3:5, 3:5].min() > usual.max()


def test_half_of_the_light_changes_little():
    network, good = inspector()
    with torch.no_grad():
        full, half = (inside(network.features(surrounded(p))) for p in (good, 0.5 * good))
        other = inside(network.features(surrounded(good[::-1])))
    assert (full - half).abs().mean() < 0.25 * (full - other).abs().mean()


def test_a_mixture_is_nearest_where_it_was_fitted():
    rng = np.random.default_rng(0)
    middles = np.array([[4.0, 0, 0], [-4, 0, 0]])
    shapes = np.array([[1, 0.1, 1], [0.1, 1, 1]])
    member = rng.integers(2, size=3000)
    points = (middles[member] + shapes[member] * rng.standard_normal((3000, 3))).astype(np.float32)
    mixture = fitted(points, clusters=2, components=3)
    assert mixture.weight.shape == (2, 3, 3) and mixture.bias.shape == (2, 3)
    distances = mixture.distances(points)
    assert distances.min() == pytest.approx(mixture.lowest, abs=1e-2)
    far = np.array([[4, 1, 0], [-4, 0, 0], [0, 0, 0]], np.float32)
    strange, usual, between = mixture.distances(far)
    # One is ten standard deviations of its cluster away, of all together less than two.
    assert strange > usual + 30 and between > usual + 5
    one = fitted(points, clusters=1, components=3).distances(far)
    assert one[0] < one[1] + 10


def test_the_mixture_in_the_network_is_the_mixture():
    rng = np.random.default_rng(0)
    network = Inspector(InspectionNetwork(clusters=3, components=20)).eval()
    network.take_features()
    pixels = torch.from_numpy(rng.random((1, 3, 64, 64), np.float32))
    with torch.no_grad():
        features = network.features(pixels)[0].flatten(1).T.numpy()
        mixture = fitted(features, clusters=2, components=20)
        network.take(mixture)
        found = network.strangeness(pixels)
    far = np.log(np.maximum(mixture.distances(features) - mixture.lowest, 0) + 1).reshape(8, 8)
    wide = np.pad(far, 8, mode="edge")
    around = [[wide[i : i + 17, j : j + 17].mean() for j in range(8)] for i in range(8)]
    np.testing.assert_allclose(found[0, 0].numpy(), far - around, atol=2e-2)


@pytest.mark.parametrize("sizes", [{"clusters": 0}, {"components": 129}])
def test_sizes_that_cannot_be_are_refused(sizes):
    with pytest.raises(ValueError, match="expected 1 to"):
        InspectionNetwork(**sizes)


def test_the_network_sees_no_further_than_its_reach():
    network, _ = inspector()
    halo = -(-REACH // STRIDE) * STRIDE
    side = 2 * halo + 2 * STRIDE
    pixels = torch.rand(1, 3, side, side)
    kept = slice(halo // MAP_STRIDE, (side - halo) // MAP_STRIDE)
    with torch.no_grad():
        before = network(pixels)
        for part in (slice(0, 1), slice(side - 1, side)):
            other = pixels.clone()
            other[:, :, part] = 1 - other[:, :, part]
            after = network(other)
            assert not torch.equal(after, before)
            torch.testing.assert_close(after[:, :, kept], before[:, :, kept], rtol=0, atol=1e-5)


def test_the_scale_is_learned():
    recipe = InspectionRecipe(smoke(), torch.device("cpu"))
    recipe.start()
    batch = recipe.batch(np.random.default_rng(0))
    assert batch[0].shape == (2, 3, 64, 64) and batch[1].shape == (2, 1, 8, 8)
    learned = [p for p in recipe.network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=5e-2)
    losses = []
    for step in range(20):
        loss, parts = recipe.loss(recipe.network, batch, step)
        assert set(parts) == {"entropy", "overlap"}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert set(recipe.validate(recipe.network)) == {"area", "score"}


def test_clusters_are_taken_where_they_find_more(monkeypatch):
    recipe = InspectionRecipe(smoke(), torch.device("cpu"))
    taken = []
    monkeypatch.setattr(
        recipe, "_fit", lambda features, count: taken.append((len(features), count))
    )
    recipe.good.training[:] = (recipe.good.training * 3)[:16]
    for areas, best in (({1: 0.6, 8: 0.7}, 8), ({1: 0.7, 8: 0.7}, 1)):
        monkeypatch.setattr(recipe, "_area", lambda *_, areas=areas: areas[taken[-1][1]])
        taken.clear()
        recipe.start()
        assert taken == [(12, 1), (12, 8), (16, best)]


def test_two_runs_of_one_seed_are_one(tmp_path):
    first, second = (train(smoke(), tmp_path / name) for name in ("one", "two"))
    for name, value in first["averaged"].items():
        torch.testing.assert_close(value, second["averaged"][name], rtol=0, atol=0)
    # The score is made of ranks, which two seeds may share; weights they do not.
    other = train(dataclasses.replace(smoke(), seed=1), tmp_path / "three")["averaged"]
    assert any(not torch.equal(value, other[name]) for name, value in first["averaged"].items())
