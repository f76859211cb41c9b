"""ONNX graphs of the photo denoiser, node by node, from the weights of its torch modules."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import nn

from export.graph_writer import GraphWriter
from train.denoiser.network import LEVEL_GAIN, LevelEstimator, PhotoDenoiser, Residual

__all__ = ["denoiser_graph", "estimator_graph"]

_SHAPE = ("height", "width")


def denoiser_graph(network: PhotoDenoiser) -> tuple[onnx.ModelProto, list[str]]:
    """Pixels (1, 3, H, W) in [0, 1], level and known (1, 1, H, W) to restored pixels, and the
    names of the nodes for which 8 bits are too few: what works at half resolution, sums, and what
    carries pixels around the network.

    On photographs that calibration does not see, 8 bits lose 0.0 dB so. With the convolutions at
    half resolution on the way up in 8 bits too they lose 0.16 and 0.07 under Gaussian noise of 5
    and 15. What leaves half resolution on the way down is all that coarser levels know of pixels:
    in 8 bits its steps are larger than a camera's noise of 3, and smooth photographs lose 0.2 to
    0.6 dB."""
    writer = GraphWriter()
    half = writer.weight(np.float32(0.5))
    centered = writer.node("Sub", "pixels", half)
    smooth = network.config.smooth_holes
    seen = centered if smooth else writer.node("Mul", centered, "known")
    everything = writer.node("Concat", seen, "level", "known", axis=1)
    # The network sees levels times a gain, which goes into the weights.
    gains = torch.tensor([1.0, 1.0, 1.0, LEVEL_GAIN, 1.0])
    enter = _unshuffled(network.enter) * gains[None, :, None, None]
    entered = writer.conv(everything, enter, network.enter.bias, strides=[2, 2], pads=[2, 2, 2, 2])
    x = writer.node("Relu", entered)
    in_float = [centered, seen, everything, entered, x]
    skipped = []
    for i, blocks in enumerate(network.down_blocks):
        x, kept = _residuals(writer, x, blocks, in_float=i == 0)
        in_float += kept
        if i < len(network.down):
            skipped.append(x)
            lowered = _conv(writer, x, network.down[i], strides=[2, 2])
            x = writer.node("Relu", lowered)
            in_float += [lowered, x] if i == 0 else ()
    for i in reversed(range(len(network.up))):
        wide = _conv(writer, x, network.up[i])
        raised = writer.node("DepthToSpace", wide, blocksize=2, mode="CRD")
        joined = writer.node("Add", skipped[i], raised)
        x, kept = _residuals(writer, joined, network.up_blocks[i], in_float=i == 0)
        # What comes up to half resolution is one of the terms of a sum in float.
        in_float += [joined, *kept, *((wide, raised) if i == 0 else ())]
    left = _conv(writer, writer.node("Relu", x), network.leave, pads=[1, 1, 1, 1])
    change = writer.node("DepthToSpace", left, blocksize=2, mode="CRD")
    around = "pixels" if smooth else writer.node("Add", seen, half)
    total = writer.node("Add", around, change)
    model = writer.model(
        "denoiser",
        [("pixels", (1, 3, *_SHAPE)), ("level", (1, 1, *_SHAPE)), ("known", (1, 1, *_SHAPE))],
        [("restored", total, TensorProto.FLOAT, (1, 3, *_SHAPE))],
    )
    return model, [*in_float, left, change, *_makers(model, total)]


def estimator_graph(estimator: LevelEstimator) -> onnx.ModelProto:
    """Pixels (1, 3, H, W) in [0, 1] to noise levels (1, 1, H / 8, W / 8)."""
    writer = GraphWriter()
    centered = writer.node("Sub", "pixels", writer.weight(np.float32(0.5)))
    x = writer.conv(
        centered,
        _unshuffled(estimator.fine),
        estimator.fine.bias,
        strides=[2, 2],
        pads=[2, 2, 2, 2],
    )
    x = writer.node("Relu", x)
    for conv in (
        estimator.halve,
        estimator.middle,
        estimator.again,
        estimator.coarse,
        estimator.last,
        estimator.leave,
    ):
        pad = conv.kernel_size[0] // 2 if conv.stride == (1, 1) else 0
        x = writer.node("Relu", _conv(writer, x, conv, strides=list(conv.stride), pads=[pad] * 4))
    return writer.model(
        "estimator",
        [("pixels", (1, 3, *_SHAPE))],
        [("levels", x, TensorProto.FLOAT, (1, 1, "rows", "columns"))],
    )


def _conv(writer: GraphWriter, x: str, conv: nn.Module, **attributes: object) -> str:
    assert isinstance(conv, nn.Conv2d)
    return writer.conv(x, conv.weight, conv.bias, **attributes)


def _residuals(
    writer: GraphWriter, x: str, blocks: nn.Module, *, in_float: bool
) -> tuple[str, list[str]]:
    """The output of residual blocks, and those of their nodes that stay in float: sums, and with
    `in_float` all."""
    assert isinstance(blocks, nn.Sequential)
    kept = []
    for block in blocks:
        assert isinstance(block, Residual)
        first = _conv(writer, x, block.first, pads=[1, 1, 1, 1])
        inner = writer.node("Relu", first)
        second = _conv(writer, inner, block.second, pads=[1, 1, 1, 1])
        x = writer.node("Add", x, second)
        kept += [first, inner, second, x] if in_float else [x]
    return x, kept


def _unshuffled(conv: nn.Conv2d) -> torch.Tensor:
    """The strided 6x6 convolution that equals pixel_unshuffle by 2 and then this 3x3 one."""
    weight = conv.weight.detach()
    outs, ins = weight.shape[0], weight.shape[1] // 4
    parts = weight.reshape(outs, ins, 2, 2, 3, 3).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(outs, ins, 6, 6)


def _makers(model: onnx.ModelProto, output: str) -> list[str]:
    """The node that makes a value, and the Add before it, if there is one."""
    by_output = {node.output[0]: node for node in model.graph.node}
    last = by_output[output]
    before = by_output.get(last.input[0])
    return [last.name] if before is None else [last.name, before.name]
