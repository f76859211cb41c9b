"""A mixture of Gaussians of the features of good images: how far from all of them another is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Mixture", "fitted"]

Floats = npt.NDArray[np.float32]

# Rounds of moving the middles of clusters, and then of fitting their shapes.
_MEANS_ROUNDS, _SHAPE_ROUNDS = 12, 3
# What is added to variances of principal components, which are 1 over all clusters.
_LEAST_VARIANCE = 0.02
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Mixture:
    """Distances |weight x + bias|^2 + constant of features x to clusters; the least counts.

    They are Mahalanobis distances and, in `constant`, the logarithms of how large and how common
    a cluster is: minus twice the logarithm of a density.

    Attributes:
        weight: (clusters, components, features).
        bias: (clusters, components).
        constant: (clusters,).
        lowest: the least distance of the features that it was fitted to.
    """

    weight: Floats
    bias: Floats
    constant: Floats
    lowest: float

    def distances(self, features: Floats) -> Floats:
        """The least distance of each row of features (count, features): (count,)."""
        found = [
            np.square(features @ weight.T + bias).sum(axis=1) + constant
            for weight, bias, constant in zip(self.weight, self.bias, self.constant, strict=True)
        ]
        least: Floats = np.min(found, axis=0)
        return least


def fitted(features: Floats, *, clusters: int, components: int, seed: int = 0) -> Mixture:
    """The mixture of so many Gaussians in so many principal components of features (count,
    features), of which there are at least two.

    Every feature belongs to the cluster that is nearest (hard expectation maximization), and the
    covariance of a cluster of few is drawn towards a sphere.
    """
    rng = np.random.default_rng(seed)
    middle = features.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(features.T, dtype=np.float64))
    kept = np.argsort(variances)[::-1][:components]
    whiten = directions[:, kept] / np.sqrt(variances[kept].clip(0) + _ROUNDING)
    points = ((features - middle) @ whiten).astype(np.float32)
    member = _clustered(points, min(clusters, len(points)), rng)
    shapes = _shapes(points, member)
    for _ in range(_SHAPE_ROUNDS if clusters > 1 else 0):
        member = np.argmin([_distances(points, *shape) for shape in shapes], axis=0)
        shapes = _shapes(points, member)
    least = np.min([_distances(points, *shape) for shape in shapes], axis=0)
    weight = np.stack([(whiten @ root).T for _, root, _ in shapes])
    bias = np.stack([-(middle @ whiten + mean) @ root for mean, root, _ in shapes])
    return Mixture(
        weight.astype(np.float32),
        bias.astype(np.float32),
        np.array([constant for _, _, constant in shapes], np.float32),
        float(least.min()),
    )


def _clustered(points: Floats, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The number of the nearest of `count` means, for each point."""
    means = points[rng.choice(len(points), count, replace=False)]
    for _ in range(_MEANS_ROUNDS):
        member = np.argmin(np.square(means).sum(axis=1) - 2 * points @ means.T, axis=1)
        for i in range(count):
            if (inside := member == i).any():
                means[i] = points[inside].mean(axis=0)
    return np.asarray(member)


def _shapes(
    points: Floats, member: npt.NDArray[np.int64]
) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]]:
    """Mean, root of the inverse covariance, and constant of each cluster of two points or more."""
    size = points.shape[1]
    found = []
    for i in np.unique(member):
        inside = points[member == i].astype(np.float64)
        if len(inside) < 2:
            continue
        spread = np.cov(inside.T).reshape(size, size)
        trust = len(inside) / (len(inside) + size)
        round_one = np.eye(size) * np.trace(spread) / size
        spread = trust * spread + (1 - trust) * round_one + _LEAST_VARIANCE * np.eye(size)
        root = np.linalg.cholesky(np.linalg.inv(spread))
        volume = float(np.linalg.slogdet(spread)[1])
        constant = volume - 2 * float(np.log(len(inside) / len(points)))
        found.append((inside.mean(axis=0), root, constant))
    return found


def _distances(
    points: Floats, mean: npt.NDArray[np.float64], root: npt.NDArray[np.float64], constant: float
) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.square((points - mean) @ root).sum(axis=1) + constant
    return found
