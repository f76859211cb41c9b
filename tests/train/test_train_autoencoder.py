"""Autoencoders in training: data of any form, a start from principal components, honest losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from train.autoencoder.data import AutoencoderData, augment, read_items
from train.autoencoder.loss import (
    AutoencoderLoss,
    autoencoder_loss,
    corrupt,
    jacobian_norm,
    kl_divergence,
)
from train.autoencoder.network import Autoencoder, AutoencoderNetwork

SHAPES = {"dense": (7,), "conv1d": (21, 3), "conv2d": (11, 9, 2)}


def network(kind="dense", **sizes):
    torch.manual_seed(0)
    hidden = sizes.pop("hidden", (8, 12))
    config = AutoencoderNetwork(network=kind, latent=sizes.pop("latent", 4), hidden=hidden, **sizes)
    return Autoencoder(config, SHAPES[kind])


def data(kind, count=60):
    """Correlated items in units of their own."""
    rng = np.random.default_rng(0)
    size = math.prod(SHAPES[kind])
    mixed = rng.normal(size=(count, 5)) @ rng.normal(size=(5, size))
    items = 100 + 7 * (mixed + 0.1 * rng.normal(size=(count, size)))
    return torch.from_numpy(items.reshape(count, *SHAPES[kind]).astype(np.float32))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_it_begins_as_principal_components(kind, masked):
    one, x = network(kind, masked=masked), data(kind)
    one.start_linear(x, torch.ones_like(x))
    normal = one.normalize(x).flatten(1).double()
    normal = normal - normal.mean(0)
    values = torch.linalg.svdvals(normal)
    expected = float(values[4:].square().sum() / normal.numel())
    with torch.no_grad():
        error = float((one.normalize(one(x)[0]) - one.normalize(x)).square().mean())
    assert error == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", SHAPES)
def test_shapes_of_latents_and_items(kind):
    one, x = network(kind), data(kind)
    latents, variance = one.encode(x)
    assert latents.shape == (60, 4) and variance is None
    assert one.decode(latents).shape == x.shape


def test_a_relu_code_begins_with_both_halves_of_each_component():
    one, x = network(latent_activation="relu", latent=10), data("dense")
    one.start_linear(x, torch.ones_like(x))
    with torch.no_grad():
        latents, _ = one.encode(x)
        error = (one.normalize(one(x)[0]) - one.normalize(x)).square().mean()
    assert float(latents.min()) == 0
    # Five components are all there is but noise.
    assert float(error) < 0.01


def test_a_k_sparse_code_has_k_active_units():
    one, x = network(latent_activation="relu", latent=8, active=2), data("dense")
    one.start_linear(x, torch.ones_like(x))
    latents, _ = one.encode(x)
    assert int((latents > 0).sum(1).max()) <= 2


def test_what_is_not_known_does_not_reach_the_latents():
    one, x = network(masked=True), data("dense")
    torch.nn.init.normal_(one.encoder.leave.weight)
    known = (torch.rand_like(x) < 0.5).float()
    spoiled = torch.where(known > 0, x, torch.full_like(x, math.nan))
    np.testing.assert_array_equal(
        one.encode(spoiled, known)[0].detach(), one.encode(x, known)[0].detach()
    )


def test_the_exact_contractive_penalty_is_the_jacobian_and_the_estimate_agrees():
    one, x = network(), data("dense", 6)
    one.start_linear(x, torch.ones_like(x))
    torch.nn.init.normal_(one.encoder.leave.weight, std=0.3)
    shown = x.clone().requires_grad_()
    latents, _ = one.encode(shown)
    exact = float(jacobian_norm(shown, latents, one.get_buffer("scale"), True).detach())
    jacobians = torch.func.vmap(torch.func.jacrev(lambda v: one.encode(v[None])[0][0]))(x)
    want = float((jacobians.detach() * one.get_buffer("scale")).square().sum((1, 2)).mean())
    assert exact == pytest.approx(want, rel=1e-4)
    estimates = [
        float(jacobian_norm(shown, latents, one.get_buffer("scale"), False).detach())
        for _ in range(400)
    ]
    assert np.mean(estimates) == pytest.approx(want, rel=0.15)


def test_kl_is_zero_at_the_prior_and_free_bits_are_free():
    zeros = torch.zeros(5, 3)
    assert float(kl_divergence(zeros, zeros)) == 0
    assert float(kl_divergence(zeros, zeros, 0.5)) == pytest.approx(3 * 0.5 * 0.6931)
    assert float(kl_divergence(zeros + 2, zeros)) == pytest.approx(6)


def test_the_prior_warms_up():
    one, x = network(variational=True), data("dense")
    one.start_linear(x, torch.ones_like(x))
    one.eval()
    config = AutoencoderLoss(kl=1.0, kl_warmup_steps=100)
    early, parts = autoencoder_loss(one, x, torch.ones_like(x), config, 0)
    late, _ = autoencoder_loss(one, x, torch.ones_like(x), config, 1000)
    assert float((late - early).detach()) == pytest.approx(
        0.99 * float(parts["kl"].detach()), rel=1e-4
    )


@pytest.mark.parametrize("spans", [False, True])
def test_about_the_share_asked_for_is_hidden(spans):
    one, x = network("conv2d", masked=True), data("conv2d", 400)
    config = AutoencoderLoss(hide=0.25, hide_spans=spans)
    _, seen = corrupt(one, x, torch.ones_like(x), config)
    assert 1 - float(seen.mean()) == pytest.approx(0.25, abs=0.04)


def test_a_missing_value_has_no_gradient_and_does_not_count():
    one, x = network(masked=True), data("dense")
    known = torch.ones_like(x)
    known[:, 2] = 0
    loss, _ = autoencoder_loss(one, x, known, AutoencoderLoss(), 0)
    far = x.clone()
    far[:, 2] = 1e6
    again, _ = autoencoder_loss(one, far, known, AutoencoderLoss(), 0)
    assert float(again.detach()) == float(loss.detach())


def table(path, rows=30, missing=False):
    lines = ["time;a;b;label"]
    for i in range(rows):
        b = "" if missing and i % 5 == 0 else f"{i / 3:.3f}"
        lines.append(f"2026-01-{i % 28 + 1:02d};{i};{b};yes")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_table_gives_rows_of_its_numeric_columns(tmp_path):
    table(tmp_path / "t.csv")
    config = AutoencoderData(folders=(str(tmp_path),), leave_out=("time", "label"))
    items = read_items(config, "dense")
    assert items.names == ("a", "b") and items.shape == (2,)
    assert (len(items.training), len(items.validation)) == (24, 6)


def test_a_column_that_is_no_number_is_refused_with_what_to_do(tmp_path):
    table(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"line 2: column 'time'.*leave_out = \['time'\]"):
        read_items(AutoencoderData(folders=(str(tmp_path),)), "dense")
    with pytest.raises(ValueError, match="no column 'c', expected one of time, a, b, label"):
        read_items(AutoencoderData(folders=(str(tmp_path),), columns=("c",)), "dense")


def test_missing_values_are_missing(tmp_path):
    table(tmp_path / "t.csv", missing=True)
    items = read_items(AutoencoderData(folders=(str(tmp_path),), columns=("a", "b")), "dense")
    everything = np.concatenate([items.training, items.validation])
    assert int(np.isnan(everything[:, 1]).sum()) == 6


def test_a_series_is_cut_into_windows_and_its_end_is_held_out(tmp_path):
    series = np.stack([np.arange(100), -np.arange(100)], 1).astype(np.float32)
    np.save(tmp_path / "s.npy", series)
    config = AutoencoderData(folders=(str(tmp_path),), window_samples=10, hop_samples=5)
    items = read_items(config, "conv1d")
    assert items.shape == (10, 2)
    assert items.training[:, 0, 0].max() < items.validation[:, 0, 0].min()


def test_pictures_are_read_alike_and_broken_ones_are_named(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (9, 12, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    items = read_items(AutoencoderData(folders=(str(tmp_path),), side_pixels=8), "conv2d")
    assert items.shape == (8, 8, 3) and 0 <= items.training.min() <= items.training.max() <= 1
    assert list(items.skipped) == ["broken.png"]


def test_images_of_a_camera_are_read_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned: what is wide is to be shown high
    for i in range(6):
        Image.fromarray(np.full((8, 12), 40 * i, np.uint8)).save(tmp_path / f"{i}.jpe", exif=exif)
    items = read_items(AutoencoderData(folders=(str(tmp_path),), gray=True), "conv2d")
    assert items.shape == (12, 8, 1) and not items.skipped


def test_ratings_become_a_row_for_each_user(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,stars\na,x,5\na,y,1\nb,y,2\nc,z,4\n")
    config = AutoencoderData(folders=(str(tmp_path),), pivot=("user", "item", "stars"))
    items = read_items(config, "dense")
    assert items.names == ("x", "y", "z")
    everything = np.concatenate([items.training, items.validation])
    assert sorted(everything[~np.isnan(everything)].tolist()) == [1, 2, 4, 5]


def test_nothing_to_read_says_so(tmp_path):
    with pytest.raises(ValueError, match="0 items found"):
        read_items(AutoencoderData(folders=(str(tmp_path),)), "dense")
    with pytest.raises(ValueError, match="is not there"):
        read_items(AutoencoderData(folders=(str(tmp_path / "nowhere"),)), "dense")


def test_augmentation_at_rest_changes_nothing_and_a_flip_mirrors():
    items = np.random.default_rng(0).random((40, 6, 7, 1)).astype(np.float32)
    config = AutoencoderData(flip=True)
    moved = augment(items, config, np.random.default_rng(1))
    same = np.isclose(moved, items, atol=1e-6).all((1, 2, 3))
    mirrored = np.isclose(moved, items[:, :, ::-1], atol=1e-6).all((1, 2, 3))
    assert (same | mirrored).all() and same.any() and mirrored.any()
    shifted = augment(items, AutoencoderData(shift_pixels=1.0), np.random.default_rng(1))
    assert not np.allclose(shifted, items)


@pytest.mark.parametrize(
    "sizes",
    [
        {"network": "dens"},
        {"latent": 0},
        {"hidden": ()},
        {"latent_activation": "tanh"},
        {"active": 3},
        {"dropout": 1.0},
    ],
)
def test_a_network_that_cannot_be_is_refused(sizes):
    with pytest.raises(ValueError, match="expected"):
        AutoencoderNetwork(**sizes)
    with pytest.raises(ValueError, match="expects 3 axes"):
        Autoencoder(AutoencoderNetwork(network="conv2d"), (4,))


def test_the_whole_contraction_is_the_norm_of_what_the_way_through_does_to_noise():
    one, x = network(latent=3), data("dense", count=40)
    one.start_linear(x, torch.ones_like(x))
    config = AutoencoderLoss(whole_contraction=0.5)
    torch.manual_seed(0)
    found = [
        autoencoder_loss(one, x, torch.ones_like(x), config, 0)[1]["whole_contraction"].item()
        for _ in range(200)
    ]
    # An untrained one is a projection on three directions: its squared norm is their number.
    assert np.mean(found) == pytest.approx(3, rel=0.05)
    loss, parts = autoencoder_loss(one, x, torch.ones_like(x), config, 0)
    expected = float((parts["error"] + 0.5 * parts["whole_contraction"]).detach())
    assert float(loss.detach()) == pytest.approx(expected)
    loss.backward()
    assert float(one.decoder.linear.weight.grad.abs().sum()) > 0
