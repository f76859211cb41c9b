"""The shell completes verbs and options of the command, and --help lists its verbs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from edgeae.cli.app import app

PROGRAM = "from edgeae.cli.app import app; app(prog_name='edgeae')"


def edgeae(*arguments, **variables):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def completed(words):
    """What bash is given for the last of these words."""
    count = str(len(words.split(" ")) - 1)
    return edgeae(_EDGEAE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count).split()


def test_verbs_are_completed():
    assert completed("edgeae de") == ["demo", "decompress", "denoise"]
    assert completed("edgeae comp") == ["compress"]


def test_options_are_completed():
    found = completed("edgeae compress --ma")
    assert found[0] == "--max-bytes" and all(word.startswith("--ma") for word in found)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_script(shell):
    script = edgeae("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_EDGEAE_COMPLETE" in script and f"complete_{shell}" in script


def test_the_list_of_verbs_has_a_sentence_without_breaks_for_each():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "240", "TERM": "dumb"}).output
    for name, verb in get_command(app).commands.items():
        told = " ".join(verb.help.split("\n\n")[0].split())
        assert f" {name} " in shown and told in shown, name
