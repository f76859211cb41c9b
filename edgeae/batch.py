"""One file or a folder of them: what becomes what, one by one, with the failures at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeae.errors import EdgeaeError, MediaError

__all__ = ["Job", "plan", "progress_bar", "run"]

Tick = Callable[[float], None]
Work = Callable[[Path, Path, Tick], str]


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write."""

    source: Path
    target: Path


def plan(
    source: Path, target: Path, *, suffixes: Collection[str], new_suffix: str | None
) -> tuple[list[Job], int]:
    """The jobs of a command over IN and OUT, and how many files of other kinds were passed over.

    A file goes to OUT, or into it if that is a folder. A folder's files with one of `suffixes` go
    to the same places under OUT, sorted; hidden files and folders are left out, as is OUT itself if
    it lies inside. `new_suffix` replaces theirs, None keeps it. MediaError where there is nothing.
    """
    if source.is_dir():
        if target.exists() and not target.is_dir():
            raise MediaError(f"{source} is a folder, so {target} must be one: it is a file")
        found = list(_files(source, target))
        known = [path for path in found if path.suffix.lower() in suffixes]
        if not known:
            kinds = " ".join(sorted(suffixes))
            raise MediaError(f"{source} holds no file that ends in {kinds}")
        jobs = [
            Job(path, _renamed(target / path.relative_to(source), new_suffix)) for path in known
        ]
        return jobs, len(found) - len(known)
    if not source.exists():
        raise MediaError(f"cannot read {source}: No such file or directory")
    if target.is_dir():
        return [Job(source, _renamed(target / source.name, new_suffix))], 0
    return [Job(source, target)], 0


def run(source: Path, target: Path, jobs: list[Job], work: Work, *, force: bool, bar: bool) -> int:
    """Does `work(source, target, tick)` for each job, prints the line it returns; how many failed.

    For a single file the error is raised. In a folder the others go on, and each failure is told
    on stderr at the end. A file that exists is refused without `force`.
    """
    whole_folder = source.is_dir()
    failures: list[str] = []
    made: dict[Path, Path] = {}
    with progress_bar(len(jobs), shown=bar or whole_folder) as show:
        for index, job in enumerate(jobs):

            def tick(fraction: float, index: int = index, name: str = job.source.name) -> None:
                show(index + fraction, name)

            tick(0.0)
            try:
                if job.target in made:
                    raise MediaError(
                        f"{job.source} would take the place of {job.target},"
                        f" just made from {made[job.target]}"
                    )
                refuse_existing(job.target, force=force)
                if whole_folder:
                    job.target.parent.mkdir(parents=True, exist_ok=True)
                print(work(job.source, job.target, tick), flush=True)
                made[job.target] = job.source
            except BrokenPipeError:
                raise
            except (EdgeaeError, ValueError, OSError) as error:
                if not whole_folder:
                    raise
                failures.append(_about(error, job.source))
    for failure in failures:
        print(f"edgeae: {failure}", file=sys.stderr, flush=True)
    if failures:
        print(f"edgeae: {len(failures)} of {len(jobs)} files failed", file=sys.stderr, flush=True)
    return len(failures)


def refuse_existing(target: Path, *, force: bool) -> None:
    """MediaError if there is a file at `target` and `force` is not set."""
    if target.exists() and not force:
        raise MediaError(f"{target} exists: --force replaces it")


@contextmanager
def progress_bar(total: float, *, shown: bool) -> Iterator[Callable[[float, str], None]]:
    """A function (done, name) that moves a bar on stderr, if that is a terminal."""
    if not (shown and sys.stderr.isatty()):
        yield lambda done, name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn()
    # Lines on stdout pass above the bar only where both are the terminal; a pipe stays a pipe.
    with Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        task = progress.add_task("", total=total)
        yield lambda done, name: progress.update(task, completed=done, description=name)


def _files(source: Path, target: Path) -> Iterator[Path]:
    output = target.resolve()
    same = output == source.resolve()
    for folder, folders, names in os.walk(source):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (same or (here / name).resolve() != output)
        )
        yield from (here / name for name in sorted(names) if not name.startswith("."))


def _renamed(path: Path, new_suffix: str | None) -> Path:
    return path if new_suffix is None else path.with_suffix(new_suffix)


def _about(error: Exception, source: Path) -> str:
    """The error in one line that names the file, once."""
    message = (str(error).strip() or type(error).__name__).splitlines()[0]
    return message if str(source) in message else f"{source}: {message}"
