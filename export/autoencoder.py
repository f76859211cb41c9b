"""The bundle of an autoencoder: encoder and decoder graphs, held against torch, and the spread of
its latents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import edgeae.autoencoder
from edgeae.bench.autoencoder import self_test
from edgeae.bundle import find
from edgeae.coding.item_latent import table_bytes
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from export.item_tables import MAX_CODED_LATENTS, item_latent
from export.mixture import choose_mixture
from export.parity import ExportError
from export.quantize import quantize
from export.torch_graph import write_torch_graph
from train.autoencoder.data import read_items
from train.autoencoder.network import Autoencoder
from train.autoencoder.recipe import with_mask
from train.config import Config

# Graph and torch may differ by rounding alone: so much of the largest value.
_TOLERANCE = 2e-5
# int8 may lose so much of the reconstruction: its error beside that of fp32.
INT8_BUDGET = 1.25
# Items that graphs are calibrated and checked on.
_CHECKED = 512
# Items whose latents show how they are spread.
_SPREAD = 20_000
KINDS = {"dense": "vector", "conv1d": "signal", "conv2d": "image"}


TASK = "autoencoder"


def calibration(folders: tuple[str, ...]) -> tuple[str, ...]:
    """The folders to find ranges on; without any, those that the run learned from are taken."""
    return () if folders == ("synthetic",) else folders


def export_model(
    config: Config, weights: dict[str, torch.Tensor], out: Path, inputs: tuple[str, ...]
) -> dict[str, Any]:
    """What an autoencoder's manifest needs, with graphs and latents written into `out`.

    Raises:
        ExportError: a graph disagrees with torch.
        ValueError: the data are not there any more, or of another shape.
    """
    data = dataclasses.replace(config.data, folders=inputs) if inputs else config.data
    items = read_items(data, config.network.network, config.seed)
    shape = tuple(weights["mean"].shape)
    if items.shape != shape:
        raise ValueError(
            f"items of {', '.join(data.folders)} have shape {items.shape}, the model's {shape}"
        )
    network = Autoencoder(config.network, shape)
    network.load_state_dict(weights)
    held_out = np.concatenate([items.validation, items.training])[:_CHECKED]
    # Where values are missing the mean stands in, as it does in training.
    mean = weights["mean"].numpy()
    held_out = np.where(np.isnan(held_out), mean, held_out).astype(np.float32)
    parts = export_autoencoder(
        network,
        out,
        held_out,
        names=items.names,
        dtype="uint8" if items.pictures else "float32",
    )
    latents = _latents(network, items.training[:_SPREAD])
    if config.network.latent <= MAX_CODED_LATENTS:
        coder = item_latent(network, latents, parts["figures"]["reconstruction_error"])
        (out / "tables.bin").write_bytes(table_bytes(coder))
        parts["files"].append("tables.bin")
    mixture = choose_mixture(latents, _latents(network, items.validation[:_SPREAD]))
    if mixture is not None:
        np.save(out / "mixture.npy", mixture.packed())
        parts["files"].append("mixture.npy")
        parts["latent"]["mixture"] = len(mixture.weights)
    return parts


@torch.no_grad()
def _latents(network: Autoencoder, items: np.ndarray) -> np.ndarray:
    """Latents (N, latents) of items (N, *shape); NaN where a value is missing."""
    found = [
        network.eval().encode(*with_mask(items[start : start + 500]))[0].numpy()
        for start in range(0, len(items), 500)
    ]
    return np.concatenate(found) if found else np.zeros((0, network.config.latent), np.float32)


def verify(bundle: Path, inputs: tuple[str, ...]) -> dict[str, Any]:
    """No figures; the package must take the bundle and its own checks must hold of it."""
    for precision in find(bundle).manifest.graphs["encoder"]:
        list(self_test(edgeae.autoencoder.Autoencoder.load(bundle, precision=precision)))
    return {}


class _EncoderGraph(torch.nn.Module):
    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        return self.network.encode(x, known)[0]


class _DecoderGraph(torch.nn.Module):
    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.network.decode(latents)


def export_autoencoder(
    network: Autoencoder, folder: Path, items: np.ndarray, *, names: tuple[str, ...], dtype: str
) -> dict[str, Any]:
    """Write graphs and latents.npy into the folder; the parts of the manifest.

    Args:
        network: with its averaged weights.
        folder: the bundle's.
        items: some of the data, float32 (N, *shape) without missing values: for int8 calibration
            and for the checks.
        names: names of the entries along the last axis, or none.
        dtype: "uint8" for pictures, whose items are pixels in [0, 1]; else "float32".

    Raises:
        ExportError: a graph disagrees with torch, or int8 loses too much.
    """
    network = network.eval()
    masked = network.config.masked
    x = torch.from_numpy(items[:8])
    arguments = (x, torch.ones_like(x)) if masked else (x,)
    encoder = _write(
        _EncoderGraph(network),
        arguments,
        ["x", "known"][: len(arguments)],
        "latents",
        folder / "encoder.fp32.onnx",
    )
    with torch.no_grad():
        latents = network.encode(*arguments)[0]
    decoder = _write(
        _DecoderGraph(network), (latents,), ["latents"], "x", folder / "decoder.fp32.onnx"
    )
    _check_parity(network, encoder, decoder, items)
    graphs = {role: {"fp32": folder / f"{role}.fp32.onnx"} for role in ("encoder", "decoder")}
    figures: dict[str, Any] = {
        "parameters": sum(p.numel() for p in network.parameters()),
        "encoder_bytes": graphs["encoder"]["fp32"].stat().st_size,
        "decoder_bytes": graphs["decoder"]["fp32"].stat().st_size,
        "reconstruction_error": _error(network, items, encoder, decoder),
    }
    figures |= _quantized(network, folder, items, graphs)
    mean, factor = network.get_buffer("latent_mean"), network.get_buffer("latent_factor")
    np.save(folder / "latents.npy", torch.cat([mean[None], factor]).numpy().astype(np.float32))
    return {
        "layout": {
            "kind": KINDS[network.config.network],
            "shape": list(network.shape),
            "dtype": dtype,
            "names": list(names),
        },
        "latent": {"size": network.config.latent, "masked": masked},
        "graphs": graphs,
        "files": ["latents.npy"],
        "figures": figures,
    }


def _write(
    module: torch.nn.Module,
    arguments: tuple[torch.Tensor, ...],
    inputs: list[str],
    output: str,
    file: Path,
) -> Graph:
    count = torch.export.Dim("n", min=1, max=1 << 16)
    write_torch_graph(
        module,
        arguments,
        file,
        name=file.name.split(".")[0],
        inputs=inputs,
        outputs=[output],
        dynamic_shapes=tuple({0: count} for _ in arguments),
    )
    return Graph(read_graph(file))


def _check_parity(network: Autoencoder, encoder: Graph, decoder: Graph, items: np.ndarray) -> None:
    """Both graphs against torch, at a second number of items and with gaps."""
    rng = np.random.default_rng(7)
    for count in (1, min(13, len(items))):
        x = items[:count]
        inputs: list[np.ndarray] = [x]
        if network.config.masked:
            inputs.append((rng.random(x.shape) < 0.7).astype(np.float32))
        with torch.no_grad():
            latents = network.encode(*(torch.from_numpy(one) for one in inputs))[0].numpy()
            restored = network.decode(torch.from_numpy(latents)).numpy()
        _agree("encoder", encoder(*inputs)[0], latents)
        _agree("decoder", decoder(latents)[0], restored)


def _agree(name: str, got: np.ndarray, want: np.ndarray) -> None:
    if got.shape != want.shape:
        raise ExportError(f"the {name} graph gives shape {got.shape}, torch {want.shape}")
    worst = float(np.abs(got - want).max()) / max(float(np.abs(want).max()), 1e-6)
    if not worst <= _TOLERANCE:  # NaN fails too
        raise ExportError(
            f"the {name} graph at {want.shape} is {worst:.2g} of the largest value away from "
            f"torch, expected at most {_TOLERANCE:.0e}"
        )


def _error(network: Autoencoder, items: np.ndarray, encoder: Graph, decoder: Graph) -> float:
    """Mean squared error of reconstructions in normalized units."""
    inputs = [items, np.ones_like(items)] if network.config.masked else [items]
    (restored,) = decoder(encoder(*inputs)[0])
    difference = (restored - items) / network.get_buffer("scale").numpy()
    return round(float(np.mean(np.square(difference))), 6)


def _quantized(
    network: Autoencoder,
    folder: Path,
    items: np.ndarray,
    graphs: dict[str, dict[str, Path]],
) -> dict[str, Any]:
    """Write int8 twins if they stay within the budget; what they cost, or that there are none."""
    # Batches of one size, as the calibrator stacks what it sees.
    calibration = items[: max(8, min(256, len(items)) // 8 * 8)]
    with torch.no_grad():
        x = torch.from_numpy(calibration)
        known = torch.ones_like(x) if network.config.masked else None
        latents = network.encode(x, known)[0].numpy()
    feeds: dict[str, Callable[[int], dict[str, np.ndarray]]] = {
        "encoder": lambda i: (
            {"x": calibration[i : i + 8]}
            | ({"known": np.ones_like(calibration[i : i + 8])} if known is not None else {})
        ),
        "decoder": lambda i: {"latents": latents[i : i + 8]},
    }
    pair = []
    for role, feed in feeds.items():
        target = folder / f"{role}.int8.onnx"
        inputs = [feed(i) for i in range(0, len(calibration), 8)]
        quantize(graphs[role]["fp32"], target, inputs, in_float=())
        pair.append(Graph(read_graph(target)))
    fp32 = _error(network, items, *(Graph(read_graph(graphs[r]["fp32"])) for r in feeds))
    int8 = _error(network, items, *pair)
    within = int8 <= INT8_BUDGET * fp32
    for role in feeds:
        file = folder / f"{role}.int8.onnx"
        if within:
            graphs[role]["int8"] = file
        else:
            file.unlink()
    return {"int8_error_ratio": round(int8 / max(fp32, 1e-12), 3), "int8_shipped": within}
