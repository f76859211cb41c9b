"""The context model as exact integer arithmetic in ONNX, from the weights of its torch modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto

from edgeae.coding.context import MIDDLE_UNITS
from export.graph_writer import GraphWriter
from export.parity import ExportError
from train.entropy_model import (
    ABS_LIMIT,
    FIRST_LOG_SCALE,
    LOG_SCALE_STEP,
    SCALE_COUNT,
    SIGNED_LIMIT,
    ContextModel,
    SliceContext,
    magnitude,
)

__all__ = ["ACTIVATION_LIMIT", "SUM_LIMIT", "activation_peaks", "context_graph"]

# Hidden activations of the context graphs are integers up to this; sums must stay below 2 ** 24,
# the largest range in which float32 holds every integer.
ACTIVATION_LIMIT = 1023
SUM_LIMIT = 1 << 24
_MAX_SHIFT = 22

Weights = npt.NDArray[np.float64]


def activation_peaks(
    context: ContextModel, symbols: Sequence[torch.Tensor], levels: Sequence[float]
) -> list[list[Weights]]:
    """The largest activation of every hidden channel, for each slice its three layers.

    Args:
        context: the context model.
        symbols: quantized latents (N, latent, h, w), one batch for each level.
        levels: their levels in [0, 1].
    """
    peaks: list[list[Weights]] = []
    for part in context.contexts:
        assert isinstance(part, SliceContext)
        found = [np.zeros(layer.out_channels) for layer in (part.mix, part.gather, part.join)]

        def watch(place: int, found: list[Weights] = found) -> object:
            def hook(_: object, __: object, output: torch.Tensor) -> None:
                top = output.detach().amax((0, 2, 3)).double().numpy()
                found[place] = np.maximum(found[place], top)

            return hook

        for place, layer in enumerate((part.mix, part.gather, part.join)):
            layer.register_forward_hook(watch(place))  # type: ignore[arg-type]
        peaks.append(found)
    with torch.no_grad():
        for batch, level in zip(symbols, levels, strict=True):
            context(batch, batch, torch.full((len(batch),), level))
    for part in context.contexts:
        assert isinstance(part, SliceContext)
        for layer in (part.mix, part.gather, part.join):
            layer._forward_hooks.clear()
    return peaks


class _IntegerLayer:
    """A convolution with integer weights: clip(floor(sum * 2 ** -shift)), each sum provably exact
    in float32."""

    def __init__(self, weight: Weights, bias: Weights, limits: Weights) -> None:
        """Weights (out, ...in) and bias for integer inputs of at most `limits` (in,), in output
        units."""
        flat = weight.reshape(len(weight), -1)
        reach = np.repeat(limits, flat.shape[1] // len(limits))
        bias = bias + 0.5  # floor after adding one half rounds
        self.shift = np.zeros(len(weight), np.int64)
        self.weight, self.bias = np.zeros_like(weight), np.zeros_like(bias)
        for out in range(len(weight)):
            for shift in range(_MAX_SHIFT, -_MAX_SHIFT, -1):
                whole = np.rint(flat[out] * 2.0**shift)
                offset = np.rint(bias[out] * 2.0**shift)
                if np.abs(whole) @ reach + abs(offset) < SUM_LIMIT:
                    break
            else:
                raise ExportError("the context model has weights that no exact sum can hold")
            self.weight[out] = whole.reshape(weight.shape[1:])
            self.bias[out], self.shift[out] = offset, shift

    @property
    def factor(self) -> Weights:
        """2 ** -shift of each output: multiplying by it is exact, before a sum as after it."""
        factor: Weights = 2.0 ** -self.shift.astype(np.float64)
        return factor


def _exponents(peaks: Weights) -> Weights:
    """The power of two of each channel's unit: its peak comes to just below the limit of
    activations."""
    return np.floor(np.log2(ACTIVATION_LIMIT / np.maximum(peaks, 1e-3))).clip(-20, 20)


def context_graph(
    part: SliceContext, known: int, known_signed: int, peaks: list[Weights]
) -> onnx.ModelProto:
    """One slice's context in exact integers.

    Inputs: `setting` (1, 2, 1, 1) holds level 0 to 64 and phase 0 or 1; `known` (1, known, h, w)
        the symbols of
    earlier slices, if there are any; `own` (1, own, h, w) this slice's, if it is coded in two
    phases. Outputs: `index` (1, own, h, w) int32, 0 to 63, and for a centered slice `middle` in
    eighths, int32.
    """
    writer = GraphWriter()
    inputs: list[tuple[str, Sequence[int | str]]] = [("setting", (1, 2, 1, 1))]
    magnitudes, signed = [], []
    if known:
        inputs.append(("known", (1, known, "h", "w")))
        magnitudes.append(_magnitude(writer, "known"))
        signed.append(_signed(writer, "known", known_signed if known_signed < known else None))
    if part.two_phases:
        inputs.append(("own", (1, part.own, "h", "w")))
        magnitudes.append(_magnitude(writer, "own"))
        if part.centered:
            signed.append(_signed(writer, "own", None))
    planes = [*magnitudes, *signed]
    x = planes[0] if len(planes) == 1 else writer.node("Concat", *planes, axis=1)

    own_seen = part.own if part.two_phases else 0
    own_signed = part.own if part.centered else 0
    counts = [known + own_seen, known_signed + own_signed]
    units = np.repeat([part.MAGNITUDE_UNIT, part.SIGNED_UNIT], counts)
    largest = float(magnitude(torch.tensor(float(ABS_LIMIT))))
    limits = np.repeat([largest, float(SIGNED_LIMIT)], counts)

    scale = 2.0 ** _exponents(peaks[0])
    layer = _IntegerLayer(
        _double(part.mix.weight)[:, :, 0, 0]
        * np.concatenate([units, [part.LEVEL_UNIT, 1.0]])
        * scale[:, None],
        _double(part.mix.bias) * scale,
        np.concatenate([limits, [64.0, 1.0]]),
    )
    x = _floored(writer, _settled_conv(writer, x, "setting", layer, 2), 0, ACTIVATION_LIMIT)

    limit = np.full(len(scale), float(ACTIVATION_LIMIT))
    before, scale = scale, 2.0 ** _exponents(peaks[1])
    gather = _double(part.gather.weight) * (scale / before)[:, None, None, None]
    layer = _IntegerLayer(gather, _double(part.gather.bias) * scale, limit[:1])
    size = gather.shape[2]
    x = _integer_conv(writer, x, layer, group=len(scale), pads=[size // 2] * 4)
    x = _floored(writer, x, 0, ACTIVATION_LIMIT)

    before, scale = scale, 2.0 ** _exponents(peaks[2])
    join = _double(part.join.weight)[:, :, 0, 0] * scale[:, None] / before
    layer = _IntegerLayer(join, _double(part.join.bias) * scale, limit)
    x = _floored(writer, _integer_conv(writer, x, layer), 0, ACTIVATION_LIMIT)

    outputs = []
    level = writer.node("Slice", "setting", *_slice_arguments(writer, 1))
    for name, head, unit, first, low, high in (
        ("index", part.scale, 1 / LOG_SCALE_STEP, FIRST_LOG_SCALE, 0, SCALE_COUNT - 1),
        ("middle", part.middle, MIDDLE_UNITS, 0, -SIGNED_LIMIT * 8, SIGNED_LIMIT * 8),
    ):
        if head is None:
            continue
        weight = _double(head.weight)[:, :, 0, 0] * unit
        layer = _IntegerLayer(
            weight / np.concatenate([scale, [1 / part.LEVEL_UNIT]]),
            (_double(head.bias) - first) * unit,
            np.concatenate([limit, [64.0]]),
        )
        y = _floored(writer, _settled_conv(writer, x, level, layer, 1), low, high)
        y = writer.node("Cast", y, to=TensorProto.INT32)
        outputs.append((name, y, TensorProto.INT32, (1, part.own, "h", "w")))
    return writer.model("context", inputs, outputs)


def _double(weight: torch.Tensor | None) -> Weights:
    assert weight is not None
    return weight.detach().double().numpy()


def _integer_conv(writer: GraphWriter, x: str, layer: _IntegerLayer, **attributes: Any) -> str:
    """A layer's sums times its factors, before they are floored."""
    weight = layer.weight.reshape(*layer.weight.shape[:2], *(layer.weight.shape[2:] or (1, 1)))
    names = [
        writer.weight(weight * layer.factor[:, None, None, None]),
        writer.weight(layer.bias * layer.factor),
    ]
    return writer.node("Conv", x, *names, kernel_shape=list(weight.shape[2:]), **attributes)


def _settled_conv(
    writer: GraphWriter, x: str, setting: str, layer: _IntegerLayer, last: int
) -> str:
    """The same for a layer whose `last` inputs are one number each for the whole picture: what they
    add is worked out once and goes in as the bias."""
    weight = layer.weight * layer.factor[:, None]
    own = writer.weight(weight[:, -last:, None, None])
    offset = writer.weight(layer.bias * layer.factor)
    bias = writer.node("Conv", setting, own, offset, kernel_shape=[1, 1])
    bias = writer.node("Reshape", bias, writer.weight([-1], np.int64))
    names = [writer.weight(weight[:, :-last, None, None]), bias]
    return writer.node("Conv", x, *names, kernel_shape=[1, 1])


def _floored(writer: GraphWriter, total: str, low: float, high: float) -> str:
    """clip(floor(total)); the other way round, which is the same between whole bounds, runtimes
    clip as part of the convolution."""
    clipped = writer.node("Clip", total, writer.weight(low), writer.weight(high))
    return writer.node("Floor", clipped)


def _slice_arguments(writer: GraphWriter, stop: int) -> tuple[str, str, str]:
    return (
        writer.weight([0], np.int64),
        writer.weight([stop], np.int64),
        writer.weight([1], np.int64),
    )


def _magnitude(writer: GraphWriter, plane: str) -> str:
    """`train.entropy_model.magnitude` in ONNX."""
    a = writer.node("Abs", plane)
    parts = [
        writer.node("Mul", writer.node("Min", a, writer.weight(2.0)), writer.weight(4.0)),
        writer.node("Mul", writer.node("Min", a, writer.weight(8.0)), writer.weight(2.0)),
        writer.node("Min", a, writer.weight(float(ABS_LIMIT))),
    ]
    return writer.node("Add", writer.node("Add", parts[0], parts[1]), parts[2])


def _signed(writer: GraphWriter, plane: str, first: int | None) -> str:
    if first is not None:
        plane = writer.node("Slice", plane, *_slice_arguments(writer, first))
    limit = float(SIGNED_LIMIT)
    return writer.node("Clip", plane, writer.weight(-limit), writer.weight(limit))
