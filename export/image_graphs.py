"""ONNX graphs of the photo codec's transforms, node by node, from the weights of its torch modules.

They are written out rather than traced, because each is a handful of operators whose choice
matters: block transforms become strided convolutions and DepthToSpace, which every runtime takes.
"""

from __future__ import annotations

import onnx
import torch
from onnx import TensorProto
from torch import nn

from export.graph_writer import GraphWriter
from train.image.network import CELL, Analysis, Synthesis
from train.layers import DenseResidual

__all__ = ["decoder_graph", "encoder_graph"]


def _residuals(writer: GraphWriter, x: str, blocks: nn.Module) -> tuple[str, list[str]]:
    """The output of residual blocks, and the nodes for which 8 bits are too few: sums and what is
    added, which is a tenth of a block's work."""
    in_float = []
    for block in blocks.children():
        assert isinstance(block, DenseResidual)
        # A name of its own for what the convolution sees: 8 bits are for that, not for the sum,
        # and `even_inputs` finds it.
        seen = writer.node("Identity", x)
        inner = writer.conv(seen, block.spatial.weight, block.spatial.bias, pads=[1] * 4)
        inner = writer.node("Relu", inner)
        added = writer.conv(inner, block.narrow.weight, block.narrow.bias)
        x = writer.node("Add", x, added)
        in_float += [added, x]
    return x, in_float


def _as_strided(conv: nn.Conv2d, factor: int) -> torch.Tensor:
    """The strided convolution that equals pixel_unshuffle by `factor` and then a 1x1
    convolution."""
    outs, ins = conv.weight.shape[:2]
    return conv.weight.detach().reshape(outs, ins // factor**2, factor, factor)


def encoder_graph(analysis: Analysis) -> tuple[onnx.ModelProto, list[str]]:
    """Pixels (1, 3, H, W) in [0, 1] to latents, and the names of the nodes that must stay in
    float: all but the 3x3 convolutions of blocks and those that lead to and from the fine ones."""
    writer = GraphWriter()
    x = writer.conv(
        "pixels", _as_strided(analysis.enter, CELL), analysis.enter.bias, strides=[CELL] * 2
    )
    in_float = [x]
    if analysis.fine_enter is not None and analysis.fine_leave is not None:
        kernel = _as_strided(analysis.fine_enter, 4)
        assert analysis.fine_enter.bias is not None
        # These blocks see pixels around zero.
        bias = analysis.fine_enter.bias.detach() - 0.5 * kernel.sum((1, 2, 3))
        fine = writer.conv("pixels", kernel, bias, strides=[4, 4])
        fine, sums = _residuals(writer, fine, analysis.fine_blocks)
        left = writer.conv(
            fine, _as_strided(analysis.fine_leave, 2), analysis.fine_leave.bias, strides=[2, 2]
        )
        x = writer.node("Add", x, left)
        in_float += [*sums, x]
    x, sums = _residuals(writer, x, analysis.blocks)
    y = writer.conv(x, _as_strided(analysis.leave, 2), analysis.leave.bias, strides=[2, 2])
    in_float += [*sums, y]
    y, sums = _residuals(writer, y, analysis.deep_blocks)
    latents = writer.node("Mul", y, writer.weight(analysis.unit.numpy()))
    model = writer.model(
        "encoder",
        [("pixels", (1, 3, "height", "width"))],
        [("latents", latents, TensorProto.FLOAT, (1, len(analysis.unit), "h16", "w16"))],
    )
    return model, [*in_float, *sums, latents]


def decoder_graph(synthesis: Synthesis) -> tuple[onnx.ModelProto, list[str]]:
    """Latents (1, latent, h, w) and level (1, 1, 1, 1) in [0, 1] to pixels (1, 3, 16 h, 16 w), and
    the names of the nodes that must stay in float: all but the 3x3 convolutions of blocks."""
    writer = GraphWriter()
    latent = len(synthesis.unit)
    even = writer.node("Mul", "latents", writer.weight((1 / synthesis.unit).numpy()))
    deep_condition = writer.conv("level", synthesis.deep_condition.weight, None)
    y = writer.node("Add", even, deep_condition)
    in_float = [even, deep_condition, y]
    y, sums = _residuals(writer, y, synthesis.deep_blocks)
    entered = writer.conv(y, synthesis.enter.weight, synthesis.enter.bias)
    condition = writer.conv("level", synthesis.condition.weight, None)
    conditioned = writer.node("Add", entered, condition)
    x = writer.node("DepthToSpace", conditioned, blocksize=2, mode="CRD")
    in_float += [*sums, entered, condition, conditioned, x]
    x, sums = _residuals(writer, x, synthesis.blocks)
    cells = writer.conv(x, synthesis.leave.weight, synthesis.leave.bias)
    pixels = writer.node("DepthToSpace", cells, blocksize=CELL, mode="CRD")
    model = writer.model(
        "decoder",
        [("latents", (1, latent, "h", "w")), ("level", (1, 1, 1, 1))],
        [("pixels", pixels, TensorProto.FLOAT, (1, 3, "height", "width"))],
    )
    return model, [*in_float, *sums, cells, pixels]
