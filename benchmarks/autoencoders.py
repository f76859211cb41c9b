"""What one's own autoencoder is worth: digits, sparse and contractive codes, tables with gaps.

    python -m benchmarks.autoencoders [PART ...] --json benchmarks/results/autoencoders.json

Parts: `digits` (reconstruction beside principal components at 8, 16 and 32 latents, neighbours in
the latents, samples of a variational one as a classifier sees them), `penalties` (sparse and
contractive beside plain), `gaps` (removed entries of real tables beside scikit-learn's
IterativeImputer), `ratings` (held-out ratings beside scikit-surprise's SVD; made ones, or those of
`--movielens DIR`). Each trains through the same loop as `python -m train` and is measured on rows
that training did not see. Needs scikit-learn, whose own data sets it uses, and scikit-surprise;
minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import ratings as rated
from edgeae.autoencoder import Autoencoder
from edgeae.bench.machine import machine, versions
from export.__main__ import export
from train.config import config_from_dict
from train.loop import train

Floats = NDArray[np.float32]
PACKAGES = ("edgeae", "numpy", "onnxruntime", "scikit-learn", "scikit-surprise", "torch")
# Of the digits, so many are kept for measuring, at random.
TEST_ITEMS = 400


def fitted(
    items: Floats, work: Path, name: str, *, steps: int, **sections: dict[str, Any]
) -> Autoencoder:
    """An autoencoder trained on items and exported, through the commands' own functions."""
    data = work / name / "data"
    data.mkdir(parents=True)
    np.save(data / "x.npy", items)
    raw = {
        "name": name,
        "task": "autoencoder",
        "network": sections["network"],
        "data": {"folders": [str(data)], "held_out": 0.1, **sections.get("data", {})},
        "loss": sections.get("loss", {}),
        "optimize": {
            "steps": steps,
            "batch_size": 128,
            "learning_rate": 2e-3,
            "warmup_steps": 100,
            "ema_decay": 0.998,
            "precision": "float32",
            **sections.get("optimize", {}),
        },
        "validate": {"every_steps": max(1, steps // 5)},
    }
    train(config_from_dict(raw), work / name / "run")
    export(work / name / "run" / "best.pt", work / name / "bundle", calibration=("synthetic",))
    return Autoencoder.load(work / name / "bundle", precision="fp32")


def _digits() -> tuple[Floats, NDArray[np.int64], Floats, NDArray[np.int64]]:
    """Training and test digits (N, 8, 8, 1) in [0, 1] with their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    images = (found.images / 16).astype(np.float32)[order][..., None]
    labels = found.target[order]
    return images[TEST_ITEMS:], labels[TEST_ITEMS:], images[:TEST_ITEMS], labels[:TEST_ITEMS]


NETWORK = {"network": "conv2d", "hidden": [32, 64]}
# Standard deviation of noise on pixels in [0, 1].
NOISE = 0.2
AUGMENT = {"shift_pixels": 0.4, "rotate_degrees": 8.0}


def digits(work: Path, steps: int) -> dict[str, Any]:
    """Reconstruction, neighbours, samples and an interpolation on scikit-learn's digits."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    train_x, train_y, test_x, test_y = _digits()

    def flat(x: Floats) -> Floats:
        return x.reshape(len(x), -1)

    rows = []
    for latents in (8, 16, 32):
        pca = PCA(latents).fit(flat(train_x))
        principal = pca.inverse_transform(pca.transform(flat(test_x)))
        pca_error = float(np.mean(np.square(principal - flat(test_x))))
        model = fitted(
            train_x,
            work,
            f"digits-{latents}",
            steps=steps,
            network={**NETWORK, "latent": latents},
            data=AUGMENT,
        )
        error = float(np.mean(np.square(model.reconstruct(test_x) - test_x)))
        knn = KNeighborsClassifier(5).fit(model.encode(train_x), train_y)
        of_pca = KNeighborsClassifier(5).fit(pca.transform(flat(train_x)), train_y)
        rows.append(
            {
                "latents": latents,
                "pca_error": pca_error,
                "error": error,
                "ratio": error / pca_error,
                "knn_accuracy": float(knn.score(model.encode(test_x), test_y)),
                "knn_accuracy_pca": float(of_pca.score(pca.transform(flat(test_x)), test_y)),
            }
        )
        print(rows[-1], flush=True)
    model = fitted(
        train_x,
        work,
        "digits-variational",
        steps=steps,
        network={**NETWORK, "latent": 10, "variational": True},
        data=AUGMENT,
        loss={"kl": 1.0, "kl_warmup_steps": steps // 4},
    )
    classifier = SVC(gamma=0.001 * 256, C=10).fit(flat(train_x), train_y)
    samples = model.sample(1000, seed=0).clip(0, 1)
    margins = np.sort(classifier.decision_function(flat(samples)), axis=1)
    real = np.sort(classifier.decision_function(flat(test_x)), axis=1)
    # A sample counts as a digit where the classifier is as sure of it as of nearly all real ones.
    sure = np.quantile(real[:, -1] - real[:, -2], 0.02)
    recognised = float(np.mean(margins[:, -1] - margins[:, -2] >= sure))
    print("variational samples recognised", recognised, flush=True)
    return {"rows": rows, "samples_recognised": recognised, "test_items": len(test_x)}


def penalties(work: Path, steps: int) -> dict[str, Any]:
    """Active units of a sparse code, and how errors of a contractive one grow with noise.

    The plain code has 16 latents; the sparse one 160, of which at most 16 are active: as many
    numbers tell of an item. Growth is what noise on the input adds to the error of what comes back,
    over the variance of that noise.
    """
    train_x, _, test_x, _ = _digits()
    flat_train, flat_test = train_x.reshape(-1, 64), test_x.reshape(-1, 64)
    dense: dict[str, Any] = {"network": "dense", "hidden": [256], "shared_scale": True}
    found: dict[str, Any] = {}
    noise = (NOISE * np.random.default_rng(1).normal(size=flat_test.shape)).astype(np.float32)

    def measured(model: Autoencoder) -> dict[str, float]:
        latents = model.encode(flat_test)
        restored, shaken = model.decode(latents), model.reconstruct(flat_test + noise)
        clean = float(np.mean(np.square(restored - flat_test)))
        noisy = float(np.mean(np.square(shaken - flat_test)))
        return {
            "error": clean,
            "active_share": float(np.count_nonzero(np.abs(latents) > 1e-6) / latents.size),
            "growth": (noisy - clean) / NOISE**2,
        }

    kinds: dict[str, dict[str, dict[str, Any]]] = {
        "plain": {"network": {**dense, "latent": 16}},
        "sparse": {
            "network": {**dense, "latent": 160, "latent_activation": "relu", "active": 16},
        },
        "contractive": {"network": {**dense, "latent": 16}, "loss": {"contraction": 0.05}},
    }
    for name, sections in kinds.items():
        found[name] = measured(fitted(flat_train, work, name, steps=steps, **sections))
        print(name, found[name], flush=True)
    found["sparse_error_ratio"] = found["sparse"]["error"] / found["plain"]["error"]
    found["contractive_growth_ratio"] = found["contractive"]["growth"] / found["plain"]["growth"]
    return found


def gaps(work: Path, steps: int) -> dict[str, Any]:
    """Error on removed entries of real tables, in standard deviations of their columns."""
    from sklearn.datasets import load_breast_cancer, load_wine
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    found = {}
    for name, table in (("breast_cancer", load_breast_cancer()), ("wine", load_wine())):
        values = table.data.astype(np.float64)
        values = (values - values.mean(0)) / values.std(0)
        order = np.random.default_rng(0).permutation(len(values))
        test, rest = values[order[: len(values) // 4]], values[order[len(values) // 4 :]]
        known = np.random.default_rng(1).random(test.shape) > 0.2
        gap = np.where(known, test, np.nan)
        imputed = IterativeImputer(random_state=0, max_iter=30).fit(rest).transform(gap)
        model = fitted(
            rest.astype(np.float32),
            work,
            name,
            steps=steps,
            network={
                "network": "dense",
                "latent": 10,
                "hidden": [256, 128],
                "dropout": 0.1,
                "masked": True,
            },
            loss={"hide": 0.2, "noise": 0.1},
            optimize={"weight_decay": 1e-2, "learning_rate": 1e-3},
        )
        filled = model.fill(gap.astype(np.float32), known)
        found[name] = {
            "rmse": float(np.sqrt(np.mean(np.square(filled - test)[~known]))),
            "rmse_iterative_imputer": float(np.sqrt(np.mean(np.square(imputed - test)[~known]))),
            "rmse_mean": float(np.sqrt(np.mean(np.square(test - rest.mean(0))[~known]))),
        }
        print(name, found[name], flush=True)
    return found


def ratings(work: Path, steps: int, *, movielens: Path | None = None) -> dict[str, Any]:
    """Error of held-out ratings, in stars, beside scikit-surprise's SVD."""
    everything = rated.movielens(movielens) if movielens else rated.made()
    shape = (int(everything[0].max()) + 1, int(everything[1].max()) + 1)
    training, test = rated.split(everything, 0.1, seed=0)
    values = rated.matrix(training, shape)
    model = fitted(
        values,
        work,
        "ratings",
        steps=steps,
        network={
            "network": "dense",
            "latent": 32,
            "hidden": [256],
            "dropout": 0.5,
            "masked": True,
            "shared_scale": True,
        },
        loss={"hide": 0.3},
        optimize={"weight_decay": 3e-2, "learning_rate": 1e-3},
    )
    known = ~np.isnan(values)
    filled = model.fill(values, known)
    low, high = training[2].min(), training[2].max()
    said = np.clip(filled[test[0], test[1]], low, high)
    mean = np.nanmean(values, axis=0)
    of_mean = np.where(np.isnan(mean), training[2].mean(), mean)[test[1]]
    found = {
        "data": str(movielens.name) if movielens else "made",
        "users": shape[0],
        "items": shape[1],
        "ratings": len(everything[0]),
        "rmse": float(np.sqrt(np.mean(np.square(said - test[2])))),
        "rmse_item_mean": float(np.sqrt(np.mean(np.square(of_mean - test[2])))),
        **rated.rmse_of_svd(training, test),
    }
    print(found, flush=True)
    return found


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "digits": digits,
    "penalties": penalties,
    "gaps": gaps,
    "ratings": ratings,
}


def main() -> int:
    """Run the parts that are asked for, and write or update the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autoencoders", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="by default all")
    parser.add_argument("--steps", type=int, default=3000, help="of each training")
    parser.add_argument("--json", type=Path, help="where the figures go; other parts' stay")
    parser.add_argument(
        "--movielens", type=Path, metavar="DIR", help="ratings instead of made ones"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.json
    result = json.loads(path.read_text()) if path is not None and path.exists() else {}
    for part in options.parts or PARTS:
        began = time.process_time()
        with tempfile.TemporaryDirectory() as work:
            given = {"movielens": options.movielens} if part == "ratings" else {}
            found = PARTS[part](Path(work), options.steps, **given)
        result[part] = {**found, "steps": options.steps, "cpu_s": time.process_time() - began}
        result |= {"machine": machine(), "versions": versions(PACKAGES)}
        if path is not None:
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
