"""Write the weighted mean of checkpoints: `python -m train.mean OUT a.pt=0.6 b.pt=0.4 ...`.

Runs that began with the same weights and then weighed the parts of their loss differently can be
better together than any of them (arXiv 2203.05482). OUT is for `python -m export` and
`python -m train --start-from`: it has the averaged weights of each checkpoint times its share, the
config of the first one, the runs of all, and no optimizer, so that no run goes on from it.

All are of one network, by its task and shapes. Others than the first may lack parts that it has,
such as a codec's adversary: these, and what is no floating-point number, are the first one's as
they are. `python -m benchmarks.held_out_speech` says what speech models' weights are worth.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from train.checkpoint import CheckpointError, find_checkpoint, load_checkpoint, save_checkpoint
from train.config import Config
from train.run import runs_of

__all__ = ["mean_checkpoint"]

# How far from 1 the sum of shares that were rounded may be.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class _Loaded:
    """A checkpoint, and its averaged weights by name."""

    file: Path
    config: Config
    state: dict[str, Any]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return self.state["averaged"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, write the mean, and say what it is of; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.mean",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="the checkpoint to write")
    parser.add_argument(
        "parts",
        nargs="+",
        metavar="CHECKPOINT=SHARE",
        help="a checkpoint, or the name of a shipped model, and its share; all shares sum to 1",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")
    options = parser.parse_args(arguments)
    try:
        parts = [_part(text) for text in options.parts]
        if options.out.exists() and not options.force:
            raise ValueError(f"{options.out} is there, expected --force to replace it")
        config, state, notes = mean_checkpoint(parts)
        save_checkpoint(options.out, config, state)
    except (CheckpointError, ValueError, OSError) as error:
        print(f"train.mean: {error}", file=sys.stderr)
        return 1
    for note in notes:
        print(note)
    print(f"{options.out}: a mean of {len(parts)} checkpoints of the task {config.task}")
    return 0


def _part(text: str) -> tuple[Path, float]:
    """The checkpoint and the share that a word of the command line names."""
    name, separator, share = text.rpartition("=")
    try:
        value = float(share)
    except ValueError:
        value = math.nan
    if not separator or not name or not 0 < value < math.inf:
        raise ValueError(f"{text!r} is given, expected CHECKPOINT=SHARE with a share above 0")
    return find_checkpoint(name), value


def mean_checkpoint(
    parts: Sequence[tuple[Path, float]],
) -> tuple[Config, dict[str, Any], list[str]]:
    """The config and the state of the mean, and lines on what is the first checkpoint's alone.

    The state's "mean" says which checkpoint has which share, its "before" holds the runs of all,
    each once. Nothing was measured on the mean: its history is empty.

    Args:
        parts: checkpoints and their shares, which sum to 1.

    Raises:
        CheckpointError: one cannot be used, or is of another network than the first.
        ValueError: the shares sum to something else than 1.
    """
    total = math.fsum(share for _, share in parts)
    if abs(total - 1) > _ROUNDING:
        raise ValueError(f"the shares sum to {total:.7g}, expected 1")
    loaded = [_Loaded(file, *load_checkpoint(file)) for file, _ in parts]
    first = loaded[0]
    notes: list[str] = []
    runs: list[dict[str, Any]] = []
    for one in loaded:
        _check_network(one, first)
        notes += _differences(one, first)
        runs += [run for run in runs_of(one.state, one.file) if not _is_among(run, runs)]
    averaged = {}
    for name, value in first.weights.items():
        if value.is_floating_point() and all(name in one.weights for one in loaded):
            value = torch.zeros_like(value)
            for (_, share), one in zip(parts, loaded, strict=True):
                value += share * one.weights[name]
        averaged[name] = value
    state = {
        "averaged": averaged,
        "step": 0,
        "seconds": 0.0,
        "best": math.inf,
        "history": [],
        "before": runs,
        "data": first.state.get("data", {}),
        "precision": first.state.get("precision", first.config.optimize.precision),
        "mean": [
            # The folder is the run: its checkpoints are all named alike.
            {"checkpoint": "/".join(file.parts[-2:]), "share": share}
            for file, share in parts
        ],
    }
    return first.config, state, notes


def _check_network(one: _Loaded, first: _Loaded) -> None:
    """Raise CheckpointError if a checkpoint is of another task than the first, or has a tensor that
    the first lacks or has in another shape."""
    said = f"{one.file} holds another network than {first.file}"
    if one.config.task != first.config.task:
        raise CheckpointError(f"{said}: {one.config.task}, expected {first.config.task}")
    for name, value in one.weights.items():
        if name not in first.weights:
            raise CheckpointError(f"{said}, which lacks {name}: the one with more parts goes first")
        if value.shape != first.weights[name].shape:
            shapes = f"{tuple(value.shape)}, expected {tuple(first.weights[name].shape)}"
            raise CheckpointError(f"{said}: {name} is {shapes}")


def _differences(one: _Loaded, first: _Loaded) -> list[str]:
    """Lines on what the mean has of the first checkpoint alone."""
    kept, other = (dataclasses.asdict(each.config.network) for each in (first, one))
    lines = [
        f"{key} is {kept[key]} as in {first.file}, {other[key]} in {one.file}"
        for key in kept
        if kept[key] != other[key]
    ]
    lacking = [name for name in first.weights if name not in one.weights]
    if lacking:
        parts = ", ".join(sorted({name.split(".")[0] for name in lacking}))
        lines.append(
            f"{parts}: {len(lacking)} tensors are those of {first.file}, as {one.file} lacks them"
        )
    return lines


def _is_among(run: dict[str, Any], runs: Sequence[dict[str, Any]]) -> bool:
    """Whether a run is there already, whatever its checkpoint was called."""
    same = ("step", "seconds", "history", "mean")
    return any(all(run.get(key) == other.get(key) for key in same) for other in runs)


if __name__ == "__main__":
    raise SystemExit(main())
