"""Jobs run for a user: lines, a bar, failures at the end, a log, and a clean stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import typer

from edgeae.batch import NO_FILE, Done, Job, Outcome, Plan, Tick, execute
from edgeae.cli import terminal
from edgeae.cli.options import UsageError
from edgeae.cli.pipes import PIPE
from edgeae.cli.run_log import LOG_SUFFIXES, RunLog, refuse_harm
from edgeae.errors import MediaError

__all__ = ["Settings", "Tally", "end", "refuse_existing", "refuse_target", "run_jobs"]

# More names than a screen holds tell less: --log has them all.
MOST_NAMED = 20


@dataclass(frozen=True)
class Settings:
    """What a user may say about the run of a folder; UsageError where that contradicts itself."""

    force: bool = False
    skip_existing: bool = False
    strict: bool = False
    processes: int = 1
    log: Path | None = None
    # What tells files of one stem apart, if the verb has something.
    advice: str = ""

    def __post_init__(self) -> None:
        if self.force and self.skip_existing:
            raise UsageError("--force and --skip-existing exclude each other")
        if self.log is not None and self.log.suffix.lower() not in LOG_SUFFIXES:
            raise UsageError(f"--log is {self.log}, expected a name that ends in .csv or .jsonl")

    def refuse_pipe(self) -> None:
        """UsageError for what a recording that comes or goes through - cannot have."""
        if self.log is not None or self.skip_existing:
            raise UsageError("--log and --skip-existing are for files, not for sound through -")

    def processes_for(self, plan: Plan) -> int:
        """How many processes do a plan's jobs; one file has no use for several."""
        return self.processes if plan.many else 1


@dataclass
class Tally:
    """What came of all jobs."""

    done: int = 0
    skipped: int = 0
    left_out: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    failures: list[str] = field(default_factory=list)


def refuse_existing(target: Path, *, force: bool) -> None:
    """MediaError if there is a file at `target` and `force` is not set."""
    if target.exists() and not force:
        raise MediaError(f"{target} exists: --force replaces it")


def refuse_target(plan: Plan, settings: Settings) -> None:
    """MediaError, before any work, where the only file of a plan cannot be written: it exists, or
    there is no folder for it. Those of several fail one by one."""
    if plan.many:
        return
    target = plan.jobs[0].target
    if not settings.skip_existing:
        refuse_existing(target, force=settings.force)
    if not (plan.makes_folders or target.resolve().parent.is_dir()):
        raise MediaError(f"cannot write {target}: there is no folder {target.parent}")


def _say(job: Job, done: Done) -> None:
    terminal.say(done.line)


def run_jobs(
    plan: Plan,
    work: Callable[[Job, Tick], Done],
    settings: Settings,
    *,
    bar: bool = False,
    tell: Callable[[Job, Done], None] = _say,
) -> Tally:
    """Does the jobs and tells what came of each, by default by its line; failures are told on
    stderr at the end.

    The error of a single file is raised. What Ctrl-C or a signal interrupts is told with what is
    done, and goes on as an exception. UsageError if the log would harm what is read or written,
    MediaError if the log cannot be written or the folder OUT not made.
    """
    if settings.log is not None:
        plan = refuse_harm(settings.log, plan)
    tally = Tally(left_out=len(plan.left_out))
    with ExitStack() as stack:
        if settings.log is not None and plan.output in settings.log.parents:
            _make_folder(settings.log.parent)
        log = stack.enter_context(closing(RunLog(settings.log)))
        if plan.output is not None:
            _make_folder(plan.output)
        for left in plan.left_out:
            log.add(left.path, None, "left out", message=left.why)
        show = stack.enter_context(terminal.progress_bar(len(plan.jobs), shown=bar or plan.many))

        def tick(job: Job, fraction: float) -> None:
            show(tally.done + tally.skipped + len(tally.failures) + fraction, job.source.name)

        outcomes = stack.enter_context(
            closing(
                execute(
                    _due(plan, settings, tally, log),
                    work,
                    processes=settings.processes_for(plan),
                    tick=tick,
                    late=lambda outcome: _tell(outcome, plan, tally, log, tell),
                )
            )
        )
        try:
            for outcome in outcomes:
                _tell(outcome, plan, tally, log, tell)
                tick(outcome.job, 0.0)
        except BaseException:
            outcomes.close()
            if plan.many:
                terminal.complain(
                    f"{tally.done} of {terminal.count(len(plan.jobs), 'file')} are done: "
                    "--skip-existing goes on from here"
                )
            raise
    _tell_left_out(plan)
    for failure in tally.failures:
        terminal.complain(failure)
    if tally.failures:
        terminal.complain(
            f"{len(tally.failures)} of {terminal.count(len(plan.jobs), 'file')} failed"
        )
    if tally.skipped:
        terminal.complain(f"{terminal.count(tally.skipped, 'file')} skipped: there already")
    return tally


def end(tally: Tally, settings: Settings) -> None:
    """Ends the command with exit code 1 if a file failed, or with --strict was left out."""
    if settings.strict and tally.left_out:
        terminal.complain(
            f"{terminal.count(tally.left_out, 'file')} left out, which --strict forbids"
        )
    if tally.failures or (settings.strict and tally.left_out):
        raise typer.Exit(1)


def _due(plan: Plan, settings: Settings, tally: Tally, log: RunLog) -> Iterator[Job]:
    """The jobs whose place is free; the others are told."""
    made: dict[Path, Path] = {}
    for job in plan.jobs:
        if job.target in (PIPE, NO_FILE):
            yield job
            continue
        if settings.skip_existing and job.target.exists() and job.target not in made:
            tally.skipped += 1
            log.add(job.source, job.target, "skipped", message="it exists")
            continue
        try:
            if job.target in made:
                raise MediaError(
                    f"{job.source} would take the place of {job.target},"
                    f" made from {made[job.target]}{settings.advice}"
                )
            refuse_existing(job.target, force=settings.force)
            if plan.makes_folders:
                _make_folder(job.target.parent)
        except MediaError as error:
            if not plan.many:
                raise
            tally.failures.append(str(error))
            log.add(job.source, job.target, "failed", message=str(error))
            continue
        made[job.target] = job.source
        yield job


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"cannot make the folder {folder}: {error.strerror}") from error


def _tell(
    outcome: Outcome, plan: Plan, tally: Tally, log: RunLog, tell: Callable[[Job, Done], None]
) -> None:
    job, done = outcome.job, outcome.done
    if done is None:
        log.add(job.source, job.target, "failed", outcome.seconds, message=outcome.message)
        if not plan.many:
            raise MediaError(outcome.message)
        tally.failures.append(outcome.message)
        return
    tally.done += 1
    tally.read_bytes += done.read_bytes
    tally.written_bytes += done.written_bytes
    log.add(job.source, job.target, "done", outcome.seconds, done, done.warning or "")
    if job.target != PIPE:
        tell(job, done)
    if done.warning:
        terminal.complain(f"{job.source}: {done.warning}")


def _tell_left_out(plan: Plan) -> None:
    for left in plan.left_out[:MOST_NAMED]:
        terminal.complain(f"left out: {left.path}: {left.why}")
    more = len(plan.left_out) - MOST_NAMED
    if more > 0:
        terminal.complain(f"left out: {more} files more, which --log names")
