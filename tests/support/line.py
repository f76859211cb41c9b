"""A third family of models, made up for tests: a line through points. One row in each table and
this file are all that it needs."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from train.config import config_from_dict
from train.recipes import Row

ROW = Row("line", "LineRecipe", {})
# In `export.__main__`, this module is the exporter as well.
TASK = "codec"


@dataclass(frozen=True)
class Line:
    inputs: int = 3


@dataclass(frozen=True)
class Points:
    noise: float = 0.1


@dataclass(frozen=True)
class Squares:
    weight: float = 1.0


class LineRecipe:
    sections: ClassVar[dict[str, type]] = {"network": Line, "data": Points, "loss": Squares}

    def __init__(self, config, device):
        self.config = config
        self.network = torch.nn.Linear(config.network.inputs, 1)
        self.slope = torch.arange(1.0, 1.0 + config.network.inputs)

    def start(self):
        pass

    def batch(self, rng):
        x = rng.normal(size=(self.config.optimize.batch_size, self.config.network.inputs))
        x = torch.from_numpy(x.astype(np.float32))
        return x, x @ self.slope

    def loss(self, network, batch, step):
        x, y = batch
        error = (network(x)[:, 0].float() - y).square().mean()
        return self.config.loss.weight * error, {"error": error}

    def validate(self, network):
        with torch.no_grad():
            return {"score": float((network.weight[0] - self.slope).abs().max())}

    def data_summary(self):
        return {"points": {"folders": [], "train": 26, "held_out": 4, "skipped": {}}}


CONFIG = """
name = "line"
task = "line"
[network]
[data]
[loss]
[optimize]
steps = 200
batch_size = 8
learning_rate = 0.1
warmup_steps = 5
ema_decay = 0.5
precision = "float32"
"""


def line_config():
    """The run that `CONFIG` describes."""
    return config_from_dict(tomllib.loads(CONFIG))


def calibration(folders):
    """Nothing to find ranges on."""


def export_model(config, weights, out, inputs):
    """One Gemm from the weights, and a table of nothing."""
    arrays = {name: value.numpy() for name, value in weights.items()}
    size = config.network.inputs
    nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], name="gemm", transB=1)]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [onnx.numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, out / "encoder.fp32.onnx")
    return {
        "graphs": {"encoder": {"fp32": "encoder.fp32.onnx"}},
        "layout": {"kind": "points"},
        "latent": {"values": 1},
        "figures": {"parameters": size + 1},
    }


def verify(bundle, inputs):
    """What a reader of the bundle finds."""
    return {"nodes": 1}
