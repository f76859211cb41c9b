"""Whole numbers in a graph: which values are, and what is divided by them.

onnxruntime divides whole numbers as the processor does, and the smallest of them divided by -1 ends
the process. So a Div of whole numbers is by a constant that holds no -1, or it is refused.
"""

from __future__ import annotations

import struct

from edgeae.onnx_wire import Message

__all__ = ["UnsafeDivision", "check_divisions"]

# TensorProto.DataType of the floating-point numbers
_FLOATS = frozenset((1, 10, 11, 16, 17, 18, 19, 20))
_FLOAT = 1
# Stands for every kind of whole number, and for what is not known.
_WHOLE = 7

# What an operator's outputs are where that is not what its first input is.
_GIVES = {
    **dict.fromkeys(
        """
        ArgMax ArgMin ConvInteger MatMulInteger NonZero QLinearConv QLinearMatMul QuantizeLinear
        Shape Size
        """.split(),
        (_WHOLE,),
    ),
    **dict.fromkeys(
        """
        And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Xor
        """.split(),
        (_WHOLE,),
    ),
    "DynamicQuantizeLinear": (_WHOLE, _FLOAT, _WHOLE),
    "RandomNormal": (_FLOAT,),
    "RandomUniform": (_FLOAT,),
}
# Operators whose outputs are what this input is.
_LIKE = {"CastLike": 1, "DequantizeLinear": 1, "OneHot": 2, "Where": 1}
# Operators of which only the first output is what its first input is; the others are indices.
_INDEXED = frozenset(("Dropout", "MaxPool", "TopK", "Unique"))
# Operators that have the kind of their outputs in an attribute, and the kind if it is left out
# (0 is that of the first input).
_TOLD = {
    "Bernoulli": ("dtype", 0),
    "BlackmanWindow": ("output_datatype", _FLOAT),
    "Cast": ("to", _WHOLE),
    "EyeLike": ("dtype", 0),
    "HammingWindow": ("output_datatype", _FLOAT),
    "HannWindow": ("output_datatype", _FLOAT),
    "RandomNormalLike": ("dtype", 0),
    "RandomUniformLike": ("dtype", 0),
}


class UnsafeDivision(Exception):
    """A graph divides whole numbers by what may be -1."""


def check_divisions(graph: Message) -> None:
    """Returns if no Div in a graph can end the process.

    Args:
        graph: as `onnx_wire.read` gives it, its nodes in the order in which they run.

    Raises:
        UnsafeDivision: naming the divisor.
    """
    kinds: dict[str, int] = {}
    safe: set[str] = set()
    given = set()
    for value in graph.get("input", []):
        name = value.get("name", [""])[0]
        given.add(name)
        kinds[name] = value["type"][0]["tensor_type"][0]["elem_type"][0]
    for tensor in graph.get("initializer", []):
        name = tensor.get("name", [""])[0]
        # What is also an input is only a default.
        if name not in given:
            kinds[name] = tensor["data_type"][0]
            if not _holds_minus_one(tensor):
                safe.add(name)
    for node in graph.get("node", []):
        inputs, outputs = node.get("input", []), node.get("output", [])
        operator = node.get("op_type", [""])[0]
        if operator == "Div":
            divisor = inputs[1] if len(inputs) > 1 else ""
            if kinds.get(divisor, _WHOLE) not in _FLOATS and divisor not in safe:
                raise UnsafeDivision(
                    f"divides whole numbers by {divisor[:80]!r}, expected a constant without -1"
                )
        found = _kinds_of(node, operator, [kinds.get(name, _WHOLE) for name in inputs])
        for i, name in enumerate(outputs):
            kinds[name] = found[min(i, len(found) - 1)]
        if operator == "Constant" and outputs and not _constant_holds_minus_one(node):
            safe.add(outputs[0])


def _kinds_of(node: Message, operator: str, inputs: list[int]) -> tuple[int, ...]:
    """The kinds of a node's outputs; the last is that of all that follow."""
    first = inputs[0] if inputs else _WHOLE
    attributes = {a.get("name", [""])[0]: a for a in node.get("attribute", [])}
    if operator in _GIVES:
        return _GIVES[operator]
    if operator in _TOLD:
        name, usual = _TOLD[operator]
        told = attributes.get(name, {}).get("i", [usual])[0]
        return (told or first,)
    if operator in _LIKE:
        index = _LIKE[operator]
        return (inputs[index] if index < len(inputs) else _WHOLE,)
    if operator in ("Constant", "ConstantOfShape"):
        for name, attribute in attributes.items():
            if name == "value" and attribute.get("t"):
                return (attribute["t"][0]["data_type"][0],)
            if name in ("value_float", "value_floats"):
                return (_FLOAT,)
        return (_FLOAT if operator == "ConstantOfShape" else _WHOLE,)
    return (first, _WHOLE) if operator in _INDEXED else (first,)


def _holds_minus_one(tensor: Message) -> bool:
    """Whether a checked tensor of whole numbers holds a -1, or may: in doubt it does."""
    widths = {3: "b", 5: "h", 6: "i", 7: "q"}
    letter = widths.get(tensor["data_type"][0])
    if letter is None:  # no sign, or no whole number
        return False
    if raw := tensor.get("raw_data", [b""])[0]:
        return any(value == -1 for (value,) in struct.iter_unpack(f"<{letter}", raw))
    # A packed negative number is ten bytes, of which the sign fills the last five.
    packed = (tensor.get("int32_data", [b""])[0], tensor.get("int64_data", [b""])[0])
    return any(b"\xff\xff\xff\xff\x01" in part for part in packed)


def _constant_holds_minus_one(node: Message) -> bool:
    for attribute in node.get("attribute", []):
        if any(_holds_minus_one(tensor) for tensor in attribute.get("t", [])):
            return True
        if -1 in (*attribute.get("i", []), *attribute.get("ints", [])):
            return True
    return False
