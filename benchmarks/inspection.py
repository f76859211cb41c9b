"""Detectors of defects in images, trained on good ones alone, beside principal components.

    python -m benchmarks.inspection FOLDER --json OUT.json [--sets kolektor screw tile]

FOLDER holds for each set the folders train/good, test/good, test/<kind of defect> and, where there
are any, mask or mask/<kind> with files of the images' names, white where the defect is.

A detector is trained with the shipped config, exported and run through the package. `area` is that
under the curve of all test images, `pixel_area` that of the pixels in masks against all others
(every fourth row and column). `false_alarms` is the share of good test images that are flagged,
beside the rate that the manifest states. Principal components: 32 of the images at 64 x 64
pixels, the squared error of what they give back. Numbers without a model, each the higher the
stranger: the mean square and the largest length of the gradient, the mean square of that of the
logarithm of light, and the mean of the pixels, which tells whether good and defective images were
taken in one light. Where that alone parts them, what grows with contrast does too, and says nothing
of defects. `light` are the means of pixels by kind of image. Test images choose nothing. In
`areas_of_halves` are the areas of every other test image and of the rest: how far to trust them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.detection import auc
from edgeae.bench.machine import machine, versions
from edgeae.image.detector import ImageDetector
from edgeae.media import read_image
from export.__main__ import export
from train.config import config_from_dict, read_toml
from train.loop import train

SETS = ("kolektor", "screw", "tile")
CONFIG = Path(__file__).parent.parent / "train" / "configs" / "inspection.toml"
PACKAGES = ("edgeae", "numpy", "onnxruntime", "torch")
_SIDE, _COMPONENTS = 64, 32

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, train and measure, write, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.inspection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, required=True, help="where every figure goes")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--peers", action="store_true", help="the rows of the others alone")
    parser.add_argument("--max-minutes", type=float, default=10.0, help="of each training")
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {"what": "inspection of images", "sets": {}}
    if options.json.is_file():
        report["sets"] = json.loads(options.json.read_text(encoding="utf-8"))["sets"]
    for name in options.sets:
        if options.peers:
            kept = report["sets"][name]
            images, rows = beside(options.folder / name)
            kept["systems"] |= rows
            kept["light"] = images
        else:
            report["sets"][name] = measured(options.folder / name, options.max_minutes)
        report |= {
            "method": " ".join((__doc__ or "").split("\n\n", 2)[2].split()),
            "machine": machine(),
            "versions": versions(PACKAGES),
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps(report['sets'][name])}", flush=True)


def measured(folder: Path, max_minutes: float) -> dict[str, Any]:
    """The figures of one set."""
    good = _images(folder / "test" / "good")
    kinds = sorted(p.name for p in (folder / "test").iterdir() if p.name != "good")
    defects = {kind: _images(folder / "test" / kind) for kind in kinds}
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        raw = read_toml(CONFIG)
        raw["data"]["folders"] = [str(folder / "train" / "good")]
        config = config_from_dict(raw)
        train(config, Path(scratch) / "run", max_minutes=max_minutes)
        export(Path(scratch) / "run", Path(scratch) / "bundle", calibration=("synthetic",))
        seconds = time.process_time() - begun
        model = ImageDetector.load(Path(scratch) / "bundle")
    maps = {kind: {n: model.score(p) for n, p in some.items()} for kind, some in defects.items()}
    usual = {name: model.score(image) for name, image in good.items()}
    scores = {kind: [one.score for one in some.values()] for kind, some in maps.items()}
    found = _areas([one.score for one in usual.values()], scores)
    section = model.bundle.manifest.detection or {}
    begun = time.process_time()
    for image in good.values():
        model.score(image)
    megapixels = sum(p.shape[0] * p.shape[1] for p in good.values()) / 1e6
    scoring = (time.process_time() - begun) / megapixels
    found |= {
        "pixel_area": _pixel_area(folder, maps, [one.map for one in usual.values()]),
        "false_alarms": float(np.mean([one.score > model.threshold for one in usual.values()])),
        "stated_false_alarms": section["false_alarm_rate"],
        "missed": float(np.mean([s <= model.threshold for some in scores.values() for s in some])),
        "training_seconds": seconds,
        "seconds_per_megapixel": scoring,
    }
    light, rows = beside(folder)
    return {
        "images": {"good": len(good), **{kind: len(some) for kind, some in defects.items()}},
        "light": light,
        "systems": {"edgeae": _rounded(found), **rows},
    }


def beside(folder: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """The light of a set's images by kind, and the figures of what is measured beside the detector:
    principal components and numbers without a model."""
    training = list(_images(folder / "train" / "good").values())
    tested = {p.name: list(_images(p).values()) for p in sorted((folder / "test").iterdir())}
    peers: dict[str, Callable[[Pixels], float]] = {
        "principal components": _components(training),
        "gradient, mean square": lambda image: float(np.square(_slopes(image)).mean()),
        "gradient, largest": lambda image: float(_slopes(image).max()),
        "gradient of the logarithm, mean square": lambda image: float(
            np.square(_slopes(np.log(image + 1.0))).mean()
        ),
        "light": lambda image: float(image.mean()),
    }
    rows = {}
    for name, score in peers.items():
        found = {kind: [score(p) for p in images] for kind, images in tested.items()}
        rows[name] = _areas(found.pop("good"), found)
    kinds = {"training": training, **tested}
    light = {k: float(np.mean([p.mean() for p in some])) for k, some in kinds.items()}
    return _rounded(light), _rounded(rows)


def _areas(good: Sequence[float], defects: dict[str, list[float]]) -> dict[str, Any]:
    def area(good: Sequence[float], bad: Sequence[float]) -> float:
        strange = np.r_[np.zeros(len(good), bool), np.ones(len(bad), bool)]
        return auc(np.r_[good, bad], strange)

    every = [score for some in defects.values() for score in some]
    return {
        "area": area(good, every),
        "areas_of_halves": [area(good[i::2], every[i::2]) for i in (0, 1)],
        "areas": {kind: area(good, some) for kind, some in defects.items()},
    }


def _pixel_area(
    folder: Path, maps: dict[str, dict[str, Any]], good: Sequence[npt.NDArray[np.float32]]
) -> float | None:
    """Of pixels inside masks against all others of images with masks and of good ones."""
    inside, outside = [], [values[::4, ::4].ravel() for values in good]
    for kind, some in maps.items():
        for name, one in some.items():
            files = [folder / "mask" / kind / name, folder / "mask" / name]
            file = next((f for f in (p.with_suffix(".png") for p in files) if f.is_file()), None)
            if file is None:
                continue
            with Image.open(file) as opened:
                mask = opened.convert("L").resize(one.map.shape[::-1], Image.Resampling.NEAREST)
            hidden = np.asarray(mask)[::4, ::4] > 127
            values = one.map[::4, ::4]
            inside.append(values[hidden])
            outside.append(values[~hidden])
    if not inside:
        return None
    bad, usual = np.concatenate(inside), np.concatenate(outside)
    return auc(np.r_[bad, usual], np.r_[np.ones(len(bad), bool), np.zeros(len(usual), bool)])


def _components(training: Sequence[Pixels]) -> Callable[[Pixels], float]:
    x = np.stack([_small(image) for image in training])
    mean = x.mean(axis=0)
    _, _, basis = np.linalg.svd(x - mean, full_matrices=False)
    kept = basis[: min(_COMPONENTS, len(basis) - 1)]

    def score(image: Pixels) -> float:
        off = _small(image) - mean
        return float(np.square(off - (off @ kept.T) @ kept).mean())

    return score


def _slopes(image: Pixels | Floats) -> Floats:
    rows, columns = np.gradient(image.mean(axis=2))
    found: Floats = np.hypot(rows, columns)
    return found


def _small(image: Pixels) -> Floats:
    small = Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float64).ravel() / 255


def _images(folder: Path) -> dict[str, Pixels]:
    return {f.name: read_image(f)[:, :, :3] for f in sorted(folder.iterdir()) if f.is_file()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return value and round(value, 4)


if __name__ == "__main__":
    main()
