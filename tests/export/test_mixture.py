"""The mixture that samples are drawn from: found where data form groups, and only there."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from export.mixture import choose_mixture, fit_mixture


def groups(count, seed=0, centers=((-6, 0, 0), (6, 0, 0), (0, 8, 0), (0, 0, 9))):
    rng = np.random.default_rng(seed)
    places = np.array(centers, float)[rng.integers(len(centers), size=count)]
    return (places + rng.normal(size=places.shape)).astype(np.float32)


def test_groups_are_found_with_their_weights_and_spread():
    found = fit_mixture(groups(2000).astype(np.float64), 4)
    np.testing.assert_allclose(found.weights, 0.25, atol=0.04)
    np.testing.assert_allclose(np.sort(found.means[:, 0]), [-6, 0, 0, 6], atol=0.2)
    for factor in found.factors:
        np.testing.assert_allclose(factor @ factor.T, np.eye(3), atol=0.2)


def test_held_out_latents_choose_how_many_groups_there_are():
    chosen = choose_mixture(groups(2000), groups(500, seed=1))
    assert chosen is not None and len(chosen.weights) == 4
    normal = np.random.default_rng(0).normal(size=(2500, 3)).astype(np.float32)
    assert choose_mixture(normal[:2000], normal[2000:]) is None
    assert choose_mixture(normal[:30], normal[2000:]) is None


def test_a_density_integrates_to_one():
    found = fit_mixture(groups(400)[:, :1].astype(np.float64), 2)
    x = np.linspace(-15, 15, 4001)[:, None]
    density = [np.exp(found.log_likelihood(one[None])) for one in x]
    assert np.sum(density) * (x[1, 0] - x[0, 0]) == pytest.approx(1, abs=1e-3)


def test_a_latent_that_never_moves_has_a_factor_all_the_same():
    still = groups(200)
    still[:, 2] = 3.0
    found = fit_mixture(still.astype(np.float64), 4)
    assert np.isfinite(found.packed()).all()
    assert (np.diagonal(found.factors, axis1=1, axis2=2) > 0).all()
    packed = found.packed()
    np.testing.assert_allclose(packed[:, 0, 0], found.weights, rtol=1e-6)
    np.testing.assert_allclose(packed[:, 1], found.means, rtol=1e-5, atol=1e-6)
