"""The training loop, for every model: read `train` from top to bottom.

Batches and noise are drawn from the seed and the step number alone, so a resumed run goes on
exactly where the interrupted one would have.
"""

from __future__ import annotations

import dataclasses
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train import precision
from train.config import Config, Optimize
from train.processes import Processes
from train.progress import Reporter
from train.recipes import Recipe, recipe_class
from train.run import Run, load_start, new_run, resumed_run, step_if_finite
from train.stop import StopRequest, stop_on_signals

__all__ = ["batches", "learning_rate", "train", "update_average"]

# Seconds from the start to the first checkpoint and between later ones.
_FIRST_CHECKPOINT_S, _CHECKPOINT_S = 40.0, 60.0
# Of a time budget, what steps may take of it; the rest is for validations and checkpoints. A step
# takes about this much longer than its forward and backward pass, which are what is timed.
_STEPS_SHARE, _STEP_OVERHEAD = 0.9, 1.15
# Of what is left later on, when the pace is measured with validations and checkpoints in it.
_STEPS_SHARE_LATE = 0.97
# Of a schedule that is cut short, warm-up is at most one step in so many, and so is the fall.
_WARMUP_SHARE, _DECAY_SHARE = 10, 3
# A schedule that is fitted to a time budget is fitted again to the pace of so many seconds.
_REFIT_S = 15.0


def train(
    config: Config,
    out: Path,
    *,
    processes: Processes | None = None,
    max_minutes: float = math.inf,
    fit_schedule: bool = False,
    resume: bool = False,
    start_from: Path | None = None,
    take: tuple[str, ...] = (),
    stop: StopRequest | None = None,
    validated: Callable[[int, dict[str, float]], bool] | None = None,
) -> dict[str, Any]:
    """Train until the last step, the time budget, the end of patience or a signal; the state of
    the last checkpoint.

    Args:
        config: the run.
        out: folder for `last.pt`, `best.pt` and TensorBoard's event files.
        processes: those that train together, by default this one alone.
        max_minutes: time budget; the run ends cleanly with a checkpoint.
        fit_schedule: shorten the schedule to the steps that the time budget has room for.
        resume: go on from `out/last.pt`.
        start_from: a checkpoint whose averaged weights a new run begins with, which may be of a
            network that is the same but for lacking parts; its steps, seconds and history, and
            those of runs before it, are kept under "before".
        take: parts of that network to take alone, such as "encoder".
        stop: where to note the signal that ended the run, if one did.
        validated: called with the step and the figures of each validation; False ends the run.
    """
    # Long: all of a run is here, in the order in which it happens.
    ends = time.monotonic() + 60 * max_minutes
    processes = processes or Processes()
    torch.manual_seed(config.seed)
    recipe = recipe_class(config.task)(config, processes.device)
    if processes.first:
        print(_data_line(recipe.data_summary()), flush=True)
    run = _prepared(config, recipe, out, processes, resume=resume, start_from=start_from, take=take)
    longest = run.config.optimize
    if not resume:
        _choose_precision(run, recipe, processes, ends=ends if fit_schedule else math.inf)
    config, optimize = run.config, run.config.optimize
    fitted_at, fitted_step = time.monotonic(), run.step
    network = processes.parallel(run.network)
    run.network.train()
    last_saved = time.monotonic() - _CHECKPOINT_S + _FIRST_CHECKPOINT_S
    last_validated = time.monotonic()
    enough = False

    with (
        stop_on_signals() as asked,
        Reporter(
            config.name, out, step=run.step, steps=optimize.steps, ends=ends, active=processes.first
        ) as report,
    ):
        last = longest.steps if fit_schedule else optimize.steps
        for batch in batches(recipe, config.seed, run.step, last, rank=processes.rank):
            rate = learning_rate(run.step, optimize)
            for group in run.optimizer.param_groups:
                group["lr"] = rate * group["relative_rate"]
            torch.manual_seed(config.seed * 1_000_003 + run.step + 500_009 * processes.rank)
            batch = tuple(part.to(processes.device, non_blocking=True) for part in batch)
            bfloat16 = run.precision == "bfloat16"
            with torch.autocast(processes.device.type, torch.bfloat16, enabled=bfloat16):
                loss, scalars = recipe.loss(network, batch, run.step)
            run.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            norm = torch.nn.utils.clip_grad_norm_(run.network.parameters(), optimize.clip_norm)
            # A step with a gradient that is not finite is left out; the average goes on.
            step_if_finite(run.optimizer, norm)
            decay = min(optimize.ema_decay, (1 + run.step) / (10 + run.step))
            update_average(run.averaged, run.network, decay)
            run.step += 1

            report.step(run.step, {"loss": loss, **scalars, "norm": norm}, rate)
            now = time.monotonic()
            if fit_schedule and not resume and now > fitted_at + _REFIT_S:
                pace = (run.step - fitted_step) / (now - fitted_at)
                optimize = _refitted(
                    run, longest, processes, _STEPS_SHARE_LATE * (ends - now) * pace
                )
                report.lasts(optimize.steps)
                fitted_at, fitted_step = now, run.step
            ended = bool(asked.signal) or now > ends or run.step == optimize.steps
            due = run.step % config.validate.every_steps == 0
            due = due or now - last_validated > 60 * config.validate.every_minutes
            # Who has pressed Ctrl-C does not wait for a validation.
            if processes.first and (due or ended) and not asked.signal:
                figures = _validate(run, recipe, out, report)
                last_validated = time.monotonic()
                enough = validated is not None and not validated(run.step, figures)
            if processes.first and time.monotonic() - last_saved > _CHECKPOINT_S:
                run.save(out / "last.pt")
                last_saved = time.monotonic()
            if processes.agree(ended or enough or run.stale >= config.validate.patience):
                break
    if stop is not None:
        stop.signal = asked.signal
    state = run.save(out / "last.pt") if processes.first else run.state()
    processes.leave()
    return state


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


def _refitted(run: Run, longest: Optimize, processes: Processes, left: float) -> Optimize:
    """The run's schedule with `left` more steps, unless its rate falls already."""
    now = run.config.optimize
    if run.step < now.warmup_steps or run.step >= now.steps - now.decay_steps:
        return now
    steps = int(processes.agree(min(longest.steps, run.step + max(1, int(left)))))
    fall = min(longest.decay_steps, steps // _DECAY_SHARE)
    optimize = dataclasses.replace(now, steps=steps, decay_steps=fall)
    run.config = dataclasses.replace(run.config, optimize=optimize)
    return optimize


@torch.no_grad()
def update_average(averaged: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Move the averaged weights a little towards the network's."""
    torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - decay)
    for kept, new in zip(averaged.buffers(), network.buffers(), strict=True):
        kept.copy_(new)


def batches(
    recipe: Recipe, seed: int, first: int, last: int, *, rank: int = 0
) -> Iterator[tuple[torch.Tensor, ...]]:
    """The batches of steps `first` to `last` for the process `rank`, made ahead in a thread."""
    ready: queue.Queue[Any] = queue.Queue(maxsize=6)
    stop = threading.Event()

    def produce() -> None:
        try:
            for step in range(first, last):
                item = recipe.batch(np.random.default_rng((seed, step, rank)))
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


def _prepared(
    config: Config,
    recipe: Recipe,
    out: Path,
    processes: Processes,
    *,
    resume: bool,
    start_from: Path | None,
    take: tuple[str, ...],
) -> Run:
    """The run at its first step, or where it was when it is resumed."""
    # The stubs do not know that both can be asked for at once.
    network: torch.nn.Module = recipe.network.to(  # type: ignore[call-overload]
        device=processes.device, memory_format=torch.channels_last
    )
    data = recipe.data_summary()
    if resume:
        return resumed_run(config, network, data, out / "last.pt")
    before = []
    if start_from is None or take:
        recipe.start()
    if start_from is not None:
        before = load_start(network, start_from, config, take=take)
        if take and hasattr(recipe, "complete"):
            recipe.complete(take)
        # With a part frozen the others are to fit it as it is.
        if hasattr(recipe, "revive") and not config.optimize.freeze:
            recipe.revive()
    run = new_run(config, network, data)
    run.before = before
    return run


def _choose_precision(run: Run, recipe: Recipe, processes: Processes, *, ends: float) -> None:
    """Settle the run's precision by timing, and its number of steps where they must end at `ends`.

    With a precision in the config and no end there is nothing to time.
    """
    wanted = run.precision
    known = ("float32", "bfloat16")
    if wanted != "auto" and math.isinf(ends):
        return
    rng = np.random.default_rng((run.config.seed, 2**32))
    batch = tuple(part.to(processes.device) for part in recipe.batch(rng))
    tried = known if wanted == "auto" else (wanted,)
    seconds = {
        name: precision.seconds_per_step(recipe, batch, processes.device, name) for name in tried
    }
    run.precision = precision.fastest(seconds) if wanted == "auto" else wanted
    run.precision = known[int(processes.agree(known.index(run.precision)))]
    said = ", ".join(f"{1 / each:.2g} steps/s in {name}" for name, each in seconds.items())
    line = f"{said}: {run.precision} is taken" if wanted == "auto" else said
    if math.isfinite(ends):
        each = _STEP_OVERHEAD * seconds[run.precision]
        room = max(1, int(_STEPS_SHARE * (ends - time.monotonic()) / each))
        steps = int(processes.agree(min(run.config.optimize.steps, room)))
        warmup = min(run.config.optimize.warmup_steps, steps // _WARMUP_SHARE)
        fall = min(run.config.optimize.decay_steps, steps // _DECAY_SHARE)
        optimize = dataclasses.replace(
            run.config.optimize, steps=steps, warmup_steps=warmup, decay_steps=fall
        )
        run.config = dataclasses.replace(run.config, optimize=optimize)
        line += f"; a schedule of {steps} steps fits the time"
    if processes.first:
        print(line, flush=True)


def _validate(run: Run, recipe: Recipe, out: Path, report: Reporter) -> dict[str, float]:
    """Measure the averaged weights on held-out data, and keep the best ones; the figures."""
    figures = recipe.validate(run.averaged)
    run.history.append({"step": run.step, "minutes": round(run.seconds / 60, 2), **figures})
    report.validation(run.step, figures)
    if figures["score"] < run.best:
        run.best, run.stale = figures["score"], 0
        run.save(out / "best.pt", whole=False)
    else:
        run.stale += 1
    return figures


def _data_line(summary: dict[str, Any]) -> str:
    parts = []
    for kind, held in summary.items():
        line = f"{kind}: {held['train']} to train on, {held['held_out']} held out"
        if held.get("unit"):
            line += f" ({held['unit']})"
        parts.append(line)
    return "; ".join(parts)
