"""What the benchmark needs of ONNX files: their number of parameters, and models to measure by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from edgeae import onnx_wire
from edgeae.onnx_check import CheckedGraph, check_graph
from edgeae.onnx_wire import Message

__all__ = ["count_parameters", "matrix_product_model"]

_VARINT, _BYTES = 0, 2

# TensorProto.DataType -> bytes of an element
_FLOAT, _UINT8, _INT8, _INT32, _INT64 = 1, 2, 3, 6, 7
_ELEMENT_BYTES = {_FLOAT: 4, _UINT8: 1, _INT8: 1, 4: 2, 5: 2, _INT32: 4, 10: 2, 11: 8, 16: 2}


def count_parameters(model: CheckedGraph) -> tuple[int, int]:
    """(numbers, bytes) in the tensors of a model, initializers and constants.

    int64 tensors hold shapes and axes and are not counted; scales and zero points are.
    """
    read, _ = onnx_wire.read(model.data, name=str(model.file))
    numbers = size_bytes = 0
    for tensor in _tensors(read["graph"][0]):
        kind = tensor["data_type"][0]
        if kind != _INT64:
            count = math.prod(tensor.get("dims", []))
            numbers += count
            size_bytes += count * _ELEMENT_BYTES.get(kind, 0)
    return numbers, size_bytes


def _tensors(graph: Message) -> Iterator[Message]:
    yield from graph.get("initializer", [])
    for node in graph.get("node", []):
        for attribute in node.get("attribute", []):
            yield from attribute.get("t", [])


def matrix_product_model(side: int, *, precision: str) -> CheckedGraph:
    """An ONNX model of one product of an input `x` and a constant, both (side, side).

    `precision` "fp32" is MatMul of float32, "int8" MatMulInteger of uint8 and int8. It serves to
    measure what onnxruntime can do at most, so its weights mean nothing.
    """
    if precision == "fp32":
        operator, kinds = b"MatMul", (_FLOAT, _FLOAT, _FLOAT)
        weights = b"\x00\x00\x80\x3f" * (side * side)  # 1.0
    elif precision == "int8":
        operator, kinds = b"MatMulInteger", (_UINT8, _INT8, _INT32)
        weights = b"\x01" * (side * side)
    else:
        raise ValueError(f"precision is {precision!r}, expected fp32 or int8")
    shape = _field(1, side) * 2

    def port(name: bytes, kind: int) -> bytes:
        axes = _field(1, _field(1, side)) * 2
        return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, axes)))

    node = _field(1, b"x") + _field(1, b"w") + _field(2, b"y") + _field(4, operator)
    tensor = shape + _field(2, kinds[1]) + _field(8, b"w") + _field(9, weights)
    graph = (
        _field(1, node)
        + _field(2, b"product")
        + _field(5, tensor)
        + _field(11, port(b"x", kinds[0]))
        + _field(12, port(b"y", kinds[2]))
    )
    opset = _field(1, b"") + _field(2, 20)
    data = _field(1, 10) + _field(7, graph) + _field(8, opset)
    return check_graph(data, name=Path(f"product.{precision}.onnx"))


def _field(number: int, value: int | bytes) -> bytes:
    """One field of a protobuf message: a number, or bytes."""
    if isinstance(value, int):
        return _number(number << 3 | _VARINT) + _number(value)
    return _number(number << 3 | _BYTES) + _number(len(value)) + value


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
