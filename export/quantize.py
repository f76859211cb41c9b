"""Static int8 graphs: QDQ with percentile calibration, per-channel weights."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterable
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


class _Arrays(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, arrays: Iterable[npt.NDArray[np.float32]]) -> None:
        self._left = iter([{name: array} for array in arrays])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def quantize_encoder(
    source: Path,
    target: Path,
    pictures: Iterable[npt.NDArray[np.float32]],
    *,
    in_float: Collection[str],
) -> None:
    """Write the int8 twin of an encoder.

    Args:
        source: the float graph.
        target: where the int8 graph goes.
        pictures: calibration inputs, each (1, 3, H, W) in [0, 1].
        in_float: nodes that stay in float: the linear path, whose range is too wide for 8 bits.
    """
    # The root logger is told that shape inference was skipped; strided convolutions do not need it.
    logging.getLogger().setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it is doing
        quantize_static(
            source,
            target,
            _Arrays("pixels", pictures),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=list(in_float),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": CALIBRATION_PERCENTILE},
        )
