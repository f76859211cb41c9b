"""A look at an ONNX file before any library opens it: which files must not be run at all.

Only the protobuf wire format is read, and only the few fields that matter, so the runtime needs no
onnx package. Field numbers are those of onnx.proto (https://github.com/onnx/onnx, IR version 10).
The walk never enters a tensor's data or a nested graph: its depth is fixed and its time is linear.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeae.errors import BundleError

__all__ = ["check_graph", "count_parameters", "matrix_product_model"]

# A 1,000-node quantized graph has about 30,000 fields; a hostile file could hold one per two bytes.
MAX_FIELDS = 2_000_000

STANDARD_DOMAINS = frozenset({b"", b"ai.onnx"})
CONTROL_FLOW = frozenset({b"If", b"Loop", b"Scan", b"SequenceMap"})

# TensorProto.DataType: whole and floating-point numbers of 8 to 64 bits and booleans; no strings,
# which onnxruntime keeps elsewhere, and no complex numbers.
NUMBERS = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16})

# An axis, a kernel, a stride or a pad beyond this is none; nor is a tensor of more elements, since
# its numbers must be inside the file.
MAX_SIZE = (1 << 31) - 1

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_Span = tuple[int, int]
_Field = tuple[int, int, int, int]  # number, wire type, start (or the value of a varint), end


class _Walk:
    """The bytes of one file, and how many fields of it may still be read."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.left = MAX_FIELDS

    def refuse(self, offence: str) -> BundleError:
        return BundleError(f"{self.name}: {offence}")

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """(value, next position) of the base-128 number at `at`."""
        value = shift = 0
        data = self.data
        while at < end:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
            if shift > 63:
                break
        raise self.refuse(f"not an ONNX file: bad number before byte {at}")

    def fields(self, span: _Span) -> Iterator[_Field]:
        """Every field of the message in `span`; raises BundleError where it is malformed."""
        at, end = span
        while at < end:
            self.left -= 1
            if self.left < 0:
                raise self.refuse(f"not a usable ONNX file: over {MAX_FIELDS} fields")
            key, at = self.varint(at, end)
            number, wire = key >> 3, key & 7
            if number == 0:
                raise self.refuse(f"not an ONNX file: field number 0 before byte {at}")
            if wire == _VARINT:
                value, at = self.varint(at, end)
                yield number, wire, value, at
                continue
            if wire == _BYTES:
                size, at = self.varint(at, end)
            elif wire == _FIXED64:
                size = 8
            elif wire == _FIXED32:
                size = 4
            else:
                raise self.refuse(f"not an ONNX file: wire type {wire} before byte {at}")
            if size > end - at:
                raise self.refuse(f"not an ONNX file, or cut off: byte {at} announces {size} bytes")
            yield number, wire, at, at + size
            at += size

    def messages(self, span: _Span, wanted: frozenset[int]) -> Iterator[tuple[int, _Span]]:
        """(number, span) of the wanted fields, all of which are strings or messages."""
        for number, wire, start, end in self.fields(span):
            if number in wanted:
                # A parser would skip such a field as unknown; no honest writer makes one.
                if wire != _BYTES:
                    raise self.refuse(f"not an ONNX file: field {number} has wire type {wire}")
                yield number, (start, end)

    def numbers(self, span: _Span, wanted: int) -> Iterator[int]:
        """The values of a repeated int64 field, packed or not."""
        for number, wire, start, end in self.fields(span):
            if number != wanted:
                continue
            if wire == _VARINT:
                yield _signed(start)
            elif wire == _BYTES:
                at = start
                while at < end:
                    value, at = self.varint(at, end)
                    yield _signed(value)
            else:
                raise self.refuse(f"not an ONNX file: field {number} has wire type {wire}")

    def text(self, span: _Span) -> str:
        return self.data[span[0] : min(span[1], span[0] + 80)].decode("utf-8", "replace")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def check_graph(data: bytes, *, name: str) -> None:
    """Returns if the ONNX model in `data` is safe to open; raises BundleError naming the offence.

    Refused: external data, operators outside the ONNX domain, model functions, control flow and any
    other nested graph, sparse tensors, training graphs, a number beyond 2 ** 31 in an attribute or
    in a tensor's shape, and a graph input that is no tensor of numbers, is a scalar or does not
    declare its rank (an int8 graph fed a scalar there aborts the process).
    """
    walk = _Walk(data, name)
    graphs = 0
    # ModelProto: graph 7, training_info 20, functions 25
    for number, span in walk.messages((0, len(data)), frozenset({7, 20, 25})):
        if number == 20:
            raise walk.refuse("holds a training graph")
        if number == 25:
            raise walk.refuse("holds model functions: inline them before export")
        graphs += 1
        _check_graph_proto(walk, span)
    if graphs != 1:
        raise walk.refuse(f"not an ONNX file: {graphs} graphs, 1 is allowed")


def _check_graph_proto(walk: _Walk, graph: _Span) -> None:
    # GraphProto: node 1, initializer 5, input 11, sparse_initializer 15
    for number, span in walk.messages(graph, frozenset({1, 5, 11, 15})):
        if number == 1:
            _check_node(walk, span)
        elif number == 5:
            _check_tensor(walk, span)
        elif number == 11:
            _check_input(walk, span)
        else:
            raise walk.refuse("holds a sparse initializer")


def _check_node(walk: _Walk, node: _Span) -> None:
    # NodeProto: op_type 4, attribute 5, domain 7
    for number, (start, end) in walk.messages(node, frozenset({4, 5, 7})):
        if number == 5:
            _check_attribute(walk, (start, end))
            continue
        value = walk.data[start:end]
        if number == 4 and value in CONTROL_FLOW:
            raise walk.refuse(f"holds control flow: operator {value.decode()}")
        if number == 7 and value not in STANDARD_DOMAINS:
            raise walk.refuse(f"holds an operator of the custom domain {walk.text((start, end))!r}")


def _check_attribute(walk: _Walk, attribute: _Span) -> None:
    # AttributeProto: t 5, g 6, tensors 10, graphs 11, sparse_tensor 22, sparse_tensors 23
    # and i 3, ints 8
    for field in (3, 8):
        for value in walk.numbers(attribute, field):
            if abs(value) > MAX_SIZE:
                raise walk.refuse(f"holds an attribute of {value}: {MAX_SIZE} is allowed")
    for number, span in walk.messages(attribute, frozenset({5, 6, 10, 11, 22, 23})):
        if number in (5, 10):
            _check_tensor(walk, span)
        elif number in (6, 11):
            raise walk.refuse("holds a graph nested in an operator (control flow)")
        else:
            raise walk.refuse("holds a sparse tensor")


def _check_tensor(walk: _Walk, tensor: _Span) -> None:
    # TensorProto: name 8, external_data 13, data_location 14 (1 = external)
    for number, wire, value, _ in walk.fields(tensor):
        if number == 13 or (number == 14 and (wire != _VARINT or value != 0)):
            raise walk.refuse("keeps weights in another file (external data)")
    elements = 1
    for size in walk.numbers(tensor, 1):
        elements *= size
        if size < 0 or elements > MAX_SIZE:
            raise walk.refuse(f"holds a tensor with an axis of {size}, {elements} elements so far")


def _check_input(walk: _Walk, value_info: _Span) -> None:
    # ValueInfoProto: name 1, type 2
    label = "?"
    types: list[_Span] = []
    for number, span in walk.messages(value_info, frozenset({1, 2})):
        if number == 1:
            label = walk.text(span)
        else:
            types.append(span)
    # TypeProto: tensor_type 1, denotation 6, every other field is another kind of value
    kinds = [field for span in types for field in walk.fields(span) if field[0] != 6]
    if len(kinds) != 1 or kinds[0][0] != 1 or kinds[0][1] != _BYTES:
        raise walk.refuse(f"graph input {label!r} is not declared as one tensor")
    # TypeProto.Tensor: elem_type 1, shape 2. Two shapes would be merged by a parser into one.
    tensor = kinds[0][2], kinds[0][3]
    if not NUMBERS.issuperset(elements := [*walk.numbers(tensor, 1)]) or len(elements) != 1:
        raise walk.refuse(f"graph input {label!r} is not declared as a tensor of numbers")
    shapes = list(walk.messages(tensor, frozenset({2})))
    if len(shapes) != 1:
        raise walk.refuse(f"graph input {label!r} does not declare its rank")
    # TensorShapeProto: dim 1. onnxruntime shows a scalar and an undeclared rank alike.
    axes = [span for _, span in walk.messages(shapes[0][1], frozenset({1}))]
    if not axes:
        raise walk.refuse(f"graph input {label!r} is a scalar: at least one axis is needed")
    # TensorShapeProto.Dimension: dim_value 1
    for size in (size for axis in axes for size in walk.numbers(axis, 1)):
        if not 0 <= size <= MAX_SIZE:
            raise walk.refuse(f"graph input {label!r} has an axis of {size}")


# TensorProto.DataType -> bytes of an element
_FLOAT, _UINT8, _INT8, _INT32, _INT64 = 1, 2, 3, 6, 7
_ELEMENT_BYTES = {_FLOAT: 4, _UINT8: 1, _INT8: 1, 4: 2, 5: 2, _INT32: 4, 10: 2, 11: 8, 16: 2}


def count_parameters(data: bytes, *, name: str) -> tuple[int, int]:
    """(numbers, bytes) in the tensors of the ONNX model in `data`, initializers and constants.

    int64 tensors hold shapes and axes and are not counted; scales and zero points are. Raises
    BundleError as `check_graph` does.
    """
    walk = _Walk(data, name)
    numbers = size_bytes = 0
    for _, graph in walk.messages((0, len(data)), frozenset({7})):
        for number, span in walk.messages(graph, frozenset({1, 5})):
            tensors = [span] if number == 5 else _constants(walk, span)
            for tensor in tensors:
                count, kind = _elements(walk, tensor)
                if kind != _INT64:
                    numbers += count
                    size_bytes += count * _ELEMENT_BYTES.get(kind, 0)
    return numbers, size_bytes


def _constants(walk: _Walk, node: _Span) -> list[_Span]:
    attributes = [span for _, span in walk.messages(node, frozenset({5}))]
    return [span for a in attributes for _, span in walk.messages(a, frozenset({5}))]


def _elements(walk: _Walk, tensor: _Span) -> tuple[int, int]:
    """The number of elements and their type of one TensorProto: dims 1, data_type 2."""
    count, kind = 1, 0
    for number, wire, start, end in walk.fields(tensor):
        if number == 1 and wire == _VARINT:
            count *= start
        elif number == 1 and wire == _BYTES:
            while start < end:
                size, start = walk.varint(start, end)
                count *= size
        elif number == 2 and wire == _VARINT:
            kind = start
    return count, kind


def matrix_product_model(side: int, *, precision: str) -> bytes:
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
        raise ValueError(f"precision is {precision!r}: fp32 and int8 are allowed")
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
    return _field(1, 10) + _field(7, graph) + _field(8, opset)


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
