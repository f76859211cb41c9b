"""The package's reader of ONNX files against the parsers of onnx and onnxruntime.

The command is `python -m tests.fuzz.parsers -n 1000000`.

Sound models are changed in their encoding: tags and lengths of more bytes than they need, bits past
the 32nd, fields doubled, split, reordered, packed, of another wire type or unknown, and whatever a
checker must not pass. Where `check_graph` accepts one, onnx's parser must find in it exactly what
is run, byte for byte, and nothing that is refused. Prints what became of the models; exit code 1
names those on which the parsers disagree.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import helper

from edgeae.errors import BundleError
from edgeae.onnx_check import CheckedGraph, check_graph
from edgeae.runtime import CPU

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS / "support")]

import tiny

GOLDEN = TESTS / "golden"
# One in so many accepted models is opened by onnxruntime, which takes a hundred times as long.
SESSIONS = 50
# Field numbers of messages by the fields that lead to them: model 7 is a graph, and so on.
NESTED = {
    "model": {7: "graph", 8: "opset", 14: "entry"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "annotation"},
    "node": {5: "attribute", 9: "entry"},
    "attribute": {5: "tensor", 10: "tensor"},
    "tensor": {16: "entry"},
    "value": {2: "type", 4: "entry"},
    "type": {1: "tensor type"},
    "tensor type": {2: "shape"},
    "shape": {1: "dimension"},
    "annotation": {2: "entry"},
}

Field = tuple[int, int, bytes]  # number, wire type, what follows the tag


def seeds() -> list[bytes]:
    """Sound models, always the same: all that the shipped ones use, and each form of a number."""
    models = [
        (GOLDEN / "tiny-codec" / name).read_bytes()
        for name in ("context0.fp32.onnx", "context1.fp32.onnx", "context2.fp32.onnx")
    ]
    models.append((GOLDEN / "tiny-denoiser" / "step.fp32.onnx").read_bytes())
    for made in (tiny.relu_model(), tiny.relu_model((1, "n", None)), every_form()):
        models.append(made.SerializeToString())
    return models


def every_form() -> onnx.ModelProto:
    """A model that holds numbers in every form that a tensor and an attribute have."""
    node = helper.make_node
    nodes = [
        node("Constant", [], ["a"], value_floats=[1.5, -2.0]),
        node("Constant", [], ["b"], value_ints=[1, -2, 1 << 30]),
        node("Constant", [], ["c"], value=helper.make_tensor("c", 1, [3], [1.0, 2.0, 3.0])),
        node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1] * 4, auto_pad=b"NOTSET"),
        node("LeakyRelu", ["y"], ["z"], alpha=0.25, doc_string="leaks"),
        node("Reshape", ["z", "shape"], ["r"], name="last"),
    ]  # fmt: skip
    model = tiny.make_model(
        nodes,
        {"x": (1, 1, "h", "w")},
        {"r": ("n",)},
        {"w": np.ones((1, 1, 3, 3), np.float32)},
    )
    for name, kind, values in (
        ("shape", 7, [-1]),
        ("i32", 6, [1, -1]),
        ("u8", 2, [0, 255]),
        ("i8", 3, [-128, 127]),
        ("f64", 11, [0.5]),
        ("u64", 13, [1 << 63]),
        ("f16", 10, [0.5, 1.5]),
        ("flag", 9, [True]),
        ("none", 1, []),
    ):
        tensor = helper.make_tensor(name, kind, [len(values)], values)
        model.graph.initializer.append(tensor)
    model.graph.value_info.append(helper.make_tensor_value_info("z", 1, (1, 1, "h", "w")))
    model.metadata_props.add(key="made", value="for tests")
    model.graph.quantization_annotation.add(tensor_name="z")
    model.producer_name, model.model_version = "tests", -1
    return model


def varint(value: int, extra: int = 0) -> bytes:
    """A number in base 128, in so many bytes more than it needs."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(extra):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


def split(data: bytes) -> list[Field]:
    """The fields of a sound message."""
    fields, at = [], 0
    while at < len(data):
        tag, at = read_varint(data, at)
        start = at
        match tag & 7:
            case 0:
                _, at = read_varint(data, at)
            case 1:
                at += 8
            case 2:
                size, at = read_varint(data, at)
                at += size
            case 5:
                at += 4
        fields.append((tag >> 3, tag & 7, data[start:at]))
    return fields


def content(field: Field) -> bytes:
    """The bytes of a length-delimited field."""
    _, at = read_varint(field[2], 0)
    return field[2][at:]


def delimited(number: int, body: bytes) -> Field:
    return number, 2, varint(len(body)) + body


def joined(fields: Sequence[Field]) -> bytes:
    return b"".join(varint(number << 3 | wire) + body for number, wire, body in fields)


def mutant(rng: random.Random, data: bytes, kind: str = "model") -> bytes:
    """The message with one change in it, or in a message inside it."""
    fields = split_safely(data)
    inner = [i for i, (n, w, _) in enumerate(fields) if w == 2 and n in NESTED.get(kind, {})]
    if inner and rng.random() < 0.75:
        place = rng.choice(inner)
        number = fields[place][0]
        changed = mutant(rng, content(fields[place]), NESTED[kind][number])
        fields[place] = delimited(number, changed)
        return joined(fields)
    if not fields:
        return rng.choice([b"", hostile(rng), data[: len(data) // 2]])
    place = rng.randrange(len(fields))
    number, wire, body = fields[place]
    before, after = joined(fields[:place]), joined(fields[place + 1 :])
    tag = number << 3 | wire
    match rng.randrange(16):
        case 0:  # the tag in more bytes than it needs
            return before + varint(tag, rng.randint(1, 9)) + body + after
        case 1:  # bits that a parser of 32-bit tags drops
            return before + varint(tag | rng.choice([1 << 32, 1 << 35, 1 << 62])) + body + after
        case 2:  # bits that one drops, and another field below them
            other = rng.randrange(1, 27) << 3 | 2
            return before + varint(other | 1 << 32) + varint(len(body)) + body + after
        case 3:  # a length or number in more bytes than it needs
            if wire in (0, 2):
                value, at = read_varint(body, 0)
                body = varint(value, rng.randint(1, 9)) + body[at:]
            return before + varint(tag) + body + after
        case 4:  # twice
            return before + joined([fields[place]] * 2) + after
        case 5:  # at the other end
            return joined([*fields[place + 1 :], *fields[: place + 1]])
        case 6:  # in two parts, which a parser merges
            if wire == 2:
                held = split_safely(content(fields[place]))
                cut = rng.randint(0, len(held))
                parts = [joined(held[:cut]), joined(held[cut:])]
                return before + joined([delimited(number, part) for part in parts]) + after
        case 7:  # another wire type
            return before + varint(number << 3 | rng.randrange(8)) + body + after
        case 8:  # another field
            return before + varint(rng.randrange(1, 30) << 3 | wire) + body + after
        case 9:
            return before + after
        case 10:
            return before + hostile(rng) + joined(fields[place:])
        case 11:  # a group, in which a parser may skip whatever it likes
            start, end = rng.randrange(1, 30) << 3 | 3, number << 3 | 4
            return before + varint(start) + body + varint(end) + joined(fields[place:])
        case 12:  # a number one by one or packed
            if wire == 0:
                return before + joined([delimited(number, body)]) + after
        case 13:  # another number
            if wire == 0:
                number_now = rng.choice([0, 1, 2, 127, 128, (1 << 31) - 1, 1 << 31, 1 << 63])
                return before + varint(tag) + varint(number_now) + after
        case 14:  # a number of eleven bytes
            return before + varint(tag) + b"\xff" * rng.randint(9, 11) + b"\x01" + after
    noise = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        noise[rng.randrange(len(noise))] ^= 1 << rng.randrange(8)
    return bytes(noise)


def split_safely(data: bytes) -> list[Field]:
    """The fields of a message, or none if the bytes are none."""
    try:
        fields = split(data)
    except IndexError:
        return []
    return fields if joined(fields) == data else []


def hostile(rng: random.Random) -> bytes:
    """A field that must not be passed, whatever it stands in."""
    body = rng.choice([b"", b"\x0a\x01x", b"\x08\x01", b"\x22\x04Loop"])
    return joined([delimited(rng.choice([6, 7, 11, 13, 15, 20, 22, 25, 26]), body)])


def judge(data: bytes, *, session: bool) -> tuple[str, str]:
    """(what became of a model, how the parsers disagree on it or nothing)"""
    try:
        checked = check_graph(data, name="mutant")
    except BundleError as error:
        return "refused", "an error of several lines" if "\n" in str(error) else ""
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        return "accepted", f"onnx cannot parse what was accepted: {error}"
    # Fields that onnx does not know come back at the end, so they would show too.
    if model.SerializeToString(deterministic=True) != checked.data:
        return "accepted", "what is run is not what onnx finds in the file"
    if offence := unsafe(model):
        return "accepted", offence
    return ("opened", opened_alike(data, checked, model)) if session else ("accepted", "")


def unsafe(model: onnx.ModelProto) -> str:
    """What must not be there, by onnx's parser."""
    if model.functions or model.training_info or model.graph.sparse_initializer:
        return "functions, a training graph or a sparse tensor"
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type in ("If", "Loop", "Scan"):
            return f"operator {node.domain}.{node.op_type}"
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs or attribute.HasField("sparse_tensor"):
                return "a nested graph"
            tensors += [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])]
    if any(t.external_data or t.data_location for t in tensors):
        return "external data"
    return ""


def opened_alike(data: bytes, checked: CheckedGraph, model: onnx.ModelProto) -> str:
    """How onnxruntime finds other ports in the file than onnx, or nothing."""
    found = [ports(data), ports(checked.data)]
    if found[0] != found[1]:
        return "onnxruntime finds other ports in the file than in what is run"
    given = {tensor.name for tensor in model.graph.initializer}
    named = [value.name for value in model.graph.input if value.name not in given]
    if found[0] is not None and found[0][0] != named:
        return "onnxruntime finds other inputs than onnx"
    return ""


def ports(data: bytes) -> tuple[list[str], list[str]] | None:
    """The names of inputs and outputs, or None if onnxruntime refuses the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        session = onnxruntime.InferenceSession(data, options, providers=[CPU], enable_fallback=0)
    except Exception:  # onnxruntime's own exceptions share no base but this one
        return None
    return [p.name for p in session.get_inputs()], [p.name for p in session.get_outputs()]


def fuzz(
    count: int, seed: int = 0, first: int = 0, sessions: int = SESSIONS
) -> tuple[Counter[str], list[str]]:
    """(how many models ended how, those on which the parsers disagree)"""
    sown = seeds()
    ends: Counter[str] = Counter()
    broken = []
    for number in range(first, first + count):
        rng = random.Random(f"{seed}/{number}")
        data = rng.choice(sown)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            held = split_safely(data)
            data = mutant(rng, data) if held else data
        end, disagreement = judge(data, session=rng.randrange(sessions) == 0)
        ends[end] += 1
        if disagreement:
            broken.append(f"{seed}/{number}: {disagreement}")
    return ends, broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.parsers", description=__doc__)
    parser.add_argument("-n", type=int, default=100_000, help="how many models")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other models")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    options = parser.parse_args()
    began = time.process_time()
    ends, broken = fuzz(options.n, options.seed, options.first)
    for end, count in sorted(ends.items()):
        print(f"{count:9,} {end}")
    print(f"{options.n:,} models in {time.process_time() - began:.0f} s of CPU")
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
