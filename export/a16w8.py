"""Graphs in whole numbers for NPUs without floating point: 16-bit activations, 8-bit weights.

Ranges come from what the model itself feeds its graphs on the package's photo or recording.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnxruntime.quantization import QuantType, quantize
from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config

from edgeae.bundle import Bundle
from edgeae.loading import load, trials_of
from export.quantize import Calibration

__all__ = ["INTEGER", "integer_copy", "typical_inputs"]

INTEGER = "a16w8"
# The first opset whose QuantizeLinear knows 16 bits.
_OPSET = 21

Inputs = tuple[npt.NDArray[Any], ...]


def integer_copy(source: Path, target: Path, inputs: Sequence[Inputs]) -> None:
    """Writes the A16W8 twin, in QDQ form, of a float graph whose every shape is fixed.

    Args:
        source: the float graph.
        target: where the copy goes.
        inputs: typical inputs of the graph, in its order, which set the ranges.
    """
    names = [port.name for port in onnx.load(source).graph.input]
    # The root logger is told that shapes were not inferred first; they are fixed.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        newer = Path(folder) / source.name
        onnx.save(onnx.version_converter.convert_version(onnx.load(source), _OPSET), newer)
        try:
            config = get_qnn_qdq_config(
                newer,
                Calibration(dict(zip(names, arrays, strict=True)) for arrays in inputs),
                activation_type=QuantType.QUInt16,
                weight_type=QuantType.QInt8,
                per_channel=True,
            )
            quantize(newer, target, config)
        finally:
            root.setLevel(level)


def typical_inputs(
    bundle: Bundle, *, precision: str | None = None, size: tuple[int, int]
) -> Mapping[str, list[Inputs]]:
    """What the model feeds each of its graphs, run by run, on the package's photo or recording.

    `size` is the height and width in pixels of the pictures that a codec sees.
    """
    model = load(bundle.path, precision=precision)
    with ExitStack() as stack:
        watched = {
            role: stack.enter_context(graph.watched(keep_inputs=True))
            for role, graph in model.graphs.items()
        }
        every: int = trials_of(bundle).typical_runs(model, size=size)
    return {role: [run.inputs for run in runs[::every]] for role, runs in watched.items()}
