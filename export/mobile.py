"""Copies of a bundle's graphs for devices that want every shape fixed, and what such devices take.

    python -m export.mobile BUNDLE OUT [--size 512x768]

OUT gets, for each graph, a copy with fixed shapes (`encoder.int8.512x768.onnx`) and the same in
onnxruntime's own format for small builds (`.ort`). Where NNAPI or CoreML lacks an operator there is
a second copy that gives the same numbers with operators that they have (`step.portable.onnx`), and
of a codec's transforms, for NPUs without floating point, one with 16-bit activations and 8-bit
weights (`encoder.a16w8.512x768.onnx`). `mobile.json` has a row for each copy and target.

NNAPI and CoreML are judged by onnxruntime's mobile usability checker, XNNPACK by the list of
operators in its documentation, both without running anything; providers that are installed here are
asked by opening a session.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnxruntime.tools.mobile_helpers import usability_checker

from edgeae.bundle import Bundle, find
from edgeae.errors import EdgeaeError, ProviderError
from edgeae.onnx_check import read_graph
from edgeae.providers import CPU
from edgeae.runtime import Graph, hardware
from export.a16w8 import INTEGER, integer_copy, typical_inputs
from export.parity import ExportError
from export.portable import portable

Shape = tuple[int, ...]

# CoreML's lists differ by the format that it compiles to.
_COREML = {
    "CoreML MLProgram": "coreml_supported_mlprogram_ops.md",
    "CoreML NeuralNetwork": "coreml_supported_neuralnetwork_ops.md",
}
# https://onnxruntime.ai/docs/execution-providers/Xnnpack-ExecutionProvider.html
_XNNPACK = frozenset(
    ("AveragePool", "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "Resize", "Softmax")
)
# A portable copy adds the same numbers in another order.
_PORTABLE_ERROR = 1e-4


@dataclass(frozen=True)
class Copy:
    """A file that was made of a graph, and what each target takes of it.

    `form` is the precision of the graph that it was made of, or "portable" or "a16w8".
    """

    file: Path
    role: str
    form: str
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Verdict:
    """What a target takes of a graph: so many of its nodes, and which operators it leaves.

    `by` is "checker" where onnxruntime's usability checker looked at the operators, "documentation"
    where a list of operators did, "session" where the provider was really asked.
    """

    graph: str
    target: str
    taken: int
    nodes: int
    left: tuple[str, ...]
    by: str

    def __str__(self) -> str:
        if self.taken == self.nodes:
            return f"all {self.nodes} nodes"
        why = f": {', '.join(self.left)} stay out" if self.left else ""
        return f"{self.taken} of {self.nodes} nodes{why}" if self.taken else f"none{why}"


def make_mobile(bundle: Bundle, out: Path, *, size: tuple[int, int]) -> list[Copy]:
    """Writes the copies into the folder `out`; what each target takes of them.

    Args:
        bundle: a codec, a denoiser or a detector.
        out: made if need be; files of an earlier run are replaced.
        size: height and width in pixels of the pictures, multiples of the model's stride and not
            larger than one of its tiles. Of a codec of signals the width is its samples.

    Raises:
        ExportError: a copy gives other numbers than its original, or keeps a free shape.
    """
    out.mkdir(parents=True, exist_ok=True)
    _check_size(bundle, size)
    typical = typical_inputs(bundle, precision="fp32", size=size)
    copies = []
    for role, files in bundle.manifest.graphs.items():
        for precision in files:
            source = bundle.graph_file(role, precision)
            graph = Graph(read_graph(source))
            shapes = _shapes(graph, _sides(bundle, role, size))
            free = any(isinstance(axis, str) for p in graph.inputs for axis in p.shape)
            end = f".{_told(bundle, size)}.onnx" if free else ".onnx"
            copy = out / f"{role}.{precision}{end}"
            fixed_copy(source, copy, shapes)
            _check_same(source, copy, shapes, allowed=0.0)
            copies.append(_judged(copy, role, precision))
            # The contexts' exact integers stay on the CPU, whatever a device can do.
            if precision != "fp32" or role.startswith("context"):
                continue
            if any(v.taken < v.nodes for v in copies[-1].verdicts if v.by == "checker"):
                other = out / f"{role}.portable{end}"
                onnx.save(portable(onnx.load(copy)), other)
                _check_same(copy, other, shapes, allowed=_PORTABLE_ERROR)
                copies.append(_judged(other, role, "portable"))
                copy = other
            # A step's whole numbers lose 2.4 dB of 8 (benchmarks.mobile): its features span a range
            # that no linear scale of 16 bits holds.
            if role == "step":
                continue
            integer = out / f"{role}.{INTEGER}{end}"
            integer_copy(copy, integer, typical[role])
            copies.append(_judged(integer, role, INTEGER))
    rows = [
        {**asdict(verdict), "verdict": str(verdict)} for copy in copies for verdict in copy.verdicts
    ]
    report = {
        "bundle": bundle.id,
        "name": bundle.manifest.name,
        "size": list(size),
        "onnxruntime": onnxruntime.__version__,
        "verdicts": rows,
    }
    (out / "mobile.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return copies


def _check_size(bundle: Bundle, size: tuple[int, int]) -> None:
    stride = int(bundle.manifest.layout.get("stride", 1))
    sides = size[1:] if bundle.manifest.layout.get("kind") == "signal" else size
    if any(side % stride or side < stride for side in sides):
        raise ExportError(f"size is {size[0]}x{size[1]}, expected multiples of {stride}")
    largest = stride * int((bundle.manifest.latent or {}).get("tile", max(size)))
    if max(size) > largest:
        raise ExportError(f"size is {size[0]}x{size[1]}: a tile of {largest} is the largest")


def _sides(bundle: Bundle, role: str, size: tuple[int, int]) -> tuple[int, ...]:
    """What the free axes of a graph become."""
    stride = int(bundle.manifest.layout.get("stride", 1))
    if bundle.manifest.task == "detector":
        return (1,)  # a window at a time
    if bundle.manifest.task == "denoiser" and bundle.manifest.layout.get("kind") == "image":
        return size
    # Only an encoder sees pixels, or samples; everything behind it sees latents.
    if bundle.manifest.layout.get("kind") == "signal":
        phases = int((bundle.manifest.latent or {}).get("phases", 1))
        return (size[1] // (phases if role == "encoder" else stride),)
    return size if role == "encoder" else (size[0] // stride, size[1] // stride)


def _told(bundle: Bundle, size: tuple[int, int]) -> str:
    """The size in a copy's name."""
    if bundle.manifest.task == "detector":
        return "1"
    return (
        f"{size[1]}" if bundle.manifest.layout.get("kind") == "signal" else f"{size[0]}x{size[1]}"
    )


def _judged(file: Path, role: str, form: str) -> Copy:
    ort_copy(file, file.with_suffix(".ort"))
    # The lists of operators say nothing of 16-bit integers, which only some NPUs have.
    listed = () if form == INTEGER else checked(file)
    return Copy(file, role, form, (*listed, *asked(file)))


def fixed_copy(source: Path, target: Path, shapes: Mapping[str, Shape]) -> None:
    """Writes a copy of a graph whose inputs have these shapes and whose every value has one.

    Casts and copies of constants are worked out, since mobile providers count them as operators
    that they do not know. Raises ExportError if a shape stays free.
    """
    model = onnx.load(source)
    for port in model.graph.input:
        dims = port.type.tensor_type.shape.dim
        for dim, axis in zip(dims, shapes[port.name], strict=True):
            dim.Clear()
            dim.dim_value = axis
    for port in model.graph.output:
        for dim in port.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.Clear()
    del model.graph.value_info[:]
    _fold(model.graph)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    onnx.checker.check_model(model, full_check=True)
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if not dims and value.name in {port.name for port in graph.output}:
            raise ExportError(f"{source.name}: the shape of {value.name!r} stays unknown")
        if any(not dim.HasField("dim_value") for dim in dims):
            raise ExportError(f"{source.name}: the shape of {value.name!r} stays free")
    onnx.save(model, target)


def _fold(graph: onnx.GraphProto) -> None:
    """Works out Cast of constants, and drops Identity."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {port.name for port in graph.output}
    renamed: dict[str, str] = {}
    made: dict[str, onnx.NodeProto] = {}
    kept = []
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        elif node.op_type == "Identity" and node.input[0] in made:
            # The output keeps its name: whoever made the value makes it under that name.
            renamed[node.input[0]] = node.output[0]
            made[node.input[0]].output[0] = node.output[0]
        elif node.op_type == "Cast" and node.input[0] in constants:
            (to,) = [attribute.i for attribute in node.attribute if attribute.name == "to"]
            array = numpy_helper.to_array(constants[node.input[0]])
            dtype = onnx.helper.tensor_dtype_to_np_dtype(to)
            constants[node.output[0]] = numpy_helper.from_array(array.astype(dtype), node.output[0])
        else:
            kept.append(node)
            made[node.output[0]] = node
    for node in kept:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    used = {name for node in kept for name in node.input} | outputs
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(tensor for name, tensor in constants.items() if name in used)


def ort_copy(source: Path, target: Path) -> None:
    """Writes the graph in onnxruntime's own format, which a build without ONNX reads.

    Only optimizations that hold on every processor are in it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(source), options, providers=[CPU])


def checked(file: Path) -> list[Verdict]:
    """What NNAPI and CoreML would take of a graph, by onnxruntime's usability checker, and XNNPACK,
    by its documentation."""
    model = usability_checker.ModelProtoWithShapeInfo(file).model_with_shape_info
    checks: dict[str, Callable[[], Any]] = {
        "NNAPI": lambda: usability_checker.check_nnapi_partitions(model, True)
    }
    for target, table in _COREML.items():
        checks[target] = functools.partial(
            usability_checker.check_coreml_partitions, model, True, table
        )
    verdicts = []
    for target, check in checks.items():
        found = check()
        verdicts.append(
            Verdict(
                graph=file.stem,
                target=target,
                taken=found.num_supported_nodes,
                nodes=found.num_nodes,
                left=tuple(sorted(op.split(":")[-1] for op in found.unsupported_ops)),
                by="checker",
            )
        )
    operators = [node.op_type for node in model.graph.node]
    left = {name for name in operators if name not in _XNNPACK}
    taken = sum(name in _XNNPACK for name in operators)
    return [
        *verdicts,
        Verdict(file.stem, "XNNPACK", taken, len(operators), tuple(sorted(left)), "documentation"),
    ]


def asked(file: Path) -> list[Verdict]:
    """What each provider on this machine takes of a graph, the CPU left out.

    Nodes are counted after onnxruntime's basic optimizations, as it assigned them.
    """
    verdicts = []
    for provider in dict.fromkeys(device.provider for device in hardware()):
        if provider in (CPU, "AzureExecutionProvider"):
            continue
        try:
            nodes = Graph(read_graph(file), providers=[provider]).report()["nodes"]
        except ProviderError:
            nodes = Graph(read_graph(file)).report()["nodes"]
        taken, total = nodes.get(provider, 0), sum(nodes.values())
        target = provider.removesuffix("ExecutionProvider")
        verdicts.append(Verdict(file.stem, target, taken, total, (), "session"))
    return verdicts


def _shapes(graph: Graph, sides: tuple[int, ...]) -> dict[str, Shape]:
    """A shape for each input, whose free axes are the height and width of a plane, the length of a
    signal or the number of windows."""
    shapes = {}
    for port in graph.inputs:
        free = [index for index, axis in enumerate(port.shape) if isinstance(axis, str)]
        if len(free) not in (0, len(sides)):
            raise ExportError(
                f"{graph.file.name}: {port.name!r} is {port.shape}, expected {len(sides)} free axes"
            )
        axes = dict(zip(free, sides, strict=False))
        shapes[port.name] = tuple(
            axes[i] if isinstance(axis, str) else axis for i, axis in enumerate(port.shape)
        )
    return shapes


def _check_same(source: Path, copy: Path, shapes: Mapping[str, Shape], *, allowed: float) -> None:
    """Raises ExportError unless both give the same numbers, up to a part of the largest."""
    rng = np.random.default_rng(0)
    before, after = (
        Graph(read_graph(source), optimization="disabled"),
        Graph(read_graph(copy), optimization="disabled"),
    )
    inputs = [rng.random(shapes[port.name]).astype(port.dtype) for port in before.inputs]
    for port, one, other in zip(before.outputs, before(*inputs), after(*inputs), strict=True):
        # Written so that NaN fails too.
        if not np.abs(one - other).max() <= allowed * np.abs(one).max():
            raise ExportError(f"{copy.name}: {port.name!r} differs from that of {source.name}")


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """The verdicts as rows of a Markdown table, a graph a row, a target a column."""
    targets = list(dict.fromkeys(verdict.target for verdict in verdicts))
    found = {(verdict.graph, verdict.target): str(verdict) for verdict in verdicts}
    rows = ["| graph | " + " | ".join(targets) + " |", "|---" * (len(targets) + 1) + "|"]
    for graph in dict.fromkeys(verdict.graph for verdict in verdicts):
        rows.append(
            f"| {graph} | " + " | ".join(found.get((graph, t), "-") for t in targets) + " |"
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line, writes the copies and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m export.mobile", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("bundle", help="a bundled name or a folder")
    parser.add_argument("out", type=Path, help="folder of the copies")
    parser.add_argument(
        "--size",
        default="512x768",
        help="height x width in pixels; 1 x samples of a codec of signals",
    )
    options = parser.parse_args(arguments)
    try:
        height, width = map(int, options.size.split("x"))
        copies = make_mobile(find(options.bundle), options.out, size=(height, width))
    except (EdgeaeError, ExportError, ValueError, OSError) as error:
        print(f"export.mobile: {error}", file=sys.stderr)
        return 1
    print("\n".join(table([verdict for copy in copies for verdict in copy.verdicts])))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
