"""Ratings for `benchmarks.autoencoders`: made ones, or a folder of MovieLens, and a peer's answers.

Made ratings are of low rank with noise, as recommenders take them to be: what each user thinks of
each item is a sum of tastes, an item's popularity, a user's mildness and chance, in half stars.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Triples = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

# Of made ratings: users, items, tastes, the share of pairs that are rated, and chance.
USERS, ITEMS, TASTES, RATED, CHANCE = 800, 300, 6, 0.12, 0.5
# What of SVD is tried on ratings held out of its training: factors, regularization, epochs.
TRIED = [
    (f, reg, epochs)
    for f in (5, 10, 50, 100)
    for reg in (0.02, 0.06, 0.12)
    for epochs in (20, 60, 120)
]


def made(seed: int = 0) -> Triples:
    """Users, items and ratings of so many pairs."""
    rng = np.random.default_rng(seed)
    tastes = rng.normal(size=(USERS, TASTES)) @ rng.normal(size=(TASTES, ITEMS)) / TASTES**0.5
    thought = 3.4 + 0.7 * tastes + 0.4 * rng.normal(size=(USERS, 1)) + 0.5 * rng.normal(size=ITEMS)
    # Popular items are rated more often, as everywhere.
    popular = rng.permutation(1 / np.arange(5, ITEMS + 5) ** 0.6)
    rated = rng.random((USERS, ITEMS)) < popular / popular.mean() * RATED
    heard = thought + CHANCE * rng.normal(size=thought.shape)
    stars = np.clip(np.round(2 * heard) / 2, 0.5, 5)
    user, item = np.nonzero(rated)
    return user, item, stars[user, item]


def movielens(folder: Path) -> Triples:
    """Those of a folder with ratings.csv, ratings.dat or u.data, as MovieLens has them.

    Raises ValueError if none of these is there.
    """
    for name, delimiter, headed in (
        ("ratings.csv", ",", True),
        ("ratings.dat", ":", False),
        ("u.data", "\t", False),
    ):
        if not (folder / name).is_file():
            continue
        with (folder / name).open(encoding="utf-8", newline="") as stream:
            rows = [[c for c in row if c] for row in csv.reader(stream, delimiter=delimiter)]
        rows = rows[1:] if headed else rows
        users, items = (np.unique([row[i] for row in rows], return_inverse=True)[1] for i in (0, 1))
        return users, items, np.array([float(row[2]) for row in rows])
    raise ValueError(f"{folder} holds no ratings.csv, ratings.dat or u.data")


def matrix(triples: Triples, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Ratings of users by items, NaN where there is none."""
    values = np.full(shape, np.nan, np.float32)
    values[triples[0], triples[1]] = triples[2]
    return values


def rmse_of_svd(training: Triples, test: Triples) -> dict[str, float]:
    """Root mean squared errors of scikit-surprise's SVD: as it comes, and with the settings that
    do best on a tenth of the training ratings."""
    from surprise import SVD, Dataset, Reader

    def error(train: Triples, held: Triples, **settings: float) -> float:
        low, high = float(train[2].min()), float(train[2].max())
        text = [(str(u), str(i), float(r), None) for u, i, r in zip(*train, strict=True)]
        data = Dataset(Reader(rating_scale=(low, high)))
        model = SVD(random_state=0, **settings).fit(data.construct_trainset(text))
        said = [model.predict(str(u), str(i)).est for u, i in zip(held[0], held[1], strict=True)]
        return float(np.sqrt(np.mean(np.square(np.array(said) - held[2]))))

    kept, held = split(training, 0.1, seed=2)
    settings = [{"n_factors": f, "reg_all": r, "n_epochs": e} for f, r, e in TRIED]
    best = min(settings, key=lambda one: error(kept, held, **one))
    return {
        "rmse_svd": error(training, test),
        "rmse_svd_tuned": error(training, test, **best),
        **{f"svd_{name}": value for name, value in best.items()},
    }


def split(triples: Triples, share: float, *, seed: int) -> tuple[Triples, Triples]:
    """All but a share of the ratings, and that share."""
    held = np.random.default_rng(seed).random(len(triples[0])) < share

    def of(chosen: NDArray[np.bool_]) -> Triples:
        return triples[0][chosen], triples[1][chosen], triples[2][chosen]

    return of(~held), of(held)
