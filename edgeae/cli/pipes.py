"""`-` in place of a file: the standard streams, whole or as a recording that comes in live."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeae import media
from edgeae.cli import terminal
from edgeae.errors import MediaError
from edgeae.media.files import Source

__all__ = [
    "PIPE",
    "live_input",
    "name",
    "read_bytes",
    "read_size",
    "write_binary",
    "write_bytes",
]

PIPE = Path("-")
READ_BYTES = 1 << 16
# The most that a pipe holds on Linux; a writer that does not stop could go on filling it.
LEFT_BYTES = 1 << 20
# As large as a compressed file or an image may be.
MAX_BYTES = 1 << 30


def name(path: Path, stream: str) -> str:
    """A file's name, or that of the stream that stands in its place."""
    return stream if path == PIPE else str(path)


def read_bytes(path: Path) -> bytes:
    """All bytes of a file, or of stdin for `-`. MediaError if there are none, or too many."""
    if path != PIPE:
        return media.read_bytes(path)
    data: bytes = binary_stdin().read(MAX_BYTES + 1)
    if not data:
        raise MediaError("nothing came through -")
    if len(data) > MAX_BYTES:
        raise MediaError(f"more than {MAX_BYTES:,} bytes came through -")
    return data


def read_size(path: Path, source: Source) -> int:
    """How many bytes a file has, of which `media.rereadable` gave the source."""
    return len(source) if isinstance(source, bytes) else path.stat().st_size


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file, or to stdout for `-`."""
    if path == PIPE:
        write_binary(data)
    else:
        media.atomic_write(path, data)


def write_binary(data: bytes) -> None:
    """Writes to stdout. MediaError if that is closed or full; BrokenPipeError if nobody reads."""
    if 1 in terminal.closed_streams:
        raise MediaError("cannot write to standard output: it is closed")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        terminal.drop_output()
        raise MediaError(f"cannot write to standard output: {error.strerror}") from error


def binary_stdin() -> Any:
    """The bytes of stdin."""
    if 0 in terminal.closed_streams:
        raise MediaError("cannot read from standard input: it is closed")
    return sys.stdin.buffer


@contextmanager
def live_input(stopped: Callable[[str], None]) -> Iterator[Iterator[bytes]]:
    """The bytes of stdin as they come, until their end, Ctrl-C, TERM or HUP.

    A signal is the end of the data, not of the command: what has come is still worked on, and
    `stopped` is called with its name. A second one is no longer held back.
    """
    stdin = binary_stdin()
    came: list[int] = []
    reading, waking = os.pipe()
    os.set_blocking(waking, False)
    numbers = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]

    def note(number: int, frame: object) -> None:
        came.append(number)
        for held in before:
            signal.signal(held, before[held])

    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, note)
    woken = signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    try:
        yield _until_stopped(stdin, reading, came)
        if came:
            stopped(signal.Signals(came[0]).name)
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(waking)


def _until_stopped(stdin: Any, waking: int, came: list[int]) -> Iterator[bytes]:
    try:
        source = stdin.fileno()
        select.select([source], [], [], 0)
    except (OSError, ValueError):  # no descriptor, or (Windows) none that can be waited for
        while not came and (data := stdin.read1(READ_BYTES)):
            yield data
        return
    left = LEFT_BYTES
    while left > 0:
        # After a signal, only what already lies in the pipe.
        ready, _, _ = select.select([source, waking], [], [], 0 if came else None)
        if source not in ready:
            if came:
                return
            os.read(waking, 64)
            continue
        # What is there is given on: a live source is not kept waiting for a full buffer.
        data = os.read(source, READ_BYTES)
        if not data:
            return
        if came:
            left -= len(data)
        yield data
