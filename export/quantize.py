"""Static int8 graphs: QDQ with percentile calibration, per-channel weights."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

# Of all activations, how many the int8 range holds; the rest saturate.
CALIBRATION_PERCENTILE = 99.999


Inputs = Mapping[str, npt.NDArray[np.float32]]


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Inputs by name, one after the other, as onnxruntime asks for them."""

    def __init__(self, inputs: Iterable[Inputs]) -> None:
        self._left = iter(inputs)

    def get_next(self) -> dict[str, Any] | None:
        found = next(self._left, None)
        return None if found is None else dict(found)


def quantize(
    source: Path, target: Path, inputs: Iterable[Inputs], *, in_float: Collection[str]
) -> None:
    """Write the int8 twin of a graph.

    Args:
        source: the float graph.
        target: where the int8 graph goes.
        inputs: calibration inputs by name.
        in_float: nodes that stay in float.
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
            extra_options={"CalibPercentile": CALIBRATION_PERCENTILE},
        )
