"""Two nodes on one host train one network; one loses its worker, and all go on where they were."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
# torchrun's agents give each other fixed times, which a machine that runs other tests overruns.
pytestmark = pytest.mark.skipif(
    "EDGEAE_NODES" not in os.environ,
    reason="set EDGEAE_NODES=1 on a machine that does nothing else",
)

ROOT = Path(__file__).parents[2]

# The train command with a recipe of the tests, a checkpoint at every step, and, if asked for, a
# worker that kills itself once in the middle.
SCRIPT = """
import os
import signal
import sys
from pathlib import Path

sys.path[:0] = [{root!r}, {here!r}]
import line
from train import __main__, loop, recipes

recipes.RECIPES["line"] = line.ROW
loop._FIRST_CHECKPOINT_S = loop._CHECKPOINT_S = 0.0
config, out, marker = sys.argv[1:]
step = loop.learning_rate

def rate(number, optimize):
    print("rank", os.environ["RANK"], "step", number, flush=True)
    if number == 12 and os.environ["RANK"] == "1" and marker != "none":
        if not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return step(number, optimize)

loop.learning_rate = rate
arguments = [config, "--out", out, "--steps", "20", "--resume-or-start"]
sys.exit(__main__.main(arguments))
"""


def run_of_two_nodes(script, *arguments):
    """What two agents say that start one worker each, with one meeting point."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--max-restarts=3", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}"]
    command += ["--rdzv-id=test", "--local-addr=127.0.0.1"]
    nodes = [
        subprocess.Popen(
            [*command, *map(str, (script, *arguments))],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [node.communicate(timeout=900) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    return "".join(out for out, _ in said)


def test_a_lost_worker_goes_on_from_the_checkpoint_as_if_nothing_had_been(tmp_path):
    import line

    script, config = tmp_path / "run.py", tmp_path / "line.toml"
    script.write_text(SCRIPT.format(root=str(ROOT), here=str(ROOT / "tests" / "support")))
    config.write_text(line.CONFIG)
    marker = tmp_path / "killed"
    said = run_of_two_nodes(script, config, tmp_path / "lost", marker)
    assert marker.exists()
    # It began once, and went on from a step that it had saved.
    assert said.count("rank 0 step 0\n") == said.count("rank 1 step 0\n") == 1
    assert "rank 0 step 11\n" in said and "rank 0 step 19\n" in said
    run_of_two_nodes(script, config, tmp_path / "whole", "none")
    lost, whole = (
        torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("lost", "whole")
    )
    assert lost["step"] == whole["step"] == 20
    for name, value in whole["network"].items():
        assert torch.equal(value, lost["network"][name]), name
