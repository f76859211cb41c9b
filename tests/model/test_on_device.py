"""Nothing leaves the device: no socket is opened, and no file of anybody else's is touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

import edgeae

# Loads a model, runs it, and says what Python saw of sockets.
CODE = """
import json, sys
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event.startswith("socket.") else None)
import numpy
import edgeae
model = edgeae.load(sys.argv[1])
model.denoise(numpy.zeros(4000, "f4"), sample_rate=16000)
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    return tiny.tiny_denoiser_bundle(tmp_path_factory.mktemp("bundle") / "denoiser")


def run(denoiser, home, *, under=(), **variables):
    """The finished process that runs CODE with a temporary folder and caches of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(edgeae.__file__).parent.parent),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "TMPDIR": str(home),
        **variables,
    }
    return subprocess.run(
        [*under, sys.executable, "-P", "-c", CODE, str(denoiser)],
        capture_output=True,
        text=True,
        env=environment,
    )


def test_what_a_planted_link_points_to_lives_and_nothing_is_left_behind(denoiser, tmp_path):
    home, target = tmp_path / "home", tmp_path / "precious"
    home.mkdir()
    target.write_text("mine")
    (home / ".ses").symlink_to(target)
    done = run(denoiser, home)
    assert (done.returncode, json.loads(done.stdout)) == (0, []), done.stderr
    assert target.read_text() == "mine"
    assert [path.name for path in home.rglob("*")] == [".ses"]


def test_a_setting_that_lets_it_speak_is_overruled(denoiser, tmp_path):
    (tmp_path / ".ses").symlink_to(tmp_path / "made")
    done = run(denoiser, tmp_path, ORT_DISABLE_TELEMETRY="0")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "made").exists()


@pytest.fixture
def strace(tmp_path):
    """A command line that traces what follows it into the file that comes with it."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    trace = tmp_path / "trace"
    under = ("strace", "-f", "-e", "trace=network", "-o", str(trace))
    if subprocess.run([*under, "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    return under, trace


def network_calls(trace):
    """The lines of a trace that open or use a socket."""
    calls = [line for line in trace.read_text().splitlines() if "(" in line]
    return [line for line in calls if "socket" in line or "connect" in line]


def test_no_socket_is_opened(denoiser, tmp_path, strace):
    under, trace = strace
    home = tmp_path / "home"
    home.mkdir()
    done = run(denoiser, home, under=under)
    assert (done.returncode, json.loads(done.stdout)) == (0, []), done.stderr
    assert network_calls(trace) == []


def test_the_demo_opens_no_socket(tmp_path, strace):
    under, trace = strace
    demo = [sys.executable, "-m", "edgeae", "demo", "--out", str(tmp_path / "demo")]
    done = subprocess.run([*under, *demo], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "demo" / "speech-clean.wav").exists()
    assert network_calls(trace) == []


def test_the_trace_would_show_a_socket(strace):
    under, trace = strace
    opened = [sys.executable, "-c", "import socket; socket.socket()"]
    assert subprocess.run([*under, *opened]).returncode == 0
    assert network_calls(trace) != []


def test_a_model_never_brings_its_own_session_options(denoiser, tmp_path):
    done = run(denoiser, tmp_path, ORT_LOAD_CONFIG_FROM_MODEL="1")
    assert done.returncode == 0, done.stderr


def test_the_variable_is_as_it_was_after_a_load(denoiser, monkeypatch):
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    edgeae.load(denoiser)
    assert os.environ["ORT_LOAD_CONFIG_FROM_MODEL"] == "1"
