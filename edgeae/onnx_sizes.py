"""How much a graph may make of nothing: results whose size stands in a value, bounded beforehand.

A few bytes are enough to ask for a tensor of any size: ConstantOfShape, Expand, Tile, Range, Resize
and their like take the size of their result from a value, and onnxruntime folds constants while it
opens a session. So such a value must be known from the file alone, or be made of the sizes of
tensors that the caller gives. `check_sizes` bounds each of them, and what one makes of another's.

What is bounded is what values ask for. Operators whose result has the size of their inputs, or of
the product of two of them, are left to the inputs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from edgeae.onnx_wire import Message

__all__ = ["MAX_GROWTH", "MAX_MADE", "MAX_PADS", "TooLarge", "check_sizes"]

# Elements that one operator may make, 256 MB of float32: many times a mask or a grid of positions
# for the largest tile. An axis of the caller's counts as 1.
MAX_MADE = 1 << 26
# How many times as large a chain of such operators may make anything; 16 from stride to pixels is
# 256.
MAX_GROWTH = 1 << 26
# What pads may add to an axis, in all of a graph.
MAX_PADS = 1 << 16

# The longest value that can be a shape. Others are data.
_MAX_RANK = 64

# A value may be made of so many sizes of tensors, or of one whole shape.
_MAX_PIECES = 4

# Operator -> which input holds the shape of its result
_SHAPES = {
    "BlackmanWindow": 0,
    "ConstantOfShape": 0,
    "Expand": 1,
    "HammingWindow": 0,
    "HannWindow": 0,
}
# Operator -> which input says how many times as large its result is
_REPEATS = {"DFT": 1, "OneHot": 1, "STFT": 3, "Tile": 1}
_OPTIONAL = frozenset(("DFT", "STFT"))
_PADDED = frozenset(
    "AveragePool Conv ConvInteger ConvTranspose DeformConv LpPool MaxPool QLinearConv".split()
)
# What hands on all elements of its first input, and what hands on each of them once at most.
_KEEPING = frozenset("Cast Flatten Identity Reshape Squeeze Unsqueeze".split())
_SELECTING = frozenset("Gather ReduceMax ReduceMin Slice Split".split())
_ARITHMETIC = frozenset("Add Div Max Min Mul Sub".split())


class TooLarge(Exception):
    """A graph asks for more than is allowed, or for what cannot be known."""


@dataclass(frozen=True)
class _Known:
    """A value that stands in the file: its numbers, flat."""

    numbers: tuple[float, ...]

    @property
    def product(self) -> float:
        """The most that a tensor of this shape has elements, or is repeated."""
        return math.prod(max(1.0, abs(number)) for number in self.numbers)


@dataclass(frozen=True)
class _OfSizes:
    """A value made of the sizes of tensors.

    Attributes:
        product: what the product of its elements is at most, but for axes that the caller sizes.
        pieces: of how many sizes it is made; a whole shape is as many as are allowed.
    """

    product: float
    pieces: int


_Value = _Known | _OfSizes


def check_sizes(graph: Message) -> None:
    """Returns if whatever values make in a graph is bounded.

    Args:
        graph: as `onnx_wire.read` gives it.

    Raises:
        TooLarge: a result is larger than `MAX_MADE`, a chain of results grows by more than
            `MAX_GROWTH`, pads add more than `MAX_PADS` to an axis, a size is neither in the file
            nor made of the sizes of inputs, or a value is used before it is made.
    """
    made, values = _given(graph)
    pads = 0
    for node in graph.get("node", []):
        inputs = [name for name in node.get("input", []) if name]
        outputs = [name for name in node.get("output", []) if name]
        for name in inputs:
            if name not in made:
                raise TooLarge(f"uses {name[:80]!r}, which nothing before it makes")
        one, times, padded = _growth(node, values)
        pads += padded
        if pads > MAX_PADS:
            raise TooLarge(f"pads an axis by {pads}, expected at most {MAX_PADS} in all")
        grown = max(one, times * max((made[name].growth for name in inputs), default=1.0))
        if grown > MAX_GROWTH:
            raise TooLarge(
                f"makes {grown:.3g} times its inputs by operator {_operator(node)}, "
                f"expected at most {MAX_GROWTH}"
            )
        extent = max(one, times * max((made[name].extent for name in inputs), default=1.0))
        for name in outputs:
            if name in made:
                raise TooLarge(f"not an ONNX file: two values {name[:80]!r}")
            made[name] = _Made(grown, extent)
        _follow(node, inputs, outputs, made, values)


@dataclass(frozen=True)
class _Made:
    """A tensor: how many times what it is made of, and the elements of it that no caller sizes."""

    growth: float
    extent: float


def _given(graph: Message) -> tuple[dict[str, _Made], dict[str, _Value]]:
    """The tensors that are there before the first node, and the values among them."""
    made: dict[str, _Made] = {}
    values: dict[str, _Value] = {}
    for value in graph.get("input", []):
        axes = value["type"][0]["tensor_type"][0]["shape"][0].get("dim", [])
        fixed = [size for axis in axes for size in axis.get("dim_value", [])]
        name = value.get("name", [""])[0]
        if name in made:
            raise TooLarge(f"not an ONNX file: two inputs {name[:80]!r}")
        made[name] = _Made(1.0, _product(fixed))
    inputs = set(made)
    for tensor in graph.get("initializer", []):
        name = tensor.get("name", [""])[0]
        if name in inputs:  # a default only, which a caller may replace
            inputs.remove(name)
            continue
        if name in made:
            raise TooLarge(f"not an ONNX file: two initializers {name[:80]!r}")
        _remember(values, name, tensor)
        made[name] = _Made(1.0, _product(tensor.get("dims", [])))
    return made, values


def _operator(node: Message) -> str:
    return str(node.get("op_type", [""])[0])


def _attribute(node: Message, name: str) -> Message:
    for attribute in node.get("attribute", []):
        if attribute.get("name", [""])[0] == name:
            return dict(attribute)
    return {}


def _growth(node: Message, values: dict[str, _Value]) -> tuple[float, float, int]:
    """Elements that a node makes whatever it is given, how many times what it is given, and by how
    much it pads an axis at most.
    """
    operator = _operator(node)
    one, times, pads = 1.0, 1.0, 0
    if operator in ("RandomNormal", "RandomUniform"):
        one = _product(_attribute(node, "shape").get("ints", []))
    elif operator in ("Resize", "Upsample"):
        times = _resized(node, values)
    elif operator in _REPEATS:
        names, index = node.get("input", []), _REPEATS[operator]
        if operator not in _OPTIONAL or (len(names) > index and names[index]):
            times = _needed(node, index, values).product
    elif operator in _SHAPES:
        shape = _needed(node, _SHAPES[operator], values)
        one = shape.product
        # Where its shape says 1 an Expand keeps the axes of its input.
        if operator == "Expand" and not (isinstance(shape, _Known) and 1 not in shape.numbers):
            times = one
    elif operator == "Range":
        one = _range(node, values)
    elif operator == "Pad":
        pads = _pads(node, values)
    elif operator in _PADDED:
        pads = _sum_of_pads(_attribute(node, "pads").get("ints", []))
        pads += sum(map(abs, _attribute(node, "output_padding").get("ints", [])))
        if operator == "ConvTranspose":
            one = _product(_attribute(node, "output_shape").get("ints", []))
            # Each element gives a kernel's worth, a stride apart.
            times = _product(_attribute(node, "strides").get("ints", []))
            pads += sum(map(abs, _attribute(node, "dilations").get("ints", [])))
    if one > MAX_MADE:
        raise TooLarge(f"makes {one:.3g} elements by {operator}, expected at most {MAX_MADE}")
    return one, times, pads


def _product(sizes: Sequence[int]) -> float:
    return _Known(tuple(sizes)).product


def _needed(node: Message, index: int, values: dict[str, _Value]) -> _Value:
    """The value of an input. Raises if it is not known beforehand."""
    names = node.get("input", [])
    name = names[index] if index < len(names) else ""
    if name not in values:
        raise TooLarge(
            f"holds an operator {_operator(node)} whose size is the value of {name[:80]!r}, "
            "expected a constant or sizes of its inputs"
        )
    return values[name]


def _resized(node: Message, values: dict[str, _Value]) -> float:
    """How many times as large a Resize makes its input: by its scales or its sizes."""
    names = node.get("input", [])
    if _operator(node) == "Upsample" and len(names) < 2:  # before opset 9
        raise TooLarge("holds an operator Upsample without an input of scales")
    if len(names) == 2:
        scale = _needed(node, 1, values)
    else:
        scale = _needed(node, 3 if len(names) > 3 and names[3] else 2, values)
    if any(not math.isfinite(number) for number in getattr(scale, "numbers", ())):
        raise TooLarge(f"holds an operator {_operator(node)} whose scale is not finite")
    return scale.product


def _range(node: Message, values: dict[str, _Value]) -> float:
    parts = [_needed(node, index, values) for index in range(3)]
    numbers = [part.numbers[0] if isinstance(part, _Known) else None for part in parts]
    start, limit, step = numbers
    if step is None or not math.isfinite(step) or not step:
        raise TooLarge("holds an operator Range whose step is zero or no constant")
    if start is None or limit is None:
        # Up to a size of the caller's, in steps of at least this.
        return max(parts[0].product, parts[1].product) / min(1.0, abs(step))
    if not (math.isfinite(start) and math.isfinite(limit)):
        raise TooLarge("holds an operator Range whose end is not finite")
    return max(1.0, abs((limit - start) / step))


def _pads(node: Message, values: dict[str, _Value]) -> int:
    attribute = _attribute(node, "pads").get("ints", [])  # before opset 11
    if attribute:
        return _sum_of_pads(attribute)
    pads = _needed(node, 1, values)
    if not isinstance(pads, _Known):
        raise TooLarge("holds an operator Pad whose pads are no constant")
    return _sum_of_pads([int(number) for number in pads.numbers])


def _sum_of_pads(pads: Sequence[int]) -> int:
    """The most that one axis grows by; crops do not count."""
    half = len(pads) // 2
    return max((max(0, a) + max(0, b) for a, b in zip(pads, pads[half:], strict=False)), default=0)


def _remember(values: dict[str, _Value], name: str, tensor: Message) -> None:
    numbers = _numbers(tensor)
    if numbers is not None:
        values[name] = _Known(numbers)


def _follow(
    node: Message,
    inputs: Sequence[str],
    outputs: Sequence[str],
    made: dict[str, _Made],
    values: dict[str, _Value],
) -> None:
    """Adds to `values` what is known of a node's outputs."""
    operator = _operator(node)
    if not outputs:
        return
    name = outputs[0]
    known = [values[part] for part in inputs if part in values]
    if operator == "Constant":
        _constant(node, name, values)
    elif operator in ("Shape", "Size") and inputs:
        values[name] = _OfSizes(made[inputs[0]].extent, _MAX_PIECES)
    elif operator in _KEEPING and inputs and inputs[0] in values:
        values[name] = values[inputs[0]]
    elif operator in _SELECTING and inputs and inputs[0] in values:
        count = _picked(node, values)
        if count is not None:
            for output in outputs:
                values[output] = _OfSizes(values[inputs[0]].product, min(count, _MAX_PIECES))
    elif operator == "Concat" and len(known) == len(inputs):
        _join(name, known, values)
    elif operator in _ARITHMETIC and len(known) == len(inputs) == 2:
        # |a + b| and |a * b| are at most (1 + |a|)(1 + |b|); a division is by a constant of 1 or
        # more, or else not followed.
        divisor = known[1]
        if operator == "Div" and not (
            isinstance(divisor, _Known) and all(abs(n) >= 1 for n in divisor.numbers)
        ):
            return
        pieces = max(getattr(value, "pieces", 0) for value in known)
        product = math.prod(_more_than(value) for value in known)
        values[name] = _OfSizes(product, max(1, pieces))


def _picked(node: Message, values: dict[str, _Value]) -> int | None:
    """How many elements an operator picks, none twice; None if it may pick one twice."""
    if _operator(node) != "Gather":
        return _MAX_PIECES
    names = node.get("input", [])
    index = values.get(names[1]) if len(names) > 1 else None
    if not isinstance(index, _Known):
        return None
    numbers = index.numbers
    distinct = len(set(numbers)) == len(numbers) and len({number < 0 for number in numbers}) <= 1
    return len(numbers) if distinct else None


def _join(name: str, parts: Sequence[_Value], values: dict[str, _Value]) -> None:
    pieces = sum(part.pieces for part in parts if isinstance(part, _OfSizes))
    known = [part.numbers for part in parts if isinstance(part, _Known)]
    if len(known) == len(parts):
        numbers = tuple(number for part in known for number in part)
        if len(numbers) <= _MAX_RANK:
            values[name] = _Known(numbers)
    elif pieces <= _MAX_PIECES:
        values[name] = _OfSizes(math.prod(part.product for part in parts), pieces)


def _more_than(value: _Value) -> float:
    """At least the product of 1 + |element|."""
    if isinstance(value, _Known):
        return math.prod(1 + abs(number) for number in value.numbers)
    return 2.0**value.pieces * value.product


def _constant(node: Message, name: str, values: dict[str, _Value]) -> None:
    for attribute in node.get("attribute", []):
        kind = attribute.get("name", [""])[0]
        if kind == "value" and attribute.get("t"):
            _remember(values, name, attribute["t"][0])
        elif kind in ("value_int", "value_ints"):
            numbers = tuple(attribute.get("i", []) or attribute.get("ints", []))
            if len(numbers) <= _MAX_RANK:
                values[name] = _Known(numbers)
        elif kind in ("value_float", "value_floats"):
            floats = attribute.get("f", []) or attribute.get("floats", [])
            if len(floats) <= _MAX_RANK:
                values[name] = _Known(tuple(struct.unpack("<f", part)[0] for part in floats))


# TensorProto.DataType -> struct's letter, of the types that a shape or a scale has
_LETTERS = {1: "f", 6: "i", 7: "q", 11: "d"}


def _numbers(tensor: Message) -> tuple[float, ...] | None:
    """The numbers of a checked tensor that is short enough to be a shape."""
    count = math.prod(tensor.get("dims", []))
    letter = _LETTERS.get(tensor.get("data_type", [0])[0])
    if letter is None or count > _MAX_RANK:
        return None
    if raw := tensor.get("raw_data", [b""])[0]:
        return struct.unpack(f"<{count}{letter}", raw)
    for field, packed in (("float_data", "f"), ("double_data", "d")):
        if data := tensor.get(field, [b""])[0]:
            return struct.unpack(f"<{count}{packed}", data)
    for field in ("int32_data", "int64_data"):
        if data := tensor.get(field, [b""])[0]:
            return _unpacked(data)
    return ()


def _unpacked(data: bytes) -> tuple[float, ...]:
    """The signed numbers of a packed array of varints."""
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value - (1 << 64) if value >> 63 else value)
            value = shift = 0
    return tuple(numbers)
