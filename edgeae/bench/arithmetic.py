"""What a graph has to do, and how fast this machine could do it: multiply-adds, bytes, ceilings.

The ceilings are those of a roofline (Williams, Waterman and Patterson 2009): onnxruntime's own
product of two matrices for arithmetic, a copy for memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.bench.onnx_models import count_parameters, matrix_product_model
from edgeae.bench.profiling import NodeRun, profile
from edgeae.bench.timing import sample
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph

__all__ = ["Ceilings", "Work", "ceilings", "multiply_adds", "work_of"]

# The sides of the matrices, so that all three fit into a small core's cache: 3 MB in float32.
PRODUCT_SIDE = 512
# A copy that no cache holds, and one that fits into the 256 kB of a small core's second level.
MEMORY_COPY_BYTES, CACHE_COPY_BYTES = 1 << 26, 1 << 16

# Operators that multiply and add and that no model here has used so far.
UNCOUNTED = frozenset(
    ("Attention", "DFT", "DeformConv", "Einsum", "QLinearConv", "QLinearMatMul", "STFT")
)


@dataclass(frozen=True)
class Work:
    """What one run of a graph amounts to, at one shape of its inputs.

    Attributes:
        multiply_adds: those of convolutions, matrix products and recurrent layers; a multiply and
            an add count as one.
        moved_bytes: what the nodes that really run read and write, and the weights, once.
        parameters: numbers in the file's tensors, without shapes and axes (int64).
        seconds_by_operator: where the time goes, as onnxruntime's profiler sees it, which makes
            small nodes look slower than they are.
        uncounted: operators that may multiply and add and that nobody counted.
    """

    multiply_adds: int
    moved_bytes: int
    parameters: int
    seconds_by_operator: dict[str, float]
    uncounted: tuple[str, ...]


@dataclass(frozen=True)
class Ceilings:
    """The most that one thread of this machine does, by measurement.

    Multiply-adds a second by precision ("fp32", "int8"), and bytes a second, read and written, of a
    copy in main memory and in cache.
    """

    multiply_adds_per_s: dict[str, float]
    memory_bytes_per_s: float
    cache_bytes_per_s: float


def work_of(file: Path, inputs: Sequence[npt.NDArray[Any]], *, repeats: int = 3) -> Work:
    """What a run of the graph in `file` on these inputs amounts to.

    Args:
        file: a path that `read_graph` takes.
        inputs: one array for each input of the graph, of its dtype and shape.
        repeats: runs whose median times count, from 1.

    Raises:
        BundleError: the graph cannot be read, is unsafe, or onnxruntime cannot load it.
        TypeError, ValueError: the inputs do not fit the graph.
    """
    model = read_graph(file)
    parameters, parameter_bytes = count_parameters(model)
    counts = [multiply_adds(node) for node in profile(model, inputs, optimization="disabled")]
    nodes = profile(model, inputs, repeats=repeats)
    seconds: dict[str, float] = {}
    for node in nodes:
        seconds[node.operator] = seconds.get(node.operator, 0.0) + node.seconds
    return Work(
        multiply_adds=sum(count for count in counts if isinstance(count, int)),
        moved_bytes=parameter_bytes + sum(node.moved_bytes for node in nodes),
        parameters=parameters,
        seconds_by_operator=seconds,
        uncounted=tuple(sorted({count for count in counts if isinstance(count, str)})),
    )


def multiply_adds(node: NodeRun) -> int | str:
    """The multiply-adds of one run of an unoptimized node, or its operator's name if unknown.

    Elementwise operators, reductions and copies count nothing.
    """
    shapes = node.inputs
    if node.operator in ("Conv", "ConvInteger"):  # x, weights (out, in / groups, kernel...)
        return math.prod(node.outputs[0]) * math.prod(shapes[1][1:])
    if node.operator == "ConvTranspose":  # x, weights (in, out / groups, kernel...)
        return math.prod(shapes[0]) * math.prod(shapes[1][1:])
    if node.operator in ("MatMul", "MatMulInteger"):
        return math.prod(node.outputs[0]) * shapes[0][-1]
    if node.operator == "Gemm":  # the first matrix may be transposed
        rows = node.outputs[0][0]
        return math.prod(node.outputs[0]) * (math.prod(shapes[0]) // rows)
    if node.operator in ("GRU", "LSTM", "RNN"):  # x (steps, batch, in), weights, recurrent weights
        return math.prod(shapes[0][:2]) * (math.prod(shapes[1]) + math.prod(shapes[2]))
    return node.operator if node.operator in UNCOUNTED else 0


def ceilings(*, seconds: float = 0.3) -> Ceilings:
    """The most that one thread does of each, measured; the best of many tries counts.

    Args:
        seconds: about how long each of the four is tried, above 0.
    """
    products = {}
    for precision in ("fp32", "int8"):
        graph = Graph(matrix_product_model(PRODUCT_SIDE, precision=precision))
        (port,) = graph.inputs
        left = np.ones((PRODUCT_SIDE, PRODUCT_SIDE), port.dtype)
        products[precision] = PRODUCT_SIDE**3 / _best_time(graph, left, seconds=seconds)
    return Ceilings(
        multiply_adds_per_s=products,
        memory_bytes_per_s=_copy_bytes_per_s(MEMORY_COPY_BYTES, seconds=seconds),
        cache_bytes_per_s=_copy_bytes_per_s(CACHE_COPY_BYTES, seconds=seconds),
    )


def _copy_bytes_per_s(size: int, *, seconds: float) -> float:
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    return 2 * size / _best_time(np.copyto, target, source, seconds=seconds)


def _best_time(call: Any, *arguments: Any, seconds: float) -> float:
    def run() -> None:
        call(*arguments)

    # The first calls touch memory for the first time.
    return min(sample(run, seconds=seconds, at_least=5)) / 1e3
