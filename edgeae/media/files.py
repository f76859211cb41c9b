"""Files in and out, complete or not at all.

Writing goes to a temporary file in the same folder, is synced, and then takes the place of the old
file in one step: a reader sees the old file or the new one, never half.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgeae.errors import MediaError, printable

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "MAX_BYTES",
    "Source",
    "Target",
    "atomic_write",
    "first_line",
    "keep_time",
    "named",
    "opened",
    "quoting",
    "read_bytes",
    "replacing",
    "rereadable",
    "temporary_paths",
    "unreadable",
    "unwritable",
]

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
Target = str | os.PathLike[str] | BinaryIO

# More than the largest image that is read has in 16 bits of three colors, without compression.
MAX_BYTES = 2**31

_O_BINARY = getattr(os, "O_BINARY", 0)  # on Windows, where text is the default


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
    rights = _rights(path, target)
    if not target.parent.is_dir():
        raise unwritable(path, f"there is no folder {named(target.parent)}")
    with quoting("write", path):
        temporary, lock = _new_temporary(target)
    try:
        with quoting("write", path):
            if rights is not None:
                os.chmod(temporary, rights)
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


def _rights(path: str | os.PathLike[str], target: Path) -> int | None:
    """The rights of the file at `target`, None if there is none; MediaError if it may not go."""
    try:
        found = target.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise unwritable(path, "not a regular file")
    if not found.st_mode & 0o222:
        raise unwritable(path, "the file there is read-only")
    return found.st_mode & 0o777


# How many may write one file at once and still leave nothing behind if they are killed.
_TEMPORARIES = 8


def temporary_paths(target: Path) -> list[Path]:
    """The names that temporary files of `target` take, beside it.

    They are of one length, however long the target's name is, and none that a user would choose:
    what has such a name may be removed.
    """
    key = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    return [target.parent / f".edgeae-{key}-{number}.tmp" for number in range(_TEMPORARIES)]


def _new_temporary(target: Path) -> tuple[Path, int | None]:
    """A new file beside `target`, and a descriptor that locks it for as long as it is open, if
    this system has such locks.

    The lock goes with its process, however that ends: a temporary file without one is abandoned.
    Its name is one of a few, so that the next writer of the same target comes upon it.
    """
    # Not tempfile: it makes files that only their owner can read.
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
    names = temporary_paths(target)
    for temporary, following in zip(names, [*names[1:], None], strict=True) if fcntl else ():
        _remove_abandoned(temporary)
        try:
            descriptor = os.open(temporary, flags, 0o666)
        except FileExistsError:
            continue
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another writer may have thought it abandoned before it had its lock.
        if os.fstat(descriptor).st_nlink:
            if following is not None:
                _remove_abandoned(following)
            return temporary, descriptor
        os.close(descriptor)
    temporary = names[0].with_name(f"{names[0].stem}{secrets.token_hex(6)}.tmp")
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
        locked, named = os.fstat(descriptor), os.lstat(temporary)
        # Its writer may have finished since it was opened: then what is locked here is the new
        # target, and the name is free, or another writer's. Whoever holds the lock of the file
        # that has the name is alone in renaming or removing it.
        same = (locked.st_dev, locked.st_ino) == (named.st_dev, named.st_ino)
        if same and stat.S_ISREG(locked.st_mode):
            temporary.unlink()
    except OSError:
        pass  # its writer lives, or has removed it
    finally:
        os.close(descriptor)


def atomic_write(path: str | os.PathLike[str], data: bytes) -> None:
    """Put `data` at `path` in one step; MediaError, and the old file as it was, if that fails."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def named(source: Source | Target) -> str:
    """What a message calls a file: its name, in characters that a terminal only shows."""
    if isinstance(source, bytes | bytearray | memoryview):
        return f"{len(source):,} bytes of memory"
    if isinstance(source, str | os.PathLike):
        return printable(os.fsdecode(source))
    name = getattr(source, "name", None)
    return printable(name) if isinstance(name, str) else "a file object"


def read_bytes(source: Source, *, max_bytes: int = MAX_BYTES) -> bytes:
    """All bytes of a file, a pipe, a file object, or the bytes themselves.

    MediaError if there are none, if there are more than `max_bytes`, or if they cannot be read;
    so for a path that is a folder, a device or a named pipe, which could go on for ever.
    """
    with opened(source, max_bytes=max_bytes) as file, quoting("read", source):
        return file.read()


@contextlib.contextmanager
def opened(source: Source, *, max_bytes: int = MAX_BYTES) -> Iterator[BinaryIO]:
    """A seekable binary file at its first byte, closed at the end if it was opened here.

    Paths are opened where they lie; what cannot seek (pipes, /dev/stdin, file objects) is read
    into memory first. MediaError as `read_bytes`.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield _in_memory(source, io.BytesIO(source), max_bytes)
        return
    if not isinstance(source, str | os.PathLike):
        yield _in_memory(source, source, max_bytes)
        return
    with contextlib.ExitStack() as stack:
        with quoting("read", source):
            file = stack.enter_context(_open_path(source))
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode):
                _check_size(source, found.st_size, max_bytes)
            else:
                file = _in_memory(source, file, max_bytes)
        yield file


# Paths that name a descriptor which the caller handed over: there a pipe is meant.
_HANDED_OVER = re.compile(r"/dev/(stdin|fd/\d+)|/proc/self/fd/\d+")


def rereadable(source: Source) -> Source:
    """The source, or its bytes where it can be read once only: a file object, or a pipe that was
    handed over. MediaError as `read_bytes`."""
    if isinstance(source, bytes | bytearray | memoryview):
        return source
    if isinstance(source, str | os.PathLike):
        if not _HANDED_OVER.fullmatch(os.fsdecode(source)):
            return source
        with quoting("read", source):
            if stat.S_ISREG(os.stat(source).st_mode):
                return source
    return read_bytes(source)


def _open_path(path: str | os.PathLike[str]) -> BinaryIO:
    """The file, opened without waiting for anyone; MediaError if it is no regular file."""
    if _HANDED_OVER.fullmatch(os.fsdecode(path)):
        return open(path, "rb")
    # O_NONBLOCK: a named pipe would wait for its writer here.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _O_BINARY)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((word for is_kind, word in _KINDS if is_kind(mode)), "a special file")
            raise unreadable(path, f"{kind}, expected a regular file")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def _in_memory(source: Source, file: BinaryIO, max_bytes: int) -> BinaryIO:
    """What is left of a file that may be a pipe, in memory and no more than MAX_BYTES of it."""
    most = min(max_bytes, MAX_BYTES)
    data = bytearray()
    while len(data) <= most:
        with quoting("read", source):
            part = file.read(min(most + 1 - len(data), 1 << 20))
        if not isinstance(part, bytes):
            raise TypeError(f"read() of a file object gave {type(part).__name__}, expected bytes")
        if not part:
            break
        data += part
    _check_size(source, len(data), most)
    return io.BytesIO(data)


def _check_size(source: Source, size: int, max_bytes: int) -> None:
    if size == 0:
        raise unreadable(source, "the file is empty")
    if size > max_bytes:
        raise unreadable(source, f"more than {max_bytes:,} bytes, which is the most")


def keep_time(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give `target` the time of last change of `source`; nothing where the system refuses."""
    with contextlib.suppress(OSError):
        changed = os.stat(source).st_mtime_ns
        os.utime(target, ns=(changed, changed))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def quoting(verb: str, source: Source | Target) -> Iterator[None]:
    """Turns an OSError into a MediaError of one line that quotes the path."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:  # a closed pipe is no fault of the file
            raise
        reason = error.strerror or printable(str(error))
        raise MediaError(f"cannot {verb} {named(source)}: {reason}") from error
    except ValueError as error:
        if "null byte" not in str(error) and "null character" not in str(error):
            raise
        raise MediaError(f"cannot {verb} {named(source)}: a null byte in its name") from error


def unreadable(source: Source, reason: str) -> MediaError:
    """The error that says why a file cannot be read."""
    return MediaError(f"cannot read {named(source)}: {reason}")


def unwritable(target: Target, reason: str) -> MediaError:
    """The error that says why a file cannot be written."""
    return MediaError(f"cannot write {named(target)}: {reason}")


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the name of its kind."""
    return printable((str(error).strip() or type(error).__name__).splitlines()[0])
