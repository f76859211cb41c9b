"""Folders of files: in several processes, gone on with, logged, and stopped."""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from processes import default_signals
from typer.testing import CliRunner

import edgeae
from edgeae import batch, media
from edgeae.batch import Done, Job
from edgeae.cli.app import app
from edgeae.cli.options import UsageError
from edgeae.cli.run_log import LOG_FIELDS, RunLog, refuse_harm

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and pipes are POSIX")


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return str(tiny.tiny_codec_bundle(tmp_path_factory.mktemp("bundle") / "codec"))


def photo(height=24, width=40):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 6, 200 - rows], -1).astype(np.uint8)


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def folder(path, names):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        media.write_image(path / name, photo())
    return path


def files(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


# --- what becomes what ---


def test_out_is_never_in_whatever_it_is_called(tmp_path, codec):
    photos = folder(tmp_path / "p", ["a.png"])
    before = (photos / "a.png").read_bytes()
    (tmp_path / "link.eae").symlink_to(photos / "a.png")
    os.link(photos / "a.png", tmp_path / "hard.eae")
    for out in (photos / "a.png", tmp_path / "link.eae", tmp_path / "hard.eae"):
        result = run("compress", photos / "a.png", out, "--force", "--model", codec)
        assert result.exit_code == 2 and "expected" in result.stderr, result.output
    with pytest.raises(ValueError, match="OUT .* is IN"):
        batch.plan([photos], photos, suffixes={".png"}, new_suffix=None)
    assert (photos / "a.png").read_bytes() == before


def test_two_inputs_of_a_glob_and_a_forgotten_folder_destroy_nothing(tmp_path, codec):
    photos = folder(tmp_path, ["a.png", "b.png", "c.png"])
    before = {name: (photos / name).read_bytes() for name in files(photos)}
    result = run("compress", *(photos / name for name in before), "--force", "--model", codec)
    assert result.exit_code == 2 and "expected a folder for 2 inputs" in result.stderr
    assert {name: (photos / name).read_bytes() for name in files(photos)} == before


def test_several_inputs_go_into_a_folder_which_a_slash_makes(tmp_path, codec):
    photos = folder(tmp_path / "p", ["a.png", "b.png"])
    out = f"{tmp_path / 'new'}/"
    both = photos / "a.png", photos / "b.png"
    assert run("compress", *both, out, "--model", codec).exit_code == 0
    assert files(tmp_path / "new") == ["a.eae", "b.eae"]
    assert (
        run("compress", photos / "a.png", f"{tmp_path / 'one'}/", "--model", codec).exit_code == 0
    )
    assert files(tmp_path / "one") == ["a.eae"]


def test_equal_stems_are_told_apart_by_their_suffixes(tmp_path, codec):
    photos = folder(tmp_path / "p", ["a.png", "a.bmp"])
    result = run("compress", photos, tmp_path / "out", "--model", codec)
    assert result.exit_code == 1 and "--keep-suffix" in result.stderr
    assert (
        run("compress", photos, tmp_path / "out", "--keep-suffix", "--model", codec).exit_code == 0
    )
    assert files(tmp_path / "out") == ["a.bmp.eae", "a.eae", "a.png.eae"]
    back = run("decompress", tmp_path / "out" / "a.png.eae", f"{tmp_path}/", "--model", codec)
    assert back.exit_code == 0 and (tmp_path / "a.png").is_file()


@POSIX
def test_what_is_left_out_is_named_and_an_error_with_strict(tmp_path, codec):
    photos = folder(tmp_path / "p", ["a.png"])
    (photos / "notes.txt").touch()
    os.mkfifo(photos / "pipe.png")  # reading it would wait for ever
    result = run("compress", photos, tmp_path / "out", "--model", codec)
    assert result.exit_code == 0
    assert f"left out: {photos / 'notes.txt'}: no image" in result.stderr
    assert f"left out: {photos / 'pipe.png'}: not a regular file" in result.stderr
    result = run("compress", photos, tmp_path / "strict", "--strict", "--model", codec)
    assert result.exit_code == 1 and "--strict forbids" in result.stderr
    assert files(tmp_path / "strict") == ["a.eae"]


def test_a_rerun_skips_what_is_done(tmp_path, codec):
    photos = folder(tmp_path / "p", ["a.png", "b.png"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.eae").write_bytes(b"done before")
    result = run("compress", photos, tmp_path / "out", "--skip-existing", "--model", codec)
    assert result.exit_code == 0 and "1 file skipped" in result.stderr
    assert "1 file  " in result.stdout
    assert (tmp_path / "out" / "a.eae").read_bytes() == b"done before"
    assert files(tmp_path / "out") == ["a.eae", "b.eae"]


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_a_log_has_a_row_for_every_file_and_keeps_those_of_earlier_runs(tmp_path, codec, name):
    photos = folder(tmp_path / "p", ["=a.png", "b.png"])
    (photos / "bad.png").write_bytes(b"no picture")
    (photos / "notes.txt").touch()
    log = tmp_path / name
    given = "compress", photos, tmp_path / "out", "--model", codec, "--log", log
    assert run(*given).exit_code == 1
    text = log.read_text()
    if name.endswith("csv"):
        rows = list(csv.DictReader(text.splitlines()))
    else:
        rows = [json.loads(line) for line in text.splitlines()]
    status = {Path(row["source"]).name: row["status"] for row in rows}
    expected = {"=a.png": "done", "b.png": "done", "bad.png": "failed", "notes.txt": "left out"}
    assert status == expected
    done = next(row for row in rows if row["source"].endswith("b.png"))
    size = (tmp_path / "out" / "b.eae").stat().st_size
    assert int(done["written_bytes"]) == size
    run(*given, "--skip-existing")
    assert log.read_text().startswith(text) and log.read_text().count("skipped") == 2


def test_a_log_may_lie_in_the_folder_that_a_command_makes(tmp_path, codec):
    photos, out = folder(tmp_path / "p", ["a.png"]), tmp_path / "out"
    result = run("compress", photos, out, "--model", codec, "--log", out / "logs" / "x.csv")
    assert result.exit_code == 0 and files(out) == ["a.eae", "logs/x.csv"]


def test_a_model_that_is_wrong_is_told_once_whoever_loads_it(tmp_path, codec):
    photos = folder(tmp_path / "p", ["a.png", "b.png"])
    bad = shutil.copytree(codec, tmp_path / "bad")
    next(bad.glob("*.onnx")).write_bytes(b"no graph")
    for jobs in 1, 2:
        result = run("compress", photos, tmp_path / "out", "--model", bad, "--jobs", jobs)
        assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1
        # Nobody's CPU has it: the processes that load it say so.
        given = "--model", codec, "--provider", "DirectML", "--jobs", jobs
        result = run("compress", photos, tmp_path / "out", *given)
        assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1
        assert (
            "DirectML is not on this machine" in result.stderr and not (tmp_path / "out").exists()
        )


def series(path):
    path.parent.mkdir(exist_ok=True)
    path.write_text("a\n" + "\n".join(str(i % 9) for i in range(400)) + "\n")
    return path


def test_a_log_never_is_what_a_command_reads(tmp_path):
    data = series(tmp_path / "data.csv")
    before = data.read_bytes()
    result = run("compress", data, tmp_path / "data.eae", "--log", data)
    assert result.exit_code == 2 and data.read_bytes() == before
    assert f"--log {data} is IN {data}, expected a file of its own" in result.stderr
    assert len(result.stderr.splitlines()) == 1 and files(tmp_path) == ["data.csv"]


def test_a_log_is_told_from_inputs_and_outputs_through_links(tmp_path):
    data = series(tmp_path / "data.csv")
    (tmp_path / "link.csv").symlink_to(data)
    os.link(data, tmp_path / "hard.csv")
    (tmp_path / "folder").symlink_to(tmp_path)
    planned = batch.Plan([Job(data, tmp_path / "back.csv")], [], many=False)
    for name, what in (
        ("data.csv", "IN"),
        ("link.csv", "IN"),
        ("hard.csv", "IN"),
        ("back.csv", "OUT"),
        ("folder/back.csv", "OUT"),
        ("folder/../" + tmp_path.name + "/back.csv", "OUT"),
    ):
        with pytest.raises(UsageError, match=f"{name} is {what} "):
            refuse_harm(tmp_path / name, planned)
    assert refuse_harm(tmp_path / "log.csv", planned) == planned


def test_a_log_adds_no_row_to_a_table_of_others(tmp_path, codec):
    photos = folder(tmp_path / "p", ["a.png"])
    table, lines = series(tmp_path / "mine.csv"), tmp_path / "mine.jsonl"
    lines.write_text('{"x": 1}\n')
    for log in table, lines:
        before = log.read_bytes()
        result = run("compress", photos, tmp_path / "out", "--model", codec, "--log", log)
        assert result.exit_code == 1 and log.read_bytes() == before
        assert f"{log} is no earlier log" in result.stderr and not (tmp_path / "out").exists()


def test_a_log_in_the_folder_that_is_read_is_refused_or_passed_over(tmp_path, codec):
    photos = folder(tmp_path / "p", ["b.png"])
    given = "compress", photos, tmp_path / "out", "--model", codec, "--strict", "--log"
    result = run(*given, photos / "a.csv")
    assert result.exit_code == 2 and "lies in IN" in result.stderr
    assert files(photos) == ["b.png"] and len(result.stderr.splitlines()) == 1
    for again in [], ["--force"]:
        assert run(*given, photos / "a.jsonl", *again).exit_code == 0
    rows = [json.loads(line) for line in (photos / "a.jsonl").read_text().splitlines()]
    assert [Path(row["source"]).name for row in rows] == ["b.png", "b.png"]


def test_a_log_has_its_header_at_once_and_goes_on_after_a_row_that_was_cut(tmp_path):
    path = tmp_path / "log.csv"
    log = RunLog(path)
    assert path.read_text() == ",".join(LOG_FIELDS) + "\n"
    log.close()
    with path.open("a") as file:
        file.write("a.png,a.ea")
    log = RunLog(path)
    log.add(Path("b.png"), Path("b.eae"), "done")
    log.close()
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["source"] for row in rows] == ["a.png", "b.png"]


@POSIX
def test_an_out_that_cannot_be_made_is_told_once_and_not_for_each_file(tmp_path, codec):
    photos = folder(tmp_path / "p", ["a.png", "b.png", "c.png"])
    out = photos / "a.png" / "out"
    result = run("compress", photos, out, "--model", codec)
    assert result.exit_code == 1
    assert result.stderr == f"edgeae: cannot make the folder {out}: Not a directory\n"


# --- several processes ---


def test_several_processes_write_the_same_bytes_as_one(tmp_path, codec):
    photos = folder(tmp_path / "p", [f"{i}.png" for i in range(5)])
    (photos / "bad.png").write_bytes(b"no picture")
    results = [
        run("compress", photos, tmp_path / jobs, "--model", codec, "--jobs", jobs)
        for jobs in ("1", "2")
    ]
    assert files(tmp_path / "2") == files(tmp_path / "1") == [f"{i}.eae" for i in range(5)]
    for name in files(tmp_path / "1"):
        assert (tmp_path / "2" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
    assert sorted(results[0].stdout.replace(f"{tmp_path}/1", "").splitlines()) == sorted(
        results[1].stdout.replace(f"{tmp_path}/2", "").splitlines()
    )
    assert [result.exit_code for result in results] == [1, 1]
    assert "1 of 6 files failed" in results[1].stderr


def ends_its_process(job, tick):
    """The work of a file that kills whoever reads it, unless it is another file."""
    if job.source.name == "deadly":
        os._exit(9)
    return Done(job.source.name, 1, 1)


def test_a_file_that_kills_its_process_fails_alone():
    jobs = [Job(Path(name), Path("out")) for name in ("a", "b", "deadly", "c", "d", "e")]
    outcomes = list(batch.execute(jobs, ends_its_process, processes=2))
    assert sorted(outcome.job.source.name for outcome in outcomes) == sorted(
        ["a", "b", "deadly", "c", "d", "e"]
    )
    (failed,) = [outcome for outcome in outcomes if outcome.done is None]
    assert failed.job.source.name == "deadly" and "killed or crashed" in failed.message


def counted(seen, job):
    seen.append(job)
    return job


def test_no_more_jobs_wait_than_the_processes_soon_need():
    seen = []
    jobs = (counted(seen, Job(Path(str(i)), Path("out"))) for i in range(1000))
    outcomes = batch.execute(jobs, ends_its_process, processes=1 + 1)
    late = next(outcomes)
    assert late.done is not None and len(seen) <= 8
    outcomes.close()
    assert len(seen) <= 8


def test_the_work_on_one_file_can_be_sent_to_another_process():
    import pickle

    from edgeae.cli import audio_files, image_files

    loading = batch.Loading("photo-codec", providers=("CPUExecutionProvider", ("A", {"b": "c"})))
    for work in (
        functools.partial(image_files.compress_file, image_files.Compression(loading)),
        functools.partial(image_files.decompress_file, image_files.Restoring(loading)),
        functools.partial(audio_files.denoise_file, audio_files.Cleaning(loading)),
    ):
        assert pickle.loads(pickle.dumps(work)).args == work.args


@POSIX
def test_ctrl_c_ends_a_folder_with_what_is_done_and_no_process_stays(tmp_path, codec):
    photos = folder(tmp_path / "p", [f"{i:03}.bmp" for i in range(200)])
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeae", "compress", photos, tmp_path / "out"]
        + ["--model", codec, "--jobs", "2", "--log", tmp_path / "log.csv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=default_signals,
        env={**os.environ, "PYTHONPATH": str(Path(edgeae.__file__).parent.parent)},
    )
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to all of them
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130, said
    done = files(tmp_path / "out")
    assert 0 < len(done) < 200 and all(name.endswith(".eae") for name in done)
    assert f"{len(done)} of 200 files are done: --skip-existing goes on" in said
    assert said.splitlines()[-1] == "edgeae: stopped by Ctrl-C" and "Traceback" not in said
    assert (tmp_path / "log.csv").read_text().count(",done,") == len(done)
    for _ in range(300):  # the last process of the group may need a moment
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process of the command is still there")
