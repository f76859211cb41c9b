"""The photo denoiser in training: what is done to pictures, how far the network sees, how it
learns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgeae.image import interpolation
from train.config import Config, config_from_dict
from train.denoiser.damage import Damage, damaged, hole_mask
from train.denoiser.interpolation import smooth_fill
from train.denoiser.network import (
    LEVEL_REACH,
    LEVEL_STRIDE,
    DenoiserNetwork,
    PhotoDenoiser,
    spread_level,
)
from train.denoiser.recipe import DenoiserRecipe
from train.image.data import made_images
from train.loop import train
from train.muon import Muon, orthogonal

SIZES = [
    DenoiserNetwork(channels=(8, 8, 8), blocks=(1, 1, 2), level_channels=8),
    DenoiserNetwork(channels=(8, 8), blocks=(0, 1), level_channels=8, smooth_holes=True),
]


CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def smoke(**optimize) -> Config:
    return config_from_dict(
        {
            "name": "smoke",
            "task": "photo-denoiser",
            "network": {"channels": [16, 16], "blocks": [1, 1], "level_channels": 8},
            "data": {"folders": ["synthetic"], "crop_pixels": 64, "held_out": 2},
            "loss": {},
            "optimize": {
                "steps": 6,
                "batch_size": 2,
                "learning_rate": 2e-3,
                "precision": "float32",
                **optimize,
            },
            "validate": {"every_steps": 6},
        }
    )


def lively(network):
    """The network with no layer at zero, so that everything that it sees matters."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
        else:
            torch.nn.init.constant_(parameter, 0.5)
    return network.eval()


@pytest.mark.parametrize("config", SIZES)
def test_a_new_network_changes_nothing(config):
    network = PhotoDenoiser(config)
    pixels = torch.rand(1, 3, 48, 64)
    ones = torch.ones_like(pixels[:, :1])
    with torch.no_grad():
        torch.testing.assert_close(network.restore(pixels, 0.1 * ones, ones), pixels)


@pytest.mark.parametrize("config", SIZES)
def test_the_network_sees_no_further_than_its_reach(config):
    """What lies beyond does not matter, so tiles with such a halo leave no seams."""
    network, stride = lively(PhotoDenoiser(config)), config.stride
    halo = -(-config.reach // stride) * stride
    side = 2 * halo + 4 * stride
    pixels = torch.rand(1, 3, side, side)
    ones = torch.ones_like(pixels[:, :1])
    inner = slice(halo, side - halo)
    with torch.no_grad():
        before = network.restore(pixels, 0.1 * ones, ones)
        for part in (slice(0, 1), slice(side - 1, side)):
            other = pixels.clone()
            other[:, :, part] = 1 - other[:, :, part]
            after = network.restore(other, 0.1 * ones, ones)
            assert not torch.equal(after, before)
            assert torch.equal(after[:, :, inner], before[:, :, inner])


def test_the_estimator_sees_no_further_than_its_reach():
    estimator = lively(PhotoDenoiser(SIZES[0])).estimator
    pixels = torch.rand(1, 3, 96, 96)
    halo = -(-(LEVEL_REACH + LEVEL_STRIDE) // LEVEL_STRIDE)
    with torch.no_grad():
        before = estimator(pixels)
        pixels[:, :, 0] = 1 - pixels[:, :, 0]
        after = estimator(pixels)
    assert not torch.equal(after, before)
    assert torch.equal(after[:, :, halo:], before[:, :, halo:])


def test_what_a_hole_holds_does_not_matter():
    network = lively(PhotoDenoiser(SIZES[0]))
    pixels = torch.rand(1, 3, 32, 32)
    known = torch.ones_like(pixels[:, :1])
    known[:, :, 10:20, 10:20] = 0
    other = torch.where(known > 0, pixels, 1 - pixels)
    with torch.no_grad():
        one, two = (network.restore(p, 0 * known, known) for p in (pixels, other))
    assert torch.equal(one, two)


def test_a_network_of_smooth_holes_begins_with_them():
    network = PhotoDenoiser(SIZES[1])
    pixels, known = torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32)
    known[:, :, 10:20, 10:20] = 0
    seen = smooth_fill(pixels, known)
    with torch.no_grad():
        found = network.restore(seen, 0 * known, known)
        torch.testing.assert_close(found, seen)
        # What is a hole is told apart from what is known.
        one, other = (lively(network).restore(seen, 0 * known, k) for k in (known, known * 0 + 1))
    assert not torch.equal(one, other)


def test_a_wider_network_begins_as_the_narrower_one():
    narrow = PhotoDenoiser(DenoiserNetwork(channels=(8, 8), blocks=(1, 1), level_channels=8))
    wide = PhotoDenoiser(
        DenoiserNetwork(channels=(12, 10), blocks=(1, 1), inner=14, level_channels=8)
    )
    lively(narrow)
    wide.load_state_dict(wide.widened(narrow.state_dict()))
    pixels, known = torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            wide.restore(pixels, 0.1 * known, known), narrow.restore(pixels, 0.1 * known, known)
        )
    # What is new learns from the first step on.
    wide.restore(pixels, 0.1 * known, known).square().sum().backward()
    assert wide.leave.weight.grad[:, 8:].any() and wide.down[0].weight.grad[:8, 8:].any()


def test_of_too_many_channels_inside_a_block_the_least_go():
    sizes = DenoiserNetwork(channels=(8, 8), blocks=(1, 1), level_channels=8)
    whole, part = PhotoDenoiser(sizes), PhotoDenoiser(dataclasses.replace(sizes, inner=6))
    block = lively(whole).down_blocks[1][0]
    with torch.no_grad():
        block.second.weight[:, [1, 4]] = 0
    part.load_state_dict(part.widened(whole.state_dict()))
    pixels, known = torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            part.restore(pixels, 0 * known, known), whole.restore(pixels, 0 * known, known)
        )


def test_training_and_package_fill_holes_alike():
    rng = np.random.default_rng(0)
    for height, width in ((40, 57), (128, 128), (1, 9)):
        image = rng.normal(0, 900, (height, width, 3)).cumsum(axis=1) + 30_000
        image = image.clip(0, 65_535).astype(np.uint16)
        hole = rng.random((height, width)) < 0.2
        hole[height // 3 : height // 3 + 30, 5:8] = True
        pixels = torch.from_numpy(image.transpose(2, 0, 1)[None] / np.float32(65_535))
        known = torch.from_numpy(~hole[None, None]).float()
        found = smooth_fill(pixels, known)[0].numpy().transpose(1, 2, 0)
        ours = interpolation.smooth_fill(image, hole) / np.float32(65_535)
        np.testing.assert_allclose(found, ours, atol=2e-4)
        np.testing.assert_array_equal(found[~hole], ours[~hole])


def test_a_batch_with_holes_has_smooth_ones():
    config = smoke()
    damage = Damage(holes=1.0, clean_holes=1.0)
    network = dataclasses.replace(config.network, smooth_holes=True)
    data = dataclasses.replace(config.data, damage=damage)
    recipe = DenoiserRecipe(dataclasses.replace(config, network=network, data=data), CPU)
    clean, pixels, level, known, *_ = recipe.batch(np.random.default_rng(0))
    assert (known == 0).any() and (level == 0).all()
    hole = (known == 0).expand_as(pixels)
    assert torch.equal(pixels[~hole], clean[~hole])
    assert not torch.equal(pixels[hole], clean[hole])
    torch.testing.assert_close(pixels, smooth_fill(clean, known))


def test_damage_is_of_the_level_that_is_told():
    picture = made_images(1)[0]
    plain = Damage(sensor=0, camera=0, jpeg=0, holes=0, gray=0)
    for seed in range(12):
        clean, left = damaged(picture, np.random.default_rng(seed), plain)
        assert left.known.all() and left.level.std() < 1e-6
        off = (left.pixels - clean)[(clean > 0.3) & (clean < 0.7)]
        assert off.std() == pytest.approx(left.level.mean(), rel=0.06, abs=2e-3)


@pytest.mark.parametrize("kind", ["sensor", "camera", "jpeg"])
def test_other_damage_is_about_of_the_level_that_is_told(kind):
    picture = made_images(1)[0]
    shares = dict.fromkeys(("sensor", "camera", "jpeg", "holes", "gray"), 0.0) | {kind: 1.0}
    ratios = []
    for seed in range(20):
        clean, left = damaged(picture, np.random.default_rng(seed), Damage(**shares))
        assert left.pixels.shape == clean.shape == (256, 256, 3)
        assert left.pixels.dtype == left.level.dtype == np.float32
        assert left.level.shape == (256, 256) and (left.level >= 0).all()
        if not left.level.any():
            np.testing.assert_allclose(left.pixels, clean, atol=1e-6)
            continue
        ratios.append(np.sqrt(np.square(left.pixels - clean).mean() / np.square(left.level).mean()))
    assert 0.7 < np.median(ratios) < 1.3


def test_gray_pictures_have_the_same_noise_in_all_colors():
    picture = made_images(1)[0]
    only = Damage(sensor=0, camera=0, jpeg=0, holes=0, gray=1)
    clean, left = damaged(picture, np.random.default_rng(0), only)
    for pixels in (clean, left.pixels):
        assert (pixels == pixels[:, :, :1]).all()


def test_holes_are_there_and_leave_enough():
    shares = [hole_mask((128, 128), np.random.default_rng(seed)).mean() for seed in range(60)]
    assert min(shares) > 0 and max(shares) < 0.8
    assert 0.02 < np.mean(shares) < 0.3


def test_more_drawings_hide_more_but_never_nearly_all():
    one, many = (
        [hole_mask((128, 128), np.random.default_rng(seed), n).mean() for seed in range(60)]
        for n in (1, 8)
    )
    assert np.mean(many) > 1.3 * np.mean(one) and max(many) < 0.8


def test_clean_images_with_holes_are_told_that_there_is_no_noise():
    config = smoke(batch_size=8)
    damage = Damage(holes=0.5, clean_holes=1.0)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, damage=damage),
        loss=dataclasses.replace(config.loss, estimated=1.0),
    )
    recipe = DenoiserRecipe(config, CPU)
    *_, known, _, estimated = recipe.batch(np.random.default_rng(0))
    whole = (known == 1).all(dim=3).all(dim=2)[:, 0]
    assert whole.any() and not whole.all()
    assert torch.equal(estimated[:, 0, 0, 0], whole)


def test_levels_are_spread_over_their_squares():
    level = spread_level(torch.tensor([[[[1.0, 2.0]]]]))
    assert level.shape == (1, 1, LEVEL_STRIDE, 2 * LEVEL_STRIDE)
    assert (level[..., :LEVEL_STRIDE] == 1).all() and (level[..., LEVEL_STRIDE:] == 2).all()


@pytest.mark.parametrize("algorithm", ["adamw", "muon"])
def test_a_resumed_run_goes_on_exactly(tmp_path, algorithm):
    config = smoke(algorithm=algorithm, decay_steps=2, warmup_steps=1)
    whole = train(config, tmp_path / "whole")
    first = dataclasses.replace(config, optimize=dataclasses.replace(config.optimize, steps=4))
    # The fall begins when two steps are left: at step 2 of the short run, of the long one at 4.
    first = dataclasses.replace(
        first, optimize=dataclasses.replace(first.optimize, steps=3, decay_steps=1)
    )
    train(first, tmp_path / "parts")
    parts = train(config, tmp_path / "parts", resume=True)
    assert whole["step"] == parts["step"] == 6
    for name, value in whole["network"].items():
        torch.testing.assert_close(value, parts["network"][name], rtol=0, atol=0)


def test_the_loss_falls(tmp_path):
    config = smoke()
    plain = Damage(sensor=0, camera=0, jpeg=0, holes=0)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, damage=plain))
    recipe = DenoiserRecipe(config, torch.device("cpu"))
    batch = recipe.batch(np.random.default_rng(1))
    network, optimizer = recipe.network, Muon(recipe.network.parameters(), lr=3e-3)
    losses = []
    for step in range(25):
        loss, _ = recipe.loss(network, batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.5


def test_a_level_told_too_low_costs_more_than_one_too_high():
    recipe = DenoiserRecipe(smoke(), CPU)
    clean = torch.full((1, 3, 16, 16), 0.5)
    level, known = torch.full((1, 1, 2, 2), 0.1), torch.ones(1, 1, 16, 16)
    batch = (clean, clean, level, known, known[:, :, :1, :1], known[:, :, :1, :1] > 0)
    low, high = (
        recipe.loss(lambda *_, found=level + off: (clean, found), batch, 0) for off in (-0.02, 0.02)
    )
    assert float(low[0] - high[0]) == pytest.approx(20 * 0.02, rel=1e-4)
    assert float(low[1]["level_error"]) == pytest.approx(float(high[1]["level_error"]), rel=1e-4)


@pytest.mark.parametrize("shape", [(24, 24), (16, 90), (70, 20)])
def test_muon_makes_matrices_orthogonal(shape):
    matrix = torch.randn(shape, dtype=torch.float64) * torch.logspace(0, -1.5, shape[1]).double()
    found = torch.linalg.svdvals(orthogonal(matrix))
    assert found.min() > 0.3 and found.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    # The same directions: what is left off the diagonal is nothing.
    inner = u.T @ orthogonal(matrix) @ v.T
    assert (inner - torch.diag(torch.diag(inner))).abs().max() < 1e-6
    assert torch.diag(inner).min() > 0.3


def test_muon_is_adam_for_vectors_and_small_matrices():
    start = torch.randn(5, 4)
    found = []
    for make in (
        Muon,
        lambda p, lr: torch.optim.AdamW(p, lr=lr, betas=(0.9, 0.99), weight_decay=0),
    ):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = make([parameter], lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            (parameter - 1).square().sum().backward()
            optimizer.step()
        found.append(parameter.detach())
    torch.testing.assert_close(*found)
