"""Many small images: files a second against processes, beside AVIF and JPEG in the same pool.

    python -m benchmarks.throughput [--files 2000] [--jobs 1 2] [--growth 10 100 1000 10000] \
        [--ray 1 2] --json benchmarks/results/throughput.json

The images are pieces of the package's photo. Every row is a command of its own, `edgeae compress
--jobs N` or a pool of the same kind with Pillow's encoders, so that starting is part of it. The
speed of a machine drifts: in each of `--repeats` rounds every pool of edgeae's runs once, and the
median of a row counts; AVIF and JPEG run in the first. A speedup is the median over the rounds of
what one round's runs give. Two commands at once, each on its share of the images, say what the
processors give to programs that share nothing: `speedup_apart` is the most that any pool can reach.
Memory is the largest resident set of any process of the command. At the end a run is killed in the
middle and goes on with `--skip-existing`.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeae.batch import Done, Job, Tick, execute
from edgeae.bench.machine import machine, versions
from edgeae.bench.workloads import ASSETS
from edgeae.media import read_image, write_image

SIDE = 256
APART = "edgeae, a command for each share"
# About the bytes of the learned codec at its default quality.
PEERS = {"AVIF speed 6": (".avif", {"quality": 60, "speed": 6}), "JPEG": (".jpg", {"quality": 60})}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, run every pool, and write the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--files", type=int, default=2000, help="images")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="processes")
    parser.add_argument("--growth", type=int, nargs="*", default=[10, 100, 1000, 10_000])
    parser.add_argument(
        "--ray", type=int, nargs="*", default=[], help="actors of Ray Data; needs edgeae[ray]"
    )
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all pools")
    parser.add_argument("--model", default="photo-codec", help="a bundled name or a directory")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    options = parser.parse_args(arguments)
    report = measure(
        options.model,
        options.files,
        options.jobs,
        options.growth,
        options.repeats,
        actors=options.ray,
    )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def measure(
    model: str,
    files: int,
    jobs: Sequence[int],
    growth: Sequence[int],
    repeats: int,
    *,
    actors: Sequence[int] = (),
) -> dict[str, Any]:
    """Seconds, files a second and memory of every pool and number of files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = make_images(folder / "images", files)
        pools = _pools(model, images, jobs, actors)
        runs: dict[tuple[str, int], list[Run]] = {pool: [] for pool in pools}
        for number in range(repeats):
            for pool, work in pools.items():
                if number == 0 or pool[0] not in PEERS:
                    runs[pool].append(_timed(work, folder))
        one = min(jobs)
        rows = []
        for (system, count), found in runs.items():
            alone = runs["edgeae", one] if system == APART else runs.get((system, one), found)
            row = _row(system, count, files, found)
            rows.append(row | {"times_one_process": _speedup(alone, found)})
        grown = []
        for number in growth:
            some = linked(images, folder / f"{number}", number)
            work = functools.partial(_compress, model, some, max(jobs))
            grown.append(_row("edgeae", max(jobs), number, [_timed(work, folder)]))
        resumed = kill_and_resume(model, images, folder / "killed", max(jobs))
    return {
        "what": "throughput of many small images",
        "machine": machine(),
        "versions": versions(("edgeae", "numpy", "onnxruntime", "Pillow")),
        "files": files,
        "side_pixels": SIDE,
        "rows": rows,
        "repeats": repeats,
        "speedup": _speedup(runs["edgeae", one], runs["edgeae", max(jobs)]),
        "speedup_apart": _speedup(runs["edgeae", one], runs[APART, max(jobs)]),
        "growth": grown,
        "killed_and_resumed": resumed,
    }


def make_images(folder: Path, count: int) -> Path:
    """The folder, with so many different square pieces of the package's photo as PNG."""
    photo = read_image(ASSETS / "photo.webp")
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for index in range(count):
        top, left = (int(rng.integers(size - SIDE)) for size in photo.shape[:2])
        write_image(folder / f"{index:05}.png", photo[top : top + SIDE, left : left + SIDE])
    return folder


def linked(images: Path, folder: Path, count: int) -> Path:
    """The folder, with so many links to the images, to each as often as it takes."""
    folder.mkdir()
    for index, image in zip(range(count), itertools.cycle(sorted(images.iterdir())), strict=False):
        (folder / f"{index:05}.png").symlink_to(image)
    return folder


def shared_out(images: Path, folder: Path, shares: int) -> list[Path]:
    """Folders of links that hold every image once, in turn."""
    folders = [folder / str(share) for share in range(shares)]
    for share in folders:
        share.mkdir(parents=True)
    for index, image in enumerate(sorted(images.iterdir())):
        (folders[index % shares] / image.name).symlink_to(image)
    return folders


def kill_and_resume(model: str, images: Path, out: Path, jobs: int) -> dict[str, int]:
    """Kills a run once it has written some files, and goes on: files before, and at the end."""
    process = subprocess.Popen(_command(model, images, out, jobs), stdout=subprocess.PIPE)
    if process.stdout is not None:
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = len(list(out.glob("*.eae")))
    subprocess.run(
        [*_command(model, images, out, jobs), "--skip-existing"],
        check=True,
        capture_output=True,
    )
    return {"before": before, "after": len(list(out.glob("*.eae")))}


def peer_file(suffix: str, options: dict[str, int], job: Job, tick: Tick) -> Done:
    """Encodes one image with Pillow, as `edgeae.cli.image_files.compress_file` does with ours."""
    from PIL import Image

    with Image.open(job.source) as image:
        image.convert("RGB").save(job.target.with_suffix(suffix), **options)  # type: ignore[arg-type]
    return Done("", job.source.stat().st_size, job.target.with_suffix(suffix).stat().st_size)


def _pools(
    model: str, images: Path, jobs: Sequence[int], actors: Sequence[int]
) -> dict[tuple[str, int], Callable[[Path], int]]:
    """What runs in each round, by system and number of processes."""
    pools: dict[tuple[str, int], Callable[[Path], int]] = {}
    for count in jobs:
        pools["edgeae", count] = functools.partial(_compress, model, images, count)
        if count == max(jobs):
            shares = shared_out(images, images.with_name(f"shares-{count}"), count)
            pools[APART, count] = functools.partial(_compress_apart, model, shares)
        for name in PEERS:
            pools[name, count] = functools.partial(_compress_peer, name, images, count)
    for count in actors:
        pools["edgeae on Ray", count] = functools.partial(_compress_on_ray, model, images, count)
    return pools


def _compress(model: str, images: Path, jobs: int, out: Path) -> int:
    subprocess.run(_command(model, images, out, jobs), check=True, capture_output=True)
    return _bytes(out)


def _compress_apart(model: str, shares: Sequence[Path], out: Path) -> int:
    out.mkdir()
    outs = [out / share.name for share in shares]
    commands = [_command(model, *pair, jobs=1) for pair in zip(shares, outs, strict=True)]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError("a command ended with an error, expected every share compressed")
    return sum(_bytes(share) for share in outs)


def _compress_on_ray(model: str, images: Path, actors: int, out: Path) -> int:
    script = [sys.executable, "-m", "benchmarks.throughput_ray"]
    arguments = [model, str(images), str(out), str(actors)]
    subprocess.run([*script, *arguments], check=True, capture_output=True)
    return _bytes(out)


def _compress_peer(name: str, images: Path, jobs: int, out: Path) -> int:
    suffix, options = PEERS[name]
    out.mkdir()
    tasks = [Job(path, out / path.name) for path in sorted(images.iterdir())]
    work = functools.partial(peer_file, suffix, options)
    for outcome in execute(tasks, work, processes=jobs):
        if outcome.done is None:
            raise RuntimeError(outcome.message)
    return _bytes(out)


def _command(model: str, images: Path, out: Path, jobs: int) -> list[str]:
    asked = ["--model", model, "--jobs", str(jobs)]
    return [sys.executable, "-m", "edgeae", "compress", str(images), str(out), *asked]


@dataclass(frozen=True)
class Run:
    """Seconds of a run, the bytes that it wrote, and the most that a process held until then."""

    seconds: float
    written: int
    peak: int


def _timed(work: Callable[[Path], int], folder: Path) -> Run:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        start = time.perf_counter()
        written = work(Path(out) / "out")
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return Run(seconds, written, peak if sys.platform == "darwin" else 1024 * peak)


def _speedup(one: Sequence[Run], many: Sequence[Run]) -> float:
    ratios = [alone.seconds / shared.seconds for alone, shared in zip(one, many, strict=True)]
    return round(statistics.median(ratios), 2)


def _row(system: str, jobs: int, files: int, runs: Sequence[Run]) -> dict[str, Any]:
    seconds = statistics.median(run.seconds for run in runs)
    return {
        "system": system,
        "jobs": jobs,
        "files": files,
        "seconds": round(seconds, 2),
        "files_per_s": round(files / seconds, 1),
        "bytes_per_file": round(runs[0].written / files),
        "peak_process_mb_so_far": round(max(run.peak for run in runs) / 1e6, 1),
    }


def _bytes(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(folder))


if __name__ == "__main__":
    main()
