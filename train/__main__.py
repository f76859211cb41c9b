"""Train a model: `python -m train train/configs/photo-codec.toml --photos FOLDER --out runs/photo`.

One visible loop. Batches and noise are drawn from the seed and the step number alone, so a resumed
run goes on exactly where the interrupted one would have.

Several processes train one network together, each with batches of its own, when torchrun starts
them: `OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m train ...`.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from train.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from train.config import Config, ConfigError, Optimize, PhotoConfig, SpeechConfig, read_config
from train.soap import Soap
from train.team import Team


class Task(Protocol):
    """What the loop needs of a modality: a network, batches, a loss, a score."""

    network: Any

    def start(self) -> None: ...
    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]: ...
    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]: ...
    def validate(self, network: torch.nn.Module) -> dict[str, float]: ...


def make_task(config: Config, device: torch.device) -> Task:
    """The task of a configuration, with its data read."""
    if isinstance(config, PhotoConfig):
        from train.image.recipe import PhotoTask

        return PhotoTask(config, device)
    from train.speech.recipe import SpeechTask

    return SpeechTask(config, device)


def learning_rate(step: int, optimize: Optimize) -> float:
    """Linear warm-up, then the schedule that `Optimize` describes."""
    if step < optimize.warmup_steps:
        return optimize.learning_rate * (step + 1) / optimize.warmup_steps
    if optimize.decay_steps:
        left = (optimize.steps - step) / optimize.decay_steps
        return optimize.learning_rate * max(optimize.final_ratio, min(1.0, left))
    done = (step - optimize.warmup_steps) / max(1, optimize.steps - optimize.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return optimize.learning_rate * (optimize.final_ratio + (1 - optimize.final_ratio) * cosine)


def parameter_groups(network: torch.nn.Module, optimize: Optimize) -> list[dict[str, Any]]:
    """Matrices with weight decay, vectors without; layers that start from known transforms move
    slowly."""
    slow_layers = getattr(network, "slow_layers", ())
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        slow, decays = bool(slow_layers) and name.startswith(tuple(slow_layers)), parameter.ndim > 1
        empty = {
            "params": [],
            "weight_decay": optimize.weight_decay if decays else 0.0,
            "relative_rate": optimize.slow_ratio if slow else 1.0,
            "plain": slow,
        }
        groups.setdefault((slow, decays), empty)["params"].append(parameter)
    return list(groups.values())


def make_optimizer(network: torch.nn.Module, optimize: Optimize) -> torch.optim.Optimizer:
    """The optimizer that the config names, over `parameter_groups`."""
    groups = parameter_groups(network, optimize)
    if optimize.algorithm == "soap":
        return Soap(groups, lr=optimize.learning_rate)
    return torch.optim.AdamW(groups, lr=optimize.learning_rate, betas=(0.9, 0.99))


def batches(
    task: Task, seed: int, first: int, last: int, *, rank: int = 0
) -> Iterator[tuple[torch.Tensor, ...]]:
    """The batches of steps `first` to `last` for the process `rank`, made ahead in a thread."""
    ready: queue.Queue[Any] = queue.Queue(maxsize=6)
    stop = threading.Event()

    def produce() -> None:
        try:
            for step in range(first, last):
                item = task.batch(np.random.default_rng((seed, step, rank)))
                while not stop.is_set():
                    try:
                        ready.put(item, timeout=0.2)
                        break
                    except queue.Full:
                        continue
                if stop.is_set():
                    return
        except Exception as error:  # handed over to the loop, which raises it
            ready.put(error)

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        for _ in range(first, last):
            item = ready.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()
        thread.join(timeout=5)


def state_of(file: Path, config: Config) -> dict[str, Any]:
    """The state of the run in a checkpoint. Raises CheckpointError if it is of another network."""
    saved, state = load_checkpoint(file)
    if (saved.task, saved.network) != (config.task, config.network):
        raise CheckpointError(
            f"{file} holds another network than the config: {saved.task} {saved.network}, "
            f"not {config.task} {config.network}"
        )
    return state


def begin_with(network: torch.nn.Module, file: Path, config: Config) -> dict[str, Any]:
    """Give a network the averaged weights of a checkpoint; what the run before it has to tell.

    The checkpoint's network may lack parts, which then keep the values that they begin with.
    Raises CheckpointError if it has parts or shapes that this one has not.
    """
    saved, state = load_checkpoint(file)
    ours, theirs = network.state_dict(), state["averaged"]
    if saved.task == config.task and hasattr(network, "widened"):
        theirs = network.widened(theirs)
    other = [n for n, value in theirs.items() if n not in ours or ours[n].shape != value.shape]
    if saved.task != config.task or other:
        raise CheckpointError(
            f"{file} holds another network than the config: {saved.task} {saved.network}, "
            f"not {config.task} {config.network}"
        )
    network.load_state_dict({**ours, **theirs})
    return state


@torch.no_grad()
def follow(averaged: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Move the averaged weights a little towards the network's."""
    torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - decay)
    for kept, new in zip(averaged.buffers(), network.buffers(), strict=True):
        kept.copy_(new)


def train(
    config: Config,
    out: Path,
    *,
    team: Team | None = None,
    max_minutes: float = math.inf,
    resume: bool = False,
    start_from: Path | None = None,
) -> dict[str, Any]:
    """Train until the last step, the time budget or the end of patience; the last checkpoint's
    state.

    Args:
        config: the run.
        out: folder for `last.pt`, `best.pt` and TensorBoard's event files.
        team: the processes that train together, by default this one alone.
        max_minutes: time budget; the run ends cleanly with a checkpoint.
        resume: go on from `out/last.pt`.
        start_from: a checkpoint whose averaged weights a new run begins with, which may be of a
            network that is the same but for lacking parts; its steps, seconds
            and history, and those of runs before it, are kept under "before".
    """
    from torch.utils.tensorboard import SummaryWriter

    began = time.monotonic()
    team = team or Team()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    optimize = config.optimize
    task = make_task(config, device)
    network: torch.nn.Module = task.network.to(device=device, memory_format=torch.channels_last)
    step, seconds, best, stale, history, before = 0, 0.0, math.inf, 0, [], []
    state: dict[str, Any] | None = None
    if resume:
        state = state_of(out / "last.pt", config)
        if "optimizer" not in state:
            raise CheckpointError(f"{out / 'last.pt'} holds weights alone, not a run to go on with")
        network.load_state_dict(state["network"])
    elif start_from is not None:
        earlier = begin_with(network, start_from, config)
        before = [
            *earlier.get("before", []),
            {name: earlier[name] for name in ("step", "seconds", "history")},
        ]
    else:
        task.start()
    averaged = copy.deepcopy(network).eval()
    optimizer = make_optimizer(network, optimize)
    if state is not None:
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds, best = state["step"], state["seconds"], state["best"]
        stale, history = state["stale"], state["history"]
        before = state.get("before", [])

    def checkpoint(name: str, *, whole: bool = True) -> dict[str, Any]:
        """Write the run's state, or without `whole` only what export and `--start-from` need; of a
        team one process does."""
        kept = {
            "averaged": averaged.state_dict(),
            "step": step,
            "seconds": seconds + time.monotonic() - began,
            "best": best,
            "history": history,
            "before": before,
        }
        if whole:
            kept |= {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "stale": stale,
            }
        if team.leads:
            save_checkpoint(out / name, config, kept)
        return kept

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}"),
    )
    interactive = sys.stderr.isatty()
    with (
        (
            SummaryWriter(str(out / "tensorboard"), purge_step=step)
            if team.leads
            else nullcontext()
        ) as board,
        Progress(*columns, disable=not (interactive and team.leads)) as progress,
    ):
        bar = progress.add_task(config.name, total=optimize.steps, completed=step, shown="")
        network.train()
        saved = time.monotonic()
        for batch in batches(task, config.seed, step, optimize.steps, rank=team.rank):
            rate = learning_rate(step, optimize)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["relative_rate"]
            torch.manual_seed(config.seed * 1_000_003 + step + 500_009 * team.rank)
            batch = tuple(part.to(device, non_blocking=True) for part in batch)
            with torch.autocast(device.type, torch.bfloat16, enabled=optimize.bfloat16):
                loss, scalars = task.loss(network, batch, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            team.average(network)
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), optimize.clip_norm)
            if torch.isfinite(norm):
                optimizer.step()
            # A step with a gradient that is not finite is left out; the average goes on.
            follow(averaged, network, min(optimize.ema_decay, (1 + step) / (10 + step)))
            step += 1

            if team.leads and step % 50 == 0:
                measured = {"loss": loss, **scalars, "norm": norm}
                shown = {n: float(torch.as_tensor(v).detach()) for n, v in measured.items()}
                for name, value in {**shown, "learning_rate": rate}.items():
                    board.add_scalar(f"train/{name}", value, step)
                line = " ".join(f"{name} {value:.4g}" for name, value in shown.items())
                progress.update(bar, completed=step, shown=line)
                if not interactive and step % 500 == 0:
                    minutes = (seconds + time.monotonic() - began) / 60
                    print(f"step {step} {minutes:.1f} min {line}", flush=True)
            out_of_time = time.monotonic() - began > 60 * max_minutes
            due = step % config.validate.every_steps == 0 or step == optimize.steps or out_of_time
            if team.leads and due:
                figures = task.validate(averaged)
                minutes = (seconds + time.monotonic() - began) / 60
                history.append({"step": step, "minutes": round(minutes, 2), **figures})
                for name, value in figures.items():
                    board.add_scalar(f"validation/{name}", value, step)
                print(f"validation {history[-1]}", file=sys.stderr, flush=True)
                better = figures["score"] < best
                best, stale = (figures["score"], 0) if better else (best, stale + 1)
                if better:
                    checkpoint("best.pt", whole=False)
            if team.leads and time.monotonic() - saved > 120:
                checkpoint("last.pt")
                saved = time.monotonic()
            if team.decide(out_of_time or stale >= config.validate.patience):
                break
    team.part()
    return checkpoint("last.pt")


def main() -> int:
    """Read the command line, train, and say where the checkpoint is."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument(
        "config", type=Path, help="a TOML file such as train/configs/photo-codec.toml"
    )
    parser.add_argument("--photos", nargs="+", metavar="DIR", help="folders of photographs")
    parser.add_argument("--speech", nargs="+", metavar="DIR", help="folders of clean speech")
    parser.add_argument("--noise", nargs="+", metavar="DIR", help="folders of noise")
    parser.add_argument(
        "--listener", metavar="FILE", help="what `python -m export.listener FILE` wrote"
    )
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/NAME)")
    parser.add_argument(
        "--max-minutes", type=float, default=math.inf, help="end cleanly after so long"
    )
    parser.add_argument("--steps", type=int, help="length of the schedule instead of the config's")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/last.pt")
    parser.add_argument("--start-from", type=Path, help="begin with a checkpoint's weights")
    arguments = parser.parse_args()
    try:
        config = with_folders(read_config(arguments.config), arguments)
        if arguments.steps is not None:
            optimize = dataclasses.replace(config.optimize, steps=arguments.steps)
            config = dataclasses.replace(config, optimize=optimize)
        out, team = arguments.out or Path("runs") / config.name, Team()
        state = train(
            config,
            out,
            team=team,
            max_minutes=arguments.max_minutes,
            resume=arguments.resume,
            start_from=arguments.start_from,
        )
    except (ConfigError, CheckpointError, ValueError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    if team.leads:
        print(f"{out / 'last.pt'}: {state['step']} steps, best score {state['best']:.4f}")
    return 0


def with_folders(config: Config, arguments: argparse.Namespace) -> Config:
    """The configuration with the folders and the listener that the command line names."""
    if arguments.listener:
        if not isinstance(config, SpeechConfig):
            raise ConfigError(f"--listener is not for the task {config.task}")
        loss = dataclasses.replace(config.loss, listener=arguments.listener)
        config = dataclasses.replace(config, loss=loss)
    if isinstance(config, SpeechConfig):
        wanted = {"speech": arguments.speech, "noise": arguments.noise}
        unused = {"photos": arguments.photos}
    else:
        wanted = {"folders": arguments.photos}
        unused = {"speech": arguments.speech, "noise": arguments.noise}
    for name, folders in unused.items():
        if folders:
            raise ConfigError(f"--{name} is not for the task {config.task}")
    given = {name: tuple(folders) for name, folders in wanted.items() if folders}
    for folder in (f for folders in given.values() for f in folders):
        if folder != "synthetic" and not Path(folder).is_dir():
            raise ConfigError(f"{folder} is not a folder")
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **given))


if __name__ == "__main__":
    raise SystemExit(main())
