"""Copies for mobile devices: every shape fixed, the same numbers, and a word on who takes them."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import tiny

from edgeae.bundle import find
from edgeae.runtime import Graph
from export import mobile
from export.verify import ExportError


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return find(tiny.tiny_codec_bundle(tmp_path_factory.mktemp("bundle") / "codec", int8=True))


@pytest.fixture(scope="module")
def made(codec, tmp_path_factory):
    out = tmp_path_factory.mktemp("mobile")
    return out, mobile.make_mobile(codec, out, size=(16, 24))


def save(model, path):
    onnx.save(model, path)
    return path


def test_every_graph_gets_a_copy_in_both_formats(made, codec):
    out, _ = made
    names = [f"{role}.fp32" for role in codec.manifest.graphs] + ["encoder.int8"]
    expected = {f"{name}.16x24.{kind}" for name in names for kind in ("onnx", "ort")}
    assert {path.name for path in out.iterdir()} == expected | {"mobile.json"}


def test_a_copy_has_fixed_shapes_and_gives_the_same_numbers(made, codec):
    out, _ = made
    copy = Graph(out / "encoder.fp32.16x24.onnx")
    assert [port.shape for port in (*copy.inputs, *copy.outputs)] == [(1, 3, 16, 24), (1, 9, 4, 6)]
    pixels = np.random.default_rng(0).random((1, 3, 16, 24)).astype(np.float32)
    original = Graph(codec.graph_file("encoder", "fp32"))
    # Optimized for its shape, sums may be in another order.
    np.testing.assert_allclose(copy(pixels)[0], original(pixels)[0], atol=1e-5)
    small = Graph(out / "encoder.fp32.16x24.ort")
    np.testing.assert_allclose(small(pixels)[0], original(pixels)[0], atol=1e-5)


def test_shapes_that_are_fixed_already_stay(tmp_path):
    bundle = find(tiny.tiny_denoiser_bundle(tmp_path / "denoiser"))
    mobile.make_mobile(bundle, tmp_path / "out", size=(512, 768))
    copy = Graph(tmp_path / "out" / "step.fp32.onnx")
    assert [port.shape for port in copy.inputs] == [(1, 2, 257), (1, 1, 4)]


def folding_model():
    """y = x + float(constant), with copies before, between and at the end."""
    node = tiny.helper.make_node
    return tiny.make_model(
        [
            node("Cast", ["half"], ["whole"], to=onnx.TensorProto.FLOAT),
            node("Identity", ["x"], ["same"]),
            node("Add", ["same", "whole"], ["sum"]),
            node("Relu", ["sum"], ["other"]),
            node("Identity", ["sum"], ["y"]),
        ],
        {"x": (1, "n")},
        {"y": (1, "m"), "other": (1, "k")},
        {"half": np.float16([0.5])},
    )


def test_constants_are_worked_out_and_copies_dropped(tmp_path):
    source = save(folding_model(), tmp_path / "a.onnx")
    mobile.fixed_copy(source, tmp_path / "b.onnx", {"x": (1, 3)})
    model = onnx.load(tmp_path / "b.onnx")
    assert [node.op_type for node in model.graph.node] == ["Add", "Relu"]
    assert [tensor.data_type for tensor in model.graph.initializer] == [onnx.TensorProto.FLOAT]
    y, other = Graph(tmp_path / "b.onnx")(np.float32([[1, -2, 3]]))
    assert y.tolist() == [[1.5, -1.5, 3.5]] and other.tolist() == [[1.5, 0, 3.5]]


def test_a_shape_that_depends_on_values_is_refused(tmp_path):
    model = tiny.make_model(
        [tiny.helper.make_node("NonZero", ["x"], ["places"]),
         tiny.helper.make_node("Cast", ["places"], ["y"], to=onnx.TensorProto.FLOAT)],
        {"x": (1, "n")},
        {"y": (2, "m")},
    )  # fmt: skip
    source = save(model, tmp_path / "a.onnx")
    with pytest.raises(ExportError, match="a.onnx: the shape of '.*' stays free"):
        mobile.fixed_copy(source, tmp_path / "b.onnx", {"x": (1, 3)})
    assert not (tmp_path / "b.onnx").exists()


@pytest.mark.parametrize("size", [(0, 8), (8, 10), (6, 8)])
def test_a_size_that_the_codec_cannot_divide_is_refused(codec, tmp_path, size):
    with pytest.raises(ExportError, match="multiples of 4 are allowed"):
        mobile.make_mobile(codec, tmp_path, size=size)


def test_the_checker_names_the_operators_that_stay_out(tmp_path):
    node = tiny.helper.make_node
    model = tiny.make_model(
        [node("Relu", ["x"], ["a"]), node("Atan", ["a"], ["b"]), node("Relu", ["b"], ["y"])],
        {"x": (1, 3)},
        {"y": (1, 3)},
    )
    found = {v.target: v for v in mobile.checked(save(model, tmp_path / "a.onnx"))}
    assert set(found) == {"NNAPI", "CoreML MLProgram", "CoreML NeuralNetwork"}
    for verdict in found.values():
        assert (verdict.taken, verdict.nodes, verdict.left) == (2, 3, ("Atan",))
        assert str(verdict) == "2 of 3 nodes: Atan stay out" and verdict.by == "checker"


def test_a_graph_that_is_all_portable_is_taken_whole(made):
    _, verdicts = made
    found = {(v.graph, v.target): v for v in verdicts}
    assert str(found["decoder.fp32.16x24", "CoreML MLProgram"]).startswith("all ")
    assert str(found["encoder.fp32.16x24", "NNAPI"]).startswith("all ")


def test_a_provider_that_is_here_is_asked(tmp_path, monkeypatch):
    class Device:
        provider = "MoonExecutionProvider"

    monkeypatch.setattr(mobile, "hardware", lambda: [Device, Device])
    (verdict,) = mobile.asked(save(tiny.relu_model(), tmp_path / "a.onnx"))
    assert (verdict.target, str(verdict), verdict.by) == ("Moon", "none", "session")


def test_the_command_prints_a_table_and_writes_the_verdicts(codec, tmp_path, capsys):
    assert mobile.main([str(codec.path), str(tmp_path / "out"), "--size", "8x8"]) == 0
    said = capsys.readouterr().out
    assert "| encoder.int8.8x8 |" in said and "CoreML MLProgram" in said
    report = json.loads((tmp_path / "out" / "mobile.json").read_text())
    assert report["bundle"] == codec.id and report["size"] == [8, 8]
    assert {"verdict", "left", "taken"} < set(report["verdicts"][0])
    assert mobile.main([str(codec.path), str(tmp_path / "out"), "--size", "8"]) == 1
    assert mobile.main(["nothing-here", str(tmp_path / "out")]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 2
