"""What onnxruntime's profiler says of each node of a graph."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.onnx_check import CheckedGraph
from edgeae.runtime import profile_events

__all__ = ["NodeRun", "profile"]


@dataclass(frozen=True)
class NodeRun:
    """What onnxruntime's profiler tells of one node.

    Attributes:
        operator, provider: its ONNX operator, and the execution provider that ran it.
        seconds: the median over the runs.
        inputs, outputs: shapes. A weight that was packed beforehand leaves an input without a shape
            of its own.
        moved_bytes: those of the activations read and of the outputs written.
    """

    operator: str
    provider: str
    seconds: float
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    moved_bytes: int


def profile(
    model: CheckedGraph,
    inputs: Sequence[npt.NDArray[Any]],
    *,
    optimization: str = "all",
    repeats: int = 1,
) -> tuple[NodeRun, ...]:
    """The nodes of a graph in the order they ran on the CPU, one thread, as profiled.

    Args:
        model: the graph.
        inputs: one array for each of its inputs, of its dtype and shape.
        optimization: "disabled" gives the nodes of the file, "all" those that really run.
        repeats: runs after a first one, from 1; `seconds` are the median over them.

    Raises:
        BundleError: onnxruntime cannot load the graph.
        TypeError, ValueError: the inputs do not fit, or another optimization.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = profile_events(
            model, inputs, Path(folder), optimization=optimization, runs=1 + repeats
        )
    kernels = [
        event
        for event in json.loads(written)
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]
    # Runs follow each other, each with the same nodes in the same order.
    count = len(kernels) // (1 + repeats)
    runs = [kernels[run * count : (run + 1) * count] for run in range(1, 1 + repeats)]
    return tuple(_node_run(events) for events in zip(*runs, strict=True))


def _node_run(events: Sequence[dict[str, Any]]) -> NodeRun:
    told = events[0]["args"]

    def shapes(key: str) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(shape) for port in told.get(key, ()) for shape in port.values())

    return NodeRun(
        operator=told["op_name"],
        provider=told["provider"],
        seconds=float(np.median([event["dur"] for event in events])) * 1e-6,
        inputs=shapes("input_type_shape"),
        outputs=shapes("output_type_shape"),
        moved_bytes=int(told["activation_size"]) + int(told["output_size"]),
    )
