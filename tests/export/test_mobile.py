"""Copies for mobile devices: every shape fixed, the same numbers, and a word on who takes them."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
from onnx.reference import ReferenceEvaluator

from edgeae.bench.image_codec import (
    CALIBRATION_QUALITIES,
    MOST_CALIBRATION_IMAGES,
    _pieces,
)
from edgeae.bundle import find
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from export import a16w8, mobile
from export.parity import ExportError
from export.portable import portable


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return find(tiny.tiny_codec_bundle(tmp_path_factory.mktemp("bundle") / "codec", int8=True))


@pytest.fixture(scope="module")
def made(codec, tmp_path_factory):
    out = tmp_path_factory.mktemp("mobile")
    return out, mobile.make_mobile(codec, out, size=(8, 16))


def save(model, path):
    onnx.save(model, path)
    return path


def test_every_graph_gets_a_copy_in_both_formats(made, codec):
    out, _ = made
    names = [f"{role}.fp32" for role in codec.manifest.graphs]
    names += ["encoder.int8", "encoder.a16w8", "decoder.a16w8"]
    expected = {f"{name}.8x16.{kind}" for name in names for kind in ("onnx", "ort")}
    assert {path.name for path in out.iterdir()} == expected | {"mobile.json"}


def test_a_copy_has_fixed_shapes_and_gives_the_same_numbers(made, codec):
    out, _ = made
    copy = Graph(read_graph(out / "encoder.fp32.8x16.onnx"))
    assert [port.shape for port in (*copy.inputs, *copy.outputs)] == [(1, 3, 8, 16), (1, 9, 2, 4)]
    pixels = np.random.default_rng(0).random((1, 3, 8, 16)).astype(np.float32)
    original = Graph(codec.graph("encoder", "fp32"))
    # Optimized for its shape, sums may be in another order.
    np.testing.assert_allclose(copy(pixels)[0], original(pixels)[0], atol=1e-5)
    # The package runs no .ort file: mobile builds of onnxruntime do.
    small = onnxruntime.InferenceSession(out / "encoder.fp32.8x16.ort")
    (found,) = small.run(None, {copy.inputs[0].name: pixels})
    np.testing.assert_allclose(found, original(pixels)[0], atol=1e-5)


def test_shapes_that_are_fixed_already_stay(tmp_path):
    bundle = find(tiny.tiny_denoiser_bundle(tmp_path / "denoiser"))
    mobile.make_mobile(bundle, tmp_path / "out", size=(512, 768))
    copy = Graph(read_graph(tmp_path / "out" / "step.fp32.onnx"))
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
    y, other = Graph(read_graph(tmp_path / "b.onnx"))(np.float32([[1, -2, 3]]))
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
    with pytest.raises(ExportError, match="expected multiples of 4"):
        mobile.make_mobile(codec, tmp_path, size=size)


def test_the_checker_names_the_operators_that_stay_out(tmp_path):
    model = tiny.make_model(
        [node("Relu", ["x"], ["a"]), node("Atan", ["a"], ["b"]), node("Relu", ["b"], ["y"])],
        {"x": (1, 3)},
        {"y": (1, 3)},
    )
    found = {v.target: v for v in mobile.checked(save(model, tmp_path / "a.onnx"))}
    assert found.pop("XNNPACK").left == ("Atan", "Relu")
    assert set(found) == {"NNAPI", "CoreML MLProgram", "CoreML NeuralNetwork"}
    for verdict in found.values():
        assert (verdict.taken, verdict.nodes, verdict.left) == (2, 3, ("Atan",))
        assert str(verdict) == "2 of 3 nodes: Atan stay out" and verdict.by == "checker"


def test_a_graph_that_is_all_portable_is_taken_whole(made):
    _, copies = made
    found = {(copy.file.stem, v.target): v for copy in copies for v in copy.verdicts}
    assert str(found["decoder.fp32.8x16", "CoreML MLProgram"]).startswith("all ")
    assert str(found["encoder.fp32.8x16", "NNAPI"]).startswith("all ")
    # Of XNNPACK only the documentation says what it takes.
    xnnpack = found["encoder.fp32.8x16", "XNNPACK"]
    assert xnnpack.by == "documentation" and 0 < xnnpack.taken
    # Whether a target knows 16-bit integers is on no list.
    assert not any("a16w8" in graph for graph, _ in found)


def test_whole_numbers_give_nearly_what_the_floats_give(made, codec):
    _, copies = made
    files = {(copy.role, copy.form): copy.file for copy in copies}
    inputs = a16w8.typical_inputs(codec, precision="fp32", size=(8, 16))
    for role in ("encoder", "decoder"):
        kinds = {node.op_type for node in onnx.load(files[role, "a16w8"]).graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
        wanted = Graph(read_graph(files[role, "fp32"]))(*inputs[role][-1])[0]
        found = Graph(read_graph(files[role, "a16w8"]))(*inputs[role][-1])[0]
        assert 0 < np.abs(found - wanted).max() < 0.03 * np.abs(wanted).max()


def test_typical_inputs_are_those_of_real_use_at_every_size(codec):
    for size in ((8, 16), (12, 4)):
        inputs = a16w8.typical_inputs(codec, size=size)
        assert {arrays[0].shape for arrays in inputs["encoder"]} == {(1, 3, *size)}
        assert len(inputs["encoder"]) == len(CALIBRATION_QUALITIES) * MOST_CALIBRATION_IMAGES
        assert np.std([arrays[0].mean() for arrays in inputs["encoder"]]) > 0.05
    (large,) = _pieces(640, 1024)  # larger than the package's photo
    assert large.shape == (640, 1024, 3) and large[512:].std() > 10


def test_a_size_larger_than_a_tile_is_refused(codec, tmp_path):
    with pytest.raises(ExportError, match="20x8: a tile of 16 is the largest"):
        mobile.make_mobile(codec, tmp_path, size=(20, 8))


def test_a_denoisers_typical_inputs_are_of_several_levels(tmp_path):
    bundle = find(tiny.tiny_denoiser_bundle(tmp_path / "denoiser"))
    spectra = [spectrum for spectrum, *_ in a16w8.typical_inputs(bundle, size=(8, 8))["step"]]
    levels = [np.abs(spectrum).max() for spectrum in spectra]
    assert max(levels) > 20 * np.median(levels[-len(levels) // 4 :])


def test_an_image_denoisers_graphs_see_pixels_of_the_size(tmp_path):
    bundle = find(tiny.tiny_image_denoiser_bundle(tmp_path / "denoiser"))
    copies = mobile.make_mobile(bundle, tmp_path / "out", size=(16, 24))
    shapes = {
        (copy.role, copy.form): Graph(read_graph(copy.file)).inputs[0].shape for copy in copies
    }
    roles = ("denoiser", "estimator")
    assert shapes == {(role, form): (1, 3, 16, 24) for role in roles for form in ("fp32", "a16w8")}


# --- operators that every target has


def rewritten(nodes, shapes, outputs, constants):
    """Both models' outputs on the same random inputs, and the operators of the second."""
    model = tiny.make_model(nodes, shapes, outputs, constants)
    other = portable(model)
    rng = np.random.default_rng(3)
    feed = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    found = [ReferenceEvaluator(m).run(None, feed) for m in (model, other)]
    return *found, {node.op_type for node in other.graph.node}


node = tiny.helper.make_node


@pytest.mark.parametrize(
    ("places", "shape", "axis", "expected"),
    [
        ([2, 3, 4], (6, 2), 0, (3, 2)),
        ([0, 1, 4, 5, 5, 0], (6, 2), 0, (6, 2)),
        ([-1, 0], (6, 2), 0, (2, 2)),
        ([[0, 1], [3, 5]], (2, 6), 1, (2, 2, 2)),
        ([0, 1, 2], (2, 3), -1, (2, 3)),
        (1, (4, 3), 0, (3,)),
        (0, (1, 3), 0, (3,)),
        ([[4, 5]], (6, 2), 0, (1, 2, 2)),
    ],
)
def test_rows_at_constant_places_become_slices(places, shape, axis, expected):
    nodes = [node("Gather", ["x", "places"], ["y"], axis=axis)]
    one, other, kinds = rewritten(
        nodes, {"x": shape}, {"y": expected}, {"places": np.int64(places)}
    )
    np.testing.assert_array_equal(one[0], other[0])
    assert kinds <= {"Slice", "Concat", "Reshape"}


def test_places_that_are_not_constant_stay():
    nodes = [
        node("Cast", ["p"], ["places"], to=onnx.TensorProto.INT64),
        node("Gather", ["x", "places"], ["y"], axis=0),
    ]
    model = tiny.make_model(nodes, {"x": (3, 2), "p": (1,)}, {"y": (1, 2)})
    assert "Gather" in {n.op_type for n in portable(model).graph.node}


@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization_is_spelled_out(bias):
    names = ["x", "scale", "bias"] if bias else ["x", "scale"]
    nodes = [node("LayerNormalization", names, ["y"], epsilon=0.1)]
    constants = {"scale": np.float32([1, 2, 3, 4]), "bias": np.float32([0, 1, 0, 5])}
    one, other, kinds = rewritten(
        nodes, {"x": (3, 4)}, {"y": (3, 4)}, {name: constants[name] for name in names[1:]}
    )
    np.testing.assert_allclose(one[0], other[0], atol=1e-5)
    assert kinds <= {"MatMul", "Sub", "Mul", "Add", "Sqrt", "Div"}


@pytest.mark.parametrize("kind", ["ReduceMean", "ReduceSum"])
@pytest.mark.parametrize(
    ("axes", "keep", "expected"),
    [([2], 1, (2, 3, 1)), ([0, 2], 1, (1, 3, 1)), ([0, 1, 2], 0, ()), ([1], 0, (2, 4))],
)
def test_means_and_sums_become_products(kind, axes, keep, expected):
    nodes = [node(kind, ["x", "axes"], ["y"], keepdims=keep)]
    one, other, kinds = rewritten(
        nodes, {"x": (2, 3, 4)}, {"y": expected}, {"axes": np.int64(axes)}
    )
    np.testing.assert_allclose(one[0], other[0], atol=1e-5)
    assert kinds <= {"MatMul", "Reshape", "Transpose"}


@pytest.mark.parametrize(
    ("inner", "perm"),
    [
        ((1, 4, 1, 2, 1, 3), (0, 1, 4, 2, 5, 3)),
        ((1, 1, 1, 8, 1, 3), (0, 1, 4, 2, 5, 3)),
        ((1, 1, 1, 1, 1, 1), (0, 1, 4, 2, 5, 3)),
    ],
)
def test_a_transposition_of_six_axes_becomes_one_of_the_long_ones(inner, perm):
    size = int(np.prod(inner))
    nodes = [
        node("Reshape", ["x", "inner"], ["long"]),
        node("Transpose", ["long"], ["other"], perm=perm),
        node("Reshape", ["other", "flat"], ["y"]),
    ]
    constants = {"inner": np.int64(inner), "flat": np.int64([1, size])}
    one, other, kinds = rewritten(nodes, {"x": (size, 1)}, {"y": (1, size)}, constants)
    np.testing.assert_array_equal(one[0], other[0])
    assert kinds == {"Reshape", "Transpose"}
    model = portable(tiny.make_model(nodes, {"x": (size, 1)}, {"y": (1, size)}, constants))
    known = onnx.shape_inference.infer_shapes(model).graph.value_info
    assert all(len(value.type.tensor_type.shape.dim) <= 5 for value in known)


def test_a_transposition_whose_axes_are_all_long_stays():
    shape = (2, 2, 2, 2, 2, 2)
    nodes = [node("Transpose", ["x"], ["y"], perm=(5, 4, 3, 2, 1, 0))]
    one, other, kinds = rewritten(nodes, {"x": shape}, {"y": shape}, {})
    np.testing.assert_array_equal(one[0], other[0])
    assert kinds == {"Transpose"}


def test_a_graph_whose_operators_a_target_lacks_gets_a_portable_copy(tmp_path):
    bundle = find(tiny.tiny_denoiser_bundle(tmp_path / "denoiser"))
    copies = {copy.form: copy for copy in mobile.make_mobile(bundle, tmp_path / "out", size=(8, 8))}
    assert set(copies) == {"fp32", "portable"}
    shipped, other = ({v.target: v for v in copies[form].verdicts} for form in ("fp32", "portable"))
    assert shipped["CoreML NeuralNetwork"].left == ("ReduceMean",)
    for target in ("NNAPI", "CoreML MLProgram", "CoreML NeuralNetwork"):
        assert str(other[target]).startswith("all ")
    assert copies["portable"].file.with_suffix(".ort").exists()


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
