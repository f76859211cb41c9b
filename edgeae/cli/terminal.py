"""What the command says: lines, tables and bars, safe for any terminal and any stream.

Everything that is said passes here, since manifests, cards, file names and options come from
strangers: what a terminal would obey rather than show is shown as an escape, and a stream that
cannot take a line does not undo the work that the line tells of.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from edgeae.errors import printable

if TYPE_CHECKING:
    from edgeae.bench.report import Table

__all__ = [
    "OutputLost",
    "check_output",
    "closed_streams",
    "complain",
    "drop_output",
    "print_tables",
    "progress_bar",
    "say",
    "say_text",
    "status",
    "table",
]


class OutputLost(Exception):
    """Standard output took no more lines; what they would have told is done nevertheless."""


# Numbers of the standard streams that were closed when the process began.
closed_streams: set[int] = set()

# What the first line that could not be written died of.
_lost: list[OSError] = []


def say(line: str) -> None:
    """Prints one line to stdout. A line that cannot be written is told by `check_output`."""
    _write(sys.stdout, printable(line))


def say_text(text: str) -> None:
    """Prints the lines of a text to stdout."""
    for line in text.splitlines():
        say(line)


def count(number: int, noun: str) -> str:
    """The number with its noun, as in 1 file and 2,000 files."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def complain(message: str) -> None:
    """Prints one line to stderr, as the command's."""
    try:
        _write(sys.stderr, printable(f"edgeae: {' '.join(message.split())}"))
    except OSError:  # nobody is left to tell
        pass


def check_output() -> None:
    """Raises OutputLost if a line could not be written to stdout."""
    if _lost:
        error = _lost.pop()
        _lost.clear()
        raise OutputLost(f"cannot write to standard output: {error.strerror or error}")


def _write(stream: IO[str] | None, line: str) -> None:
    if stream is None:
        return
    try:
        try:
            print(line, file=stream, flush=True)
        except UnicodeEncodeError:
            encoding = getattr(stream, "encoding", None) or "ascii"
            safe = line.encode(encoding, "backslashreplace").decode(encoding)
            print(safe, file=stream, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        if stream is not sys.stdout:
            raise
        _lost.append(error)
        drop_output()


def drop_output() -> None:
    """Lets what is still to be printed go: what is in the buffer would fail again at the end."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: tuple[int, ...] = (),
    title: str | None = None,
    wrapped: int | None = None,
) -> None:
    """Prints a table to stdout.

    Words stay whole: a table that is wider than the terminal is cut into tables below each other
    that repeat its first column, unless `wrapped` is the one column that may take several lines.
    """
    width = _width()
    cells = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(_cells, column)) for column in zip(*cells, strict=True)]
    if wrapped is not None:
        others = sum(widths) - widths[wrapped] + _GAP * (len(widths) - 1)
        widths[wrapped] = max(_LEAST_WRAPPED, min(widths[wrapped], width - others))
    if title:
        say(title)
    for part in _parts(widths, width):
        _print_columns(
            [[row[column] for column in part] for row in cells],
            [widths[column] for column in part],
            {index for index, column in enumerate(part) if column in right},
            headed=any(header),
        )


def print_tables(tables: Sequence[Table]) -> None:
    """Prints the tables of a measurement."""
    for one in tables:
        right = tuple(range(one.words, len(one.columns)))
        table(one.columns, one.rows, right=right, title=one.title)


_GAP = 2
_LEAST_WRAPPED = 24


def _width() -> int:
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def _cells(text: str) -> int:
    """The columns of a terminal that a text takes; wide characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _parts(widths: Sequence[int], width: int) -> list[list[int]]:
    """The columns of each table below each other, each as wide as the terminal allows."""
    parts, used = [[0]], widths[0]
    for column in range(1, len(widths)):
        if used + _GAP + widths[column] > width and len(parts[-1]) > 1:
            parts.append([0])
            used = widths[0]
        parts[-1].append(column)
        used += _GAP + widths[column]
    return parts


def _print_columns(
    cells: Sequence[Sequence[str]], widths: Sequence[int], right: set[int], *, headed: bool
) -> None:
    import textwrap

    def put(row: Sequence[str]) -> None:
        folded = [
            textwrap.wrap(cell, size, break_on_hyphens=False) or [""]
            if _cells(cell) > size
            else [cell]
            for cell, size in zip(row, widths, strict=True)
        ]
        for index in range(max(map(len, folded))):
            texts = [lines[index] if index < len(lines) else "" for lines in folded]
            pads = [" " * (size - _cells(t)) for t, size in zip(texts, widths, strict=True)]
            line = (" " * _GAP).join(
                pad + text if column in right else text + pad
                for column, (text, pad) in enumerate(zip(texts, pads, strict=True))
            )
            say(line.rstrip())

    if headed:
        put(cells[0])
        say("-" * (sum(widths) + _GAP * (len(widths) - 1)))
    for row in cells[1:]:
        put(row)
    say("")


@contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """What tells on a terminal what is going on; silent where nobody looks."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda line: None
        return
    with console.status("") as shown:
        yield lambda line: shown.update(_plain(line))


@contextmanager
def progress_bar(total: float, *, shown: bool) -> Iterator[Callable[[float, str], None]]:
    """A function (done, name) that moves a bar on stderr, if that is a terminal."""
    if not (shown and sys.stderr is not None and sys.stderr.isatty()):
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
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    ) as progress:
        task = progress.add_task("", total=total)
        yield lambda done, name: progress.update(task, completed=done, description=printable(name))


def _plain(line: str) -> Any:
    from rich.text import Text

    return Text(printable(line))
