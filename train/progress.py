"""What a run shows of itself: lines or a bar, and TensorBoard's curves."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

__all__ = ["Reporter"]

# Seconds until the second report; each later wait is half as long again, up to the last.
_FIRST_WAIT_S, _LAST_WAIT_S = 2.0, 30.0
# TensorBoard's files are written out so often; its own habit is two minutes.
_FLUSH_S = 10


class Reporter:
    """Reports steps of a run now and then: the first at once, then every few seconds, then every
    half minute. A process that is not the first of several says nothing."""

    def __init__(
        self, name: str, out: Path, *, step: int, steps: int, ends: float, active: bool = True
    ) -> None:
        """Args:
        name: of the run.
        out: the run's folder; event files go to `out/tensorboard`.
        step: steps made so far.
        steps: length of the schedule.
        ends: `time.monotonic()` at which the time budget ends.
        active: whether this process reports at all.
        """
        self._active, self._steps, self._ends = active, steps, ends
        self._due, self._wait = 0.0, _FIRST_WAIT_S
        self._last_step, self._last_time = step, time.monotonic()
        self._board: Any = None
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step, flush_secs=_FLUSH_S)
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[shown]}"))
            self._task = self._bar.add_task(name, total=steps, completed=step, shown="")

    def __enter__(self) -> Reporter:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._board is not None:
            self._board.close()

    def step(self, step: int, values: Mapping[str, torch.Tensor], rate: float) -> None:
        """Report step `step`, if it is time to: its scalars, steps a second, and the time left."""
        now = time.monotonic()
        if not self._active or (now < self._due and step != self._steps):
            return
        shown = {name: float(torch.as_tensor(value).detach()) for name, value in values.items()}
        for name, value in {**shown, "learning_rate": rate}.items():
            self._board.add_scalar(f"train/{name}", value, step)
        speed = (step - self._last_step) / max(now - self._last_time, 1e-9)
        left = min((self._steps - step) / speed if speed else math.inf, max(0.0, self._ends - now))
        figures = " ".join(f"{name} {value:.4g}" for name, value in shown.items())
        line = f"{figures}, {speed:.2g} steps/s, {_duration(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, shown=line)
        else:
            print(f"step {step}/{self._steps} {line}", flush=True)
        self._last_step, self._last_time = step, now
        self._due, self._wait = now + self._wait, min(1.5 * self._wait, _LAST_WAIT_S)

    def lasts(self, steps: int) -> None:
        """The schedule has that many steps now."""
        self._steps = steps
        if self._bar is not None:
            self._bar.update(self._task, total=steps)

    def validation(self, step: int, figures: Mapping[str, float]) -> None:
        """Report a validation."""
        for name, value in figures.items():
            self._board.add_scalar(f"validation/{name}", value, step)
        said = " ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self.say(f"validation at step {step}: {said}")

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        elif self._active:
            print(line, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
