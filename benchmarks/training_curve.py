"""What training time bought: the history in a photo codec's checkpoint as bits saved over minutes.

    python -m benchmarks.training_curve CHECKPOINT --json OUT.json [--plot OUT.png]

Every validation holds rate and quality at three levels on images that training held out. Each is
set against the last one: BD-rate in percent, negative is better, so that the curve ends at zero.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.rate_distortion import bd_rate_percent
from train.checkpoint import CheckpointError, load_checkpoint

QUALITIES = ("q2", "q5", "q8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and write and draw the curve."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_curve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="of a photo codec")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    parser.add_argument("--plot", type=Path, help="where to draw the curve as PNG")
    options = parser.parse_args(arguments)
    try:
        _, state = load_checkpoint(options.checkpoint)
        points = curve([*state.get("before", []), state])
    except (CheckpointError, KeyError, OSError) as error:
        sys.exit(f"{options.checkpoint} holds no history of a photo codec: {error}")
    report = {"what": "bits against the end of training, at equal PSNR", "points": points}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.plot:
        plot(points, options.plot)
    for point in points:
        saved = f"{point['bd_rate_percent']:+.2f} %"
        print(f"{point['minutes']:7.1f} min {point['steps']:7} steps {saved}")


def curve(runs: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Minutes, steps and BD-rate against the last validation, of runs one after the other."""
    rows = []
    minutes, steps = 0.0, 0
    for run in runs:
        for entry in run["history"]:
            # Before there were efforts a codec had one encoder.
            of = "_fast" if f"psnr_db_fast_{QUALITIES[0]}" in entry else ""
            rates = [entry[f"bits_per_pixel{of}_{quality}"] for quality in QUALITIES]
            qualities = [entry[f"psnr_db{of}_{quality}"] for quality in QUALITIES]
            rows.append((minutes + entry["minutes"], steps + entry["step"], rates, qualities))
        minutes, steps = minutes + run["seconds"] / 60, steps + run["step"]
    _, _, last_rates, last_qualities = rows[-1]
    return [
        {
            "minutes": round(at, 1),
            "steps": step,
            "bd_rate_percent": round(
                bd_rate_percent(last_rates, last_qualities, rates, qualities), 2
            ),
        }
        for at, step, rates, qualities in rows
    ]


def plot(points: Sequence[dict[str, float]], path: Path) -> None:
    """BD-rate over minutes of training, as a PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    axis.plot([p["minutes"] for p in points], [p["bd_rate_percent"] for p in points], marker="o")
    axis.set(xlabel="minutes of training on two cores", ylabel="bits against the last, in percent")
    axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
