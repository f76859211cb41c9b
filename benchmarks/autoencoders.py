"""What one's own autoencoder is worth: digits, sparse and contractive codes, tables with gaps.

    python -m benchmarks.autoencoders [PART ...] --json benchmarks/results/autoencoders.json

Parts: `digits` (reconstruction beside principal components at 8, 16 and 32 latents, bytes of
compressed digits), `neighbors` (a classifier by nearest neighbors in 16 latents and in 16 principal
components, over several choices of test digits), `samples` (those of a variational one as a
classifier sees them, and with `--picture FILE` a picture of interpolations), `penalties` (sparse
and contractive beside plain), `gaps` (removed entries of real tables beside scikit-learn's
IterativeImputer), `ratings` (held-out ratings beside scikit-surprise's SVD; made ones, or those of
`--movielens DIR`).
Each trains through the same loop as `python -m train` and is measured on rows that training did not
see. `--validation` measures on rows taken from those instead: what settings were chosen by. Needs
scikit-learn, whose own data sets it uses, and scikit-surprise; a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import zlib
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
from train.config import config_from_dict, read_toml
from train.loop import train

Floats = NDArray[np.float32]
PACKAGES = ("edgeae", "numpy", "onnxruntime", "scikit-learn", "scikit-surprise", "torch")
# Of the digits, so many are kept for measuring, at random; with --validation as many of the rest.
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


def _digits(
    validation: bool, seed: int = 0
) -> tuple[Floats, NDArray[np.int64], Floats, NDArray[np.int64]]:
    """Training and test digits (N, 8, 8, 1) in [0, 1] with their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.images))
    if validation:
        order = np.random.default_rng(seed + 1).permutation(order[TEST_ITEMS:])
    images = (found.images / 16).astype(np.float32)[order][..., None]
    labels = found.target[order]
    return images[TEST_ITEMS:], labels[TEST_ITEMS:], images[:TEST_ITEMS], labels[:TEST_ITEMS]


NETWORK = {"network": "conv2d", "hidden": [32, 64]}
# Choices of test digits, and latents, for classifying by neighbors.
NEIGHBOR_SPLITS, NEIGHBOR_LATENTS = 6, 16
# Standard deviation of noise on pixels in [0, 1].
NOISE = 0.2
AUGMENT = {"shift_pixels": 0.4, "rotate_degrees": 8.0}
# Of the variational model that samples are drawn from.
SAMPLED_LATENTS, SAMPLED_KL = 10, 0.3
# Digits that the picture of interpolations leads from and to, and steps between them.
WAYS, WAY_STEPS = 8, 12
# Settings of ratings, and how many made sets of them are measured.
RATINGS = Path(__file__).parent.parent / "train" / "configs" / "ratings.toml"
MADE_SETS = 3


def _flat(x: Floats) -> Floats:
    return x.reshape(len(x), -1)


def digits(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Reconstruction and bytes on scikit-learn's digits."""
    from sklearn.decomposition import PCA

    train_x, _, test_x, _ = _digits(options.validation)
    rows = []
    for latents in (8, 16, 32):
        pca = PCA(latents).fit(_flat(train_x))
        principal = pca.inverse_transform(pca.transform(_flat(test_x)))
        pca_error = float(np.mean(np.square(principal - _flat(test_x))))
        model = fitted(
            train_x,
            work,
            f"digits-{latents}",
            steps=options.steps,
            network={**NETWORK, "latent": latents},
            data=AUGMENT,
        )
        error = float(np.mean(np.square(model.reconstruct(test_x) - test_x)))
        row: dict[str, Any] = {
            "latents": latents,
            "pca_error": pca_error,
            "error": error,
            "ratio": error / pca_error,
        }
        row["compressed"] = _compressed(model, test_x)
        rows.append(row)
        print(row, flush=True)
    return {"rows": rows, "test_items": len(test_x)}


def neighbors(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Shares of test digits that their nearest neighbors name, in latents and in components.

    One choice of 400 test digits differs from the next by more than the two codes do, so this is
    the mean over several. How many neighbors is chosen for each code on the training digits.
    """
    from sklearn.decomposition import PCA
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    rows = []
    for seed in range(NEIGHBOR_SPLITS):
        train_x, train_y, test_x, test_y = _digits(options.validation, seed)
        network = {**NETWORK, "latent": NEIGHBOR_LATENTS}
        model = fitted(
            train_x, work, f"neighbors-{seed}", steps=options.steps, network=network, data=AUGMENT
        )
        pca = make_pipeline(FunctionTransformer(_flat), PCA(NEIGHBOR_LATENTS)).fit(train_x)
        row: dict[str, float] = {"seed": seed}
        for name, code in (("latents", model.encode), ("pca", pca.transform)):
            search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3, 5, 7]}, cv=10)
            search.fit(code(train_x), train_y)
            row[name] = float(search.score(code(test_x), test_y))
            row[f"{name}_neighbors"] = search.best_params_["n_neighbors"]
        rows.append(row)
        print(row, flush=True)
    ours, theirs = (np.array([row[name] for row in rows]) for name in ("latents", "pca"))
    return {
        "rows": rows,
        "latents": float(ours.mean()),
        "pca": float(theirs.mean()),
        "standard_error_of_difference": float((ours - theirs).std(ddof=1) / len(rows) ** 0.5),
    }


def _compressed(model: Autoencoder, items: Floats) -> list[dict[str, float]]:
    """Bytes and error of the items in one file at some qualities, beside zlib on their pixels."""
    plain = np.rint(items * 16).astype(np.uint8).tobytes()
    found = []
    for quality in (1, 3, 5, 7, 9):
        blob = model.compress(items, quality=quality)
        error = float(np.mean(np.square(model.decompress(blob) - items)))
        found.append(
            {
                "quality": quality,
                "bytes_an_item": len(blob) / len(items),
                "zlib_bytes_an_item": len(zlib.compress(plain, 9)) / len(items),
                "error": error,
            }
        )
    return found


def samples(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """How many of a variational model's samples a classifier is sure of, and a picture."""
    from sklearn.svm import SVC

    train_x, train_y, test_x, test_y = _digits(options.validation)
    model = fitted(
        train_x,
        work,
        "digits-variational",
        steps=options.steps,
        network={**NETWORK, "latent": SAMPLED_LATENTS, "variational": True},
        data=AUGMENT,
        loss={"kl": SAMPLED_KL, "kl_warmup_steps": options.steps // 4},
    )
    classifier = SVC(gamma=0.001 * 256, C=10).fit(_flat(train_x), train_y)
    drawn = model.sample(1000, seed=0).clip(0, 1)
    margins = np.sort(classifier.decision_function(_flat(drawn)), axis=1)
    real = np.sort(classifier.decision_function(_flat(test_x)), axis=1)
    # A sample counts as a digit where the classifier is as sure of it as of nearly all real ones.
    sure = np.quantile(real[:, -1] - real[:, -2], 0.02)
    said = np.bincount(classifier.predict(_flat(drawn)), minlength=10) / len(drawn)
    nearest = np.sqrt(
        np.square(_flat(drawn)[:200, None] - _flat(train_x)[None]).sum(2).min(1).mean()
    )
    between = np.sqrt(
        np.square(_flat(test_x)[:200, None] - _flat(train_x)[None]).sum(2).min(1).mean()
    )
    found = {
        "samples_recognised": float(np.mean(margins[:, -1] - margins[:, -2] >= sure)),
        "share_of_each_digit": said.tolist(),
        # Samples that were copies of training items would lie nearer to them than real ones do.
        "distance_to_training": float(nearest),
        "distance_to_training_of_test_items": float(between),
        "mixture": model.bundle.manifest.latent,
        "error": float(np.mean(np.square(model.reconstruct(test_x) - test_x))),
    }
    print(found, flush=True)
    if options.picture is not None:
        rows = []
        for a in range(WAYS):
            first = test_x[np.flatnonzero(test_y == a)[0]]
            last = test_x[np.flatnonzero(test_y == (a + 1) % 10)[0]]
            rows.append(model.interpolate(first, last, WAY_STEPS))
        _picture(options.picture, np.stack(rows))
    return found


def _picture(file: Path, rows: Floats, *, side: int = 5) -> None:
    """A sheet of items (rows, columns, H, W, 1), each pixel a square of `side`, dark on light."""
    from PIL import Image

    framed = np.pad(rows[..., 0], ((0, 0), (0, 0), (1, 1), (1, 1)))
    count, columns, height, width = framed.shape
    sheet = framed.transpose(0, 2, 1, 3).reshape(count * height, columns * width)
    pixels = np.rint(255 * (1 - sheet.clip(0, 1))).astype(np.uint8)
    Image.fromarray(pixels.repeat(side, 0).repeat(side, 1)).save(file)


def penalties(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Active units of a sparse code, and how errors of a contractive one grow with noise.

    The plain code has 16 latents; the sparse one 160, of which at most 16 are active: as many
    numbers tell of an item. Growth is what noise on the input adds to the error of what comes back,
    over the variance of that noise.
    """
    train_x, _, test_x, _ = _digits(options.validation)
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
        "contractive": {"network": {**dense, "latent": 16}, "loss": {"whole_contraction": 0.01}},
    }
    for name, sections in kinds.items():
        found[name] = measured(fitted(flat_train, work, name, steps=options.steps, **sections))
        print(name, found[name], flush=True)
    found["sparse_error_ratio"] = found["sparse"]["error"] / found["plain"]["error"]
    found["contractive_growth_ratio"] = found["contractive"]["growth"] / found["plain"]["growth"]
    return found


def gaps(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Error on removed entries of real tables, in standard deviations of their columns."""
    from sklearn.datasets import load_breast_cancer, load_wine
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    found = {}
    for name, table in (("breast_cancer", load_breast_cancer()), ("wine", load_wine())):
        values = table.data.astype(np.float64)
        values = (values - values.mean(0)) / values.std(0)
        order = np.random.default_rng(0).permutation(len(values))
        if options.validation:
            order = order[len(values) // 4 :]
        test, rest = values[order[: len(order) // 4]], values[order[len(order) // 4 :]]
        known = np.random.default_rng(1).random(test.shape) > 0.2
        gap = np.where(known, test, np.nan)
        imputed = IterativeImputer(random_state=0, max_iter=30).fit(rest).transform(gap)
        model = fitted(
            rest.astype(np.float32),
            work,
            name,
            steps=options.steps,
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


def ratings(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Errors of held-out ratings, in stars, beside scikit-surprise's SVD.

    Of made ratings the mean over several sets: what one choice of test ratings gives differs by
    more than the methods do. Settings are those of train/configs/ratings.toml, which were chosen on
    ratings held out of the first set's training ones; SVD's are chosen anew for each set.
    """
    folder: Path | None = options.movielens
    steps = read_toml(RATINGS)["optimize"]["steps"]
    if folder:
        row = _rated(work, "movielens", rated.movielens(folder), options)
        return {"data": folder.name, "steps": steps, **row}
    rows = []
    for seed in range(MADE_SETS):
        rows.append(_rated(work, f"made-{seed}", rated.made(seed), options) | {"seed": seed})
        print(rows[-1], flush=True)
    means = {
        name: float(np.mean([row[name] for row in rows])) for name in rows[0] if "rmse" in name
    }
    return {"data": "made", "steps": steps, "sets": rows, **means}


def _rated(
    work: Path, name: str, everything: rated.Triples, options: argparse.Namespace
) -> dict[str, Any]:
    """Errors on a tenth of the ratings that the rest was learned from to tell."""
    shape = (int(everything[0].max()) + 1, int(everything[1].max()) + 1)
    training, test = rated.split(everything, 0.1, seed=0)
    if options.validation:
        training, test = rated.split(training, 0.1, seed=5)
    values = rated.matrix(training, shape)
    raw = read_toml(RATINGS)
    model = fitted(
        values,
        work,
        name,
        steps=raw["optimize"]["steps"],
        network=raw["network"],
        data={key: value for key, value in raw["data"].items() if key not in ("folders", "pivot")},
        loss=raw["loss"],
        optimize={key: value for key, value in raw["optimize"].items() if key != "steps"},
    )
    filled = model.fill(values, ~np.isnan(values))
    low, high = training[2].min(), training[2].max()
    said = np.clip(filled[test[0], test[1]], low, high)
    mean = np.nanmean(values, axis=0)
    of_mean = np.where(np.isnan(mean), training[2].mean(), mean)[test[1]]
    return {
        "users": shape[0],
        "items": shape[1],
        "ratings": len(everything[0]),
        "rmse": float(np.sqrt(np.mean(np.square(said - test[2])))),
        "rmse_item_mean": float(np.sqrt(np.mean(np.square(of_mean - test[2])))),
        **rated.rmse_of_svd(training, test),
    }


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "digits": digits,
    "neighbors": neighbors,
    "samples": samples,
    "penalties": penalties,
    "gaps": gaps,
    "ratings": ratings,
}


def main() -> int:
    """Run the parts that are asked for, and write or update the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autoencoders", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="by default all")
    parser.add_argument(
        "--steps", type=int, default=3000, help="of each training but that of ratings"
    )
    parser.add_argument("--json", type=Path, help="where the figures go; other parts' stay")
    parser.add_argument(
        "--movielens", type=Path, metavar="DIR", help="ratings instead of made ones"
    )
    parser.add_argument("--validation", action="store_true", help="measure on training rows")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="of interpolations")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.json
    for part in options.parts or PARTS:
        began = time.process_time()
        with tempfile.TemporaryDirectory() as work:
            found = PARTS[part](Path(work), options)
        found = {"steps": options.steps, **found, "cpu_s": time.process_time() - began}
        if path is not None:
            # Read again: other parts may have been written since.
            result = json.loads(path.read_text()) if path.exists() else {}
            result |= {part: found, "machine": machine(), "versions": versions(PACKAGES)}
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
