"""Many files through one function: what becomes what, in this process or in several.

The work on one file is a picklable function `work(job, tick) -> Done`, usually a
`functools.partial` of a verb in `edgeae.cli.image_files` or `edgeae.cli.audio_files`, which loads
its model once in each process through `loaded`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from edgeae.bundle import Bundle, find
from edgeae.errors import EdgeaeError, MediaError
from edgeae.providers import Provider

__all__ = [
    "NO_FILE",
    "Done",
    "Job",
    "LeftOut",
    "Loading",
    "Outcome",
    "Plan",
    "execute",
    "forget",
    "loaded",
    "plan",
    "start",
]

# Jobs that wait in the queue of a pool beside those that run: enough that no process idles.
_WAITING = 2
# Small jobs go to a process in groups that take about so long: handing each over alone costs this
# process as much as a tenth of the work.
_GROUP_S, _GROUP_MOST = 0.2, 16
# The target of jobs that write no file.
NO_FILE = Path(os.devnull)
# The signals that end a command.
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")

Tick = Callable[[float], None]


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Done:
    """What came of one file: a line for the user, and bytes read and written; `found` is what the
    line says, for programs, if the verb has something to say."""

    line: str
    read_bytes: int
    written_bytes: int
    warning: str | None = None
    found: dict[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended; `done` is None if it failed, and `message` then says why, in one line."""

    job: Job
    done: Done | None
    message: str
    seconds: float


@dataclass(frozen=True)
class LeftOut:
    """A file of a folder that no job reads, and why."""

    path: Path
    why: str


@dataclass(frozen=True)
class Plan:
    """The jobs of a command over IN and OUT.

    Attributes:
        jobs: what to read and write.
        left_out: the files of a folder that none of them reads.
        many: whether there may be several, so that one that fails does not end the others.
        makes_folders: whether folders that are not there yet are made.
        folder: the folder whose files are read, if it is one.
        output: the folder that OUT is, which is made first, if it is one.
    """

    jobs: list[Job]
    left_out: list[LeftOut]
    many: bool
    makes_folders: bool = False
    folder: Path | None = None
    output: Path | None = None


@dataclass(frozen=True)
class Loading:
    """How to load a model, as `edgeae.load` takes it; picklable, with None for a file's own."""

    model: str | None
    precision: str | None = None
    providers: tuple[Provider, ...] | None = None
    device: str | None = None
    threads: int = 1


_models: dict[str, Any] = {}
# Pools that have begun and were not asked for yet, with their number of processes.
_started: list[tuple[int, ProcessPoolExecutor]] = []


def loaded(loading: Loading) -> Any:
    """The model, loaded once in this process. Raises what `edgeae.load` raises."""
    key = repr(loading)
    if key not in _models:
        import edgeae

        if loading.model is None:
            raise ValueError("model is None, expected a name or a directory")
        _models[key] = edgeae.load(
            loading.model,
            precision=loading.precision,
            providers=None if loading.providers is None else list(loading.providers),
            device=loading.device,
            threads=loading.threads,
        )
    return _models[key]


def start(processes: int, loading: Loading) -> Bundle:
    """Loads the model where `execute` will want it, and gives its bundle.

    With one process that is here. Several begin at once, each with the model, and this one only
    reads the bundle: it has no use for a session beside theirs. `forget` ends those that were not
    asked for.

    Raises what `edgeae.load` raises, there as here.
    """
    if processes == 1:
        bundle: Bundle = loaded(loading).bundle
        return bundle
    if loading.model is None:
        raise ValueError("model is None, expected a name or a directory")
    pool = _pool(processes)
    _started.append((processes, pool))
    futures = [pool.submit(_load_elsewhere, loading) for _ in range(processes)]
    bundle = find(loading.model)
    # What is wrong with the model is wrong everywhere: the first that is done tells it.
    ended, _ = wait(futures, return_when=FIRST_COMPLETED)
    try:
        for future in ended:
            future.result()
    except BrokenProcessPool:
        raise EdgeaeError("a process that was to load the model was killed or crashed") from None
    return bundle


def _load_elsewhere(loading: Loading) -> None:
    # A session cannot be sent back, so the model stays there.
    loaded(loading)


def forget() -> None:
    """Lets go of the models of `loaded`, and of processes that have nothing to do."""
    _models.clear()
    while _started:
        _started.pop()[1].shutdown(wait=True, cancel_futures=True)


# --- what becomes what ------------------------------------------------------------------------


def plan(
    sources: Sequence[Path],
    target: Path | None,
    *,
    suffixes: Collection[str],
    new_suffix: str | None,
    keep_suffix: bool = False,
    into_folder: bool = False,
    why_not: Callable[[Path], str] = lambda path: "another kind of file",
) -> Plan:
    """The jobs of a command over IN... and OUT, and what it leaves out.

    One file goes to OUT, or into it if that is a folder or `into_folder` says so; several files
    go into it. A folder's files with one of `suffixes` go to the same places under OUT, sorted;
    hidden files and folders are passed over, as is OUT itself if it lies inside. `new_suffix`
    replaces a name's suffix, or with `keep_suffix` follows it; None keeps the name. With None for
    OUT no job writes a file.

    Raises:
        MediaError: there is nothing to read.
        ValueError: OUT is IN, or a file where a folder is needed.
    """
    into_folder = into_folder or (target is not None and target.is_dir()) or len(sources) > 1
    folders = [source for source in sources if source.is_dir()]
    if folders and len(sources) > 1:
        raise ValueError(f"{folders[0]} is a folder, expected files, or one folder alone")
    if target is not None and target.exists() and not target.is_dir() and (folders or into_folder):
        raise ValueError(f"{target} is a file, expected a folder")

    def placed(name: Path) -> Path:
        if target is None:
            return NO_FILE
        return renamed(target / name)

    def renamed(path: Path) -> Path:
        if new_suffix is None:
            return path
        name = path.name if keep_suffix else path.stem
        return path.with_name(name if name.lower().endswith(new_suffix) else name + new_suffix)

    if not folders:
        for source in sources:
            if not source.exists():
                raise MediaError(f"cannot read {source}: No such file or directory")
        made = [
            Job(source, placed(Path(source.name)) if into_folder else target or NO_FILE)
            for source in sources
        ]
        for job in made:
            refuse_same_file(job)
        return Plan(
            made,
            [],
            many=len(sources) > 1,
            makes_folders=into_folder and target is not None,
            output=target if into_folder else None,
        )
    (folder,) = folders
    jobs, left_out = [], []
    for path in _files(folder, folder if target is None else target):
        job = Job(path, placed(path.relative_to(folder)))
        if not _is_regular(path):
            left_out.append(LeftOut(path, "not a regular file"))
        elif path.suffix.lower() not in suffixes:
            left_out.append(LeftOut(path, why_not(path)))
        else:
            refuse_same_file(job)
            jobs.append(job)
    if not jobs:
        raise MediaError(f"{folder} holds no file that ends in {' '.join(sorted(suffixes))}")
    return Plan(
        jobs,
        left_out,
        many=True,
        makes_folders=target is not None,
        folder=folder,
        output=target,
    )


def refuse_same_file(job: Job) -> None:
    """ValueError if the job would write over the file that it reads, through a link too."""
    try:
        same = os.path.samefile(job.source, job.target)
    except OSError:  # one of them is not there
        return
    if same:
        raise ValueError(f"OUT {job.target} is IN {job.source}, expected another file")


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


def _is_regular(path: Path) -> bool:
    """Whether it can be read to an end: a pipe or a device may wait for ever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


# --- one after the other, or side by side -----------------------------------------------------


def execute(
    jobs: Iterable[Job],
    work: Callable[[Job, Tick], Done],
    *,
    processes: int = 1,
    tick: Callable[[Job, float], None] = lambda job, done: None,
    late: Callable[[Outcome], None] = lambda outcome: None,
) -> Generator[Outcome, None, None]:
    """The outcome of each job as it ends, in this process or in a pool of new ones.

    `tick` hears how much of a job is done, 0 to 1; only of those of this process. With several
    processes `work` must be picklable. Memory does not grow with the number of jobs. A job whose
    process dies counts as failed, and the others go on. If the iterator is closed, or a signal
    interrupts it, no further job begins but for small ones that a process was given together; those
    that run end first, and `late` hears of them.
    """
    if processes == 1:
        for job in jobs:
            yield _outcome(job, work, lambda done, job=job: tick(job, done))  # type: ignore[misc]
        return
    yield from _side_by_side(iter(jobs), work, processes, late)


def _outcome(job: Job, work: Callable[[Job, Tick], Done], tick: Tick) -> Outcome:
    start = time.perf_counter()
    done, message = None, ""
    try:
        done = work(job, tick)
    except (EdgeaeError, ValueError, OSError) as error:
        message = _about(error, job.source)
    except MemoryError:
        message = f"{job.source}: there is not enough memory for this"
    return Outcome(job, done, message, time.perf_counter() - start)


def _side_by_side(
    jobs: Iterator[Job],
    work: Callable[[Job, Tick], Done],
    processes: int,
    late: Callable[[Outcome], None],
) -> Iterator[Outcome]:
    doubtful: deque[Job] = deque()
    if _started and _started[-1][0] == processes:
        pool = _started.pop()[1]
    else:
        pool = _pool(processes)
    running: dict[Future[list[Outcome]], list[Job]] = {}
    ended_jobs: deque[Outcome] = deque()
    size = 1
    try:
        while True:
            while len(running) < processes * _WAITING and (group := list(islice(jobs, size))):
                with _signals_held():
                    running[pool.submit(_outcomes_elsewhere, group, work)] = group
            if not running:
                break
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                try:
                    outcomes = future.result()
                except BrokenProcessPool:
                    doubtful.extend(running.pop(future))
                    continue
                with _signals_held():
                    del running[future]
                    ended_jobs.extend(outcomes)
                size = _group_size(outcomes)
                while ended_jobs:
                    yield ended_jobs.popleft()
            if doubtful:
                # One of them killed its process: each alone shows which.
                doubtful.extend(chain.from_iterable(running.values()))
                running.clear()
                pool.shutdown(wait=True, cancel_futures=True)
                while doubtful:
                    yield _alone(doubtful.popleft(), work)
                pool = _pool(processes)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for future in running:
            if future.done() and not future.cancelled() and future.exception() is None:
                ended_jobs.extend(future.result())
        for outcome in ended_jobs:
            late(outcome)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Keeps signals that come meanwhile until it ends: one that came between two lines would take
    with it what is known of a group that runs or has ended."""
    held: list[int] = []
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for name in _ENDING:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not None:
                    before[number] = signal.signal(number, lambda number, _: held.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in held:
            signal.raise_signal(number)


def _group_size(outcomes: Sequence[Outcome]) -> int:
    """How many jobs are handed over at once, from what the last ones took."""
    mean_s = sum(outcome.seconds for outcome in outcomes) / len(outcomes)
    return max(1, min(_GROUP_MOST, int(_GROUP_S / max(mean_s, 1e-6))))


def _alone(job: Job, work: Callable[[Job, Tick], Done]) -> Outcome:
    with _pool(1) as pool:
        try:
            return pool.submit(_outcomes_elsewhere, [job], work).result()[0]
        except BrokenProcessPool:
            return Outcome(job, None, f"{job.source}: its process was killed or crashed", 0.0)


def _pool(processes: int) -> ProcessPoolExecutor:
    import multiprocessing

    # An onnxruntime session does not survive a fork.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_begin_worker)


def _begin_worker() -> None:
    """A worker ends the file that it is at, whatever key is pressed, and ends with its parent."""
    import multiprocessing.connection
    import warnings

    warnings.simplefilter("ignore")
    for name in _ENDING:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _outcomes_elsewhere(jobs: Sequence[Job], work: Callable[[Job, Tick], Done]) -> list[Outcome]:
    return [_outcome(job, work, lambda done: None) for job in jobs]


def _about(error: Exception, source: Path) -> str:
    """The error in one line that names the file, once."""
    message = (str(error).strip() or type(error).__name__).splitlines()[0]
    return message if str(source) in message else f"{source}: {message}"
