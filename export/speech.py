"""The speech denoiser's step graph: exported, slimmed, and held against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeae.bench.arithmetic import work_of
from edgeae.loading import load
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from export.parity import ExportError
from export.torch_graph import write_torch_graph
from train.config import Config
from train.speech.hop import SpeechHop
from train.speech.loss import spectrum_of
from train.speech.network import SAMPLE_RATE_HZ, SpeechDenoiser, SpeechNetwork

# Root mean squares of the difference and of the output: 90 dB apart. What single precision rounds
# comes to 7e-6 in the shipped bundle; one wrong value in a thousand would come to 3e-2.
_TOLERANCE = 3e-5

TASK = "denoiser"


def calibration(folders: tuple[str, ...]) -> None:
    """Nothing: the graph stays in floating point, so there are no ranges to find."""


def export_model(
    config: Config, weights: dict[str, torch.Tensor], out: Path, inputs: None
) -> dict[str, Any]:
    """What a denoiser's manifest needs, with the step graph written; see `export_denoiser`."""
    network = SpeechDenoiser(config.network)
    network.load_state_dict(weights)
    return export_denoiser(network, config.network, out)


def verify(bundle: Path, inputs: None) -> dict[str, Any]:
    """No figures; the package must take the bundle. Raises EdgeaeError if it does not."""
    load(bundle)
    return {}


def export_denoiser(
    network: SpeechDenoiser, config: SpeechNetwork, out: Path, *, hops: int = 50
) -> dict[str, Any]:
    """What a denoiser's manifest needs, with the step graph written into the folder `out`.

    The result has `graphs` (role -> precision -> file), `layout`, `stream`, and `figures` (nodes,
    parameters and multiply-adds per second).

    Raises:
        ExportError: the graph, stepped over `hops` hops with carried state, differs from torch's
            hop or from torch's whole-sequence pass by more than 3e-5 of the output.
    """
    network = network.eval().cpu().float()
    hop = SpeechHop(network).eval()
    out.mkdir(parents=True, exist_ok=True)
    file = out / "step.fp32.onnx"
    shapes = network.state_shapes()
    model = write_torch_graph(
        hop,
        (torch.zeros(1, 2, config.bins), *(torch.zeros(shape) for shape in shapes.values())),
        file,
        name="step",
        inputs=["spectrum", *shapes],
        outputs=["clean", *(f"{name}_next" for name in shapes)],
    )
    _compare(network, hop, Graph(read_graph(file)), file, hops)
    first = [np.zeros((1, 2, config.bins), np.float32)]
    first += [np.zeros(shape, np.float32) for shape in shapes.values()]
    work = work_of(file, first, repeats=1)
    return {
        "graphs": {"step": {"fp32": file}},
        "layout": {"kind": "audio", "channels": 1, "sample_rate_hz": SAMPLE_RATE_HZ},
        "stream": {
            "window_samples": config.window_samples,
            "hop_samples": config.hop_samples,
            "window": "sqrt_hann",
            "state": {name: list(shape) for name, shape in shapes.items()},
        },
        "figures": {
            "nodes": len(model.graph.node),
            "parameters": sum(p.numel() for p in network.parameters()),
            "multiply_adds_per_second": work.multiply_adds * SAMPLE_RATE_HZ // config.hop_samples,
        },
    }


def _compare(network: SpeechDenoiser, hop: SpeechHop, graph: Graph, file: Path, hops: int) -> None:
    spectrum = _test_spectrum(network.config, hops)
    shapes = network.state_shapes()
    states = [np.zeros(shape, np.float32) for shape in shapes.values()]
    torch_states = [torch.zeros(shape) for shape in shapes.values()]
    with torch.no_grad():
        whole = network(spectrum).numpy()
        for t in range(hops):
            noisy = spectrum[:, :, t].contiguous()
            clean, *states = graph(noisy.numpy(), *states)
            expected, *torch_states = hop(noisy, *torch_states)
            names = ("clean", *shapes)
            for name, got, want in zip(
                names, (clean, *states), (expected, *torch_states), strict=True
            ):
                _agree(got, want.numpy(), f"{file.name}: {name} of hop {t} against torch's hop")
            _agree(clean, whole[:, :, t], f"{file.name}: hop {t} against torch's whole sequence")


def _agree(got: np.ndarray, want: np.ndarray, where: str) -> None:
    if got.shape != want.shape:
        raise ExportError(f"{where}: shape {got.shape}, expected {want.shape}")
    error = _rms(got - want) / max(_rms(want), 1e-3)
    # Written so that NaN fails too.
    if not error <= _TOLERANCE:
        raise ExportError(f"{where}: relative error {error:.2g}, expected at most {_TOLERANCE:.0e}")


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def _test_spectrum(config: SpeechNetwork, hops: int) -> torch.Tensor:
    """Loud and soft noise, a tone and digital silence, as spectra (1, 2, hops, bins)."""
    samples = (hops + 1) * config.hop_samples
    rng = np.random.default_rng(5)
    audio = 0.1 * rng.standard_normal(samples)
    audio += 0.3 * np.sin(np.arange(samples) * 0.07)
    audio *= np.exp(-3 * np.linspace(0, 1, samples))
    audio[samples // 2 : samples * 3 // 5] = 0.0
    return spectrum_of(
        torch.from_numpy(audio.astype(np.float32))[None],
        window_samples=config.window_samples,
        hop_samples=config.hop_samples,
    )
