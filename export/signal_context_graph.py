"""The context model of signals as exact integer arithmetic in ONNX; see `export.context_graph`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto
from torch import nn

from edgeae.coding.context import MIDDLE_UNITS
from export.context_graph import ACTIVATION_LIMIT, _double, _exponents, _floored, _IntegerLayer
from export.graph_writer import GraphWriter
from train.entropy_model import ABS_LIMIT, FIRST_LOG_SCALE, LOG_SCALE_STEP, SCALE_COUNT, magnitude
from train.signal.codec_context import (
    LEVEL_UNIT,
    MAGNITUDE_UNIT,
    MATCHES,
    NEARNESS_UNIT,
    NO_MATCH,
    SIGNED_LIMIT,
    SIGNED_UNIT,
    History,
    SignalContext,
    SliceHead,
)
from train.speech.codec_context import SpeechContext

__all__ = ["context_graphs"]

Weights = npt.NDArray[np.float64]
_LEVELS = 64.0


def context_graphs(
    context: SignalContext | SpeechContext,
    symbols: Sequence[torch.Tensor],
    levels: Sequence[float],
) -> list[onnx.ModelProto]:
    """The graph of the past, then one of each slice.

    Args:
        context: trained.
        symbols: (1, channels, 1, T), for the ranges of activations.
        levels: their levels in [0, 1].
    """
    layers = [
        context.history.mix,
        *context.history.layers,
        *(layer for head in context.heads for layer in (head.mix, head.join)),
    ]
    peaks = _peaks(context, layers, symbols, levels)
    inner = 1 + len(context.history.layers)
    scales = [2.0 ** _exponents(peak) for peak in peaks]
    graphs = [_history_graph(context.history, sum(context.slices), scales[:inner])]
    for i, head in enumerate(context.heads):
        assert isinstance(head, SliceHead)
        own = scales[inner + 2 * i : inner + 2 * i + 2]
        graphs.append(_head_graph(head, sum(context.slices), scales[inner - 1], own))
    return graphs


def _peaks(
    context: SignalContext | SpeechContext,
    layers: Sequence[nn.Conv2d],
    symbols: Sequence[torch.Tensor],
    levels: Sequence[float],
) -> list[Weights]:
    """The largest activation of every channel of every layer."""
    peaks = [np.zeros(layer.out_channels) for layer in layers]

    def watch(place: int) -> object:
        def hook(_: object, __: object, output: torch.Tensor) -> None:
            top = output.detach().amax((0, 2, 3)).double().numpy()
            peaks[place] = np.maximum(peaks[place], top)

        return hook

    handles = [layer.register_forward_hook(watch(i)) for i, layer in enumerate(layers)]  # type: ignore[arg-type]
    with torch.no_grad():
        for batch, level in zip(symbols, levels, strict=True):
            context.distribution(batch, torch.full((len(batch),), level))
    for handle in handles:
        handle.remove()
    return peaks


def _history_graph(history: History, channels: int, scales: list[Weights]) -> onnx.ModelProto:
    """Inputs `setting` (1, 1, 1, 1), level 0 to 64, and `known` (1, channels, 1, T), the symbols
    one step before; output `summary` (1, width, 1, T), whole numbers."""
    writer = GraphWriter()
    planes = [_magnitude(writer, "known"), _signed(writer, "known")]
    units = np.repeat([MAGNITUDE_UNIT, SIGNED_UNIT], channels)
    limits = np.repeat([_largest(), float(SIGNED_LIMIT)], channels)
    x = writer.node("Concat", *planes, axis=1)
    scale = scales[0]
    weight = _double(history.mix.weight)[:, :, 0, 0] * np.concatenate([units, [LEVEL_UNIT]])
    layer = _IntegerLayer(
        weight * scale[:, None],
        _double(history.mix.bias) * scale,
        np.concatenate([limits, [_LEVELS]]),
    )
    x = _floored(writer, _leveled(writer, x, layer), 0, ACTIVATION_LIMIT)
    limit = np.full(len(scale), float(ACTIVATION_LIMIT))
    for dilation, conv, after in zip(history.dilations, history.layers, scales[1:], strict=True):
        assert isinstance(conv, nn.Conv2d)
        weight = _double(conv.weight)[:, :, 0] * after[:, None, None] / scale[None, :, None]
        layer = _IntegerLayer(weight, _double(conv.bias) * after, limit)
        weight = layer.weight[:, :, None]
        x = _conv(writer, x, layer, weight, dilations=[1, dilation], pads=[0, dilation, 0, 0])
        x = _floored(writer, x, 0, ACTIVATION_LIMIT)
        scale = after
    return writer.model(
        "context",
        [("setting", (1, 1, 1, 1)), ("known", (1, channels, 1, "steps"))],
        [("summary", x, TensorProto.FLOAT, (1, len(scale), 1, "steps"))],
    )


def _head_graph(
    head: SliceHead, channels: int, history: Weights, scales: list[Weights]
) -> onnx.ModelProto:
    """Inputs `setting`, `summary`, `matches` (1, 2 * MATCHES * (channels + 1), 1, T) if the head
    sees them, `numbers` (1, 4 * channels, 1, T), half as many without matches, and, if there are
    any, `here` (1, known, 1, T), this step's earlier channels; outputs `index` and `middle` in
    eighths, int32 (1, own, 1, T)."""
    writer = GraphWriter()
    inputs: list[tuple[str, Sequence[int | str]]] = [
        ("setting", (1, 1, 1, 1)),
        ("summary", (1, len(history), 1, "steps")),
    ]
    planes, kind, bound = ["summary"], [], []
    if head.matched:
        inputs.append(("matches", (1, 2 * MATCHES * (channels + 1), 1, "steps")))
        planes.append("matches")
        kind = [SIGNED_UNIT] * (MATCHES * channels) + [NEARNESS_UNIT] * MATCHES
        bound = [float(SIGNED_LIMIT)] * (MATCHES * channels) + [float(NO_MATCH)] * MATCHES
    inputs.append(("numbers", (1, head.linear - head.known, 1, "steps")))
    units = np.concatenate([1 / history, kind, kind])
    limits = np.concatenate([np.full(len(history), float(ACTIVATION_LIMIT)), bound, bound])
    last = ["numbers"]
    if head.known:
        inputs.append(("here", (1, head.known, 1, "steps")))
        here = _signed(writer, "here")
        planes += [_magnitude(writer, "here"), here]
        last.append(here)
        units = np.concatenate([units, np.repeat([MAGNITUDE_UNIT, SIGNED_UNIT], head.known)])
        limits = np.concatenate([limits, np.repeat([_largest(), float(SIGNED_LIMIT)], head.known)])
    x = writer.node("Concat", *planes, axis=1)

    scale = scales[0]
    weight = _double(head.mix.weight)[:, :, 0, 0] * np.concatenate([units, [LEVEL_UNIT]])
    layer = _IntegerLayer(
        weight * scale[:, None],
        _double(head.mix.bias) * scale,
        np.concatenate([limits, [_LEVELS]]),
    )
    x = _floored(writer, _leveled(writer, x, layer), 0, ACTIVATION_LIMIT)
    limit = np.full(len(scale), float(ACTIVATION_LIMIT))
    before, scale = scale, scales[1]
    weight = _double(head.join.weight)[:, :, 0, 0] * scale[:, None] / before
    layer = _IntegerLayer(weight, _double(head.join.bias) * scale, limit)
    x = _conv(writer, x, layer, layer.weight[:, :, None, None])
    x = _floored(writer, x, 0, ACTIVATION_LIMIT)

    outputs = []
    for name, conv, unit, first, low, high in (
        ("index", head.scale, 1 / LOG_SCALE_STEP, FIRST_LOG_SCALE, 0, SCALE_COUNT - 1),
        ("middle", head.middle, MIDDLE_UNITS, 0, -SIGNED_LIMIT * 8, SIGNED_LIMIT * 8),
    ):
        weight = _double(conv.weight)[:, :, 0, 0] * unit
        width = len(scale)
        # The level is the last input in the graph, in torch it comes after what is hidden.
        order = [*range(width), *range(width + 1, weight.shape[1]), width]
        numbers = weight.shape[1] - width - 1
        units = np.concatenate([1 / scale, np.full(numbers, SIGNED_UNIT), [LEVEL_UNIT]])
        limits = np.concatenate([limit, np.full(numbers, float(SIGNED_LIMIT)), [_LEVELS]])
        layer = _IntegerLayer(weight[:, order] * units, (_double(conv.bias) - first) * unit, limits)
        y = writer.node("Concat", x, *last, axis=1) if numbers else x
        y = _floored(writer, _leveled(writer, y, layer), low, high)
        y = writer.node("Cast", y, to=TensorProto.INT32)
        outputs.append((name, y, TensorProto.INT32, (1, head.own, 1, "steps")))
    return writer.model("context", inputs, outputs)


def _largest() -> float:
    return float(magnitude(torch.tensor(float(ABS_LIMIT))))


def _leveled(writer: GraphWriter, x: str, layer: _IntegerLayer) -> str:
    """A 1x1 layer whose last input is the level, one number for all steps: what it adds is worked
    out once and goes in as the bias."""
    own = _weights(writer, layer, layer.weight[:, -1:, None, None])
    offset = writer.weight(layer.bias * layer.factor)
    bias = writer.node("Conv", "setting", own, offset, kernel_shape=[1, 1])
    bias = writer.node("Reshape", bias, writer.weight([-1], np.int64))
    rest = _weights(writer, layer, layer.weight[:, :-1, None, None])
    return writer.node("Conv", x, rest, bias, kernel_shape=[1, 1])


def _conv(
    writer: GraphWriter, x: str, layer: _IntegerLayer, weight: Weights, **attributes: object
) -> str:
    names = [_weights(writer, layer, weight), writer.weight(layer.bias * layer.factor)]
    return writer.node("Conv", x, *names, kernel_shape=list(weight.shape[2:]), **attributes)


def _weights(writer: GraphWriter, layer: _IntegerLayer, weight: Weights) -> str:
    """Weights times factors, kept as whole numbers of 16 bits where they fit: what is multiplied is
    folded away when a session is made."""
    factor = layer.factor.reshape(-1, *(1 for _ in weight.shape[1:]))
    if np.abs(weight).max(initial=0) >= 1 << 15:
        return writer.weight(weight * factor)
    whole = writer.node("Cast", writer.weight(weight, np.int16), to=TensorProto.FLOAT)
    return writer.node("Mul", whole, writer.weight(factor))


def _magnitude(writer: GraphWriter, plane: str) -> str:
    """`train.entropy_model.magnitude` in ONNX."""
    a = writer.node("Abs", plane)
    parts = [
        writer.node("Mul", writer.node("Min", a, writer.weight(2.0)), writer.weight(4.0)),
        writer.node("Mul", writer.node("Min", a, writer.weight(8.0)), writer.weight(2.0)),
        writer.node("Min", a, writer.weight(float(ABS_LIMIT))),
    ]
    return writer.node("Add", writer.node("Add", parts[0], parts[1]), parts[2])


def _signed(writer: GraphWriter, plane: str) -> str:
    limit = float(SIGNED_LIMIT)
    return writer.node("Clip", plane, writer.weight(-limit), writer.weight(limit))
