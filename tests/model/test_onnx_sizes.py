"""What a graph may make of values is bounded before it runs; what exporters write passes."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from tiny import TensorProto, helper

from edgeae.errors import BundleError
from edgeae.onnx_check import check_graph

node = helper.make_node
INT64 = TensorProto.INT64


def check(*nodes, inputs=None, outputs=("y",), ints=(), **constants):
    """Checks a graph of these nodes; inputs named in `ints` are int64."""
    model = tiny.make_model(
        nodes, inputs or {"x": (1, 3, "h", "w")}, dict.fromkeys(outputs, None), constants
    )
    for value in model.graph.input:
        if value.name in ints:
            value.type.tensor_type.elem_type = INT64
    return check_graph(model.SerializeToString(), name="made")


def shape(*sizes):
    return np.array(sizes, np.int64)


# What is asked for by constants


@pytest.mark.parametrize(
    "nodes",
    {
        "a tensor of zeros": [node("ConstantOfShape", ["s"], ["y"])],
        "an expansion": [node("Expand", ["x", "s"], ["y"])],
        "a repetition": [node("Tile", ["x", "s"], ["y"])],
        "a range": [node("Range", ["zero", "far", "one"], ["y"])],
        "a range of small steps": [node("Range", ["fzero", "fone", "tiny"], ["y"])],
        "a resize to sizes": [node("Resize", ["x", "", "", "s"], ["y"])],
        "a resize by scales": [node("Resize", ["x", "", "scales"], ["y"])],
        "a one-hot of great depth": [node("OneHot", ["x", "far", "s"], ["y"])],
        "noise": [node("RandomNormal", [], ["y"], shape=[1 << 14, 1 << 14])],
        "a window": [node("HannWindow", ["far"], ["y"])],
        "a transposed convolution to a size": [
            node("ConvTranspose", ["x", "w"], ["y"], output_shape=[1 << 14, 1 << 14])
        ],
        "a transposed convolution of wide strides": [
            node("ConvTranspose", ["x", "w"], ["y"], strides=[1 << 14, 1 << 14])
        ],
        "pads": [node("Pad", ["x", "pads"], ["y"])],
        "pads of a convolution": [node("Conv", ["x", "w"], ["y"], pads=[0, 1 << 17, 0, 0])],
        "a transform of great length": [node("DFT", ["x", "far"], ["y"])],
    }.items(),
    ids=lambda item: item[0],
)
def test_a_few_bytes_that_ask_for_gigabytes_are_refused(nodes):
    with pytest.raises(BundleError, match="made: (makes|pads an axis|holds strides)") as caught:
        check(
            *nodes[1],
            s=shape(1 << 14, 1 << 14),
            far=np.int64(1 << 40),
            zero=np.int64(0),
            one=np.int64(1),
            fzero=np.float32(0),
            fone=np.float32(1),
            tiny=np.float32(1e-12),
            scales=np.float32([1, 1, 1e5, 1e5]),
            w=np.ones((3, 3, 1, 1), np.float32),
            pads=shape(0, 0, 0, 1 << 17, 0, 0, 0, 0),
        )
    assert "\n" not in str(caught.value)


def test_many_steps_may_not_ask_for_what_one_may_not():
    chain = [node("Tile", [f"t{i}" if i else "x", "s"], [f"t{i + 1}"]) for i in range(4)]
    check(*chain[:3], outputs=["t3"], s=shape(1, 1, 16, 16))
    with pytest.raises(BundleError, match="makes .* times its inputs by operator Tile"):
        check(*chain, outputs=["t4"], s=shape(1, 1, 16, 16))
    grown = [node("ConstantOfShape", ["s"], ["made"]), node("Tile", ["made", "s"], ["y"])]
    with pytest.raises(BundleError, match="makes .* times its inputs by operator Tile"):
        check(*grown, s=shape(1 << 12, 1 << 12))


def test_pads_add_up_over_a_graph():
    chain = [node("Pad", [f"t{i}" if i else "x", "p"], [f"t{i + 1}"]) for i in range(3)]
    pads = shape(0, 0, 0, 1 << 14, 0, 0, 0, 1 << 14)
    check(*chain[:2], outputs=["t2"], p=pads)
    with pytest.raises(BundleError, match="pads an axis by 98304"):
        check(*chain, outputs=["t3"], p=pads)


# What is asked for by values that are not known


@pytest.mark.parametrize(
    "nodes",
    {
        "an input": [node("ConstantOfShape", ["n"], ["y"])],
        "an input's number": [
            node("Cast", ["x"], ["c"], to=INT64), node("Expand", ["x", "c"], ["y"])
        ],
        "a position": [node("ArgMax", ["x"], ["c"]), node("Tile", ["x", "c"], ["y"])],
        "a sum": [node("ReduceSum", ["n"], ["c"]), node("Range", ["zero", "c", "zero"], ["y"])],
        "an input's scale": [node("Resize", ["x", "", "x"], ["y"])],
        "an input's pads": [node("Pad", ["x", "n"], ["y"])],
        "the power of a size": [
            node("Shape", ["x"], ["c"]), node("Pow", ["c", "two"], ["d"]),
            node("Expand", ["x", "d"], ["y"])
        ],
        "many shapes": [
            node("Shape", ["x"], ["c"]), node("Concat", ["c", "c"], ["d"], axis=0),
            node("ConstantOfShape", ["d"], ["y"])
        ],
        "one size many times": [
            node("Shape", ["x"], ["c"]), node("Gather", ["c", "same"], ["d"]),
            node("ConstantOfShape", ["d"], ["y"])
        ],
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_a_size_that_is_not_known_beforehand_is_refused(nodes):
    with pytest.raises(BundleError, match="expected a constant|step is zero|no constant"):
        check(
            *nodes[1],
            inputs={"x": (1, 3, "h", "w"), "n": (4,)},
            ints=["n"],
            zero=np.int64(0),
            two=np.int64(2),
            same=shape(2, 2, 2, 2),
        )


def test_a_default_that_a_caller_may_replace_is_no_constant():
    nodes = [node("ConstantOfShape", ["n"], ["y"])]
    check(*nodes, n=shape(2))
    with pytest.raises(BundleError, match="expected a constant"):
        check(*nodes, inputs={"x": (1,), "n": (1,)}, ints=["n"], n=shape(2))


def test_the_size_of_what_is_made_is_no_size_of_the_callers():
    nodes = [
        node("ConstantOfShape", ["s"], ["made"]),
        node("Shape", ["made"], ["c"]),
        node("Concat", ["c", "s"], ["d"], axis=0),
        node("ConstantOfShape", ["d"], ["y"]),
    ]
    check(*nodes, s=shape(1 << 10))
    with pytest.raises(BundleError, match="makes .* elements by ConstantOfShape"):
        check(*nodes, s=shape(1 << 14))


# What exporters write


def test_what_exporters_write_passes():
    check(node("ConstantOfShape", ["s"], ["y"]), s=shape(1, 64, 256))
    check(node("Expand", ["x", "s"], ["y"]), s=shape(1, 3, 1, 1))
    check(node("Resize", ["x", "", "f"], ["y"], mode="nearest"), f=np.float32([1, 1, 2, 2]))
    check(node("Pad", ["x", "p"], ["y"], mode="reflect"), p=shape(0, 0, 8, 8, 0, 0, 8, 8))
    check(node("Range", ["a", "b", "c"], ["y"]), a=np.int64(0), b=np.int64(512), c=np.int64(1))
    doubled = [
        node("Shape", ["x"], ["all"]),
        node("Gather", ["all", "rows"], ["h"]),
        node("Gather", ["all", "columns"], ["w"]),
        node("Mul", ["h", "two"], ["h2"]),
        node("Mul", ["w", "two"], ["w2"]),
        node("Concat", ["lead", "h2", "w2"], ["sizes"], axis=0),
        node("Resize", ["x", "", "", "sizes"], ["y"]),
    ]
    check(*doubled, rows=shape(2), columns=shape(3), two=shape(2), lead=shape(1, 3))
    positions = [
        node("Shape", ["x"], ["all"]),
        node("Gather", ["all", "rows"], ["h"]),
        node("Squeeze", ["h"], ["n"]),
        node("Range", ["zero", "n", "one"], ["y"]),
    ]
    check(*positions, rows=shape(2), zero=np.int64(0), one=np.int64(1))
    like = [node("Shape", ["x"], ["all"]), node("ConstantOfShape", ["all"], ["y"])]
    check(*like)


# Order and names


def test_values_have_one_source_and_stand_before_their_use():
    with pytest.raises(BundleError, match="uses 'later', which nothing before it makes"):
        check(node("Relu", ["later"], ["y"]), node("Relu", ["x"], ["later"]))
    with pytest.raises(BundleError, match="two values 'y'"):
        check(node("Relu", ["x"], ["y"]), node("Abs", ["x"], ["y"]))
    with pytest.raises(BundleError, match="two values 'x'"):
        check(node("Relu", ["x"], ["x"]))


# Divisions and windows that end or hang a process


def whole(*nodes):
    return [node("Cast", ["x"], ["i"], to=TensorProto.INT32), *nodes]


@pytest.mark.parametrize(
    "divisor", [np.int32([-1]), np.int32([3, -1, 2, 5])], ids=["alone", "among others"]
)
def test_whole_numbers_divided_by_minus_one_are_refused(divisor):
    with pytest.raises(BundleError, match="divides whole numbers by 'd'"):
        check(*whole(node("Div", ["i", "d"], ["y"])), d=divisor)
    kept = helper.make_tensor("d", TensorProto.INT32, [len(divisor)], divisor.tolist())
    with pytest.raises(BundleError, match="divides whole numbers by 'd'"):
        check(node("Constant", [], ["d"], value=kept), *whole(node("Div", ["i", "d"], ["y"])))


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Div", ["i", "i"], ["y"])],
        [node("Abs", ["i"], ["a"]), node("Div", ["i", "a"], ["y"])],
        [node("ArgMax", ["x"], ["a"]), node("Div", ["a", "a"], ["y"])],
        [node("TopK", ["x", "one"], ["v", "a"]), node("Div", ["a", "a"], ["y"])],
        [node("Where", ["i", "i", "i"], ["a"]), node("Div", ["a", "a"], ["y"])],
        [node("CastLike", ["x", "i"], ["a"]), node("Div", ["a", "a"], ["y"])],
        [node("QuantizeLinear", ["x", "f"], ["a"]), node("Div", ["a", "a"], ["y"])],
        [node("Constant", [], ["a"], value_ints=[-1]), node("Div", ["i", "a"], ["y"])],
    ],
)
def test_whole_numbers_divided_by_what_is_not_known_are_refused(nodes):
    with pytest.raises(BundleError, match="divides whole numbers by"):
        check(*whole(*nodes), one=shape(1), f=np.float32(1))


def test_other_divisions_pass():
    check(node("Div", ["x", "x"], ["y"]))
    check(node("Div", ["x", "d"], ["y"]), d=np.float32([-1]))
    check(*whole(node("Div", ["i", "d"], ["y"])), d=np.int32([7, 2]))
    back = node("Cast", ["i"], ["f"], to=TensorProto.FLOAT)
    check(*whole(back, node("Div", ["f", "f"], ["y"])))
    check(node("Constant", [], ["d"], value_ints=[4]), *whole(node("Div", ["i", "d"], ["y"])))


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [1 << 20, 1]},
        {"kernel_shape": [1 << 11, 1 << 11]},
        {"kernel_shape": [0, 1]},
        {"strides": [0, 1]},
        {"dilations": [1, -1]},
        {"group": 0},
    ],
    ids=str,
)
def test_windows_of_no_extent_or_a_huge_one_are_refused(attributes):
    with pytest.raises(BundleError, match="holds (kernel_shape|strides|dilations|group) of"):
        check(node("Conv", ["x", "w"], ["y"], **attributes), w=np.ones((3, 3, 1, 1), np.float32))


# Operators and attributes


@pytest.mark.parametrize(
    "name", ["ImageDecoder", "GivenTensorFill", "SequenceConstruct", "StringConcat", "Optional"]
)
def test_operators_that_are_not_on_the_list_are_refused(name):
    with pytest.raises(BundleError, match=f"holds the operator '{name}', which is none of those"):
        check(node(name, ["x"], ["y"]))


def test_an_attribute_is_what_its_type_says():
    odd = node("LeakyRelu", ["x"], ["y"], alpha=0.1)
    odd.attribute[0].i = 3
    with pytest.raises(
        BundleError, match="an attribute 'alpha' of type 1 whose value is in f and i"
    ):
        check(odd)
    odd = node("LeakyRelu", ["x"], ["y"], alpha=0.1)
    odd.attribute[0].type = 2
    with pytest.raises(BundleError, match="an attribute 'alpha' of type 2"):
        check(odd)
    odd = node("LeakyRelu", ["x"], ["y"], alpha=0.1)
    odd.attribute.append(odd.attribute[0])
    with pytest.raises(BundleError, match="an attribute of LeakyRelu stands twice"):
        check(odd)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.dims.append(3), "a tensor of shape"),
        (lambda t: t.ClearField("raw_data"), "whose numbers are in no field"),
        (lambda t: t.float_data.append(1), "whose numbers are in"),
        (lambda t: setattr(t, "raw_data", bytes(9)), "a tensor of shape"),
        (lambda t: setattr(t, "data_type", TensorProto.STRING), "a tensor of type 8"),
        (lambda t: t.string_data.append(b"x"), "a tensor of strings"),
        (lambda t: t.segment.SetInParent(), "a tensor in segments"),
    ],
)
def test_a_tensor_holds_the_numbers_that_its_shape_says(change, match):
    model = tiny.make_model(
        [node("Add", ["x", "w"], ["y"])], {"x": (1, 2)}, {"y": (1, 2)}, {"w": np.float32([1, 2])}
    )
    check_graph(model.SerializeToString(), name="sound")
    change(model.graph.initializer[0])
    with pytest.raises(BundleError, match=match):
        check_graph(model.SerializeToString(), name="odd")
