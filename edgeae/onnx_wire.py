"""The protobuf encoding of an ONNX model, read strictly and written again.

Two parsers that understand one file differently are how a check is passed by a model that then does
something else. So nothing is skipped here: every field is one of `MODEL`, in the wire type that
onnx.proto gives it, every number in its shortest form, and a field that may stand once stands once.
What was understood is written anew in the order of field numbers, as protobuf itself writes it, and
only those bytes are run.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); what
the encoding may look like is https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeae.errors import BundleError

__all__ = ["MODEL", "Message", "count_varints", "read"]

# A 1,000-node quantized graph has about 30,000 fields; a hostile file could hold one per two bytes.
MAX_FIELDS = 500_000

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# A message: the values of each field that stands in it, by the field's name.
Message = dict[str, list[Any]]

# A varint in its shortest form: the last byte of several is never zero, and ten bytes hold one bit
# beyond nine.
_SHORTEST = rb"(?:[\x00-\x7f]|[\x80-\xff]{1,8}[\x01-\x7f]|[\x80-\xff]{9}\x01)"
_INT64S = re.compile(_SHORTEST + rb"*")
# An int32 is up to 31 bits, or a negative number with its sign in all 64.
_INT32S = re.compile(
    rb"(?:[\x00-\x7f]|[\x80-\xff]{1,3}[\x01-\x7f]|[\x80-\xff]{4}[\x01-\x07]"
    rb"|[\x80-\xff]{4}[\xf8-\xff]\xff{4}\x01)*"
)
_LAST_BYTES = bytes(range(0x80))


@dataclass(frozen=True)
class _Field:
    """A field that a message may hold.

    Attributes:
        name: onnx.proto's.
        kind: "int64", "int32", "float", "text" (UTF-8 without NUL), "bytes"; "int32s", "int64s",
            "floats", "doubles" for packed arrays, whose value is their bytes; "message".
        many: whether it may stand more than once.
        fields: those of the message.
        refused: why a model that holds it is refused, for a field that onnx.proto knows.
    """

    name: str
    kind: str = "text"
    many: bool = False
    fields: Mapping[int, _Field] | None = None
    refused: str = ""


def _message(name: str, fields: Mapping[int, _Field], *, many: bool = False) -> _Field:
    return _Field(name, "message", many=many, fields=fields)


_NESTED = "holds a graph nested in an operator (control flow)"
_SPARSE = "holds a sparse tensor"
_EXTERNAL = "keeps weights in another file (external data)"
_KINDS = "holds a value that is no tensor"

_ENTRY = {1: _Field("key"), 2: _Field("value")}
_PROPERTIES = _message("metadata_props", _ENTRY, many=True)
_DIMENSION = {1: _Field("dim_value", "int64"), 2: _Field("dim_param"), 3: _Field("denotation")}
_TENSOR_TYPE = {
    1: _Field("elem_type", "int32"),
    2: _message("shape", {1: _message("dim", _DIMENSION, many=True)}),
}
_TYPE = {
    1: _message("tensor_type", _TENSOR_TYPE),
    6: _Field("denotation"),
    **{number: _Field("kind", refused=_KINDS) for number in (4, 5, 7, 8, 9)},
}
_VALUE_INFO = {
    1: _Field("name"),
    2: _message("type", _TYPE),
    3: _Field("doc_string"),
    4: _PROPERTIES,
}
_TENSOR = {
    1: _Field("dims", "int64", many=True),
    2: _Field("data_type", "int32"),
    3: _Field("segment", refused="holds a tensor in segments"),
    4: _Field("float_data", "floats"),
    5: _Field("int32_data", "int32s"),
    6: _Field("string_data", refused="holds a tensor of strings"),
    7: _Field("int64_data", "int64s"),
    8: _Field("name"),
    9: _Field("raw_data", "bytes"),
    10: _Field("double_data", "doubles"),
    11: _Field("uint64_data", "int64s"),
    12: _Field("doc_string"),
    13: _Field("external_data", refused=_EXTERNAL),
    14: _Field("data_location", "int32"),
    16: _PROPERTIES,
}
_ATTRIBUTE = {
    1: _Field("name"),
    2: _Field("f", "float"),
    3: _Field("i", "int64"),
    4: _Field("s", "bytes"),
    5: _message("t", _TENSOR),
    6: _Field("g", refused=_NESTED),
    7: _Field("floats", "float", many=True),
    8: _Field("ints", "int64", many=True),
    9: _Field("strings", "bytes", many=True),
    10: _message("tensors", _TENSOR, many=True),
    11: _Field("graphs", refused=_NESTED),
    13: _Field("doc_string"),
    14: _Field("tp", refused=_KINDS),
    15: _Field("type_protos", refused=_KINDS),
    20: _Field("type", "int32"),
    21: _Field("ref_attr_name", refused="holds an attribute of a model function"),
    22: _Field("sparse_tensor", refused=_SPARSE),
    23: _Field("sparse_tensors", refused=_SPARSE),
}
_NODE = {
    1: _Field("input", many=True),
    2: _Field("output", many=True),
    3: _Field("name"),
    4: _Field("op_type"),
    5: _message("attribute", _ATTRIBUTE, many=True),
    6: _Field("doc_string"),
    7: _Field("domain"),
    8: _Field("overload"),
    9: _PROPERTIES,
    10: _Field("device_configurations", refused="holds a configuration of several devices"),
}
_ANNOTATION = {
    1: _Field("tensor_name"),
    2: _message("quant_parameter_tensor_names", _ENTRY, many=True),
}
_GRAPH = {
    1: _message("node", _NODE, many=True),
    2: _Field("name"),
    5: _message("initializer", _TENSOR, many=True),
    10: _Field("doc_string"),
    11: _message("input", _VALUE_INFO, many=True),
    12: _message("output", _VALUE_INFO, many=True),
    13: _message("value_info", _VALUE_INFO, many=True),
    14: _message("quantization_annotation", _ANNOTATION, many=True),
    15: _Field("sparse_initializer", refused="holds a sparse initializer"),
    16: _PROPERTIES,
}
MODEL = {
    1: _Field("ir_version", "int64"),
    2: _Field("producer_name"),
    3: _Field("producer_version"),
    4: _Field("domain"),
    5: _Field("model_version", "int64"),
    6: _Field("doc_string"),
    7: _message("graph", _GRAPH),
    8: _message("opset_import", {1: _Field("domain"), 2: _Field("version", "int64")}, many=True),
    14: _PROPERTIES,
    20: _Field("training_info", refused="holds a training graph"),
    25: _Field("functions", refused="holds model functions: inline them before export"),
    26: _Field("configuration", refused="holds a configuration of several devices"),
}

_WIRE = {"int64": _VARINT, "int32": _VARINT, "float": _FIXED32}
# What the bytes of a packed array are made of.
_ITEMS = {"int32s": _INT32S, "int64s": _INT64S}
_ITEM_BYTES = {"floats": 4, "doubles": 8}
_ARRAYS = frozenset((*_ITEMS, *_ITEM_BYTES))


def read(data: bytes, *, name: str) -> tuple[Message, bytes]:
    """The model in `data`, and the same model in bytes that every parser reads alike.

    Raises:
        BundleError: a field that is unknown, refused, doubled, malformed or in another wire type
            than its own; a number that is not in its shortest form; more than 500,000 fields.
    """
    return _Reader(data, name).message(MODEL, 0, len(data), "the model")


class _Reader:
    """The bytes of one file, and how many fields of it may still be read."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name
        self._left = MAX_FIELDS

    def _refuse(self, offence: str) -> BundleError:
        return BundleError(f"{self._name}: {offence}")

    def message(
        self, fields: Mapping[int, _Field], at: int, end: int, where: str
    ) -> tuple[Message, bytes]:
        """The message in bytes `at` to `end`, and how it is written anew."""
        found: Message = {}
        written: dict[int, list[bytes]] = {}
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise self._refuse(f"not a usable ONNX file: over {MAX_FIELDS} fields")
            tag, at = self._varint(at, end)
            number, wire = tag >> 3, tag & 7
            field = fields.get(number)
            if field is None:
                raise self._refuse(f"not an ONNX file: {where} has a field {number}")
            if field.refused:
                raise self._refuse(field.refused)
            values = found.setdefault(field.name, [])
            if values and not field.many:
                raise self._refuse(f"not an ONNX file: {where} has two fields {field.name}")
            parts = written.setdefault(number, [])
            if wire == _BYTES and field.many and field.kind in _WIRE:
                at = self._unpack(field, number, at, end, values, parts)
                continue
            if wire != _WIRE.get(field.kind, _BYTES):
                raise self._refuse(f"not an ONNX file: field {field.name} has wire type {wire}")
            value, body, at = self._value(field, at, end)
            values.append(value)
            if body != b"\0" or field.kind not in _ARRAYS:  # protobuf writes no empty array
                parts += (_varint(tag), body)
        return found, b"".join(part for number in sorted(written) for part in written[number])

    def _value(self, field: _Field, at: int, end: int) -> tuple[Any, bytes, int]:
        """The value of a field, how it is written, and where the next begins."""
        if field.kind == "float":
            if end - at < 4:
                raise self._refuse(f"not an ONNX file, or cut off: field {field.name} has no value")
            return self._data[at : at + 4], self._data[at : at + 4], at + 4
        if field.kind in _WIRE:
            value, at = self._varint(at, end)
            signed = value - (1 << 64) if value >> 63 else value
            if field.kind == "int32" and not -(1 << 31) <= signed < 1 << 31:
                raise self._refuse(f"not an ONNX file: field {field.name} is {signed}")
            return signed, _varint(value), at
        size, at = self._varint(at, end)
        if size > end - at:
            raise self._refuse(f"not an ONNX file, or cut off: byte {at} announces {size} bytes")
        stop = at + size
        if field.fields is not None:
            inner, body = self.message(field.fields, at, stop, field.name)
            return inner, _varint(len(body)) + body, stop
        body = self._data[at:stop]
        if field.kind == "text":
            return self._text(field, body), _varint(size) + body, stop
        if (items := _ITEMS.get(field.kind)) and not items.fullmatch(body):
            raise self._refuse(f"not an ONNX file: a number in {field.name} is malformed")
        if size % _ITEM_BYTES.get(field.kind, 1):
            raise self._refuse(f"not an ONNX file: {field.name} has {size} bytes")
        return body, _varint(size) + body, stop

    def _text(self, field: _Field, body: bytes) -> str:
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError:
            raise self._refuse(f"not an ONNX file: field {field.name} is not UTF-8") from None
        if "\0" in text:  # to a C string it would end there
            raise self._refuse(f"not an ONNX file: field {field.name} holds a NUL")
        return text

    def _unpack(
        self,
        field: _Field,
        number: int,
        at: int,
        end: int,
        values: list[Any],
        parts: list[bytes],
    ) -> int:
        """Adds the numbers of a packed list, which onnx.proto writes one by one; the next place."""
        size, at = self._varint(at, end)
        if size > end - at:
            raise self._refuse(f"not an ONNX file, or cut off: byte {at} announces {size} bytes")
        stop = at + size
        tag = _varint(number << 3 | _WIRE[field.kind])
        while at < stop:
            self._left -= 1
            if self._left < 0:
                raise self._refuse(f"not a usable ONNX file: over {MAX_FIELDS} fields")
            value, body, at = self._value(field, at, stop)
            values.append(value)
            parts += (tag, body)
        return stop

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """(value below 2 ** 64, next position) of the base-128 number at `at`."""
        data = self._data
        if at < end and data[at] < 0x80:
            return data[at], at + 1
        value = shift = 0
        while at < end and shift < 64:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte and not value >> 64:
                    return value, at
                break
            shift += 7
        raise self._refuse(f"not an ONNX file: bad number before byte {at}")


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def count_varints(data: bytes) -> int:
    """How many numbers a packed array of varints holds: each ends in a byte below 0x80."""
    return len(data) - len(data.translate(None, _LAST_BYTES))
