"""Files in and out, complete or not at all.

Writing goes to a temporary file in the same folder, is synced, and then takes the place of the old
file in one step: a reader sees the old file or the new one, never half.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from edgeae.errors import MediaError

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

__all__ = ["atomic_write", "first_line", "quoting", "read_bytes", "replacing"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the folder of `path`; takes its place when the block ends well.

    The file is created empty, with the rights a new file gets, or those of the one it replaces. On
    any exception it is removed and `path` stays as it was; what a killed writer left is removed by
    the next one to write `path`. MediaError where the folder is missing, `path` is no regular file,
    or the disk refuses.
    """
    # Through a link to the file it names: replacing the link would leave the target behind.
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise MediaError(f"cannot write {path}: not a regular file")
    if not target.parent.is_dir():
        raise MediaError(f"cannot write {path}: there is no folder {target.parent}")
    with quoting("write", path):
        temporary, lock = _new_temporary(target)
    try:
        with quoting("write", path):
            if target.exists():
                os.chmod(temporary, target.stat().st_mode & 0o777)
            yield temporary
            _sync(temporary)
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        if lock is not None:
            os.close(lock)
    with contextlib.suppress(OSError):  # a folder cannot be opened on every system
        _sync(target.parent)


# How many may write one file at once and still leave nothing behind if they are killed.
_TEMPORARIES = 8


def _new_temporary(target: Path) -> tuple[Path, int | None]:
    """A new file beside `target`, and a descriptor that locks it for as long as it is open, if
    this system has such locks.

    The lock goes with its process, however that ends: a temporary file without one is abandoned.
    Its name is one of a few, so that the next writer of the same target comes upon it.
    """
    # Not tempfile: it makes files that only their owner can read.
    stem = f".{target.name[:100]}"
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
    for number in range(_TEMPORARIES if fcntl else 0):
        temporary = target.parent / f"{stem}.{number}.tmp"
        _remove_abandoned(temporary)
        try:
            descriptor = os.open(temporary, flags, 0o666)
        except FileExistsError:
            continue
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another writer may have thought it abandoned before it had its lock.
        if os.fstat(descriptor).st_nlink:
            _remove_abandoned(target.parent / f"{stem}.{number + 1}.tmp")
            return temporary, descriptor
        os.close(descriptor)
    temporary = target.parent / f"{stem}.{secrets.token_hex(6)}.tmp"
    os.close(os.open(temporary, flags, 0o666))
    return temporary, None


def _remove_abandoned(temporary: Path) -> None:
    """Removes the temporary file of a writer that is dead, if there is one."""
    try:
        # Not through a link, and without waiting for the other end of a pipe.
        descriptor = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            temporary.unlink()
    except OSError:
        pass  # its writer lives
    finally:
        os.close(descriptor)


def atomic_write(path: str | os.PathLike[str], data: bytes) -> None:
    """Put `data` at `path` in one step; MediaError, and the old file as it was, if that fails."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a file; MediaError if there are none or it cannot be read."""
    with quoting("read", path):
        data = Path(path).read_bytes()
    if not data:
        raise MediaError(f"cannot read {path}: the file is empty")
    return data


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def quoting(verb: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an OSError into a MediaError of one line that quotes the path."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:  # a closed pipe is no fault of the file
            raise
        raise MediaError(f"cannot {verb} {path}: {error.strerror or error}") from error


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
