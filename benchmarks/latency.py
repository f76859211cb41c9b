"""Latency of a reference workload that others have measured too, and of the models beside it.

    python -m benchmarks.latency [MODEL ...] --json OUT.json

The reference is the anomaly detector of MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597): a
fully connected autoencoder 640-128-128-128-128-8-128-128-128-128-640 with ReLU, batch
normalization folded into the weights, one frame at a time, in fp32. Its weights are random here:
they decide what it detects, not how long it takes. MODEL are bundled names or paths, by default
every bundled one; they are measured as `edgeae bench` does, on the CPU. Times are milliseconds of
wall clock.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

from edgeae.bench.arithmetic import work_of
from edgeae.bench.machine import machine, versions
from edgeae.bench.measure import PACKAGES, measure, thread_counts
from edgeae.bench.plots import number, quantity
from edgeae.bench.timing import sample, summarize
from edgeae.bundle import bundled_names
from edgeae.onnx_check import read_graph
from edgeae.runtime import CPU, Graph

WIDTHS = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
REFERENCE = "MLPerf Tiny anomaly detection"
MAX_SAMPLES = 20_000
WARM_UP_S = 0.2
TABLE_COLUMNS = 110


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", nargs="*", help="bundled names or paths")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each task")
    parser.add_argument("--threads", type=int, nargs="+", default=thread_counts())
    options = parser.parse_args(arguments)
    report = {
        "what": "latency",
        "method": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "reference": {
            "name": REFERENCE,
            **reference(threads=options.threads, seconds=options.seconds),
        },
        "models": {
            str(model): without_samples(
                measure(model, providers=[CPU], threads=options.threads, seconds=options.seconds)
            )
            for model in options.model or bundled_names()
        },
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    terminal = Console()
    # Narrower than this the table cannot be read; a file or a pipe has no width of its own.
    terminal.width = max(terminal.width, TABLE_COLUMNS)
    terminal.print(table(report))


def reference_model(seed: int = 0) -> onnx.ModelProto:
    """The autoencoder with random weights, from `x` to `y`, both (1, 640) float32."""
    rng = np.random.default_rng(seed)
    nodes, constants = [], []
    name = "x"
    for layer, (inputs, outputs) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False)):
        weights = rng.normal(0, (2 / inputs) ** 0.5, (inputs, outputs)).astype(np.float32)
        constants += [
            onnx.numpy_helper.from_array(weights, f"w{layer}"),
            onnx.numpy_helper.from_array(np.zeros(outputs, np.float32), f"b{layer}"),
        ]
        last = layer == len(WIDTHS) - 2
        product = "y" if last else f"p{layer}"
        nodes.append(helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], [product]))
        if not last:
            name = f"a{layer}"
            nodes.append(helper.make_node("Relu", [product], [name]))
    ports = [
        helper.make_tensor_value_info(port, TensorProto.FLOAT, (1, width))
        for port, width in (("x", WIDTHS[0]), ("y", WIDTHS[-1]))
    ]
    graph = helper.make_graph(nodes, "autoencoder", ports[:1], ports[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def reference(*, threads: Sequence[int], seconds: float) -> dict[str, Any]:
    """Parameters, multiply-adds and latency of the reference by number of threads."""
    frame = np.random.default_rng(1).normal(size=(1, WIDTHS[0])).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "reference.onnx"
        onnx.save(reference_model(), file)
        work = work_of(file, [frame])
        latency = {}
        for count in threads:
            graph = Graph(read_graph(file), threads=count)
            run = functools.partial(graph, frame)
            sample(run, seconds=min(seconds, WARM_UP_S))
            times = sample(run, seconds=seconds, at_most=MAX_SAMPLES)
            latency[str(count)] = asdict(summarize(times))
    return {
        "parameters": work.parameters,
        "multiply_adds": work.multiply_adds,
        "ms_by_threads": latency,
    }


def without_samples(result: dict[str, Any]) -> dict[str, Any]:
    """The figures of `bench.measure` without its raw samples, small enough for a repository."""

    def pruned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: pruned(inner) for key, inner in value.items() if key != "samples_ms"}
        return [pruned(inner) for inner in value] if isinstance(value, list) else value

    return {
        key: pruned(value) for key, value in result.items() if key not in ("machine", "versions")
    }


def table(report: dict[str, Any]) -> Table:
    """One row for each workload, precision and number of threads."""
    rows = Table(title=f"Latency in ms, {report['machine']['cpu']}", title_justify="left")
    for column in ("workload", "precision", "threads", "multiply-adds", "p50", "p90", "p99", "min"):
        rows.add_column(column, justify="left" if column == "workload" else "right")
    keys = ("p50", "p90", "p99", "minimum")
    found = report["reference"]
    for threads, ms in found["ms_by_threads"].items():
        rows.add_row(
            found["name"],
            "fp32",
            threads,
            quantity(found["multiply_adds"]),
            *(number(ms[key]) for key in keys),
        )
    for model in report["models"].values():
        for entry in model["configurations"]:
            for name, task in entry["tasks"].items():
                rows.add_row(
                    f"{model['bundle']['name']}, {name}",
                    entry["precision"],
                    str(entry["threads"]),
                    quantity(task["multiply_adds"]),
                    *(number(task["ms"][key]) for key in keys),
                )
    return rows


if __name__ == "__main__":
    main()
