"""Static int8 graphs: QDQ with percentile calibration, per-channel weights."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime import InferenceSession
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

# Of all activations, how many the int8 range holds; the rest saturate.
CALIBRATION_PERCENTILE = 99.999
# The same of one channel that is to be evened out.
_CHANNEL_QUANTILE = 0.9999

Inputs = Mapping[str, npt.NDArray[np.float32]]


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Inputs by name, one after the other, as onnxruntime asks for them."""

    def __init__(self, inputs: Iterable[Inputs]) -> None:
        self._left = iter(inputs)

    def get_next(self) -> dict[str, Any] | None:
        found = next(self._left, None)
        return None if found is None else dict(found)


def even_inputs(
    graph: onnx.ModelProto, inputs: Iterable[Inputs]
) -> tuple[onnx.ModelProto, list[str]]:
    """A graph that gives the same, whose convolutions behind an Identity see channels that are
    about as large as each other; and the names of the nodes that make them so.

    One range of 8 bits is for all channels of a tensor. What a channel is divided by, the weights
    that see it are multiplied by (Xiao et al. 2023, "SmoothQuant", with alpha 1/2).

    Args:
        graph: float, with its weights in it.
        inputs: calibration inputs by name.
    """
    model = copy.deepcopy(graph)
    convolutions = {node.input[0]: node for node in model.graph.node if node.op_type == "Conv"}
    copies = [
        node
        for node in model.graph.node
        if node.op_type == "Identity" and node.output[0] in convolutions
    ]
    names = [node.output[0] for node in copies]
    shown = copy.deepcopy(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    sizes = dict.fromkeys(names, np.float64(0))
    for one in inputs:
        for name, values in zip(names, session.run(names, dict(one)), strict=True):
            flat = np.abs(values[0]).reshape(values.shape[1], -1)
            sizes[name] = np.maximum(sizes[name], np.quantile(flat, _CHANNEL_QUANTILE, axis=1))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in copies:
        name = node.output[0]
        tensor = weights[convolutions[name].input[1]]
        kernel = onnx.numpy_helper.to_array(tensor)
        ratio = np.sqrt(sizes[name] / np.maximum(np.abs(kernel).max((0, 2, 3)), 1e-6))
        # A channel that is never there needs no room.
        ratio = np.maximum(ratio / ratio.mean(), 1e-3).astype(np.float32)
        even = onnx.numpy_helper.from_array(kernel * ratio[:, None, None], tensor.name)
        tensor.CopyFrom(even)
        divisor = onnx.numpy_helper.from_array((1 / ratio)[:, None, None], f"{name}_even")
        model.graph.initializer.append(divisor)
        node.op_type = "Mul"
        node.input.append(divisor.name)
    return model, names


def quantize(
    source: Path,
    target: Path,
    inputs: Iterable[Inputs],
    *,
    in_float: Collection[str],
    percentile: float = CALIBRATION_PERCENTILE,
) -> None:
    """Write the int8 twin of a graph.

    Args:
        source: the float graph.
        target: where the int8 graph goes.
        inputs: calibration inputs by name.
        in_float: nodes that stay in float. What they read of each other is in float too.
        percentile: of all activations of a tensor, how many the range of 8 bits holds.
    """
    # The root logger is told that shape inference was skipped; strided convolutions do not need it.
    logging.getLogger().setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it is doing
        quantize_static(
            source,
            target,
            Calibration(inputs),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Weights of 7 bits: pairs of products then fit the 16-bit sums of processors without
            # dot-product instructions, so that those show the same pictures.
            reduce_range=True,
            nodes_to_exclude=list(in_float),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": percentile},
        )
    model = onnx.load_model(target)
    _read_in_float(model, in_float)
    onnx.save_model(model, target)


def _read_in_float(model: onnx.ModelProto, in_float: Collection[str]) -> None:
    """Has nodes that stay in float read what such nodes and the graph's inputs give itself.

    onnxruntime puts a tensor that any node reads in 8 bits through 8 bits for all its readers: a
    sum that is carried past convolutions would lose to rounding what they do not even see.
    """
    by_output = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.name not in in_float:
            continue
        for i, name in enumerate(node.input):
            restored = by_output.get(name)
            if restored is None or restored.op_type != "DequantizeLinear":
                continue
            rounded = by_output.get(restored.input[0])
            if rounded is None:  # a weight
                continue
            maker = by_output.get(rounded.input[0])
            if maker is None or maker.name in in_float:
                node.input[i] = rounded.input[0]
