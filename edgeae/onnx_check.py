"""Which ONNX files are run: the model is read, judged, and written anew before a session exists.

The runtime needs no onnx package for it. `onnx_wire` reads the encoding, this judges what it says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from edgeae import onnx_sizes, onnx_types, onnx_wire
from edgeae.errors import BundleError
from edgeae.onnx_wire import Message

__all__ = ["CheckedGraph", "check_graph", "read_graph"]

# Protobuf cannot hold more than 2 GiB in one message, so no .onnx without external data is larger.
MAX_FILE_BYTES = (1 << 31) - 1

STANDARD_DOMAINS = frozenset(("", "ai.onnx"))
CONTROL_FLOW = frozenset(("If", "Loop", "Scan", "SequenceMap"))

# The operators of ONNX 1.23 (https://onnx.ai/onnx/operators/) that go from tensors of numbers to
# tensors of numbers. Control flow, sequences, optional values, strings and image files stay out;
# so do operators of no use here whose result has a size that stands in one of their inputs.
OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
    BatchNormalization Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow
    Cast CastLike Ceil Celu Clip Compress Concat Constant ConstantOfShape Conv ConvInteger
    ConvTranspose Cos Cosh CumSum DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout
    DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
    GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish
    Hardmax Identity InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow QLinearConv
    QLinearMatMul QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform
    RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence
    RotaryEmbedding Round STFT Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin
    Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh
    ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Upsample Where Xor
    """.split()
)

# An axis, a kernel, a stride or a pad beyond this is none; nor is a tensor of more elements, since
# its numbers must be inside the file.
MAX_SIZE = (1 << 31) - 1

# Windows that a convolution or pooling slides: one of 2 ** 31 takes minutes on three numbers.
_WINDOWS = frozenset(("kernel_shape", "strides", "dilations", "group", "blocksize"))
MAX_WINDOW = 1 << 16
MAX_WINDOW_AREA = 1 << 20

# TensorProto.DataType: bits of an element, and the field that holds it where raw_data does not.
# Strings and complex numbers stay out.
_ELEMENTS = {
    1: (32, "float_data"),
    2: (8, "int32_data"),
    3: (8, "int32_data"),
    4: (16, "int32_data"),
    5: (16, "int32_data"),
    6: (32, "int32_data"),
    7: (64, "int64_data"),
    9: (8, "int32_data"),
    10: (16, "int32_data"),
    11: (64, "double_data"),
    12: (32, "uint64_data"),
    13: (64, "uint64_data"),
    16: (16, "int32_data"),
    **dict.fromkeys((17, 18, 19, 20), (8, "int32_data")),
    **dict.fromkeys((21, 22), (4, "int32_data")),
}
# What a graph may take from and give to arrays: whole and floating-point numbers of 8 to 64 bits
# and booleans.
NUMBERS = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16})

_DATA = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "raw_data")
_DATA_BYTES = {"float_data": 4, "double_data": 8}

# AttributeProto.AttributeType -> the field that holds such a value
_VALUES = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings", 9: "tensors"}


@dataclass(frozen=True)
class CheckedGraph:
    """A model that `check_graph` has passed, in the bytes that are to be run.

    Attributes:
        file: where it came from; it names the graph in messages and is not opened again.
        data: what was understood of that file, written anew.
    """

    file: Path
    data: bytes = field(repr=False)


def check_graph(data: bytes, *, name: str | Path) -> CheckedGraph:
    """The ONNX model in `data` if it is safe to run, in bytes that leave nothing to interpretation.

    Refused: whatever `onnx_wire.read` cannot understand to the last bit; external data; operators
    outside `OPERATORS`, model functions, control flow and any other nested graph; sparse tensors,
    strings, training graphs; an attribute that is not of its type; a tensor whose numbers do not
    fill its shape; a number beyond 2 ** 31 in an attribute or in a tensor's shape; results whose
    size stands in a value and is too large or not known beforehand (`onnx_sizes`); divisions that
    can end the process (`onnx_types`); windows of no extent or a huge one; a graph input
    that is no tensor of numbers, is a scalar or does not declare its rank (an int8 graph fed a
    scalar there aborts the process).

    Raises:
        BundleError: naming the offence, with `name` in front.
    """
    model, written = onnx_wire.read(data, name=str(name))
    try:
        _check_model(model)
    except _Offence as offence:
        raise BundleError(f"{name}: {offence}") from None
    # One copy instead of two in memory, and almost always the case.
    return CheckedGraph(Path(name), data if written == data else written)


def read_graph(file: str | Path) -> CheckedGraph:
    """The ONNX model of a file outside a bundle, checked as one inside is.

    Raises:
        BundleError: the file cannot be read, or `check_graph` refuses it.
    """
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BundleError(f"cannot read {file}: {error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise BundleError(f"{file} has over {MAX_FILE_BYTES} bytes")
    return check_graph(data, name=file)


class _Offence(Exception):
    """Why a model is refused."""


def _check_model(model: Message) -> None:
    graphs = model.get("graph", [])
    if not graphs:
        raise _Offence("not an ONNX file: 0 graphs, expected 1")
    domains = ["" if d == "ai.onnx" else d for d in map(_domain, model.get("opset_import", []))]
    if len(set(domains)) != len(domains):
        raise _Offence("not an ONNX file: two versions of one operator set")
    (graph,) = graphs
    for node in graph.get("node", []):
        _check_node(node)
    for tensor in graph.get("initializer", []):
        _check_tensor(tensor)
    for value in graph.get("input", []):
        _check_input(value)
    for side in ("output", "value_info"):
        for value in graph.get(side, []):
            _check_value(value, f"graph {side}")
    try:
        onnx_sizes.check_sizes(graph)
        onnx_types.check_divisions(graph)
    except (onnx_sizes.TooLarge, onnx_types.UnsafeDivision) as error:
        raise _Offence(str(error)) from None


def _domain(message: Message) -> str:
    return str(message.get("domain", [""])[0])


def _check_node(node: Message) -> None:
    operator = node.get("op_type", [""])[0]
    domain = _domain(node)
    if domain not in STANDARD_DOMAINS:
        raise _Offence(f"holds an operator of the custom domain {domain[:80]!r}")
    if operator in CONTROL_FLOW:
        raise _Offence(f"holds control flow: operator {operator}")
    if operator not in OPERATORS:
        raise _Offence(f"holds the operator {operator[:80]!r}, which is none of those allowed")
    if node.get("overload", [""]) != [""]:
        raise _Offence("holds an overload of a model function")
    names = [attribute.get("name", [""])[0] for attribute in node.get("attribute", [])]
    if len(set(names)) != len(names):
        raise _Offence(f"not an ONNX file: an attribute of {operator} stands twice")
    for attribute in node.get("attribute", []):
        _check_attribute(attribute)


def _check_attribute(attribute: Message) -> None:
    name = attribute.get("name", [""])[0]
    for value in (*attribute.get("i", []), *attribute.get("ints", [])):
        if abs(value) > MAX_SIZE:
            raise _Offence(f"holds an attribute of {value}, expected at most {MAX_SIZE}")
    if name in _WINDOWS:
        sizes = (*attribute.get("i", []), *attribute.get("ints", []))
        if any(not 1 <= size <= MAX_WINDOW for size in sizes) or math.prod(sizes) > MAX_WINDOW_AREA:
            raise _Offence(f"holds {name} of {list(sizes)[:8]}, expected {MAX_WINDOW} at most")
    for tensor in (*attribute.get("t", []), *attribute.get("tensors", [])):
        _check_tensor(tensor)
    kind = attribute.get("type", [0])[0]
    held = [field for field in _VALUES.values() if attribute.get(field)]
    if kind not in _VALUES or held not in ([], [_VALUES[kind]]):
        raise _Offence(
            f"holds an attribute {name[:80]!r} of type {kind} whose value is in "
            f"{' and '.join(held) or 'no field'}"
        )


def _check_tensor(tensor: Message) -> None:
    """Raises unless the tensor's numbers are inside it, as many as its shape says."""
    if tensor.get("data_location", [0]) != [0]:
        raise _Offence("keeps weights in another file (external data)")
    dims = tensor.get("dims", [])
    elements = 1
    for size in dims:
        elements *= size
        if size < 0 or elements > MAX_SIZE:
            raise _Offence(f"holds a tensor with an axis of {size}, {elements} elements so far")
    kind = tensor.get("data_type", [0])[0]
    if kind not in _ELEMENTS:
        raise _Offence(f"holds a tensor of type {kind}, which is no number")
    bits, usual = _ELEMENTS[kind]
    held = [field for field in _DATA if tensor.get(field, [b""])[0]]
    if not elements and not held:
        return
    if held == ["raw_data"]:
        expected, found = -(-elements * bits // 8), len(tensor["raw_data"][0])
    elif held == [usual]:
        data = tensor[usual][0]
        size = _DATA_BYTES.get(usual)
        expected = elements if bits > 4 else -(-elements // 2)
        found = len(data) // size if size else onnx_wire.count_varints(data)
    else:
        raise _Offence(f"holds a tensor of type {kind} whose numbers are in {held or 'no field'}")
    if expected != found:
        raise _Offence(f"holds a tensor of shape {dims} with {found} in {held[0]}: {expected} fit")


def _check_value(value: Message, where: str) -> Message | None:
    """The declared tensor type of a value, if it has one. Raises if it is declared as no tensor."""
    label = value.get("name", ["?"])[0][:80]
    types = value.get("type", [])
    if not types:
        return None
    tensors = types[0].get("tensor_type", [])
    if not tensors:
        raise _Offence(f"{where} {label!r} is not declared as one tensor")
    tensor: Message = tensors[0]
    for shape in tensor.get("shape", []):
        for axis in shape.get("dim", []):
            if "dim_value" in axis and "dim_param" in axis:
                raise _Offence(f"{where} {label!r} has an axis with both a size and a name")
            if not 0 <= axis.get("dim_value", [0])[0] <= MAX_SIZE:
                raise _Offence(f"{where} {label!r} has an axis of {axis['dim_value'][0]}")
    return tensor


def _check_input(value: Message) -> None:
    label = value.get("name", ["?"])[0][:80]
    tensor = _check_value(value, "graph input")
    if tensor is None:
        raise _Offence(f"graph input {label!r} is not declared as one tensor")
    if tensor.get("elem_type", [0])[0] not in NUMBERS:
        raise _Offence(f"graph input {label!r} is not declared as a tensor of numbers")
    if not tensor.get("shape"):
        raise _Offence(f"graph input {label!r} does not declare its rank")
    # onnxruntime shows a scalar and an undeclared rank alike.
    if not tensor["shape"][0].get("dim"):
        raise _Offence(f"graph input {label!r} is a scalar: at least one axis is needed")
