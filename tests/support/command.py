"""The command, in the process of the tests or, as a user runs it, in one of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from typer.testing import CliRunner

import edgeae
from edgeae.cli.app import app

# Of a process of its own, which finds the package that is tested.
COMMAND = [sys.executable, "-m", "edgeae"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(edgeae.__file__).parent.parent)}


def run(*arguments, code=0, data=None, env=None):
    """What a command said here, which got these bytes through stdin and ends with this code."""
    try:
        runner = CliRunner(mix_stderr=False)  # as click up to 8.1 wants it
    except TypeError:
        runner = CliRunner()
    found = runner.invoke(app, [str(argument) for argument in arguments], input=data, env=env)
    assert found.exit_code == code, found.output
    return found
