"""How well detectors tell what is not normal, beside principal components and isolation forest.

    python -m benchmarks.detection FOLDER [PART ...] --json FILE.json

Parts: `beats` (ventricular beats against normal ones on DS2, the bundle `beat-detector`), `walks`
(other movements against walking, of two people that were not trained on), `skab`, `smd`, `fan`
(with the noisy room) and `ceiling_fan`, each with a detector trained here on its normal data,
through `train.detector`. AUC is of scores, per row or window; F1 is without point
adjustment, which lets random scores reach .96. A peer is given the same rows. No figure has been
chosen on the rows that it is measured on: sizes are those of train/configs, thresholds come from
training rows.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import edgeae
from export.detector import threshold_of
from train.config import config_from_dict, read_toml
from train.detector.network import Detector
from train.loop import train

Floats = npt.NDArray[Any]
CONFIGS = Path(__file__).parent.parent / "train" / "configs"
PARTS = ("beats", "walks", "skab", "smd", "fan", "ceiling_fan")
# The mean score of two detectors of drifting sensors, of windows of 60 and of so many rows, and its
# rate of false alarms: chosen by made faults, as the settings of one are.
TWO_WINDOWS, SHORT_WINDOW, TWO_WINDOWS_RATE = "edgeae, windows of 60 and 30", 30, 0.0003
NORMAL = {"symbols V against N": ("V", "N"), "AAMI V against N": ("VE", "NLRej")}


def auc(scores: Floats, strange: Floats) -> float:
    """The chance that something strange has a higher score than something normal."""
    from scipy.stats import rankdata

    ranks, positive = rankdata(scores), int(strange.sum())
    if not 0 < positive < len(strange):
        raise ValueError("scores of one kind alone have no AUC, expected normal and strange ones")
    above = ranks[strange].sum() - positive * (positive + 1) / 2
    return float(above / (positive * (len(strange) - positive)))


def f1(flagged: Floats, strange: Floats) -> float:
    """Of rows that were flagged, without point adjustment."""
    hits = int((flagged & strange).sum())
    return 2 * hits / max(1, int(flagged.sum() + strange.sum()))


# --- detectors that are trained here ----------------------------------------------------------


def fitted(normal: list[Floats], file: str, **sections: dict[str, Any]) -> Detector:
    """A detector of series (samples, channels), trained through the loop of `python -m train` with
    the settings of `train/configs/FILE.toml`, but for keys of `sections`."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "data"
        folder.mkdir()
        for index, series in enumerate(normal):
            np.save(folder / f"{index:03}.npy", series.astype(np.float32))
        raw = read_toml(CONFIGS / f"{file}.toml")
        raw["data"]["folders"] = [str(folder)]
        for section, keys in sections.items():
            raw[section].update(keys)
        config = config_from_dict(raw)
        state = train(config, Path(work) / "run")
        best = Path(work) / "run" / "best.pt"
        if best.is_file():
            from train.checkpoint import load_checkpoint

            _, state = load_checkpoint(best)
    shape = (config.data.window_samples, normal[0].shape[1])
    found = Detector(config.network, shape).eval()
    found.load_state_dict(state["averaged"])
    return found


@torch.no_grad()
def errors_of(detector: Detector, windows: Floats) -> Floats:
    """The mean error of each window (N, samples, channels), float64."""
    parts = np.array_split(windows, max(1, len(windows) // 512))
    errors = [
        detector(torch.from_numpy(np.ascontiguousarray(part))).mean((1, 2)).numpy()
        for part in parts
    ]
    return np.concatenate(errors).astype(np.float64)


def scored(detector: Detector, series: Floats, smooth: int) -> Floats:
    """A score for each row: that of the window that ends with it, as the package gives it at a hop
    of one; the first rows have the first window's."""
    length = detector.shape[0]
    if len(series) < length:
        raise ValueError(f"{len(series)} rows, expected at least a window of {length}")
    windows = np.lib.stride_tricks.sliding_window_view(
        series.astype(np.float32), length, axis=0
    ).transpose(0, 2, 1)
    errors = errors_of(detector, windows)
    total = np.cumsum(np.concatenate([np.full(smooth, 0.0), errors]))
    counts = np.minimum(np.arange(1, len(errors) + 1), smooth)
    level = np.log((total[smooth:] - total[:-smooth]) / counts + 1e-9)
    return np.concatenate([np.full(length - 1, level[0]), level])


# --- peers ------------------------------------------------------------------------------------


def kept_components(normal: Floats, share: float = 0.9) -> int:
    """How many principal components of standardized rows hold so much of their variance."""
    spread = normal.std(0)
    fit = (normal - normal.mean(0)) / np.where(spread > 1e-9, spread, 1.0)
    variances = np.square(np.linalg.svd(fit, compute_uv=False))
    return int(np.searchsorted(np.cumsum(variances) / variances.sum(), share)) + 1


def principal(normal: Floats, rows: Floats, share: float = 0.9) -> Floats:
    """Q of what principal components leave of standardized rows, in units of normal rows' mean."""
    mean, spread = normal.mean(0), normal.std(0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    fit, new = (normal - mean) / spread, (rows - mean) / spread
    _, _, components = np.linalg.svd(fit, full_matrices=False)
    basis = components[: kept_components(normal, share)]
    usual = max(1e-9, float(np.square(fit - fit @ basis.T @ basis).sum(1).mean()))
    return np.asarray(np.square(new - new @ basis.T @ basis).sum(1) / usual)


def forest(normal: Floats, rows: Floats) -> Floats:
    """Isolation forest of scikit-learn, as it comes."""
    from sklearn.ensemble import IsolationForest

    found = IsolationForest(random_state=0).fit(normal)
    return np.asarray(-found.score_samples(rows))


# --- parts ------------------------------------------------------------------------------------


def beats(folder: Path) -> list[dict[str, Any]]:
    """The bundle on DS2 without record 202, all beats pooled, with and without given places."""
    from train.signal.ecg import read_records

    detector = edgeae.Detector.load("beat-detector")
    there = {file.stem for file in (folder / "ecg" / "mitbih").glob("*.flac")}
    pooled: dict[str, list[Floats]] = {"given": [], "found": [], "symbols": [], "symbols found": []}
    missed = extra = total = 0
    for record in read_records(folder / "ecg", "DS2", only=there, without=("202",)):
        signal = record.millivolts[:, :1]
        symbols = np.array(record.symbols)
        given = detector.score(signal, beats=record.positions)
        index = np.searchsorted(record.positions, given.starts + detector.spec.beat_before)
        pooled["given"].append(given.windows)
        pooled["symbols"].append(symbols[index])
        found = detector.score(signal)
        places = found.starts + detector.spec.beat_before
        nearest = np.abs(places[:, None] - record.positions[None]).argmin(1)
        close = np.abs(places - record.positions[nearest]) <= 54  # 150 ms, as EC57 has it
        pooled["found"].append(found.windows[close])
        pooled["symbols found"].append(symbols[nearest[close]])
        total += len(record.positions)
        missed += len(record.positions) - len(set(nearest[close].tolist()))
        extra += int((~close).sum())
    rows = []
    for of, told in (("given", "symbols"), ("found", "symbols found")):
        scores, symbols = np.concatenate(pooled[of]), np.concatenate(pooled[told])
        for name, (strange, normal) in NORMAL.items():
            chosen = np.isin(symbols, list(strange + normal))
            value = auc(scores[chosen], np.isin(symbols[chosen], list(strange)))
            rows.append({"data": "DS2", "beats": of, "classes": name, "auc": round(value, 4)})
    normal_beats = np.isin(np.concatenate(pooled["symbols"]), list("NLRej"))
    flagged = np.concatenate(pooled["given"]) > detector.threshold
    rows.append(
        {
            "data": "DS2",
            "false_alarm_rate_stated": detector.bundle.manifest.detection["false_alarm_rate"]
            if detector.bundle.manifest.detection
            else None,
            "false_alarm_rate": round(float(flagged[normal_beats].mean()), 4),
            "ventricular_flagged": round(
                float(flagged[np.isin(np.concatenate(pooled["symbols"]), list("VE"))].mean()), 4
            ),
            "beats": total,
            "beats_missed": missed,
            "beats_extra": extra,
        }
    )
    return rows


def walks(folder: Path) -> list[dict[str, Any]]:
    """Windows of one activity against those of walking, of people that were not trained on."""
    from benchmarks.movements import NORMAL as WALKING
    from benchmarks.movements import recordings, windows

    place = folder / "series" / "har"
    length = int(read_toml(CONFIGS / "detector-har.toml")["data"]["window_samples"])
    known = list(recordings(place, measured=False))
    detector = fitted([walk for one in known for walk in one.stretches(WALKING, length)],
                      "detector-har")  # fmt: skip
    heard = windows(known, WALKING, length)
    measured = list(recordings(place, measured=True))
    labels = sorted({str(label) for one in measured for label in one.labels})
    of = {label: windows(measured, label, length) for label in labels}
    scores: dict[str, dict[str, Floats]] = {
        "edgeae": {label: errors_of(detector, part) for label, part in of.items()},
        "pca": {label: principal(_flat(heard), _flat(part)) for label, part in of.items()},
    }
    rows: list[dict[str, Any]] = [
        {
            "data": f"{label} against {WALKING}",
            "method": method,
            "auc": _area(found[label], found[WALKING]),
            "windows": [len(found[label]), len(found[WALKING])],
        }
        for label in labels
        if label != WALKING
        for method, found in scores.items()
    ]
    # The rate is asked of walks that were learned from: those of others may differ.
    limit = np.quantile(errors_of(detector, heard), 0.99)
    flagged = float((scores["edgeae"][WALKING] > limit).mean())
    told = {"data": f"{WALKING} of others flagged", "rate asked": 0.01}
    return [*rows, {**told, "false_alarm_rate": round(flagged, 4)}]


def _flat(windows: Floats) -> Floats:
    return windows.reshape(len(windows), -1)


def skab(folder: Path) -> list[dict[str, Any]]:
    """Fit on the first 400 rows of each experiment, measure on the rest."""
    files = [
        file
        for file in sorted((folder / "series" / "skab").rglob("*.csv.gz"))
        if "anomaly-free" not in str(file)
    ]
    names = ("edgeae", TWO_WINDOWS, "pca", "forest")
    areas: dict[str, list[float]] = {name: [] for name in names}
    flags: dict[str, list[Floats]] = {name: [] for name in names}
    truth = []
    rate = read_toml(CONFIGS / "detector-drift.toml")["data"]["false_alarm_rate"]
    for file in files:
        values, strange = _skab_file(file)
        normal, rest, labels = values[:400], values[400:], strange[400:]
        # Chosen by made faults in the anomaly-free run, whose labels say nothing of these files.
        detector = fitted([normal], "detector-drift")
        spread = normal.std(0)
        spread = np.where(spread > 1e-9, spread, 1.0)
        short = fitted([normal], "detector-drift", data={"window_samples": SHORT_WINDOW})
        alone = scored(detector, values, 1)
        found = {
            "edgeae": alone,
            TWO_WINDOWS: 0.5 * (alone + scored(short, values, 1)),
            "pca": principal(normal, values),
            "forest": forest(normal / spread, values / spread),
        }
        truth.append(labels)
        for name, scores in found.items():
            # What is held back of 400 rows is too little for a tail: all of them are taken.
            asked = TWO_WINDOWS_RATE if name == TWO_WINDOWS else rate
            limit = threshold_of(scores[:400], asked)
            flags[name].append(scores[400:] > limit)
            if 0 < labels.sum() < len(labels):
                areas[name].append(auc(scores[400:], labels))
        assert len(rest) == len(labels)
    strange_rows = np.concatenate(truth)
    rows: list[dict[str, Any]] = [
        {
            "data": "skab",
            "method": name,
            "auc_mean": round(float(np.mean(areas[name])), 4),
            "f1": round(f1(np.concatenate(flags[name]), strange_rows), 4),
            "files": len(areas[name]),
        }
        for name in names
    ]
    everything = round(f1(np.ones_like(strange_rows), strange_rows), 4)
    return [*rows, {"data": "skab", "method": "everything is an anomaly", "f1": everything}]


def _skab_file(file: Path) -> tuple[Floats, npt.NDArray[np.bool_]]:
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        lines = list(csv.reader(io.StringIO(stream.read()), delimiter=";"))
    header = lines[0]
    channels = [i for i, n in enumerate(header) if n not in ("datetime", "anomaly", "changepoint")]
    label = header.index("anomaly")
    values = np.array([[float(row[i]) for i in channels] for row in lines[1:]])
    return values, np.array([float(row[label]) > 0 for row in lines[1:]])


def smd(folder: Path) -> list[dict[str, Any]]:
    """Two machines, 38 metrics: fit on `train`, measure on `test`."""
    rows = []
    for file in sorted((folder / "series" / "smd").glob("*.npz")):
        held = np.load(file)
        normal, test = held["train"] / 4095.0, held["test"] / 4095.0
        strange = held["label"] > 0
        # As many latents as the peer has components, of single rows as it sees them.
        detector = fitted([normal], "detector-rows", network={"latent": kept_components(normal)})
        found = {
            "edgeae": scored(detector, test, 5),
            "pca": principal(normal, test),
            "forest": forest(normal, test),
        }
        for name, scores in found.items():
            value = round(auc(scores, strange), 4)
            rows.append({"data": f"smd {file.stem}", "method": name, "auc": value})
    return rows


def fan(folder: Path) -> list[dict[str, Any]]:
    """Spectra of a fan, normal and damaged, in a quiet and a noisy room; a row is a second.

    `quiet room` is fitted on the quiet room alone; `both rooms` has also heard the noisy one, as
    who installs a detector can let it. What is measured was not learned from.
    """
    place = folder / "vibration" / "fan"

    def read(name: str) -> Floats:
        held = np.load(place / f"12cm_hmlo_{name}.npz")
        return np.asarray(held[held.files[0]] / 4095.0)

    fits = {
        "quiet room": ["normal_silentA_1"],
        "both rooms": ["normal_silentA_1", "normal_noisy_1"],
    }
    # The frequencies of a spectrum are of one kind: none has a unit of its own.
    changed: dict[str, dict[str, Any]] = {
        "network": {"whiten": "none", "usual": "training"},
        "data": {"held_out": 0.2},
        "loss": {"noise": 0.2},
    }
    rows = []
    for told, names in fits.items():
        normal = [np.log(read(name) + 1e-3) for name in names]
        detector = fitted(normal, "detector-rows", **changed)
        rooms = ("silentA", "noisy")
        kinds = ("normal", "damage1", "damage2")
        series = {(k, r): np.log(read(f"{k}_{r}_2") + 1e-3) for k in kinds for r in rooms}
        for method in ("edgeae", "pca"):
            scores = {
                key: scored(detector, one, 5)
                if method == "edgeae"
                else principal(np.concatenate(normal), one)
                for key, one in series.items()
            }
            row: dict[str, Any] = {"data": "fan", "fitted on": told, "method": method}
            for room in rooms:
                for kind in kinds[1:]:
                    row[f"{kind}, {room}"] = _area(scores[kind, room], scores["normal", room])
            # A noisy room is no fault: half means that nothing is told apart.
            row["noisy room taken for a fault"] = _area(
                scores["normal", "noisy"], scores["normal", "silentA"]
            )
            rows.append(row)
    return rows


def ceiling_fan(folder: Path) -> list[dict[str, Any]]:
    """A coin on a blade, three speeds, by the spectra of pieces of a second."""
    place = folder / "vibration" / "ceiling_fan"
    rows = []
    for speed in ("low", "med", "high"):
        pieces = {}
        for weight in (0, 1):
            held = np.load(place / f"fan_0_{speed}_{weight}_weight.npz")
            pieces[weight] = held[held.files[0]] / 8192.0
        cut = int(0.7 * len(pieces[0]))
        normal = list(pieces[0][:cut])
        length = pieces[0].shape[1]
        whole = {"window_samples": length, "train_hop_samples": length, "hop_samples": length}
        detector = fitted(normal, "detector-vibration", data=whole)
        test = np.concatenate([pieces[0][cut:], pieces[1]]).astype(np.float32)
        strange = np.arange(len(test)) >= len(pieces[0]) - cut
        with torch.no_grad():
            errors = detector(torch.from_numpy(test)).mean((1, 2)).numpy()
            spectra = detector.features(torch.from_numpy(test)).flatten(1).numpy()
            known = detector.features(torch.from_numpy(np.stack(normal).astype(np.float32)))
        found = {"edgeae": errors, "pca": principal(known.flatten(1).numpy(), spectra)}
        for name, scores in found.items():
            value = round(auc(scores, strange), 4)
            rows.append({"data": f"ceiling fan, {speed}", "method": name, "auc": value})
    return rows


def _area(strange: Floats, normal: Floats) -> float:
    labels = np.arange(len(strange) + len(normal)) < len(strange)
    return round(auc(np.concatenate([strange, normal]), labels), 4)


def main() -> None:
    """Read the command line, measure, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with ecg, series and vibration")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", type=Path, help="figures of other parts that it holds are kept")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"{', '.join(unknown)}: expected {', '.join(PARTS)}")
    kept: dict[str, Any] = {"command": "python -m benchmarks.detection", "parts": {}}
    if options.json and options.json.is_file():
        kept = json.loads(options.json.read_text(encoding="utf-8"))
    for part in options.parts or PARTS:
        began = time.process_time()
        rows = globals()[part](options.folder)
        for row in rows:
            print(row, flush=True)
        seconds = round(time.process_time() - began, 1)
        kept["parts"][part] = {"rows": rows, "cpu_seconds": seconds}
        if part == "beats":
            kept["bundles"] = {"beat-detector": edgeae.Detector.load("beat-detector").bundle.id}
        if options.json:
            options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
