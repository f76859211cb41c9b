"""Two processes over gloo train what one process trains on both of their batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]

# A recipe whose loss is a plain mean over the batch and draws nothing by chance.
SCRIPT = """
import dataclasses
import sys
from pathlib import Path
import torch

sys.path[:0] = [{root!r}, {here!r}]
import line
from train import loop, recipes

recipes.RECIPES["line"] = line.ROW
own = loop.batches


def joined(recipe, seed, first, last, *, rank):
    pair = [own(recipe, seed, first, last, rank=rank) for rank in (0, 1)]
    for one, other in zip(*pair, strict=True):
        yield tuple(torch.cat(parts) for parts in zip(one, other, strict=True))


config = line.line_config()
optimize = dataclasses.replace(config.optimize, steps=20)
config = dataclasses.replace(config, optimize=optimize)
for out, batches in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    loop.batches = {{"own": own, "both": joined}}[batches]
    state = loop.train(config, Path(out))
    assert state["step"] == 20
"""


def launch(script, *arguments, processes):
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    result = subprocess.run(
        [*command, *map(str, (script, *arguments))],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def state_of(run):
    # Not through `load_checkpoint`, to which this process's table has no such task.
    return torch.load(run / "last.pt", weights_only=True)


def test_two_processes_equal_one_with_both_batches(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(root=str(ROOT), here=str(ROOT / "tests" / "support")))
    launch(script, tmp_path / "one", "both", tmp_path / "alone", "own", processes=1)
    said = launch(script, tmp_path / "two", "own", processes=2)
    # The first process alone reports.
    assert said.count("to train on") == said.count("validation at step 20") == 1
    one, two = (state_of(tmp_path / name) for name in ("one", "two"))
    for name, value in one["network"].items():
        assert torch.allclose(value, two["network"][name], rtol=1e-4, atol=1e-5), name
    assert one["history"][-1]["score"] == pytest.approx(two["history"][-1]["score"], rel=1e-3)
    # And it is not what one process with its own batches alone would have come to.
    alone = state_of(tmp_path / "alone")
    assert not torch.allclose(one["network"]["weight"], alone["network"]["weight"], atol=1e-3)
