"""The detector of defects in images: made defects, what is held back, the way to a bundle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from train.config import config_from_dict
from train.image.data import made_images
from train.inspection.data import InspectionData, read_good
from train.inspection.defects import KINDS, with_defect
from train.inspection.network import REACH, STRIDE, InspectionNetwork, Inspector
from train.inspection.recipe import InspectionRecipe
from train.loop import train


@pytest.fixture(autouse=True)
def _quiet_torch():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def smoke(**data):
    return config_from_dict(
        {
            "name": "smoke",
            "task": "image-detector",
            "network": {"hidden": 8},
            "data": {"folders": ["synthetic"], "crop_pixels": 64, **data},
            "loss": {},
            "optimize": {
                "steps": 4,
                "batch_size": 2,
                "learning_rate": 3e-3,
                "precision": "float32",
            },
            "validate": {"every_steps": 4},
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


def test_what_is_too_smooth_and_what_is_too_rough_are_both_unusual():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(0.5, 0.1, (6, 1, 64, 64)).astype(np.float32))
    network = Inspector(InspectionNetwork(hidden=4))
    network.start([p[None].expand(1, 3, -1, -1) for p in images])
    mean, spread = network.mean[:, None, None], network.spread[:, None, None]

    def unusual(pixels):
        return ((network.measures(pixels) - mean) / spread)[0, 0, 4:12, 4:12].mean()

    good = images[:1].expand(1, 3, -1, -1)
    smooth, rough = 0.5 + 0.3 * (good - 0.5), 0.5 + 2 * (good - 0.5)
    assert abs(unusual(good)) < 1 and unusual(smooth) < -3 and unusual(rough) > 3


def test_the_network_sees_no_further_than_its_reach():
    network = Inspector(InspectionNetwork(hidden=4)).eval()
    halo = -(-REACH // STRIDE) * STRIDE
    side = 2 * halo + 2 * STRIDE
    pixels = torch.rand(1, 3, side, side)
    inner = slice(halo // 4, (side - halo) // 4)
    with torch.no_grad():
        before = network(pixels)
        for part in (slice(0, 1), slice(side - 1, side)):
            other = pixels.clone()
            other[:, :, part] = 1 - other[:, :, part]
            after = network(other)
            assert not torch.equal(after, before)
            torch.testing.assert_close(after[:, :, inner], before[:, :, inner], rtol=0, atol=1e-5)


def test_the_loss_falls_and_made_defects_are_found():
    recipe = InspectionRecipe(smoke(), torch.device("cpu"))
    recipe.start()
    batch = recipe.batch(np.random.default_rng(0))
    assert batch[0].shape == (2, 3, 64, 64) and batch[1].shape == (2, 1, 16, 16)
    optimizer = torch.optim.AdamW(recipe.network.parameters(), lr=1e-2)
    losses = []
    for step in range(30):
        loss, parts = recipe.loss(recipe.network, batch, step)
        assert set(parts) == {"entropy", "overlap"}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_two_runs_of_one_seed_are_one(tmp_path):
    first, second = (train(smoke(), tmp_path / name) for name in ("one", "two"))
    for name, value in first["averaged"].items():
        torch.testing.assert_close(value, second["averaged"][name], rtol=0, atol=0)
    changed = dataclasses.replace(smoke(), seed=1)
    assert train(changed, tmp_path / "three")["best"] != first["best"]
