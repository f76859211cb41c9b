"""Atomic writes: the old file or the new one, whole, and nothing left behind."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made import litter

from edgeae import media
from edgeae.errors import MediaError, printable
from edgeae.media import files


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "keep.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), media.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and litter(tmp_path) == []
    media.atomic_write(path, b"new")
    assert path.read_bytes() == b"new" and litter(tmp_path) == []


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with media.replacing(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix", reason="POSIX file rights")
def test_rights_follow_the_umask_and_the_replaced_file(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        media.atomic_write(tmp_path / "new", b"1")
    finally:
        os.umask(umask)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    os.chmod(tmp_path / "new", 0o600)
    media.atomic_write(tmp_path / "new", b"2")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name != "posix", reason="links need no rights on POSIX")
def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    media.atomic_write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == b"new"


def test_a_folder_or_a_missing_folder_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="not a regular file"):
        media.atomic_write(tmp_path, b"x")
    with pytest.raises(MediaError, match="there is no folder"):
        media.atomic_write(tmp_path / "no" / "a", b"x")


# Writes again and again, is killed at any moment, and what is there must be whole: the old or the
# new. Forks, so that a hundred kills take seconds; in a process of its own, which has no threads.
KILLED_WRITERS = """
import os, random, signal, sys, time
from pathlib import Path
from edgeae import media
from edgeae.media import images

path = Path(sys.argv[1])
media.atomic_write(path, b"0" * 300_000)
seen, most = set(), 0
for kill in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        while True:
            for letter in b"abcdefgh":
                media.atomic_write(path, bytes([letter]) * 300_000)
    time.sleep(random.Random(kill).uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    data = path.read_bytes()
    assert len(data) == 300_000 and len(set(data)) == 1, (kill, len(data), set(data))
    seen.add(data[:1])
    # What the killed one left is removed by the next one.
    left = [name for name in os.listdir(path.parent) if name != path.name]
    assert len(left) <= 1, left
    most = max(most, len(left))
media.atomic_write(path, b"0" * 300_000)
assert os.listdir(path.parent) == [path.name], os.listdir(path.parent)
print(len(seen), most)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_writer_that_is_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    root = Path(media.__file__).parents[2]
    out = subprocess.run(
        [sys.executable, "-c", KILLED_WRITERS, str(tmp_path / "a.bin"), "100"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert out.returncode == 0, out.stderr
    wrote, left = map(int, out.stdout.split())
    assert wrote > 1 and left == 1  # some of them did write, some were killed half way


@pytest.mark.skipif(os.name != "posix", reason="this system has no file locks of that kind")
def test_writers_of_one_file_at_once_do_not_take_each_others_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    litter = files.temporary_paths(path)[:3]
    for file in litter:
        file.write_bytes(b"left by a killed writer")
    with media.replacing(path) as first:
        with media.replacing(path) as second:
            assert first != second
            first.write_bytes(b"first")
            second.write_bytes(b"second")
        assert path.read_bytes() == b"second"
        assert first.read_bytes() == b"first"
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="this system has no links and pipes of that kind")
def test_what_is_no_litter_of_a_writer_is_left_alone(tmp_path: Path) -> None:
    path, other = tmp_path / "a.bin", tmp_path / "other"
    other.write_bytes(b"kept")
    link, pipe, folder = files.temporary_paths(path)[:3]
    link.symlink_to(other)
    os.mkfifo(pipe)
    folder.mkdir()
    media.atomic_write(path, b"data")
    assert path.read_bytes() == b"data" and other.read_bytes() == b"kept"
    assert len(os.listdir(tmp_path)) == 5


@pytest.mark.skipif(os.name != "posix", reason="this system has no file locks of that kind")
def test_more_writers_than_names_find_others(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(media.replacing(path)) for _ in range(10)]
        assert len(set(made)) == 10
    assert os.listdir(tmp_path) == ["a.bin"]


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from edgeae import media
from edgeae.errors import MediaError
from edgeae.media import images

folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
sound = (noise.ravel() / 256 - 0.5).astype(np.float32)
for write in (
    lambda: media.atomic_write(folder / "a.bin", bytes(9000)),
    lambda: media.write_image(folder / "a.png", noise),
    lambda: media.write_audio(folder / "a.wav", sound, 16000),
):
    try:
        write()
    except MediaError as error:
        print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="a limit on a file's size stands for a full disk")
def test_a_full_disk_leaves_the_old_files_and_no_litter(tmp_path: Path) -> None:
    names = ["a.bin", "a.png", "a.wav"]
    for name in names:
        (tmp_path / name).write_bytes(b"old")
    root = Path(media.__file__).parents[2]
    out = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert out.returncode == 0, out.stderr
    lines = out.stdout.splitlines()
    assert len(lines) == 3
    for name, line in zip(names, lines, strict=True):
        assert f"cannot write {tmp_path / name}" in line
        assert (tmp_path / name).read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == names


MANY_WRITERS = """
import os, sys
from pathlib import Path
from edgeae import media

path, count = Path(sys.argv[1]), int(sys.argv[2])
children = []
for letter in b"abcdef":
    child = os.fork()
    if child == 0:
        try:
            for _ in range(count):
                media.atomic_write(path, bytes([letter]) * 5000)
        except BaseException as error:
            print(error, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
data = path.read_bytes()
assert len(data) == 5000 and len(set(data)) == 1
assert os.listdir(path.parent) == [path.name], os.listdir(path.parent)
print("failed", failed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_processes_that_write_one_file_all_succeed(tmp_path: Path) -> None:
    root = Path(media.__file__).parents[2]
    out = subprocess.run(
        [sys.executable, "-c", MANY_WRITERS, str(tmp_path / "a.bin"), "50"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout == "failed 0\n"


@pytest.mark.skipif(os.name != "posix", reason="this system has no file locks of that kind")
def test_the_name_of_a_writer_that_has_finished_is_not_taken_from_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    temporary = files.temporary_paths(path)[0]
    temporary.write_bytes(b"first")
    lock = files.fcntl.flock

    def finish_and_begin_again(descriptor: int, operation: int) -> None:
        lock(descriptor, operation)
        temporary.rename(path)  # the first writer is done between our open and our lock
        temporary.write_bytes(b"second")

    monkeypatch.setattr(files.fcntl, "flock", finish_and_begin_again)
    files._remove_abandoned(temporary)
    assert temporary.read_bytes() == b"second" and path.read_bytes() == b"first"


def test_a_users_own_hidden_temporary_file_is_left_alone(tmp_path: Path) -> None:
    own = [tmp_path / f".t.eae.{number}.tmp" for number in range(9)]
    for file in own:
        file.write_bytes(b"mine")
    media.atomic_write(tmp_path / "t.eae", b"data")
    assert all(file.read_bytes() == b"mine" for file in own)


@pytest.mark.parametrize("name", ["a" * 251 + ".eae", "\u00e9" * 125 + ".eae", "x" * 255])
def test_a_name_as_long_as_a_file_system_takes_can_be_written(tmp_path: Path, name: str) -> None:
    media.atomic_write(tmp_path / name, b"data")
    assert (tmp_path / name).read_bytes() == b"data" and len(os.listdir(tmp_path)) == 1


def test_a_read_only_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"kept")
    path.chmod(0o444)
    with pytest.raises(MediaError, match=r"a\.bin: the file there is read-only"):
        media.atomic_write(path, b"new")
    assert path.read_bytes() == b"kept" and os.listdir(tmp_path) == ["a.bin"]


# --- reading ---


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_could_go_on_for_ever_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, kind in ((tmp_path / "pipe.png", "a named pipe"), ("/dev/zero", "a device")):
        for read in (media.read_bytes, media.read_image, media.read_audio, media.audio_info):
            with pytest.raises(MediaError, match=f"{kind}, expected a regular file"):
                read(path)


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with open(path, "wb") as file:
        file.truncate(5 * 10**9)
    with pytest.raises(MediaError, match=r"sparse\.png: more than 2,147,483,648 bytes"):
        media.read_image(path)
    with pytest.raises(MediaError, match="more than 99 bytes"):
        media.read_bytes(bytes(100), max_bytes=99)
    with pytest.raises(MediaError, match="more than 99 bytes"):
        media.read_bytes(io.BytesIO(bytes(100)), max_bytes=99)
    assert media.read_bytes(bytes(100), max_bytes=100) == bytes(100)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system does not name descriptors")
def test_a_pipe_that_was_handed_over_is_read() -> None:
    out, into = os.pipe()
    os.write(into, b"data")
    os.close(into)
    try:
        assert media.read_bytes(f"/dev/fd/{out}") == b"data"
    finally:
        os.close(out)


def test_file_objects_may_give_what_they_have_piece_by_piece() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(3)

    assert media.read_bytes(Slow(b"0123456789")) == b"0123456789"
    with pytest.raises(TypeError, match="gave str, expected bytes"):
        media.read_bytes(io.StringIO("text"))


def test_names_reach_a_message_in_printable_characters(tmp_path: Path) -> None:
    name = "a\x1b]0;title\x07\u202egnp.png"
    for read in (media.read_bytes, media.read_image, media.read_audio):
        with pytest.raises(MediaError) as caught:
            read(tmp_path / name)
        assert str(caught.value).isprintable()
        assert r"a\x1b]0;title\x07\u202egnp.png" in str(caught.value)
    with pytest.raises(MediaError, match="null byte"):
        media.read_bytes(tmp_path / "a\0b")
    assert printable("Gr\u00fc\u00dfe \u65e5\u672c.png") == "Gr\u00fc\u00dfe \u65e5\u672c.png"
    assert printable(os.fsdecode(b"\xff.png")) == r"\udcff.png"


def test_the_time_of_a_file_is_carried(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"x")
    os.utime(tmp_path / "a", ns=(10**18, 10**18 + 700))
    media.keep_time(tmp_path / "a", tmp_path / "b")
    changed = [(tmp_path / name).stat().st_mtime_ns for name in "ab"]
    assert changed[0] == changed[1]
    media.keep_time(tmp_path / "gone", tmp_path / "b")
