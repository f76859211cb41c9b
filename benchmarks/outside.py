"""Calls of the shipped models timed from outside, by a loop that knows nothing of `edgeae bench`.

    python -m benchmarks.outside --json benchmarks/results/outside.json [--before COMMIT]
    python -m benchmarks.outside --check benchmarks/results/bench_*.json

Every round is a new process that times each call with the thread's processor clock, and what of it
onnxruntime takes, by wrapping the session's own methods. With `--before` an older edgeae, with
today's models, takes turns with today's; a slow moment of the machine falls on both. The figure of
a call is the median of a round, in the fastest round. With `--check` the medians of the wall clock
are set beside those of `edgeae bench`, and more than 10 % apart is an error.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
SECONDS = 2.0
APART = 0.10
# The names of `edgeae bench` for what both time.
BENCH = {"compress": "photo-codec", "decompress": "photo-codec", "hop": "speech-denoiser"}

Figures = dict[str, dict[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outside", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--before", metavar="COMMIT", help="an older edgeae to take turns with")
    parser.add_argument("--check", type=Path, nargs="+", help="JSON of `edgeae bench`")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each call and round")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        sides = {"after": ROOT}
        if options.before:
            sides = {"before": _checkout(options.before, Path(folder)), **sides}
        rounds: dict[str, list[Figures]] = {side: [] for side in sides}
        for _ in range(options.rounds):
            for side, root in sides.items():
                rounds[side].append(_round(root, options.seconds))
    found = {side: _fastest(figures) for side, figures in rounds.items()}
    report = {
        "what": "outside timing",
        "method": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "before": options.before,
        "rounds": options.rounds,
        **_circumstances(),
        "calls": found,
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    for side, calls in found.items():
        for name, call in calls.items():
            print(
                f"{side:7} {name:12} {call['processor_ms']:9.3f} ms of the processor, "
                f"{call['outside']:5.1%} outside onnxruntime, {call['wall_ms']:9.3f} ms of the wall"
            )
    apart = [line for file in options.check or () for line in _apart(file, found["after"])]
    print("\n".join(apart), end="\n" if apart else "")
    return 1 if any("TOO FAR" in line for line in apart) else 0


def calls(seconds: float) -> Figures:
    """The figures of each call in this process."""
    import onnxruntime

    inside = _Inside()
    session = onnxruntime.InferenceSession
    session.run = inside.timed(session.run)
    session.run_with_iobinding = inside.timed(session.run_with_iobinding)
    found = {}
    for name, call in _calls():
        _sample(call, inside, seconds / 5)
        samples = _sample(call, inside, seconds)
        processor, within, wall = (statistics.median(times) for times in zip(*samples, strict=True))
        found[name] = {
            "processor_ms": processor * 1e3,
            "outside": 1 - within / processor,
            "wall_ms": wall * 1e3,
            "count": len(samples),
        }
    return found


class _Inside:
    """Seconds of the processor that were spent in wrapped methods."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return method(*arguments, **options)
            finally:
                self.seconds += time.thread_time() - start

        return run


def _sample(
    call: Callable[[], object], inside: _Inside, seconds: float
) -> list[tuple[float, float, float]]:
    """For each call its processor time, that inside onnxruntime, and its time on the wall."""
    found: list[tuple[float, float, float]] = []
    end = time.perf_counter() + seconds
    while len(found) < 5 or time.perf_counter() < end:
        inside.seconds = 0.0
        wall, start = time.perf_counter(), time.thread_time()
        call()
        took = time.thread_time() - start
        found.append((took, inside.seconds, time.perf_counter() - wall))
    return found


def _calls() -> Iterator[tuple[str, Callable[[], object]]]:
    """What a program would do, through the public interface alone."""
    import numpy as np

    import edgeae
    from edgeae.media import read_audio, read_image

    assets = Path(edgeae.__file__).parent / "assets"
    codec = edgeae.ImageCodec.load("photo-codec")
    image = read_image(assets / "photo.webp")[:512, :768]
    blob = codec.compress(image, quality=5)
    yield "compress", lambda: codec.compress(image, quality=5)
    yield "decompress", lambda: codec.decompress(blob)
    denoiser = edgeae.SignalDenoiser.load("speech-denoiser")
    noisy, _ = read_audio(assets / "noisy.flac")
    for name, rate_hz in (("hop", 16_000), ("hop at 48 kHz", 48_000)):
        stream = denoiser.stream(sample_rate=rate_hz)
        hop = 256 * rate_hz // 16_000
        blocks = np.resize(noisy, (100, hop)).astype(np.float32)
        place = iter(range(1 << 62))

        def process(
            stream: Any = stream, blocks: Any = blocks, place: Iterator[int] = place
        ) -> object:
            return stream.process(blocks[next(place) % len(blocks)])

        yield name, process


def _round(root: Path, seconds: float) -> Figures:
    """What a new process finds with the edgeae under `root`."""
    program = f"import sys; sys.path.insert(0, {str(root)!r}); sys.path.append({str(ROOT)!r}); "
    program += f"import json, benchmarks.outside as o; print(json.dumps(o.calls({seconds})))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{root}:\n{done.stderr}")
    found: Figures = json.loads(done.stdout)
    return found


def _fastest(rounds: Sequence[Figures]) -> Figures:
    return {
        name: min((figures[name] for figures in rounds), key=lambda f: f["processor_ms"])
        for name in rounds[0]
    }


def _checkout(commit: str, folder: Path) -> Path:
    """An older edgeae with today's models."""
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit, "edgeae"], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    models = folder / "edgeae" / "models"
    shutil.rmtree(models)
    shutil.copytree(ROOT / "edgeae" / "models", models)
    return folder


def _circumstances() -> dict[str, Any]:
    from edgeae.bench.machine import machine, versions
    from edgeae.bundle import find

    return {
        "machine": machine(),
        "versions": versions(("edgeae", "numpy", "onnxruntime")),
        "bundles": {name: find(name).id for name in sorted(set(BENCH.values()))},
    }


def outside_rows(result: dict[str, Any]) -> list[dict[str, str]]:
    """A row for each call: milliseconds and the part outside onnxruntime, before and after."""
    after, before = result["calls"]["after"], result["calls"].get("before", {})
    rows = []
    for name, call in after.items():
        row = {"call": name}
        for when, found in ((f"before ({result['before']})", before.get(name)), ("now", call)):
            if found is not None:
                row[f"ms, {when}"] = f"{found['processor_ms']:.3g}"
                row[f"outside onnxruntime, {when}"] = f"{found['outside']:.0%}"
        rows.append(row)
    return rows


def _apart(file: Path, ours: Figures) -> Iterator[str]:
    """A line for each call that a result of `edgeae bench` has too, on the CPU and one thread."""
    result = json.loads(file.read_text())
    first = result["configurations"][0]
    for name, task in first["tasks"].items():
        if BENCH.get(name) == result["bundle"]["name"]:
            ratio = ours[name]["wall_ms"] / task["ms"]["p50"]
            verdict = "agrees" if abs(ratio - 1) <= APART else "TOO FAR APART"
            yield f"{name}: bench {task['ms']['p50']:.3f} ms, outside {ratio:.3f} of it: {verdict}"


if __name__ == "__main__":
    raise SystemExit(main())
