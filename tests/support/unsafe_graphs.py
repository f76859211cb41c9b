"""What a graph must not hold: edits of a model in place, and what is said of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import TensorProto, helper
from tiny import OPSET


def add_external_data(model: onnx.ModelProto) -> None:
    """An initializer whose numbers stand in another file."""
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def add_external_data_in_attribute(model: onnx.ModelProto) -> None:
    """A Constant node whose value stands in another file."""
    node = helper.make_node("Constant", [], ["w"], value=helper.make_tensor("v", 1, [1], [1.0]))
    node.attribute[0].t.ClearField("float_data")
    node.attribute[0].t.data_location = TensorProto.EXTERNAL
    node.attribute[0].t.external_data.add(key="location", value="weights.bin")
    model.graph.node.append(node)


def add_custom_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    source = model.graph.input[0].name
    model.graph.node.append(helper.make_node("Gelu", [source], ["g"], domain="com.microsoft"))


def add_function(model: onnx.ModelProto) -> None:
    model.functions.append(
        helper.make_function(
            "local",
            "twice",
            ["x"],
            ["y"],
            [helper.make_node("Add", ["x", "x"], ["y"])],
            [helper.make_opsetid("", OPSET)],
        )
    )


def _branch(name: str) -> onnx.GraphProto:
    value = helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0])
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
    return helper.make_graph(
        [helper.make_node("Constant", [], [name], value=value)], name, [], [output]
    )


def add_if(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node(
            "If", ["condition"], ["chosen"], then_branch=_branch("a"), else_branch=_branch("b")
        )
    )


def add_loop(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["n", "go"], ["last"], body=_branch("c")))


def add_scan(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("Scan", ["s"], ["last"], body=_branch("d"), num_scan_inputs=1)
    )


def add_nested_graph(model: onnx.ModelProto) -> None:
    """A graph in the attribute of an operator that is no control flow by its name."""
    model.graph.node.append(helper.make_node("Relu", ["x"], ["z"], body=_branch("e")))


def add_sparse_initializer(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0]),
            helper.make_tensor("indices", TensorProto.INT64, [1], [0]),
            [4],
        )
    )


def add_training_graph(model: onnx.ModelProto) -> None:
    model.training_info.add()


def undeclare_rank(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def undeclare_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].ClearField("type")


def make_input_scalar(model: onnx.ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[:]


def make_input_a_sequence(model: onnx.ModelProto) -> None:
    name = model.graph.input[0].name
    model.graph.input[0].CopyFrom(
        helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, [1])
    )


def set_absurd_attribute(value: int) -> Callable[[onnx.ModelProto], None]:
    """A convolution with this number among its attributes."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[0, 0, 0, value], group=1)
        )

    return change


def set_absurd_number(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Flatten", ["x"], ["f"], axis=1 << 40))


def set_absurd_shape(*shape: int) -> Callable[[onnx.ModelProto], None]:
    """An initializer that declares this shape."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=shape)

    return change


def set_absurd_axis(value: int) -> Callable[[onnx.ModelProto], None]:
    """An input with an axis of this size."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = value

    return change


def drop_data_location(model: onnx.ModelProto) -> None:
    """An initializer that names another file without saying that its numbers stand there."""
    add_external_data(model)
    model.graph.initializer[-1].ClearField("data_location")


def drop_external_file(model: onnx.ModelProto) -> None:
    """An initializer whose numbers stand in another file that it does not name."""
    add_external_data(model)
    model.graph.initializer[-1].ClearField("external_data")


def add_external_data_in_list(model: onnx.ModelProto) -> None:
    """An attribute of several tensors, the second of which stands in another file."""
    node = model.graph.node.add(op_type="Relu", input=["x"], output=["z"])
    attribute = node.attribute.add(name="several", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.add(data_type=TensorProto.FLOAT, dims=[1], float_data=[1.0])
    attribute.tensors.add(data_type=TensorProto.FLOAT, dims=[1]).data_location = 1


def add_operator(name: str, domain: str = "") -> Callable[[onnx.ModelProto], None]:
    """A node of that operator."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node(name, ["x"], ["z"], domain=domain))

    return change


def add_nested_graphs(model: onnx.ModelProto) -> None:
    """A list of graphs in an attribute."""
    node = model.graph.node.add(op_type="Relu", input=["x"], output=["z"])
    attribute = node.attribute.add(name="bodies", type=onnx.AttributeProto.GRAPHS)
    attribute.graphs.extend([_branch("f"), _branch("g")])


def _sparse() -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("indices", TensorProto.INT64, [1], [0]),
        [4],
    )


def add_sparse_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["w"], sparse_value=_sparse()))


def add_sparse_constants(model: onnx.ModelProto) -> None:
    node = model.graph.node.add(op_type="Constant", output=["w"])
    attribute = node.attribute.add(name="several", type=onnx.AttributeProto.SPARSE_TENSORS)
    attribute.sparse_tensors.append(_sparse())


def declare_input(number: int, kind: onnx.TypeProto) -> Callable[[onnx.ModelProto], None]:
    """A graph input, by its number, of this type."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.input[number].type.CopyFrom(kind)

    return change


def _tensor(kind: int, shape: Any = (1, 3)) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(kind, shape)


def clear_element_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("elem_type")


def set_absurd_attributes(**attributes: Any) -> Callable[[onnx.ModelProto], None]:
    """A convolution with these attributes."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Conv", ["x", "w"], ["c"], **attributes))

    return change


def set_absurd_constant(*shape: int) -> Callable[[onnx.ModelProto], None]:
    """A constant that declares this shape."""

    def change(model: onnx.ModelProto) -> None:
        node = model.graph.node.add(op_type="Constant", output=["w"])
        attribute = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
        attribute.t.data_type = TensorProto.FLOAT
        attribute.t.dims.extend(shape)

    return change


def drop_graph(model: onnx.ModelProto) -> None:
    model.ClearField("graph")


# What `edgeae.onnx_check` refuses, and what it says of it.
UNSAFE_GRAPHS: list[tuple[Callable[[onnx.ModelProto], None], str]] = [
    (add_external_data, "external data"),
    (drop_data_location, "external data"),
    (drop_external_file, "external data"),
    (add_external_data_in_attribute, "external data"),
    (add_external_data_in_list, "external data"),
    (add_custom_domain, "custom domain 'com.microsoft'"),
    (add_operator("Relu", "ai.onnx.ml"), "custom domain 'ai.onnx.ml'"),
    (add_operator("Relu", "ai.onnx.training"), "custom domain 'ai.onnx.training'"),
    (add_operator("Run", "com.example"), "custom domain 'com.example'"),
    (add_operator("Relu", "AI.ONNX"), "custom domain 'AI.ONNX'"),
    (add_operator("Relu", "ai.onnx "), "custom domain 'ai.onnx '"),
    (add_function, "model functions"),
    (add_if, "a graph nested in an operator .control flow."),
    (add_loop, "a graph nested in an operator .control flow."),
    (add_scan, "a graph nested in an operator .control flow."),
    (add_operator("SequenceMap"), "control flow: operator SequenceMap"),
    (add_operator("Loop"), "control flow: operator Loop"),
    (add_nested_graph, "a graph nested in an operator"),
    (add_nested_graphs, "a graph nested in an operator"),
    (add_sparse_initializer, "a sparse initializer"),
    (add_sparse_constant, "a sparse tensor"),
    (add_sparse_constants, "a sparse tensor"),
    (add_training_graph, "training graph"),
    (drop_graph, "0 graphs, expected 1"),
    (undeclare_rank, "'spectrum' does not declare its rank"),
    (declare_input(1, _tensor(TensorProto.FLOAT, None)), "'h0' does not declare its rank"),
    (undeclare_type, "'spectrum' is not declared as one tensor"),
    (make_input_scalar, "'spectrum' is a scalar"),
    (declare_input(1, _tensor(TensorProto.FLOAT, [])), "'h0' is a scalar"),
    (make_input_a_sequence, "a value that is no tensor"),
    (
        declare_input(0, helper.make_optional_type_proto(_tensor(TensorProto.FLOAT))),
        "a value that is no tensor",
    ),
    (
        declare_input(1, helper.make_map_type_proto(TensorProto.INT64, _tensor(TensorProto.FLOAT))),
        "a value that is no tensor",
    ),
    (
        declare_input(0, helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [1, 3])),
        "a value that is no tensor",
    ),
    (declare_input(0, _tensor(TensorProto.STRING)), "'spectrum' is not .* a tensor of numbers"),
    (declare_input(1, _tensor(TensorProto.COMPLEX64)), "'h0' is not .* a tensor of numbers"),
    (clear_element_type, "'spectrum' is not .* a tensor of numbers"),
    (set_absurd_attribute(1 << 31), "an attribute of 2147483648"),
    (set_absurd_attribute(-(1 << 62)), "an attribute of -4611686018427387904"),
    (set_absurd_attribute((1 << 63) - 1), "an attribute of 9223372036854775807"),
    (set_absurd_attributes(group=1 << 33), "an attribute of 8589934592"),
    (set_absurd_attributes(kernel_shape=[3, 1 << 40]), "an attribute of 1099511627776"),
    (set_absurd_attributes(strides=[1 << 31, 1]), "an attribute of 2147483648"),
    (set_absurd_attributes(dilations=[1, -(1 << 32)]), "an attribute of -4294967296"),
    (set_absurd_number, "an attribute of 1099511627776"),
    (set_absurd_shape(1 << 31), "a tensor with an axis of 2147483648"),
    (set_absurd_shape(-1), "a tensor with an axis of -1"),
    (set_absurd_shape(1 << 16, 1 << 16), "4294967296 elements"),
    (set_absurd_shape(1 << 11, 1 << 11, 1 << 11), "8589934592 elements"),
    (set_absurd_constant(1 << 40), "a tensor with an axis of 1099511627776"),
    (set_absurd_constant(2, -2), "a tensor with an axis of -2"),
    (set_absurd_axis(1 << 40), "'spectrum' has an axis of 1099511627776"),
    (set_absurd_axis(-3), "'spectrum' has an axis of -3"),
    (declare_input(1, _tensor(TensorProto.FLOAT, [1, 1 << 31])), "'h0' has an axis of 2147483648"),
]
