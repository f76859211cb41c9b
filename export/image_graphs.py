"""ONNX graphs of the photo codec's transforms, node by node, from the weights of its torch modules.

They are written out rather than traced, because each is a handful of operators whose choice
matters: block transforms become strided convolutions and DepthToSpace, which every runtime takes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto
from torch import nn

from export.graph_writer import GraphWriter
from train.image.network import REFERENCE_STEP, STRIDE, Analysis, Synthesis
from train.layers import SeparableResidual

__all__ = ["decoder_graph", "encoder_graph"]

Reach = npt.NDArray[np.float64]


def _residual(writer: GraphWriter, x: str, block: SeparableResidual) -> tuple[str, list[str]]:
    """The block's output, and its nodes for which 8 bits are too few or too slow: the depthwise
    convolution and the sum."""
    pad = block.spatial.padding[0]
    seen = writer.conv(x, block.spatial.weight, None, group=block.spatial.groups, pads=[pad] * 4)
    inner = writer.node("Relu", writer.conv(seen, block.widen.weight, block.widen.bias))
    total = writer.node("Add", x, writer.conv(inner, block.narrow.weight, block.narrow.bias))
    return total, [seen, total]


def _as_strided(conv: nn.Conv2d, factor: int) -> torch.Tensor:
    """The strided convolution that equals pixel_unshuffle by `factor` and then a 1x1
    convolution."""
    outs, ins = conv.weight.shape[:2]
    return conv.weight.detach().reshape(outs, ins // factor**2, factor, factor)


def encoder_graph(analysis: Analysis, reach: Reach) -> tuple[onnx.ModelProto, list[str]]:
    """Pixels (1, 3, H, W) in [0, 1] to latents, and the names of the nodes that must stay in
    float: the linear path and the sum.

    Args:
        analysis: the network.
        reach: the largest magnitude of what it adds to each latent of the linear path, (latent,).
            Divided by it before 8 bits hold it, each has all of their range.
    """
    writer = GraphWriter()
    # pixel_unshuffle by 8 and then by 2 orders a block as (channel, row in 8, column in 8, row,
    # column); the strided kernel wants rows and columns of the whole block together.
    outs = analysis.linear.weight.shape[0]
    linear = analysis.linear.weight.detach().reshape(outs, 3, 8, 8, 2, 2)
    linear = linear.permute(0, 1, 4, 2, 5, 3).reshape(outs, 3, STRIDE, STRIDE)
    straight = writer.conv("pixels", linear, analysis.linear.bias, strides=[STRIDE, STRIDE])
    enter = _as_strided(analysis.enter, 8)
    assert analysis.enter.bias is not None
    # The network sees pixels around zero.
    bias = analysis.enter.bias.detach() - 0.5 * enter.sum((1, 2, 3))
    x = writer.conv("pixels", enter, bias, strides=[8, 8])
    for block in analysis.blocks:
        assert isinstance(block, SeparableResidual)
        x, _ = _residual(writer, x, block)
    unit = torch.from_numpy(np.maximum(reach, 1e-6)).float()
    assert analysis.leave.bias is not None
    left = writer.conv(
        x,
        _as_strided(analysis.leave, 2) / unit[:, None, None, None],
        analysis.leave.bias.detach() / unit,
        strides=[2, 2],
    )
    learned = writer.node("Mul", left, writer.weight(unit[:, None, None].numpy()))
    total = writer.node("Add", straight, learned)
    model = writer.model(
        "encoder",
        [("pixels", (1, 3, "height", "width"))],
        [("latents", total, TensorProto.FLOAT, (1, outs, "h16", "w16"))],
    )
    return model, [straight, learned, total]


def decoder_graph(synthesis: Synthesis) -> tuple[onnx.ModelProto, list[str]]:
    """Latents (1, latent, h, w) and level (1, 1, 1, 1) in [0, 1] to pixels (1, 3, 16 h, 16 w), and
    the names of the nodes that must stay in float: all but the wide products inside blocks."""
    writer = GraphWriter()
    linear = writer.conv("latents", synthesis.linear.weight, synthesis.linear.bias)
    straight = writer.node("DepthToSpace", linear, blocksize=2, mode="CRD")
    entered = writer.conv("latents", synthesis.enter.weight / REFERENCE_STEP, synthesis.enter.bias)
    condition = writer.conv("level", synthesis.condition.weight, None)
    conditioned = writer.node("Add", entered, condition)
    x = writer.node("DepthToSpace", conditioned, blocksize=2, mode="CRD")
    in_float = [linear, straight, entered, condition, conditioned, x]
    for block in synthesis.blocks:
        assert isinstance(block, SeparableResidual)
        x, kept = _residual(writer, x, block)
        in_float += kept
    left = writer.conv(x, synthesis.leave.weight, synthesis.leave.bias)
    cells = writer.node("Add", straight, left)
    pixels = writer.node("DepthToSpace", cells, blocksize=8, mode="CRD")
    latent = synthesis.linear.weight.shape[1]
    model = writer.model(
        "decoder",
        [("latents", (1, latent, "h", "w")), ("level", (1, 1, 1, 1))],
        [("pixels", pixels, TensorProto.FLOAT, (1, 3, "height", "width"))],
    )
    return model, [*in_float, left, cells, pixels]
