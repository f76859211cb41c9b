"""Graphs written out node by node."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

__all__ = ["OPSET", "GraphWriter", "store_half"]

OPSET = 20


class GraphWriter:
    """Collects the nodes and weights of one graph."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._count = 0

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; the output's name."""
        self._count += 1
        name = f"{kind.lower()}_{self._count}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def nodes(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with so many outputs; their names."""
        self._count += 1
        name = f"{kind.lower()}_{self._count}"
        names = [f"{name}_{i}" for i in range(count)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names

    def weight(self, value: npt.ArrayLike, dtype: type = np.float32) -> str:
        """Add a constant; its name.

        Args:
            value: numbers of any shape.
            dtype: numpy's type that they are stored as.
        """
        self._count += 1
        name = f"weight_{self._count}"
        self._weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def conv(
        self, x: str, weight: torch.Tensor, bias: torch.Tensor | None, **attributes: Any
    ) -> str:
        """Add a convolution with constant weights; the name of its output, (N, out, h, w).

        Args:
            x: the name of its input, (N, in, h, w).
            weight: float32 (out, in / groups, kh, kw).
            bias: float32 (out,), or None.
            attributes: of the Conv node, its pads and groups.
        """
        names = [self.weight(weight.detach().numpy())]
        if bias is not None:
            names.append(self.weight(bias.detach().numpy()))
        return self.node("Conv", x, *names, kernel_shape=list(weight.shape[2:]), **attributes)

    def model(
        self,
        name: str,
        inputs: Iterable[tuple[str, Sequence[int | str]]],
        outputs: Iterable[tuple[str, str, int, Sequence[int | str]]],
    ) -> onnx.ModelProto:
        """The finished model: float inputs, and outputs as (name, made by, element type, shape)."""
        results = []
        for public, made_by, kind, shape in outputs:
            self._nodes.append(helper.make_node("Identity", [made_by], [public]))
            results.append(helper.make_tensor_value_info(public, kind, list(shape)))
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in inputs],
            results,
            self._weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="edgeae"
        )
        model.ir_version = 10
        onnx.checker.check_model(model, full_check=True)
        return model


def store_half(model: onnx.ModelProto, kinds: Collection[str] = ("Conv",)) -> None:
    """Keep the float weights of a graph in half precision, each behind a Cast that is folded away
    when a session is made: half the bytes, the same arithmetic.

    Args:
        model: is changed.
        kinds: operators whose weights these are.
    """
    casts = []
    # Scales of quantization stay as they are: runtimes look for them as plain constants.
    of_convs = {n for node in model.graph.node if node.op_type in kinds for n in node.input}
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT or weight.name not in of_convs:
            continue
        halved = numpy_helper.to_array(weight).astype(np.float16)
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(halved, f"{name}_half"))
        casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
