"""Whether a search for a network keeps to its limits, and its times hold afterwards.

    python -m benchmarks.search OUT --json benchmarks/results/search.json
    python -m benchmarks.search OUT --again --json benchmarks/results/search.json

The first line searches over train/configs/digits.toml on scikit-learn's digits, as
`python -m train.search` does, and keeps everything in the folder OUT. The second, on a machine that
is otherwise idle, times the model that was chosen once more, by medians of many runs, and compares
that with what the search measured of its trial.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgeae.autoencoder import Autoencoder
from edgeae.bench.autoencoder import workloads
from edgeae.bench.machine import machine, versions
from edgeae.bench.timing import sample, summarize

PACKAGES = ("edgeae", "numpy", "onnxruntime", "optuna", "torch")
CONFIG = Path(__file__).parent.parent / "train" / "configs" / "digits.toml"
# Of the time of a chosen model: so many medians of so many seconds each.
MEDIANS, SECONDS = 20, 0.5
# How far the model may be from what the search said of it.
TOLERANCE = 0.15


def search(out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Search, train the chosen one, and sum up what was tried."""
    from sklearn.datasets import load_digits

    from train.search.__main__ import main as search_main

    data = out / "data"
    data.mkdir(parents=True, exist_ok=True)
    np.save(data / "digits.npy", (load_digits().images / 16).astype(np.float32))
    command = [str(CONFIG), "--data", str(data), "--trials", str(options.trials)]
    command += ["--max-ms", str(options.max_ms), "--max-bytes", str(options.max_bytes)]
    if search_main([*command, "--out", str(out), "--force"]):
        raise SystemExit("the search found no model within its limits")
    told = json.loads((out / "search.json").read_text(encoding="utf-8"))
    states = [trial["state"] for trial in told["trials"]]
    return {
        "limits": told["limits"],
        "trials": {state: states.count(state) for state in sorted(set(states))},
        "front": [trial for trial in told["trials"] if trial["trial"] in told["front"]],
        "chosen": told["chosen"],
    }


def again(out: Path) -> dict[str, float]:
    """Milliseconds of one item through encoder and decoder of the chosen model."""
    model = Autoencoder.load(out / "model")
    medians: dict[str, list[float]] = {}
    runs = workloads(model)
    for one in runs:
        sample(one.call, seconds=SECONDS)
    for _ in range(MEDIANS):
        for one in runs:
            spent = sample(one.call, seconds=SECONDS, at_least=50)
            medians.setdefault(one.name, []).append(summarize(spent).p50)
    return {name: float(np.median(values)) for name, values in medians.items()}


def main() -> int:
    """Run the search, or time its model again; 1 where a limit or the tolerance is not kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("out", type=Path, help="folder of the search")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--max-ms", type=float, default=2.0)
    parser.add_argument("--max-bytes", type=float, default=300_000)
    parser.add_argument("--again", action="store_true", help="only time the chosen model again")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    if options.again:
        told = json.loads((options.out / "search.json").read_text(encoding="utf-8"))
        found: dict[str, Any] = {"again_ms": (times := again(options.out))}
        said = told["chosen"]["ms_of_search"]
        found["again_ratio"] = sum(times.values()) / said
        kept = abs(found["again_ratio"] - 1) <= TOLERANCE
    else:
        found = search(options.out, options)
        limits = found["limits"]
        kept = found["chosen"]["ms"] <= limits["max_ms"]
        kept = kept and found["chosen"]["bytes"] <= limits["max_bytes"]
    print(json.dumps(found, indent=1))
    if options.json is not None:
        before = json.loads(options.json.read_text()) if options.json.exists() else {}
        result = {**before, **found, "machine": machine(), "versions": versions(PACKAGES)}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
