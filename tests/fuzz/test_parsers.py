"""The checker and the parsers of onnx and onnxruntime find the same in a file, or it is refused."""

from __future__ import annotations

import pytest

onnx = pytest.importorskip("onnx")

import parsers
import tiny

from edgeae.errors import BundleError
from edgeae.onnx_check import CheckedGraph, check_graph

RELU = tiny.relu_model().SerializeToString()
GRAPH = tiny.relu_model().graph.SerializeToString()


def model(*fields, graph=GRAPH):
    """A model of this graph and of these fields before it."""
    return b"".join(fields) + parsers.joined([parsers.delimited(7, graph)])


def node(*fields):
    """A model whose one node has these fields before its own."""
    held = parsers.split(GRAPH)
    (place,) = [i for i, field in enumerate(held) if field[0] == 1]
    body = b"".join(fields) + parsers.content(held[place])
    held[place] = parsers.delimited(1, body)
    return model(graph=parsers.joined(held))


def tag(number, wire, extra=0, high=0):
    return parsers.varint(number << 3 | wire | high, extra)


TEXT = parsers.varint(4) + b"Loop"


def test_what_onnx_writes_is_understood_to_the_last_bit():
    for data in parsers.seeds():
        assert check_graph(data, name="sound").data == data


def test_fields_in_another_order_and_packed_numbers_are_written_as_onnx_writes_them():
    fields = parsers.split(RELU)
    assert check_graph(parsers.joined(fields[::-1]), name="turned").data == RELU

    turn = tiny.helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
    made = tiny.make_model([turn], {"x": (1, 3)}, {"y": (3, 1)}).SerializeToString()
    unpacked, packed = b"\x40\x01\x40\x00", b"\x42\x02\x01\x00"
    assert unpacked in made
    size = made.index(unpacked)
    data = made[:size] + packed + made[size + len(unpacked) :]  # of the same length
    assert check_graph(data, name="packed").data == made


@pytest.mark.parametrize(
    "data",
    {
        "a tag of five bytes with bit 32 set": node(tag(4, 2, high=1 << 32), TEXT),
        "functions behind bit 32": model(tag(25, 2, high=1 << 32), b"\x00"),
        "a tag of two bytes where one is enough": node(tag(3, 2, extra=1), TEXT),
        "a tag of ten bytes": node(tag(3, 2, extra=9), TEXT),
        "a length of two bytes where one is enough": node(tag(3, 2), parsers.varint(4, 1), b"Loop"),
        "a number of two bytes where one is enough": model(tag(1, 0), parsers.varint(8, 1)),
        "a number of eleven bytes": model(tag(1, 0), b"\xff" * 10, b"\x01"),
        "a number of 65 bits": model(tag(1, 0), b"\xff" * 9, b"\x03"),
        "field 0": model(tag(0, 0), b"\x00"),
        "an unknown field": model(tag(99, 0), b"\x00"),
        "a group": model(tag(30, 3), tag(30, 4)),
        "a group around the graph": tag(9, 3) + model() + tag(9, 4),
        "a name of another wire type": node(tag(3, 0), b"\x07"),
        "two operators in one node": node(tag(4, 2), TEXT),
        "two graphs to be merged": model() + model(),
        "two versions of the operator set": RELU + parsers.joined(
            [parsers.delimited(8, b"\x0a\x07ai.onnx\x10\x07")]
        ),
        "a name that is not UTF-8": node(tag(3, 2), b"\x01\xff"),
        "a name with a NUL": node(tag(3, 2), b"\x03a\x00b"),
        "a graph in a list": model(tag(7, 2), b"\x00"),
        "half a float": node(tag(5, 2), b"\x03\x15\x00\x00"),
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_an_encoding_that_parsers_may_read_differently_is_refused(data):
    with pytest.raises(BundleError, match="not an ONNX file|two fields|training|control") as caught:
        check_graph(data[1], name="odd")
    assert "\n" not in str(caught.value)


def test_an_ort_file_is_no_onnx_file():
    with pytest.raises(BundleError, match="not an ONNX file"):
        check_graph(b"\x1c\x00\x00\x00ORTM" + bytes(100), name="flat")


@pytest.mark.parametrize("field", ["int32_data", "int64_data", "uint64_data"])
def test_a_malformed_number_in_a_packed_array_is_refused(field):
    kind = {"int32_data": 6, "int64_data": 7, "uint64_data": 13}[field]
    sound = tiny.relu_model()
    tensor = sound.graph.initializer.add(name="w", data_type=kind, dims=[2])
    getattr(tensor, field).extend([1, 2])
    data = sound.SerializeToString()
    assert check_graph(data, name="sound").data == data
    assert data.count(b"\x02\x01\x02") == 1
    for odd in (b"\x02\x81\x00", b"\x02\x01\x82"):
        with pytest.raises(BundleError, match="malformed"):
            check_graph(data.replace(b"\x02\x01\x02", odd), name="odd")


def test_the_parsers_agree_on_mutants():
    ends, broken = parsers.fuzz(3000, seed=1)
    assert broken == []
    # Some of everything, or nothing would have been shown.
    assert min(ends["accepted"], ends["opened"]) > 0 and ends["refused"] > 1000


def test_a_checker_that_hands_on_what_it_was_given_is_found_out(monkeypatch):
    def careless(data, *, name):
        check_graph(RELU, name=name)
        return CheckedGraph(name, data)

    monkeypatch.setattr(parsers, "check_graph", careless)
    _, broken = parsers.fuzz(200, seed=2)
    for said in ("onnx cannot parse", "not what onnx finds"):
        assert any(said in line for line in broken), said
