"""The log of a run: a row for each file, in a .csv or .jsonl file that nothing else is in."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from edgeae.batch import NO_FILE, Done, Plan
from edgeae.cli.options import UsageError
from edgeae.cli.pipes import PIPE
from edgeae.errors import MediaError, printable

__all__ = ["LOG_FIELDS", "LOG_SUFFIXES", "RunLog", "refuse_harm"]

LOG_FIELDS = ("source", "target", "status", "read_bytes", "written_bytes", "seconds", "message")
LOG_SUFFIXES = (".csv", ".jsonl")
# More than any first line of a log has: its messages are one line, its names a path each.
_LINE_BYTES = 1 << 16


def refuse_harm(path: Path, plan: Plan) -> Plan:
    """The plan, without the log among what it leaves out.

    Raises:
        UsageError: a job reads or writes the log, or it is a table in the folder that is read.
    """
    log = os.path.realpath(path)
    for job in plan.jobs:
        for what, other in (("IN", job.source), ("OUT", job.target)):
            if other not in (PIPE, NO_FILE) and _is_same(other, path, log):
                raise UsageError(f"--log {path} is {what} {other}, expected a file of its own")
    if plan.folder is None or not Path(log).is_relative_to(plan.folder.resolve()):
        return plan
    # Some verb reads any table, and one first in a folder makes it a folder of tables.
    if path.suffix.lower() == ".csv":
        raise UsageError(
            f"--log {path} lies in IN {plan.folder}, where the next run would read it, expected a"
            " name that ends in .jsonl, or a file outside of it"
        )
    others = [left for left in plan.left_out if not _is_same(left.path, path, log)]
    return replace(plan, left_out=others)


def _is_same(other: Path, path: Path, log: str) -> bool:
    """Whether both are one file, through links too, or would be if they were made."""
    try:
        return os.path.samefile(other, path)
    except OSError:  # one of them is not there
        return other.name == os.path.basename(log) and os.path.realpath(other) == log


class RunLog:
    """Rows of a .csv or .jsonl file, each there as soon as it is known; nothing without a path."""

    def __init__(self, path: Path | None) -> None:
        """Goes on with an earlier log, whose rows stay. Raises MediaError if the file is
        something else, or cannot be written."""
        self._file: IO[str] | None = None
        if path is None:
            return
        self._json = path.suffix.lower() == ".jsonl"
        try:
            rest = self._rest_of_earlier(path)
            # An earlier run's rows stay: what it did is still done.
            self._file = path.open("a", encoding="utf-8", errors="backslashreplace", newline="")
        except OSError as error:
            raise MediaError(f"cannot write {path}: {error.strerror or error}") from error
        self._csv = csv.writer(self._file)
        self._file.write(rest)
        if not self._json and self._file.tell() == 0:
            self._csv.writerow(LOG_FIELDS)
        self._file.flush()

    def _rest_of_earlier(self, path: Path) -> str:
        """The line end that an earlier log lacks, if it was cut in a row.

        A file with other rows is the user's data, which the rows of a log would spoil.
        """
        if not path.is_file() or path.stat().st_size == 0:
            return ""
        with path.open("rb") as file:
            first = file.readline(_LINE_BYTES)
            file.seek(-1, os.SEEK_END)
            whole = file.read(1) == b"\n"
        if not (_is_row(first) if self._json else first.strip() == ",".join(LOG_FIELDS).encode()):
            raise MediaError(f"{path} is no earlier log, expected one or a new file for --log")
        return "" if whole else "\n"

    def add(
        self,
        source: Path,
        target: Path | None,
        status: str,
        seconds: float = 0.0,
        done: Done | None = None,
        message: str = "",
    ) -> None:
        """Adds the row of one file."""
        if self._file is None:
            return
        row: dict[str, Any] = {
            "source": str(source),
            "target": None if target in (None, NO_FILE) else str(target),
            "status": status,
            "read_bytes": None if done is None else done.read_bytes,
            "written_bytes": None if done is None else done.written_bytes,
            "seconds": round(seconds, 4),
            "message": message,
        }
        if self._json:
            self._file.write(json.dumps(row) + "\n")
        else:
            self._csv.writerow([_cell(row[name]) for name in LOG_FIELDS])
        self._file.flush()

    def close(self) -> None:
        """Closes the file, if there is one."""
        if self._file is not None:
            self._file.close()


def _is_row(line: bytes) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and set(LOG_FIELDS) <= set(row)


def _cell(value: Any) -> Any:
    """What no spreadsheet takes for a formula and no terminal obeys, however a file is called."""
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value[:1] in ("=", "+", "-", "@") else printable(value)
