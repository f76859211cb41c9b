"""The same numbers from fewer kinds of operators, for devices that do not know all of ONNX's.

What NNAPI or CoreML leaves out is written in operators that they and QNN take: rows gathered by
constant places become slices and a concatenation, means and sums become products with constant
matrices, layer normalization is spelled out, and a transposition of more than five axes becomes one
without those of length 1. Only for graphs whose every shape is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper, shape_inference

__all__ = ["portable"]

Array = npt.NDArray[np.generic]
# CoreML and QNN know tensors of so many axes.
_MOST_AXES = 5


def portable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without Gather by constant places, LayerNormalization, ReduceMean, ReduceSum,
    Unsqueeze and tensors of more than five axes, as far as these are used in it in ways that can be
    rewritten."""
    model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    graph = model.graph
    writer = _Writer(graph)
    for node in list(graph.node):
        rewrite = _REWRITES.get(node.op_type)
        if rewrite is None or not rewrite(writer, node):
            writer.keep(node)
    nodes = _needed(writer.nodes, {port.name for port in graph.output})
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(array, name)
        for name, array in writer.constants.items()
        if name in used
    )
    del graph.value_info[:]
    model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def _needed(nodes: Sequence[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs are made of, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


class _Writer:
    """The nodes and constants of the graph to be; every shape of the one that was."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        self.shapes = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in (*graph.input, *graph.output, *graph.value_info)
        }
        self._count = 0

    def keep(self, node: onnx.NodeProto) -> None:
        self.nodes.append(node)

    def constant(self, value: npt.ArrayLike, dtype: type = np.float32) -> str:
        """Add a constant; its name."""
        name = self._name("constant")
        self.constants[name] = np.asarray(value, dtype)
        return name

    def node(self, kind: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, called `to` if that is given; its name."""
        name = to or self._name(kind.lower())
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def reshape(self, x: str, shape: Sequence[int], *, to: str | None = None) -> str:
        """Add a Reshape; its name."""
        return self.node("Reshape", x, self.constant(shape, np.int64), to=to)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"portable_{kind}_{self._count}"


def _gather(writer: _Writer, node: onnx.NodeProto) -> bool:
    """Slices of places that follow each other, joined. CoreML's MLProgram takes no Gather, and QNN
    fails to prepare a large one for chips without half precision."""
    source, places = node.input
    if places not in writer.constants or source not in writer.shapes:
        return False
    shape = writer.shapes[source]
    axis = int(_attribute(node, "axis", 0)) % len(shape)
    wanted = writer.constants[places]
    flat = wanted.reshape(-1) % shape[axis]
    runs = np.split(flat, np.flatnonzero(np.diff(flat) != 1) + 1)
    joined = [*shape[:axis], len(flat), *shape[axis + 1 :]]
    given = [*shape[:axis], *wanted.shape, *shape[axis + 1 :]]
    last = node.output[0] if joined == given else None
    if len(runs) == 1 and len(flat) == shape[axis]:
        writer.reshape(source, given, to=node.output[0])
        return True
    pieces = [
        writer.node(
            "Slice",
            source,
            *(writer.constant([end], np.int64) for end in (run[0], run[-1] + 1, axis)),
            to=last if len(runs) == 1 else None,
        )
        for run in runs
    ]
    whole = writer.node("Concat", *pieces, to=last, axis=axis) if len(runs) > 1 else pieces[0]
    if last is None:
        writer.reshape(whole, given, to=node.output[0])
    return True


def _layer_normalization(writer: _Writer, node: onnx.NodeProto) -> bool:
    """Means as products: 1.0 / n in a column."""
    source, scale, *bias = node.input
    if len(node.output) > 1 or source not in writer.shapes:
        return False
    shape = writer.shapes[source]
    if _attribute(node, "axis", -1) % len(shape) != len(shape) - 1:
        return False
    mean_of = writer.constant(np.full((shape[-1], 1), 1 / shape[-1]))
    centered = writer.node("Sub", source, writer.node("MatMul", source, mean_of))
    variance = writer.node("MatMul", writer.node("Mul", centered, centered), mean_of)
    floor = writer.constant([_attribute(node, "epsilon", 1e-5)])
    deviation = writer.node("Sqrt", writer.node("Add", variance, floor))
    whitened = writer.node("Div", centered, deviation)
    scaled = writer.node("Mul", whitened, scale, to=None if bias else node.output[0])
    if bias:
        writer.node("Add", scaled, bias[0], to=node.output[0])
    return True


def _reduction(weight: Callable[[int], float]) -> Callable[[_Writer, onnx.NodeProto], bool]:
    def rewrite(writer: _Writer, node: onnx.NodeProto) -> bool:
        source, *axes = node.input
        if source not in writer.shapes or not axes or axes[0] not in writer.constants:
            return False
        shape = writer.shapes[source]
        reduced = sorted(int(axis) % len(shape) for axis in writer.constants[axes[0]])
        if not reduced:
            return False
        kept = [axis for axis in range(len(shape)) if axis not in reduced]
        order = [*kept, *reduced]
        x = source
        # Axes of length 1 may stand anywhere.
        if [a for a in order if shape[a] > 1] != [a for a in range(len(shape)) if shape[a] > 1]:
            x = writer.node("Transpose", x, perm=order)
        count = math.prod(shape[axis] for axis in reduced)
        x = writer.reshape(x, (math.prod(shape) // count, count))
        x = writer.node("MatMul", x, writer.constant(np.full((count, 1), weight(count))))
        writer.reshape(x, writer.shapes[node.output[0]], to=node.output[0])
        return True

    return rewrite


def _unsqueeze(writer: _Writer, node: onnx.NodeProto) -> bool:
    if node.output[0] not in writer.shapes:
        return False
    writer.reshape(node.input[0], writer.shapes[node.output[0]], to=node.output[0])
    return True


def _transpose(writer: _Writer, node: onnx.NodeProto) -> bool:
    """Of more than five axes: without those of length 1, which lie anywhere in memory."""
    (source,) = node.input
    shape = writer.shapes.get(source, ())
    if len(shape) <= _MOST_AXES or node.output[0] not in writer.shapes:
        return False
    longer = [axis for axis, size in enumerate(shape) if size > 1] or [0]
    if len(longer) > _MOST_AXES:
        return False
    (order,) = (helper.get_attribute_value(a) for a in node.attribute if a.name == "perm")
    x = writer.reshape(_source(writer, source), [shape[axis] for axis in longer])
    x = writer.node("Transpose", x, perm=[longer.index(a) for a in order if a in longer])
    writer.reshape(x, writer.shapes[node.output[0]], to=node.output[0])
    return True


def _reshape(writer: _Writer, node: onnx.NodeProto) -> bool:
    """Of a Reshape to more than five axes: both become one."""
    source = _source(writer, node.input[0])
    if source == node.input[0] or node.output[0] not in writer.shapes:
        return False
    writer.reshape(source, writer.shapes[node.output[0]], to=node.output[0])
    return True


def _source(writer: _Writer, name: str) -> str:
    """What a tensor of more than five axes was reshaped from, or the tensor itself."""
    if len(writer.shapes.get(name, ())) <= _MOST_AXES:
        return name
    made = [node for node in writer.nodes if name in node.output]
    return made[0].input[0] if made and made[0].op_type == "Reshape" else name


def _attribute(node: onnx.NodeProto, name: str, default: float) -> int | float:
    found = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    return found[0] if found else default


_REWRITES: dict[str, Callable[[_Writer, onnx.NodeProto], bool]] = {
    "Gather": _gather,
    "LayerNormalization": _layer_normalization,
    "ReduceMean": _reduction(lambda count: 1 / count),
    "ReduceSum": _reduction(lambda count: 1.0),
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
