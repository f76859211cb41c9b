"""A torch module as an ONNX graph, as small as the exporter gives it: one call for every family."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from export.graph_writer import OPSET
from export.parity import ExportError


def write_torch_graph(
    module: torch.nn.Module,
    arguments: tuple[torch.Tensor, ...],
    file: Path,
    *,
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_shapes: Any = None,
) -> onnx.ModelProto:
    """The graph of a module's forward, checked by onnx and written under a name of its own.

    Args:
        module: put into evaluation mode.
        arguments: what it is traced with.
        file: where the graph goes.
        name: of the graph.
        inputs, outputs: names of the graph's ports, in order.
        dynamic_shapes: free axes of the inputs, as `torch.export` takes them; None fixes all.

    Raises:
        ExportError: the exporter gave nothing.
    """
    with warnings.catch_warnings():
        # The exporter of torch 2.13 uses names that torch 2.13 deprecates.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        # Inputs may share a free axis, which is then meant.
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        # It also tells of every optional package that it does not find.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module.eval(),
            # The exporter takes one tensor for two arguments as one port.
            tuple(argument.clone() for argument in arguments),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic_shapes,
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise ExportError(f"torch.onnx.export gave nothing for {file.name}")
    model = program.model_proto
    _strip(model)
    model.graph.name = name
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Drop what only a debugger reads: source locations, doc strings, inner shapes."""
    graph = model.graph
    del graph.value_info[:]
    del model.metadata_props[:]
    graph.doc_string = ""
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output, graph):
        if item.ByteSize():
            del item.metadata_props[:]
            item.doc_string = "" if hasattr(item, "doc_string") else None
