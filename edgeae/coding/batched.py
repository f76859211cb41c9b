"""Context graphs that take several blocks at a time.

The graphs of a bundle declare one block; their operators work on any number of them. A graph whose
inputs and outputs declare a free first axis instead is checked like any other, and is used only if
it gives for two blocks at once what the bundle's graph gives for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgeae.coding.container import read_varint, varint
from edgeae.errors import EdgeaeError
from edgeae.onnx_check import CheckedGraph, check_graph
from edgeae.runtime import CPU, Graph

__all__ = ["batched_graphs"]

# Field numbers of onnx.proto on the way from a model to the axes of an input or output:
# ModelProto.graph, GraphProto.input and .output, ValueInfoProto.type, TypeProto.tensor_type,
# Tensor.shape, TensorShapeProto.dim; and Dimension.dim_param.
_GRAPH, _INPUT, _OUTPUT, _WAY, _DIM, _DIM_PARAM = 7, 11, 12, (2, 1, 2), 1, 2
_BYTES = 2
_NAME = b"blocks"


def batched_graphs(
    models: Sequence[CheckedGraph], graphs: Sequence[Graph], threads: int
) -> list[Graph] | None:
    """The graphs of the models, which `graphs` run, for several blocks at a time; None if one of
    them cannot be had."""
    try:
        found = [
            Graph(
                check_graph(_freed(model.data), name=model.file), providers=[CPU], threads=threads
            )
            for model in models
        ]
        same = all(_agree(one, many) for one, many in zip(graphs, found, strict=True))
    except EdgeaeError:
        return None
    return found if same else None


def _agree(one: Graph, many: Graph) -> bool:
    """Whether two blocks at once give what each gives alone."""
    rng = np.random.default_rng(0)
    setting = np.array([20, 1], np.float32).reshape(1, 2, 1, 1)
    planes = [
        rng.integers(-40, 41, (2, int(port.shape[1]), 5, 6)).astype(np.float32)
        for port in one.inputs[1:]
    ]
    together = many(setting, *planes)
    for block in range(2):
        alone = one(setting, *(plane[block : block + 1] for plane in planes))
        if not all(np.array_equal(a[0], b[block]) for a, b in zip(alone, together, strict=True)):
            return False
    return True


def _freed(model: bytes) -> bytes:
    """The model, in which the first axis of every output and of every input but the first, the
    setting, is free."""
    parts = []
    for number, body, raw in _fields(model):
        parts.append(_field(number, _freed_graph(body)) if number == _GRAPH else raw)
    return b"".join(parts)


def _freed_graph(graph: bytes) -> bytes:
    parts, inputs = [], 0
    for number, body, raw in _fields(graph):
        inputs += number == _INPUT
        free = number == _OUTPUT or (number == _INPUT and inputs > 1)
        parts.append(_field(number, _freed_axis(body, _WAY)) if free else raw)
    return b"".join(parts)


def _freed_axis(message: bytes, way: Sequence[int]) -> bytes:
    parts, first = [], True
    for number, body, raw in _fields(message):
        if way and number == way[0]:
            raw = _field(number, _freed_axis(body, way[1:]))
        elif not way and number == _DIM and first:
            raw, first = _field(number, _field(_DIM_PARAM, _NAME)), False
        parts.append(raw)
    return b"".join(parts)


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, body and all bytes of each field; numbers have no body.

    The message was written by `onnx_wire`, so that nothing about it needs to be checked.
    """
    at = 0
    while at < len(message):
        begin = at
        tag, at = read_varint(message, at)
        wire, body = tag & 7, b""
        if wire == _BYTES:
            size, at = read_varint(message, at)
            body = message[at : at + size]
            at += size
        elif wire == 0:
            _, at = read_varint(message, at)
        else:
            at += 4 if wire == 5 else 8
        yield tag >> 3, body, message[begin:at]


def _field(number: int, body: bytes) -> bytes:
    return varint(number << 3 | _BYTES) + varint(len(body)) + body
