"""Every graph of a bundle on every execution provider that can be installed here, beside the CPU.

    python -m benchmarks.provider_matrix MODEL ... --work DIR --json OUT.json [--only NAME ...]

For each MODEL fixed-shape copies of its graphs are made (export.mobile), and vectors for them: what
the model itself feeds its graphs on the package's photo or recording, and what onnxruntime's CPU
provider gives for it. Then each environment is set up under DIR, on its own, with pip or npm, runs
the copies on the vectors, and what it gives is compared. Allowed: fp32 within 1/255 or at 60 dB,
whole numbers at 40 dB (signal over difference), integers identical. QNN here is Qualcomm's
simulator of its HTP, told to be a Snapdragon 8 Gen 3, which computes what is not quantized in half
precision: right about which nodes run and what they give, not about time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.bench.machine import machine
from edgeae.bundle import Bundle, find
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from export.a16w8 import INTEGER, typical_inputs
from export.mobile import Copy, make_mobile

ROOT = Path(__file__).resolve().parent.parent
# Small, so that the simulator of a phone's NPU takes seconds for a graph and not minutes.
SIZE = 256, 256
# Left unnamed, the simulator is of a chip without half precision, which fails on some float graphs
# with a memory error.
CHIP = "soc_model=57,htp_arch=75,enable_htp_fp16_precision=1"

FLOAT_ERROR, FLOAT_DB, INTEGER_DB = 1 / 255, 60.0, 40.0


@dataclass(frozen=True)
class Environment:
    """Where graphs run: packages of pip or npm, and the provider to ask for there."""

    packages: tuple[str, ...]
    provider: str
    npm: bool = False
    # Context graphs carry exact integers in floats: edgeae runs them on the CPU, whatever is asked.
    contexts: bool = True


ENVIRONMENTS = {
    "cpu": Environment(("onnxruntime",), "CPUExecutionProvider"),
    "openvino": Environment(
        ("onnxruntime-openvino",), "OpenVINOExecutionProvider:device_type=CPU", contexts=False
    ),
    "qnn": Environment(
        ("onnxruntime", "onnxruntime-qnn"),
        f"QNNExecutionProvider:backend_type=htp,offload_graph_io_quantization=0,{CHIP}",
        contexts=False,
    ),
    "node": Environment(("onnxruntime-node",), "cpu", npm=True),
    "web": Environment(("onnxruntime-web",), "wasm", npm=True),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.provider_matrix")
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", nargs="+", help="bundled names or paths")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--only", nargs="+", choices=list(ENVIRONMENTS), metavar="NAME",
                        help=f"of {', '.join(ENVIRONMENTS)}")  # fmt: skip
    options = parser.parse_args(arguments)
    names = options.only or list(ENVIRONMENTS)
    results, listed, bundles = [], [], {}
    for model in options.model:
        bundle = find(model)
        bundles[bundle.manifest.name] = bundle.id
        folder = options.work.absolute() / bundle.manifest.name
        shutil.rmtree(folder, ignore_errors=True)
        copies = make_mobile(bundle, folder, size=SIZE)
        vectors = make_vectors(bundle, copies)
        listed += [
            {"model": bundle.manifest.name, **asdict(verdict), "verdict": str(verdict)}
            for copy in copies for verdict in copy.verdicts if verdict.by != "session"
        ]  # fmt: skip
        for name in names:
            print(f"{bundle.manifest.name}: {name}", file=sys.stderr, flush=True)
            told = run(name, ENVIRONMENTS[name], folder, options.work.absolute() / "environments")
            scored = bundle.manifest.task == "detector"
            results += [
                {"model": bundle.manifest.name, "environment": name, **row}
                for row in compare(vectors, folder, folder / name, told, scored=scored)
                if ENVIRONMENTS[name].contexts or not row["graph"].startswith("context")
            ]
    report = {
        "what": "provider matrix",
        "method": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "size": list(SIZE),
        "machine": machine(),
        "bundles": bundles,
        "results": results,
        "listed": listed,
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(table(results)))
    return 0 if all(row["agrees"] is not False for row in results) else 1


def make_vectors(bundle: Bundle, copies: Sequence[Copy]) -> list[dict[str, Any]]:
    """Writes vectors beside the copies; for each copy its file, inputs and outputs.

    A port is {"name", "dtype", "shape", "file"}; a file holds the numbers, C order, little-endian.
    """
    folder = copies[0].file.parent
    precisions = {name for files in bundle.manifest.graphs.values() for name in files}
    typical = {name: typical_inputs(bundle, precision=name, size=SIZE) for name in precisions}
    vectors = []
    for copy in copies:
        inputs = typical.get(copy.form, typical["fp32"])[copy.role][-1]
        graph, name = Graph(read_graph(copy.file)), copy.file.stem
        ports = {
            side: [
                _write(folder, f"{name}.{side}{i}.bin", port.name, array)
                for i, (port, array) in enumerate(zip(found, arrays, strict=True))
            ]
            for side, found, arrays in (
                ("inputs", graph.inputs, inputs),
                ("outputs", graph.outputs, graph(*inputs)),
            )
        }
        vectors.append({"graph": name, "file": copy.file.name, "form": copy.form, **ports})
    (folder / "vectors.json").write_text(json.dumps(vectors, indent=1))
    return vectors


def _write(folder: Path, file: str, name: str, array: npt.NDArray[Any]) -> dict[str, Any]:
    (folder / file).write_bytes(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return {"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "file": file}


def run(name: str, environment: Environment, folder: Path, environments: Path) -> dict[str, Any]:
    """What the environment tells of each graph: {"nodes"} or {"error"}; outputs are files."""
    out = folder / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    home = environments / name
    command = _npm(environment, home) if environment.npm else _pip(environment, home)
    done = subprocess.run(
        [*command, str(folder), str(out), environment.provider],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if not (out / "report.json").exists():
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    told: dict[str, Any] = json.loads((out / "report.json").read_text())
    return told


def _pip(environment: Environment, home: Path) -> list[str]:
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(home, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "numpy", *environment.packages]
        subprocess.run(install, check=True)
    return [str(python), "-m", "benchmarks.provider_run"]


def _npm(environment: Environment, home: Path) -> list[str]:
    if not (home / "node_modules").exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text("{}")
        # Its script would fetch CUDA; the CPU's library is in the package.
        install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run([*install, *environment.packages], cwd=home, check=True, stdout=2)
    # Packages are looked for beside the script.
    shutil.copy(Path(__file__).with_name("provider_run.mjs"), home / "run.mjs")
    return ["node", str(home / "run.mjs"), environment.packages[0]]


def compare(
    vectors: Sequence[dict[str, Any]],
    folder: Path,
    out: Path,
    told: dict[str, Any],
    *,
    scored: bool = False,
) -> list[dict[str, Any]]:
    """A row for each graph: nodes by provider, the worst output's figures, whether it agrees.

    "agrees" is None, with an "error", for a graph that the environment did not run. Of a detector,
    `scored`, "score_difference" is how far its score, the logarithm of its mean error, moves.
    """
    rows = []
    for vector in vectors:
        name = vector["graph"]
        row: dict[str, Any] = {"graph": name, "version": told["version"], **told["graphs"][name]}
        if "error" not in row:
            pairs = [
                (_read(folder / port["file"], port), _read(out / port["file"], port))
                for port in vector["outputs"]
            ]
            row |= agreement(pairs, form=vector["form"])
            if scored:
                before, after = (np.log(np.mean(side, dtype=np.float64)) for side in pairs[0])
                row["score_difference"] = float(f"{abs(after - before):.2g}")
        rows.append({"agrees": None, **row})
    return rows


def _read(file: Path, port: dict[str, Any]) -> npt.NDArray[Any]:
    dtype = np.dtype(port["dtype"]).newbyteorder("<")
    return np.frombuffer(file.read_bytes(), dtype).reshape(port["shape"])


def agreement(
    pairs: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]], *, form: str
) -> dict[str, Any]:
    """How two sides' outputs compare: {"agrees", "error_max", "signal_db"}, of the worst output.

    "signal_db" is the signal's power over the difference's, None where there is no difference.
    """
    agrees, error_max, signal_db = True, 0.0, None
    for wanted, found in pairs:
        difference = found.astype(np.float64) - wanted.astype(np.float64)
        error = float(np.abs(difference).max())
        power = float(np.mean(difference**2))
        level = 10 * np.log10(max(float(np.mean(wanted.astype(np.float64) ** 2)), 1e-30) / power) \
            if power else None  # fmt: skip
        if wanted.dtype.kind in "iu":
            agrees &= error == 0
        elif form in ("int8", INTEGER):
            agrees &= level is None or level >= INTEGER_DB
        else:
            agrees &= error <= FLOAT_ERROR or level is None or level >= FLOAT_DB
        # Written so that NaN never passes.
        agrees = bool(agrees and np.isfinite(error))
        error_max = max(error_max, error)
        if level is not None:
            signal_db = level if signal_db is None else min(signal_db, level)
    return {
        "agrees": agrees,
        "error_max": float(f"{error_max:.3g}"),
        "signal_db": None if signal_db is None else round(float(signal_db), 1),
    }


def table(results: Sequence[dict[str, Any]]) -> list[str]:
    """A Markdown table: a graph a row, an environment a column."""
    names = list(dict.fromkeys(row["environment"] for row in results))
    rows = ["| model | graph | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    found = {(row["model"], row["graph"], row["environment"]): row for row in results}
    for model, graph in dict.fromkeys((row["model"], row["graph"]) for row in results):
        cells = [cell(found.get((model, graph, name))) for name in names]
        rows.append(f"| {model} | {graph} | " + " | ".join(cells) + " |")
    return rows


def cell(row: dict[str, Any] | None) -> str:
    """What one environment did with one graph, in a few words."""
    if row is None:
        return "stays on the CPU"
    if "error" in row:
        return f"no: {row['error']}"
    same = "identical" if row["signal_db"] is None else f"{row['signal_db']:.0f} dB"
    nodes = row.get("nodes")
    if not nodes:
        where = ""
    elif len(nodes) == 1:
        where = f", all {sum(nodes.values())} nodes"
    else:
        counts = [f"{n} on {name.removesuffix('ExecutionProvider')}" for name, n in nodes.items()]
        where = f", {' and '.join(counts)}"
    return f"{same}{where}{'' if row['agrees'] else ', TOO FAR OFF'}"


if __name__ == "__main__":
    raise SystemExit(main())
