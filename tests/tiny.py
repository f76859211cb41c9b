"""Tiny valid bundles, and ways to spoil them, made with onnx.helper alone: no torch, no weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

OPSET = 20
IR_VERSION = 10


def make_model(nodes, inputs, outputs, initializers=None) -> onnx.ModelProto:
    """A model of float32 tensors: ports are {name: shape}, initializers {name: array}."""
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side]
        for side in (inputs.items(), outputs.items())
    ]
    constants = [
        onnx.numpy_helper.from_array(np.asarray(array), name)
        for name, array in (initializers or {}).items()
    ]
    graph = helper.make_graph(nodes, "tiny", *ports, constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )


def relu_model(shape: Any = (1, 3)) -> onnx.ModelProto:
    """One Relu from `x` to `y`: the smallest graph that does something."""
    return make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape})


def denoiser_step_model(
    *, bins: int, gain: float = 1.0, feedback: float = 0.0, lookahead_hops: int = 0, units: int = 4
) -> onnx.ModelProto:
    """One hop of a denoiser: spectrum and states in, clean spectrum and next states out.

    `h0` is a leaky mean of the spectrum's power, as a GRU's state would be. The clean spectrum is
    gain * (1 - feedback * h0_next / (1 + h0_next)) times the spectrum of `lookahead_hops` hops ago,
    so with feedback 0 it passes the signal through, and with more it depends on the whole past.
    """
    node = helper.make_node
    inputs = {"spectrum": (1, 2, bins), "h0": (1, 1, units)}
    outputs = {"clean": (1, 2, bins), "h0_next": (1, 1, units)}
    constants = {
        "leak": np.float32([0.9]),
        "input_gain": np.float32([0.1]),
        "one": np.float32([1.0]),
        "feedback": np.float32([feedback]),
        "gain": np.float32([gain]),
        "axes": np.int64([1, 2]),
    }
    nodes = [
        node("Mul", ["spectrum", "spectrum"], ["power"]),
        node("ReduceMean", ["power", "axes"], ["level"], keepdims=1),
        node("Mul", ["level", "input_gain"], ["entering"]),
        node("Mul", ["h0", "leak"], ["staying"]),
        node("Add", ["staying", "entering"], ["h0_next"]),
        node("ReduceMean", ["h0_next", "axes"], ["state"], keepdims=1),
        node("Add", ["state", "one"], ["above"]),
        node("Div", ["state", "above"], ["squashed"]),
        node("Mul", ["squashed", "feedback"], ["attenuation"]),
        node("Sub", ["one", "attenuation"], ["kept"]),
        node("Mul", ["kept", "gain"], ["mask"]),
    ]
    source = "spectrum"
    if lookahead_hops:
        inputs["past"] = outputs["past_next"] = (1, 2 * lookahead_hops, bins)
        constants["split"] = np.int64([2, 2 * lookahead_hops])
        nodes += [
            node("Concat", ["past", "spectrum"], ["all"], axis=1),
            node("Split", ["all", "split"], ["oldest", "past_next"], axis=1),
        ]
        source = "oldest"
    nodes.append(node("Mul", [source, "mask"], ["clean"]))
    return make_model(nodes, inputs, outputs, constants)


def tiny_denoiser_bundle(
    path: Path,
    *,
    window_samples: int = 512,
    hop_samples: int = 256,
    sample_rate_hz: int = 16_000,
    gain: float = 1.0,
    feedback: float = 0.0,
    lookahead_hops: int = 0,
    **sections: Any,
) -> Path:
    """A denoiser bundle in the directory `path`, which is made if need be; gives the path back.

    `sections` replace the manifest's; `denoiser_step_model` says what it does to the sound.
    """
    path.mkdir(parents=True, exist_ok=True)
    model = denoiser_step_model(
        bins=window_samples // 2 + 1, gain=gain, feedback=feedback, lookahead_hops=lookahead_hops
    )
    onnx.save(model, path / "step.fp32.onnx")
    (path / "CARD.md").write_text("# tiny\n\nPasses sound through.\n")
    # The second and later inputs are the states, in the manifest's order.
    state = {
        port.name: [axis.dim_value for axis in port.type.tensor_type.shape.dim]
        for port in model.graph.input[1:]
    }
    stream = {
        "window_samples": window_samples,
        "hop_samples": hop_samples,
        "window": "sqrt_hann",
        "state": state,
    }
    if lookahead_hops:
        stream["lookahead_hops"] = lookahead_hops
    manifest = {
        "task": "denoiser",
        "name": "tiny-denoiser",
        "layout": {"kind": "audio", "channels": 1, "sample_rate_hz": sample_rate_hz},
        "stream": stream,
        "graphs": {"step": {"fp32": "step.fp32.onnx"}},
        "files": ["CARD.md"],
    }
    return write_manifest(path, **{**manifest, **sections})


def write_manifest(path: Path, **sections: Any) -> Path:
    """Writes manifest.json in the directory with the right size and hash of every file; the path.

    `graphs` is {role: {precision: file name}} and `files` a list of file names; every other section
    is written as it is, over defaults that make the manifest complete. A section that is None is
    left out.
    """
    graphs = {
        role: {
            precision: {"file": file, **fingerprint(path / file)} for precision, file in of.items()
        }
        for role, of in sections.pop("graphs").items()
    }
    files = {file: fingerprint(path / file) for file in sections.pop("files", [])}
    manifest = {
        "format": 1,
        "version": "0.1.0",
        **sections,
        "graphs": graphs,
        "files": files,
        "provenance": sections.get("provenance", {"config": "tiny"}),
        "figures": sections.get("figures", {}),
    }
    save_manifest(path, {key: value for key, value in manifest.items() if value is not None})
    return path


def fingerprint(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def load_manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / "manifest.json").read_text())


def save_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    (path / "manifest.json").write_text(json.dumps(manifest, indent=2))


def change_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Lets `change` edit the manifest of the bundle in place."""
    manifest = load_manifest(path)
    change(manifest)
    save_manifest(path, manifest)
    return path


def change_graph(
    path: Path,
    change: Callable[[onnx.ModelProto], None],
    role: str = "step",
    precision: str = "fp32",
) -> Path:
    """Lets `change` edit one graph of the bundle in place, and gives it the right hash again."""
    entry = load_manifest(path)["graphs"][role][precision]
    file = path / entry["file"]
    model = onnx.load(file, load_external_data=False)
    change(model)
    return replace_graph(path, model.SerializeToString(), role, precision)


def replace_graph(path: Path, data: bytes, role: str = "step", precision: str = "fp32") -> Path:
    """Puts these bytes in the place of one graph of the bundle, with the right hash."""
    manifest = load_manifest(path)
    entry = manifest["graphs"][role][precision]
    (path / entry["file"]).write_bytes(data)
    entry.update(fingerprint(path / entry["file"]))
    save_manifest(path, manifest)
    return path


# What a graph must not hold. Each edits a model in place.


def add_external_data(model: onnx.ModelProto) -> None:
    """An initializer whose numbers stand in another file."""
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def add_external_data_in_attribute(model: onnx.ModelProto) -> None:
    """A Constant node whose value stands in another file."""
    node = helper.make_node("Constant", [], ["w"], value=helper.make_tensor("v", 1, [1], [1.0]))
    node.attribute[0].t.ClearField("float_data")
    node.attribute[0].t.data_location = TensorProto.EXTERNAL
    node.attribute[0].t.external_data.add(key="location", value="weights.bin")
    model.graph.node.append(node)


def add_custom_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    source = model.graph.input[0].name
    model.graph.node.append(helper.make_node("Gelu", [source], ["g"], domain="com.microsoft"))


def add_function(model: onnx.ModelProto) -> None:
    model.functions.append(
        helper.make_function(
            "local",
            "twice",
            ["x"],
            ["y"],
            [helper.make_node("Add", ["x", "x"], ["y"])],
            [helper.make_opsetid("", OPSET)],
        )
    )


def _branch(name: str) -> onnx.GraphProto:
    value = helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0])
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
    return helper.make_graph(
        [helper.make_node("Constant", [], [name], value=value)], name, [], [output]
    )


def add_if(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node(
            "If", ["condition"], ["chosen"], then_branch=_branch("a"), else_branch=_branch("b")
        )
    )


def add_loop(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["n", "go"], ["last"], body=_branch("c")))


def add_scan(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("Scan", ["s"], ["last"], body=_branch("d"), num_scan_inputs=1)
    )


def add_nested_graph(model: onnx.ModelProto) -> None:
    """A graph in the attribute of an operator that is no control flow by its name."""
    model.graph.node.append(helper.make_node("Relu", ["x"], ["z"], body=_branch("e")))


def add_sparse_initializer(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0]),
            helper.make_tensor("indices", TensorProto.INT64, [1], [0]),
            [4],
        )
    )


def add_training_graph(model: onnx.ModelProto) -> None:
    model.training_info.add()


def undeclare_rank(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def undeclare_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].ClearField("type")


def make_input_scalar(model: onnx.ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[:]


def make_input_a_sequence(model: onnx.ModelProto) -> None:
    name = model.graph.input[0].name
    model.graph.input[0].CopyFrom(
        helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, [1])
    )
