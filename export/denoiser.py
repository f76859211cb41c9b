"""The photo denoiser's bundle: graphs in fp32 and int8, each held against torch before it is
kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from edgeae.image.denoiser import ImageDenoiser
from edgeae.metrics import psnr_db
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from export import image as codec_export
from export.denoiser_graphs import denoiser_graph, estimator_graph
from export.graph_writer import store_half
from export.parity import ExportError, check_close
from export.quantize import quantize
from train.config import Config
from train.denoiser.damage import Damage, damaged, hole_mask
from train.denoiser.interpolation import smooth_fill
from train.denoiser.network import LEVEL_REACH, LEVEL_STRIDE, PhotoDenoiser, spread_level

TASK = "denoiser"

# Pixels of the side of what is worked on at a time.
TILE = 1024
# How many damaged images activation ranges are taken from, and how many the last check sees.
CALIBRATION_INPUTS, VERIFIED_IMAGES = 24, 12
# What int8 may lose under Gaussian noise of these standard deviations, in 8-bit values. What 8 bits
# add is about as strong whatever the image's noise is, so it shows under the weakest.
INT8_BUDGET_DB, VERIFIED_LEVELS = 0.15, (5, 15, 25, 50)
_TOLERANCE = 1e-4
# A network that adds less to smoothly filled holes than this is not asked there: ranges of 8 bits
# that hold what it does in holes leave few steps for everything else.
_LEAST_HOLE_GAIN_DB, _HOLE_IMAGES = 0.1, 8
# Otherwise holes are taken for noisy, by so much of 8-bit values in one pass after another, if that
# gains as much; more passes, or a slower fall, gained no more on held-out photographs.
FILL_LEVELS = (40.0, 19.0, 9.0, 4.0, 2.0)

Pixels = npt.NDArray[np.uint8]
Inputs = dict[str, npt.NDArray[np.float32]]


def calibration(folders: tuple[str, ...]) -> list[Pixels]:
    """Squares from the middle of clean images, as for the photo codec; raises ValueError if the
    folders hold none."""
    return codec_export.calibration(folders)


def export_model(
    config: Config, weights: dict[str, torch.Tensor], out: Path, images: Sequence[Pixels]
) -> dict[str, Any]:
    """What a denoiser's manifest needs, with all files written; see `export_photo_denoiser`."""
    network = PhotoDenoiser(config.network)
    network.load_state_dict(weights)
    return export_photo_denoiser(network, out, images, config.data.damage)


def export_photo_denoiser(
    network: PhotoDenoiser, out: Path, images: Sequence[Pixels], damage: Damage
) -> dict[str, Any]:
    """What a denoiser's manifest needs, with all graphs written into the folder `out`.

    Args:
        network: trained.
        out: an existing folder.
        images: clean ones for calibration, uint8 (H, W, 3), sides multiples of the stride.
        damage: what was done to images in training, and is to them for calibration.

    Raises:
        ExportError: a graph disagrees with torch.
    """
    # The bundle keeps weights in half precision, so they are rounded first.
    network = network.eval().cpu().half().float()
    fills = network.config.smooth_holes and _hole_gain_db(network, images) >= _LEAST_HOLE_GAIN_DB
    passes = False
    if network.config.smooth_holes and not fills:
        damage = dataclasses.replace(damage, holes=0.0)
        passes = _passes_gain_db(network, images) >= _LEAST_HOLE_GAIN_DB
    inputs = _calibration_inputs(network, images, damage)
    fp32, int8 = (out / f"denoiser.{precision}.onnx" for precision in ("fp32", "int8"))
    graph, in_float = denoiser_graph(network)
    onnx.save_model(graph, fp32)
    quantize(fp32, int8, inputs, in_float=in_float)
    estimator = out / "estimator.fp32.onnx"
    onnx.save_model(estimator_graph(network.estimator), estimator)
    for file in (fp32, int8, estimator):
        model = onnx.load_model(file)
        store_half(model)
        onnx.save_model(model, file)
    _compare(network, Graph(read_graph(fp32)), Graph(read_graph(estimator)), inputs)
    config = network.config
    stride = config.stride
    return {
        "graphs": {
            "denoiser": {"fp32": fp32.name, "int8": int8.name},
            "estimator": {"fp32": estimator.name},
        },
        "layout": {
            "kind": "image",
            "channels": 3,
            "stride": stride,
            "level_stride": LEVEL_STRIDE,
            "tile": TILE,
            "halo": -(-config.reach // stride) * stride,
            "level_halo": -(-(LEVEL_REACH + LEVEL_STRIDE) // stride) * stride,
            "highest_level": int(damage.highest_level),
            "smooth_holes": fills,
            **({"fill_levels": list(FILL_LEVELS)} if passes else {}),
        },
        "figures": {
            "parameters": sum(p.numel() for p in network.parameters()),
            "kilomacs_per_pixel": _kilomacs(network),
        },
    }


def verify(bundle: Path, images: Sequence[Pixels]) -> dict[str, Any]:
    """PSNR of the calibration images under Gaussian noise, by precision, through the package.

    Raises ExportError if int8 loses more than its budget.
    """
    figures: dict[str, Any] = {}
    models = {p: ImageDenoiser.load(bundle, precision=p) for p in ("fp32", "int8")}
    for sigma in VERIFIED_LEVELS:
        found: dict[str, list[float]] = {name: [] for name in models}
        for i, image in enumerate(images[:VERIFIED_IMAGES]):
            noise = np.random.default_rng((sigma, i)).normal(0, sigma, image.shape)
            noisy = np.rint((image + noise).clip(0, 255)).astype(np.uint8)
            for name, model in models.items():
                restored = model.denoise(noisy, strength=sigma)
                found[name].append(psnr_db(image, restored))
        fp32, int8 = (float(np.mean(found[name])) for name in ("fp32", "int8"))
        figures[f"calibration_psnr_db_{sigma}"] = {
            "fp32": round(fp32, 3), "int8": round(int8, 3)
        }  # fmt: skip
        if fp32 - int8 > INT8_BUDGET_DB:
            raise ExportError(
                f"int8 loses {fp32 - int8:.3f} dB at sigma {sigma}, allowed {INT8_BUDGET_DB} dB"
            )
    return figures


def _hole_gain_db(network: PhotoDenoiser, images: Sequence[Pixels]) -> float:
    """How much nearer to clean images holes are after the network than after smooth filling."""
    return _gain_db(
        images, lambda filled, known: network.restore(filled, torch.zeros_like(known), known)
    )


def _passes_gain_db(network: PhotoDenoiser, images: Sequence[Pixels]) -> float:
    """The same of several passes that take what is in holes for noisy."""

    def restore(filled: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        ones = torch.ones_like(known)
        for level in FILL_LEVELS:
            restored = network.restore(filled, level / 255 * ones, ones)
            filled = torch.where(known > 0, filled, restored)
        return filled

    return _gain_db(images, restore)


@torch.no_grad()
def _gain_db(
    images: Sequence[Pixels], restore: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> float:
    """The mean gain in holes of what `restore` makes of smoothly filled pixels and what is known of
    them."""
    rng = np.random.default_rng(0)
    gains = []
    for image in images[:_HOLE_IMAGES]:
        clean = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None])).float() / 255
        hole = torch.from_numpy(hole_mask(image.shape[:2], rng))[None, None]
        known = (~hole).float()
        filled = smooth_fill(clean, known)
        restored = restore(filled, known).clamp(0, 1)
        errors = [((x - clean).square() * hole).sum() + 1e-9 for x in (filled, restored)]
        gains.append(float(10 * (errors[0] / errors[1]).log10()))
    return float(np.mean(gains))


def _calibration_inputs(
    network: PhotoDenoiser, images: Sequence[Pixels], damage: Damage
) -> list[Inputs]:
    """Damaged images with the level that the estimator takes them to have, or the true one."""
    rng = np.random.default_rng(0)
    inputs = []
    for i in range(CALIBRATION_INPUTS):
        _, left = damaged(images[i % len(images)], rng, damage)
        pixels = np.ascontiguousarray(left.pixels.transpose(2, 0, 1)[None], np.float32)
        with torch.no_grad():
            blind = network.blind_level(torch.from_numpy(pixels)).numpy()
        true = torch.from_numpy(np.ascontiguousarray(left.level[None, None]))
        level = spread_level(torch.nn.functional.avg_pool2d(true, LEVEL_STRIDE)).numpy()
        known = left.known[None, None].astype(np.float32)
        if network.config.smooth_holes:
            filled = smooth_fill(torch.from_numpy(pixels), torch.from_numpy(known))
            pixels = filled.numpy()
        guessed = i % 2 and level.any()
        inputs.append({"pixels": pixels, "level": blind if guessed else level, "known": known})
    return inputs


def _compare(
    network: PhotoDenoiser, denoiser: Graph, estimator: Graph, inputs: Sequence[Inputs]
) -> None:
    # The second shape is not square and smaller than the receptive field.
    for cut in (slice(None), slice(0, 48)):
        for some in inputs[:4]:
            arrays = [np.ascontiguousarray(a[:, :, cut, :80]) for a in some.values()]
            with torch.no_grad():
                tensors = [torch.from_numpy(array) for array in arrays]
                restored = network.restore(*tensors).numpy()
                level = network.estimator(tensors[0]).numpy()
            check_close("denoiser", denoiser(*arrays)[0], restored, _TOLERANCE)
            check_close("estimator", estimator(arrays[0])[0], level, _TOLERANCE)


def _kilomacs(network: PhotoDenoiser) -> dict[str, float]:
    """Thousands of multiply-adds for a pixel, by graph."""
    side = 8 * network.config.stride
    counts = {"denoiser": 0.0, "estimator": 0.0}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            graph = "estimator" if name.startswith("estimator") else "denoiser"

            def count(
                conv: torch.nn.Module, _: object, out: torch.Tensor, graph: str = graph
            ) -> None:
                weights = conv.weight.numel()  # type: ignore[operator]
                counts[graph] += weights * out.shape[2] * out.shape[3]

            hooks.append(module.register_forward_hook(count))
    with torch.no_grad():
        pixels = torch.zeros(1, 3, side, side)
        network.restore(pixels, network.blind_level(pixels), torch.ones_like(pixels[:, :1]))
    for hook in hooks:
        hook.remove()
    return {name: round(value / side**2 / 1000, 2) for name, value in counts.items()}
