"""The largest value that every sum in an integer graph can take, from its weights alone."""

from __future__ import annotations

import numpy as np
import onnx

from edgeae.coding.context import SYMBOL_LIMIT
from export.context_graph import SUM_LIMIT


class Bounds:
    """Per channel, how far the values of a context graph can reach, and that they are integers.

    Interval arithmetic over the nodes. Wherever numbers are summed, the sum of their magnitudes is
    held below the limit: then every partial sum, in whatever order, is an exact float32.
    """

    def __init__(self, model):
        self.constants = {
            tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float64)
            for tensor in model.graph.initializer
        }
        # name -> (lowest, highest, whole), each (channels,) but the last.
        self.known = {}
        for port in model.graph.input:
            channels = port.type.tensor_type.shape.dim[1].dim_value
            high = np.array([64.0, 1.0]) if port.name == "setting" else SYMBOL_LIMIT
            low = 0.0 if port.name == "setting" else -SYMBOL_LIMIT
            self.known[port.name] = (np.full(channels, low), np.broadcast_to(high, channels), True)
        # name -> exponents: the values are whole multiples of 2 ** -exponent.
        self.units = {}
        self.largest_sum = 0.0
        for node in model.graph.node:
            self.known[node.output[0]] = getattr(self, f"of_{node.op_type.lower()}")(node)

    def summed(self, magnitudes):
        assert (magnitudes < SUM_LIMIT).all()
        self.largest_sum = max(self.largest_sum, magnitudes.max())

    def of_identity(self, node):
        return self.known[node.input[0]]

    of_cast = of_identity

    def of_abs(self, node):
        low, high, whole = self.known[node.input[0]]
        return np.zeros_like(low), np.maximum(-low, high), whole

    def of_min(self, node):
        low, high, whole = self.known[node.input[0]]
        limit = float(self.constants[node.input[1]])
        return np.minimum(low, limit), np.minimum(high, limit), whole and limit == round(limit)

    def of_clip(self, node):
        low, high, whole = self.known[node.input[0]]
        ends = [float(self.constants[name]) for name in node.input[1:]]
        assert all(end == round(end) for end in ends)
        return np.clip(low, *ends), np.clip(high, *ends), whole

    def of_mul(self, node):
        low, high, whole = self.known[node.input[0]]
        factor = np.broadcast_to(self.constants[node.input[1]].ravel(), low.shape)
        # Powers of two keep every bit; other whole factors must stay below the limit.
        powers = np.frexp(np.abs(factor))[0] == 0.5
        assert whole and (factor > 0).all()
        assert (powers | (np.maximum(-low, high) * factor < SUM_LIMIT)).all()
        return low * factor, high * factor, bool((factor == np.round(factor)).all())

    def of_floor(self, node):
        low, high, _ = self.known[node.input[0]]
        return np.floor(low), np.floor(high), True

    def of_add(self, node):
        (low, high, whole), (low2, high2, whole2) = (self.known[name] for name in node.input)
        assert whole and whole2
        self.summed(np.maximum(-low, high) + np.maximum(-low2, high2))
        return low + low2, high + high2, True

    def of_concat(self, node):
        parts = [self.known[name] for name in node.input]
        lows, highs = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        return lows, highs, all(part[2] for part in parts)

    def of_slice(self, node):
        low, high, whole = self.known[node.input[0]]
        start, stop, axis = (int(self.constants[name].item()) for name in node.input[1:])
        assert axis == 1
        return low[start:stop], high[start:stop], whole

    def of_reshape(self, node):
        self.units[node.output[0]] = self.units.get(node.input[0], 0)
        return self.known[node.input[0]]

    def of_conv(self, node):
        low, high, whole = self.known[node.input[0]]
        weight = self.constants[node.input[1]]
        added = node.input[2] if len(node.input) == 3 else None
        bias = self.constants.get(added, np.zeros(len(weight)))
        # What each output is a multiple of: a power of two, by which its sum can be scaled.
        rows = np.concatenate([weight.reshape(len(weight), -1), bias[:, None]], axis=1)
        units = np.array([next(k for k in range(-25, 26) if _whole(row * 2.0**k)) for row in rows])
        low_bias = high_bias = bias
        if added is not None and added not in self.constants:
            low_bias, high_bias, _ = self.known[added]
            units = np.maximum(units, self.units[added])
        assert whole
        groups = {a.name: a.i for a in node.attribute}.get("group", 1)
        assert len(low) == weight.shape[1] * groups
        # Zeros come in at the edges.
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        lows, highs, reach = np.zeros((3, len(weight)))
        for out, kernel in enumerate(weight.reshape(len(weight), weight.shape[1], -1)):
            group = out // (len(weight) // groups)
            seen = slice(group * weight.shape[1], (group + 1) * weight.shape[1])
            up, down = kernel.clip(min=0).sum(1), kernel.clip(max=0).sum(1)
            lows[out] = up @ low[seen] + down @ high[seen] + low_bias[out]
            highs[out] = up @ high[seen] + down @ low[seen] + high_bias[out]
            widest = np.maximum(-low[seen], high[seen])
            furthest = max(-low_bias[out], high_bias[out])
            reach[out] = np.abs(kernel).sum(1) @ widest + furthest
        self.summed(reach * 2.0**units)
        self.units[node.output[0]] = units
        return lows, highs, bool((units <= 0).all())


def _whole(values):
    return bool((values == np.round(values)).all())
