"""8-bit twins of graphs, and what stays in float in them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from export.graph_writer import GraphWriter
from export.quantize import quantize


@pytest.mark.parametrize("first", ["Mul", None])
def test_a_sum_in_float_is_not_rounded_because_a_convolution_reads_it_in_8_bits(tmp_path, first):
    # The convolution gives nothing, so whatever the sum differs by is what was carried around it.
    writer = GraphWriter()
    carried = "x" if first is None else writer.node(first, "x", writer.weight(np.float32(2)))
    entering = writer.conv(carried, torch.zeros(2, 2, 1, 1), torch.zeros(2))
    total = writer.node("Add", carried, entering)
    leaving = writer.conv(total, torch.zeros(2, 2, 1, 1), torch.zeros(2))
    again = writer.node("Add", total, leaving)
    shape = (1, 2, "height", "width")
    kind = onnx.TensorProto.FLOAT
    model = writer.model("sums", [("x", shape)], [("y", again, kind, shape)])
    onnx.save_model(model, tmp_path / "f")
    x = np.random.default_rng(0).normal(size=(1, 2, 8, 8)).astype(np.float32)
    in_float = [name for name in (carried, total, again) if name != "x"]
    quantize(tmp_path / "f", tmp_path / "q", [{"x": x}], in_float=in_float)
    kinds = [node.op_type for node in onnx.load_model(tmp_path / "q").graph.node]
    assert kinds.count("QuantizeLinear") >= 4  # both convolutions' inputs and outputs
    (found,) = Graph(read_graph(tmp_path / "q"))(x)
    (expected,) = Graph(read_graph(tmp_path / "f"))(x)
    assert np.array_equal(found, expected)
