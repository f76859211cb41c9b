"""How good a checkpoint's weights are on the speech and the noise that its training held out.

    python -m benchmarks.held_out_speech CHECKPOINT ... --speech DIR --noise DIR --json OUT.json

For choosing weights, and the shares of their means, without a test set: DIR are the folders that
were trained on, of which the checkpoint's config says how much is held out. Checkpoints of one task
are judged by their averaged weights, in torch, without a bundle, on one thread, and get a line
each; `benchmarks.held_out_denoiser` and `benchmarks.held_out_codec` say on what.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import held_out_codec, held_out_denoiser
from benchmarks.speech import installed_metrics
from edgeae.bench.machine import machine, versions
from train.checkpoint import CheckpointError, find_checkpoint, load_checkpoint
from train.config import Config

JUDGES = {"speech-codec": held_out_codec, "speech-denoiser": held_out_denoiser}
PACKAGES = ("edgeae", "numpy", "torch", "pesq", "pystoi")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, judge each checkpoint, print a line on it, and write the figures."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    missing: dict[str, str] = {}
    metrics = dict(installed_metrics(missing, dnsmos=False))
    if missing:
        sys.exit(f"pip install {' '.join(missing.values())}: the figures need it")
    try:
        files = [find_checkpoint(name) for name in options.checkpoint]
        loaded = [load_checkpoint(file) for file in files]
        config = _common(files, [config for config, _ in loaded])
        judge = JUDGES[config.task]
        held_out = judge.read(_data(config, options))
    except (CheckpointError, ValueError, OSError) as error:
        sys.exit(f"held_out_speech: {error}")
    for file, (_, state) in zip(files, loaded, strict=True):
        for kind, found in held_out.found.items():
            _compare(file, kind, state.get("data", {}).get(kind), found)
    rows = []
    width = max(len(_short(file)) for file in files)
    for file, (own, state) in zip(files, loaded, strict=True):
        figures = judge.judged(judge.network(own.network, state["averaged"]), held_out, metrics)
        print(f"{_short(file):{width}} {judge.line(figures['means'])}", flush=True)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        rows.append({"checkpoint": _short(file), "sha256": sha256, **figures})
    report = {
        "what": f"weights of a {config.task} on what training held out",
        "method": " ".join((judge.__doc__ or "").split("\n\n", 1)[1].split()),
        "held_out": {kind: found["held_out"] for kind, found in held_out.found.items()},
        "machine": machine(),
        "versions": versions(PACKAGES),
        "checkpoints": rows,
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.held_out_speech",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint", nargs="+", help="a checkpoint, or the name of a shipped speech model"
    )
    parser.add_argument("--speech", nargs="+", metavar="DIR", help="folders of training speech")
    parser.add_argument(
        "--noise", nargs="+", metavar="DIR", help="folders of training noise, for denoisers"
    )
    parser.add_argument(
        "--cache", default="runs/cache", help='for decoded recordings, as in training; "" for none'
    )
    parser.add_argument("--json", type=Path, help="write every figure here")
    return parser


def _common(files: Sequence[Path], configs: Sequence[Config]) -> Config:
    """The config of the first checkpoint, as far as what is held out goes that of all.

    Raises ValueError if they are of several tasks or of another one than speech, or hold out
    different shares.
    """
    first = configs[0]
    if first.task not in JUDGES:
        raise ValueError(f"{files[0]} is of the task {first.task}, expected {' or '.join(JUDGES)}")
    for file, config in zip(files, configs, strict=True):
        if config.task != first.task:
            raise ValueError(f"{file} is of the task {config.task}, expected {first.task}")
        if config.data.held_out_percent != first.data.held_out_percent:
            raise ValueError(
                f"{file} held out {config.data.held_out_percent} % of the data, expected "
                f"{first.data.held_out_percent} % as {files[0]}"
            )
    return first


def _data(config: Config, options: argparse.Namespace) -> Any:
    """The config's data in the folders of the command line."""
    folders = {"speech": tuple(options.speech or ()), "noise": tuple(options.noise or ())}
    for folder in (*folders["speech"], *folders["noise"]):
        if folder != "synthetic" and not Path(folder).is_dir():
            raise ValueError(f"{folder} is not a folder")
    return dataclasses.replace(config.data, **folders, cache=options.cache, pack="")


def _compare(file: Path, kind: str, trained: dict[str, Any] | None, found: dict[str, Any]) -> None:
    """Say so where a checkpoint's training had other recordings than were found: it may know some
    that are held out here."""
    if trained is None:
        print(f"{_short(file)} does not say on how much {kind} it was trained", file=sys.stderr)
        return
    before, now = ([one["train"], one["held_out"]] for one in (trained, found))
    if before != now:
        print(
            f"{_short(file)} was trained on {before[0]} recordings of {kind} and {before[1]} were "
            f"held out, here they are {now[0]} and {now[1]}: it may know some of them",
            file=sys.stderr,
        )


def _short(file: Path) -> str:
    """The file's name and that of its folder, which is the run's: checkpoints are named alike."""
    return "/".join(file.parts[-2:])


if __name__ == "__main__":
    main()
