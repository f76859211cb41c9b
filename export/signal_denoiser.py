"""The step graph of a denoiser of sensor signals: exported, and held against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeae.bench.sample_denoiser import self_test
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from edgeae.signal.denoiser import SignalDenoiser as RunningDenoiser
from export.parity import ExportError
from export.torch_graph import write_torch_graph
from train.config import Config
from train.signal.denoiser_network import SignalDenoiser

# Root mean squares of the difference and of the output: 90 dB apart, as for speech.
_TOLERANCE = 3e-5

TASK = "denoiser"


def calibration(folders: tuple[str, ...]) -> None:
    """Nothing: the graph stays in floating point, so there are no ranges to find."""


def export_model(
    config: Config, weights: dict[str, torch.Tensor], out: Path, inputs: None
) -> dict[str, Any]:
    """What the manifest needs, with the step graph written; raises ExportError."""
    network = SignalDenoiser(config.network)
    network.load_state_dict(weights)
    return export_denoiser(network, out)


def verify(bundle: Path, inputs: None) -> dict[str, Any]:
    """No figures; the package must take the bundle and its own checks must hold of it."""
    list(self_test(RunningDenoiser.load(bundle)))
    return {}


class _Step(nn.Module):
    """`SignalDenoiser.step` as a forward."""

    def __init__(self, network: SignalDenoiser) -> None:
        super().__init__()
        self.network = network

    def forward(self, noisy: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.network.step(noisy, *states)


def export_denoiser(
    network: SignalDenoiser, out: Path, *, hops: int = 60, unit: str = "mV"
) -> dict[str, Any]:
    """What a denoiser's manifest needs, with the step graph written into the folder `out`.

    Raises:
        ExportError: the graph, stepped over `hops` hops with carried state, differs from torch's
            pass over the whole by more than 3e-5 of the output.
    """
    network = network.eval().cpu().float()
    config = network.config
    out.mkdir(parents=True, exist_ok=True)
    file = out / "step.fp32.onnx"
    shapes = network.state_shapes()
    model = write_torch_graph(
        _Step(network),
        (torch.zeros(1, config.hop_samples), *(torch.zeros(s) for s in shapes.values())),
        file,
        name="step",
        inputs=["noisy", *(f"{name}_before" for name in shapes)],
        outputs=["clean", *(f"{name}_after" for name in shapes)],
    )
    _compare(network, Graph(read_graph(file)), hops)
    return {
        "graphs": {"step": {"fp32": file}},
        "layout": {
            "kind": "signal",
            "channels": 1,
            "sample_rate_hz": config.rate_hz,
            "unit": unit,
        },
        "stream": {
            "hop_samples": config.hop_samples,
            "lookahead_samples": config.lookahead_samples,
            "state": {name: list(shape) for name, shape in shapes.items()},
        },
        "figures": {
            "nodes": len(model.graph.node),
            "parameters": sum(p.numel() for p in network.parameters()),
            "delay_ms": round(
                1000 * (config.lookahead_samples + config.hop_samples) / config.rate_hz, 1
            ),
        },
    }


def _compare(network: SignalDenoiser, graph: Graph, hops: int) -> None:
    hop = network.config.hop_samples
    noisy = torch.from_numpy(np.random.default_rng(5).normal(0, 1, (1, hops * hop)))
    noisy = noisy.float()
    with torch.no_grad():
        whole = network(noisy).numpy()
    states = [np.zeros(shape, np.float32) for shape in network.state_shapes().values()]
    parts = []
    for block in np.split(noisy.numpy(), hops, axis=1):
        clean, *states = graph(np.ascontiguousarray(block), *states)
        parts.append(clean)
    error = _rms(np.concatenate(parts, axis=1) - whole) / max(_rms(whole), 1e-3)
    if not error <= _TOLERANCE:  # NaN fails too
        raise ExportError(
            f"{graph.file.name}, hop by hop, is {error:.2g} away from torch's pass over the whole, "
            f"expected at most {_TOLERANCE:.0e}"
        )


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))
