"""The speech codec's encoder and decoder, written out for as many frames at a time as are given.

One frame at a time, most of what a graph takes is reading its weights. Eight read them once, and
what a block remembers of them is worked out without a loop, which a graph of a bundle must not
have: by sums over time, each divided by what has been forgotten since.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto
from torch import nn

from edgeae.signal.speech_stream import FRAMES_OF_A_GRAPH
from export.graph_writer import GraphWriter
from train.speech.codec_network import FLOOR, LEAST_GAIN, MOST_GAIN, Block, SpeechCodec, Stack
from train.speech.codec_signal import (
    BINS,
    CANDIDATES,
    FINE,
    FINE_BINS,
    HEARD,
    UNIT_FLOOR,
)

__all__ = ["decoder_graph", "encoder_graph"]

Weights = npt.NDArray[np.float64]
Ports = list[tuple[str, Sequence[int | str]]]

# What is forgotten over all frames of a run is divided by: exp(80) is within single precision, and
# what a cell keeps of the frame before is more than 5e-5 of it.
_MOST_FORGOTTEN = 80.0 / FRAMES_OF_A_GRAPH
# The pitch is seen as pitch / 32 - 2, the logarithm of a power as (log + 6) / 4.
_PITCH, _POWER = (1 / 32, -2.0), (1 / 4, 6 / 4)


def encoder_graph(network: SpeechCodec) -> onnx.ModelProto:
    """`SpeechCodec.encode_step` for frames that follow each other.

    Inputs `powers` (frames, HEARD), `correlation` (frames, CANDIDATES), `pitch` and `level`
    (frames, 1), `fine` (frames, FINE) and memories (1, channels); outputs `latents`
    (frames, latents) and the memories after the last frame.
    """
    encoder, writer = network.encoder, GraphWriter()
    powers = writer.node("Log", writer.node("Add", "powers", writer.weight(FLOOR)))
    seen = writer.node("Concat", powers, "correlation", "pitch", "level", "fine", axis=1)
    affine = [*[_POWER] * HEARD, *[(1.0, 0.0)] * CANDIDATES, _PITCH, *[(1.0, 0.0)] * (1 + FINE)]
    shown, memories = _stack(writer, encoder.stack, seen, affine)
    # The linear path sees the lowest bins beside what the stack says.
    both = writer.node("Concat", shown, "fine", axis=1)
    weight = np.concatenate([_matrix(encoder.stack.leave), _matrix(encoder.direct)], axis=1)
    latents = _gemm(writer, both, weight, _vector(encoder.stack.leave))
    inputs: Ports = [
        ("powers", ("frames", HEARD)),
        ("correlation", ("frames", CANDIDATES)),
        ("pitch", ("frames", 1)),
        ("level", ("frames", 1)),
        ("fine", ("frames", FINE)),
    ]
    shape = ("frames", network.config.latents)
    return _model(writer, "encoder", inputs, ("latents", latents, shape), encoder.stack, memories)


def decoder_graph(network: SpeechCodec) -> onnx.ModelProto:
    """`SpeechCodec.decode_step` for frames that follow each other.

    Inputs `latents` (frames, latents), `pitch`, `level` and `lost` (frames, 1), `harmonic` and
    `noise` (frames, 2, 2, BINS) and memories (1, channels); outputs `spectra`
    (frames, 2, 2, BINS) and the memories after the last frame.
    """
    decoder, writer = network.decoder, GraphWriter()
    came = writer.node("Mul", "latents", writer.node("Sub", writer.weight(1.0), "lost"))
    seen = writer.node("Concat", came, "pitch", "level", "lost", axis=1)
    affine = [*[(1.0, 0.0)] * network.config.latents, _PITCH, (1.0, 0.0), (1.0, 0.0)]
    shown, memories = _stack(writer, decoder.stack, seen, affine)
    spectra = _shaped(writer, network, writer.node("Concat", shown, came, axis=1))
    windows = ("frames", 2, 2, BINS)
    inputs: Ports = [
        ("latents", ("frames", network.config.latents)),
        ("pitch", ("frames", 1)),
        ("level", ("frames", 1)),
        ("lost", ("frames", 1)),
        ("harmonic", windows),
        ("noise", windows),
    ]
    return _model(writer, "decoder", inputs, ("spectra", spectra, windows), decoder.stack, memories)


def _shaped(writer: GraphWriter, network: SpeechCodec, given: str) -> str:
    """`Decoder.shaped` of what the stack says, normalized, and of the latents behind it."""
    decoder, free = network.decoder, network.decoder.free
    weight, bias = _matrix(decoder.stack.leave), _vector(decoder.stack.leave)
    direct = np.zeros((2, 2, free, network.config.latents))
    direct[:, :, :FINE_BINS] = _matrix(decoder.direct).reshape(2, 2, FINE_BINS, -1)
    # The rows of a window are gains of both sources, turns and what is free; here those of both
    # windows stand together.
    rows = np.arange(2 * decoder.parts).reshape(2, -1)
    strong, hissing, turns, own = np.split(rows, (BINS, 2 * BINS, 2 * BINS + 2 * free), axis=1)
    linear = np.zeros((2 * decoder.parts, network.config.latents))
    linear[own.ravel()] = direct.reshape(4 * free, -1)
    # A turn is 1 and what the network says of its real part.
    bias[turns[:, :free].ravel()] += 1
    order = np.concatenate([part.ravel() for part in (strong, hissing, turns, own)])
    both = np.concatenate([weight, linear], axis=1)[order]
    gains, turned, freed = _split(
        writer, _gemm(writer, given, both, bias[order]), (4 * BINS, 4 * free, 4 * free), axis=1
    )
    gains = writer.node("Clip", gains, writer.weight(LEAST_GAIN), writer.weight(MOST_GAIN))
    one = (-1, 2, 1, BINS)
    tonal, noisy = (
        _reshaped(writer, part, one)
        for part in _split(writer, writer.node("Exp", gains), (2 * BINS, 2 * BINS), axis=1)
    )
    low, high = (
        _split(writer, "harmonic", (free, BINS - free), axis=3)
        if free < BINS
        else (
            "harmonic",
            "",
        )
    )
    # By the phases of the pulses, but not their strength.
    power = writer.node("ReduceSumSquare", low, writer.weight([2], np.int64), keepdims=1)
    strength = writer.node("Sqrt", writer.node("Add", power, writer.weight(float(UNIT_FLOOR))))
    parts = (-1, 2, 2, free)
    factor = writer.node(
        "Add",
        _reshaped(writer, turned, parts),
        writer.node("Div", _reshaped(writer, freed, parts), strength),
    )
    (re, im), (by_re, by_im) = (_split(writer, x, (1, 1), axis=2) for x in (low, factor))
    real = writer.node("Sub", writer.node("Mul", re, by_re), writer.node("Mul", im, by_im))
    imaginary = writer.node("Add", writer.node("Mul", re, by_im), writer.node("Mul", im, by_re))
    harmonic = writer.node("Concat", real, imaginary, axis=2)
    if high:
        harmonic = writer.node("Concat", harmonic, high, axis=3)
    return writer.node(
        "Add", writer.node("Mul", tonal, harmonic), writer.node("Mul", noisy, "noise")
    )


def _stack(
    writer: GraphWriter, stack: Stack, seen: str, affine: Sequence[tuple[float, float]]
) -> tuple[str, list[str]]:
    """What a stack gives its last layer, and its memories after the last frame.

    `affine` has for each number of `seen` by what it is multiplied and what is added then.
    """
    factor, offset = np.array(affine).T
    weight = _matrix(stack.enter)
    x = _gemm(writer, seen, weight, _vector(stack.enter) + weight @ offset, factor)
    memories = []
    for i, block in enumerate(stack.blocks):
        assert isinstance(block, Block)
        x, memory = _block(writer, block, x, f"memory{i}")
        memories.append(memory)
    return _normalized(writer, stack.norm, x), memories


def _block(writer: GraphWriter, block: Block, x: str, memory: str) -> tuple[str, str]:
    """`Block.step` of frames that follow each other."""
    channels = block.norm.normalized_shape[0]
    gates, offsets = _matrix(block.time_in), _vector(block.time_in)
    # How much is forgotten instead of how much is kept.
    gates[:channels], offsets[:channels] = -gates[:channels], -offsets[:channels]
    normalized = _normalized(writer, block.time_norm, x)
    projected = _gemm(writer, normalized, gates, offsets)
    forget, candidate, expose = _split(writer, projected, (channels,) * 3, axis=1)
    # Softplus of this is at most what may be forgotten in a frame.
    most = math.log(math.expm1(_MOST_FORGOTTEN))
    forget = writer.node("Min", forget, writer.weight(most))
    axis = writer.weight(0, np.int64)
    # h[t] = a[t] h[t-1] + (1 - a[t]) c[t] is, with g[t] = 1 / (a[0] ... a[t]),
    # (h[-1] + sum of g[s] (1 - a[s]) c[s] up to t) / g[t].
    kept = writer.node("Softplus", forget)
    grown = writer.node("Exp", writer.node("CumSum", kept, axis))
    new = writer.node("Mul", candidate, writer.node("Sigmoid", forget))
    summed = writer.node("CumSum", writer.node("Mul", new, grown), axis)
    held = writer.node("Div", writer.node("Add", summed, memory), grown)
    shown = writer.node("Mul", held, writer.node("Sigmoid", expose))
    x = writer.node("Add", x, _linear(writer, block.time_out, shown))
    hidden = writer.node("Relu", _linear(writer, block.enter, _normalized(writer, block.norm, x)))
    ends = [writer.weight([n], np.int64) for n in (-1, np.iinfo(np.int64).max, 0)]
    return (
        writer.node("Add", x, _linear(writer, block.leave, hidden)),
        writer.node("Slice", held, *ends),
    )


def _linear(writer: GraphWriter, layer: nn.Linear, x: str) -> str:
    return _gemm(writer, x, _matrix(layer), _vector(layer))


def _gemm(
    writer: GraphWriter,
    x: str,
    weight: Weights,
    bias: Weights,
    factor: Weights | None = None,
) -> str:
    """x (frames, in) by a weight (out, in), which is kept in half precision, then multiplied by
    factors (in,)."""
    made = writer.node("Cast", writer.weight(weight, np.float16), to=TensorProto.FLOAT)
    if factor is not None:
        made = writer.node("Mul", made, writer.weight(factor[None]))
    return writer.node("Gemm", x, made, writer.weight(bias), transB=1)


def _normalized(writer: GraphWriter, norm: nn.LayerNorm, x: str) -> str:
    scale, bias = (writer.weight(part.detach().numpy()) for part in (norm.weight, norm.bias))
    return writer.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=norm.eps)


def _reshaped(writer: GraphWriter, x: str, shape: Sequence[int]) -> str:
    return writer.node("Reshape", x, writer.weight(shape, np.int64))


def _split(writer: GraphWriter, x: str, sizes: Sequence[int], *, axis: int) -> list[str]:
    return writer.nodes("Split", len(sizes), x, writer.weight(sizes, np.int64), axis=axis)


def _model(
    writer: GraphWriter,
    name: str,
    inputs: Ports,
    result: tuple[str, str, Sequence[int | str]],
    stack: Stack,
    memories: Sequence[str],
) -> onnx.ModelProto:
    states = stack.state_shapes()
    public, made_by, shape = result
    outputs: list[tuple[str, str, int, Sequence[int | str]]] = [
        (public, made_by, TensorProto.FLOAT, shape)
    ]
    for (state, size), memory in zip(states.items(), memories, strict=True):
        outputs.append((f"{state}_next", memory, TensorProto.FLOAT, size))
    return writer.model(name, [*inputs, *states.items()], outputs)


def _matrix(layer: nn.Linear) -> Weights:
    return layer.weight.detach().double().numpy().copy()


def _vector(layer: nn.Linear) -> Weights:
    return layer.bias.detach().double().numpy().copy()
