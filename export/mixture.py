"""A mixture of normal distributions over latents, fitted by expectation maximization: what samples
are drawn from where the data form groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Mixture", "choose_mixture", "fit_mixture"]

Doubles = npt.NDArray[np.float64]

# Components that are tried; the held-out latents choose. Each needs so many items of its own.
CANDIDATES, ITEMS_EACH = (2, 4, 8, 16, 32), 20
# Steps of the fit, and the share of the latents' variance that each component has at least.
_STEPS, _FLOOR = 60, 1e-3
# Nats an item that a larger mixture must bring.
_WORTH = 0.02


@dataclass(frozen=True)
class Mixture:
    """Normal distributions of latents: weights (K,), means (K, latents), and lower Cholesky factors
    of their covariances (K, latents, latents)."""

    weights: Doubles
    means: Doubles
    factors: Doubles

    def log_likelihood(self, latents: Doubles) -> float:
        """Mean log density of latents (N, latents), nats an item."""
        return float(np.logaddexp.reduce(self._log_joint(latents), axis=1).mean())

    def responsibilities(self, latents: Doubles) -> Doubles:
        """Which component each item comes from, as probabilities (N, K)."""
        joint = self._log_joint(latents)
        return np.asarray(np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)))

    def packed(self) -> npt.NDArray[np.float32]:
        """As a bundle keeps it, (K, latents + 2, latents): the weight in every entry of the first
        row, the mean, the factor."""
        size = self.means.shape[1]
        weights = np.repeat(self.weights[:, None, None], size, axis=2)
        return np.concatenate([weights, self.means[:, None], self.factors], axis=1).astype("f4")

    def _log_joint(self, latents: Doubles) -> Doubles:
        columns = []
        for weight, mean, factor in zip(self.weights, self.means, self.factors, strict=True):
            white = np.linalg.solve(factor, (latents - mean).T)
            volume = np.log(np.diagonal(factor)).sum() + len(mean) / 2 * np.log(2 * np.pi)
            columns.append(np.log(weight) - volume - 0.5 * np.square(white).sum(0))
        return np.stack(columns, axis=1)


def choose_mixture(
    latents: npt.NDArray[np.float32], held_out: npt.NDArray[np.float32]
) -> Mixture | None:
    """The mixture that tells most of held-out latents; None where one normal distribution does.

    Args:
        latents: of the training items, (N, latents).
        held_out: of items that were not trained on, (M, latents).
    """
    train, test = latents.astype(np.float64), held_out.astype(np.float64)
    if not len(test):
        return None
    best: Mixture | None = None
    told = fit_mixture(train, 1).log_likelihood(test)
    for count in CANDIDATES:
        if count * ITEMS_EACH > len(train):
            break
        found = fit_mixture(train, count)
        likelihood = found.log_likelihood(test)
        if likelihood < told + _WORTH:
            continue
        best, told = found, likelihood
    return best


def fit_mixture(latents: Doubles, count: int, *, seed: int = 0) -> Mixture:
    """A mixture of `count` components, begun by k-means++ (Arthur and Vassilvitskii 2007)."""
    rng = np.random.default_rng(seed)
    scale = latents.std(axis=0)
    floor = np.diag(_FLOOR * np.maximum(scale.mean(), 1e-6) * np.maximum(scale, 1e-3 * scale.max()))
    floor += 1e-9 * np.eye(latents.shape[1])
    centers = _spread(latents, count, rng)
    distance = np.square(latents[:, None] - centers).sum(2)
    shares = (distance == distance.min(1, keepdims=True)).astype(np.float64)
    shares /= shares.sum(1, keepdims=True)
    mixture = _maximized(latents, shares, floor)
    for _ in range(_STEPS if count > 1 else 0):
        mixture = _maximized(latents, mixture.responsibilities(latents), floor)
    return mixture


def _spread(latents: Doubles, count: int, rng: np.random.Generator) -> Doubles:
    """Items that lie far from each other, (count, latents)."""
    chosen = [int(rng.integers(len(latents)))]
    nearest = np.full(len(latents), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, np.square(latents - latents[chosen[-1]]).sum(1))
        odds = nearest + 1e-12
        chosen.append(int(rng.choice(len(latents), p=odds / odds.sum())))
    return latents[chosen]


def _maximized(latents: Doubles, shares: Doubles, floor: Doubles) -> Mixture:
    totals = shares.sum(0) + 1e-9
    means = shares.T @ latents / totals[:, None]
    scatters = []
    for share, mean in zip(shares.T, means, strict=True):
        centred = latents - mean
        scatters.append((centred * share[:, None]).T @ centred)
    # Few items say little of a covariance: that of all components counts for as many items as
    # there are latents, and two (a conjugate prior, Fraley and Raftery 2007).
    pooled, weight = sum(scatters) / len(latents), latents.shape[1] + 2
    factors = [
        np.linalg.cholesky((scatter + weight * pooled) / (total + weight) + floor)
        for scatter, total in zip(scatters, totals, strict=True)
    ]
    return Mixture(totals / totals.sum(), means, np.stack(factors))
